"""MNIST: the shipped sample, the order of the digits, folders of IDX files whole and broken."""

import gzip
import os
import shutil
import tracemalloc
from importlib.resources import files

import pytest
import torch

from tests.idx_files import NAMES, as_idx, write_folder
from tracetorch.runs.identity import content_hash
from tracetorch.tasks import MNIST, mnist_source

SAMPLE = files("tracetorch.tasks") / "mnist_sample"


@pytest.fixture
def folder(tmp_path):
    """A copy of the sample's four files, gzipped."""
    return write_folder(tmp_path / "digits", lambda name: (SAMPLE / f"{name}.gz").read_bytes(), suffix=".gz")


# ── the sample ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_sample_has_so_many_of_each_digit():
    digits = mnist_source.load("sample")
    assert digits.train_images.shape == (1000, 28, 28) and digits.test_images.shape == (500, 28, 28)
    assert digits.train_images.dtype == torch.uint8
    assert torch.bincount(digits.train_labels.long()).tolist() == [100] * 10
    assert torch.bincount(digits.test_labels.long()).tolist() == [50] * 10
    assert int(digits.train_images.max()) == 255 and int(digits.train_images.min()) == 0


def test_the_sample_holds_no_digit_twice():
    digits = mnist_source.load("sample")
    images = torch.cat([digits.train_images, digits.test_images]).flatten(1)
    assert len(torch.unique(images, dim=0)) == 1500


# ── order and splits ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pass_covers_every_digit_once_and_the_next_has_another_order_and_new_spikes():
    task = MNIST(batch_size=100, steps=2)
    assert task.batches_per_pass == 10
    batches = [task.train_batch(number) for number in range(20)]
    order = torch.cat([batch.conditions["digit"] for batch in batches])
    first, second = order[:1000], order[1000:]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(1000))
    assert not torch.equal(first, second)
    one, other = (torch.cat([b.xs.dense() for b in batches[start : start + 10]], dim=1) for start in (0, 10))
    assert not torch.equal(one[:, first.argsort()], other[:, second.argsort()])


def test_a_digit_keeps_its_label_and_its_pixels_wherever_it_is_shown():
    digits = mnist_source.load("sample")
    task = MNIST(encoding="constant", steps=1, batch_size=16, max_rate=0.5)
    batch = task.train_batch(5)
    chosen = batch.conditions["digit"]
    assert torch.equal(batch.target, digits.train_labels[chosen].long())
    assert torch.allclose(batch.xs.dense()[0], digits.train_images[chosen].flatten(1) * (0.5 / 255))


def test_a_batch_that_does_not_divide_the_digits_leaves_the_rest_to_another_pass():
    task = MNIST(batch_size=300, steps=1)
    seen = torch.cat([task.train_batch(number).conditions["digit"] for number in range(task.batches_per_pass)])
    assert task.batches_per_pass == 3
    assert len(set(seen.tolist())) == 900


def test_validation_digits_are_the_last_and_are_never_learnt_from():
    task = MNIST(batch_size=50, steps=1, validation_digits=200)
    learnt = torch.cat([task.train_batch(number).conditions["digit"] for number in range(2 * task.batches_per_pass)])
    assert int(learnt.max()) < 800
    labels = torch.cat([batch.target for batch in task.eval_batches("validation")])
    assert torch.equal(labels, mnist_source.load("sample").train_labels[800:].long())


def test_without_validation_digits_there_is_no_validation_and_the_test_is_whole():
    task = MNIST(steps=1)
    assert list(task.eval_batches("validation")) == []
    assert sum(len(batch.target) for batch in task.eval_batches("test")) == 500


# ── folders ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_gzipped_and_plain_files_agree(folder, tmp_path):
    plain = write_folder(tmp_path / "plain", lambda name: gzip.decompress((folder / f"{name}.gz").read_bytes()))
    sample = mnist_source.load("sample")
    for source in (folder, plain):
        assert all(map(torch.equal, mnist_source.load(str(source)), sample))


@pytest.mark.parametrize(
    "layout",
    [
        "MNIST/raw/{name}",  # torchvision's
        "{dotted}",  # Kaggle's, which has each file a second time in a folder of its own
        "{name}/{name}",
        "{dotted}/{dotted}",
    ],
)
def test_the_layouts_of_torchvision_and_kaggle_are_read_and_counted_as_the_same_data(folder, tmp_path, layout):
    other, plain = tmp_path / "other", tmp_path / "plain"
    write_folder(plain, lambda name: gzip.decompress((folder / f"{name}.gz").read_bytes()))
    for name in NAMES:
        path = other / layout.format(name=name, dotted=name.replace("-idx", ".idx"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((plain / name).read_bytes())
    assert all(map(torch.equal, mnist_source.load(other), mnist_source.load("sample")))
    assert content_hash(str(other)) == content_hash(str(plain)) is not None


def test_a_folder_of_other_files_is_told_with_what_it_holds(tmp_path):
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"and no train-images-idx3-ubyte; it holds test\.csv, train\.csv$"):
        mnist_source.load(str(tmp_path))


def test_a_home_folder_may_be_written_with_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(mnist_source.load("~/digits").train_labels) == 1000


def broken_cases():
    """How to break a folder; what is said then; which exception."""
    images, labels = (f"{name}.gz" for name in NAMES[:2])
    half = lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # noqa: E731
    unzip = lambda path: path.write_bytes(gzip.decompress(path.read_bytes()))  # noqa: E731
    return {
        "gzip-cut": (lambda f: half(f / images), f"{images} is damaged or cut short .*; fetch it again", ValueError),
        "plain-cut": (
            lambda f: (unzip(f / images), half(f / images)),
            rf"{images} says it holds 784,000 bytes of data, but there are 39\d,\d\d\d$",
            ValueError,
        ),
        "gzip-bit-flipped": (
            lambda f: (f / labels).write_bytes((f / labels).read_bytes()[:-8] + bytes(8)),
            f"{labels} is damaged or cut short",
            ValueError,
        ),
        "too-long": (
            lambda f: (unzip(f / labels), (f / labels).write_bytes((f / labels).read_bytes() + b"\0\0")),
            "says it holds 1,000 bytes of data, but there are 1,002$",
            ValueError,
        ),
        "empty-file": (lambda f: (f / labels).write_bytes(b""), "is not an IDX file of bytes", ValueError),
        "wrong-magic": (lambda f: (f / images).write_bytes(b"PK\3\4" * 9), "is not an IDX file of bytes", ValueError),
        "not-bytes": (lambda f: (f / labels).write_bytes(b"\0\0\x0d\1\0\0\0\1\0\0\0\0"), "not an IDX file", ValueError),
        "no-digits": (
            lambda f: [
                (f / f"{n}.gz").write_bytes(as_idx(torch.zeros(s, dtype=torch.uint8)))
                for n, s in zip(NAMES[:2], ((0, 28, 28), (0,)), strict=True)
            ],
            "do not belong together|no digits|is empty|holds 0",
            ValueError,
        ),
        "mismatch": (
            lambda f: shutil.copy(f / f"{NAMES[3]}.gz", f / labels),
            r"the train images and labels do not belong together, their shapes are \(1000, 28, 28\) and \(500,\)",
            ValueError,
        ),
        "test-of-another-size": (
            lambda f: (f / f"{NAMES[2]}.gz").write_bytes(as_idx(torch.zeros(500, 32, 32, dtype=torch.uint8))),
            "size|belong together|32",
            ValueError,
        ),
        "label-above-nine": (
            lambda f: (f / labels).write_bytes(as_idx(torch.full((1000,), 12, dtype=torch.uint8))),
            "label.*12|12.*label",
            ValueError,
        ),
        "missing-file": (
            lambda f: (f / labels).unlink(),
            "holds no train-labels-idx1-ubyte.gz and no train-labels-idx1-ubyte",
            FileNotFoundError,
        ),
        "missing-folder": (
            shutil.rmtree,
            "there is no such folder; give one with the MNIST files, or use source=download or source=sample",
            FileNotFoundError,
        ),
    }


@pytest.mark.parametrize("case", broken_cases())
def test_a_broken_folder_is_told_in_one_sentence_that_names_it(folder, case):
    break_it, phrase, kind = broken_cases()[case]
    break_it(folder)
    with pytest.raises(kind, match=phrase) as caught:
        MNIST(source=str(folder))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_an_idx_file_is_read_into_the_shape_that_it_says(tmp_path):
    expected = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    (tmp_path / "some").write_bytes(as_idx(expected))
    assert torch.equal(mnist_source.read_idx(tmp_path / "some"), expected)
    assert mnist_source.find_file(tmp_path, "some") == tmp_path / "some"


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


def test_no_pipe_in_place_of_a_file_is_waited_for(folder):
    (folder / f"{NAMES[0]}.gz").unlink()
    os.mkfifo(folder / f"{NAMES[0]}.gz")
    with pytest.raises(FileNotFoundError, match="holds no train-images"):
        MNIST(source=str(folder))
    with pytest.raises(ValueError, match="is not a regular file"):
        mnist_source.read_idx(folder / f"{NAMES[0]}.gz")


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "phrase"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 1001}, "batch_size is at most the 1,000 training digits, got 1001"),
        ({"batch_size": 900, "validation_digits": 200}, "batch_size is at most the 800 training digits"),
        ({"max_rate": 0.0}, "max_rate must be above 0 and at most 1 spike per step, got 0"),
        ({"max_rate": 1.1}, "max_rate must be above 0"),
        ({"max_rate": float("nan")}, "max_rate must be above 0"),
        ({"validation_digits": -1}, "validation_digits must leave some of the 1,000 training digits, got -1"),
        ({"validation_digits": 1000}, "validation_digits must leave some"),
        ({"encoding": "poison"}, "encoding must be one of poisson, latency, constant, got 'poison'"),
    ],
    ids=str,
)
def test_values_that_make_no_task_are_refused(given, phrase):
    with pytest.raises(ValueError, match=phrase):
        MNIST(**given)
