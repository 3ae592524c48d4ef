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
from hydra._internal.config_loader_impl import ConfigLoaderImpl  # nothing public changes values as Hydra itself does
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from tracetorch.cli.adapter.foreign import searched
from tracetorch.cli.adapter.overrides import parse
from tracetorch.cli.adapter.presets import conf_dir, name_of, options, places
from tracetorch.cli.adapter.reading import check_plain, check_unfolded, is_plain, read_yaml, to_yaml
from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.cli.signatures import is_trusted
from tracetorch.cli.suggest import has, no_such_key

ERRORS = (HydraException, OmegaConfBaseException, ValueError, OSError)
"""What Hydra raises for invalid input: its own errors, and those that it does not catch."""

GROUPS = ("experiment", "task", "network", "rule", "loss", "optimizer", "train", "diagnostics", "output")


PRESETS = ("sweep", "search")
"""Further groups, of presets for sweeps and for searches; a config does not contain them."""


class Composed(NamedTuple):
    """A complete config: plain values, all references resolved."""

    config: dict[str, Any]
    experiment: str  # its name; see `name_of`
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
        config_dir: a folder with further choices; where it has one of the same name, that of `conf/` is taken.
        bases: what was composed for others, which is not composed again; this call may add to it.
    Raises: UsageError, one sentence, for any override that cannot be composed.
    """
    config, experiment, choices = _composed(overrides, config_dir, {} if bases is None else bases)
    return resolve(config, experiment)._replace(choices=choices)


def template(overrides: list[str]) -> Template:
    """As `compose`, without following references within the config; what calls a function is called now."""
    config, experiment, choices = _composed(overrides, None, {})
    resolved = resolve(config, experiment).config
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
    return resolve(config, base.experiment)._replace(choices=base.choices)


def _without_calls(node: Any, resolved: Any) -> Any:
    """References that name values as they are; others, and what is an object of OmegaConf's, as they were resolved."""
    if isinstance(node, dict) and isinstance(resolved, dict):
        return {name: _without_calls(inner, resolved[name]) for name, inner in node.items()}
    if isinstance(node, list) and isinstance(resolved, list):
        return [_without_calls(*both) for both in zip(node, resolved, strict=True)]
    return node if is_plain(node) else resolved


def _composed(overrides: list[str], config_dir: Path | None, bases: Bases) -> tuple[DictConfig, str, dict[str, str]]:
    """The config as Hydra composes it, what to call its run, and what is chosen from each group."""
    places(config_dir)  # first, because Hydra has words of its own for a folder that does not exist
    parsed = [parse(override) for override in overrides]
    for override in parsed:
        check_choice(override, config_dir)
    made = tuple(str(override.input_line) for override in parsed if _is_choice(override, config_dir))
    try:
        if made not in bases:
            base = _compose(made, config_dir)
            bases[made] = base, name_of(base.hydra.runtime.choices, config_dir)
        base, experiment = bases[made]
        if own_task := _own_task(parsed):
            experiment = name_of(base.hydra.runtime.choices, config_dir, own_task)
        choices, config = base.hydra.runtime.choices, _without_hydra(base)
        _change(config, [override for override in parsed if not _is_choice(override, config_dir)])
    except MissingConfigException as error:
        raise missing(error, config_dir) from error
    except YAMLError as error:
        raise UsageError(
            f"a file in {config_dir} is not valid YAML: {shorten(' '.join(str(error).split()), 300)}"
        ) from error
    except ERRORS as error:
        raise _unknown(error, parsed, config_dir) from error
    return config, experiment, {str(group): str(choice) for group, choice in choices.items() if group in GROUPS}


def load(path: Path) -> Composed:
    """Read the config of a run. Raises: UsageError if it does not exist, or if no run writes such a file."""
    return Composed(read_yaml(path), "")


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


def resolve(config: DictConfig, experiment: str) -> Composed:
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
    return not isinstance(override.value(), dict) and any((place / group).is_dir() for place in places(config_dir))


def _own_task(parsed: list[Override]) -> str:
    """The class of the task, if it was typed; "" if not."""
    typed = [one for one in parsed if one.key_or_group == "task._target_" and not one.is_delete()]
    return str(typed[-1].value()).rpartition(".")[2] if typed else ""


def _change(config: DictConfig, changes: list[Override]) -> None:
    """Change values as Hydra does, one after another. Raises: one of `ERRORS` for a key that does not exist."""
    OmegaConf.set_struct(config, True)
    ConfigLoaderImpl._apply_overrides_to_config(changes, config)
    OmegaConf.set_struct(config, None)


def _compose(overrides: Iterable[str], config_dir: Path | None) -> DictConfig:
    further = [f"hydra.searchpath=['{searched(config_dir)}']"] if config_dir else []
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        return hydra_compose("config", overrides=[*overrides, *further], return_hydra_config=True)


def _without_hydra(composed: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(composed, [str(name) for name in composed if name != "hydra"])


def check_choice(override: Override, config_dir: Path | None = None) -> None:
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


def _as_file(group: str, line: str, keys: dict[str, Any]) -> str:
    """The advice for a part whose keys were typed where a name is wanted: they belong into a file of its own."""
    target = str(keys.get("_target_", ""))
    name = target.rpartition(".")[2].lower() or "mine"
    trust = "" if not target or is_trusted(target) else f" --trust {shorten(target.partition('.')[0])}"
    typed = f"{group}={shorten(name)} --config-dir FOLDER{trust}"
    return (
        f"{shorten(line)}: a {group} is chosen by name; write these keys into FOLDER/{group}/{shorten(name)}.yaml, "
        f"and type {typed}"
    )


def missing(error: MissingConfigException, config_dir: Path | None = None) -> UsageError:
    """The error for a choice that does not exist: the choices that exist, and a close one."""
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    for folder in places(config_dir):
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


def _unknown(error: Exception, parsed: list[Override], config_dir: Path | None) -> UsageError:
    """Find the override that Hydra refuses, and suggest a close one."""
    known = {group: options(group, config_dir) for group in GROUPS}
    chosen = [str(o.input_line) for o in parsed if o.value() in known.get(o.key_or_group, [])]
    try:
        config = _without_hydra(_compose(chosen, config_dir))
        base = cast(dict[str, Any], OmegaConf.to_container(config))
    except ERRORS as cause:  # a chosen preset is at fault
        return UsageError(f"{shorten(' '.join(chosen))}: {_first_line(cause.__cause__ or cause)}")
    others = [override for override in parsed if str(override.input_line) not in chosen]
    for override in others:
        if not override.is_add() and not has(base, override.key_or_group):
            return UsageError(no_such_key(override.key_or_group, base, _keys_of))
    for override in others:
        try:
            _change(config, [override])
        except ERRORS as cause:
            return UsageError(f"{shorten(str(override.input_line))}: {_first_line(cause.__cause__ or cause)}")
    return UsageError(_first_line(error.__cause__ or error))


def _keys_of(group: str) -> dict[str, list[str]]:
    return {name: [str(k) for k in OmegaConf.load(conf_dir() / group / f"{name}.yaml")] for name in options(group)}


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
