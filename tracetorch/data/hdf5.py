"""HDF5 in the layout of the Spiking Heidelberg Digits (SHD) and the Spiking Speech Commands (SSC), read by h5py."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tracetorch import files
from tracetorch.data.container import MOST_FILES
from tracetorch.data.events import Collector, EventReading
from tracetorch.data.samples import Array, Samples
from tracetorch.printable import printable

CHANNELS = 700  # of SHD and SSC
_MOST_BYTES = 1 << 28  # of an array with a value for each sample
_LAYOUT = "spikes/times and spikes/units, with the events of each sample, and labels"
_MOST_SHOWN = 80


def read_hdf5(path: Path, how: EventReading) -> Samples:
    """Read an HDF5 file: spikes/times and spikes/units, a list of numbers for each sample; labels; optionally
    extra/keys, the names of the labels, and extra/speaker and further arrays of extra/, which become fields.

    Links to other files, and data that lie in other files, are refused.

    Raises: OSError; ImportError without h5py; ValueError that names the file, says what was found and is wanted.
    """
    try:
        import h5py  # noqa: PLC0415
    except ImportError:
        raise ImportError("HDF5 files are read by h5py: pip install h5py") from None
    with files.open_regular(path) as file:
        try:
            with h5py.File(file, "r") as opened:
                return _read(h5py, opened, file, path, how)
        except (OSError, RuntimeError, KeyError, TypeError, OverflowError, MemoryError, zlib.error) as error:
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
    for name, each in (("times", times), ("units", units)):
        base = h5py.check_vlen_dtype(each.dtype)
        if base is None or base.kind not in "fiu" or each.shape != (count,):
            got = f"{each.dtype if base is None else f'lists of {base}'} of shape {each.shape}"
            raise ValueError(f"{path}: spikes/{name} is {got}; wanted: a list of numbers for each of {count:,} samples")
        _check_lists(h5py, each, base.itemsize, file, path)
    if keys is not None and keys.dtype.kind == "O":
        _check_lists(h5py, keys, 1, file, path)
    numbers = np.asarray(labels[()])
    if how.channels is None and keys is not None:
        how = how._replace(channels=CHANNELS)
    collector = Collector(path, how)
    for row in range(count):  # one at a time: several may refer to the same long list
        collector.add(f"sample {row}", np.asarray(times[row]), np.asarray(units[row]))
    fields = {"label": numbers}
    for name in names:
        if name not in ("keys", "label") and extra.get(name, getclass=True) is h5py.Dataset:
            column = _dataset(h5py, opened, f"extra/{name}", path)
            is_small = column.dtype.itemsize * count <= _MOST_BYTES
            if column.shape == (count,) and column.dtype.kind in "iufS" and is_small:
                found = np.asarray(column[()])
                fields[name] = np.char.decode(found, "utf-8", "replace") if found.dtype.kind == "S" else found
    return collector.samples(_named(numbers, keys, path), fields)


def _named(numbers: Array, keys: Any, path: Path) -> list[Any]:
    """Return the label of each sample by name, if the file has names for all of them."""
    if keys is None:
        return list(numbers)
    if keys.ndim != 1 or not 0 < keys.shape[0] * keys.dtype.itemsize <= _MOST_BYTES:
        raise ValueError(f"{path}: extra/keys has the shape {keys.shape}; wanted: the names of the labels")
    names = [key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key) for key in keys[()]]
    whole = numbers.astype(np.int64)
    if whole.min() < 0 or whole.max() >= len(names):
        wrong = int(whole.max() if whole.min() >= 0 else whole.min())
        raise ValueError(f"{path} has the label {wrong}, and extra/keys names {len(names)} labels, from 0")
    return [names[number] for number in whole]


def _group(h5py: Any, opened: Any, name: str, path: Path) -> Any:
    _refuse_links(h5py, opened, name, path)
    found = opened.get(name)
    return found if isinstance(found, h5py.Group) else None


def _dataset(h5py: Any, opened: Any, name: str, path: Path) -> Any:
    """Return a dataset whose data lie in the file itself."""
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


def _check_lists(h5py: Any, lists: Any, itemsize: int, file: BinaryIO, path: Path) -> None:
    """Compare the lengths of lists with the size of the file: HDF5 allocates what they claim before it reads.

    Raises: ValueError for a list that is longer than the file.
    """
    size = file.seek(0, 2)
    reference = np.dtype(
        {"names": ["length"], "formats": ["<u4"], "itemsize": lists.file.id.get_create_plist().get_sizes()[0] + 8}
    )
    for raw in _stored(h5py, lists, reference.itemsize, file, size):
        whole = len(raw) // reference.itemsize
        most = int(np.frombuffer(raw, dtype=reference, count=whole)["length"].max(initial=0))
        if most * itemsize > size:
            raise ValueError(
                f"{path}: a list in {lists.name.strip('/')} says that it holds {most:,} numbers, and the file has "
                f"{size:,} bytes"
            )


def _stored(h5py: Any, lists: Any, itemsize: int, file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the stored references of a dataset of lists, with its filters undone. Raises: OSError for other filters."""
    settings = lists.id.get_create_plist()
    if lists.chunks is None:
        start = lists.id.get_offset()
        if start is not None:
            file.seek(start)
            yield file.read(itemsize * lists.size)
        elif lists.id.get_storage_size():
            raise OSError(f"{lists.name} is stored within its header")
        return
    most = itemsize * math.prod(lists.chunks) + 4
    filters = [settings.get_filter(at)[0] for at in range(settings.get_nfilters())]
    for at in range(lists.id.get_num_chunks()):
        where = lists.id.get_chunk_info(at)
        if where.byte_offset + where.size > size:
            raise OSError("a chunk lies behind the end of the file")
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
        yield raw


def _refuse_links(h5py: Any, opened: Any, name: str, path: Path) -> None:
    """Raises: ValueError if a part of a name is a link to another file or another place."""
    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        link = opened.get("/".join(parts[:depth]), getlink=True, default=None)
        if link is not None and not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path}: {name} is a link, which is not followed; a file of data holds the data itself")
