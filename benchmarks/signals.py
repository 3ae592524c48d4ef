"""Two signals with a target at each step, as tables of 20,000 steps of 10 ms.

python benchmarks/signals.py FOLDER

FOLDER/delay.csv: a smooth signal, six sines with periods of 25 to 120 steps; the target is the signal 10 steps before.
FOLDER/frequency.csv: a sine whose frequency drifts between .02 and .12 per step; the target is its frequency.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

STEPS, DELAY, DT = 20_000, 10, 0.01


def delay(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the signal, and itself 10 steps before; NaN where there is nothing before."""
    frequencies, phases = random.uniform(1 / 120, 1 / 25, 6), random.uniform(0, 2 * np.pi, 6)
    steps = np.arange(STEPS)
    waves = np.sin(2 * np.pi * frequencies[:, None] * steps + phases[:, None])
    signal = waves.sum(axis=0) / np.sqrt(3)
    return signal, np.concatenate([np.full(DELAY, np.nan), signal[:-DELAY]])


def frequency(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a sine, and its frequency at each step."""
    knots = np.arange(0, STEPS + 50, 50)
    rate = np.interp(np.arange(STEPS), knots, random.uniform(0.02, 0.12, len(knots)))
    return np.sin(2 * np.pi * np.cumsum(rate)), rate


def main() -> None:
    """Write both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for make in (delay, frequency):
        signal, target = make(np.random.default_rng(0))
        lines = [
            f"{at * DT:.2f},{x:.5f},{'' if np.isnan(y) else f'{y:.6f}'}"
            for at, (x, y) in enumerate(zip(signal, target, strict=True))
        ]
        (folder / f"{make.__name__}.csv").write_text("time,x,target\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
