"""Readers of events: files in their own formats, batches, a training, a download, and files that are refused."""

import io
import os
import re
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import ran
from tests.data.event_files import (
    HEADER,
    bin_bytes,
    cut_gesture_folder,
    gesture_folder,
    nmnist_folder,
    packet,
    shd_folder,
    write_shd,
)
from tracetorch import data, tasks
from tracetorch.data.event_formats import decode_aedat, decode_bin
from tracetorch.data.events import EventReading
from tracetorch.data.read import Reading
from tracetorch.tasks.event_recordings import SHD, Download, Source
from tracetorch.tasks.file import File, suggest

h5py = pytest.importorskip("h5py", reason="the extra data is not installed")


def reading(**how):
    return Reading(events=EventReading(**how))


# ── formats ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_shd_has_its_channels_times_of_half_precision_names_and_speakers(here):
    path = write_shd(
        here / "a.h5", [[0.25, 0.5], [0.125]], [[699, 3], [0]], [1, 0], keys=["zero", "eins"], speaker=[4, 5]
    )
    samples = data.read(path)
    assert samples.channels == 700 and samples.target == ["eins", "zero"]
    assert samples.fields["speaker"].tolist() == [4, 5] and samples.fields["label"].tolist() == [1, 0]
    first = samples.inputs[0]
    assert first.times.tolist() == [0.25, 0.5] and first.channels.tolist() == [699, 3]
    assert first.times.itemsize + first.channels.itemsize == 6


def test_hdf5_without_names_has_the_channels_that_occur_and_compressed_lists_are_read(here):
    with h5py.File(here / "a.h5", "w") as file:
        for name, kind, rows in (("times", np.float64, [[0.1], [0.2, 0.3]]), ("units", np.int64, [[1], [4, 2]])):
            made = {"chunks": (1,), "compression": "gzip"}
            column = file.create_dataset(f"spikes/{name}", (2,), dtype=h5py.vlen_dtype(kind), **made)
            for at, row in enumerate(rows):
                column[at] = np.array(row, kind)
        file["labels"] = [0, 1]
    samples = data.read(here / "a.h5")
    assert samples.channels == 5 and samples.inputs[1].channels.tolist() == [4, 2] and samples.target == [0, 1]


def test_a_bin_file_is_five_bytes_an_event_and_the_row_240_adds_to_the_clock(here):
    events = [(5, 33, 1, 1), (70_000, 2, 33, 0), (8_000_000, 0, 240, 0), (9, 7, 8, 1)]
    found = decode_bin(bin_bytes(events), "a")
    assert found.times.tolist() == [5, 70_000, 9 + (1 << 13)]
    assert (found.x.tolist(), found.y.tolist(), found.polarity.tolist()) == ([33, 2, 7], [1, 33, 8], [1, 0, 1])


def test_nmnist_from_a_folder_and_from_archives_has_its_split(here):
    nmnist_folder(here / "digits")
    for name, root in (("Train", "digits"), ("Test", "digits")):
        (here / "zips").mkdir(exist_ok=True)
        shutil.make_archive(str(here / "zips" / name), "zip", root, name)
    shutil.make_archive("all", "zip", "digits")
    found = [File(path=path, validation=0) for path in ("digits", "zips", "all.zip")]
    for task in found:
        assert task.input_size == 34 * 34 * 2 and task.target.classes == ("0", "1")
        assert [len(task.splits[name]) for name in ("train", "test")] == [12, 6]
        assert (task.train_batch(0).xs.dense() == found[0].train_batch(0).xs.dense()).all()


def test_an_aedat_file_gives_valid_polarity_events_with_their_overflow(here):
    content = HEADER + packet([(7, 127, 3, 1)]) + packet([(1, 2, 3, 0)], kind=2) + packet([(9, 5, 6, 0)], overflow=1)
    content += packet([(11, 1, 1, 1, False), (12, 1, 2, 1)])
    found = decode_aedat(content, "a")
    assert found.times.tolist() == [7, (1 << 31) + 9, 12]
    assert (found.x.tolist(), found.y.tolist(), found.polarity.tolist()) == ([127, 5, 1], [3, 6, 2], [1, 0, 1])


def test_gestures_are_cut_by_their_labels_and_split_by_their_lists(here):
    gesture_folder(here / "dvs")
    task = tasks.dvs_gesture(source="dvs", validation=0)
    samples = task.samples
    assert [len(each.times) for each in samples.inputs] == [60] * 8 and task.input_size == 32 * 32 * 2
    assert all(each.times.max() < 0.4 for each in samples.inputs)
    assert samples.target[:2] == ["hand clapping", "right hand wave"]
    assert samples.fields["user"][task.splits["test"]].tolist() == [2] * 4
    assert [len(part) for part in File(path="dvs", test="user=1", validation=0).splits.values()] == [4, 0, 4]
    (here / "dvs" / "trials_to_test.txt").unlink()
    assert "split" not in data.read("dvs").fields


def test_gestures_that_are_cut_already(here):
    task = tasks.dvs_gesture(source=str(cut_gesture_folder(here / "cut")), validation=0)
    assert [len(task.splits[name]) for name in ("train", "test")] == [6, 4] and task.steps <= 25
    assert task.target.classes == ("hand clapping", "right hand wave")


@pytest.mark.parametrize("names", [("t", "x", "y", "p"), ("timestamps", "xs", "ys", "polarity"), "structured"])
def test_npz_recordings_by_the_names_of_their_columns_sorted_by_time(here, names):
    columns = [np.array([300, 100, 200]), np.array([0, 1, 2]), np.array([5, 4, 3]), np.array([1, -1, 1])]
    for label in ("a", "b"):
        (here / "events" / label).mkdir(parents=True)
        if names == "structured":
            table = np.rec.fromarrays(columns, names="t,x,y,p")
            np.savez(here / "events" / label / "0.npz", events=table)
        else:
            np.savez(here / "events" / label / "0.npz", **dict(zip(names, columns, strict=True)))
    samples = data.read("events")
    assert samples.target == ["a", "b"] and samples.channels == 2 * 6 * 3 and samples.remark
    assert np.allclose(samples.inputs[0].times, [1e-4, 2e-4, 3e-4])
    pixels = np.unravel_index(samples.inputs[0].channels, (2, 6, 3))
    assert [part.tolist() for part in pixels] == [[0, 1, 1], [4, 3, 5], [1, 2, 0]]


def test_one_npz_with_the_events_of_all_samples(here):
    lengths, labels, group = np.array([2, 0, 1]), np.array(["a", "b", "b"]), np.array([1, 2, 3])
    arrays = {"times": [0.1, 0.2, 0.5], "units": [3, 4, 0], "lengths": lengths, "labels": labels, "group": group}
    np.savez("a.npz", **arrays)
    with pytest.raises(ValueError, match="sample 1 holds no events"):
        data.read("a.npz")
    np.savez("a.npz", **arrays | {"lengths": np.array([1, 1, 1])})
    samples = data.read("a.npz")
    assert samples.channels == 5 and samples.target == ["a", "b", "b"] and samples.fields["group"].tolist() == [1, 2, 3]
    assert data.read("a.npz", reading(channels=9)).channels == 9


def test_an_npz_of_values_may_have_a_field_time(here):
    np.savez("a.npz", inputs=np.ones((2, 3, 1)), lengths=[3, 2], labels=[0, 1], time=[10, 20])
    assert data.read("a.npz").fields["time"].tolist() == [10, 20]


def test_times_are_cut_moved_and_have_a_unit(here):
    np.savez("a.npz", t=[500, 1500, 2500], i=[0, 1, 2], lengths=[2, 1], label=[0, 1])
    first = data.read("a.npz", reading(time_unit=1e-3, from_first=True, max_time=0.9)).inputs[0]
    assert first.times.tolist() == [0]
    assert data.read("a.npz").inputs[1].times.tolist() == pytest.approx([0.0025]) and not data.read("a.npz").remark
    np.savez("a.npz", t=[1500, 1900, 2500, 2600], i=[0, 1, 2, 0], lengths=[2, 2], label=[0, 1])
    assert "task.from_first=true" in data.read("a.npz").remark


# ── batches ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _counted(path):
    """A task of five samples: the first with two events in one step, the second shorter."""
    times, units = [0.0, 0.001, 0.001, 0.0029999999, 0.003, 0.0, 0.001], [0, 2, 2, 1, 1, 0, 1]
    arrays = {"t": [*times, 0, 0, 0], "i": [*units, 0, 0, 0], "lengths": [5, 2, 1, 1, 1], "labels": [0, 1, 0, 1, 0]}
    np.savez(path, **arrays, sample=range(5))
    return File(path=path, dt=0.001, test="sample=4", validation=0, batch_size=2)


def test_a_batch_counts_events_in_steps_ends_together_and_is_the_same_in_chunks(here):
    task = _counted("a.npz")
    xs = task._events(np.array([0, 1]), 4, None)
    dense = xs.dense()
    assert dense[:, 0].tolist() == [[1, 0, 0], [0, 0, 2], [0, 0, 0], [0, 2, 0]]
    assert dense[:, 1].tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]]
    for size in (1, 3):
        assert [step.tolist() for part in xs.chunks(size) for step in part] == dense.tolist()
    assert task._batch(np.array([0, 1]), 0).counted.sum(dim=0).tolist() == [4, 2]


def test_augmented_events_are_shifted_and_those_outside_are_dropped(here):
    task = _counted("a.npz")
    task.augment_steps = task.augment_channels = 1
    task.max_rate = 0.5
    plain = task._events(np.array([0]), 4, None).dense()[:, 0]
    found = {}
    for seed in range(80):
        moved = task._events(np.array([0]), 4, np.random.default_rng(seed)).dense()[:, 0]
        random = np.random.default_rng(seed)
        steps, channels = (int(random.integers(-1, 2, 1)[0]) for _ in range(2))
        wanted = np.zeros((4, 3))
        for step, channel in np.argwhere(plain.numpy()):
            if 0 <= step + steps < 4 and 0 <= channel + channels < 3:
                wanted[step + steps, channel + channels] = plain[step, channel]
        assert moved.tolist() == wanted.tolist()
        found[steps, channels] = True
    assert len(found) == 9 and plain.max() == 1


@pytest.mark.parametrize(("longest", "dt"), [(0.2, 0.002), (0.21, 0.005), (0.5, 0.005), (0.51, 0.01), (90.0, 1.0)])
def test_a_step_is_chosen_so_that_the_longest_sample_has_about_40_to_100(here, longest, dt):
    np.savez("a.npz", t=[longest] * 5, i=[0, 1] * 2 + [0], lengths=[1] * 5, label=[0, 1] * 2 + [0])
    task = File(path="a.npz", validation=0)
    assert task.dt == dt and 40 <= task.steps <= 101


def test_a_chosen_step_is_printed_and_a_given_one_is_not(here):
    shd_folder(here / "shd")
    task = File(path="shd", validation=0)
    assert [each.value for each in suggest(task, "Trace", [8]) if each.key == "task.dt"] == ["0.005"]
    assert not [each for each in suggest(File(path="shd", dt=0.01), "Trace", [8]) if each.key == "task.dt"]


def test_a_network_learns_from_events_with_nothing_else_set(here):
    shd_folder(here / "shd", train=24, test=8)
    ended = ran("run", "task=file", "task.path=shd", "network.hidden=[8]", "train.passes=10", "train.figures=false")
    assert "task.dt=0.005" in ended.stdout + ended.stderr
    assert re.search(r"accuracy +1(\.0+)?\b", ended.stdout), ended.stdout


# ── downloads ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_download_is_checked_and_unpacked(here):
    import hashlib

    shd_folder(here / "from")
    for name in ("train", "test"):
        with zipfile.ZipFile(here / f"{name}.zip", "w") as archive:
            archive.write(here / "from" / f"shd_{name}.h5", f"shd_{name}.h5")
    # A file in the cache that matches its hash is not fetched, so that nothing needs a server.
    (here / "cache").mkdir()
    archives = []
    for name in ("train", "test"):
        content = (here / f"{name}.zip").read_bytes()
        (here / "cache" / f"shd_{name}.h5.zip").write_bytes(content)
        archives.append(Download(f"shd_{name}.h5.zip", "https://127.0.0.1:9/x", hashlib.md5(content).hexdigest(), "."))
    source = Source("shd", tuple(archives), "shd_train.h5")
    assert len(File(path=str(source.fetch(here / "cache"))).splits["test"]) == 6
    (here / "cache" / "shd_test.h5.zip").write_bytes(b"something else")
    with pytest.raises(OSError, match=r"could not be fetched.* give source=FOLDER with shd_train.h5"):
        source.fetch(here / "cache")
    for name in ("nowhere", "long" * 99):
        with pytest.raises(FileNotFoundError, match="there is no such folder; give one with shd_train"):
            SHD.find(name)


# ── hostile files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _joined(**changes):
    arrays = {"times": np.array([0.1, 0.2]), "units": np.array([0, 1]), "lengths": [1, 1], "labels": [0, 1]}
    np.savez("a.npz", **arrays | changes)
    return "a.npz"


def _digit(content, name="Train/0/1.bin"):
    (path := Path("d", name)).parent.mkdir(parents=True)
    path.write_bytes(content)
    return "d"


def _gesture(content=None, labels="class,startTime_usec,endTime_usec\n1,0,10\n"):
    Path("d").mkdir()
    Path("d/user01_led.aedat").write_bytes(HEADER + packet([(5, 1, 1, 1)]) if content is None else content)
    Path("d/user01_led_labels.csv").write_text(labels)
    return "d"


def _heidelberg(change=None, **changes):
    times = changes.pop("times", [[0.1], [0.2]])
    path = write_shd("a.h5", times, changes.pop("units", [[0], [1]]), changes.pop("labels", [0, 1]), **changes)
    if change:
        with h5py.File(path, "r+") as file:
            change(file)
    return path


def _half(file):
    del file["labels"]
    file["labels"] = [0.0, 0.5]


def _linked(file):
    del file["spikes/times"]
    file["spikes/times"] = h5py.ExternalLink("b.h5", "/spikes/times")


def _outside(file):
    del file["labels"]
    file.create_dataset("labels", (2,), dtype="u2", external=[("/etc/passwd", 0, 4)])


def _huge(file):
    del file["labels"]
    file.create_dataset("labels", (1 << 40,), dtype="u2", chunks=(1 << 10,))


def _lying():
    """A list of the file says that it is 4 GB long: a reference is its length, its address, and an index."""
    path = Path(_heidelberg(times=[[0.1] * 3] * 2, units=[[1] * 3] * 2))
    content = bytearray(path.read_bytes())
    reference = struct.pack("<IQ", 3, content.find(b"GCOL"))
    at = content.find(reference)
    content[at : at + 4] = b"\xf0\xff\xff\xff"
    path.write_bytes(content)
    return path


def _shared():
    """A list of the file says that it has three numbers, those of its neighbour."""
    path = Path(_heidelberg(times=[[0.1] * 2] * 2, units=[[1] * 3] * 2, dtype=np.float64))
    content = bytearray(path.read_bytes())
    at = content.find(struct.pack("<IQ", 2, content.find(b"GCOL")))
    content[at] = 3
    path.write_bytes(content)
    return path


def _endless():
    """An object of the heap has no bytes: walking to the next one, HDF5 does not come to an end."""
    path = Path(_heidelberg())
    content = bytearray(path.read_bytes())
    at = content.find(b"GCOL") + 24
    content[at : at + 8] = bytes(8)
    path.write_bytes(content)
    return path


def _bomb():
    Path("d/0").mkdir(parents=True)
    with zipfile.ZipFile("d/0/1.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("t.npy", "w") as file:
        for _ in range(257):
            file.write(bytes(1 << 20))
    return "d"


def _link_in_zip():
    with zipfile.ZipFile("a.zip", "w") as archive:
        entry = zipfile.ZipInfo("Train/0/1.bin")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    return "a.zip"


def _pipe():
    os.mkfifo("a.h5")
    return "a.h5"


def _cut():
    path = Path(_heidelberg())
    path.write_bytes(path.read_bytes()[:900])
    return path


def _empty():
    Path("a.h5").touch()
    return "a.h5"


HOSTILE = {
    "times of another kind": (lambda: _joined(times=np.array(["a", "b"])), "its time is <U1"),
    "negative times": (lambda: _joined(times=np.array([-0.1, 0.2])), "sample 0 has an event at -0.1 s; wanted"),
    "no numbers as times": (lambda: _joined(times=np.array([np.nan, 0.2])), "at the time nan; wanted: finite"),
    "times in another unit": (lambda: _joined(times=np.array([0.1, 3e6])), "lasts 3,000,000 s; give the unit"),
    "half a channel": (lambda: _joined(units=np.array([0, 1.5])), "channel holds 1.5; wanted: whole numbers"),
    "channel below 0": (lambda: _joined(units=np.array([0, -1])), "channel holds -1; wanted: whole numbers from 0"),
    "too many channels": (lambda: _joined(units=np.array([0, 1 << 30])), "1,073,741,825 channels; more than"),
    "lengths that lie": (lambda: _joined(lengths=[1, 2]), "add up to 3 events"),
    "lengths that overflow": (lambda: _joined(lengths=np.array([1 << 62] * 4)), "add up to"),
    "lengths below 0": (lambda: _joined(lengths=[3, -1]), "lengths is int64"),
    "labels of other samples": (lambda: _joined(labels=[0, 1, 2]), "holds 2 samples, and labels of shape"),
    "fewer channels than times": (lambda: _joined(units=np.array([0])), r"units has the shape \(1,\)"),
    "an empty sample": (lambda: _joined(lengths=[2, 0]), "sample 1 holds no events"),
    "polarity 3": (lambda: _joined(x=[0, 1], y=[0, 1], p=[0, 3]), "has the polarity 3; wanted: 0 and 1"),
    "pixel too far": (lambda: _joined(x=[0, 40_000], y=[0, 1]), "x=40000, and the sensor has 32768×32768"),
    "a cut .bin": (lambda: _digit(bytes(7)), "Train/0/1.bin has 7 bytes; wanted: 5 for each event"),
    "an empty .bin": (lambda: _digit(b""), "1.bin holds no events"),
    "a .bin of a larger sensor": (lambda: _digit(bin_bytes([(1, 34, 0, 1)])), "x=34, and the sensor has 34×34"),
    "a damaged .npz": (lambda: _digit(b"PK", "0/1.npz"), "1.npz is not a .npz file that can be read"),
    "a .npz with one number": (lambda: _digit(_npz(t=[1], x=3, y=2), "0/1.npz"), r"its x is int64 of shape \(\)"),
    "a .npz without times": (lambda: _digit(_npz(x=[1]), "0/1.npz"), "holds x; wanted: the times of events as t"),
    "a .npz without channels": (lambda: _digit(_npz(t=[1]), "0/1.npz"), "holds t; wanted: besides the times, x, y"),
    "objects": (lambda: _digit(_npz(t=np.array([{}, None])), "0/1.npz"), "Python objects, which could run code"),
    "a bomb": (_bomb, "says that it holds 269,484,032 bytes; more than"),
    "a link in an archive": (_link_in_zip, "1.bin is a link"),
    "another version": (lambda: _gesture(b"#!AER-DAT2.0\r\n"), "begins with '#!AER-DAT2.0'; wanted: an AEDAT 3.1"),
    "a header without an end": (lambda: _gesture(b"#!AER-DAT3.1 "), "its header does not end"),
    "a cut packet": (lambda: _gesture((HEADER + packet([(5, 1, 1, 1)]))[:-3]), "8 bytes, and 5 bytes are left"),
    "a packet of 17 GB": (
        lambda: _gesture(HEADER + packet([(5, 1, 1, 1)], capacity=(1 << 31) - 1)),
        "1 of 2,147,483,647 events of 8 bytes, and 8 bytes are left",
    ),
    "a negative packet": (lambda: _gesture(HEADER + packet([], capacity=-9)), "0 of -9 events"),
    "a packet of size 0": (lambda: _gesture(HEADER + packet([], size=0)), "0 of 0 events of 0 bytes"),
    "gestures after the end": (
        lambda: _gesture(labels="class,startTime_usec,endTime_usec\n1,50,90\n"),
        "user01_led.aedat, 5e-05 to 9e-05 s holds no events",
    ),
    "gestures that end before they begin": (
        lambda: _gesture(labels="class,startTime_usec,endTime_usec\n1,9,5\n"),
        "line 2: '1,9,5'; wanted: a class from 1 to 11",
    ),
    "another table": (lambda: _gesture(labels="a,b\n"), "begins with 'a,b'; wanted: class,startTime_usec"),
    "a cut HDF5": (_cut, "is not an HDF5 file that can be read"),
    "no HDF5": (_empty, "is not an HDF5 file that can be read"),
    "a pipe": (_pipe, "a.h5 is not a regular file"),
    "a list that lies": (_lying, "spikes/.* says that it holds 8,589,934,5.. bytes, and the file has"),
    "a list that claims its neighbour": (_shared, "a.h5: list 0 of spikes/times says that it holds 3 numbers"),
    "a heap without an end": (_endless, "a.h5: list 0 of spikes/times says that it holds 1 numbers"),
    "a link to another file": (lambda: _heidelberg(_linked), "spikes/times is a link, which is not followed"),
    "data in another file": (lambda: _heidelberg(_outside), "labels lie in another file"),
    "labels of 2 TB": (lambda: _heidelberg(_huge), r"labels is uint16 of shape \(1099511627776,\)"),
    "no spikes": (lambda: _heidelberg(lambda file: file.__delitem__("spikes")), "holds labels, and no spikes/times"),
    "times and units that differ": (lambda: _heidelberg(units=[[0], [1, 2]]), "sample 1 has 1 times, and its channel"),
    "an empty list": (lambda: _heidelberg(times=[[0.1], []], units=[[0], []]), "sample 1 holds no events"),
    "half a label": (lambda: _heidelberg(_half, keys=["zero", "one"]), "has the label 0.5; wanted: whole numbers"),
    "a label without a name": (lambda: _heidelberg(keys=["zero"]), "has the label 1, and extra/keys names 1 labels"),
    "a channel above 700": (lambda: _heidelberg(units=[[0], [700]], keys=["a", "b"]), "channel 700, and there are 700"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_ends_in_one_sentence(case, here):
    make, message = HOSTILE[case]
    path = make()
    with pytest.raises(ValueError, match=message) as found:
        data.read(path)
    assert "\n" not in str(found.value) and len(str(found.value)) < 330


def test_links_out_of_a_folder_are_left_out(here):
    nmnist_folder(here / "digits")
    (here / "d" / "0").mkdir(parents=True)
    for name in ("Train", "Test", "0/1.bin"):
        (here / "d" / name).symlink_to(here / "digits" / ("Train/0/00000.bin" if "/" in name else name))
    with pytest.raises(ValueError, match=r"d holds no file; wanted"):
        File(path="d")


def test_wrong_settings_end_in_one_sentence(here):
    shd_folder(here / "shd")
    cases = {
        "task.downsample=2: the events of .* have no pixels": {"downsample": 2},
        "task.downsample must be at least 1": {"downsample": 0},
        "task.max_time must be above 0 seconds": {"max_time": -1},
        "task.max_time=1e-06: all events of .* are later": {"max_time": 1e-6},
        "task.dt=0: the length of a time step is above 0": {"dt": 0},
        "task.dt=1e-09: train: sample .* steps; more than 10,000,000": {"dt": 1e-9},
        r"task.size=\[3\]: give \[height,width\]": {"size": [3]},
        r"task.size=\[1, 40000\]: more than 32,768 in a direction": {"size": [1, 40_000]},
        "and there are 600 channels": {"channels": 600},
        "events have no values to normalize": {"normalize": "standard"},
        "task.noise=0.1 does not go with task.encoding=events": {"noise": 0.1},
        "holds events; choose events": {"encoding": "poisson"},
        "holds no recording named as user01_led.aedat": {"path": "d"},
    }
    (here / "d").mkdir()
    (here / "d" / "a.aedat").touch()
    with pytest.raises(ValueError, match="source=shd holds data of 700 channels, and nmnist has 2,312; give a folder"):
        tasks.nmnist(source="shd")
    for message, changes in cases.items():
        with pytest.raises(ValueError, match=message):
            File(**{"path": "shd", **changes})
