"""Recordings of sound: wav files by a name pattern, as the power in frequency bands."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tracetorch.data.container import opened
from tracetorch.data.pattern import Pattern, columns
from tracetorch.data.samples import Samples

_MOST_LISTED = 60  # characters of a name in a message


class Bands(NamedTuple):
    """How a recording becomes frames of band powers.

    Frames are windows of `window` seconds, evenly spaced from the start to the end of the recording: `frames` of them,
    so that each recording is stretched to the same number of steps; or, with `hop`, one every `hop` seconds.
    Bands are triangular filters, evenly spaced on the mel scale, m = 2595·log10(1 + f/700), from `low` Hz to half the
    sample rate. The log of their power is standardized over the recording.

    Source: for the scale, O'Shaughnessy (1987), Speech communication: human and machine, Addison-Wesley.
    """

    bands: int = 40
    frames: int | None = 64
    hop: float = 0.01
    window: float = 0.032
    low: float = 50.0


def mel_filters(bands: int, rate: float, bins: int, low: float) -> np.ndarray:
    """Return the weights of each frequency bin in each band, (bands, bins). Args: bins: from 0 Hz to rate/2."""
    edges = _hertz(np.linspace(_mel(low), _mel(rate / 2), bands + 2))
    frequency = np.linspace(0, rate / 2, bins)
    rising = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0, np.minimum(rising, falling))
    # A band narrower than the distance of two bins would be empty: it takes the nearest bin.
    empty = ~filters.any(axis=1)
    filters[empty, np.abs(frequency - edges[1:-1][empty, None]).argmin(axis=1)] = 1
    return filters / filters.sum(axis=1, keepdims=True)


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)


def band_powers(sound: np.ndarray, rate: float, how: Bands) -> np.ndarray:
    """Return the standardized log power of each band in each frame, (frames, bands), float32."""
    length = max(16, round(how.window * rate))
    count = how.frames or max(1, round(len(sound) / (how.hop * rate)))
    padded = np.pad(sound, (length // 2, length - length // 2))
    starts = np.linspace(0, max(0, len(sound) - 1), count).round().astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)[starts] * np.hanning(length)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    logs = np.log(power @ mel_filters(how.bands, rate, power.shape[1], how.low).T + 1e-10)
    spread = logs.std()
    return ((logs - logs.mean()) / (spread if spread > 0 else 1)).astype(np.float32)


def read_wav(content: bytes, name: str) -> tuple[np.ndarray, int]:
    """Return the sound of a wav file, its channels averaged, float32 in [−1, 1], and its sample rate in Hz.

    Raises: ValueError that names the file, if it is no wav file, is damaged, or is empty.
    """
    from scipy.io import wavfile  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks that are not understood
            rate, sound = wavfile.read(io.BytesIO(content))
    except Exception as error:  # scipy raises several kinds for damaged files
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name} is not a wav file that can be read: {why}") from None
    if not sound.size or not rate:
        raise ValueError(f"{name} holds no sound")
    if sound.dtype.kind == "u":
        sound = (sound.astype(np.float32) - 128) / 128
    elif sound.dtype.kind == "i":
        sound = sound.astype(np.float32) / -float(np.iinfo(sound.dtype).min)
    sound = sound.astype(np.float32)
    sound = sound.mean(axis=1) if sound.ndim > 1 else sound
    if not np.isfinite(sound).all():
        raise ValueError(f"{name} holds a value that is not finite")
    return sound, int(rate)


def read_audio(path: Path, pattern: str, target: str = "label", how: Bands | None = None) -> Samples:
    """Read the wav files of a folder or a zip archive whose names fit a pattern.

    Args: pattern: see `Pattern`. target: the field that is the label. how: the features.
    Raises: OSError; ValueError that says what was found and what is wanted.
    """
    how, names = how or Bands(), Pattern(pattern)
    if target not in names.names:
        raise ValueError(f"pattern={pattern} has no field {{{target}}}; it has {', '.join(names.names)}")
    with opened(path) as container:
        found = [(name, fields) for name in container.names if (fields := names.match(name)) is not None]
        if not found:
            some = next((name for name in container.names), None)
            there = f"such as {some[:_MOST_LISTED]}" if some else "it is empty"
            raise ValueError(f"{path}: none of {len(container.names):,} files fits pattern={pattern}; {there}")
        inputs, rates = [], {}
        for name, _ in found:
            sound, rate = read_wav(container.read(name), f"{path}: {name}")
            rates.setdefault(rate, name)
            if len(rates) > 1:
                (first, one), (second, other) = rates.items()
                raise ValueError(
                    f"{path}: {one} has {first} samples per second, {other} has {second}: convert them to one rate"
                )
            inputs.append(band_powers(sound, rate, how))
    fields = columns(fields for _, fields in found)
    dt = None if how.frames else how.hop
    return Samples(inputs, how.bands, list(fields[target]), fields, [name for name, _ in found], dt)
