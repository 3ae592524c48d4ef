"""The choice of a reader: by the ending of a path, or by the files in a folder or an archive."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path, PurePath
from typing import NamedTuple

from tracetorch import files
from tracetorch.data import events
from tracetorch.data.arrays import load, names_of, read_npy, read_npz
from tracetorch.data.audio import Bands, read_audio
from tracetorch.data.container import Container, opened
from tracetorch.data.events import EventReading
from tracetorch.data.hdf5 import read_hdf5
from tracetorch.data.images import read_images
from tracetorch.data.pattern import Pattern
from tracetorch.data.samples import Samples
from tracetorch.data.tables import Rows, read_table
from tracetorch.printable import printable

SOUNDS = (".wav",)
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
HDF5 = (".h5", ".hdf5")
KNOWN = ".npz, .npy, .csv, .tsv or .h5; a folder or .zip of .wav files, images or events (.bin, .aedat, .npz)"


class Reading(NamedTuple):
    """The arguments of all readers. An argument that a reader does not take has no effect on it."""

    pattern: str | None = None
    """Pattern of file names in a folder or archive; None: a folder for each class. See `data.pattern.Pattern`."""
    inputs: str | tuple[str, ...] | None = None
    """Names of arrays or columns; None: usual names."""
    target: str | tuple[str, ...] | None = None
    """Names of arrays, columns or fields, or of a `.npy` file; None: usual names."""
    sample: str | None = None
    """Column of a table; see `data.tables.read_table`, also for `time`, `rows` and `fields`."""
    time: str | None = None
    rows: Rows = "auto"
    fields: tuple[str, ...] = ()
    bands: Bands = Bands()
    """Of sound."""
    size: tuple[int, int] | None = None
    """Height and width of images; see `data.images.read_images`, also for `grey`."""
    grey: bool = False
    events: EventReading = EventReading()
    """Of events."""


def read(path: str | Path, how: Reading | None = None) -> Samples:
    """Read a data set. The reader follows from the ending of the file, or of the files in a folder or an archive.

    Args: path: "~" is the home folder. how: None: the defaults of `Reading`.
    Raises: OSError; ImportError for a missing library; ValueError that names the file and says what is wanted.
    """
    how, path = how or Reading(), files.expanded(path)
    if not os.path.exists(path):  # noqa: PTH110  # unlike Path.exists, False for a name that is too long
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    match path.suffix.lower():
        case ".npz" if events.are_events(names_of(path)):
            return events.read_joined(path, load(path), how.events, _one(how.target, "target"))
        case suffix if suffix in HDF5:
            return read_hdf5(path, how.events)
        case ".npz":
            return read_npz(path, _one(how.inputs, "inputs"), _one(how.target, "target"))
        case ".npy":
            return read_npy(path, _one(how.target, "target"))
        case ".csv" | ".tsv":
            names = {"inputs": _several(how.inputs), "target": _several(how.target)}
            return read_table(path, **names, sample=how.sample, time=how.time, rows=how.rows, fields=how.fields)
    if not path.is_dir() and path.suffix.lower() != ".zip":
        raise ValueError(f"{path}: this kind of file is not read; wanted: {KNOWN}")
    with opened(path) as container:
        return _read_files(container, how)


def _read_files(container: Container, how: Reading) -> Samples:
    """Read the files in a folder or an archive, with the ending of the pattern, or else the most frequent known one.

    Raises: OSError; ValueError that names the folder or archive.
    """
    if how.pattern is None and events.are_gestures(container.names):
        return events.read_gestures(container, how.events)
    path, known = container.path, (*SOUNDS, *IMAGES, *events.ENDINGS)
    endings = Counter(PurePath(name).suffix.lower() for name in container.names)
    ending = PurePath(how.pattern).suffix.lower() if how.pattern else ""
    if ending and ending not in endings:
        Pattern(str(how.pattern)).matching(container)  # raises ValueError unless the ending is a field
    ending = ending or next((end for end, _ in endings.most_common() if end in known), "")
    mixed = [end for end in endings if end in IMAGES]
    if ending in IMAGES and len(mixed) > 1 and how.pattern is None:
        held = " and ".join(f"{endings[end]:,} {end}" for end in mixed)
        raise ValueError(
            f"{path} holds {held}; wanted: images of one ending, or task.pattern, such as '{{label}}/{{name}}{ending}'"
        )
    if ending not in known and ".npy" in endings:
        raise ValueError(
            f"{path} holds {endings['.npy']:,} .npy files; wanted: one .npz with all samples (inputs, labels, lengths)"
        )
    if ending not in known:
        held = ", ".join(f"{count:,} {end or 'without ending'}" for end, count in endings.most_common(4)) or "no file"
        raise ValueError(f"{path} holds {printable(held, 100)}; wanted: {KNOWN}")
    if how.pattern is None and not any("/" in name.strip("/") for name in container.names):
        example = printable(next(name for name in container.names if name.lower().endswith(ending)), 60)
        raise ValueError(
            f"{path}: what is the label of {example}? Give task.pattern=…, such as '{{label}}_{{index}}{ending}'"
        )
    pattern = Pattern(how.pattern or _usual_pattern(container, ending))
    target = _one(how.target, "target") or "label"
    if target not in pattern.names:
        raise ValueError(f"task.pattern={pattern.text} has no field {{{target}}}; it has {', '.join(pattern.names)}")
    if ending in SOUNDS:
        return read_audio(container, pattern, target, how.bands)
    if ending in IMAGES:
        return read_images(container, pattern, target, size=how.size, grey=how.grey)
    reader = events.read_bins if ending == ".bin" else events.read_recordings
    return reader(container, pattern, target, how.events)


def _usual_pattern(container: Container, ending: str) -> str:
    """Return the pattern of a folder for each class, inside of folders train and test if both exist, as in N-MNIST."""
    fitting = [name.split("/") for name in container.names if name.lower().endswith(ending)]
    above = {parts[-3].lower() for parts in fitting if len(parts) > 2}
    return f"{'{split}/' if {'train', 'test'} <= above else ''}{{label}}/{{name}}{ending}"


def _one(names: str | tuple[str, ...] | None, key: str) -> str | None:
    """Return the only name. Raises: ValueError for several."""
    if names is None or isinstance(names, str):
        return names
    if len(names) != 1:
        raise ValueError(f"task.{key}={list(names)}: give one name")
    return names[0]


def _several(names: str | tuple[str, ...] | None) -> tuple[str, ...] | None:
    return (names,) if isinstance(names, str) else names
