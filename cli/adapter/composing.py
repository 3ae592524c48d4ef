"""Configs: composed from the files in `conf/`, or read from a run's folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from tracetorch.cli import project
from tracetorch.cli.adapter.overrides import GROUPS, check_group_choice, parse, quote_value, typed_values
from tracetorch.cli.adapter.presets import (
    check_not_of_another_group,
    conf_dir,
    config_folders,
    experiment_name,
    options,
    preset_file,
    preset_keys,
    search_path_entry,
)
from tracetorch.cli.adapter.reading import check_plain, check_unfolded, has_plain_references, read_yaml, to_yaml
from tracetorch.cli.adapter.replacing import left_out, replace_choice, replace_target, typed_targets
from tracetorch.cli.adapter.starting import from_source
from tracetorch.cli.adapter.suggesting import own_name, suggestions
from tracetorch.cli.check import OPTIONAL_PARTS, PARTS
from tracetorch.cli.errors import UsageError, did_you_mean, quote, shorten
from tracetorch.cli.signatures import accepts
from tracetorch.cli.suggest import has_key, no_such_key, value_at
from tracetorch.renamed import current

ERRORS = (HydraException, OmegaConfBaseException, ValueError, OSError)
"""Errors that Hydra raises for invalid input: its own, and those that it does not catch."""

PRESETS = ("sweep", "search")
"""Groups of presets for sweeps and searches; a config does not contain them."""

_LENGTHS = ("train.updates", "train.passes")


class Composed(NamedTuple):
    """A complete config: plain values, all references resolved."""

    config: dict[str, Any]
    experiment: str  # its name; see `experiment_name`
    choices: Mapping[str, str] = MappingProxyType({})  # the choice from each group, if known
    notes: tuple[str, ...] = ()  # on a user's data, and on keys of a preset that a chosen part does not take
    task: Any = None  # made already, with its data read, if settings were chosen to suit the data; else None

    @property
    def yaml(self) -> str:
        """The text of config.yaml."""
        return to_yaml(self.config)


Bases = dict[tuple[str, ...], tuple[DictConfig, str, list[str]]]
"""Cache of composed configs, their experiments' names and notes, by group choices; the jobs of a sweep share it."""


class Template(NamedTuple):
    """A composed config with unresolved references, so that they follow a changed value."""

    config: dict[str, Any]  # plain values, and references to other values; see `check_plain`
    experiment: str
    choices: Mapping[str, str] = MappingProxyType({})
    notes: tuple[str, ...] = ()


def compose(
    overrides: list[str],
    config_dir: Path | None = None,
    bases: Bases | None = None,
    *,
    calls_own: bool = False,
) -> Composed:
    """Compose the config that these overrides describe.

    Args:
        config_dir: a folder with further choices; their names must differ from those in `conf/`.
        bases: cache that this call reads and extends.
        calls_own: whether a task that is typed, or of the project, is made to choose what suits its data. The
            overrides must not come from a file.
    Raises: UsageError, one sentence, for any override that cannot be composed.
    """
    suited = _suited(overrides, config_dir, {} if bases is None else bases, calls_own)
    return Composed(_resolved(suited.config), *suited[1:])


class _Suited(NamedTuple):
    """As `Composed`, with unresolved references."""

    config: DictConfig
    experiment: str
    choices: dict[str, str]
    notes: tuple[str, ...]
    task: Any


def _suited(overrides: list[str], config_dir: Path | None, bases: Bases, calls_own: bool) -> _Suited:
    """As `_composed`, with the choices of `_chosen`, and an experiment named after a user's data."""
    config, experiment, choices, notes = _composed(overrides, config_dir, bases)
    first = _resolved(config)
    chosen, remarks, task = _chosen(first, overrides, config_dir, calls_own)
    if chosen:
        config, experiment, choices, notes = _composed([*chosen, *overrides], config_dir, bases)
    last = _resolved(config)
    is_same = last.get("task") == first.get("task")
    return _Suited(config, own_name(experiment, last), choices, (*remarks, *notes), task if is_same else None)


def _chosen(
    config: dict[str, Any], overrides: list[str], config_dir: Path | None, calls_own: bool
) -> tuple[list[str], list[str], Any]:
    """Return overrides for what is not typed, remarks on them, and the task that was made to find them, or None.

    They are what suits the user's data, layers as in the run of `init_from`, and no other length than a typed one.
    """
    typed = _typed(overrides)
    layers, remark = from_source(config, typed, imports=calls_own)
    targets, own = typed_values(overrides) if calls_own else None, project.current()
    packages = project.trusted(config_dir) if config_dir is not None else own.packages if own else ()
    suggested = suggestions(config, {**typed, **layers}, targets, packages)
    lines, remarks = [], []
    if suggested:
        lines, remarks = suggested.as_typed(), [suggested.in_words()]
    lines += [f"{key}={quote_value(value)}" for key, value in layers.items()]
    lengths = [key for key in _LENGTHS if typed.get(key) is not None]
    if len(lengths) == 1:  # a length that is typed replaces that of the preset
        lines += [f"{key}=null" for key in _LENGTHS if key not in typed and has_key(config, key)]
    return lines, remarks + [remark] * bool(remark), suggested.task if suggested else None


def _typed(overrides: list[str]) -> dict[str, Any]:
    """The typed values, by key or group; None for a key that is removed."""
    parsed = [parse(line) for line in overrides]
    return {each.key_or_group: None if each.is_delete() else each.value() for each in parsed}


def template(overrides: list[str], *, calls_own: bool = False) -> Template:
    """Compose a config, and leave plain references unresolved; other references are resolved.

    Args: calls_own: as for `compose`. Raises: as `compose`.
    """
    config, experiment, choices, notes, _ = _suited(overrides, None, {}, calls_own)
    unresolved = OmegaConf.to_container(config, resolve=False)
    return Template(_without_calls(unresolved, _resolved(config)), experiment, choices, notes)


def fill(base: Template, changes: list[str]) -> Composed:
    """Change values of a template, and resolve its references. Raises: UsageError."""
    config = OmegaConf.create(base.config)
    for override in [parse(line) for line in changes]:
        key, value = override.key_or_group, override.value()
        if not has_key(base.config, key) and not _is_argument(base.config, key):
            raise UsageError(no_such_key(key, base.config, keys_of))
        check_plain(value, key=key)  # before references are resolved
        OmegaConf.update(config, key, value, merge=True)
    return Composed(_resolved(config), base.experiment, base.choices)


def _without_calls(node: Any, resolved: Any) -> Any:
    """Replace each value with a reference that is not plain, such as a function call, by its resolved value."""
    if isinstance(node, dict) and isinstance(resolved, dict):
        return {name: _without_calls(inner, resolved[name]) for name, inner in node.items()}
    if isinstance(node, list) and isinstance(resolved, list):
        return [_without_calls(*both) for both in zip(node, resolved, strict=True)]
    return node if has_plain_references(node) else resolved


def _composed(
    overrides: list[str], config_dir: Path | None, bases: Bases
) -> tuple[DictConfig, str, dict[str, str], tuple[str, ...]]:
    """Compose a config. Returns: the config, unresolved; the experiment's name; the choice from each group; notes."""
    folders = config_folders(config_dir)  # raises if a folder does not exist, before Hydra warns of it
    parsed = [parse(override) for override in overrides]
    for override in parsed:
        check_group_choice(override, config_dir)
    chosen = [override for override in parsed if _is_choice(override, folders)]
    group_choices = tuple(str(override.input_line) for override in chosen)
    if group_choices not in bases:
        base, notes = _replace_choices(_compose(group_choices, config_dir), chosen, config_dir)
        bases[group_choices] = base, experiment_name(base.hydra.runtime.choices, config_dir), notes
    base, experiment, notes = bases[group_choices]
    choices, preset = base.hydra.runtime.choices, base.hydra.runtime.choices.get("experiment")
    targets = typed_targets(override for override in parsed if override not in chosen)
    if own_task := targets.get("task", "").rpartition(".")[2]:
        experiment = experiment_name(choices, config_dir, own_task)
    config = OmegaConf.masked_copy(base, [str(name) for name in base if name != "hydra"])
    keys = preset_keys(preset, config_dir) if targets else {}
    for key, target in targets.items():
        notes = [*notes, *left_out(preset, replace_target(config, key, target, keys), shorten(target))]
    OmegaConf.set_struct(config, True)
    for override in parsed:
        if override not in chosen:
            _change(config, override, targets)
    known = {str(group): str(choice) for group, choice in choices.items() if group in GROUPS}
    return config, experiment, known, tuple(notes)


def _replace_choices(base: DictConfig, chosen: list[Override], config_dir: Path | None) -> tuple[DictConfig, list[str]]:
    """Remove keys of the preset that a typed choice does not take.

    Returns: the config, a copy if a choice was typed; a note on the removed keys of each group.
    """
    preset = base.hydra.runtime.choices.get("experiment")
    names = (*PARTS, *OPTIONAL_PARTS)
    groups = [each.key_or_group for each in chosen if each.key_or_group in names and not each.is_delete()]
    keys = preset_keys(preset, config_dir) if groups else {}
    groups = [group for group in dict.fromkeys(groups) if isinstance(keys.get(group), dict)]
    if not groups:
        return base, []
    base, notes = base.copy(), []
    OmegaConf.set_struct(base, False)
    for group in groups:
        choice = str(base.hydra.runtime.choices[group])
        own = read_yaml(preset_file(group, choice, config_dir), references=True)
        if "defaults" in own:  # it builds on other files
            plain = _compose([f"{group}={choice}", "~experiment"], config_dir)
            own = cast(dict[str, Any], OmegaConf.to_container(plain[group], resolve=False))
        removed = replace_choice(base, own, group, keys[group])
        notes += left_out(preset, removed, f"{group}={choice}")
    return base, notes


def load(path: Path) -> Composed:
    """Read the config of a run, and rename its outdated keys. Raises: UsageError, as `read_yaml`."""
    return Composed(current(read_yaml(path)), "")


def amend(config: dict[str, Any], overrides: list[str]) -> Composed:
    """Change values of a complete config, such as that of a run.

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
        if not has_key(config, name):
            raise UsageError(no_such_key(name, config))
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


def _resolved(config: DictConfig) -> dict[str, Any]:
    """Resolve every reference of a config, once.

    Raises: UsageError for a reference to a missing value, a string that still contains `${` once it is resolved, and
        a config that is too large once resolved.
    """
    check_unfolded(cast(dict[str, Any], OmegaConf.to_container(config, resolve=False)))
    try:
        for name in {"seed", "device"} & set(config.keys()):
            _ = config[name]  # first: otherwise the message would name another value, which refers to this one
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        is_missing = isinstance(error, MissingMandatoryValue)
        raise UsageError(f"{key} is missing: give {key}=…" if is_missing else f"{key}: {_first_line(error)}") from error
    check_plain(plain)
    return cast(dict[str, Any], plain)


def _is_choice(override: Override, folders: list[Path]) -> bool:
    """Whether an override chooses from a group, by Hydra's rule; any other override changes a value."""
    group = override.key_or_group
    if isinstance(override.value(), dict):
        return False
    return any((folder / group).is_dir() for folder in folders)


def _is_argument(config: dict[str, Any], key: str) -> bool:
    """Whether a part is known to take a key that its config does not have."""
    stem, _, last = key.rpartition(".")
    return accepts(value_at(config, f"{stem}._target_"), last)


def _change(config: DictConfig, override: Override, targets: Mapping[str, str]) -> None:
    """Change, add (+, ++) or remove (~) a value. Args: targets: of the parts whose `_target_` was typed, by key.

    The rules are Hydra's, except that an argument of a part needs no +.
    Raises: UsageError if it cannot be changed.
    """
    key, value, line = override.key_or_group, override.value(), shorten(str(override.input_line))
    stem, _, last = key.rpartition(".")
    may_add = override.is_add() or override.is_force_add()
    if override.package is not None:
        raise UsageError(f"{line}: {key} is not a config group, and @ is for groups; write {key}=…")
    try:
        node = OmegaConf.select(config, stem) if stem else config
        old_value = OmegaConf.select(config, key) if override.is_add() or override.is_delete() else None
        names = node if OmegaConf.is_dict(node) else range(len(node)) if OmegaConf.is_list(node) else ()
        is_new = last not in map(str, names)
        if OmegaConf.is_dict(node) and is_new and not override.is_delete():
            may_add |= stem in targets or accepts(OmegaConf.select(config, f"{stem}._target_"), last)
        may_add |= key in targets  # all keys of a part that is typed as a whole
        if not may_add and is_new:
            raise UsageError(no_such_key(key, cast(dict[str, Any], OmegaConf.to_container(config)), keys_of))
        if override.is_add() and old_value is not None and not isinstance(value, dict | list):
            raise UsageError(f"{line}: there is a value for {key} already; write {line[1:]}")
        if not override.is_delete():
            OmegaConf.update(config, key, value, force_add=may_add)
        elif value not in (None, old_value):
            raise UsageError(f"{line}: {key} is {shorten(old_value)}; write ~{key}")
        else:
            with open_dict(config):
                del node[last]
    except (*ERRORS, TypeError) as error:
        part = OmegaConf.select(config, key) if isinstance(value, dict) else None
        known = list(part) if isinstance(part, DictConfig) else []
        unknown = [str(name) for name in value if name not in known] if isinstance(value, dict) else []
        if unknown:
            hint = did_you_mean(unknown[0], map(str, known)) or f" To add it, write {quote(f'+{line}')}."
            raise UsageError(f"{line}: {key} has no '{shorten(unknown[0])}'.{hint}") from error
        raise UsageError(f"{line}: {_first_line(error)}") from error


def _compose(choices: Iterable[str], config_dir: Path | None) -> DictConfig:
    """Compose these choices; the config includes Hydra's own part. Raises: UsageError."""
    folders = ",".join(f"'{search_path_entry(folder)}'" for folder in config_folders(config_dir)[1:])
    search_path = [f"hydra.searchpath=[{folders}]"] if folders else []
    try:
        with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
            return hydra_compose("config", overrides=[*choices, *search_path], return_hydra_config=True)
    except MissingConfigException as error:
        raise _missing(error, config_dir) from error
    except YAMLError as error:
        fault = shorten(" ".join(str(error).split()), 300)
        raise UsageError(f"a file in {config_folders(config_dir)[-1]} is not valid YAML: {fault}") from error
    except ERRORS as error:
        raise UsageError(f"{shorten(' '.join(choices))}: {_first_line(error.__cause__ or error)}") from error


def _missing(error: MissingConfigException, config_dir: Path | None) -> UsageError:
    """The error for a choice that does not exist; it lists the existing choices and suggests a close one."""
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    for folder in config_folders(config_dir):
        for ending in ("yaml", "yml"):
            path = folder / group / f"{choice}.{ending}"
            if os.path.lexists(path):  # it exists, but it is not a preset
                fault = "is not a regular file" if path.exists() else "is a link that leads nowhere"
                if ending == "yml":
                    fault = "is not read, because of its ending: rename it to .yaml"
                return UsageError(f"{group}={shorten(choice)}: {path} {fault}")
    known = options(group, config_dir)
    if not known:
        return UsageError(_first_line(error))
    check_not_of_another_group(group, choice, config_dir)
    listing = f"There are: {', '.join(known)}."
    return UsageError(f"{group}={shorten(choice)}: there is no such {group}.{did_you_mean(choice, known)} {listing}")


def keys_of(group: str) -> dict[str, list[str]]:
    """The keys of each choice of a group; those of a file that cannot be read are left out."""
    found = {}
    for name in options(group):
        with suppress(UsageError):
            found[name] = list(read_yaml(preset_file(group, name), references=True))
    return found


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
