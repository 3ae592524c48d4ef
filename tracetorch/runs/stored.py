"""Reader of the format of `torch.save`, for files that another program may have written.

`torch.load`, even with `weights_only=True`, allocates the sizes that the file claims: it inflates compressed entries of
any size, enlarges a storage until its tensor fits, and reads a storage beyond the end of its entry. This reader checks
each size against that of the file before it allocates anything, and makes only the types of a checkpoint.
"""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from tracetorch.files import DEEPEST, MOST_ELEMENTS, open_regular

_MOST_PLAIN_BYTES = 16 << 20  # bound for all values except tensors
_SPARE_BYTES = 64 << 20
"""Tensors may share a storage, and take more memory than their file: at most four times its size plus this."""

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


def read_stored(path: Path) -> Any:
    """Read the plain values and tensors that `torch.save` wrote to a file, to the CPU.

    Raises: OSError; ValueError or another error of the parsers if the file holds anything else.
    """
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        entries = {}
        size = file.seek(0, io.SEEK_END)
        for entry in archive.infolist():
            size -= entry.file_size
            if size < 0 or entry.compress_type != zipfile.ZIP_STORED or entry.filename in entries:
                raise ValueError(f"its entry {entry.filename!r} is compressed or overlaps another entry")
            entries[entry.filename] = entry
        return _Reader(archive, entries, file.seek(0, io.SEEK_END)).read()


class _Storage(NamedTuple):
    """The bytes of one or several tensors, and their type."""

    content: torch.UntypedStorage
    dtype: torch.dtype


class _Stored(NamedTuple):
    """A tensor as the file describes it, within its storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Reader:
    def __init__(self, archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], size: int):
        self._archive, self._entries = archive, entries
        found = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(found) != 1:
            raise ValueError("it holds no values, or several")
        self._prefix = found[0].removesuffix("data.pkl")
        self._storages: dict[str, torch.UntypedStorage] = {}
        self._bytes_left, self._values_left = 4 * size + _SPARE_BYTES, MOST_ELEMENTS

    def read(self) -> Any:
        if self._entries[f"{self._prefix}data.pkl"].file_size > _MOST_PLAIN_BYTES:
            raise ValueError(f"it has more than {_MOST_PLAIN_BYTES:,} bytes in addition to its tensors")
        if f"{self._prefix}byteorder" in self._entries and self._bytes("byteorder") != sys.byteorder.encode():
            raise ValueError("it was written on a machine with another byte order")
        return self._build(_Unpickler(self._bytes("data.pkl"), self._storage).load(), 0)

    def _bytes(self, name: str) -> bytes:
        return self._archive.read(self._entries[f"{self._prefix}{name}"])

    def _storage(self, dtype: torch.dtype, name: str, count: int) -> _Storage:
        if name not in self._storages:
            content = self._bytes(f"data/{name}")
            copy = torch.empty(len(content), dtype=torch.uint8)  # aligned as torch's own tensors are
            copy.numpy()[:] = np.frombuffer(content, np.uint8)
            self._storages[name] = copy.untyped_storage()
        storage = _Storage(self._storages[name], dtype)
        if storage.content.nbytes() != count * dtype.itemsize:
            raise ValueError(f"its storage {name} has another size than the file says")
        return storage

    def _build(self, value: Any, depth: int) -> Any:
        """Build a value and the tensors in it, and count it: a pickle may hold one list in many places."""
        self._values_left -= 1
        if self._values_left < 0 or depth > DEEPEST:
            raise ValueError("it has more values, or nests them deeper, than a run writes")
        if isinstance(value, _Stored):
            self._bytes_left -= prod(value.shape) * value.storage.dtype.itemsize
            if self._bytes_left < 0:
                raise ValueError("its tensors take more memory than its size allows")
            blank = torch.empty(0, dtype=value.storage.dtype)
            return blank.set_(value.storage.content, value.offset, value.shape, value.stride)
        if isinstance(value, dict):
            built: Any = type(value)((name, self._build(inner, depth + 1)) for name, inner in value.items())
            if isinstance(value, OrderedDict) and hasattr(value, "_metadata"):  # versions of torch's modules
                built._metadata = self._build(value._metadata, depth + 1)
            return built
        if type(value) in (list, tuple):
            return type(value)(self._build(inner, depth + 1) for inner in value)
        if value is None or type(value) in _PLAIN:
            return value
        raise ValueError(f"it holds {type(value).__name__}, which no run writes")


_PLAIN = (bool, int, float, str, bytes, torch.Size, torch.dtype, torch.device)
_KEYS = (bool, int, float, str)

_OPCODES = (
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.GLOBAL, pickle.REDUCE, pickle.BINPERSID),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS),
    *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1),
    *(pickle.BININT2, pickle.LONG1, pickle.LONG4, pickle.BINFLOAT, pickle.BINUNICODE),
)
"""The opcodes that `torch.save` writes, except the three that `_Unpickler` implements."""


_LOADS: dict[int, Any] = dict(pickle._Unpickler.dispatch)


class _Unpickler(pickle._Unpickler):
    """Unpickler in Python, because C's allocates a memo of the size that the file claims.

    It makes plain values, `_Stored` and empty ordered dicts, calls nothing else, and sets only `_metadata`.
    """

    dispatch: ClassVar[dict[int, Any]] = {code: _LOADS[code] for (code,) in _OPCODES}

    stack: list[Any]

    def __init__(self, content: bytes, storage: Callable[[torch.dtype, str, int], _Storage]):
        super().__init__(io.BytesIO(content))
        self._storage, self._text_left = storage, _MOST_PLAIN_BYTES

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
            return vars(torch)[name]
        if (module, name) == ("_codecs", "encode"):
            return self._encoded
        if (module, name) not in _MAKERS:
            raise ValueError(f"it holds {module}.{name}, which no run writes")
        return _MAKERS[module, name]

    def persistent_load(self, saved: Any) -> _Storage:
        kind, dtype, name, _, count = saved
        if (kind, type(dtype), type(name), type(count)) != ("storage", torch.dtype, str, int) or count < 0:
            raise ValueError("it has a storage that torch does not write")
        return self._storage(dtype, name, count)

    def _encoded(self, text: str, encoding: str) -> bytes:
        """Make bytes from their text in a pickle of protocol 2, and count them: one text may be encoded many times."""
        self._text_left -= len(text)
        if encoding != "latin1" or self._text_left < 0:
            raise ValueError("it has bytes that no run writes")
        return text.encode("latin1")

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        _LOADS[pickle.SETITEM[0]](self)

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        _LOADS[pickle.SETITEMS[0]](self)

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is not OrderedDict or type(state) is not dict or list(state) != ["_metadata"]:
            raise ValueError("it sets attributes that no run sets")
        target._metadata = state["_metadata"]  # type: ignore[attr-defined]

    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.BUILD[0]] = load_build


def _check_keys(keys: list[Any]) -> None:
    """Raises: ValueError if a key is not plain: hashing a deeply nested tuple crashes the process."""
    if any(type(key) not in _KEYS for key in keys):
        raise ValueError("it has keys that no run writes")


def _stored(storage: _Storage, offset: int, shape: Any, stride: Any, *_: Any) -> _Stored:
    """Describe a tensor, like torch's `_rebuild_tensor_v2`, after a check that it lies within its storage."""
    if len(shape) > DEEPEST or len(shape) != len(stride):
        raise ValueError("a tensor has no shape")
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in (offset, *shape, *stride)):
        raise ValueError("a tensor has a shape, a stride or an offset that is not a whole number")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if prod(shape) and last >= storage.content.nbytes() // storage.dtype.itemsize:
        raise ValueError("a tensor reaches beyond its storage")
    return _Stored(storage, offset, tuple(shape), tuple(stride))


def _stored_with_type(storage: _Storage, *described: Any) -> _Stored:
    """Describe a tensor of a dtype without a typed storage, like torch's `_rebuild_tensor_v3`."""
    offset, shape, stride, _, _, dtype = described[:6]
    return _stored(storage._replace(dtype=dtype), offset, shape, stride)


def _size(shape: Any) -> torch.Size:
    if len(shape) > DEEPEST:
        raise ValueError("a shape has more dimensions than a tensor can have")
    return torch.Size(shape)


_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _stored,
    ("torch._utils", "_rebuild_tensor_v3"): _stored_with_type,
    ("torch._utils", "_rebuild_parameter"): lambda stored, *_: stored,
    ("collections", "OrderedDict"): lambda: OrderedDict(),  # noqa: PLW0108  # no arguments: a file may hold large ones, many times
    ("torch", "Size"): _size,
    ("torch", "device"): lambda *words: torch.device(*words[:2]),
}
