"""Tensors of the Open Inference Protocol, in JSON and as the bytes behind it."""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mm_assets.serving.problems import Problem

HEADER_LENGTH = "inference-header-content-length"
_NUMPY = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1",
    "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
    "BF16": "<u2",
}  # fmt: skip
DATATYPES = (*_NUMPY, "BYTES")
MOST_TENSORS = 10_000


@dataclass(frozen=True)
class Tensor:
    """One of a request. values: [n]; None for what is missing. BYTES: text where JSON or UTF-8
    brings it, else bytes.
    """

    name: str
    datatype: str
    values: list[Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def refused(what: str, todo: str = "") -> Problem:
    return Problem(400, "tensor_invalid", what, todo)


def split_body(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """The JSON of a body and the bytes behind it. Raises Problem."""
    if header_length is None:
        return body, memoryview(b"")
    if not header_length.isascii() or not header_length.isdigit() or len(header_length) > 12:
        raise refused(f"Inference-Header-Content-Length is no number: {header_length[:40]!r}")
    end = int(header_length)
    if end > len(body):
        raise refused(f"the body has {len(body):,} bytes, and its JSON is to have {end:,}")
    return body[:end], memoryview(body)[end:]


def tensors_of(inputs: Any, raw: memoryview) -> list[Tensor]:
    """The tensors of a request, each with one value a record. Raises Problem."""
    if not isinstance(inputs, list) or not inputs or len(inputs) > MOST_TENSORS:
        raise refused("`inputs` has to be a list of tensors")
    tensors: list[Tensor] = []
    at = 0
    for one in inputs:
        name, datatype, count, parameters = _head(one)
        size = parameters.get("binary_data_size")
        if size is None:
            values = _from_json(name, datatype, one.get("data"))
            if datatype == "BYTES" and parameters.get("content_type") == "base64":
                values = [_from_base64(name, value) for value in values]
        else:
            if (
                isinstance(size, bool)
                or not isinstance(size, int)
                or not 0 <= size <= len(raw) - at
            ):
                raise refused(f"{name}: binary_data_size does not fit the body")
            values = _from_bytes(name, datatype, raw[at : at + size])
            at += size
        if len(values) != count:
            raise refused(f"{name}: {len(values)} values, and the shape says {count}")
        tensors.append(Tensor(name, datatype, values, parameters))
    if at != len(raw):
        raise refused(f"{len(raw) - at:,} bytes of the body belong to no tensor")
    names = [tensor.name for tensor in tensors]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise refused(f"two tensors are called {twice[0]!r}")
    if len({len(tensor.values) for tensor in tensors}) > 1:
        told = ", ".join(f"{tensor.name}: {len(tensor.values)}" for tensor in tensors[:8])
        raise refused(f"the tensors are not equally long: {told}")
    return tensors


def _head(one: Any) -> tuple[str, str, int, Mapping[str, Any]]:
    """Name, datatype, how many values, parameters."""
    if not isinstance(one, dict) or not isinstance(one.get("name"), str):
        raise refused("each tensor has to be an object with a name")
    name, datatype, shape = one["name"], one.get("datatype"), one.get("shape")
    if datatype not in DATATYPES:
        raise refused(f"{name}: the datatype is {datatype!r}, and none of {', '.join(DATATYPES)}")
    if (count := _count(shape)) is None:
        raise refused(
            f"{name}: the shape is {json.dumps(shape)[:80]}",
            "A tensor holds one value for each record: its shape is [n] or [n, 1].",
        )
    parameters = one.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise refused(f"{name}: `parameters` is no object")
    return name, datatype, count, parameters


def _count(shape: Any) -> int | None:
    """n, where the shape is [n] or [n, 1]."""
    if not isinstance(shape, list) or not 1 <= len(shape) <= 2 or shape[1:] not in ([], [1]):
        return None
    is_count = isinstance(shape[0], int) and not isinstance(shape[0], bool) and shape[0] >= 0
    return shape[0] if is_count else None


def _from_json(name: str, datatype: str, data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise refused(f"{name}: `data` has to be a list")
    values = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in data]
    for value in values:
        if not _fits(value, datatype):
            raise refused(f"{name}: {json.dumps(value)[:80]} is no {datatype}")
    return values


def _fits(value: Any, datatype: str) -> bool:
    if value is None:
        return True
    if datatype == "BYTES":
        return isinstance(value, str)
    if datatype == "BOOL" or isinstance(value, bool):
        return datatype == "BOOL" and isinstance(value, bool)
    if "INT" not in datatype:
        return isinstance(value, int | float)
    bits = int(datatype.rpartition("T")[2])
    least, most = (0, 2**bits) if datatype[0] == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return isinstance(value, int) and least <= value < most


def _from_base64(name: str, value: str | None) -> str | bytes | None:
    try:
        return value and _text(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        raise refused(f"{name}: a value is no base64") from None


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _from_bytes(name: str, datatype: str, raw: memoryview) -> list[Any]:
    if datatype == "BYTES":
        return _strings(name, raw)
    import numpy as np

    kind = np.dtype(_NUMPY[datatype])
    if len(raw) % kind.itemsize:
        raise refused(f"{name}: {len(raw):,} bytes are no whole number of {datatype}")
    values = np.frombuffer(raw, kind)
    if datatype == "BF16":  # the upper half of a float32
        values = (values.astype("<u4") << 16).view("<f4")
    return [
        None if isinstance(value, float) and math.isnan(value) else value
        for value in values.tolist()
    ]


def _strings(name: str, raw: memoryview) -> list[Any]:
    """Each behind its length, in four bytes."""
    values: list[Any] = []
    at = 0
    while at < len(raw):
        if at + 4 > len(raw):
            raise refused(f"{name}: the bytes end in the middle of a length")
        (length,) = struct.unpack_from("<I", raw, at)
        at += 4
        if at + length > len(raw):
            raise refused(f"{name}: the bytes end in the middle of a value")
        values.append(_text(bytes(raw[at : at + length])))
        at += length
    return values


# -- answers ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Output:
    """A tensor of an answer. values: [n], or [n, k] where `shape` has two parts."""

    name: str
    datatype: str
    shape: Sequence[int]
    values: Sequence[Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def written(self, *, binary: bool) -> tuple[dict[str, Any], bytes]:
        """Its JSON, and the bytes that go behind all JSON."""
        head: dict[str, Any] = {
            "name": self.name, "datatype": self.datatype, "shape": list(self.shape)
        }  # fmt: skip
        parameters = dict(self.parameters)
        raw = b""
        if binary:
            raw = self._raw()
            parameters["binary_data_size"] = len(raw)
        else:  # JSON has no NaN
            head["data"] = [
                None if isinstance(one, float) and math.isnan(one) else one for one in self.values
            ]
        return {**head, **({"parameters": parameters} if parameters else {})}, raw

    def _raw(self) -> bytes:
        if self.datatype != "BYTES":
            import numpy as np

            return np.array(self.values, _NUMPY[self.datatype]).tobytes()
        texts = [text.encode("utf-8", "replace") for text in self.values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
