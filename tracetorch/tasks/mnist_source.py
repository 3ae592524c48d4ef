"""Sources of the digits, and a reader of their files whose memory is bounded by the data in a file."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from tracetorch.files import MOST_DATA_BYTES, expanded, find_idx, open_regular
from tracetorch.printable import printable

_UNSIGNED_BYTE = 0x08
_GZIP = b"\x1f\x8b"
_MAX_EXPANSION = 1032  # decompressed bytes for each byte of a gzip file, at most
_CHUNK_BYTES = 1 << 20


def find_file(folder: Path, name: str) -> Path:
    """Return the file `name` in a folder; see `find_idx`. Raises: FileNotFoundError that lists the folder."""
    path = find_idx(folder, name)
    if path is None:
        names = sorted(file.name for file in folder.iterdir())
        content = f"it holds {printable(', '.join(names), 100)}" if names else "it is empty"
        raise FileNotFoundError(f"{folder} holds no {name}.gz and no {name}; {content}")
    return path


def read_idx(path: Path) -> Tensor:
    """Read one IDX file of bytes.

    Returns: uint8, of the shape in its header: (images, height, width) or (labels,).
    Raises: ValueError if the file is broken: not IDX, not bytes, cut short or too long.
    """
    body = bytearray()
    with _opened(path) as (file, size, expansion):
        shape = _shape(path, file, size, expansion)
        expected = math.prod(shape)
        while len(body) < expected and (chunk := file.read(min(_CHUNK_BYTES, expected - len(body)))):
            body += chunk  # grows with the data, not with the size in the header
        has_more = bool(file.read(1))
    if has_more or len(body) < expected:
        actual = "more" if has_more else f"{len(body):,}"
        raise ValueError(f"{path} says it holds {expected:,} bytes of data, but there are {actual}")
    return torch.frombuffer(body, dtype=torch.uint8).reshape(shape) if body else torch.empty(shape, dtype=torch.uint8)


def shape_of(path: Path) -> tuple[int, ...]:
    """Return the shape in the header of an IDX file. Raises: as `read_idx`."""
    with _opened(path) as (file, size, expansion):
        return _shape(path, file, size, expansion)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int, int]]:
    """Yield a file, decompressed while it is read; its size on disk; the most bytes that a stored byte expands to."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        is_gzipped = file.read(2) == _GZIP
        file.seek(0)
        if not is_gzipped:
            yield file, size, 1
            return
        try:
            with gzip.GzipFile(fileobj=file) as decompressed:
                yield decompressed, size, _MAX_EXPANSION  # type: ignore[misc]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged or cut short (gzip: {error}); fetch it again") from None


def _shape(path: Path, file: BinaryIO, size: int, expansion: int) -> tuple[int, ...]:
    prefix = file.read(4)
    sizes = file.read(4 * prefix[3]) if len(prefix) == 4 else b""
    if len(prefix) < 4 or prefix[:2] != b"\0\0" or prefix[2] != _UNSIGNED_BYTE or len(sizes) < 4 * prefix[3]:
        raise ValueError(f"{path} is not an IDX file of bytes, such as MNIST's")
    shape = tuple(int.from_bytes(sizes[at : at + 4], "big") for at in range(0, len(sizes), 4))
    expected, available = math.prod(shape), size if expansion > 1 else size - 4 - len(sizes)
    if expected > available * expansion or (expansion == 1 and expected != available):
        at_most = f"at most {available * expansion:,}" if expansion > 1 else f"{available:,}"
        raise ValueError(f"{path} says it holds {expected:,} bytes of data, but there are {at_most}")
    if math.prod(max(1, length) for length in shape) > MOST_DATA_BYTES:
        raise ValueError(f"{path} has the shape {shape[:8]}; more than {MOST_DATA_BYTES:,} bytes are not read")
    return shape


MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
HASHES = {
    "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
}


class Digits(NamedTuple):
    """Images (n, height, width) and labels (n,), uint8, for training and for the test."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load(source: str | Path) -> Digits:
    """Load the digits.

    Args: source: "sample" (1,000 training and 500 test digits, shipped with the package), "download" (all 70,000,
        stored in a cache), or a folder with the four IDX files, gzipped or not, also in the layout of torchvision or
        Kaggle.
    Raises: FileNotFoundError, ValueError or OSError, whose message says what to do.
    """
    if source == "sample":
        with as_file(files("tracetorch.tasks") / "mnist_sample") as folder:
            return _read(folder)
    if source == "download":
        return _read(fetch())
    source = str(source)
    folder = expanded(source)
    if not source or not _is_folder(folder):
        raise FileNotFoundError(
            f"source={source[:200]}: there is no such folder; give one with the MNIST files, or use source=download or "
            "source=sample"
        )
    return _read(folder)


def fetch(mirrors: tuple[str, ...] = MIRRORS, cache: Path | None = None) -> Path:
    """Download the files that the cache lacks, and check their hashes. Raises: OSError if no mirror has all files."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    folder = cache or Path(pooch.os_cache("tracetorch")) / "mnist"
    reasons = []
    for mirror in mirrors:
        downloader = pooch.create(path=folder, base_url=mirror, registry=HASHES)
        try:
            for name in HASHES:
                downloader.fetch(name)
            return folder
        except (OSError, ValueError) as error:  # no network, or a file that does not match its hash
            reasons.append(f"{mirror}: {type(error).__name__}")
    raise OSError(
        f"source=download: MNIST could not be fetched ({'; '.join(reasons)}); give source=FOLDER with the four files, "
        "or use source=sample"
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # for example, a name that is too long
        return False


def _read(folder: Path) -> Digits:
    parts = []
    for split in ("train", "t10k"):
        paths = [find_file(folder, f"{split}-{name}-ubyte") for name in ("images-idx3", "labels-idx1")]
        image_shape, label_shape = map(shape_of, paths)  # before any decompression
        if len(image_shape) != 3 or label_shape != image_shape[:1] or 0 in image_shape:
            raise ValueError(
                f"{folder}: the {split} images and labels do not belong together, their shapes are "
                f"{image_shape} and {label_shape}"
            )
        images, labels = map(read_idx, paths)
        if int(labels.max()) > 9:
            raise ValueError(
                f"{folder}: the {split} labels must be digits, 0 to 9, but one of them is {int(labels.max())}"
            )
        parts += [images, labels]
    if parts[0].shape[1:] != parts[2].shape[1:]:
        sizes = " and ".join("×".join(map(str, part.shape[1:])) for part in (parts[0], parts[2]))
        raise ValueError(f"{folder}: training and test images differ in size, {sizes} pixels")
    return Digits(*parts)
