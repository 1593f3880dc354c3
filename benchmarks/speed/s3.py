"""A server that speaks S3, in a process of its own that is not counted as a part of a case."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

BUCKET = "speed"
_SERVE = """
import os, pathlib, sys
from moto.server import main
pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


def serve_s3(folder: Path) -> None:
    """Start it, make BUCKET, and let boto3 and ours talk to it; it ends with this process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pid = folder / "s3.pid"
    # setsid --fork: no child of ours, so neither its memory nor its time is taken for the case's.
    subprocess.run(
        ["setsid", "--fork", sys.executable, "-W", "ignore", "-c", _SERVE, str(port), str(pid)],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    os.environ.update(
        AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing",  # noqa: S106  of a server that takes any

        AWS_DEFAULT_REGION="us-east-1", AWS_ENDPOINT_URL=address,
    )  # fmt: skip
    until = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address, timeout=5)
            break
        except (urllib.error.URLError, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    atexit.register(os.kill, int(pid.read_text()), signal.SIGTERM)
    import boto3

    boto3.client("s3").create_bucket(Bucket=BUCKET)
