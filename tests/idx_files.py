"""IDX files for tests: real ones copied, made-up ones written."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def as_idx(values: Tensor) -> bytes:
    """A uint8 tensor as the bytes of an IDX file, not gzipped."""
    shape = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + shape + bytes(values.flatten().tolist())


def write_folder(folder: Path, content: Callable[[str], bytes], suffix: str = "") -> Path:
    """Write the four files of MNIST into a new folder."""
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}{suffix}").write_bytes(content(name))
    return folder
