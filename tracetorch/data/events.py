"""Recordings of events: spikes, or changes of pixels, each with a time. Events stay sparse in memory.

Kinds of files: HDF5 in the layout of SHD and SSC (`data.hdf5`); folders or archives of N-MNIST's `.bin`, DVS-Gesture's
`.aedat`, or `.npz`, with one recording in each file; one `.npz` with all samples, one after another.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tracetorch.data.arrays import decode_npy, decode_npz
from tracetorch.data.container import MOST_FILE_BYTES, Container
from tracetorch.data.event_formats import MICROSECOND, MILLISECOND, PixelEvents, decode_aedat, decode_bin
from tracetorch.data.pattern import Pattern, columns
from tracetorch.data.samples import Array, Events, Samples
from tracetorch.printable import printable

TIMES = ("times", "t", "time", "ts", "timestamps", "timestamp")
UNITS = ("units", "unit", "channels", "channel", "neurons", "neuron", "senders", "i")
COLUMNS, ROWS = ("x", "xs"), ("y", "ys")
POLARITIES = ("p", "polarity", "polarities", "pol", "ps")
LABELS = ("labels", "label", "targets", "target")
LENGTHS = "lengths"
STRUCTURED = "events"  # an array with named columns, as tonic has
ENDINGS = (".bin", ".npz")

MOST_EVENTS = 1 << 30  # 6 to 12 bytes each in memory
_MOST_CHANNELS = 1 << 24
_COORDINATE_BITS = 15  # of x and of y, packed into one number until the size of the sensor is known
_MOST_PIXELS = 1 << _COORDINATE_BITS  # in each direction
_LONGEST = 100_000.0  # seconds; a longer sample probably has its times in another unit
_EXACT_TO = 16.0  # seconds; float32 holds a shorter time to 1 µs
_MOST_SHOWN = 100  # characters in a message

GESTURES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
"""DVS-Gesture's classes, numbered from 1."""
_GESTURE_FILE = re.compile(r"user(\d+)_(\w+)\.aedat")
_CUT_GESTURE = re.compile(r"(?:.*/)?user(\d+)_(\w+)/(\d+)\.npy")  # as Tonic provides them
_LISTS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}


class EventReading(NamedTuple):
    """Settings by which events become samples."""

    channels: int | None = None
    """Number of channels of events without pixels; None: 700 for SHD and SSC, else the largest that occurs, plus 1."""
    size: tuple[int, int] | None = None
    """Height and width of the sensor; None: N-MNIST's, DVS-Gesture's, or up to the largest pixel that occurs."""
    downsample: int = 1
    """Pixels in each direction that become one channel."""
    max_time: float | None = None
    """Seconds; events from this time on are dropped."""
    time_unit: float | None = None
    """Unit of the times, in seconds; None: 1e-6 (µs) for whole numbers, 1 for real numbers."""
    from_first: bool = False
    """Whether time counts from the first event of a sample, for clocks that do not start with the sample."""


class Collector:
    """Checks the events of one sample after another, and keeps them.

    Times are float32, or float64 for samples of more than 16 s; channels are uint16, or uint32 if there are more than
    65,536. The channel of a pixel is (polarity·height + y)·width + x, so that channels `unflatten` to
    (2, height, width).

    Args: source: the name of the data in messages. how: settings.
    Raises: ValueError for invalid settings.
    """

    def __init__(self, source: str | Path, how: EventReading):
        if how.downsample < 1:
            raise ValueError(f"task.downsample must be at least 1, got {how.downsample}")
        for key, value in (("max_time", how.max_time), ("time_unit", how.time_unit)):
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"task.{key} must be above 0 seconds, got {value:g}")
        if how.size is not None and max(how.size) > _MOST_PIXELS:
            raise ValueError(f"task.size={list(how.size)}: more than {_MOST_PIXELS:,} in a direction are not read")
        self._source, self._how = str(source), how
        self._kept: list[Events] = []
        self._names: list[str] = []
        self._count = self._sorted = 0
        self._most: Array = np.zeros(2, dtype=np.int64)  # largest channel and 0; for pixels, largest y and x
        self._is_pixels: bool | None = None

    def add(self, name: str, times: Array, units: Array) -> None:
        """Keep the events of a sample of neurons or frequency bands.

        Args: name: of the sample. times: in the unit of the file. units: channels from 0.
        Raises: ValueError that names the sample.
        """
        when, (channels,) = self._checked(name, times, {"channel": units})
        self._keep(name, when, channels.astype(np.uint32), np.array([channels.max(initial=0), 0]), is_pixels=False)

    def add_pixels(self, name: str, events: PixelEvents) -> None:
        """Keep the events of a sample of a camera. Args: name: of the sample. Raises: ValueError that names it."""
        parts = {"x": events.x, "y": events.y, "polarity": _as_polarity(events.polarity)}
        when, (x, y, polarity) = self._checked(name, events.times, parts)
        if polarity.max(initial=0) > 1:
            raise ValueError(f"{self._source}: {name} has the polarity {polarity.max()}; wanted: 0 and 1, or −1 and 1")
        size = self._how.size or (_MOST_PIXELS, _MOST_PIXELS)
        for axis, values, limit in (("y", y, size[0]), ("x", x, size[1])):
            if values.max(initial=0) >= limit:
                raise ValueError(
                    f"{self._source}: {name} has an event at {axis}={values.max()}, and the sensor has "
                    f"{size[0]}×{size[1]} pixels; give task.size=[height,width]"
                )
        packed = polarity << 2 * _COORDINATE_BITS | y << _COORDINATE_BITS | x
        most = np.array([y.max(initial=0), x.max(initial=0)])
        self._keep(name, when, packed.astype(np.uint32), most, is_pixels=True)

    def samples(self, target: Sequence[Any], fields: dict[str, Array]) -> Samples:
        """Return all samples.

        Args: target: one for each sample. fields: columns, (samples,) each.
        Raises: ValueError if there are no events or too many channels, or for a setting that needs pixels.
        """
        if not self._kept:
            raise ValueError(f"{self._source} holds no recording")
        if not self._count:
            raise ValueError(f"task.max_time={self._how.max_time:g}: all events of {self._source} are later")
        if self._is_pixels:
            height, width = self._how.size or (int(self._most[0]) + 1, int(self._most[1]) + 1)
            coarse = -(-height // self._how.downsample), -(-width // self._how.downsample)
            count = 2 * coarse[0] * coarse[1]
        else:
            coarse, count = (1, 1), self._how.channels or int(self._most[0]) + 1
            if self._how.downsample > 1:
                raise ValueError(
                    f"task.downsample={self._how.downsample}: the events of {self._source} have no pixels; give 1"
                )
        if count > _MOST_CHANNELS:
            raise ValueError(f"{self._source} has {count:,} channels; more than {_MOST_CHANNELS:,} are not read")
        smallest = np.uint16 if count <= 1 << 16 else np.uint32
        for at, (times, channels) in enumerate(self._kept):  # one by one: memory holds both forms of one sample only
            found = _channel_of(channels, coarse, self._how.downsample) if self._is_pixels else channels
            self._kept[at] = Events(times, found.astype(smallest))
        remarks = [f"events of {self._sorted:,} samples sorted by time"] if self._sorted else []
        if all(len(times) > 1 and times[0] > times[-1] / 2 for times, _ in self._kept):
            remarks.append("no sample has events in its first half: task.from_first=true counts from the first one")
        return Samples(
            self._kept, count, target, fields, self._names, self._source, is_scaled=True, remark="; ".join(remarks)
        )

    def _checked(self, name: str, times: Array, parts: dict[str, Array]) -> tuple[Array, list[Array]]:
        """Return the times in seconds, and the other columns as int64, all in order of time.

        Args: parts: columns by name, one value for each event.
        Raises: ValueError that names the sample.
        """
        where = f"{self._source}: {name}"
        for key, values in {"time": times, **parts}.items():
            if values.ndim != 1 or values.dtype.kind not in "fiub" or len(values) != len(times):
                raise ValueError(
                    f"{where} has {times.size:,} times, and its {key} is {values.dtype} of shape {values.shape}; "
                    "wanted: a number for each event"
                )
        if not len(times):
            raise ValueError(f"{where} holds no events")
        unit = self._how.time_unit or (1.0 if times.dtype.kind == "f" else MICROSECOND)
        when = times.astype(np.float64) * unit
        if not np.isfinite(when).all():
            raise ValueError(f"{where} has an event at the time {times[~np.isfinite(when)][0]}; wanted: finite numbers")
        if when.min() < 0:
            raise ValueError(f"{where} has an event at {when.min():g} s; wanted: times from 0, the start of the sample")
        found = [_whole(values, f"{where}: {key}") for key, values in parts.items()]
        if (np.diff(when) < 0).any():
            order = np.argsort(when, kind="stable")
            when, found = when[order], [values[order] for values in found]
            self._sorted += 1
        if self._how.from_first:
            when = when - when[0]
        if when[-1] > _LONGEST:
            raise ValueError(
                f"{where} lasts {when[-1]:,.0f} s; give the unit of its times in seconds, such as task.time_unit=1e-6, "
                "or task.from_first=true if its clock starts before the sample"
            )
        if self._how.max_time is not None:
            stop = int(np.searchsorted(when, self._how.max_time))
            when, found = when[:stop], [values[:stop] for values in found]
        return when, found

    def _keep(self, name: str, when: Array, channels: Array, most: Array, *, is_pixels: bool) -> None:
        """Keep checked events. Args: channels: uint32; pixels are packed. most: as `_most`, of this sample."""
        if self._is_pixels not in (None, is_pixels):
            raise ValueError(f"{self._source}: {name} and {self._names[0]} do not both have pixels")
        limit = self._how.channels
        if not is_pixels and limit is not None and most[0] >= limit:
            raise ValueError(
                f"{self._source}: {name} has an event in channel {most[0]}, and there are {limit} channels, from 0; "
                "give task.channels=NUMBER"
            )
        self._count += len(when)
        if self._count > MOST_EVENTS:
            raise ValueError(
                f"{self._source} holds more than {MOST_EVENTS:,} events; cut the samples, for example task.max_time=1"
            )
        self._is_pixels, self._most = is_pixels, np.maximum(self._most, most)
        is_short = not len(when) or when[-1] < _EXACT_TO
        self._kept.append(Events(when.astype(np.float32) if is_short else when, channels))
        self._names.append(name)


def _whole(values: Array, what: str) -> Array:
    """Return the values as int64. Raises: ValueError with the name `what` for fractions and negative numbers."""
    with np.errstate(invalid="ignore"):  # NaN fails the comparison below
        whole = values.astype(np.int64)
    if values.dtype.kind == "f" and not (whole == values).all():
        raise ValueError(f"{what} holds {values[whole != values][0]}; wanted: whole numbers")
    if whole.min(initial=0) < 0:
        raise ValueError(f"{what} holds {whole.min()}; wanted: whole numbers from 0")
    return whole


def _as_polarity(values: Array) -> Array:
    """Return polarities with 0 in place of −1."""
    return np.where(values == -1, 0, values) if values.dtype.kind in "if" else values


def _channel_of(packed: Array, size: tuple[int, int], downsample: int) -> Array:
    """Return the channels of packed pixels. Args: size: height and width of the sensor, downsampled."""
    mask = _MOST_PIXELS - 1
    y, x = (packed >> _COORDINATE_BITS & mask) // downsample, (packed & mask) // downsample
    return ((packed >> 2 * _COORDINATE_BITS) * size[0] + y) * size[1] + x


# ── folders and archives: one recording in each file ──────────────────────────────────────────────────────────────────


def read_bins(container: Container, pattern: Pattern, target: str, how: EventReading) -> Samples:
    """Read N-MNIST's `.bin` files. Args, Raises: as `read_recordings`."""
    return _by_pattern(container, pattern, target, how._replace(size=how.size or (34, 34)), _add_bin)


def read_recordings(container: Container, pattern: Pattern, target: str, how: EventReading) -> Samples:
    """Read `.npz` files with one recording each.

    Arrays: the times; x, y and p of pixels, or units; or an array `events` with these columns. `TIMES`, `COLUMNS`,
    `ROWS`, `POLARITIES` and `UNITS` list their usual names.

    Args: target: the field of the pattern that is the label.
    Raises: OSError; ValueError that names the file, says what was found and what is wanted.
    """
    return _by_pattern(container, pattern, target, how, _add_npz)


def _by_pattern(
    container: Container,
    pattern: Pattern,
    target: str,
    how: EventReading,
    add: Callable[[Collector, str, bytes, str], None],
) -> Samples:
    found, collector = pattern.matching(container), Collector(container.path, how)
    for name, _ in found:
        add(collector, name, container.read(name), f"{container.path}: {name}")
    fields = columns(fields for _, fields in found)
    return collector.samples(list(fields[target]), fields)


def _add_bin(collector: Collector, name: str, content: bytes, where: str) -> None:
    collector.add_pixels(name, decode_bin(content, where))


def _add_npz(collector: Collector, name: str, content: bytes, where: str) -> None:
    found = _by_column(decode_npz(io.BytesIO(content), where, MOST_FILE_BYTES))
    times = _first(found, TIMES)
    if times is None:
        held = printable(", ".join(found), _MOST_SHOWN) or "no array"
        raise ValueError(f"{where} holds {held}; wanted: the times of events as t, and x, y, p or units")
    _add(collector, name, times, found, where)


def _add(collector: Collector, name: str, times: Array, found: dict[str, Array], where: str) -> None:
    """Add a sample of pixels if it has x and y; if not, its channels are the units, or x."""
    x, y, p = (_first(found, names) for names in (COLUMNS, ROWS, POLARITIES))
    if x is not None and y is not None:
        collector.add_pixels(name, PixelEvents(times, x, y, np.zeros(x.shape, np.int64) if p is None else p))
        return
    units = _first(found, UNITS)
    units = x if units is None else units
    if units is None:
        held = printable(", ".join(found), _MOST_SHOWN)
        raise ValueError(f"{where} holds {held}; wanted: besides the times, x, y and p of pixels, or units")
    collector.add(name, times, units)


def _by_column(found: dict[str, Array]) -> dict[str, Array]:
    """Return the arrays; a structured array `events` is replaced by its columns."""
    table = found.get(STRUCTURED)
    if table is None or table.dtype.names is None:
        return found
    return {name: np.ascontiguousarray(table[name]) for name in table.dtype.names} | {
        name: values for name, values in found.items() if name != STRUCTURED
    }


def _first(found: dict[str, Array], names: tuple[str, ...]) -> Array | None:
    return next((found[name] for name in names if name in found), None)


# ── one file with the events of all samples ───────────────────────────────────────────────────────────────────────────


def are_events(names: Sequence[str]) -> bool:
    """Whether arrays of these names in one `.npz` are the events of several samples."""
    known = {*names}
    has_events = STRUCTURED in known or bool(known & {*TIMES} and known & {*UNITS, *COLUMNS})
    return has_events and LENGTHS in known and bool(known & {*LABELS})


def read_joined(path: Path, found: dict[str, Array], how: EventReading, target: str | None = None) -> Samples:
    """Read the events of all samples, joined in one file, one sample after another.

    Arrays: those of `read_recordings`; `lengths`, the number of events of each sample; `labels`. Every array with one
    value for each sample is a field.

    Args: found: the arrays by name. target: the array with the labels; None: the first of `LABELS`.
    Raises: ValueError that names the file, says what was found and what is wanted.
    """
    lengths = found.get(LENGTHS, np.zeros(0))
    found = _by_column({name: values for name, values in found.items() if name != LENGTHS})
    times, labels = _first(found, TIMES), found.get(target) if target else _first(found, LABELS)
    if times is None or labels is None:
        wanted = f"the labels {target}" if labels is None else "the times of events, as times or t"
        raise ValueError(f"{path} holds {printable(', '.join(found), _MOST_SHOWN)}; wanted: {wanted}")
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not len(lengths) or lengths.min() < 0:
        raise ValueError(
            f"{path}: {LENGTHS} is {lengths.dtype} of shape {lengths.shape}; wanted: the number of events of each "
            "sample, from 1"
        )
    if times.ndim != 1 or (lengths > len(times)).any() or int(lengths.sum()) != len(times):
        total = int(lengths.astype(np.float64).sum())
        raise ValueError(f"{path}: {LENGTHS} add up to {total:,} events, and there are times of shape {times.shape}")
    if labels.shape[:1] != lengths.shape:
        raise ValueError(f"{path} holds {len(lengths):,} samples, and labels of shape {labels.shape}")
    of_events = {name for names in (TIMES, UNITS, COLUMNS, ROWS, POLARITIES) for name in names}
    per_event = {name: values for name, values in found.items() if name in of_events}
    if wrong := next((name for name, values in per_event.items() if values.shape != times.shape), None):
        raise ValueError(
            f"{path}: {wrong} has the shape {per_event[wrong].shape}, and the times have {times.shape}; wanted: one "
            "value for each event"
        )
    collector, stop = Collector(path, how), np.cumsum(lengths)
    for row, (first, last) in enumerate(zip(stop - lengths, stop, strict=True)):
        part = {name: values[first:last] for name, values in per_event.items()}
        _add(collector, f"sample {row}", times[first:last], part, str(path))
    fields = {name: values for name, values in found.items() if name not in per_event and values.shape == lengths.shape}
    return collector.samples(list(labels), fields)


# ── DVS-Gesture ───────────────────────────────────────────────────────────────────────────────────────────────────────


def are_gestures(names: Sequence[str]) -> bool:
    """Whether files of these names may be DVS-Gesture, original or cut."""
    return any(name.endswith(".aedat") or _CUT_GESTURE.fullmatch(name) for name in names)


def read_gestures(container: Container, how: EventReading) -> Samples:
    """Read DVS-Gesture: user*_*.aedat, cut into samples by the intervals in user*_*_labels.csv.

    If trials_to_train.txt and trials_to_test.txt exist, only the recordings that they list are read, and the field
    `split` names the list, "train" or "test". Other fields: user, light, label (the number of the class, from 1).

    The other layout is a file for each gesture, user*_*/<class from 0>.npy, with the columns x, y, polarity and time in
    ms.

    Raises: OSError; ValueError that names the file, says what was found and what is wanted.
    """
    how = how._replace(size=how.size or (128, 128))
    if any(_CUT_GESTURE.fullmatch(name) for name in container.names):
        return _cut_gestures(container, how)
    path, by_name = container.path, {name.rsplit("/", 1)[-1]: name for name in container.names}
    split_of = _trials(container, by_name)
    recordings = {name: found for name in sorted(by_name) if (found := _GESTURE_FILE.fullmatch(name))}
    chosen = [name for name in recordings if not split_of or name in split_of]
    if missing := [name for name in split_of if name not in recordings]:
        raise ValueError(f"{path}: {_LISTS[split_of[missing[0]]]} names {printable(missing[0], 60)}, which is missing")
    if not chosen:
        raise ValueError(f"{path} holds no recording named as user01_led.aedat, with user01_led_labels.csv")
    collector = Collector(path, how)
    rows: list[dict[str, str]] = []
    for name in chosen:
        labels = name.replace(".aedat", "_labels.csv")
        if labels not in by_name:
            raise ValueError(f"{path}: {name} has no {labels} next to it, which says when its gestures begin and end")
        events = decode_aedat(container.read(by_name[name]), f"{path}: {name}")
        in_order = np.argsort(events.times, kind="stable")
        events = PixelEvents(*(column[in_order] for column in events))
        for label, start, stop in _intervals(container.read(by_name[labels]), f"{path}: {labels}"):
            first, last = np.searchsorted(events.times, [start, stop])
            part = PixelEvents(events.times[first:last] - start, *(column[first:last] for column in events[1:]))
            collector.add_pixels(f"{name}, {start / 1e6:g} to {stop / 1e6:g} s", part)
            user, light = recordings[name].groups()
            rows.append({"label": str(label), "user": user, "light": light} | _split_field(split_of, name))
    return _named_gestures(collector, rows)


def _cut_gestures(container: Container, how: EventReading) -> Samples:
    """Read the layout with a file for each gesture. Raises: ValueError that names the file."""
    collector, rows = Collector(container.path, how._replace(time_unit=how.time_unit or MILLISECOND)), []
    for name in container.names:
        if not (found := _CUT_GESTURE.fullmatch(name)):
            continue
        user, light, label = found.groups()
        where = f"{container.path}: {name}"
        table = decode_npy(container.read(name), where)
        if table.ndim != 2 or table.shape[1] != 4:
            raise ValueError(f"{where} has the shape {table.shape}; wanted: (events, 4), x, y, polarity and time in ms")
        if int(label) >= len(GESTURES):
            raise ValueError(f"{where} is of class {label}; wanted: 0 to {len(GESTURES) - 1}")
        x, y, polarity, times = table.T
        collector.add_pixels(name, PixelEvents(times, x, y, polarity))
        rows.append({"label": str(int(label) + 1), "user": user, "light": light})
    return _named_gestures(collector, rows)


def _named_gestures(collector: Collector, rows: list[dict[str, str]]) -> Samples:
    """Return the samples with the names of their classes as targets. Args: rows: the fields of each sample."""
    fields = columns(rows)
    return collector.samples([GESTURES[label - 1] for label in fields["label"]], fields)


def _split_field(split_of: dict[str, str], name: str) -> dict[str, str]:
    return {"split": split_of[name]} if split_of else {}


def _trials(container: Container, by_name: dict[str, str]) -> dict[str, str]:
    """Return the split of each recording that a list names; {} unless both lists exist. Raises: ValueError."""
    if not all(name in by_name for name in _LISTS.values()):
        return {}
    found: dict[str, str] = {}
    for split, name in _LISTS.items():
        lines = [line.strip() for line in _text(container, by_name[name]).splitlines()]
        for line in filter(None, lines):
            if found.setdefault(line, split) != split:
                raise ValueError(f"{container.path}: both lists of trials name {printable(line, 60)}")
    return found


def _text(container: Container, name: str) -> str:
    return container.read(name).decode("utf-8", "replace")


def _intervals(content: bytes, where: str) -> list[tuple[int, int, int]]:
    """Return class, start and end in µs of each line. Raises: ValueError that names the file and the line."""
    lines = list(csv.reader(io.StringIO(content.decode("utf-8", "replace"))))
    if not lines or [name.strip() for name in lines[0]] != ["class", "startTime_usec", "endTime_usec"]:
        found = printable(",".join(lines[0]) if lines else "", 60)
        raise ValueError(f"{where} begins with {found!r}; wanted: class,startTime_usec,endTime_usec")
    found_lines = []
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        is_whole = len(line) == 3 and all(cell.strip().isdecimal() and len(cell) < 19 for cell in line)
        label, start, stop = map(int, line) if is_whole else (0, 0, 0)
        if not 1 <= label <= len(GESTURES) or start >= stop:
            raise ValueError(
                f"{where}, line {number}: {printable(','.join(line), 60)!r}; wanted: a class from 1 to "
                f"{len(GESTURES)}, a start and a later end in µs"
            )
        found_lines.append((label, start, stop))
    return found_lines
