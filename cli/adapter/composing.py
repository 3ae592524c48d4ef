"""Configs, composed from the files in `conf/` or read from a run's folder; and their errors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from tracetorch.cli.adapter.foreign import searched
from tracetorch.cli.adapter.overrides import parse
from tracetorch.cli.adapter.presets import conf_dir, config_folders, experiment_name, options
from tracetorch.cli.adapter.reading import check_plain, check_unfolded, has_plain_references, read_yaml, to_yaml
from tracetorch.cli.errors import UsageError, did_you_mean, quote, shorten
from tracetorch.cli.signatures import is_trusted
from tracetorch.cli.suggest import has, no_such_key
from tracetorch.renamed import current

ERRORS = (HydraException, OmegaConfBaseException, ValueError, OSError)
"""What Hydra raises for invalid input: its own errors, and those that it does not catch."""

GROUPS = ("experiment", "task", "network", "rule", "loss", "optimizer", "train", "diagnostics", "output")


PRESETS = ("sweep", "search")
"""Further groups, of presets for sweeps and for searches; a config does not contain them."""


class Composed(NamedTuple):
    """A complete config: plain values, all references resolved."""

    config: dict[str, Any]
    experiment: str  # its name; see `experiment_name`
    choices: Mapping[str, str] = MappingProxyType({})  # the choice from each group, where that is known

    @property
    def yaml(self) -> str:
        """What its file holds."""
        return to_yaml(self.config)


Bases = dict[tuple[str, ...], tuple[DictConfig, str]]
"""What choices from the groups compose to, by these choices: for the jobs of a sweep, which share them."""


class Template(NamedTuple):
    """A composed config before its references are resolved, so that they follow a changed value."""

    config: dict[str, Any]  # plain values, and references to others of them; see `check_plain`
    experiment: str
    choices: Mapping[str, str] = MappingProxyType({})


def compose(overrides: list[str], config_dir: Path | None = None, bases: Bases | None = None) -> Composed:
    """Compose the config that these overrides describe.

    Args:
        config_dir: a folder with further choices, by names that `conf/` does not have.
        bases: what was composed for others, which is not composed again; this call may add to it.
    Raises: UsageError, one sentence, for any override that cannot be composed.
    """
    config, experiment, choices = _composed(overrides, config_dir, {} if bases is None else bases)
    return resolve_references(config, experiment)._replace(choices=choices)


def template(overrides: list[str]) -> Template:
    """As `compose`, without following references within the config; what calls a function is called now."""
    config, experiment, choices = _composed(overrides, None, {})
    resolved = resolve_references(config, experiment).config
    unresolved = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    return Template(_without_calls(unresolved, resolved), experiment, choices)


def fill(base: Template, changes: list[str]) -> Composed:
    """The config of a template in which some values are others. Raises: UsageError."""
    config = OmegaConf.create(base.config)
    for override in [parse(line) for line in changes]:
        key, value = override.key_or_group, override.value()
        if not has(base.config, key):
            raise UsageError(no_such_key(key, base.config, _keys_of))
        check_plain(value, key=key)
        OmegaConf.update(config, key, value, merge=True)
    return resolve_references(config, base.experiment)._replace(choices=base.choices)


def _without_calls(node: Any, resolved: Any) -> Any:
    """References that name values as they are; others, and what is an object of OmegaConf's, as they were resolved."""
    if isinstance(node, dict) and isinstance(resolved, dict):
        return {name: _without_calls(inner, resolved[name]) for name, inner in node.items()}
    if isinstance(node, list) and isinstance(resolved, list):
        return [_without_calls(*both) for both in zip(node, resolved, strict=True)]
    return node if has_plain_references(node) else resolved


def _composed(overrides: list[str], config_dir: Path | None, bases: Bases) -> tuple[DictConfig, str, dict[str, str]]:
    """The config as Hydra composes it, what to call its run, and what is chosen from each group."""
    config_folders(config_dir)  # first, because Hydra has words of its own for a folder that does not exist
    parsed = [parse(override) for override in overrides]
    for override in parsed:
        check_group_choice(override, config_dir)
    made = tuple(str(override.input_line) for override in parsed if _is_choice(override, config_dir))
    if made not in bases:
        base = _compose(made, config_dir)
        bases[made] = base, experiment_name(base.hydra.runtime.choices, config_dir)
    base, experiment = bases[made]
    choices = base.hydra.runtime.choices
    if own_task := _own_task(parsed):
        experiment = experiment_name(choices, config_dir, own_task)
    config = OmegaConf.masked_copy(base, [str(name) for name in base if name != "hydra"])
    OmegaConf.set_struct(config, True)
    for override in parsed:
        if not _is_choice(override, config_dir):
            _change(config, override)
    OmegaConf.set_struct(config, None)
    return config, experiment, {str(group): str(choice) for group, choice in choices.items() if group in GROUPS}


def load(path: Path) -> Composed:
    """Read the config of a run, with its keys as they are called now.

    Raises: UsageError if it does not exist, or if no run writes such a file.
    """
    return Composed(current(read_yaml(path)), "")


def amend(config: dict[str, Any], overrides: list[str]) -> Composed:
    """Change values of a config that is complete already, such as that of a run; they are taken as they are typed.

    Raises: UsageError if a key does not exist, or if an override changes anything but a value.
    """
    changed = deepcopy(config)
    for override in [parse(line) for line in overrides]:
        name, line = override.key_or_group, shorten(str(override.input_line))
        if override.is_add() or override.is_delete():
            raise UsageError(f"'{line}': values can be changed here, not added or removed; write key=value")
        if name == "experiment":
            advice = "change single values, such as device=cpu"
            raise UsageError(f"'{line}': experiment was chosen when the run began; {advice}")
        if not has(config, name):
            raise UsageError(no_such_key(name, config, lambda group: {}))
        *parents, last = name.split(".")
        node: Any = changed
        for parent in parents:
            node = node[parent]
        if isinstance(node[last], dict):
            raise UsageError(f"'{line}': {name} was chosen when the run began; change single values, such as {name}.…")
        value = override.value()
        check_plain(value, key=name)
        node[last] = value
    return Composed(changed, "")


def resolve_references(config: DictConfig, experiment: str) -> Composed:
    """A config with every reference resolved, once. Raises: UsageError that names the first that leads nowhere.

    A string that the next reader would resolve again is refused, and so is a config that would unfold.
    """
    check_unfolded(cast(dict[str, Any], OmegaConf.to_container(config, resolve=False)))
    try:
        for name in {"seed", "device"} & set(config.keys()):
            _ = config[name]  # first, because other values are taken from it and would be blamed
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        raise UsageError(f"{key}: {_first_line(error)}") from error
    check_plain(plain)
    return Composed(cast(dict[str, Any], plain), experiment)


def _is_choice(override: Override, config_dir: Path | None) -> bool:
    """Whether it chooses from a group, as Hydra decides it; any other changes a value of the composed choices."""
    group = override.key_or_group
    if group in PRESETS or isinstance(override.value(), dict):
        return False
    return any((place / group).is_dir() for place in config_folders(config_dir))


def _own_task(parsed: list[Override]) -> str:
    """The class of the task, if it was typed; "" if not."""
    typed = [one for one in parsed if one.key_or_group == "task._target_" and not one.is_delete()]
    return str(typed[-1].value()).rpartition(".")[2] if typed else ""


def _change(config: DictConfig, override: Override) -> None:
    """Change, add (+, ++) or remove (~) a value, by Hydra's rules. Raises: UsageError if it cannot be changed."""
    key, value, line = override.key_or_group, override.value(), shorten(str(override.input_line))
    stem, _, last = key.rpartition(".")
    may_add = override.is_add() or override.is_force_add()
    if override.package is not None:
        raise UsageError(f"{line}: {key} is not a config group, and @ is for groups; write {key}=…")
    try:
        node = OmegaConf.select(config, stem) if stem else config
        now = OmegaConf.select(config, key) if override.is_add() or override.is_delete() else None
        names = node if OmegaConf.is_dict(node) else range(len(node)) if OmegaConf.is_list(node) else ()
        if not may_add and last not in map(str, names):
            raise UsageError(no_such_key(key, cast(dict[str, Any], OmegaConf.to_container(config)), _keys_of))
        if override.is_add() and now is not None and not isinstance(value, dict | list):
            raise UsageError(f"{line}: there is a value for {key} already; write {line[1:]}")
        if not override.is_delete():
            OmegaConf.update(config, key, value, force_add=may_add)
        elif value not in (None, now):
            raise UsageError(f"{line}: {key} is {shorten(now)}; write ~{key}")
        else:
            with open_dict(config):
                del node[last]
    except (*ERRORS, TypeError) as error:
        there = OmegaConf.select(config, key) if isinstance(value, dict) else None
        known = list(there) if isinstance(there, DictConfig) else []
        new = [str(name) for name in value if name not in known] if isinstance(value, dict) else []
        if new:
            hint = did_you_mean(new[0], map(str, known)) or f" To add it, write {quote(f'+{line}')}."
            raise UsageError(f"{line}: {key} has no '{shorten(new[0])}'.{hint}") from error
        raise UsageError(f"{line}: {_first_line(error)}") from error


def _compose(choices: Iterable[str], config_dir: Path | None) -> DictConfig:
    """The config of these choices, with Hydra's own part. Raises: UsageError."""
    further = [f"hydra.searchpath=['{searched(config_dir)}']"] if config_dir else []
    try:
        with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
            return hydra_compose("config", overrides=[*choices, *further], return_hydra_config=True)
    except MissingConfigException as error:
        raise missing(error, config_dir) from error
    except YAMLError as error:
        what = shorten(" ".join(str(error).split()), 300)
        raise UsageError(f"a file in {config_dir} is not valid YAML: {what}") from error
    except ERRORS as error:
        raise UsageError(f"{shorten(' '.join(choices))}: {_first_line(error.__cause__ or error)}") from error


def check_group_choice(override: Override, config_dir: Path | None = None) -> None:
    """Raises: UsageError if a choice from a group is not a name."""
    name, line = override.key_or_group, str(override.input_line)
    if name not in GROUPS or override.is_sweep_override():
        return
    if not override.is_delete() and isinstance(override.value(), dict) and name != "experiment":
        raise UsageError(_as_file(name, line, cast(dict[str, Any], override.value())))
    if override.is_add():
        value = line.partition("=")[2]
        raise UsageError(f"'{shorten(line)}': there is a choice for {name} already; write {name}={shorten(value)}")
    if not override.is_delete() and not isinstance(override.value(), str):
        raise UsageError(f"{shorten(line)}: choose by name. There are: {', '.join(options(name, config_dir))}.")
    ours, own = (folder / name / f"{override.value()}.yaml" for folder in (conf_dir(), config_dir or conf_dir()))
    if ours != own and ours.exists() and own.exists():
        raise UsageError(f"{shorten(line)}: a preset of this name comes with tracetorch; rename {shorten(own)}")


def _as_file(group: str, line: str, keys: dict[str, Any]) -> str:
    """The advice for a part whose keys were typed where a name is wanted: they belong into a file of its own."""
    target = str(keys.get("_target_", ""))
    name = target.rpartition(".")[2].lower() or "mine"
    name = f"my_{name}" if name in options(group) else name
    trust = "" if not target or is_trusted(target) else f" --trust {shorten(target.partition('.')[0])}"
    typed = f"{group}={shorten(name)} --config-dir FOLDER{trust}"
    return (
        f"{shorten(line)}: a {group} is chosen by name; write these keys into FOLDER/{group}/{shorten(name)}.yaml, "
        f"and type {typed}"
    )


def missing(error: MissingConfigException, config_dir: Path | None = None) -> UsageError:
    """The error for a choice that does not exist: the choices that exist, and a close one."""
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    for folder in config_folders(config_dir):
        for path in (folder / group / f"{choice}.{ending}" for ending in ("yaml", "yml")):
            if os.path.lexists(path):  # it exists, but it is not a preset
                return UsageError(f"{group}={shorten(choice)}: {path} {_unfit(path)}")
    known = options(group, config_dir)
    if not known:
        return UsageError(_first_line(error))
    there = f"There are: {', '.join(known)}."
    return UsageError(f"{group}={shorten(choice)}: there is no such {group}.{did_you_mean(choice, known)} {there}")


def _unfit(path: Path) -> str:
    if path.suffix == ".yml":
        return "is not read, because of its ending: rename it to .yaml"
    return "is not a regular file" if path.exists() else "is a link that leads nowhere"


def _keys_of(group: str) -> dict[str, list[str]]:
    return {name: [str(k) for k in OmegaConf.load(conf_dir() / group / f"{name}.yaml")] for name in options(group)}


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
