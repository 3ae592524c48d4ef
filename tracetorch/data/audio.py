"""Recordings of sound: wav files whose names fit a pattern, as the power in frequency bands."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any, Literal, NamedTuple

import numpy as np

from tracetorch.data.container import Container
from tracetorch.data.pattern import Pattern, columns
from tracetorch.data.samples import Samples


class Bands(NamedTuple):
    """Settings by which a recording becomes frames of band powers.

    A frame is a window of `window` seconds. `frames` of them are spread evenly from the start to the end, so that all
    recordings have the same number of steps; with `hop`, there is one every `hop` seconds instead. Bands lie between
    `low` Hz and half the sample rate: triangular filters, evenly spaced on the mel scale, m = 2595·log10(1 + f/700), or
    gammatone filters of fourth order, evenly spaced on the scale of equivalent rectangular bandwidths. The input is
    max(0, ½z + ½), where z is the log power, standardized over all frames and bands of the recording.

    Source: for mel, O'Shaughnessy (1987), Speech communication: human and machine, Addison-Wesley; for gammatone,
        Glasberg, Moore (1990), doi:10.1016/0378-5955(90)90170-T, and Patterson et al. (1987), An efficient auditory
        filterbank based on the gammatone function.
    """

    bands: int = 40
    scale: Literal["mel", "gammatone"] = "mel"
    frames: int | None = 64
    hop: float | None = None
    window: float = 0.032
    low: float = 50.0
    sample_rate: int | None = None  # Hz, to which recordings are converted; None: theirs, which must be the same


def mel_filters(bands: int, rate: float, bins: int, low: float) -> np.ndarray:
    """Return the weights of triangular filters, (bands, bins), each with the sum 1.

    Args: rate: samples a second. bins: number of frequencies, from 0 to rate/2. low: frequency where bands begin, Hz.
    """
    edges = band_edges("mel", bands, rate, low)
    frequency = np.linspace(0, rate / 2, bins)
    rising = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0, np.minimum(rising, falling))
    # A band between two bins would be empty: it gets the nearest bin.
    empty = ~filters.any(axis=1)
    filters[empty, np.abs(frequency - edges[1:-1][empty, None]).argmin(axis=1)] = 1
    return filters / filters.sum(axis=1, keepdims=True)


def gammatone_filters(bands: int, rate: float, bins: int, low: float) -> np.ndarray:
    """Return the power response of fourth-order gammatone filters, (bands, bins), each with the sum 1.

    Args: as of `mel_filters`.
    """
    centres = band_edges("gammatone", bands, rate, low)[1:-1]
    width = 1.019 * 24.7 * (1 + 0.00437 * centres)
    frequency = np.linspace(0, rate / 2, bins)
    filters = (1 + ((frequency - centres[:, None]) / width[:, None]) ** 2) ** -4.0
    return filters / filters.sum(axis=1, keepdims=True)


_FILTERS = {"mel": mel_filters, "gammatone": gammatone_filters}
_SCALES = {"mel": (2595, 700), "gammatone": (21.4, 1 / 0.00437)}
"""Factor a and frequency b of each scale: its value at the frequency f is a·log10(1 + f/b)."""


def band_edges(scale: str, bands: int, rate: float, low: float) -> np.ndarray:
    """Return the edges of overlapping bands in Hz, (bands + 2,): band k ends at k and k + 2, its centre is k + 1."""
    factor, base = _SCALES[scale]
    first, last = (factor * np.log10(1 + hertz / base) for hertz in (low, rate / 2))
    return base * (10 ** (np.linspace(first, last, bands + 2) / factor) - 1)


def band_powers(sound: np.ndarray, rate: float, how: Bands) -> np.ndarray:
    """Return the input of each band in each frame, (frames, bands), float32; see `Bands`.

    Args: sound: (samples,). rate: samples a second.
    """
    length = max(16, round(how.window * rate))
    padded = np.pad(sound, (0, max(0, length - len(sound))))
    last = len(padded) - length
    if how.hop is None:
        starts = np.linspace(0, last, how.frames or 1).astype(int)
    else:
        starts = np.arange(0, last + 1, max(1, round(how.hop * rate)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)[starts] * np.hanning(length)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    logs = np.log(power @ _FILTERS[how.scale](how.bands, rate, power.shape[1], how.low).T + 1e-8)
    spread = logs.std()
    return np.maximum(0.5 * (logs - logs.mean()) / (spread if spread > 0 else 1) + 0.5, 0).astype(np.float32)


def read_wav(content: bytes, name: str) -> tuple[np.ndarray, int]:
    """Return the sound of a wav file, (samples,), its channels averaged, and its sample rate in Hz.

    Returns: float32; files of whole numbers are scaled to [−1, 1].
    Raises: ValueError that names the file if it is not a wav file, is damaged, is empty, or holds NaN or infinity.
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


def read_audio(container: Container, pattern: Pattern, target: str = "label", how: Bands | None = None) -> Samples:
    """Read the wav files of a folder or an archive whose names fit a pattern.

    Args: target: the field of the pattern that is the label. how: None: the defaults of `Bands`.
    Returns: inputs (recordings, frames, bands), or, with a hop, a list of (steps, bands).
    Raises: OSError; ValueError for invalid settings, or that says what was found and what is wanted.
    """
    how, path = how or Bands(), container.path
    _check(how)
    found = pattern.matching(container)
    inputs, rates = [], dict[int, str]()  # names of files by sample rate
    for name, _ in found:
        sound, rate = read_wav(container.read(name), f"{path}: {name}")
        if how.sample_rate is not None and rate != how.sample_rate:
            sound, rate = _resampled(sound, rate, how.sample_rate), how.sample_rate
        rates.setdefault(rate, name)
        if len(rates) > 1:
            (first_rate, first_name), _ = rates.items()
            raise ValueError(
                f"{path}: {first_name} has {first_rate} samples a second, {name} has {rate}: give "
                f"task.sample_rate={min(rates)}"
            )
        if rate <= 2 * how.low:
            raise ValueError(f"{path}: {name} has {rate} samples a second; wanted: more than {2 * how.low:g}")
        inputs.append(band_powers(sound, rate, how))
    fields = columns(fields for _, fields in found)
    names = [name for name, _ in found]
    stacked: Any = np.stack(inputs) if how.hop is None else inputs
    centres = band_edges(how.scale, how.bands, rate, how.low)[1:-1]
    source, goals = str(path), list(fields[target])
    return Samples(stacked, how.bands, goals, fields, names, source, how.hop, is_scaled=True, frequencies=centres)


def _check(how: Bands) -> None:
    """Raises: ValueError for a setting that is not above 0, and without `frames` and `hop`."""
    if how.frames is None and how.hop is None:
        raise ValueError("task.frames=null: give task.hop, the seconds from one step to the next")
    for key, value in how._asdict().items():
        if isinstance(value, int | float) and not 0 < value < math.inf:
            raise ValueError(f"task.{key} must be above 0 and finite, got {value:g}")


def _resampled(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return the sound at another sample rate. Args: rate, wanted: samples a second, of the sound and of the result."""
    from scipy.signal import resample_poly  # noqa: PLC0415

    common = math.gcd(rate, wanted)
    return np.asarray(resample_poly(sound, wanted // common, rate // common), dtype=np.float32)
