"""Checks of a plan that was read from a folder, which may come from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from tracetorch.cli.adapter import GROUPS, check_foreign, compose
from tracetorch.cli.check import check, check_trusted
from tracetorch.cli.errors import UsageError, quote, shorten
from tracetorch.cli.folders import config_difference
from tracetorch.cli.sweep.launchers import LAUNCHERS
from tracetorch.cli.sweep.plan import FILE, Job, Plan

_MOST_COMPOSED = 20  # each takes a fifth of a second
_SETTINGS = {f"hydra.launcher.{name}" for known in LAUNCHERS.values() for name in known} - {
    "hydra.launcher.setup",
    "hydra.launcher.additional_parameters",
}
"""Settings of launchers that say how much, where and how long; the others run commands."""

_VALUE = re.compile(r"[\w.,:/@%+-]*", re.ASCII)
"""A setting's value that is nothing but a word or a number: submitit writes values into a shell script."""


def check_plan(plan: Plan, folder: Path, changes: Iterable[str] = (), trust: Collection[str] = ()) -> Plan:
    """A plan from a folder may launch its jobs by known means, and its configs may call only what is trusted.

    Args:
        changes: settings from this command line; trusted, and they replace the plan's.
        trust: packages whose parts the configs may name, in addition to those of traceTorch and torch.
    Returns: the plan; one of an older version has no configs, and they are composed now.
    Raises: UsageError that names the first setting, or the first part of a config, that is not allowed.
    """
    path, typed = folder / FILE, {line.lstrip("+").partition("=")[0] for line in changes}
    for line in plan.settings:
        key, _, value = line.partition("=")
        if key.lstrip("+") in typed or "hydra/launcher" in typed:  # with another launcher, all its settings go
            continue
        known = value in LAUNCHERS if key == "hydra/launcher" else key.lstrip("+") in _SETTINGS
        if not known or not _VALUE.fullmatch(value):
            advice = f"if you trust it, type it: tracetorch resume {quote(folder)} {quote(shorten(line))}"
            raise UsageError(f"{path} sets {shorten(line)!r}, which may run commands; {advice}")
    jobs = [job if job.config else _composed(job, path) for job in plan.jobs]
    for job in jobs:
        try:
            check(job.config)
        except UsageError as error:
            raise UsageError(f"{path}, job {shorten(job.name)}: {error}") from error
        check_trusted(job.config, path, trust)
    return plan if jobs == plan.jobs else replace(plan, jobs=jobs, seal="")


def _composed(job: Job, path: Path) -> Job:
    from tracetorch.runs.identity import id_of

    check_foreign(job.overrides, path)
    try:
        made = compose(job.overrides)
    except UsageError as error:
        raise UsageError(f"{path}, job {shorten(job.name)}: {error}") from error
    return replace(job, id=id_of(made.config), experiment=made.experiment, config=made.config)


def changed_since(plan: Plan, jobs: Iterable[Job]) -> str:
    """The first key that the presets have changed since a sweep was planned; "" if there is none.

    Of jobs that make the same choices one is composed; none, if presets of another folder took part.
    """
    if plan.config_dir:
        return ""
    by_choice = {tuple(line for line in job.overrides if line.partition("=")[0] in GROUPS): job for job in jobs}
    for job in list(by_choice.values())[:_MOST_COMPOSED]:
        try:
            check_foreign(job.overrides, FILE)
            now = compose(job.overrides).config
        except UsageError as error:
            return f"they no longer compose ({error})"
        if found := config_difference(job.config, now):
            return found.key
    return ""
