"""The only module that touches Hydra: composing configs, and making what they describe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tracetorch.cli.errors import UsageError, did_you_mean, shorten

GROUPS = ("experiment", "task", "network", "rule", "loss", "optimizer", "train", "output")


class Composed(NamedTuple):
    """A config, complete and resolved."""

    config: dict[str, Any]
    yaml: str
    experiment: str  # which preset it is


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
        experiment = composed.hydra.runtime.choices.get("experiment") or "custom"
        config = _without_hydra(composed)
    except MissingConfigException as error:
        raise _missing(error) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise _unknown(error, parsed) from error
    except ValueError as error:  # Hydra's own, for a group that is set to something other than a name
        raise UsageError(f"{' '.join(map(shorten, overrides))}: {_first_line(error)}") from error
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


def _parse(override: str) -> Any:
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        if "=" not in override:
            raise UsageError(f"'{shorten(override)}' sets nothing: write key=value, such as seed=1") from error
        key, _, value = override.partition("=")
        advice = f"quote it twice, such as '{key}=\"…\"'" if value else "give it a value"
        raise UsageError(f"{shorten(key)}: the value {shorten(value)!r} cannot be read; {advice}") from error
    if parsed.is_sweep_override():
        hint = f"for a list, write {parsed.key_or_group}=[{shorten(override.partition('=')[2])}]"
        raise UsageError(f"'{shorten(override)}' is a sweep over several values, and a run takes one; {hint}")
    return parsed


def _missing(error: MissingConfigException) -> UsageError:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    known = options(group)
    if not known:
        return UsageError(_first_line(error))
    there = f"There are: {', '.join(known)}."
    return UsageError(f"{group}={shorten(choice)}: there is no such {group}.{did_you_mean(choice, known)} {there}")


def _unknown(error: Exception, parsed: list[Any]) -> UsageError:
    """Find the override that Hydra stumbled over, and say what is close to its key."""
    cause = error.__cause__ or error
    key = getattr(cause, "full_key", None)
    for override in parsed:
        name = override.key_or_group
        if name != key and f"'{name}'" not in str(error) and f" {name}=" not in str(error):
            continue
        chosen = [o.input_line for o in parsed if o.key_or_group in GROUPS and o.value() in options(o.key_or_group)]
        base = _without_hydra(_compose(chosen))
        if OmegaConf.select(base, name) is not None:
            break
        return UsageError(_no_such_key(name, base))
    return UsageError(_first_line(error))


def _no_such_key(name: str, base: DictConfig) -> str:
    parts = name.split(".")
    node: Any = base
    depth = 0
    while depth < len(parts) and isinstance(node, DictConfig) and parts[depth] in node:
        node, depth = node[parts[depth]], depth + 1
    where, word = ".".join(parts[:depth]), parts[min(depth, len(parts) - 1)]
    if not isinstance(node, DictConfig):
        return f"{shorten(name)}: {where} is a value ({shorten(node)}) and has no parts."
    known = [str(key) for key in node if not str(key).startswith("_")]
    inside = f"{where} has {', '.join(known)}" if where else f"there are {', '.join(known)}"
    prefix = f"{where}." if where else ""
    hint = did_you_mean(word, known, prefix) or _elsewhere(parts, base)
    return f"{shorten(name)}: there is no key '{shorten(word)}'.{hint} Here {inside}."


def _elsewhere(parts: list[str], base: DictConfig) -> str:
    """The same word in another choice of the same group, or deeper in the config."""
    group, word = parts[0], parts[-1]
    if group in GROUPS and len(parts) == 2:
        for choice in options(group):
            keys = [str(key) for key in OmegaConf.load(conf_dir() / group / f"{choice}.yaml")]
            if hint := did_you_mean(word, keys, f"{group}."):
                return f"{hint[:-1]}, which {group}={choice} has?"
    deeper = [f"{name!s}.{key!s}" for name, node in base.items() if isinstance(node, DictConfig) for key in node]
    return next((f" Did you mean '{key}'?" for key in deeper if key.rpartition(".")[2] == word), "")


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
