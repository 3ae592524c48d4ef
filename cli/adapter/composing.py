"""The only module that touches Hydra: composing configs, and making what they describe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.cli.suggest import has, no_such_key

_ERRORS = (HydraException, OmegaConfBaseException, ValueError, OSError)
"""What Hydra raises for input that it cannot take: its own errors, and what it forgot to catch."""

_LONGEST_KEY = 200

GROUPS = ("experiment", "task", "network", "rule", "loss", "optimizer", "train", "output")


class Composed(NamedTuple):
    """A config, complete and resolved."""

    config: dict[str, Any]
    yaml: str
    experiment: str  # which preset it is


def _name(parsed: list[Override], choices: Any) -> str:
    """What to call a run: its preset; but where another task was chosen, that task, for it is no longer the preset."""
    tasks = [str(override.value()) for override in parsed if override.key_or_group == "task"]
    return tasks[-1] if tasks else str(choices.get("experiment") or choices.get("task"))


def conf_dir() -> Path:
    """Where the YAML files lie: beside `cli/`, in a checkout as in an installed package."""
    return Path(__file__).parents[1] / "conf"


def options(group: str) -> list[str]:
    """The choices of a config group, by name."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def compose(overrides: list[str]) -> Composed:
    """Compose the config that these overrides describe.

    Raises: UsageError, one sentence, for anything that Hydra or OmegaConf cannot make sense of.
    """
    parsed = [_parse(override) for override in overrides]
    try:
        composed = _compose(overrides)
        experiment = _name(parsed, composed.hydra.runtime.choices)
        config = _without_hydra(composed)
    except MissingConfigException as error:
        raise _missing(error) from error
    except _ERRORS as error:
        raise _unknown(error, parsed) from error
    return _resolve(config, experiment)


def load(path: Path) -> Composed:
    """Read a config that a run left behind. Raises: UsageError if it is not there or broken."""
    try:
        config = OmegaConf.load(path)
    except (OSError, OmegaConfBaseException, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {type(error).__name__}") from error
    except Exception as error:  # PyYAML has errors of its own, which name no base class that is public here
        raise UsageError(f"{path} is no YAML: {shorten(' '.join(str(error).split()))}") from error
    if not isinstance(config, DictConfig):
        raise UsageError(f"{path} holds no config")
    return _resolve(config, "")


def make(node: dict[str, Any], name: str) -> Any:
    """Make what a part of a config describes.

    Returns: the object; for a node with `_partial_`, a function that makes it.
    Raises: UsageError, now or when that function is called, if the part with this name says something that cannot be.
    """

    def named(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except (InstantiationException, TypeError, ValueError) as error:
            cause = error.__cause__ if isinstance(error, InstantiationException) else error
            raise UsageError(f"{name}: {' '.join(str(cause or error).split())}") from error

    made = named(instantiate, node, _convert_="all")
    return partial(named, made) if node.get("_partial_") else made


def function(node: dict[str, Any]) -> Callable[..., Any]:
    """The function that a part of a config with `_partial_` describes, its arguments filled in; errors are its own."""
    return instantiate(node, _convert_="all")


def _resolve(config: DictConfig, experiment: str) -> Composed:
    try:
        for name in {"seed", "device"} & set(config.keys()):
            _ = config[name]  # first, because other values are taken from it and would be blamed
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        raise UsageError(f"{key}: {_first_line(error)}") from error
    return Composed(cast(dict[str, Any], plain), OmegaConf.to_yaml(OmegaConf.create(plain)), experiment)


def _compose(overrides: list[str]) -> DictConfig:
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        return hydra_compose("config", overrides=overrides, return_hydra_config=True)


def _without_hydra(composed: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(composed, [str(name) for name in composed if name != "hydra"])


def _parse(line: str) -> Override:
    """Read one override, and refuse what no run can take, before Hydra says so in its own words."""
    key, equals, value = line.partition("=")
    try:
        line.encode()
        override = OverridesParser.create().parse_override(line)
    except UnicodeEncodeError as error:
        raise UsageError(f"{shorten(repr(line))} is not UTF-8") from error
    except HydraException as error:
        if not equals:
            raise UsageError(f"'{shorten(line)}' sets nothing: write key=value, such as seed=1") from error
        advice = f"quote it twice, such as '{shorten(key)}=\"…\"'" if value else "give it a value"
        raise UsageError(f"{shorten(key)}: the value {shorten(value)!r} cannot be read; {advice}") from error
    name = override.key_or_group
    if not name:
        raise UsageError(f"'{shorten(line)}' names no key: write key=value, such as seed=1")
    if len(name) > _LONGEST_KEY:
        raise UsageError(f"there is no key '{shorten(name)}'")
    if override.is_sweep_override():
        raise UsageError(f"'{shorten(line)}' is a sweep over several values, and a run takes one")
    if name.partition(".")[0] == "hydra":
        raise UsageError(f"'{shorten(line)}': Hydra's own settings have no effect on a run; leave it out")
    if name in GROUPS and override.is_add():
        raise UsageError(f"'{shorten(line)}': there is a choice for {name} already; write {name}={shorten(value)}")
    if name in GROUPS and not override.is_delete() and not isinstance(override.value(), str):
        raise UsageError(f"{shorten(line)}: choose by name. There are: {', '.join(options(name))}.")
    return override


def _missing(error: MissingConfigException) -> UsageError:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    known = options(group)
    if not known:
        return UsageError(_first_line(error))
    there = f"There are: {', '.join(known)}."
    return UsageError(f"{group}={shorten(choice)}: there is no such {group}.{did_you_mean(choice, known)} {there}")


def _unknown(error: Exception, parsed: list[Override]) -> UsageError:
    """Find the override that Hydra stumbled over, by composing each alone, and say what is close to it."""
    chosen = [str(o.input_line) for o in parsed if o.key_or_group in GROUPS and o.value() in options(o.key_or_group)]
    base = cast(dict[str, Any], OmegaConf.to_container(_without_hydra(_compose(chosen))))
    for override in parsed:
        name, line = override.key_or_group, str(override.input_line)
        if line in chosen:
            continue
        if not override.is_add() and not has(base, name):
            return UsageError(no_such_key(name, base, _keys_of))
        try:
            _compose([*chosen, line])
        except _ERRORS as cause:
            return UsageError(f"{shorten(line)}: {_first_line(cause.__cause__ or cause)}")
    return UsageError(_first_line(error))


def _keys_of(group: str) -> dict[str, list[str]]:
    return {name: [str(k) for k in OmegaConf.load(conf_dir() / group / f"{name}.yaml")] for name in options(group)}


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
