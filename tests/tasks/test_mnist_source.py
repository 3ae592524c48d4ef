"""Sources of the digits: the sample, folders of IDX files whole and broken, a mirror on this machine."""

import gzip
import hashlib
import os
import threading
import tracemalloc
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

import pytest
import torch

from tests.idx_files import NAMES, as_idx, write_folder
from tracetorch.runs.identity import content_hash
from tracetorch.tasks import MNIST, mnist_source

SAMPLE = {name: (files("tracetorch.tasks") / "mnist_sample" / f"{name}.gz").read_bytes() for name in NAMES}
unzip = gzip.decompress


@pytest.fixture
def folder(tmp_path):
    """A copy of the sample's four files, gzipped."""
    return write_folder(tmp_path / "digits", SAMPLE.get, suffix=".gz")


def test_the_sample_has_equal_numbers_of_each_digit_and_no_image_twice():
    digits = mnist_source.load("sample")
    assert torch.bincount(digits.train_labels.long()).tolist() == [100] * 10
    assert torch.bincount(digits.test_labels.long()).tolist() == [50] * 10
    images = torch.cat([digits.train_images, digits.test_images])
    assert torch.unique(images, dim=0).shape == (1500, 28, 28) and (images.dtype, images.max()) == (torch.uint8, 255)


@pytest.mark.parametrize(
    "layout", ["MNIST/raw/{name}", "{dotted}", "{name}/{name}", "{dotted}/{dotted}"]
)  # torchvision's layout, and Kaggle's, where each file also lies in a folder of its own name
def test_all_layouts_of_a_folder_are_the_same_data(folder, tmp_path, monkeypatch, layout):
    plain = write_folder(tmp_path / "plain", lambda name: unzip(SAMPLE[name]))
    for name in NAMES:
        path = tmp_path / "other" / layout.format(name=name, dotted=name.replace("-idx", ".idx"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((plain / name).read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in (str(folder), "~/plain", tmp_path / "other"):
        assert all(map(torch.equal, mnist_source.load(source), mnist_source.load("sample")))
    assert content_hash(str(tmp_path / "other")) == content_hash(str(plain)) is not None


def idx(*shape, value=0):
    return lambda _: as_idx(torch.full(shape, value, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({0: lambda old: old[: len(old) // 2]}, "images-idx3-ubyte.gz is damaged or cut short .*; fetch it again"),
        ({0: lambda old: unzip(old)[:-9]}, r"images-idx3-ubyte.gz says it holds 784,000 bytes of .*there are 783,991$"),
        ({1: lambda old: old[:-8] + bytes(8)}, "train-labels-idx1-ubyte.gz is damaged or cut short"),
        ({1: lambda old: unzip(old) + b"\0\0"}, "says it holds 1,000 bytes of data, but there are 1,002$"),
        ({1: lambda old: gzip.compress(unzip(old) + b"\0")}, "says it holds 1,000 bytes of data, but there are more$"),
        ({1: lambda old: b""}, "train-labels-idx1-ubyte.gz is not an IDX file of bytes"),
        ({0: lambda old: b"PK\3\4" * 9}, "is not an IDX file of bytes, such as MNIST's"),
        ({1: lambda old: b"\0\0\x0d\1\0\0\0\1\0\0\0\0"}, "is not an IDX file of bytes"),
        ({0: idx(0, 28, 28), 1: idx(0)}, r"do not belong together, their shapes are \(0, 28, 28\) and \(0,\)"),
        ({1: idx(500)}, r"the train images and labels do not .*, their shapes are \(1000, 28, 28\) and \(500,\)"),
        ({2: idx(500, 32, 32)}, "training and test images differ in size, 28×28 and 32×32 pixels"),
        ({3: idx(500, value=12)}, "the t10k labels must be digits, 0 to 9, but one of them is 12"),
    ],
)
def test_a_broken_folder_gives_a_one_line_error_with_its_name(folder, changes, phrase):
    for number, change in changes.items():
        path = folder / f"{NAMES[number]}.gz"
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=phrase) as caught:
        MNIST(source=str(folder))
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_a_missing_file_is_named_with_the_files_of_the_folder(folder, tmp_path):
    images = folder / f"{NAMES[0]}.gz"
    images.rename(folder / "train.csv")
    none = "holds no train-images-idx3-ubyte.gz and no train-images-idx3-ubyte; it"
    with pytest.raises(FileNotFoundError, match=f"^{folder} {none} holds t10k.*gz, train-labels-.*gz, train.csv$"):
        MNIST(source=str(folder))
    os.mkfifo(images)  # a pipe without a writer: reading it would not end
    with pytest.raises(FileNotFoundError, match=f"^{folder} {none} holds"):
        MNIST(source=str(folder))
    with pytest.raises(ValueError, match="is not a regular file"):
        mnist_source.read_idx(images)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path}/empty {none} is empty$"):
        MNIST(source=str(tmp_path / "empty"))
    for source in ("", "nowhere", "long" * 999):
        with pytest.raises(FileNotFoundError, match=f"^source={source[:200]}: there is no such folder; give one with"):
            MNIST(source=source)


@pytest.mark.parametrize(
    ("shape", "body", "phrase"),
    [
        ((10, 28, 28), 50 << 20, "says it holds 7,840 bytes of data, but there are more"),
        ((60_000, 28, 28), 7840, r"says it holds 47,040,000 bytes of data, but there are at most \d"),
        ((281, 28), 7840, "says it holds 7,868 bytes of data, but there are 7,840"),
        ((0, *[2**32 - 1] * 40), 0, "more than 2,147,483,648 bytes are not read"),
    ],
)
def test_memory_is_bounded_by_what_a_file_holds(tmp_path, shape, body, phrase):
    header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(header + bytes(body)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=phrase):
            mnist_source.read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@contextmanager
def mirror(folder):
    """Serve a folder over HTTP on the loopback, and yield the address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def mirror_address(folder, monkeypatch):
    """The address of a mirror with the sample's files, whose hashes replace those of MNIST."""
    hashes = {f"{name}.gz": f"md5:{hashlib.md5(content).hexdigest()}" for name, content in SAMPLE.items()}
    assert set(hashes) == set(mnist_source.HASHES)
    monkeypatch.setattr(mnist_source, "HASHES", hashes)
    with mirror(folder) as address:
        yield address


UNREACHABLE = "http://127.0.0.1:1/"  # nothing listens on this port


def test_files_are_fetched_once_past_bad_mirrors_and_damaged_ones_again(mirror_address, tmp_path, monkeypatch):
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    with mirror(write_folder(tmp_path / "other", lambda name: b"not what you asked for", ".gz")) as wrong_mirror:
        monkeypatch.setattr(mnist_source.fetch, "__defaults__", ((UNREACHABLE, wrong_mirror, mirror_address), None))
        assert all(map(torch.equal, mnist_source.load("download"), mnist_source.load("sample")))
    cache = mnist_source.fetch((UNREACHABLE,))  # the cache has all files
    assert cache.name == "mnist" and tmp_path / "home" in cache.parents
    (cache / f"{NAMES[1]}.gz").write_bytes(b"half a fi")
    assert mnist_source.fetch((mirror_address,), cache) == cache
    assert all(map(torch.equal, mnist_source.load(cache), mnist_source.load("sample")))


def test_files_that_match_no_hash_are_refused_and_not_kept(mirror_address, folder, tmp_path):
    (folder / f"{NAMES[0]}.gz").write_bytes(b"not what you asked for")
    reasons = rf"\({UNREACHABLE}: ConnectionError; {mirror_address}: ValueError\)"
    what = "give source=FOLDER with the four files, or use source=sample"
    with pytest.raises(OSError, match=f"^source=download: MNIST could not be fetched {reasons}; {what}$"):
        mnist_source.fetch((UNREACHABLE, mirror_address), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
