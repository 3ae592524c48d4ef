"""Where the digits come from: a folder, a download, or the sample that is shipped in the package."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from tracetorch.files import expanded
from tracetorch.tasks import idx

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
    """Images (n, 28, 28) and labels (n,), uint8, for training and for the test."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load(source: str | Path) -> Digits:
    """Load the digits.

    Args: source: "sample" (1,000 + 500 real digits, shipped), "download" (all 70,000, kept in a cache), or a folder
        with the four IDX files, gzipped or not, also in the layout of torchvision or Kaggle.
    Raises: FileNotFoundError, ValueError or OSError, each with one sentence that says what to do.
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
    """Download what is not in the cache yet, check it against its hash, and say where it is.

    Raises: OSError if no mirror has all files intact.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    folder = cache or Path(pooch.os_cache("tracetorch")) / "mnist"
    reasons = []
    for mirror in mirrors:
        shelf = pooch.create(path=folder, base_url=mirror, registry=HASHES)
        try:
            for name in HASHES:
                shelf.fetch(name)
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
    except OSError:  # such as a name that is too long
        return False


def _read(folder: Path) -> Digits:
    parts = []
    for split in ("train", "t10k"):
        paths = [idx.find(folder, f"{split}-{name}-ubyte") for name in ("images-idx3", "labels-idx1")]
        of_images, of_labels = map(idx.shape_of, paths)  # before anything is unfolded
        if len(of_images) != 3 or of_labels != of_images[:1] or 0 in of_images:
            raise ValueError(
                f"{folder}: the {split} images and labels do not belong together, their shapes are "
                f"{of_images} and {of_labels}"
            )
        images, labels = map(idx.read, paths)
        if int(labels.max()) > 9:
            raise ValueError(
                f"{folder}: the {split} labels must be digits, 0 to 9, but one of them is {int(labels.max())}"
            )
        parts += [images, labels]
    if parts[0].shape[1:] != parts[2].shape[1:]:
        sizes = " and ".join("×".join(map(str, part.shape[1:])) for part in (parts[0], parts[2]))
        raise ValueError(f"{folder}: training and test images differ in size, {sizes} pixels")
    return Digits(*parts)
