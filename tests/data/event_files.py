"""Writers of event files in their own formats, and tiny data sets, in which each class has channels of its own."""

import csv
import struct
from pathlib import Path

import numpy as np

HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"


def bin_bytes(events):
    """N-MNIST's format. Args: events: (time in µs, x, y, polarity)."""
    return b"".join(bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255]) for t, x, y, p in events)


def packet(events, *, kind=1, overflow=0, capacity=None, number=None, size=8):
    """A packet of AEDAT 3.1. Args: events: (time in µs, x, y, polarity) or (…, valid)."""
    count = len(events)
    header = (kind, 0, size, 4, overflow, count if capacity is None else capacity, count if number is None else number)
    body = b"".join(struct.pack("<II", x << 17 | y << 2 | p << 1 | (not ok or ok[0]), t) for t, x, y, p, *ok in events)
    return struct.pack("<hhiiiiii", *header, count) + body


def write_shd(path: Path, times, units, labels, *, keys=None, speaker=None, dtype=np.float16):
    """An HDF5 file in the layout of SHD."""
    import h5py

    with h5py.File(path, "w") as file:
        count = len(times)
        for name, kind, rows in (("times", dtype, times), ("units", np.uint16, units)):
            column = file.create_dataset(f"spikes/{name}", (count,), dtype=h5py.vlen_dtype(np.dtype(kind)))
            for at, row in enumerate(rows):
                column[at] = np.asarray(row, dtype=kind)
        file["labels"] = np.asarray(labels, dtype=np.uint16)
        if keys is not None:
            file["extra/keys"] = np.array([key.encode() for key in keys])
            file["extra/meta_info/gender"] = np.array([b"female"])
        if speaker is not None:
            file["extra/speaker"] = np.asarray(speaker, dtype=np.uint16)
    return path


def shd_folder(folder: Path, train=12, test=6):
    """shd_train.h5 and shd_test.h5: two digits with spikes below or above channel 350."""
    random = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for name, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 2
        times = [np.sort(random.uniform(0, 0.5, 30)) for _ in labels]
        units = [random.integers(0, 350, 30) + 350 * label for label in labels]
        write_shd(folder / f"shd_{name}.h5", times, units, labels, keys=["zero", "eins"], speaker=labels + 3)
    return folder


def nmnist_folder(folder: Path, train=6, test=3):
    """Train/<digit>/*.bin and Test/<digit>/*.bin: two digits with events in the upper or in the lower half."""
    random = np.random.default_rng(0)
    for name, count in (("Train", train), ("Test", test)):
        for digit in (0, 1):
            place = folder / name / str(digit)
            place.mkdir(parents=True)
            for at in range(count):
                times = np.sort(random.integers(0, 300_000, 40))
                x, y, p = random.integers(0, 34, 40), random.integers(0, 17, 40) + 17 * digit, random.integers(0, 2, 40)
                events = list(zip(times.tolist(), x.tolist(), y.tolist(), p.tolist(), strict=True))
                (place / f"{at:05}.bin").write_bytes(bin_bytes(events))
    return folder


def cut_gesture_folder(folder: Path):
    """ibmGestureTrain/user01_led/<class from 0>.npy with x, y, polarity and time in ms, and ibmGestureTest."""
    random = np.random.default_rng(0)
    for name, users in (("Train", (1, 2, 3)), ("Test", (4, 5))):
        for user in users:
            place = folder / f"ibmGesture{name}" / f"user{user:02}_led"
            place.mkdir(parents=True)
            for label in (0, 1):
                times = np.sort(random.integers(0, 500, 60))
                x, y = random.integers(0, 64, 60) + 64 * label, random.integers(0, 128, 60)
                np.save(place / f"{label}.npy", np.stack([x, y, times % 2, times], axis=1).astype(np.float64))
    return folder


def gesture_folder(folder: Path):
    """user01_led.aedat and user02_led.aedat, two gestures of each of two classes, the second user for the test."""
    random = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for user in (1, 2):
        events, lines = [], []
        for at, label in enumerate((1, 2, 1, 2)):
            start = 1_000_000 + at * 500_000
            times = np.sort(random.integers(start, start + 400_000, 60)).tolist()
            x = (random.integers(0, 64, 60) + 64 * (label - 1)).tolist()
            events += [(t, x[n], int(random.integers(0, 128)), n % 2) for n, t in enumerate(times)]
            lines.append((label, start, start + 400_000))
        special = struct.pack("<II", 3, 5)  # of another kind of packet
        other = struct.pack("<hhiiiiii", 0, 0, 8, 4, 0, 1, 1, 1) + special
        content = HEADER + packet(events[:100]) + other + packet(events[100:])
        (folder / f"user{user:02}_led.aedat").write_bytes(content)
        with (folder / f"user{user:02}_led_labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("class", "startTime_usec", "endTime_usec"), *lines])
    (folder / "trials_to_train.txt").write_text("user01_led.aedat\n")
    (folder / "trials_to_test.txt").write_text("user02_led.aedat\n")
    return folder
