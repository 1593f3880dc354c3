"""The secrets of compose.yaml, new ones, in deploy/compose/secrets; what is there stays.

The folder is for its owner alone. The files in it can be read by everybody who can reach them: in
a container that is a user without rights.
"""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path

FOLDER = Path(__file__).parent / "secrets"


def make(folder: Path = FOLDER) -> None:
    """Write what is missing."""
    folder.mkdir(mode=0o700, exist_ok=True)
    key = _once(folder / "s3_access_key", secrets.token_hex(10).upper())
    secret = _once(folder / "s3_secret_key", secrets.token_urlsafe(30))
    _once(folder / "postgres_password", secrets.token_urlsafe(30))
    seed = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    _once(folder / "signing_key", f"mm-signing-key-{seed}")  # as `mm models new-key` makes one
    who = {
        "name": "mm-assets",
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    _once(folder / "s3_identities.json", json.dumps({"identities": [who]}))


def _once(file: Path, text: str) -> str:
    if not file.exists():
        file.write_text(text, encoding="utf-8")
        file.chmod(0o644)
    return file.read_text(encoding="utf-8")


if __name__ == "__main__":
    make()
    print(f"{FOLDER} has all secrets; keep it out of git and in your backup")
