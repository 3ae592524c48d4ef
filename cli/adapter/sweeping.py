"""The jobs of a sweep, from overrides in Hydra's syntax."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice, product
from pathlib import Path

from hydra.core.override_parser.types import Glob, Override, RangeSweep
from hydra.errors import HydraException

from tracetorch.cli.adapter.composing import check_group_choice
from tracetorch.cli.adapter.overrides import is_hydra_override, parse
from tracetorch.cli.adapter.presets import options
from tracetorch.cli.errors import UsageError, shorten

_MOST_JOBS = 10_000
"""Bound for the jobs of a sweep, so that its plan can be read again; see `files.MOST_ELEMENTS`."""


def split_settings(overrides: list[str], config_dir: Path | None = None) -> tuple[list[str], list[str]]:
    """Overrides of a sweep, into those for its runs and those for its launcher. Raises: UsageError."""
    parsed = [(line, parse(line, sweep=True)) for line in overrides]
    for _, override in parsed:
        check_group_choice(override, config_dir)
    settings = [line for line, override in parsed if is_hydra_override(override)]
    return [line for line, override in parsed if not is_hydra_override(override)], settings


def check_job_count(count: int) -> None:
    """Raises: UsageError if these are more jobs than a plan can hold."""
    if count > _MOST_JOBS:
        raise UsageError(f"this sweep has more than {_MOST_JOBS:,} jobs, the most that there can be: give fewer values")


def expand(overrides: list[str], config_dir: Path | None = None) -> list[list[str]]:
    """All combinations of the values, each as the overrides of one run; those of the last key vary fastest.

    Args: config_dir: a folder with further choices, see `compose`.
    Raises: UsageError if there is none, or if there are too many; then none is made.
    """
    by_key: dict[str, list[str]] = {}  # of a key that is given twice, the last line counts
    for line in overrides:
        override = parse(line, sweep=True)
        key = override.get_key_element()
        try:
            by_key[key] = [f"{key}={value}" for value in _values(override, config_dir)]
        except (HydraException, ValueError, ArithmeticError) as error:  # a step of 0; an end that is not a number
            raise UsageError(f"this sweep has no jobs: {shorten(line)}: {shorten(error, 200)}") from error
    check_job_count(math.prod(map(len, by_key.values())))
    jobs = [list(job) for job in product(*by_key.values())]
    if not jobs:
        raise UsageError(f"this sweep has no jobs: {shorten(' '.join(overrides))}")
    return jobs


def _values(override: Override, config_dir: Path | None) -> Iterable[object]:
    """The values that a line of a sweep lists, as they are typed; of too many, one more than there can be jobs."""
    value = override.value()
    if isinstance(value, Glob):
        return value.filter(options(override.key_or_group, config_dir))
    if override.is_interval_sweep():
        raise ValueError("an interval lists no values; write range(start,stop,step)")
    if isinstance(value, RangeSweep):
        first = list(islice(value.range(), _MOST_JOBS + 1))
        if len(first) > _MOST_JOBS:
            return first
    return override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_element_as_str()]
