"""A decoder that breaks down, hangs or fills the memory costs one file, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from mm_assets.lake.lake import Lake
from mm_assets.reading.images import apart
from tests.make import dataset, drop_folder, received, rows_of
from tests.reading import heic_files as heic
from tests.reading.test_image_formats import WIDE
from tests.reading.test_images import photo, refused, run, saved

TIFF = saved(photo(96, 64), "TIFF")


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Servers whose decoder does what a file says."""
    script = str(Path(__file__).parent / "breaking_decoder.py")
    monkeypatch.setattr(apart, "COMMAND", [sys.executable, script])
    servers = apart._Servers()
    monkeypatch.setattr(apart, "_SERVERS", servers)
    yield
    while not servers._idle.empty():
        servers._idle.get().end()


@pytest.mark.usefixtures("breaking")
@pytest.mark.parametrize(
    ("word", "code", "said"),
    [
        ("SEGFAULT", "image_unreadable", "SIGSEGV"),
        ("ABORT", "image_unreadable", "SIGABRT"),
        ("FOREVER", "image_unreadable", "processor time"),
        ("MEMORY", "image_too_large", "memory"),
        ("SERVER", "image_unreadable", "ended"),
    ],
)
def test_what_a_file_does_to_its_decoder_costs_that_file(word: str, code: str, said: str) -> None:
    before, bad, after = TIFF + b" good", TIFF + b" " + word.encode(), heic.PLAIN
    whole = run(before)
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(run, data) for data in [before, after] * 3]
        assert said in refused(bad, code).reason
        for number, other in enumerate(others):
            assert other.result().data == (whole.data if number % 2 == 0 else run(after).data)
    assert run(before) == whole


@pytest.mark.usefixtures("breaking")
def test_an_upload_with_such_files_is_received_but_for_them(
    lake: Lake,
) -> None:
    files = {f"P{n}-1.tif": TIFF + b" %d" % n for n in range(8)}
    files["P3-1.tif"] = TIFF + b" SEGFAULT"
    files["P5-1.tif"] = TIFF + b" ABORT"
    drop_folder(lake, "u", files)
    listed = rows_of(lake, received(lake, dataset(image_name="{id}-{n}"), "u"), "files.parquet")
    codes = {file["file"]: file["code"] for file in listed}
    bad = {"P3-1.tif": "image_unreadable", "P5-1.tif": "image_unreadable"}
    assert codes == {name: bad.get(name) for name in files}


def test_without_pi_heif_only_heic_is_refused_and_the_way_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = "import sys; sys.modules['pi_heif'] = None; from {0} import {1}; {1}.main()"
    module = without.format("mm_assets.reading.images", "apart_server")
    monkeypatch.setattr(apart, "COMMAND", [sys.executable, "-c", module])
    servers = apart._Servers()
    monkeypatch.setattr(apart, "_SERVERS", servers)
    assert "pi-heif" in refused(heic.PLAIN, "image_type").reason
    assert run(TIFF).width > 0
    while not servers._idle.empty():
        servers._idle.get().end()


def test_a_server_that_ended_for_want_of_work_is_replaced() -> None:
    whole = run(TIFF)
    server = apart._SERVERS._idle.get()
    server._process.terminate()
    server._process.wait()
    apart._SERVERS._idle.put(server)
    assert run(TIFF) == whole


def test_what_breaks_over_a_profile_leaves_the_image_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = run(saved(photo(), "PNG"))
    with monkeypatch.context() as patched:
        patched.setattr(apart._SERVERS, "ask", lambda *_: ({"fault": "broke down"}, b""))
        assert run(saved(photo(), "PNG", icc_profile=WIDE)) == plain
    assert run(saved(photo(), "PNG", icc_profile=WIDE)) != plain


def test_a_fork_of_the_process_asks_servers_of_its_own() -> None:
    whole, servers = run(TIFF), apart._SERVERS
    assert not servers._idle.empty()
    if (child := os.fork()) == 0:
        same = apart._SERVERS is servers or run(TIFF) != whole
        while not apart._SERVERS._idle.empty():
            apart._SERVERS._idle.get().end()
        os._exit(same)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert run(TIFF) == whole


ALONE = """
import os, sys
from mm_assets.reading.images import normalise
normalise(sys.stdin.buffer.read(), longest_side=64, maximum_pixels=10**6)
import psutil
print([child.pid for child in psutil.Process().children(recursive=True)][0], flush=True)
os._exit(3)
"""


def test_no_server_outlives_the_process_that_started_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE], input=TIFF, capture_output=True, check=False
    )
    assert done.returncode == 3
    server = int(done.stdout)
    until = time.monotonic() + 20
    while psutil.pid_exists(server) and time.monotonic() < until:
        time.sleep(0.05)
    assert not psutil.pid_exists(server)


def test_images_are_decoded_apart_on_every_core_at_once() -> None:
    files = [saved(photo(900 + n, 700), "TIFF") for n in range(4)]
    alone = [run(data) for data in files]
    with ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as pool:
        assert list(pool.map(run, files * 3)) == alone * 3
    assert apart._SERVERS._idle.qsize() <= (os.cpu_count() or 1)
