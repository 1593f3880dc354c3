"""`mm review --open`: the queue as a page, of a service that runs, or of one for the while."""

from __future__ import annotations

import http.client
import json
import webbrowser
from urllib.parse import quote

from mm_assets.cli.serve_keys import file_of_keys
from mm_assets.contract.listening import LOOPBACK, url_of
from mm_assets.display.console import good, say
from mm_assets.serving.options import Options

ANY_PORT = 0
SECONDS = 2.0  # that a service has to say what it serves


def open_page(dataset: str, port: int) -> None:
    """Open the queue of a dataset in a browser; without a service, serve it until Ctrl-C.

    Raises what `mm serve` raises.
    """
    served = serves(port)
    if served is not None and (not served or dataset in served):
        show(url_of(LOOPBACK[0], port), dataset)
        return
    from mm_assets.serving.logs import configure
    from mm_assets.serving.server import serve

    keys = usual if (usual := file_of_keys(None)).exists() else None
    if served is not None or is_taken(port):
        say(f"Something else answers at port {port}, so another one is taken.")
        port = ANY_PORT
    options = Options(datasets=(dataset,), port=port, keys=keys, log_format="auto")
    configure(options.log_format)
    say("Looking for champions …")
    serve(options, on_ready=lambda address: show(address, dataset, ends=True))
    good("All that was answered is kept")


def serves(port: int) -> set[str] | None:
    """The datasets of the service of ours at this port of this machine; None if there is none.

    Empty where it tells them only to those who have a key.
    """
    connection = http.client.HTTPConnection(LOOPBACK[0], port, timeout=SECONDS)
    try:
        connection.request("GET", "/ready")
        told = json.loads(connection.getresponse().read(1 << 20))
        return set(told["datasets"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        connection.close()


def is_taken(port: int) -> bool:
    """Whether anything listens there."""
    connection = http.client.HTTPConnection(LOOPBACK[0], port, timeout=SECONDS)
    try:
        connection.connect()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def show(address: str, dataset: str, *, ends: bool = False) -> None:
    """Open the page, or say where it is."""
    page = f"{address}/review/{quote(dataset, safe='')}"
    opened = webbrowser.open(page)
    end = "; Ctrl-C ends it" if ends else ""
    good(f"{page}{end}" if opened else f"open {page} in a browser{end}")
