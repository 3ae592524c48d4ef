"""What a sweep consists of: its jobs, their names, and the file that says so."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tracetorch.cli.adapter import Composed, compose
from tracetorch.cli.adapter.sweeping import expand, split
from tracetorch.cli.check import check, check_trusted
from tracetorch.cli.errors import UsageError, shorten
from tracetorch.cli.folders import plain_name
from tracetorch.cli.sweep.preset import Figure, figures, unfold
from tracetorch.cli.terminal import say

FILE = "sweep.json"
_MANY = 20
_LONGEST_NAME = 100  # bytes, of 255 that a file system allows


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    name: str  # of its folder, inside that of the sweep
    varies: str  # what sets it apart, such as "seed=1"
    overrides: list[str]
    id: str  # of the run; see `runs.id_of`


@dataclass(frozen=True)
class Plan:
    """A sweep before it is run."""

    experiment: str
    typed: list[str]
    settings: list[str]  # those for Hydra's launcher
    jobs: list[Job]
    root: Path
    exactly: Path | None
    figures: list[Figure] = field(default_factory=list)  # to be drawn at the end

    def content(self) -> dict[str, Any]:
        """What `sweep.json` holds."""
        return {
            "experiment": self.experiment,
            "typed": self.typed,
            "settings": self.settings,
            "jobs": [asdict(job) for job in self.jobs],
            "figures": [asdict(figure) for figure in self.figures],
        }


def plan(typed: list[str], config_dir: Path | None = None, trust: Sequence[str] = ()) -> Plan:
    """Compose and check every job, so that a mistake in the last is found before the first begins.

    Args:
        typed: with sweep=NAME, what that preset says is in its place.
        config_dir: a folder with further presets of sweeps.
        trust: packages whose parts a preset from elsewhere may name.
    Raises: UsageError that names the job, for a config that cannot be.
    """
    from tracetorch.runs.identity import id_of

    preset = unfold(typed, config_dir)
    if trust and preset.origin is None:
        raise UsageError("--trust, in a sweep, is for a preset of another place: tracetorch run -m sweep=mine.yaml …")
    parts = [split(one) for one in preset.sweeps]
    settings = parts[0][1]  # typed, and so the same for all
    different: dict[frozenset[str], list[str]] = {}
    for overrides, _ in parts:
        for job in expand(overrides, settings):
            different.setdefault(frozenset(job), job)  # what two parts have in common is run once
    expanded = list(different.values())
    if len(expanded) > _MANY:  # each takes a fifth of a second
        say(f"checking {len(expanded)} jobs …", error=True)
    composed = [_compose(job, at, len(expanded)) for at, job in enumerate(expanded)]
    for made in composed if preset.origin else ():
        check_trusted(made.config, preset.origin, trust)
    varying = _varying(expanded)
    jobs = []
    for at, (job, made) in enumerate(zip(expanded, composed, strict=True)):
        values = {short: _value(job, key) for key, short in varying.items()}
        varies = ", ".join(f"{short}={value}" for short, value in values.items() if value is not None)
        jobs.append(Job(_name(at, varies), varies, job, id_of(made.config)))
    names = {made.experiment for made in composed}
    outputs = {(made.config["output"].get("root", "outputs"), made.config["output"].get("dir")) for made in composed}
    if len(outputs) > 1:
        raise UsageError("output.root and output.dir say where the whole sweep goes: give them one value each")
    root, exactly = outputs.pop()
    experiment = names.pop() if len(names) == 1 else "several"
    where = Path(exactly).expanduser() if exactly else None
    return Plan(experiment, typed, settings, jobs, Path(root).expanduser(), where, preset.figures)


def read(folder: Path) -> Plan:
    """The plan that a sweep left in its folder. Raises: UsageError if it is broken."""
    path = folder / FILE
    try:
        if not path.is_file():
            raise OSError
        content = json.loads(path.read_text(encoding="utf-8"))
        jobs = [Job(**job) for job in content["jobs"]]
        drawn = figures(content.get("figures"), "it")
        experiment = plain_name(content["experiment"])
        found = Plan(experiment, content["typed"], content["settings"], jobs, folder, folder, drawn)
        texts = [*found.typed, *found.settings, *(text for job in jobs for text in (job.name, *job.overrides))]
        sound = all(isinstance(text, str) and text.isprintable() for text in (*texts, *(job.varies for job in jobs)))
    except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
        raise UsageError(f"{path} is broken ({type(error).__name__}): start the sweep again") from error
    for job in jobs:
        if not sound or Path(job.name).name != job.name or job.name in ("", ".", ".."):
            raise UsageError(f"{path}: the job {shorten(repr(job.name))} would lie outside of the sweep's folder")
    return found


def _compose(job: list[str], at: int, count: int) -> Composed:
    try:
        composed = compose(job)
        check(composed.config)
    except UsageError as error:
        raise UsageError(f"job {at} of {count} ({shorten(' '.join(job))}): {error}") from error
    return composed


def _varying(jobs: list[list[str]]) -> dict[str, str]:
    """Keys whose values differ between jobs, and a short name for each."""
    keys = list(dict.fromkeys(line.partition("=")[0] for job in jobs for line in job))
    varying = [key for key in keys if len({_value(job, key) for job in jobs}) > 1]
    last = [key.rpartition(".")[2] for key in varying]
    return {key: short if last.count(short) == 1 else key for key, short in zip(varying, last, strict=True)}


def _value(job: list[str], key: str) -> str | None:
    return next((line.partition("=")[2] for line in job if line.partition("=")[0] == key), None)


def _name(at: int, varies: str) -> str:
    """A name for a folder that every file system takes."""
    plain = re.sub(r"[^\w.,=+\[\]-]+", "-", varies.replace(", ", ",")).strip("-")
    cut = plain.encode()[:_LONGEST_NAME].decode(errors="ignore")
    return f"{at:03d}_{cut}" if cut else f"{at:03d}"
