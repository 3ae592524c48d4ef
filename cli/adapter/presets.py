"""The YAML files in `conf/` and in a user's own folder: the choices that they offer, and Hydra's access to them."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from tracetorch.cli import project
from tracetorch.cli.adapter.reading import parse_yaml, read_config_text, read_yaml
from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.files import expanded, real
from tracetorch.renamed import renamed

_CHOICE = re.compile(r"[\w @:/-]+(\.yaml)?", re.ASCII)


def conf_dir() -> Path:
    """The folder of the YAML files, next to `cli/` both in a checkout and in an installed package."""
    return Path(__file__).parents[2] / "conf"


def config_folders(config_dir: Path | None) -> list[Path]:
    """The folders of choices, the first with the highest precedence: of traceTorch, of the project, `--config-dir`.

    Raises: UsageError if `--config-dir` is not a folder, or if the project's file is broken.
    """
    if config_dir is not None and not config_dir.is_dir():
        raise UsageError(f"--config-dir {shorten(config_dir)}: there is no such folder")
    own = project.current()
    folders = [own.conf] if own and own.conf else []
    if config_dir is not None and real(config_dir) not in map(real, folders):
        folders.append(config_dir)
    return [conf_dir(), *folders]


def options(group: str, config_dir: Path | None = None) -> list[str]:
    """The choices of a config group, by name."""
    paths = (path for folder in config_folders(config_dir) for path in (folder / group).glob("*.yaml"))
    return sorted({path.stem for path in paths if path.is_file()})


def preset_file(group: str, name: str, config_dir: Path | None = None) -> Path:
    """The file of a choice, which may not exist; a file in `conf/` has precedence."""
    paths = [folder / group / f"{name}.yaml" for folder in config_folders(config_dir)]
    return next((path for path in paths if path.is_file()), paths[-1])


def experiment_name(choices: Mapping[str, Any], config_dir: Path | None = None, own_task: str = "") -> str:
    """The experiment's name: its preset, followed by the task if that is not the preset's; without a preset, the task.

    Args: own_task: the class of the task, if it was typed.
    """
    experiment, task = choices.get("experiment"), own_task or choices.get("task")
    if not experiment:
        return str(task)
    return f"{experiment}-{task}" if _task_of(experiment, config_dir) not in (task, None) else str(experiment)


_TYPED = {"sweep": "tracetorch run -m sweep=", "search": "tracetorch tune search="}


def check_not_of_another_group(group: str, name: str, config_dir: Path | None = None) -> None:
    """Raises: UsageError if a name that a group does not have is a choice of other groups; it says what to type."""
    files = f"*/{glob.escape(name)}.yaml"
    paths = [path for folder in config_folders(config_dir) for path in sorted(folder.glob(files)) if "/" not in group]
    if owners := [owner for owner in dict.fromkeys(path.parent.name for path in paths) if owner != group]:
        kinds = " and ".join(f"a{'n' * (owner[0] in 'aeiou')} {owner}" for owner in owners)
        typed = " or ".join(f"{_TYPED.get(owner, f'{owner}=')}{name}" for owner in owners)
        raise UsageError(f"{group}={shorten(name)}: there is no such {group}; {shorten(name)} is {kinds}: {typed}")


def find_preset(group: str, name: str, config_dir: Path | None = None) -> Path:
    """The file of a choice from "search" or "sweep", which Hydra does not compose.

    Args: name: of the choice, or the path of a file.
    Raises: UsageError if there is no such file.
    """
    known = options(group, config_dir)
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = expanded(name)
        if not path.is_file():
            raise UsageError(f"{group}={shorten(name)}: there is no such file")
        return path
    if name not in known:
        check_not_of_another_group(group, name, config_dir)
        listing = f"There are: {', '.join(known)}; or give a file, such as {group}=mine.yaml."
        raise UsageError(f"{group}={shorten(name)}: there is no such {group}.{did_you_mean(name, known)} {listing}")
    return preset_file(group, name, config_dir)


def note_of(choices: Mapping[str, str], config_dir: Path | None = None) -> str:
    """A remark if the task is not that of the chosen experiment; "" otherwise."""
    experiment, task = choices.get("experiment"), choices.get("task")
    if not experiment or task in (None, "None") or _task_of(experiment, config_dir) in (task, None):
        return ""
    is_default = experiment == default_choice("experiment")
    origin = f"the default experiment ({experiment})" if is_default else f"experiment={shorten(experiment)}"
    fitting = [name for name in options("experiment", config_dir) if _task_of(name, config_dir) == task]
    presets = ", ".join(f"tracetorch run experiment={shorten(name)}" for name in fitting)
    advice = f"presets for this task: {presets}" if fitting else "there is no preset for this task"
    return f"task={shorten(task)} with the settings of {origin}; {advice}"


def _task_of(experiment: str, config_dir: Path | None) -> str | None:
    """The task that an experiment chooses; None if its file cannot be read."""
    try:
        return next(_chosen_tasks(experiment, config_dir, ()), None) or default_choice("task")
    except (UsageError, AttributeError, TypeError):  # a preset that this run does not use may hold anything
        return None


def _chosen_tasks(experiment: str, config_dir: Path | None, above: tuple[str, ...]) -> Iterator[str]:
    """The tasks chosen by a preset and by the presets that it builds on; the first counts.

    Args: above: the presets that build on this one, so that a circle ends.
    """
    path = preset_file("experiment", experiment, config_dir)
    if not path.is_file() or experiment in above:
        return
    defaults = read_yaml(path, references=True).get("defaults", [])
    for entry in defaults:
        if isinstance(entry, dict):
            yield from (entry[key] for key in ("override /task", "/task") if key in entry)
    for entry in defaults:
        if isinstance(entry, str) and entry != "_self_":
            yield from _chosen_tasks(entry.removeprefix("/experiment/"), config_dir, (*above, experiment))


Keys = dict[str, Any]
"""The keys that presets set: nested mappings that end in None."""


def preset_keys(experiment: object, config_dir: Path | None = None) -> Keys:
    """The keys set by an experiment and by the presets that it builds on; {} without an experiment."""
    return _keys_in(experiment, config_dir, ()) if isinstance(experiment, str) else {}


def _keys_in(experiment: str, config_dir: Path | None, above: tuple[str, ...]) -> Keys:
    path = preset_file("experiment", experiment, config_dir)
    if not path.is_file() or experiment in above:
        return {}
    content = read_yaml(path, references=True)
    found: Keys = {}
    defaults = content.get("defaults")
    for entry in defaults if isinstance(defaults, list) else ():
        if isinstance(entry, str) and entry != "_self_":
            _merge(found, _keys_in(entry.removeprefix("/experiment/"), config_dir, (*above, experiment)))
    _merge(found, {name: value for name, value in content.items() if name != "defaults"})
    return found


def _merge(keys: Keys, more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict):
            inner = keys[name] = keys.get(name) or {}
            _merge(inner, value)
        else:
            keys[name] = None


def default_choice(group: str) -> str | None:
    """The choice from a group in `config.yaml`."""
    entries = read_yaml(conf_dir() / "config.yaml", references=True)["defaults"]
    return next((entry[group] for entry in entries if isinstance(entry, dict) and group in entry), None)


def search_path_entry(folder: Path) -> str:
    """A user's folder, as an entry of Hydra's search path, which `Presets` then reads."""
    Plugins.instance().register(Presets)
    return f"{Presets.scheme()}://{quote(str(folder.resolve()), safe='/')}"


class Presets(ConfigSource):
    """Hydra's access to the presets in an untrusted folder; it reads no file outside of the folder.

    Its files may hold plain values, references to values of the same config, and choices by name; see `read_yaml`.
    """

    @staticmethod
    def scheme() -> str:
        return "presets"

    def load_config(self, config_path: str) -> ConfigResult:
        path = self._file(config_path)
        if not path.resolve().is_relative_to(self._path("")):
            raise UsageError(f"{path} is a link that leads out of {self._path('')}")
        text = read_config_text(path)
        content = renamed(parse_yaml(text, path, references=True))
        for line in _texts(content.get("defaults")):
            if not _CHOICE.fullmatch(line) or re.search(r"\bhydra\b", line):
                raise UsageError(
                    f"{path}: defaults: {shorten(repr(line))} is not a choice such as override /task: mnist"
                )
        words = text.lstrip().partition("\n")[0].split()
        package = words[2] if words[:2] == ["#", "@package"] and len(words) == 3 else None
        if package is None and config_path.startswith("experiment/"):
            raise UsageError(f"{path} does not say where its keys belong: begin it with '# @package _global_'")
        if "hydra" in content or str(package).startswith("hydra"):
            raise UsageError(f"{path} has settings of Hydra, which have no effect on a run; leave them out")
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(content), {"package": package})

    def available(self) -> bool:
        return self.is_group("")

    def is_group(self, config_path: str) -> bool:
        return self._path(config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        return self._file(config_path).is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        folder = self._path(config_path)
        names = {path.stem for path in folder.glob("*.yaml") if path.is_file()}
        groups = {path.name for path in folder.iterdir() if path.is_dir()}
        by_type = {None: names | groups, ObjectType.CONFIG: names, ObjectType.GROUP: groups}
        return sorted(by_type[results_filter])

    def _file(self, config_path: str) -> Path:
        return self._path(f"{config_path.removesuffix('.yaml')}.yaml")

    def _path(self, inside: str) -> Path:
        if ".." in Path(inside).parts or Path(inside).is_absolute():
            raise UsageError(f"{shorten(inside)} lies outside of {unquote(self.path)}")
        return Path(unquote(self.path)) / inside


def _texts(value: Any) -> Iterator[str]:
    """All keys and values in a list of defaults, as strings."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif value is not None:
        yield str(value)
