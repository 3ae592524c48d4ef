"""The plan of a sweep: its jobs, its file, and the checks of a file that may come from elsewhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tracetorch import files
from tracetorch.cli import project
from tracetorch.cli.adapter import (
    GROUPS,
    Bases,
    Composed,
    amend,
    check_foreign,
    compose,
    is_own,
    note_of,
    typed_values,
)
from tracetorch.cli.adapter.overrides import check_job_count, expand, split_settings
from tracetorch.cli.adapter.presets import config_folders
from tracetorch.cli.adapter.reading import check_plain, portable, restored
from tracetorch.cli.check import KEYS, check, check_new, check_own, check_trusted
from tracetorch.cli.errors import UsageError, prefixed, quote, shorten
from tracetorch.cli.folders import config_difference, folder_name, plain_name, short_names, with_other_lengths
from tracetorch.cli.sweep.launchers import LAUNCHERS, options_of
from tracetorch.cli.sweep.preset import Figure, figures, key_of, unfold
from tracetorch.cli.terminal import say
from tracetorch.renamed import current, current_overrides
from tracetorch.runs.identity import id_of
from tracetorch.runs.records import to_json

FILE = "sweep.json"
_MANY = 200  # jobs; a message announces the check of more
_MOST_COMPOSED = 20  # jobs; each takes a fifth of a second

_SAFE_SETTINGS = {f"hydra.launcher.{name}" for known in LAUNCHERS.values() for name in known} - {
    "hydra.launcher.setup",
    "hydra.launcher.additional_parameters",
}
"""Settings of launchers that a plan from a folder may hold; the other two run commands."""

_VALUE = re.compile(r"[\w.,:/@%+-]*", re.ASCII)
"""A safe value of a setting: a word or a number. submitit writes values into a shell script."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    name: str  # of its folder, inside the sweep's folder
    varies: str  # such as "seed=1"
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
    figures: list[Figure] = field(default_factory=list)  # drawn at the end
    config_dir: str = ""  # the folder of further presets
    seal: str = ""  # the hash of `sweep.json`; empty before the file is written
    notes: list[str] = field(default_factory=list)  # to show at the start; see `note_of`
    lengths: list[str] = field(default_factory=list)  # typed later: the present length of all jobs

    @property
    def count(self) -> str:
        return f"{len(self.jobs)} job{'s' * (len(self.jobs) != 1)}"

    def content(self) -> dict[str, Any]:
        """The content of `sweep.json`: the parts that all configs have in common, and the other parts with each job."""
        texts = [{name: repr(part) for name, part in job.config.items()} for job in self.jobs]
        first = self.jobs[0].config
        common = [name for name in first if all(text.get(name) == texts[0][name] for text in texts)]
        own = [{name: portable(part) for name, part in job.config.items() if name not in common} for job in self.jobs]
        return {
            "experiment": self.experiment,
            "typed": self.typed,
            **({"config_dir": self.config_dir} if self.config_dir else {}),
            "settings": self.settings,
            **({"lengths": self.lengths} if self.lengths else {}),
            "config": {name: portable(first[name]) for name in common},
            "jobs": [{**vars(job), "config": config} for job, config in zip(self.jobs, own, strict=True)],
            "figures": [asdict(figure) for figure in self.figures],
        }


def plan(typed: list[str], config_dir: Path | None = None, trust: Sequence[str] = (), *, imports: bool = True) -> Plan:
    """Compose and check every job, so that an error in the last is found before the first starts.

    Args:
        typed: overrides; sweep=NAME is replaced by the content of that preset.
        config_dir: a folder with further presets of all groups.
        trust: packages whose parts a preset from elsewhere may name.
        imports: whether packages of the user's own are imported to see what they define.
    Raises: UsageError that names the job with an invalid config.
    """
    config_folders(config_dir)  # first, so that the message of a missing folder names no job
    preset = unfold(typed, config_dir)
    if trust and preset.origin is None and config_dir is None and project.current() is None:
        raise UsageError(
            "--trust in a sweep applies to presets of your own: sweep=mine.yaml, or those of a --config-dir"
        )
    parts = [split_settings(part) for part in preset.sweeps]
    settings = parts[0][1]  # typed, and so equal in all parts
    options_of(settings)
    all_jobs: list[list[str]] = []
    for overrides, _ in parts:
        all_jobs += expand(overrides, config_dir)
        check_job_count(len(all_jobs))
    unique: dict[frozenset[str], list[str]] = {}
    for job in all_jobs:
        unique.setdefault(frozenset(job), job)  # a job that occurs in two parts is run once
    expanded = list(unique.values())
    typed_keys = set(map(key_of, typed))
    if preset.origin:
        for job in expanded:
            check_foreign((line for line in job if key_of(line) not in typed_keys), preset.origin)
    if len(expanded) > _MANY:  # each takes some milliseconds
        say(f"checking {len(expanded)} jobs …", error=True)
    bases: Bases = {}
    composed = [
        _compose(job, at, len(expanded), config_dir, bases, calls_own=imports and not preset.origin)
        for at, job in enumerate(expanded)
    ]
    for job, each in zip(expanded, composed, strict=True):
        given = typed_values(line for line in job if not preset.origin or key_of(line) in typed_keys)
        if preset.origin and config_dir is None:
            packages = [*trust, *project.trusted(preset.origin)]
            check_trusted(each.config, preset.origin, packages, given, imports=imports)
        check_own(each.config, given, config_dir, trust, imports=imports)
    values = [dict(line.split("=", 1) for line in job) for job in expanded]
    keys = dict.fromkeys(key for by_key in values for key in by_key)
    varying = short_names([key for key in keys if len({by_key.get(key) for by_key in values}) > 1])
    jobs = []
    for number, (job, by_key, each) in enumerate(zip(expanded, values, composed, strict=True)):
        varies = ", ".join(f"{short}={by_key[key]}" for key, short in varying.items() if key in by_key)
        name = folder_name(f"{number:03d}", varies)
        jobs.append(Job(name, varies, job, id_of(each.config), each.experiment, each.config))
    names = {each.experiment for each in composed}
    outputs = {(each.config["output"].get("root", "outputs"), each.config["output"].get("dir")) for each in composed}
    if len(outputs) > 1:
        raise UsageError("output.root and output.dir apply to the whole sweep: give each a single value")
    root, path = outputs.pop()
    choices = {(each.choices.get("experiment"), each.choices.get("task")): each.choices for each in composed}
    notes = [note_of(chosen, config_dir) for chosen in choices.values()]
    notes += [note for each in composed for note in each.notes]
    return Plan(
        experiment=names.pop() if len(names) == 1 else "several",
        typed=typed,
        settings=settings,
        jobs=jobs,
        root=files.expanded(root),
        path=files.expanded(path) if path else None,
        figures=preset.figures,
        config_dir=str(config_dir) if config_dir is not None else "",
        notes=[note for note in dict.fromkeys(notes) if note],
    )


def _compose(
    job: list[str], at: int, count: int, config_dir: Path | None, bases: Bases, *, calls_own: bool
) -> Composed:
    try:
        composed = compose(job, config_dir, bases, calls_own=calls_own)
        check_new(composed.config)
    except UsageError as error:
        which = f"job {at} of {count} ({shorten(' '.join(job))}): " if count > 1 else ""
        raise UsageError(f"{which}{error}") from error
    return composed._replace(task=None)  # so that only one is in memory


def write_plan(planned: Plan, folder: Path) -> Plan:
    """Write a plan into the folder of its sweep. Returns: the plan with its seal. Raises: UsageError."""
    text = f"{to_json(planned.content(), indent=2)}\n".encode()
    try:
        files.write_whole(folder / FILE, text)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
    return replace(planned, seal=hashlib.sha256(text).hexdigest())


def read_plan(folder: Path) -> Plan:
    """Read the plan from a sweep's folder. Raises: UsageError if it is broken."""
    path = folder / FILE
    try:
        text = files.read_bytes(path)
        content = files.parse_json(text)
        common = content.get("config", {})
        jobs = [Job(**job | {"config": _joined(common, job.get("config", {}))}) for job in content["jobs"]]
        planned_figures = figures(content.get("figures"), "it")
        experiment = plain_name(content["experiment"])
        typed, settings, seal = content["typed"], content["settings"], hashlib.sha256(text).hexdigest()
        from_dir = content.get("config_dir", "")
        lengths = content.get("lengths", [])
        found = Plan(
            experiment, typed, settings, jobs, folder, folder, planned_figures, from_dir, seal, lengths=lengths
        )
        texts = [from_dir, *typed, *settings, *lengths, *(text for job in jobs for text in (job.name, *job.overrides))]
        if not all(isinstance(text, str) and text.isprintable() for text in (*texts, *(job.varies for job in jobs))):
            raise ValueError
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise UsageError(f"{path} is broken ({type(error).__name__}): start the sweep again") from error
    for number, job in enumerate(jobs):
        check_plain(job.config, path, f"jobs[{number}].config")
        if Path(job.name).name != job.name or job.name in ("", ".", ".."):
            raise UsageError(f"{path}: the job {shorten(repr(job.name))} would lie outside of the sweep's folder")
    return found


def _joined(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Join the two parts of a job's config, in the order of a config's file, and rename outdated keys."""
    both = {**common, **own}
    return {name: current(restored(both[name])) for name in (*KEYS, *both) if name in both}


@lru_cache(maxsize=1)
def sealed(folder: Path, seal: str) -> dict[str, Job]:
    """The jobs of a checked plan, by name; read once in each process.

    Raises: UsageError if the file has changed since the check.
    """
    found = read_plan(folder)
    if found.seal != seal:
        raise UsageError(
            f"{folder / FILE} was changed while the sweep was running; to continue: tracetorch resume {quote(folder)}"
        )
    return {job.name: job for job in found.jobs}


def check_plan(plan: Plan, folder: Path, changes: Iterable[str] = (), trust: Collection[str] = ()) -> Plan:
    """Check that a plan from a folder has safe settings of the launcher, and that its configs call trusted parts only.

    Args:
        changes: settings from this command line, which are trusted and replace settings of the plan.
        trust: packages whose parts the configs may name, in addition to those of traceTorch and torch.
    Returns: the plan; if it is from an older version and lacks configs, they are composed.
    Raises: UsageError that names the first setting, or the first part of a config, that is not allowed.
    """
    path, typed = folder / FILE, {line.lstrip("+").partition("=")[0] for line in changes}
    for line in plan.settings:
        key, _, value = line.partition("=")
        if key.lstrip("+") in typed or "hydra/launcher" in typed:  # another launcher replaces all settings
            continue
        is_safe = value in LAUNCHERS if key == "hydra/launcher" else key.lstrip("+") in _SAFE_SETTINGS
        if not is_safe or not _VALUE.fullmatch(value):
            advice = f"if you trust it, type it: tracetorch resume {quote(folder)} {quote(shorten(line))}"
            raise UsageError(f"{path} sets {shorten(line)!r}, which may run commands; {advice}")
    jobs = [job if job.config else _composed(job, path) for job in plan.jobs]
    for job in jobs:
        with prefixed(f"{path}, job {shorten(job.name)}: "):
            check(job.config)
        check_trusted(job.config, path, [*trust, *project.trusted(folder)])
    return plan if jobs == plan.jobs else replace(plan, jobs=jobs, seal="")


def lengthened(plan: Plan, lengths: Sequence[str]) -> Plan:
    """The plan with another length of all jobs. Args: lengths: typed changes of keys in `CHANGEABLE`.

    Raises: UsageError if a job cannot have this length, or if two jobs would be the same.
    """
    jobs = []
    for job in plan.jobs:
        changes = with_other_lengths(job.config, lengths)
        config = amend(job.config, changes).config
        with prefixed(f"job {shorten(job.name)}: "):
            check(config)
        keys = {key_of(line) for line in changes}
        overrides = [*(line for line in job.overrides if key_of(line) not in keys), *changes]
        jobs.append(replace(job, config=config, id=id_of(config), overrides=overrides))
    if len({job.id for job in jobs}) < len(jobs):
        raise UsageError(
            f"'{shorten(' '.join(lengths))}': jobs of this sweep differ in their length alone; lengthen single jobs, "
            f"such as: tracetorch resume {quote(plan.root / plan.jobs[0].name)} {quote(lengths[0])}"
        )
    return replace(plan, jobs=jobs, lengths=list(lengths), seal="")


def _composed(job: Job, path: Path) -> Job:
    check_foreign(job.overrides, path)
    with prefixed(f"{path}, job {shorten(job.name)}: "):
        composed = compose(current_overrides(job.overrides))
    return replace(job, id=id_of(composed.config), experiment=composed.experiment, config=composed.config)


def changed_since(plan: Plan, jobs: Iterable[Job]) -> str:
    """What has changed in the presets since a sweep was planned: a clause for a message; "" if nothing has.

    Of the jobs with the same choices, only one is composed; none if presets of another folder were used.
    """
    if plan.config_dir:
        return ""
    by_choice = {tuple(line for line in job.overrides if line.partition("=")[0] in GROUPS): job for job in jobs}
    for job in list(by_choice.values())[:_MOST_COMPOSED]:
        has_preset = any(line.startswith("experiment=") for line in job.overrides)
        if not has_preset and is_own(job.config.get("task") or {}):  # what suits its data is found by calling it
            continue
        try:
            check_foreign(job.overrides, FILE)
            new_config = compose(current_overrides(job.overrides)).config
        except UsageError as error:
            return f"they no longer compose ({error})"
        if found := config_difference(job.config, new_config):
            return f"{found.key} has another value"
    return ""
