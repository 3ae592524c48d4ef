"""HDF5 in the layout of the Spiking Heidelberg Digits (SHD) and the Spiking Speech Commands (SSC), read by h5py."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tracetorch import files
from tracetorch.data.container import MOST_FILES
from tracetorch.data.events import Collector, EventReading
from tracetorch.data.samples import Array, Samples
from tracetorch.optional import library
from tracetorch.printable import printable

CHANNELS = 700  # of SHD and SSC
_MOST_BYTES = 1 << 28  # of an array with a value for each sample
_MOST_COLLECTIONS = 1 << 10  # of a heap, kept in memory
_ADDRESS_BYTES = 8
_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])
_OBJECT = struct.Struct("<HHIQ")  # number, references to it, unused, size
_LAYOUT = "spikes/times and spikes/units, with the events of each sample, and labels"
_MOST_SHOWN = 80  # characters in a message


def read_hdf5(path: Path, how: EventReading) -> Samples:
    """Read an HDF5 file in the layout of SHD and SSC.

    Data sets: spikes/times and spikes/units, a list of numbers for each sample; labels; optionally extra/keys, the
    names of the labels. Further data sets of extra/ with one value for each sample are fields. Links, and data that lie
    in other files, are refused.

    Raises: OSError; MissingLibraryError; ValueError that names the file, says what was found and what is wanted.
    """
    h5py = library("h5py", "data")
    with files.open_regular(path) as file:
        try:
            with h5py.File(file, "r") as opened:
                return _read(h5py, opened, file, path, how)
        except (
            ValueError,
            OSError,
            RuntimeError,
            LookupError,
            TypeError,
            MemoryError,
            ArithmeticError,
            zlib.error,
        ) as error:
            if str(error).startswith(f"{path}"):  # an error of this module, not of h5py
                raise
            why = printable(" ".join(str(error).split()), 120) or type(error).__name__
            raise ValueError(f"{path} is not an HDF5 file that can be read: {why}") from None


def _read(h5py: Any, opened: Any, file: BinaryIO, path: Path, how: EventReading) -> Samples:
    labels = _dataset(h5py, opened, "labels", path)
    times, units = (_dataset(h5py, opened, f"spikes/{name}", path) for name in ("times", "units"))
    extra = _group(h5py, opened, "extra", path)
    members = [] if extra is None else list(extra)
    names = [name for name in members if isinstance(extra.get(name, getlink=True), h5py.HardLink)]
    keys = _dataset(h5py, opened, "extra/keys", path) if "keys" in names else None
    count = labels.shape[0] if labels.ndim == 1 else -1
    if not 0 < count <= MOST_FILES or labels.dtype.kind not in "iuf":
        raise ValueError(f"{path}: labels is {labels.dtype} of shape {labels.shape}; wanted: a number for each sample")
    lists: list[_Lists] = []
    for name, each in (("times", times), ("units", units)):
        base = h5py.check_vlen_dtype(each.dtype)
        if base is None or base.kind not in "fiu" or each.shape != (count,):
            got = f"{each.dtype if base is None else f'lists of {base}'} of shape {each.shape}"
            raise ValueError(f"{path}: spikes/{name} is {got}; wanted: a list of numbers for each of {count:,} samples")
        lists.append(_Lists(h5py, each, base, file, path))
    numbers = np.asarray(labels[()])
    if how.channels is None and keys is not None:
        how = how._replace(channels=CHANNELS)
    collector = Collector(path, how)
    for row in range(count):
        collector.add(f"sample {row}", lists[0][row], lists[1][row])
    fields = {"label": numbers}
    for name in names:
        if name not in ("keys", "label") and extra.get(name, getclass=True) is h5py.Dataset:
            column = _dataset(h5py, opened, f"extra/{name}", path)
            is_small = column.dtype.itemsize * count <= _MOST_BYTES
            if column.shape == (count,) and column.dtype.kind in "iufS" and is_small:
                found = np.asarray(column[()])
                fields[name] = np.char.decode(found, "utf-8", "replace") if found.dtype.kind == "S" else found
    return collector.samples(_named(h5py, numbers, keys, file, path), fields)


def _named(h5py: Any, numbers: Array, keys: Any, file: BinaryIO, path: Path) -> list[Any]:
    """Return the name of each sample's label, or its number if the file has no names.

    Raises: ValueError for a label without a name.
    """
    if keys is None:
        return list(numbers)
    if keys.ndim != 1 or keys.dtype.kind not in "SO" or not 0 < keys.shape[0] * keys.dtype.itemsize <= _MOST_BYTES:
        raise ValueError(f"{path}: extra/keys has the shape {keys.shape}; wanted: the names of the labels")
    if keys.dtype.kind == "O":
        lists = _Lists(h5py, keys, np.dtype("S1"), file, path)
        texts = [lists[row].tobytes() for row in range(keys.shape[0])]
    else:
        texts = [bytes(key) for key in keys[()]]
    names = [text.rstrip(b"\0").decode("utf-8", "replace") for text in texts]
    whole = numbers.astype(np.int64)
    if (whole != numbers).any():
        raise ValueError(
            f"{path} has the label {numbers[whole != numbers][0]}; wanted: whole numbers, as extra/keys names"
        )
    if whole.min() < 0 or whole.max() >= len(names):
        wrong = int(whole.max() if whole.min() >= 0 else whole.min())
        raise ValueError(f"{path} has the label {wrong}, and extra/keys names {len(names)} labels, from 0")
    return [names[number] for number in whole]


def _group(h5py: Any, opened: Any, name: str, path: Path) -> Any:
    """Return a group; None if the file has none of this name. Raises: ValueError for a link."""
    _refuse_links(h5py, opened, name, path)
    found = opened.get(name)
    return found if isinstance(found, h5py.Group) else None


def _dataset(h5py: Any, opened: Any, name: str, path: Path) -> Any:
    """Return a dataset. Raises: ValueError if it is missing, is too large, or has its data in another file."""
    _refuse_links(h5py, opened, name, path)
    found = opened.get(name)
    if not isinstance(found, h5py.Dataset):
        held = printable(", ".join(opened), _MOST_SHOWN) or "nothing"
        raise ValueError(f"{path} holds {held}, and no {name}; wanted: {_LAYOUT}")
    if found.external or found.is_virtual:
        raise ValueError(f"{path}: the data of {name} lie in another file, which is not followed")
    if math.prod(found.chunks or (1,)) * found.dtype.itemsize > _MOST_BYTES:
        raise ValueError(f"{path}: the chunks of {name} have the shape {found.chunks}; larger ones are not read")
    return found


def _refuse_links(h5py: Any, opened: Any, name: str, path: Path) -> None:
    """Raises: ValueError if a part of a name is a link to another file or another place."""
    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        link = opened.get("/".join(parts[:depth]), getlink=True, default=None)
        if link is not None and not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path}: {name} is a link, which is not followed; a file of data holds the data itself")


class _Lists:
    """The lists of a dataset, one for each sample, read from the file's global heap.

    h5py reads them too, but HDF5 allocates what their headers claim, and walks through damaged heaps without an end.
    A reference is a length, the address of a collection of objects, and the number of an object in it.
    """

    def __init__(self, h5py: Any, dataset: Any, dtype: np.dtype[Any], file: BinaryIO, path: Path):
        self._name, self._dtype, self._file, self._path = dataset.name.strip("/"), dtype, file, path
        self._size = file.seek(0, 2)
        if dataset.file.id.get_create_plist().get_sizes()[0] != _ADDRESS_BYTES or dataset.file.userblock_size:
            raise OSError("its addresses do not have 8 bytes, or it begins with a block of other data")
        self._references = np.zeros(dataset.shape[0], dtype=_REFERENCE)
        for first, raw in _stored(h5py, dataset, file, self._size):
            part = np.frombuffer(raw, dtype=_REFERENCE, count=len(raw) // _REFERENCE.itemsize)
            place = self._references[first : first + len(part)]
            place[:] = part[: len(place)]
        total = int(self._references["length"].sum(dtype=np.float64)) * dtype.itemsize
        if total > self._size:
            raise ValueError(
                f"{path}: {self._name} says that it holds {total:,} bytes, and the file has {self._size:,}"
            )
        self._objects: dict[int, dict[int, tuple[int, int]]] = {}
        self._walked = 0

    def __getitem__(self, row: int) -> Array:
        length, address, number = map(int, self._references[row].tolist())
        wanted = length * self._dtype.itemsize
        start, size = self._collection(address).get(number, (0, 0)) if length else (0, 0)
        if wanted > size:
            raise ValueError(
                f"{self._path}: list {row} of {self._name} says that it holds {length:,} numbers, and the file holds "
                f"{size:,} bytes for it"
            )
        return np.frombuffer(self._read(start, wanted), dtype=self._dtype)

    def _collection(self, address: int) -> dict[int, tuple[int, int]]:
        """Return the start and the size of each object of a collection, by its number."""
        if address in self._objects:
            return self._objects[address]
        header = self._read(address, 16)
        end = address + int.from_bytes(header[8:16], "little")
        if header[:5] != b"GCOL\1" or end > self._size:
            raise OSError(f"the data of {self._name} are damaged")
        found: dict[int, tuple[int, int]] = {}
        at = address + 16
        while at + 16 <= end:
            number, _, _, size = _OBJECT.unpack(self._read(at, 16))
            if not number or size > end - at - 16:  # 0: the rest is free
                break
            found[number] = at + 16, size
            at += 16 + -(-size // 8) * 8
            self._walked += 16
        if self._walked > 16 * self._size:  # no file has so many objects, unless its collections overlap
            raise OSError(f"the data of {self._name} are damaged")
        if len(self._objects) >= _MOST_COLLECTIONS:
            self._objects.clear()
        self._objects[address] = found
        return found

    def _read(self, start: int, size: int) -> bytes:
        if start + size > self._size:
            raise OSError("it is cut")
        self._file.seek(start)
        return self._file.read(size)


def _stored(h5py: Any, lists: Any, file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the first row of each chunk, and its references after decompression.

    Raises: OSError for another layout, another filter than gzip, shuffle and Fletcher-32, or a chunk beyond the end.
    """
    itemsize = _REFERENCE.itemsize
    settings = lists.id.get_create_plist()
    if lists.chunks is None:
        start = lists.id.get_offset()
        if start is not None:
            file.seek(start)
            yield 0, file.read(itemsize * lists.size)
        elif lists.id.get_storage_size():
            raise OSError(f"{lists.name} is stored within its header")
        return
    most = itemsize * math.prod(lists.chunks) + 4
    filters = [settings.get_filter(at)[0] for at in range(settings.get_nfilters())]
    for at in range(lists.id.get_num_chunks()):
        where = lists.id.get_chunk_info(at)
        if where.byte_offset + where.size > size:
            raise OSError("a chunk lies beyond the end of the file")
        file.seek(where.byte_offset)
        raw = file.read(where.size)
        for number, kind in reversed([*enumerate(filters)]):
            if where.filter_mask >> number & 1:
                continue
            if kind == h5py.h5z.FILTER_DEFLATE:
                raw = zlib.decompressobj().decompress(raw, most)
            elif kind == h5py.h5z.FILTER_SHUFFLE:
                raw = np.frombuffer(raw[: len(raw) // itemsize * itemsize], np.uint8).reshape(itemsize, -1).T.tobytes()
            elif kind == h5py.h5z.FILTER_FLETCHER32:
                raw = raw[:-4]
            else:
                raise OSError(f"{lists.name} is compressed by filter {kind}; gzip and shuffle are read")
        yield int(where.chunk_offset[0]), raw
