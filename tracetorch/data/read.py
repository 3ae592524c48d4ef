"""Which reader takes a path: by its ending, or by what a folder or an archive holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePath
from typing import NamedTuple

from tracetorch import files
from tracetorch.data.arrays import read_npy, read_npz
from tracetorch.data.audio import Bands, read_audio
from tracetorch.data.container import opened
from tracetorch.data.images import read_images
from tracetorch.data.pattern import Pattern
from tracetorch.data.samples import Samples
from tracetorch.data.tables import Rows, read_table
from tracetorch.printable import printable

SOUNDS = (".wav",)
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
KNOWN = ".npz, .npy, .csv or .tsv; a folder or .zip of .wav files or of images"


class Reading(NamedTuple):
    """How a path is read: the arguments of the readers. What a reader does not need has no effect."""

    pattern: str | None = None
    inputs: str | tuple[str, ...] | None = None
    target: str | tuple[str, ...] | None = None
    sample: str | None = None
    time: str | None = None
    rows: Rows = "auto"
    bands: Bands = Bands()
    size: tuple[int, int] | None = None
    grey: bool = False


def read(path: str | Path, how: Reading | None = None) -> Samples:
    """Read a data set; a file's ending, or the endings in a folder or an archive, say what it is.

    Raises: OSError; ImportError for a missing library; ValueError that names the file and says what is wanted.
    """
    how, path = how or Reading(), files.expanded(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    match path.suffix.lower():
        case ".npz":
            return read_npz(path, _one(how.inputs, "inputs"), _one(how.target, "target"))
        case ".npy":
            return read_npy(path, _one(how.target, "target"))
        case ".csv" | ".tsv":
            names = {"inputs": _several(how.inputs), "target": _several(how.target)}
            return read_table(path, **names, sample=how.sample, time=how.time, rows=how.rows)
    if not path.is_dir() and path.suffix.lower() != ".zip":
        raise ValueError(f"{path}: this kind of file is not read; wanted: {KNOWN}")
    with opened(path) as container:
        endings = Counter(PurePath(name).suffix.lower() for name in container.names)
        ending = PurePath(how.pattern).suffix.lower() if how.pattern else ""
        usual = {**dict.fromkeys(SOUNDS, "sound"), **dict.fromkeys(IMAGES, "image")}
        ending = ending or next((end for end, _ in endings.most_common() if end in usual), "")
        if ending not in usual:
            held = (
                ", ".join(f"{count:,} {end or 'without ending'}" for end, count in endings.most_common(4)) or "no file"
            )
            raise ValueError(f"{path} holds {printable(held, 100)}; wanted: {KNOWN}")
        if how.pattern is None and not any("/" in name.strip("/") for name in container.names):
            example = printable(container.names[0], 60)
            raise ValueError(
                f"{path}: what is the label of {example}? Give task.pattern=…, such as '{{label}}_{{index}}{ending}'"
            )
        pattern = Pattern(how.pattern or f"{{label}}/{{name}}{ending}")
        target = _one(how.target, "target") or "label"
        if target not in pattern.names:
            raise ValueError(
                f"task.pattern={pattern.text} has no field {{{target}}}; it has {', '.join(pattern.names)}"
            )
        if usual[ending] == "sound":
            return read_audio(container, pattern, target, how.bands)
        return read_images(container, pattern, target, size=how.size, grey=how.grey)


def _one(names: str | tuple[str, ...] | None, key: str) -> str | None:
    if names is None or isinstance(names, str):
        return names
    if len(names) != 1:
        raise ValueError(f"task.{key}={list(names)}: give one name")
    return names[0]


def _several(names: str | tuple[str, ...] | None) -> tuple[str, ...] | None:
    return (names,) if isinstance(names, str) else names
