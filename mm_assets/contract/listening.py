"""Addresses that a service of ours listens at, and what to say where it cannot."""

from __future__ import annotations

import errno

from mm_assets.contract.errors import SettingsError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def url_of(host: str, port: int) -> str:
    """`http://host:port`, with brackets around an IPv6 address."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def cannot_listen(error: OSError, host: str, port: int, other_port: str) -> SettingsError:
    """Why nothing can listen there: port_taken or address_unusable. other_port: what to do then."""
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return SettingsError(
            code="port_taken",
            what=f"something listens on port {port} already",
            where=where,
            todo=f"End it, or choose another port{other_port}",
        )
    return SettingsError(
        code="address_unusable",
        what=f"nothing can listen there: {error.strerror or error}",
        where=where,
        todo="Choose another --host or --port.",
    )
