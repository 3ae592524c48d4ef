"""The files in `conf/` and in a project's own folder: the choices they offer, and the task of an experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracetorch.cli.adapter.reading import read_yaml
from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.files import expanded


def conf_dir() -> Path:
    """Where the YAML files lie: next to `cli/`, in a checkout as in an installed package."""
    return Path(__file__).parents[2] / "conf"


def config_folders(config_dir: Path | None) -> list[Path]:
    """Where choices may lie, the first before the second. Raises: UsageError if `--config-dir` is not a folder."""
    if config_dir is not None and not config_dir.is_dir():
        raise UsageError(f"--config-dir {shorten(config_dir)}: there is no such folder")
    return [conf_dir(), *([config_dir] if config_dir else [])]


def options(group: str, config_dir: Path | None = None) -> list[str]:
    """The choices of a config group, by name; see `compose`."""
    found = (path for folder in config_folders(config_dir) for path in (folder / group).glob("*.yaml"))
    return sorted({path.stem for path in found if path.is_file()})


def experiment_name(choices: Mapping[str, Any], config_dir: Path | None = None, own_task: str = "") -> str:
    """The name of a run: its preset; with another task than the preset's, both, because it is no longer the preset.

    Args: own_task: the class of the task, if that was typed instead of a choice.
    """
    experiment, task = choices.get("experiment"), own_task or choices.get("task")
    if not experiment:
        return str(task)
    return f"{experiment}-{task}" if _task_of(experiment, config_dir) not in (task, None) else str(experiment)


def find_preset(group: str, name: str, config_dir: Path | None = None) -> Path:
    """The file of a choice of a group that Hydra does not compose, "search" or "sweep". Args: name: a path, too."""
    known = options(group, config_dir)
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = expanded(name)
        if not path.is_file():
            raise UsageError(f"{group}={shorten(name)}: there is no such file")
        return path
    if name not in known:
        there = f"There are: {', '.join(known)}; or give a file, such as {group}=mine.yaml."
        raise UsageError(f"{group}={shorten(name)}: there is no such {group}.{did_you_mean(name, known)} {there}")
    paths = (folder / group / f"{name}.yaml" for folder in config_folders(config_dir))
    return next(path for path in paths if path.exists())


def note_of(choices: Mapping[str, str], config_dir: Path | None = None) -> str:
    """A sentence about a task that has the settings of an experiment for another task; "" if there is no such task."""
    experiment, task = choices.get("experiment"), choices.get("task")
    if not experiment or task in (None, "None") or _task_of(experiment, config_dir) in (task, None):
        return ""
    default = experiment == _default("experiment")
    which = f"the default experiment ({experiment})" if default else f"experiment={shorten(experiment)}"
    made = [name for name in options("experiment", config_dir) if _task_of(name, config_dir) == task]
    presets = ", ".join(f"tracetorch run experiment={shorten(name)}" for name in made)
    advice = f"presets for this task: {presets}" if made else "there is no preset for this task"
    return f"task={shorten(task)} with the settings of {which}; {advice}"


def _task_of(experiment: str, config_dir: Path | None) -> str | None:
    """The task that an experiment chooses; None if its file cannot be read."""
    try:
        return next(_chosen(experiment, config_dir, ()), None) or _default("task")
    except (UsageError, AttributeError, TypeError):  # another preset than that of the run may hold anything
        return None


def _chosen(experiment: str, config_dir: Path | None, above: tuple[str, ...]) -> Iterator[str]:
    """The tasks that a preset and those that it builds on choose; the first counts."""
    files = (folder / "experiment" / f"{experiment}.yaml" for folder in config_folders(config_dir))
    path = next((path for path in files if path.is_file()), None)
    if path is None or experiment in above:
        return
    defaults = read_yaml(path, references=True).get("defaults", [])
    for entry in defaults:
        if isinstance(entry, dict):
            yield from (entry[key] for key in ("override /task", "/task") if key in entry)
    for entry in defaults:
        if isinstance(entry, str) and entry != "_self_":
            yield from _chosen(entry.removeprefix("/experiment/"), config_dir, (*above, experiment))


def _default(group: str) -> str | None:
    """The choice of `config.yaml`."""
    entries = read_yaml(conf_dir() / "config.yaml", references=True)["defaults"]
    return next((entry[group] for entry in entries if isinstance(entry, dict) and group in entry), None)
