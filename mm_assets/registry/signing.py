"""Signed promotions (Ed25519): whose key signed an entry of the log, and what nobody may take back.

Who promotes holds the signing key; who only reads needs the public half of it. An entry's signature
covers all it says, where it stands (dataset, modality, generation), and the entry before it.

A log that was cut short is a whole log of an earlier day. No signature tells that, so each machine
notes the newest entry that it has seen, and refuses to go back behind it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
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


# -- what was seen --------------------------------------------------------------------------------


class Seen:
    """The newest promotion of each log that this machine has verified: empty files by name.

    Names only ever come; so processes need not wait for each other. Where the disk is read-only,
    the process remembers for itself.
    """

    _here: dict[Path, tuple[int, str]] = {}  # noqa: RUF012  of this process, by log

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> tuple[int, str] | None:
        """Generation and digest of the newest entry that was seen; None if there was none."""
        noted = [_parsed(path.name) for path in self.folder.glob("*-*")]
        found = [one for one in (*noted, self._here.get(self.folder)) if one]
        return max(found, default=None)

    def note(self, generation: int, digest: str) -> None:
        before = self.newest()
        if before and before[0] >= generation:
            return
        self._here[self.folder] = (generation, digest)
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{generation:08d}-{digest}").touch()
            for path in self.folder.glob("*-*"):
                if (one := _parsed(path.name)) and one[0] < generation:
                    path.unlink(missing_ok=True)

    def replace(self, generation: int, digest: str) -> None:
        """Forget what was seen: somebody looked at the log and signed it as it is."""
        self._here.pop(self.folder, None)
        with suppress(OSError):
            for path in self.folder.glob("*-*"):
                path.unlink(missing_ok=True)
        self.note(generation, digest)


def _parsed(name: str) -> tuple[int, str] | None:
    number, _, digest = name.partition("-")
    return (int(number), digest) if number.isdigit() else None


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
