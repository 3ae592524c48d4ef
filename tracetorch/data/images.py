"""Images of a folder or of an archive, whose names fit a pattern; decoded by Pillow."""

from __future__ import annotations

import io
import warnings

import numpy as np

from tracetorch.data.container import Container
from tracetorch.data.pattern import Pattern, columns
from tracetorch.data.samples import Array, Samples
from tracetorch.printable import printable

MOST_PIXELS = 1 << 24


def read_images(
    container: Container,
    pattern: Pattern,
    target: str = "label",
    *,
    size: tuple[int, int] | None = None,
    grey: bool = False,
) -> Samples:
    """Read the images whose names fit a pattern, as brightness from 0 to 1.

    Args:
        target: the field of the pattern that is the label.
        size: height and width, to which images are scaled; None: theirs, which must be the same.
        grey: whether colours are dropped. If not, a colour image has three channels for each pixel.
    Returns: inputs (images, pixels·channels), float32, pixel by pixel from the top left.
    Raises: OSError; ValueError that says what was found and what is wanted.
    """
    found, path = pattern.matching(container), container.path
    images: list[Array] = []
    for name, _ in found:
        image = _decoded(container.read(name), f"{path}: {name}", size, grey)
        if images and image.shape != images[0].shape:
            first, other = ("×".join(map(str, shape)) for shape in (images[0].shape, image.shape))
            raise ValueError(
                f"{path}: {found[0][0]} is {first}, and {name} is {other}: give task.size=[height,width], and "
                "task.grey=true if only some have colours"
            )
        images.append(image)
    height, width, channels = images[0].shape
    inputs = np.stack(images).reshape(len(images), -1)
    fields = columns(fields for _, fields in found)
    image_size = (height, width) if channels == 1 else None
    names = [name for name, _ in found]
    return Samples(inputs, inputs.shape[1], list(fields[target]), fields, names, str(path), None, image_size, True)


def _decoded(content: bytes, name: str, size: tuple[int, int] | None, grey: bool) -> Array:
    """Return brightness (height, width, 1 or 3), float32 from 0 to 1. Raises: ValueError that names the file."""
    from PIL import Image  # noqa: PLC0415

    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
            warnings.simplefilter("ignore")  # of metadata
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it is {image.width}×{image.height}; more than {MOST_PIXELS:,} pixels are not read")
            is_grey = grey or image.mode in ("1", "L", "I", "I;16", "LA", "F")
            scale = 65535 if image.mode in ("I", "I;16") else 255
            shown = image if image.mode in ("I", "I;16", "F") else image.convert("L" if is_grey else "RGB")
            shown = shown.resize((size[1], size[0])) if size else shown
            values = np.asarray(shown, dtype=np.float32) / scale
    except Exception as error:  # Pillow raises several kinds for damaged files
        why = printable(" ".join(str(error).split()), 120) or type(error).__name__
        raise ValueError(f"{name} is not an image that can be read: {why}") from None
    return values.reshape(*values.shape[:2], -1)
