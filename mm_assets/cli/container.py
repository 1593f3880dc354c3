"""`mm-container`, the entry point of the image: one word says what a container is.

    webserver | daemon | code-server | run ARGS | serve ARGS | mm ARGS | dagster… ARGS | health

What belongs here: environment variables into settings of Dagster, the one process that a container
is for, and whether it is well. What does not: what the process does. As PID 1 it hands on signals
and buries the dead, which a Python program does not do by itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MODULE = "mm_assets.cli.container"
WEBSERVER_PORT, CODE_PORT = 3000, 4000
LOCATION = "mm_assets"  # Dagster keeps the state of sensors under this name
EVERYWHERE = "0.0.0.0"  # noqa: S104  a container is reached from outside; what may is told there
# Secrets that may come as a file: NAME_FILE names it, as Docker and Kubernetes mount them.
SECRETS = ("DAGSTER_PG_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
LASTING = ("webserver", "daemon", "code-server", "serve")
USAGE = __doc__.splitlines()[2].strip()


def main() -> None:
    """Become what the arguments say; exit codes are those of the process."""
    role, *rest = sys.argv[1:] or [""]
    if role == "health":
        sys.exit(0 if is_well(rest[0] if rest else _noted()) else 1)
    if not _is_role(role):
        print(f"mm-container: {role or 'nothing'} is no role: {USAGE}", file=sys.stderr)
        sys.exit(2)
    if role in LASTING:  # `docker exec … mm …` does not change what the container is
        _role_file().write_text(role)
    environment = with_secrets(os.environ)
    if os.getpid() == 1:
        sys.exit(_live_as_init([sys.executable, "-m", MODULE, role, *rest], environment))
    os.environ.update(environment)
    command = command_of(role, rest)
    os.execvpe(command[0], command, os.environ)  # noqa: S606  no shell


def _is_role(word: str) -> bool:
    return word in (*LASTING, "run", "mm") or word.startswith("dagster")


def with_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with what NAME_FILE names as NAME. Exits where a file cannot be read."""
    found = dict(environment)
    for name in SECRETS:
        if file := environment.get(f"{name}_FILE"):
            try:
                found[name] = Path(file).read_text(encoding="utf-8").strip("\r\n")
            except OSError as error:
                sys.exit(f"mm-container: {name}_FILE: {error}")
    return found


def command_of(role: str, rest: Sequence[str]) -> list[str]:
    """The command of a role, with Dagster's settings written before it where it needs them."""
    if role in ("serve", "mm"):
        return ["mm", *(["serve"] if role == "serve" else []), *rest]
    _prepare()
    if role == "webserver":
        place = ["--host", EVERYWHERE, "--port", str(WEBSERVER_PORT)]
        return ["dagster-webserver", *place, "--workspace", str(_workspace()), *rest]
    if role == "daemon":
        return ["dagster-daemon", "run", "--workspace", str(_workspace()), *rest]
    if role == "code-server":
        module = "mm_assets.orchestration.code_location"
        place = ["--host", EVERYWHERE, "--port", str(CODE_PORT), "--location-name", LOCATION]
        return ["dagster", "code-server", "start", "--module-name", module, *place, *rest]
    return ["dagster", "api", "execute_run", *rest] if role == "run" else [role, *rest]


def _prepare() -> None:
    """DAGSTER_HOME, with a dagster.yaml of this version of the image; one that is mounted stays."""
    from mm_assets.contract.errors import MMError
    from mm_assets.contract.settings import Settings
    from mm_assets.orchestration.home import FILE, prepare_home

    try:
        settings = Settings.from_environment()
        file = settings.home / FILE
        prepare_home(settings, renew=not (file.exists() and _is_mounted(file)))
    except (MMError, OSError) as error:
        sys.exit(f"mm-container: {error}")


def _is_mounted(file: Path) -> bool:
    """Kubernetes mounts a file of a ConfigMap as a link, or so that it cannot be written."""
    return file.is_symlink() or not os.access(file, os.W_OK)


def _workspace() -> Path:
    """The file that tells Dagster where the code server is: MM_CODE_SERVER=host[:port]."""
    host, _, port = os.environ.get("MM_CODE_SERVER", "code-server").partition(":")
    server = {"host": host, "port": int(port or CODE_PORT), "location_name": LOCATION}
    file = _scratch() / "mm-workspace.yaml"
    file.write_text(json.dumps({"load_from": [{"grpc_server": server}]}))  # JSON is YAML
    return file


# -- health ---------------------------------------------------------------------------------------


def is_well(role: str) -> bool:
    """Whether what runs in this container under `role` does its work."""
    if role == "webserver":
        return _answers(f"http://127.0.0.1:{WEBSERVER_PORT}/server_info")
    if role == "serve":
        port = os.environ.get("MM_SERVE_PORT") or os.environ.get("SAGEMAKER_BIND_TO_PORT")
        return _answers(f"http://127.0.0.1:{port or 8080}/live")
    if role == "code-server":
        return _grpc_answers(CODE_PORT)
    if role == "daemon":
        command, told = ["dagster-daemon", "liveness-check"], with_secrets(os.environ)
        return subprocess.run(command, env=told, check=False).returncode == 0  # noqa: S603
    return True  # a run or a command ends by itself, and Dagster watches runs


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  http, this machine
            return bool(answer.status == 200)
    except OSError:
        return False


def _grpc_answers(port: int) -> bool:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    request = health_pb2.HealthCheckRequest(service="DagsterApi")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _scratch() -> Path:
    return Path(tempfile.gettempdir())


def _role_file() -> Path:
    return _scratch() / "mm-container.role"


def _noted() -> str:
    return _role_file().read_text() if _role_file().exists() else ""


# -- PID 1 ----------------------------------------------------------------------------------------


def _live_as_init(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run one process, hand it the signals, bury every child; returns its exit code."""
    child = subprocess.Popen(command, env=dict(environment))  # noqa: S603

    def hand_on(number: int, _frame: Any) -> None:
        child.send_signal(number)

    for number in PASSED_ON:
        signal.signal(number, hand_on)
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    main()
