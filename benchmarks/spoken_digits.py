"""Spoken digits as a user's own task: several learning moments in a sequence, compared with one at its end.

PYTHONPATH=benchmarks tracetorch run -m --config-dir benchmarks/conf --trust spoken_digits experiment=spoken_digits \
    task.path=FOLDER/recordings.zip train.learn_every=null,16,8,4 seed=0,1,2
"""

from __future__ import annotations

import io
import wave
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import PurePath

import numpy as np
import torch
from torch import Tensor

from tracetorch.encode import Stream, mix_seed
from tracetorch.tasks.task import Batch, Task, Trials, check_split, classified, slices

SAMPLE_RATE = 8000
BANDS, FRAMES, WINDOW = 40, 64, 256


class SpokenDigits(Task):
    """Which digit is spoken? The network gets the log power of 40 mel bands as currents, 64 steps for any recording.

    Args:
        path: a zip of wav files with names such as 7_lucas_12.wav: digit, speaker, index.
        test: the test recordings: "index" (indices 0 to 4 of all speakers), or a speaker's name (all of that speaker).
        validation: also leave out indices 5 to 9 of the training recordings, as validation data.
        batch_size: recordings in a training batch.
        seed: of the order of recordings, which changes with each pass.
    Raises: OSError, ValueError, wave.Error if the recordings cannot be read; ValueError if there is no such speaker.
    Source: Jackson et al., Free Spoken Digit Dataset, doi:10.5281/zenodo.1342401.
    """

    input_size, output_size, steps = BANDS, 10, FRAMES

    def __init__(
        self, *, path: str, test: str = "index", validation: bool = False, batch_size: int = 64, seed: int = 0
    ):
        self.batch_size, self.seed = batch_size, seed
        features, names = _read(path)
        digits = torch.tensor([int(digit) for digit, _, _ in names])
        index = torch.tensor([int(number) for _, _, number in names])
        speakers = sorted({speaker for _, speaker, _ in names})
        if test not in ("index", *speakers):
            raise ValueError(f"test must be index or one of the speakers {', '.join(speakers)}, got {test!r}")
        tested = index < 5 if test == "index" else torch.tensor([speaker == test for _, speaker, _ in names])
        held_out = ~tested & (index >= 5) & (index < 10) & validation
        self.splits = {
            name: (features[chosen], digits[chosen])
            for name, chosen in (("train", ~tested & ~held_out), ("validation", held_out), ("test", tested))
        }
        self.batches_per_pass = len(self.splits["train"][0]) // batch_size

    def train_batch(self, number: int) -> Batch:
        epoch, at = divmod(number, self.batches_per_pass)
        generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch) >> 1)
        order = torch.randperm(len(self.splits["train"][0]), generator=generator)
        return self._batch("train", order[at * self.batch_size : (at + 1) * self.batch_size])

    def eval_batches(self, split: str) -> Iterator[Batch]:
        check_split(split)
        for part in slices(len(self.splits[split][0]), 500):
            yield self._batch(split, torch.arange(part.start, part.stop))

    def score(self, output: Tensor, batch: Batch) -> Trials:
        return classified(output, batch.target)

    def _batch(self, split: str, chosen: Tensor) -> Batch:
        features, digits = (data[chosen] for data in self.splits[split])
        return Batch(Stream(partial(_steps, features), FRAMES, (len(chosen), BANDS)), digits, {})


def _steps(features: Tensor, start: int, stop: int) -> Tensor:
    return features[:, start:stop].transpose(0, 1)


def _read(path: str) -> tuple[Tensor, list[list[str]]]:
    """Return features (recordings, FRAMES, BANDS), and the digit, speaker and index of each recording."""
    features, names = [], []
    filters = _mel_filters()
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".wav"):
                with wave.open(io.BytesIO(archive.read(name))) as recording:
                    samples = np.frombuffer(recording.readframes(recording.getnframes()), dtype="<i2")
                features.append(_features(samples / 32768, filters))
                names.append(PurePath(name).stem.split("_"))
    return torch.stack(features), names


def _features(samples: np.ndarray, filters: np.ndarray) -> Tensor:
    """max(0, ½z + ½), where z is the log power of each band in each frame, standardised over the recording."""
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    starts = np.linspace(0, len(samples) - WINDOW, FRAMES).astype(int)
    frames = samples[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    power = np.log(np.abs(np.fft.rfft(frames)) ** 2 @ filters + 1e-8)
    normal = (power - power.mean()) / power.std()
    return torch.from_numpy(np.maximum(0.5 * normal + 0.5, 0)).float()


def _mel_filters() -> np.ndarray:
    """Triangular filters, equally wide on the mel scale: (frequencies, BANDS)."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))
