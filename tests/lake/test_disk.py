"""A disk that is full, a folder that may not be written: state stays whole and it is said clearly.

Each runs in a process of its own: on a file system of one megabyte (in a namespace of its own,
which needs no rights), under a limit on the size of files, or as a user without rights.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.settings import Settings
from mm_assets.lake import moves as lake_moves
from mm_assets.lake.lake import Lake

BEGIN = """
import errno, json, os, resource, sys, tempfile
from pathlib import Path
from mm_assets.contract.errors import MMError
from mm_assets.lake.lake import Lake
from mm_assets.contract.settings import Settings
told = {}
def lake_at(folder):
    return Lake(Settings(root=Path(folder), lake=str(folder)))
def attempt(name, action):
    try:
        told[name] = {"value": repr(action())}
    except MMError as error:
        told[name] = {"code": error.code, "what": error.what, "where": error.where,
                      "todo": error.todo}
def files_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())
"""
END = """
print(json.dumps(told))
"""


def run(body: str, *arguments: Path, before: list[str] | None = None, **more: Any) -> Any:
    """Run the script in a process of its own; what it told."""
    script = BEGIN + textwrap.dedent(body) + END
    repository = Path(__file__).parents[2]
    done = subprocess.run(
        [*(before or []), sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=120, check=False, **more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def small_disk(folder: Path) -> list[str]:
    """What puts a command onto a file system of one megabyte at `folder`."""
    mount = f'mount -t tmpfs -o size=1m,mode=777 none "{folder}" && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("this system lets nobody make a small file system")
    return command


def test_a_lake_on_a_full_disk_says_so_and_keeps_what_it_had_whole(tmp_path: Path) -> None:
    disk, source = tmp_path / "disk", tmp_path / "big"
    disk.mkdir()
    source.write_bytes(os.urandom(3 << 20))
    told = run(
        """
        disk, big = map(Path, sys.argv[1:])
        lake = lake_at(disk)
        lake.write_json("d/u/doc.json", {"n": 0})
        lake.write("d/kept", b"old" * 1000)
        attempt("bytes", lambda: lake.write("d/kept", bytes(3 << 20)))
        attempt("file", lambda: lake.write("d/file", big))
        attempt("publish", lambda: lake.publish("d/u/doc.json", {"big.bin": big}, {"n": 1}))
        told["left"] = files_in(disk)
        told["pointer"] = lake.read_json("d/u/doc.json")
        told["kept"] = lake.read("d/kept") == b"old" * 1000
        (disk / "filler").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize))
        attempt("create", lambda: lake.create_json("d/once.json", {"a": "b" * 5000}))
        told["created"] = lake.read_json("d/once.json")
        (disk / "filler").unlink()
        attempt("again", lambda: lake.create_json("d/once.json", {"a": "b" * 5000}))
        told["keys"] = [item.key for item in lake.list("")]
        """,
        disk, source, before=small_disk(disk),
    )  # fmt: skip
    for name in ("bytes", "file", "publish", "create"):
        assert told[name]["code"] == "lake_full", told[name]
        assert "No space left" in told[name]["what"]
        assert str(disk) in told[name]["where"]
        assert "Free some space" in told[name]["todo"]
    assert told["left"] == ["d/kept", "d/u/doc.json"]
    assert told["pointer"] == {"n": 0}
    assert told["kept"]
    assert told["created"] is None
    assert told["again"] == {"value": "True"}
    assert told["keys"] == ["d/kept", "d/once.json", "d/u/doc.json"]


def test_a_full_disk_while_fetching_is_said_leaves_nothing_and_a_repetition_works(
    tmp_path: Path,
) -> None:
    disk, lake = tmp_path / "disk", tmp_path / "lake"
    disk.mkdir()
    told = run(
        """
        disk, folder = map(Path, sys.argv[1:])
        tempfile.tempdir = str(disk)
        lake = lake_at(folder)
        data = os.urandom(3 << 20)
        lake.write("inbox/pets/u.zip", data)
        def take():
            with tempfile.TemporaryDirectory(prefix="mm-receive-") as work:
                lake.fetch("inbox/pets/u.zip", Path(work) / "upload.zip")
                return (Path(work) / "upload.zip").read_bytes() == data
        attempt("full", take)
        attempt("kept", lambda: lake.fetch("inbox/pets/u.zip", disk / "x"))
        told["left"] = files_in(disk)
        assert os.system(f'mount -o remount,size=9m "{disk}"') == 0
        attempt("again", take)
        """,
        disk, lake, before=small_disk(disk),
    )  # fmt: skip
    assert told["full"]["code"] == "disk_full"
    assert str(disk) in told["full"]["where"]
    assert "TMPDIR" in told["full"]["todo"]
    assert told["kept"]["code"] == "disk_full"
    assert told["left"] == []
    assert told["again"] == {"value": "True"}


def test_a_limit_on_the_size_of_files_is_said_and_leaves_no_part(tmp_path: Path) -> None:
    told = run(
        """
        folder, local = Path(sys.argv[1]), Path(sys.argv[2])
        lake = lake_at(folder)
        lake.write("d/big", bytes(2 << 20))
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        attempt("write", lambda: lake.write("d/big", b"1" * (2 << 20)))
        attempt("fetch", lambda: lake.fetch("d/big", local))
        told["whole"] = lake.read("d/big") == bytes(2 << 20)
        told["left"] = files_in(folder) + [local.exists()]
        """,
        tmp_path / "lake", tmp_path / "fetched",
    )  # fmt: skip
    assert (told["write"]["code"], told["fetch"]["code"]) == ("lake_full", "disk_full")
    assert "too large" in told["write"]["what"]
    assert told["whole"]
    assert told["left"] == ["d/big", False]


@pytest.fixture
def guarded() -> Iterator[Path]:
    """A lake that all may see, with a folder to read only and one to keep out of."""
    folder = Path(tempfile.mkdtemp())  # of tmp_path, only its owner sees anything
    modes = {folder: 0o755, folder / "shut": 0o555, folder / "mute": 0o000}
    for path in modes:
        path.mkdir(exist_ok=True)
        (path / "x").write_bytes(b"1")
    for path, mode in modes.items():
        path.chmod(mode)
    yield folder
    for path in modes:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_lake_without_permission_says_so_and_is_not_taken_for_an_empty_one(guarded: Path) -> None:
    told = run(
        """
        lake = lake_at(sys.argv[1])
        lake.read("x")  # now all modules are loaded
        if os.geteuid() == 0:  # for root nothing is forbidden
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        attempt("write", lambda: lake.write("shut/y", b"2"))
        attempt("create", lambda: lake.create_json("shut/doc.json", {}))
        attempt("delete", lambda: lake.delete("shut/x"))
        attempt("list", lambda: list(lake.list("mute/")))
        attempt("names", lambda: lake.names("mute/"))
        attempt("stat", lambda: lake.stat("mute/x"))
        attempt("read", lambda: lake.read("mute/x"))
        attempt("read_json", lambda: lake.read_json("mute/x"))
        attempt("open", lambda: lake.open("mute/x"))
        attempt("move", lambda: lake.move("shut/x", "shut/y", lake.stat("shut/x").etag))
        attempt("allowed", lambda: lake.read("shut/x"))
        """,
        guarded,
    )
    for name in set(told) - {"allowed"}:
        assert told[name].get("code") == "lake_denied", (name, told[name])
        assert "ermission denied" in told[name]["what"] or "not permitted" in told[name]["what"]
        assert "MM_LAKE" in told[name]["todo"]
    assert len(told) == 11
    assert told["allowed"] == {"value": "b'1'"}


def test_what_a_killed_writer_left_is_not_listed_and_goes_with_the_next_write(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(folder_settings)
    told = run(
        """
        import signal
        folder = Path(sys.argv[1])
        lake = lake_at(folder)
        class Slow:
            def read(self, size):
                if files_in(folder):
                    os.kill(os.getpid(), signal.SIGKILL)
                return bytes(size)
            def seek(self, *_):
                return 50 << 20
            def tell(self):
                return 0
        child = os.fork()
        if child == 0:
            lake.write("d/x", Slow())
        os.waitpid(child, 0)
        told["left"] = files_in(folder)
        told["keys"] = [item.key for item in lake.list("")]
        """,
        folder_settings.lake_folder,
    )
    assert told["left"] == ["d/x#1"]
    assert told["keys"] == []
    lake.write("d/x", b"whole")
    assert (folder_settings.lake_folder / "d" / "x#1").exists()  # it may be a live writer's
    monkeypatch.setattr(lake_moves, "WRITING_AGE", -1.0)
    lake.write("d/x", b"whole")
    assert [path.name for path in (folder_settings.lake_folder / "d").iterdir()] == ["x"]
