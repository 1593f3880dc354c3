"""Signed promotions (Ed25519): whose key signed an entry of the log.

Who promotes holds the signing key; who only reads needs the public half of it. An entry's signature
covers all it says, where it stands (dataset, modality, generation), and the entry before it. What
no signature tells, that entries at the end are gone, is told by what was seen (seen.py).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mm_assets.contract.errors import ModelError
from mm_assets.contract.settings import SIGNING_KEY, VERIFY_KEY, Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALGORITHM = "ed25519"


def key_pair(settings: Settings | None = None) -> tuple[str, str]:
    """MM_SIGNING_KEY and MM_VERIFY_KEY, of a new key or of that in the settings.

    Raises ModelError (signing_key_missing) where there is none in the settings.
    """
    seed = secrets.token_bytes(32) if settings is None else settings.signing_seed
    if seed is None:
        raise ModelError(
            code="signing_key_missing",
            what="there is no signing key, so it has no public half",
            where="MM_SIGNING_KEY",
            todo="Set MM_SIGNING_KEY (or MM_SIGNING_KEY_FILE), or make one: `mm models new-key`.",
        )
    return SIGNING_KEY + _text(seed), VERIFY_KEY + _text(_public(seed))


class Keys:
    """The keys of a process. Without any, nothing is signed and nothing is asked for."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError for what is no key."""
        self._seed = settings.signing_seed
        own = [_public(self._seed)] if self._seed else []
        self._accepted = {_name(one): one for one in [*own, *settings.verify_keys]}
        self.name = _name(own[0]) if own else ""

    @property
    def are_there(self) -> bool:
        """Whether a signature is asked for."""
        return bool(self._accepted)

    def sign(self, said: bytes) -> str:
        """The signature of these bytes; '' without a signing key."""
        if not self._seed:
            return ""
        return f"{ALGORITHM}:{self.name}:{_text(_private(self._seed).sign(said))}"

    def fits(self, signature: str, said: bytes) -> bool:
        """Whether one of the accepted keys signed these bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        algorithm, _, rest = signature.partition(":")
        name, _, text = rest.partition(":")
        if algorithm != ALGORITHM or name not in self._accepted:
            return False
        try:
            raw = urlsafe_b64decode(text)
            if _text(raw) != text:  # base64 may spell the same bytes in other ways
                return False
            Ed25519PublicKey.from_public_bytes(self._accepted[name]).verify(raw, said)
        except (InvalidSignature, ValueError):
            return False
        return True

    def refuse_to_promote(self, where: str, *, is_signed: bool) -> None:
        """Raises ModelError (signing_key_missing) where what is written would not be accepted."""
        if not self._seed and (self.are_there or is_signed):
            raise ModelError(
                code="signing_key_missing",
                what="promotions are signed here, and this process has no key to sign one",
                where=where,
                todo="Set MM_SIGNING_KEY (or MM_SIGNING_KEY_FILE), or promote where it is set.",
            )


def said_of(facts: dict[str, Any]) -> bytes:
    """What is signed: one spelling of these facts."""
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def digest_of(said: bytes) -> str:
    return hashlib.sha256(said).hexdigest()


# -- keys -----------------------------------------------------------------------------------------


@lru_cache
def _private(seed: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed)


@lru_cache
def _public(seed: bytes) -> bytes:
    return _private(seed).public_key().public_bytes_raw()


def _name(public: bytes) -> str:
    """How a signature names its key."""
    return hashlib.sha256(public).hexdigest()[:16]


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode()
