"""The plan of a sweep: its jobs, their names, and its file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tracetorch import files
from tracetorch.cli.adapter import Bases, Composed, check_foreign, check_plain, compose, note_of, portable, restored
from tracetorch.cli.adapter.overrides import check_job_count, expand, split_settings
from tracetorch.cli.adapter.presets import config_folders
from tracetorch.cli.check import KEYS, check_new, check_trusted
from tracetorch.cli.errors import UsageError, quote, shorten
from tracetorch.cli.folders import plain_name
from tracetorch.cli.sweep.launchers import options_of
from tracetorch.cli.sweep.parts import key_of
from tracetorch.cli.sweep.preset import Figure, figures, unfold
from tracetorch.cli.terminal import say
from tracetorch.renamed import current

FILE = "sweep.json"
_MANY = 200
_LONGEST_NAME = 100  # bytes, of 255 that a file system allows


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    name: str  # of its folder, inside that of the sweep
    varies: str  # what sets it apart, such as "seed=1"
    overrides: list[str]
    id: str  # of the run; see `runs.id_of`
    experiment: str = ""
    config: dict[str, Any] = field(default_factory=dict)  # composed; empty in a plan of an older version

    @property
    def composed(self) -> Composed:
        """The config to run; later changes of the presets have no effect."""
        return Composed(self.config, self.experiment)


@dataclass(frozen=True)
class Plan:
    """A sweep before it is run."""

    experiment: str
    typed: list[str]
    settings: list[str]  # of the launcher
    jobs: list[Job]
    root: Path
    path: Path | None
    figures: list[Figure] = field(default_factory=list)  # to be drawn at the end
    config_dir: str = ""  # a folder with further presets, of which the jobs are composed
    seal: str = ""  # of the file that holds it; none, if it has yet to be written
    notes: list[str] = field(default_factory=list)  # to show at the start; see `note_of`

    @property
    def count(self) -> str:
        """How many jobs, in words."""
        return f"{len(self.jobs)} job{'s' * (len(self.jobs) != 1)}"

    def content(self) -> dict[str, Any]:
        """What `sweep.json` holds: of the jobs' configs, first what they have in common, then what each has besides."""
        texts = [{name: repr(part) for name, part in job.config.items()} for job in self.jobs]
        first = self.jobs[0].config
        common = [name for name in first if all(text.get(name) == texts[0][name] for text in texts)]
        return {
            "experiment": self.experiment,
            "typed": self.typed,
            **({"config_dir": self.config_dir} if self.config_dir else {}),
            "settings": self.settings,
            "config": {name: portable(first[name]) for name in common},
            "jobs": [{**vars(job), "config": _portable_without(common, job.config)} for job in self.jobs],
            "figures": [asdict(figure) for figure in self.figures],
        }


def plan(typed: list[str], config_dir: Path | None = None, trust: Sequence[str] = ()) -> Plan:
    """Compose and check every job, so that a mistake in the last is found before the first begins.

    Args:
        typed: with sweep=NAME, what that preset says is in its place.
        config_dir: a folder with further presets, of sweeps and of all other groups.
        trust: packages whose parts a preset from elsewhere may name.
    Raises: UsageError that names the job with an invalid config.
    """
    from tracetorch.runs.identity import id_of

    config_folders(config_dir)  # first, because no single job is at fault if there is no such folder
    preset = unfold(typed, config_dir)
    if trust and preset.origin is None and config_dir is None:
        raise UsageError(
            "--trust in a sweep applies to presets of your own: sweep=mine.yaml, or those of a --config-dir"
        )
    parts = [split_settings(one, config_dir) for one in preset.sweeps]
    settings = parts[0][1]  # typed, and so the same for all
    options_of(settings)
    together: list[list[str]] = []
    for overrides, _ in parts:
        together += expand(overrides, config_dir)
        check_job_count(len(together))
    different: dict[frozenset[str], list[str]] = {}
    for job in together:
        different.setdefault(frozenset(job), job)  # what two parts have in common is run once
    expanded = list(different.values())
    if preset.origin:
        own = set(map(key_of, typed))
        for job in expanded:
            check_foreign((line for line in job if key_of(line) not in own), preset.origin)
    if len(expanded) > _MANY:  # each takes some milliseconds
        say(f"checking {len(expanded)} jobs …", error=True)
    bases: Bases = {}
    composed = [_compose(job, at, len(expanded), config_dir, bases) for at, job in enumerate(expanded)]
    if foreign := preset.origin or config_dir:
        for made in composed:
            check_trusted(made.config, foreign, trust)
    varying = _varying(expanded)
    jobs = []
    for at, (job, made) in enumerate(zip(expanded, composed, strict=True)):
        values = {short: _value(job, key) for key, short in varying.items()}
        varies = ", ".join(f"{short}={value}" for short, value in values.items() if value is not None)
        jobs.append(Job(_name(at, varies), varies, job, id_of(made.config), made.experiment, made.config))
    names = {made.experiment for made in composed}
    outputs = {(made.config["output"].get("root", "outputs"), made.config["output"].get("dir")) for made in composed}
    if len(outputs) > 1:
        raise UsageError("output.root and output.dir apply to the whole sweep: give each a single value")
    root, path = outputs.pop()
    experiment = names.pop() if len(names) == 1 else "several"
    where = files.expanded(path) if path else None
    from_dir = str(config_dir) if config_dir is not None else ""
    chosen = {(made.choices.get("experiment"), made.choices.get("task")): made.choices for made in composed}
    notes = [note for choices in chosen.values() if (note := note_of(choices, config_dir))]
    return Plan(experiment, typed, settings, jobs, files.expanded(root), where, preset.figures, from_dir, notes=notes)


def read_plan(folder: Path) -> Plan:
    """The plan that a sweep left in its folder. Raises: UsageError if it is broken."""
    path = folder / FILE
    try:
        text = files.read_bytes(path)
        content = files.parse_json(text)
        common = content.get("config", {})
        jobs = [Job(**job | {"config": _joined(common, job.get("config", {}))}) for job in content["jobs"]]
        drawn = figures(content.get("figures"), "it")
        experiment = plain_name(content["experiment"])
        typed, settings, seal = content["typed"], content["settings"], hashlib.sha256(text).hexdigest()
        from_dir = content.get("config_dir", "")
        found = Plan(experiment, typed, settings, jobs, folder, folder, drawn, from_dir, seal)
        texts = [from_dir, *typed, *settings, *(text for job in jobs for text in (job.name, *job.overrides))]
        sound = all(isinstance(text, str) and text.isprintable() for text in (*texts, *(job.varies for job in jobs)))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise UsageError(f"{path} is broken ({type(error).__name__}): start the sweep again") from error
    for number, job in enumerate(jobs):
        check_plain(job.config, path, f"jobs[{number}].config")
        if not sound or Path(job.name).name != job.name or job.name in ("", ".", ".."):
            raise UsageError(f"{path}: the job {shorten(repr(job.name))} would lie outside of the sweep's folder")
    return found


def write_plan(planned: Plan, folder: Path) -> Plan:
    """Write a plan into the folder of its sweep. Returns: the same, with its seal. Raises: OSError."""
    from tracetorch.runs.records import to_json

    text = f"{to_json(planned.content(), indent=2)}\n".encode()
    files.write_whole(folder / FILE, text)
    return replace(planned, seal=hashlib.sha256(text).hexdigest())


@lru_cache(maxsize=1)
def sealed(folder: Path, seal: str) -> dict[str, Job]:
    """The jobs of a plan that was checked, by their names; read once in each process.

    Raises: UsageError if the file has changed since it was checked.
    """
    found = read_plan(folder)
    if found.seal != seal:
        raise UsageError(
            f"{folder / FILE} was changed while the sweep was running; to continue: tracetorch resume {quote(folder)}"
        )
    return {job.name: job for job in found.jobs}


def _portable_without(common: list[str], config: dict[str, Any]) -> dict[str, Any]:
    return {name: portable(part) for name, part in config.items() if name not in common}


def _joined(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A job's config, in the order of a config's file, with its keys as they are called now."""
    both = {**common, **own}
    return {name: current(restored(both[name])) for name in (*KEYS, *both) if name in both}


def _compose(job: list[str], at: int, count: int, config_dir: Path | None, bases: Bases) -> Composed:
    try:
        composed = compose(job, config_dir, bases)
        check_new(composed.config)
    except UsageError as error:
        which = f"job {at} of {count} ({shorten(' '.join(job))}): " if count > 1 else ""
        raise UsageError(f"{which}{error}") from error
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
