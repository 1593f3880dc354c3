"""A server that speaks DynamoDB, for the tests: dynalite, or moto where there is no dynalite.

dynalite's conditional writes are atomic, so it can show that one of two writers wins. moto looks
and writes in two steps; its writes take turns here, which is why the run says which one it was.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VERSION = "4.0.0"

# Ends by itself when whoever started it is gone and its stdin closes with them. dynalite dies of a
# client that is killed in the middle of a request, as no real service does.
SERVE = """
const options = { createTableMs: 0, deleteTableMs: 0, updateTableMs: 0 };
const server = require(process.argv[1])(options);
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.on('uncaughtException', (error) => {
  if (error.code === 'ECONNRESET') return;
  console.error(error);
  process.exit(1);
});
process.stdin.resume();
process.stdin.on('end', () => process.exit());
"""


def find_dynalite() -> tuple[Path | None, str]:
    """dynalite's folder, installed if need be; or None and why not."""
    named = os.environ.get("MM_DYNALITE")
    if named:
        folder = Path(named).resolve()
        return (folder, "") if folder.is_dir() else (None, f"MM_DYNALITE={named} is no folder")
    if not (shutil.which("node") and shutil.which("npm")):
        return None, "node and npm are not installed"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mm-assets"
    home = cache / f"dynalite-{VERSION}"
    installed = home / "node_modules" / "dynalite"
    if installed.is_dir():
        return installed, ""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=cache) as folder:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one installs it
            if installed.is_dir():
                return installed, ""
            subprocess.run(
                ["npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund",
                 "--prefix", folder, f"dynalite@{VERSION}"],
                check=True, capture_output=True, text=True, timeout=180,
            )  # fmt: skip
            Path(folder).rename(home)  # whole, or not at all
            Path(folder).mkdir()
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return None, f"npm could not install it: {said.strip().splitlines()[-1][:200]}"
    return installed, ""


@contextmanager
def dynalite(folder: Path) -> Iterator[str]:
    """dynalite in memory on a free port; yields its address."""
    with subprocess.Popen(
        ["node", "-e", SERVE, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port.isdigit(), "dynalite did not start"
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@contextmanager
def moto() -> Iterator[str]:
    """moto on a free port, its writes one after the other; yields its address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    web: Any = server._server
    application, turn = web.app, threading.Lock()

    def in_turn(environ: dict[str, Any], start_response: Any) -> Any:
        operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        if operation not in ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"):
            return application(environ, start_response)
        with turn:
            return application(environ, start_response)

    web.app = in_turn
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
