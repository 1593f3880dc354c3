"""The image's entry point, and what it is made of, as far as both can be seen without Docker."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mm_assets.cli.container import command_of, is_well, main, with_secrets
from mm_assets.contract.settings import Settings
from mm_assets.orchestration.home import prepare_home

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


# -- the entry point ------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MM_ROOT", str(tmp_path))
    monkeypatch.setenv("MM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "data" / "dagster"))
    return tmp_path / "data" / "dagster"


def test_each_role_is_one_process_and_what_follows_is_handed_on(home: Path) -> None:
    assert command_of("serve", ["--open"]) == ["mm", "serve", "--open"]
    assert command_of("mm", ["doctor"]) == ["mm", "doctor"]
    assert not home.exists()  # SageMaker's container has no place for it
    assert command_of("daemon", [])[:2] == ["dagster-daemon", "run"]
    assert command_of("run", ["{}"]) == ["dagster", "api", "execute_run", "{}"]
    assert command_of("dagster", ["api", "grpc"]) == ["dagster", "api", "grpc"]  # Kubernetes'
    assert "code-server" in command_of("code-server", [])


def test_webserver_and_daemon_look_for_the_code_server_where_they_are_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MM_CODE_SERVER", "elsewhere:4001")
    command = command_of("webserver", [])
    workspace = yaml.safe_load(Path(command[command.index("--workspace") + 1]).read_text())
    [server] = [one["grpc_server"] for one in workspace["load_from"]]
    assert server == {"host": "elsewhere", "port": 4001, "location_name": "mm_assets"}


def test_a_secret_comes_from_the_file_that_is_named_and_never_into_dagsters_settings(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("s3cr&t/ \n")
    told = with_secrets({"DAGSTER_PG_PASSWORD_FILE": str(tmp_path / "secret"), "A": "b"})
    assert told["DAGSTER_PG_PASSWORD"] == "s3cr&t/ "
    for name, value in {**told, "DAGSTER_PG_HOST": "db"}.items():
        monkeypatch.setenv(name, value)
    command_of("daemon", [])
    written = (home / "dagster.yaml").read_text()
    assert "s3cr" not in written
    assert yaml.safe_load(written)["storage"]["postgres"]["postgres_db"] == {
        "hostname": {"env": "DAGSTER_PG_HOST"}, "port": 5432, "username": "dagster",
        "password": {"env": "DAGSTER_PG_PASSWORD"}, "db_name": "dagster",
    }  # fmt: skip
    with pytest.raises(SystemExit, match="DAGSTER_PG_PASSWORD_FILE"):
        with_secrets({"DAGSTER_PG_PASSWORD_FILE": str(tmp_path / "nothing")})


def test_another_version_of_the_image_writes_its_own_settings_but_not_over_mounted_ones(
    home: Path, tmp_path: Path
) -> None:
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text("nux: {enabled: true}")
    command_of("daemon", [])
    assert "run_retries" in (home / "dagster.yaml").read_text()
    (tmp_path / "mounted").write_text("nux: {enabled: true}")
    (home / "dagster.yaml").unlink()
    (home / "dagster.yaml").symlink_to(tmp_path / "mounted")
    command_of("daemon", [])
    assert (home / "dagster.yaml").read_text() == "nux: {enabled: true}"


def test_without_a_server_of_postgres_nothing_changes(home: Path) -> None:
    prepare_home(Settings.from_environment())
    assert "storage" not in yaml.safe_load((home / "dagster.yaml").read_text())


def test_what_is_no_role_is_refused_with_the_roles(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["mm-container", "sh"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "webserver | daemon | code-server" in capsys.readouterr().err


def test_a_command_in_a_running_container_does_not_change_what_is_watched(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    began: list[list[str]] = []
    monkeypatch.setattr("os.execvpe", lambda _file, command, _env: began.append(command))
    for argv in (["serve", "--open"], ["mm", "doctor"]):
        monkeypatch.setattr(sys, "argv", ["mm-container", *argv])
        main()
    assert began == [["mm", "serve", "--open"], ["mm", "doctor"]]
    monkeypatch.setenv("MM_SERVE_PORT", "9")
    monkeypatch.setattr(sys, "argv", ["mm-container", "health"])
    with pytest.raises(SystemExit, match="1"):
        main()


@pytest.mark.parametrize("role", ["webserver", "code-server", "serve"])
def test_a_container_in_which_nothing_answers_is_not_well(
    role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_assets.cli.container.WEBSERVER_PORT", 9)  # nothing listens on these
    monkeypatch.setattr("mm_assets.cli.container.CODE_PORT", 9)
    monkeypatch.setenv("MM_SERVE_PORT", "9")
    assert not is_well(role)


SHUT = """
import os, signal, subprocess, sys, time
assert os.getpid() != 1 and os.getppid() == 1, (os.getpid(), os.getppid())
assert os.getuid() == 10001
for place in ("/", os.environ["ROOT"]):
    try:
        open(os.path.join(place, "x"), "w")
    except OSError:
        continue
    sys.exit("the root can be written")
subprocess.Popen(["sh", "-c", "sleep 0.1 & exit"]).wait()  # a child that nobody waits for
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
time.sleep(0.5)
left = [p for p in os.listdir("/proc") if p.isdigit() and p not in ("1", str(os.getpid()))]
assert not left, left
os.kill(1, signal.SIGTERM)
time.sleep(20)
"""
NAMESPACE = """
mount --make-rprivate / && mount -t tmpfs -o mode=1777 tmpfs /tmp && mount -o remount,bind,ro / &&
printf '%s' "$PROGRAM" > /tmp/mm && { echo "#!$PYTHON"; cat /tmp/mm; } > /tmp/mm-now &&
mv /tmp/mm-now /tmp/mm && chmod 755 /tmp/mm && export PATH="/tmp:$PATH" &&
exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs \
  --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search \
  --bounding-set=-all,+dac_read_search "$PYTHON" -m mm_assets.cli.container mm doctor
"""


def test_as_pid_1_of_a_read_only_root_it_hands_on_signals_and_buries_the_dead() -> None:
    """A namespace as a container has it; reading is allowed, since checkouts lie in root's home."""
    unshare = ["unshare", "--mount", "--pid", "--fork", "--mount-proc"]
    if os.geteuid() or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("namespaces need root and a kernel that allows them: run it as root")
    told = {**os.environ, "PYTHONPATH": str(ROOT), "PROGRAM": SHUT, "PYTHON": sys.executable,
            "ROOT": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": "/tmp"}  # fmt: skip
    done = subprocess.run(
        [*unshare, "sh", "-c", NAMESPACE],
        env=told, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stdout + done.stderr


# -- what it is made of ---------------------------------------------------------------------------


def test_the_image_for_processors_is_without_cuda_and_all_is_pinned_by_hash() -> None:
    install = module(DEPLOY / "image" / "install.py")
    lock = install.LOCK.read_text()
    text, torch = install.chosen("cpu", lock)
    names = install.requirements(text)
    assert not [name for name in names if install.CUDA.match(name)]
    assert [name.split("==")[0] for name in torch] == ["torch", "torchvision"]
    assert not names.keys() & {"torch", "torchvision", "pytest", "moto"}
    assert {"dagster-postgres", "fastapi", "xgboost", "optuna"} <= names.keys()
    everything, none = install.chosen("gpu", lock)
    assert not none
    assert "nvidia-cudnn-cu12==" in everything
    for text in (lock, install.TOOLS.read_text(), everything):
        assert all("--hash=sha256:" in one for one in install.requirements(text).values())


def test_what_is_in_the_image_has_the_versions_that_are_tested() -> None:
    requirements = module(DEPLOY / "image" / "install.py").requirements
    tested = requirements((ROOT / "requirements.lock").read_text())

    def versions(text: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9._-]+==([^ \n\\;]+)", text, re.MULTILINE))

    for name, text in requirements((DEPLOY / "image" / "requirements.lock").read_text()).items():
        assert versions(text) <= versions(tested[name]), name


def test_the_base_is_named_by_digest_alone_and_the_last_stages_install_nothing() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    outer = [line for line in lines if line.startswith("FROM python")]
    assert outer
    assert all("@${PYTHON_DIGEST}" in line for line in outer)
    assert "ARG PYTHON_DIGEST" in lines  # without a default: no build without it
    final = "\n".join(lines).split("AS base", 1)[1]
    assert "USER 10001:10001" in final
    assert not re.search(r"gcc|build-essential|pip install|install\.py", final)
    copied = [word for line in lines if re.match("COPY [^-]", line) for word in line.split()[1:-1]]
    kept = (ROOT / ".dockerignore").read_text().split()
    assert {f"!{name}" for name in copied} == {line for line in kept if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.skipif(os.environ.get("MM_NIGHTLY") != "1", reason="minutes: MM_NIGHTLY=1")
def test_the_steps_of_the_dockerfile_fill_a_clean_environment(tmp_path: Path) -> None:
    """With torch as PyPI has it, which is as large as it is useless without CUDA's libraries."""
    [step] = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if '"cpu"' in line]
    command = yaml.safe_load(step.removeprefix("RUN "))
    command[command.index("/opt/mm")] = str(tmp_path / "mm")
    index = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    told = {**os.environ, "TORCH_INDEX": index or "https://pypi.org/simple"}
    subprocess.run([sys.executable, *command[1:]], cwd=ROOT, env=told, check=True, timeout=1200)
    assert not list(tmp_path.glob("mm/lib/*/site-packages/nvidia"))
    inside = tmp_path / "mm" / "bin"
    done = subprocess.run(
        [inside / "mm-container", "mm", "--help"], capture_output=True, cwd=tmp_path,
        env={"PATH": f"{inside}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}, check=True, text=True,
    )  # fmt: skip
    assert "upload" in done.stdout


# -- compose --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """compose.yaml as Compose itself understands it; it asks no daemon for that."""
    program = shutil.which("docker-compose")
    if not program:
        pytest.skip("docker-compose is not installed: make setup brings it")
    told = {"PATH": os.environ["PATH"], "HOME": str(tmp_path_factory.mktemp("home"))}
    done = subprocess.run(
        [program, "-f", str(DEPLOY / "compose" / "compose.yaml"), "--profile", "serve", "config"],
        env=told, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return yaml.safe_load(done.stdout)["services"]


def test_each_service_is_shut_in_healthy_by_a_check_and_reached_from_this_machine_alone(
    services: dict[str, Any],
) -> None:
    assert services.keys() == {"postgres", "s3", "code-server", "daemon", "webserver", "serve"}
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name
        ours = service["image"] == "mm-assets:cpu"
        assert ours or service["healthcheck"]["test"], name  # ours have the image's own
        assert not (ours and service.get("cap_add")), name


def test_what_shows_pages_without_a_login_cannot_sign(services: dict[str, Any]) -> None:
    def names(kept: str) -> set[str]:
        return {name for name, service in services.items() if kept in str(service)}

    assert names("signing_key") == names("MM_SIGNING_KEY_FILE") == {"code-server", "serve"}


def test_no_secret_stands_in_the_yaml(services: dict[str, Any], tmp_path: Path) -> None:
    for name, service in services.items():
        told = service.get("environment", {})
        secret = [key for key in told if re.search("PASSWORD|SECRET|KEY", key)]
        assert all(key.endswith("_FILE") for key in secret), name
        assert all(told[key].startswith("/run/secrets/") for key in secret), name
    make = module(DEPLOY / "compose" / "make_secrets.py").make
    make(tmp_path / "secrets")
    before = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    make(tmp_path / "secrets")
    assert before == {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    assert before["s3_access_key"] in before["s3_identities.json"]
    named = {one["source"] for service in services.values() for one in service["secrets"]}
    assert named == {name.removesuffix(".json") for name in before}
