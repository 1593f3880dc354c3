"""Reading in a process of its own, for formats whose libraries can crash or fill the memory.

A workbook with two cells at far corners, a Parquet page that unpacks into gigabytes, a library
that runs into a fault on wild bytes: there the other process ends, and here it is a refusal. The
other process reads the file and writes blocks to a pipe as Arrow, so memory stays bounded on both
sides. On Linux its memory has a limit; on other systems only its processor time has one.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import json
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.reading.table import Block, Reject, Source, TableRefused, Wanted

if TYPE_CHECKING:
    import pyarrow as pa

MEMORY = 3 << 29  # bytes (1.5 GiB) that the other process may allocate
SECONDS = 1_200  # of processor time; 1 GB takes about 20
_NO_MEMORY = (b"memory allocation of", b"MemoryError", b"malloc of size", b"realloc of size",
              b"bad_alloc", b"Cannot allocate memory", b"out of memory")  # fmt: skip


def open_apart(reader: str, path: Path, wanted: Wanted) -> Source:
    """Open `path` with `reader` ("module:function", from path and wanted to a source).

    Raises TableRefused: what the reader raises, `table_damaged` when its process ends by a fault
    of its own, `table_too_large` when it needs too much memory or time.
    """
    return _Apart(reader, path, wanted)


class _Apart(Source):
    def __init__(self, reader: str, path: Path, wanted: Wanted) -> None:
        self._asked = reader, path, wanted
        self._opened: _Reader | None = _Reader(*self._asked)  # who asks for blocks first reads on
        self.header = self._opened.header
        self.facts = self._opened.facts
        self.typed = self._opened.typed

    def blocks(self) -> Iterator[Block]:
        reader, self._opened = self._opened or _Reader(*self._asked), None
        try:
            yield from reader.blocks()
        finally:
            reader.end()


class _Reader:
    """One run of the other process."""

    def __init__(self, reader: str, path: Path, wanted: Wanted) -> None:
        import pyarrow as pa

        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        task = json.dumps({"reader": reader, "path": str(path), "wanted": asdict(wanted)})
        self._process = subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-P", "-m", __name__, task],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(part or str(Path.cwd()) for part in sys.path),
                "ARROW_DEFAULT_MEMORY_POOL": "system",  # others reserve more than they use
            },
        )
        self.end = weakref.finalize(self, _end, self._process, self._errors)
        try:
            self._stream = pa.ipc.open_stream(self._process.stdout)
        except (pa.ArrowInvalid, OSError):
            raise self._fault() from None
        said = json.loads(self._stream.schema.metadata[b"said"])
        _raise_if_refused(said)
        self.header: list[str] = said["header"]
        self.facts: dict[str, Any] = said["facts"]
        self.typed: bool = said["typed"]

    def blocks(self) -> Iterator[Block]:
        import pyarrow as pa

        while True:
            try:
                batch, metadata = self._stream.read_next_batch_with_custom_metadata()
            except (pa.ArrowInvalid, OSError):
                raise self._fault() from None
            except StopIteration:
                raise self._fault() from None  # the last batch says that it is the last
            said = json.loads(metadata[b"said"])
            _raise_if_refused(said)
            if said.get("last"):
                return
            rejects = [Reject(*reject) for reject in said["rejects"]]
            texts = batch.columns[1 : 1 + len(self.header)]
            images = batch.columns[-1] if "images_in" in self.facts else None
            yield Block(batch.column(0), texts, rejects, images)

    def _fault(self) -> TableRefused:
        self._process.wait()
        self._errors.seek(0)
        words = self._errors.read(1 << 20)
        if -self._process.returncode == getattr(_signals(), "SIGXCPU", None):
            return TableRefused("table_too_large", f"not read within {SECONDS // 60} minutes")
        if -self._process.returncode == 9 or any(sign in words for sign in _NO_MEMORY):
            limit = f"{MEMORY / (1 << 30):g} GiB"
            return TableRefused("table_too_large", f"reading it takes more than {limit} of memory")
        last = words.decode(errors="replace").strip().rpartition("\n")[2][:200]
        if self._process.returncode < 0 or "Panic" in last:  # so calamine's own faults are called
            last = "its library stopped in the middle of it"
        return TableRefused("table_damaged", f"the file cannot be read: {last}")


def _signals() -> Any:
    import signal

    return signal.Signals


def _end(process: subprocess.Popen[bytes], errors: Any) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()
    errors.close()


def _raise_if_refused(said: dict[str, Any]) -> None:
    if "refused" in said:
        raise TableRefused(*said["refused"])


# -- the other process ----------------------------------------------------------------------------


def main(task: str) -> None:
    """Read one file and write it to stdout: an Arrow stream, with what is no array in JSON."""
    sys.meta_path.insert(0, _NoPandas())
    import pyarrow as pa

    _limit_resources()
    asked = json.loads(task)
    wanted = asked["wanted"]
    module, _, name = asked["reader"].partition(":")
    read = getattr(importlib.import_module(module), name)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is not part of the answer
    said: dict[str, Any]
    try:
        source: Source = read(
            Path(asked["path"]), Wanted(**{**wanted, "columns": tuple(wanted["columns"])})
        )
        said = {"header": source.header, "facts": source.facts, "typed": source.typed}
    except TableRefused as refused:
        said = {"refused": [refused.code, refused.reason, refused.line]}
    fields = [pa.field("", pa.int64())]
    fields += [pa.field("", pa.string()) for _ in said.get("header", [])]
    if "images_in" in said.get("facts", {}):
        whole = "image_lists_whole" in said["facts"]
        fields.append(
            pa.field("", pa.large_list(pa.large_binary()) if whole else pa.large_binary())
        )
    schema = pa.schema(fields, metadata={"said": json.dumps(said)})
    with pa.ipc.new_stream(out, schema) as stream:
        out.flush()
        if "refused" not in said:
            _write_blocks(source, schema, stream)
    out.close()


def _write_blocks(source: Source, schema: pa.Schema, stream: Any) -> None:
    import pyarrow as pa

    last: dict[str, Any] = {"last": True}
    try:
        for block in source.blocks():
            images = [] if block.images is None else [block.images]
            columns = [block.lines, *block.columns, *images]
            batch = pa.RecordBatch.from_arrays(columns, schema=schema)
            stream.write_batch(batch, {"said": json.dumps({"rejects": block.rejects})})
    except TableRefused as refused:
        last = {"refused": [refused.code, refused.reason, refused.line]}
    none = [pa.nulls(0, field.type) for field in schema]
    end = pa.RecordBatch.from_arrays(none, schema=schema)
    stream.write_batch(end, {"said": json.dumps(last)})


class _NoPandas(importlib.abc.MetaPathFinder):
    """pyarrow imports pandas, where it is, to make an array of a list: that takes longer than to
    read a table."""

    def find_spec(self, fullname: str, *_: Any) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("no pandas here", name=fullname)


def _limit_resources() -> None:
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 60))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere this limit means something else
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


if __name__ == "__main__":
    main(sys.argv[1])
