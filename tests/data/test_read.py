"""Readers of a user's data: files in their own formats, files that are wrong, and splits."""

import io
import wave
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tracetorch.data import Reading, read
from tracetorch.data.audio import Bands, band_edges, band_powers
from tracetorch.data.split import held_out


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def wav(seconds=0.1, rate=8000, hertz=440.0, width=2):
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        values = 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
        sound.writeframes((values * 32767).astype("<i2").tobytes() if width == 2 else (values * 127 + 128).astype("u1"))
    return file.getvalue()


def archive(path, **files):
    """Write an archive. Args: files: a__1_wav is the file a/1.wav."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(
                name.replace("__", "/").replace("_wav", ".wav").replace("_png", ".png").replace("_bmp", ".bmp"), content
            )
    return path


def png(size=(4, 3), value=200, mode="L"):
    file = io.BytesIO()
    Image.new(mode, size, value).save(file, "PNG")
    return file.getvalue()


class TestArrays:
    def test_series_with_labels_and_fields(self, tmp_path):
        x = np.arange(24.0).reshape(2, 3, 4)
        found = read(save(tmp_path / "a.npz", inputs=x, labels=np.array(["b", "a"]), subject=np.array([1, 2])))
        assert (found.channels, list(found.target), found.fields["subject"].tolist()) == (4, ["b", "a"], [1, 2])
        assert np.array_equal(found.inputs[1], x[1]) and found.inputs[1].dtype == np.float32

    def test_padded_and_joined_samples_of_different_lengths(self, tmp_path):
        x = np.arange(24.0).reshape(2, 3, 4)
        padded = read(save(tmp_path / "a.npz", x=x, y=[0, 1], lengths=[2, 3]))
        joined = read(save(tmp_path / "b.npz", x=x.reshape(6, 4)[:5], y=[0, 1], lengths=[2, 3]))
        for found in (padded, joined):
            assert [len(sample) for sample in found.inputs] == [2, 3]
        assert np.array_equal(joined.inputs[1], x.reshape(6, 4)[2:5])

    def test_inputs_and_targets_in_two_files(self, tmp_path):
        np.save(tmp_path / "x.npy", np.ones((2, 3)))
        np.save(tmp_path / "y.npy", np.array([0.5, 1.5]))
        (tmp_path / "deep").mkdir()
        np.save(tmp_path / "deep" / "x.npy", np.array([2.5, 3.5]))
        for name, target in (("y.npy", [0.5, 1.5]), ("deep/x.npy", [2.5, 3.5]), (tmp_path / "y.npy", [0.5, 1.5])):
            assert list(read(tmp_path / "x.npy", Reading(target=str(name))).target) == target


class TestTables:
    def test_a_row_for_each_sample(self, tmp_path):
        pytest.importorskip("pandas")
        (tmp_path / "a.csv").write_text("age,height,label\n1,2,yes\n3,4,no\n")
        (tmp_path / "b.csv").write_text(";age;height;label\n0;1;2;yes\n1;3;4;no\n")  # with pandas' index
        (tmp_path / "c.TSV").write_text("age\theight\tlabel\n1\t2\tyes\n3\t4\tno\n")
        found = read(tmp_path / "a.csv")
        assert all(np.array_equal(read(tmp_path / name).inputs, found.inputs) for name in ("b.csv", "c.TSV"))
        assert np.array_equal(found.inputs, [[1, 2], [3, 4]]) and list(found.target) == ["yes", "no"]

    def test_a_row_for_each_step_in_any_order(self, tmp_path):
        pytest.importorskip("pandas")
        rows = "sample,time,x,group,label\nb,.1,4,2,no\na,.1,2,1,yes\na,0,1,1,yes\nb,0,3,2,no\n"
        (tmp_path / "a.csv").write_text(rows)
        found = read(tmp_path / "a.csv", Reading(inputs="x"))
        assert [sample.ravel().tolist() for sample in found.inputs] == [[1, 2], [3, 4]]
        assert (list(found.target), found.fields["group"].tolist(), found.dt) == (["yes", "no"], [1, 2], 0.1)
        timed = read(tmp_path / "a.csv", Reading(inputs=("time", "x")))
        assert np.allclose(timed.inputs[1], [[0, 3], [0.1, 4]])

    def test_a_number_that_is_constant_in_each_sample_is_its_target(self, tmp_path):
        pytest.importorskip("pandas")
        (tmp_path / "a.csv").write_text("sample,x,target\na,1,0.5\na,2,0.5\nb,3,0.7\nb,4,0.7\n")
        found = read(tmp_path / "a.csv")
        assert list(found.target) == [0.5, 0.7] and found.target_names == ("target",)

    def test_one_recording_with_a_target_at_each_step(self, tmp_path):
        pytest.importorskip("pandas")
        (tmp_path / "a.csv").write_text("time,x,target\n0,1,\n1,2,5.5\n2,3,6.5\n")
        found = read(tmp_path / "a.csv")
        assert len(found) == 1 and np.array_equal(found.target[0], [np.nan, 5.5, 6.5], equal_nan=True)


class TestSound:
    def test_a_folder_and_an_archive_give_the_same(self, tmp_path):
        content = {f"{digit}_ann_{at}.wav": wav(hertz=200 * (digit + 1)) for digit in range(2) for at in range(2)}
        (tmp_path / "f").mkdir()
        for name, sound in content.items():
            (tmp_path / "f" / name).write_bytes(sound)
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            for name, sound in content.items():
                file.writestr(f"deep/{name}", sound)
        how = Reading(pattern="{label}_{speaker}_{index}.wav")
        folder, zipped = read(tmp_path / "f", how), read(tmp_path / "a.zip", how)
        assert np.array_equal(folder.inputs, zipped.inputs) and folder.inputs.shape == (4, 64, 40)
        assert folder.fields["speaker"].tolist() == ["ann"] * 4 and list(map(int, folder.target)) == [0, 0, 1, 1]

    @pytest.mark.parametrize("scale", ["mel", "gammatone"])
    def test_a_tone_is_in_the_band_of_its_frequency(self, scale):
        rate, time = 8000, np.arange(4000) / 8000
        loudest = [
            band_powers(np.sin(2 * np.pi * hertz * time), rate, Bands(scale=scale)).mean(axis=0).argmax()
            for hertz in (200, 800, 3000)
        ]
        centres = band_edges(scale, 40, rate, Bands().low)[1:-1]
        assert [abs(centres - hertz).argmin() for hertz in (200, 800, 3000)] == pytest.approx(loudest, abs=1)

    def test_a_hop_keeps_the_length_and_another_rate_is_converted(self, tmp_path):
        path = archive(tmp_path / "a.zip", a__1_wav=wav(0.1), a__2_wav=wav(0.2), b__3_wav=wav(0.1, rate=16000))
        found = read(path, Reading(bands=Bands(hop=0.01, sample_rate=8000)))
        assert [len(sample) for sample in found.inputs] == [7, 17, 7]
        assert len(found.frequencies) == 40 and found.frequencies[0] > 50 and found.frequencies[-1] < 4000


class TestImages:
    def test_a_folder_for_each_class(self, tmp_path):
        with zipfile.ZipFile(path := tmp_path / "a.zip", "w") as file:
            file.writestr("cat/1.png", png(value=0))
            file.writestr("dog/1.PNG", png(value=255))
        found = read(path)
        assert list(found.target) == ["cat", "dog"] and found.image == (3, 4)
        assert np.array_equal(found.inputs, [[0] * 12, [1] * 12])

    def test_colours_and_sizes(self, tmp_path):
        path = archive(tmp_path / "a.zip", a__1_png=png((6, 6), (255, 0, 0), "RGB"), b__1_png=png((4, 4)))
        assert read(path, Reading(size=(2, 2), grey=True)).inputs.shape == (2, 4)
        assert read(archive(tmp_path / "b.zip", a__1_png=png((2, 2), (255, 0, 0), "RGB"))).inputs.tolist() == [
            [1, 0, 0] * 4
        ]


# ── data that are wrong ───────────────────────────────────────────────────────────────────────────────────────────────

X = np.ones((4, 3, 2), dtype=np.float32)


def header_that_lies(path):
    """A .npy whose header claims 4 GB."""
    file = io.BytesIO()
    np.save(file, np.zeros(4, dtype=np.float32))
    content = file.getvalue().replace(b"(4,), ", b"(1000000000,), ")
    path.write_bytes(content[:8] + (int.from_bytes(content[8:10], "little") + 9).to_bytes(2, "little") + content[10:])
    return path


def damaged(path):
    """An archive with a compressed file that cannot be decompressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/1.wav", wav())
    path.write_bytes(path.read_bytes()[:50] + b"\x55" * 100 + path.read_bytes()[150:])
    return path


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/1.wav", b"\0" * (300 << 20))
    return path


def with_link(path):
    with zipfile.ZipFile(path, "w") as file:
        entry = zipfile.ZipInfo("a/1.wav")
        entry.external_attr = 0o120777 << 16
        file.writestr(entry, "/etc/passwd")
    return path


PATTERN = Reading(pattern="{label}_{index}.wav")


def csv(text):
    """A function that makes a table in a folder."""
    return lambda folder: (folder / "a.csv").write_text(text) and folder / "a.csv"


def npz(**arrays):
    """A function that makes a file of arrays in a folder."""
    return lambda folder: save(folder / "a.npz", **arrays)


def zipped(**files):
    """A function that makes an archive in a folder."""
    return lambda folder: archive(folder / "a.zip", **files)


WRONG: Any = {
    "no file": (lambda t: t / "none.npz", Reading(), "there is no such file"),
    "a long name": (lambda t: t / ("long" * 99), Reading(), "there is no such file"),
    "another kind": (lambda t: (t / "a.xyz").write_text("x") and t / "a.xyz", Reading(), "wanted: .npz"),
    "a text as .npz": (lambda t: (t / "a.npz").write_text("x") and t / "a.npz", Reading(), "not a .npz file"),
    "empty file": (lambda t: (t / "a.npz").write_bytes(b"") or t / "a.npz", Reading(), "not a .npz file"),
    "no such array": (npz(foo=X, y=[1]), Reading(), "holds foo, y, and none of inputs"),
    "a mistyped array": (npz(x=X, label=[1] * 4), Reading(target="lable"), "no array lable; did you mean label?"),
    "no target": (npz(x=X), Reading(), "none of target"),
    "one dimension": (npz(x=X[0, 0], y=[1, 2]), Reading(), "of shape (2,); wanted"),
    "texts as input": (npz(x=np.array([["a"]]), y=[1]), Reading(), "wanted: numbers"),
    "NaN": (npz(x=X * np.nan, y=[1, 2, 3, 4]), Reading(), "[0, 0, 0] is nan; wanted: finite"),
    "no samples": (npz(x=X[:0], y=[]), Reading(), "is empty"),
    "too few targets": (npz(x=X, y=[1, 2]), Reading(), "holds 4 samples, and y has the shape"),
    "one target": (npz(x=X[0], y=1, lengths=[1, 2]), Reading(), "holds 2 samples, and y has the shape ()"),
    "objects": (npz(x=X, y=np.array([{}] * 4)), Reading(), "Python objects"),
    "wrong lengths": (npz(x=X, y=[1] * 4, lengths=[9] * 4), Reading(), "whole numbers from 1 to 3"),
    "a header that lies": (
        lambda t: header_that_lies(t / "x.npy"),
        Reading(target="x.npy"),
        "says that it holds 4,000,000,000 bytes, and there are 16",
    ),
    "inputs alone": (lambda t: header_that_lies(t / "x.npy"), Reading(), "task.target=NAME.npy"),
    "a table without rows": (csv("x,y\n"), Reading(), "has no rows"),
    "a table without target": (csv("a,b\n1,2\n"), Reading(), "task.target=NAME"),
    "a mistyped column": (
        csv("time,speed\n1,2\n"),
        Reading(target="sped"),
        "did you mean speed?",
    ),
    "a text among numbers": (
        csv("x,y\n1,2\nbad,3\n"),
        Reading(inputs="x"),
        "the column x holds 'bad'; wanted: numbers",
    ),
    "a huge number": (csv(f"x,y\n{10**30},1\n2,2\n"), Reading(inputs="x"), "column x holds 1000000"),
    "one cell that is no number": (csv("x,z,y\n1,2,0\n2,3,1\n?,4,0\n"), Reading(), "line 4, column x holds '?'"),
    "a gap in a table": (csv("x,y\n1,2\n,3\n"), Reading(), "line 3, column x"),
    "a time twice": (
        csv("time,x,y\n0,1,1\n0,2,2\n"),
        Reading(),
        "time=0 occurs twice; if the table holds several samples, give task.sample=NAME",
    ),
    "no pattern": (zipped(a_1_wav=wav()), Reading(), "Give task.pattern"),
    "a pattern that fits nothing": (zipped(a_wav=wav()), PATTERN, "none of 1 files fits"),
    "a pattern without fields": (zipped(a_wav=wav()), Reading(pattern="a.wav"), "a field in braces"),
    "a pattern without label": (
        zipped(a_1_wav=wav()),
        Reading(pattern="{name}_{index}.wav"),
        "has no field {label}; it has name, index",
    ),
    "no sound file": (zipped(a_1_wav=b"RIFFxxxx"), PATTERN, "not a wav file"),
    "no sound": (zipped(a_1_wav=wav(0)), PATTERN, "holds no sound"),
    "mixed rates": (
        zipped(a_1_wav=wav(), a_2_wav=wav(rate=16000)),
        PATTERN,
        "a_1.wav has 8000 samples a second, a_2.wav has 16000: give task.sample_rate=8000",
    ),
    "sound without bands": (
        zipped(a_1_wav=wav()),
        PATTERN._replace(bands=Bands(bands=0)),
        "task.bands must be above 0 and finite, got 0",
    ),
    "sound without steps": (zipped(a_1_wav=wav()), PATTERN._replace(bands=Bands(frames=None)), "give task.hop"),
    "a low rate": (
        zipped(a_1_wav=wav()),
        PATTERN._replace(bands=Bands(sample_rate=80)),
        "a_1.wav has 80 samples a second; wanted: more than 100",
    ),
    "a damaged archive": (lambda t: damaged(t / "a.zip"), Reading(), "a/1.wav is damaged"),
    "a bomb": (lambda t: bomb(t / "a.zip"), Reading(), "larger than 268,435,456 bytes"),
    "a link": (lambda t: with_link(t / "a.zip"), Reading(), "a/1.wav is a link"),
    "an empty archive": (zipped(), Reading(), "holds no file"),
    "a cut archive": (
        lambda t: (t / "a.zip").write_bytes(archive(t / "b.zip", a_1_wav=wav()).read_bytes()[:-30]) and t / "a.zip",
        PATTERN,
        "neither a folder nor a zip archive",
    ),
    "images of two sizes": (
        zipped(a__1_png=png(), b__1_png=png((9, 9))),
        Reading(),
        "a/1.png is 3×4×1, and b/1.png is 9×9×1: give task.size",
    ),
    "images of two endings": (zipped(a__1_png=png(), b__1_bmp=png()), Reading(), "holds 1 .png and 1 .bmp"),
    "no image": (zipped(a__1_png=b"\x89PNG"), Reading(), "a/1.png is not an image"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_data_get_one_sentence_with_the_file(name, tmp_path):
    make, how, sentence = WRONG[name]
    path = make(tmp_path)
    if path.suffix == ".csv":
        pytest.importorskip("pandas")
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        read(path, how)
    message = str(raised.value)
    assert sentence in message and "\n" not in message
    assert path.name in message or "task." in message


# ── splits ────────────────────────────────────────────────────────────────────────────────────────────────────────────

FIELDS = {
    "speaker": np.array(["ann", "bob", "ann", "cy"]),
    "index": np.array([0, 1, 2, 3]),
    "volts": np.array([0.0, 1.0, 1.5, 2.0]),
}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("index<2", [0, 1]),
        ("index>=3", [3]),
        ("speaker=ann", [0, 2]),
        ("speaker!=ann", [1, 3]),
        ("speaker=bob,cy", [1, 3]),
        ("index=01", [1]),
        ("volts!=1,2", [0, 2]),
    ],
)
def test_a_condition_holds_out_what_fits(wanted, expected):
    found = held_out(wanted, FIELDS, np.ones(4, dtype=bool), seed=0, key="task.test")
    assert np.flatnonzero(found).tolist() == expected


def test_a_fraction_is_drawn_by_the_seed_or_taken_from_the_end():
    free = np.ones(100, dtype=bool)
    drawn = [held_out(0.2, {}, free, seed=seed, key="task.test") for seed in (0, 0, 1)]
    assert drawn[0].sum() == 20 and np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert np.flatnonzero(held_out(0.2, {}, free, seed=None, key="task.test")).tolist() == list(range(80, 100))


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("speker=ann", "no field speker, the fields are speaker, index, volts; did you mean speaker?"),
        ("speaker=zoe", "task.test=speaker=zoe holds out no sample: speaker is ann, bob, cy"),
        ("speaker<3", "< compares numbers; speaker is ann, bob, cy"),
        ("index>=0", "holds out all samples"),
        (1.0, "give a fraction below 1"),
        ("most", "give a fraction below 1, such as 0.1, or a condition"),
    ],
)
def test_a_wrong_split_is_refused(wanted, sentence):
    with pytest.raises(ValueError, match=r"task\.test") as raised:
        held_out(wanted, FIELDS, np.ones(4, dtype=bool), seed=0, key="task.test")
    assert sentence in str(raised.value)
