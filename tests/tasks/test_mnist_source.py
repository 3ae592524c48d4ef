"""Fetching MNIST: from a mirror that lives on this machine, so that no test needs a network."""

import gzip
import hashlib
import socket
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from tests.idx_files import NAMES, as_idx
from tracetorch.tasks import mnist_source

DIGITS = mnist_source.Digits(
    torch.arange(3 * 28 * 28).reshape(3, 28, 28).to(torch.uint8),
    torch.tensor([3, 1, 4], dtype=torch.uint8),
    torch.arange(2 * 28 * 28).reshape(2, 28, 28).to(torch.uint8),
    torch.tensor([1, 5], dtype=torch.uint8),
)


class Mirror:
    """A web server on the loopback that hands out a folder and counts what is asked of it."""

    def __init__(self, folder):
        self.asked = asked = []

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=str(folder))

            def log_request(self, *args):
                asked.append(self.path.rpartition("/")[2])

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder with four small gzipped files, whose hashes are the ones that are asked for."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    hashes = {}
    for name, values in zip(NAMES, DIGITS, strict=True):
        content = gzip.compress(as_idx(values), mtime=0)
        (folder / f"{name}.gz").write_bytes(content)
        hashes[f"{name}.gz"] = f"md5:{hashlib.md5(content).hexdigest()}"
    assert set(hashes) == set(mnist_source.HASHES)
    monkeypatch.setattr(mnist_source, "HASHES", hashes)
    return folder


@pytest.fixture
def mirror(shelf):
    server = Mirror(shelf)
    yield server
    server.stop()


@pytest.fixture
def unreachable():
    """An address on the loopback at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"


def test_all_files_are_fetched_once_and_kept(mirror, tmp_path):
    cache = tmp_path / "cache"
    assert mnist_source.fetch((mirror.url,), cache) == cache
    assert all(map(torch.equal, mnist_source.load(str(cache)), DIGITS))
    assert sorted(mirror.asked) == sorted(f"{name}.gz" for name in NAMES)
    mnist_source.fetch((mirror.url,), cache)
    assert len(mirror.asked) == 4


def test_a_full_cache_needs_no_mirror(mirror, unreachable, tmp_path):
    mnist_source.fetch((mirror.url,), tmp_path / "cache")
    assert mnist_source.fetch((unreachable,), tmp_path / "cache") == tmp_path / "cache"


def test_a_damaged_cache_is_mended(mirror, tmp_path):
    cache = mnist_source.fetch((mirror.url,), tmp_path / "cache")
    (cache / f"{NAMES[1]}.gz").write_bytes(b"half a fi")
    mnist_source.fetch((mirror.url,), cache)
    assert mirror.asked.count(f"{NAMES[1]}.gz") == 2
    assert all(map(torch.equal, mnist_source.load(str(cache)), DIGITS))


def test_a_dead_mirror_is_passed_over(mirror, unreachable, tmp_path):
    mnist_source.fetch((unreachable, mirror.url), tmp_path / "cache")
    assert len(mirror.asked) == 4


def test_a_mirror_with_other_files_is_passed_over(shelf, mirror, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in NAMES:
        (other / f"{name}.gz").write_bytes(b"not what you asked for")
    liar = Mirror(other)
    try:
        mnist_source.fetch((liar.url, mirror.url), tmp_path / "cache")
    finally:
        liar.stop()
    assert all(map(torch.equal, mnist_source.load(str(tmp_path / "cache")), DIGITS))


def test_files_that_match_no_hash_are_refused_and_not_kept(shelf, mirror, tmp_path):
    for name in NAMES:
        (shelf / f"{name}.gz").write_bytes(b"not what you asked for")
    with pytest.raises(OSError, match=r"source=download: MNIST could not be fetched \(http.*ValueError\)") as caught:
        mnist_source.fetch((mirror.url,), tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_any_mirror_it_says_what_else_there_is(shelf, unreachable, tmp_path):
    with pytest.raises(OSError, match="give source=FOLDER with the four files, or use source=sample") as caught:
        mnist_source.fetch((unreachable, unreachable), tmp_path / "cache")
    assert str(caught.value).count(unreachable) == 2
    assert "\n" not in str(caught.value)


def test_the_word_download_fetches_into_the_cache_and_loads(mirror, monkeypatch, tmp_path):
    monkeypatch.setattr(mnist_source.fetch, "__defaults__", ((mirror.url,), None))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert all(map(torch.equal, mnist_source.load("download"), DIGITS))
    assert len(mirror.asked) == 4
    assert [str(path.parent.name) for path in tmp_path.rglob("*.gz") if path.parent.name != "shelf"] == ["mnist"] * 4
