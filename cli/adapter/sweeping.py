"""The jobs of a sweep, from overrides in Hydra's syntax."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from itertools import product
from pathlib import Path

from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep
from hydra.errors import HydraException

from tracetorch.cli.adapter.composing import check_choice
from tracetorch.cli.adapter.overrides import of_hydra, parse
from tracetorch.cli.adapter.presets import options
from tracetorch.cli.errors import UsageError, shorten

_MOST_JOBS = 10_000
"""Bound for the jobs of a sweep, so that its plan can be read again; see `files.MOST_ELEMENTS`."""


def split(overrides: list[str], config_dir: Path | None = None) -> tuple[list[str], list[str]]:
    """Overrides of a sweep, into those for its runs and those for its launcher. Raises: UsageError."""
    parsed = [(line, parse(line, sweep=True)) for line in overrides]
    for _, override in parsed:
        check_choice(override, config_dir)
    settings = [line for line, override in parsed if of_hydra(override)]
    return [line for line, override in parsed if not of_hydra(override)], settings


def check_number(sweeps: Iterable[list[str]], config_dir: Path | None = None) -> None:
    """Check that sweeps, each the overrides of its runs, have no more jobs than a plan can hold; none is made.

    Args: config_dir: a folder with further choices, see `compose`.
    Raises: UsageError.
    """
    count = sum(math.prod(_count(parse(line, sweep=True), config_dir) for line in overrides) for overrides in sweeps)
    if count > _MOST_JOBS:
        how_many = f"{count:,}" if count < _MOST_JOBS**2 else f"{_MOST_JOBS**2:,} or more"
        raise UsageError(f"this sweep has {how_many} jobs, and a sweep can have {_MOST_JOBS:,}: give fewer values")


def _count(override: Override, config_dir: Path | None) -> int:
    """How many values a line of a sweep has, at most."""
    value = override.value()
    if isinstance(value, Glob):
        return len(options(override.key_or_group, config_dir))
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if not isinstance(value, RangeSweep):
        return 1
    try:
        start, stop, step = (Fraction(number or 0) for number in (value.start, value.stop, value.step))
        return max(0, math.ceil((stop - start) / step))
    except ZeroDivisionError:
        return 0
    except (OverflowError, ValueError):  # of an infinite number
        return _MOST_JOBS**2


def expand(overrides: list[str], config_dir: Path | None = None) -> list[list[str]]:
    """All combinations of the values, each as the overrides of one run; those of the last key vary fastest.

    Args: config_dir: a folder with further choices, see `compose`.
    Raises: UsageError if there is none.
    """
    by_key: dict[str, list[str]] = {}  # of a key that is given twice, the last line counts
    for line in overrides:
        override = parse(line, sweep=True)
        key = override.get_key_element()
        try:
            by_key[key] = [f"{key}={value}" for value in _values(override, config_dir)]
        except (HydraException, ValueError) as error:  # a step of 0
            raise UsageError(f"this sweep has no jobs: {shorten(line)}: {shorten(error, 200)}") from error
    jobs = [list(job) for job in product(*by_key.values())]
    if not jobs:
        raise UsageError(f"this sweep has no jobs: {shorten(' '.join(overrides))}")
    return jobs


def _values(override: Override, config_dir: Path | None) -> Iterable[str]:
    """The values that a line of a sweep lists, as they are typed."""
    value = override.value()
    if isinstance(value, Glob):
        return value.filter(options(override.key_or_group, config_dir))
    if override.is_interval_sweep():
        raise ValueError("an interval lists no values; write range(start,stop,step)")
    return override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_element_as_str()]
