"""What a plan that was read from a folder may ask for: somebody else may have written it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tracetorch.cli.adapter import compose
from tracetorch.cli.check import check, check_trusted
from tracetorch.cli.errors import UsageError, shorten
from tracetorch.cli.sweep.plan import FILE, Plan

_LAUNCHERS = ("basic", "joblib", "submitit_local", "submitit_slurm")
_SETTINGS = (
    *(
        "n_jobs",
        "timeout_min",
        "cpus_per_task",
        "gpus_per_node",
        "tasks_per_node",
        "nodes",
        "mem_gb",
        "array_parallelism",
    ),
    *(
        "partition",
        "account",
        "qos",
        "constraint",
        "max_num_timeout",
        "signal_delay_s",
        "cpus_per_gpu",
        "gpus_per_task",
    ),
)
"""Settings of launchers that say how much, where and how long. Others, such as `setup`, run commands."""


def check_plan(plan: Plan, folder: Path, changes: Iterable[str] = (), trust: Iterable[str] = ()) -> None:
    """A plan from a folder may launch its jobs by known means, and its configs may call only what is trusted.

    Args:
        changes: settings that were typed now; they are whoever's who types them, and take the place of the plan's.
        trust: packages whose parts the configs may name, beside those of traceTorch and torch.
    Raises: UsageError that names the first setting, or the first part of a config, that may not.
    """
    path, typed = folder / FILE, {line.lstrip("+").partition("=")[0] for line in changes}
    for line in plan.settings:
        key, _, value = line.partition("=")
        if key.lstrip("+") in typed or "hydra/launcher" in typed:  # with another launcher, all its settings go
            continue
        known = (
            value in _LAUNCHERS if key == "hydra/launcher" else key in [f"hydra.launcher.{name}" for name in _SETTINGS]
        )
        if not known or "_target_" in line:
            advice = f"if it is yours, type it: tracetorch resume {folder} '{shorten(line)}'"
            raise UsageError(f"{path} sets {shorten(line)!r}, which might run commands of whoever wrote it; {advice}")
    for job in plan.jobs:
        try:
            config = compose(job.overrides).config
            check(config)
        except UsageError as error:
            raise UsageError(f"{path}, job {shorten(job.name)}: {error}") from error
        check_trusted(config, path, trust)
