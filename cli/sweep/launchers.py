"""The launcher of a sweep, `hydra/launcher=NAME`, and its settings, `hydra.launcher.KEY=VALUE`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from tracetorch.cli.adapter import parse
from tracetorch.cli.adapter.overrides import split_settings
from tracetorch.cli.errors import UsageError, did_you_mean, shorten

LOCAL: dict[str, type] = {
    **dict.fromkeys(("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "nodes", "mem_gb"), int),
    "name": str,
    "stderr_to_stdout": bool,
}
_SLURM: dict[str, type] = {
    **dict.fromkeys(("partition", "account", "qos", "constraint", "comment", "exclude", "gres"), str),
    **dict.fromkeys(("mem_per_gpu", "mem_per_cpu"), str),
    **dict.fromkeys(("cpus_per_gpu", "gpus_per_task", "array_parallelism", "max_num_timeout", "signal_delay_s"), int),
    "setup": list,
    "additional_parameters": dict,
}
LAUNCHERS: dict[str, dict[str, type]] = {
    "basic": {},
    "joblib": {"n_jobs": int, "batch_size": int, "verbose": int, "timeout": float},
    "submitit_local": LOCAL,
    "submitit_slurm": LOCAL | _SLURM,
}
"""The settings of each launcher, and their types; those of the last two are submitit's."""

_DEFAULTS = {
    "n_jobs": -1,
    "timeout_min": 60,
    "name": "tracetorch",
    "nodes": 1,
    "tasks_per_node": 1,
    "signal_delay_s": 120,
    "max_num_timeout": 0,
}
_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    bool: "true or false",
    list: "a list such as ['module load cuda']",
    dict: "a mapping such as {mail-type: END}",
}
_EXTRAS = {"joblib": "parallel", "submitit": "slurm"}
"""The extra that installs each package; the name of a launcher begins with its package."""


def launcher_of(settings: list[str]) -> str:
    """The launcher that the last `hydra/launcher=` setting names; "basic" if there is none."""
    chosen = [line.partition("=")[2] for line in settings if _names_launcher(line)]
    return chosen[-1] if chosen else "basic"


def options_of(settings: list[str]) -> dict[str, Any]:
    """The options of the launcher: its defaults, replaced by the settings.

    Raises: UsageError, one sentence, for a launcher that does not exist or is not installed, and for a wrong setting.
    """
    name = launcher_of(settings)
    if name not in LAUNCHERS:
        hint, known = did_you_mean(name, LAUNCHERS), ", ".join(LAUNCHERS)
        raise UsageError(f"hydra/launcher={shorten(name)}: there is no such launcher.{hint} There are: {known}.")
    package = name.partition("_")[0]
    if (extra := _EXTRAS.get(package)) and find_spec(package) is None:
        advice = f"pip install -c constraints.txt -e '.[{extra}]'"
        raise UsageError(f"hydra/launcher={name} needs the extra '{extra}': {advice}")
    kinds = LAUNCHERS[name]
    options = {key: value for key, value in _DEFAULTS.items() if key in kinds}
    for line in settings:
        if not _names_launcher(line):
            override = parse(line, sweep=True)
            key = override.key_or_group.removeprefix("hydra.launcher.")
            if key not in kinds:
                advice = f"There are: {', '.join(kinds)}" if kinds else "Add hydra/launcher=joblib"
                hint = did_you_mean(key, kinds)
                raise UsageError(f"{shorten(line)}: the {name} launcher has no such setting.{hint} {advice}.")
            value, kind = override.value(), kinds[key]
            if type(value) is int and kind in (float, str):  # such as mem_per_cpu=4
                value = kind(value)
            elif value is not None and type(value) is not kind:
                raise UsageError(f"{shorten(line)}: it must be {_KINDS[kind]}")
            options[key] = value
    return options


def change_launcher(settings: list[str], changes: list[str]) -> list[str]:
    """The settings after these changes; another launcher replaces them all. Raises: UsageError for any other change."""
    others, changes = split_settings(changes)
    if others:
        raise UsageError(
            f"'{shorten(others[0])}': of a sweep that has started, only the launcher and the length, such as "
            "train.passes=20, can be changed"
        )
    return changes if any(map(_names_launcher, changes)) else [*settings, *changes]


def _names_launcher(line: str) -> bool:
    return line.partition("=")[0] == "hydra/launcher"
