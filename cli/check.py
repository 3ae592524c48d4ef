"""Checks of a config against the signatures of its targets, before anything slow or permanent happens."""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple

from tracetorch.cli import project
from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.cli.signatures import definition, is_trusted, signature
from tracetorch.files import expanded
from tracetorch.renamed import ARGUMENTS, TARGETS

PARTS = ("task", "network", "rule", "loss", "optimizer", "train")
"""The keys of a config that are instantiated; all but the task get further arguments later (`_partial_`)."""

OPTIONAL_PARTS = ("diagnostics",)  # configs of older versions lack them
STARTS = ("init_from", "init_parts", "frozen")
"""The keys of a start from a trained network, which a training loop gets if they are set."""

KEYS = (*PARTS, *OPTIONAL_PARTS, "logger", "output", "seed", "device", "threads", *STARTS)  # in the order of the file
_PLAIN = {"seed": "int", "device": "str", "threads": "int | None", "output.root": "str", "output.dir": "str | None"}
_PLAIN |= {"init_from": "str | None", "init_parts": "Sequence[str]", "frozen": "Sequence[int | str]"}
SPECIAL = ("_target_", "_partial_", "_args_", "_convert_")
"""Keys of a part that are not its arguments; `_convert_` has no effect: lists and mappings are always plain."""


class _Output(NamedTuple):
    """The kind of a readout's output, a loss for labels that accepts it, and a network with the readout."""

    kind: str
    loss: str
    network: str


_GIVES = {  # by readout
    "tracetorch.nn.LIS": _Output("probabilities", "cross_entropy", "lif_lis"),
    "tracetorch.nn.LI": _Output("logits", "cross_entropy_with_logits", "lif_li"),
    "tracetorch.nn.LIF": _Output("firing rates", "mse", "lif_lif"),
}
_TAKES = {  # by loss: the readouts whose output it can use; other losses and readouts are not checked
    "tracetorch.loss.cross_entropy": ["tracetorch.nn.LIS"],
    "tracetorch.loss.cross_entropy_with_logits": ["tracetorch.nn.LI"],
    "tracetorch.loss.Reflect": ["tracetorch.nn.LIS"],
    "tracetorch.loss.ActorCritic": ["tracetorch.nn.LI"],
}
_SEVERAL_BITS = ("tracetorch.tasks.Patterns",)  # tasks whose target is a bit for each output, not one class
_ONE_CLASS = ("cross_entropy", "cross_entropy_with_logits")  # losses whose target is one class or a distribution

_COUNTS = ("updates", "steps", "learn_every", "window", "log_every", "eval_every", "patience")
"""Keys of `train` that are at least 1; the training loops check them too, for calls from Python."""

_KINDS: dict[str, tuple[str, type | UnionType]] = {  # by annotation: the description and the types of its values
    "int": ("a whole number", int),
    "float": ("a number", int | float),
    "bool": ("true or false", bool),
    "str": ("a string", str),
    "Tensor": ("a number", int | float),  # a tensor cannot be typed
}
_NUMBERS = "Sequence[float]"
_ALIASES = {  # by name in an annotation: its meaning, and the description of its values
    "Values": (f"float | {_NUMBERS}", ["a number", "a list of numbers"]),
    "SampleSpace": (f"{_NUMBERS} | str", ["a list of numbers", "a range such as 0.1..1.2"]),
}
GYM = "tracetorch.tasks.Gym"
_LISTS = ("Sequence", "Iterable", "list", "tuple")


def check(config: dict[str, Any]) -> None:
    """Check every part of a config against the signature of its `_target_`, and the plain keys against their types.

    Raises: UsageError that names the first key with an invalid value, and its valid values.
    """
    for key in config:
        if key not in KEYS:
            raise UsageError(f"{shorten(key)}: a config has no such key.{did_you_mean(key, KEYS)}")
    for part in (*PARTS, *(name for name in OPTIONAL_PARTS if name in config)):
        _check_part(part, config.get(part))
    loggers = config.get("logger") or {}
    for name, node in loggers.items() if isinstance(loggers, dict) else [("", loggers)]:
        if not isinstance(node, dict) or "_target_" not in node:
            key = f"logger.{shorten(name)}" if name else "logger"
            raise UsageError(f"{key} has no _target_; choose with logger=tensorboard or logger=none")
    for key, kind in _PLAIN.items():
        node = config.get("output") if "." in key else config
        name = key.rpartition(".")[2]
        if not isinstance(node, dict) or (name not in node and node is config and name not in STARTS):
            raise UsageError(f"{key} is missing from the config")
        if name in node:  # otherwise it has a default
            _check_value(key, node[name], _annotation(kind))
    if abs(config["seed"]) >= 2**63:
        raise UsageError(f"seed must fit into 64 bits, got {shorten(config['seed'])}")
    cores = os.cpu_count() or 1
    if config["threads"] is not None and not 1 <= config["threads"] <= cores:
        limit = f"the {cores} processors of this machine"
        raise UsageError(f"threads must be null or between 1 and {limit}, got {config['threads']}")
    if config["output"].get("dir") == "":
        raise UsageError("output.dir is empty: give a folder, or null for a new folder named after the time")
    for path, node in _targets(config):
        _check_call(path, node)


def check_new(config: dict[str, Any]) -> None:
    """Run `check`, and refuse values that older versions allowed; runs with such values can still be continued.

    Raises: UsageError.
    """
    check(config)
    _check_loss(config)
    source = config.get("init_from")
    if source == "":
        raise UsageError("init_from is empty: give the folder of a run, or null")
    if source is not None and not expanded(source).exists():
        parent = expanded(source).parent
        known = sorted(path.name for path in parent.iterdir())[:1000] if parent.is_dir() else []
        hint = did_you_mean(expanded(source).name, known, f"{parent}/".removeprefix("./"))
        what = "checkpoint" if source.endswith(".pt") else "folder"
        advice = hint or " Give the folder of a run, or a checkpoint (.pt) in it."
        raise UsageError(f"init_from: there is no {what} {shorten(source)}.{advice}")
    for path, node in _targets(config):
        for name, annotation in (signature(node["_target_"]) or {}).items():
            if annotation is not None and "SampleSpace" in ast.unparse(annotation):
                _check_range(f"{path}.{name}", node.get(name))
    train = config["train"]
    for name in _COUNTS if str(train.get("_target_")).startswith("tracetorch.") else ():
        count = train.get(name)
        if isinstance(count, int) and count < 1:
            raise UsageError(f"train.{name} must be at least 1, got {shorten(count)}")


def _check_range(path: str, value: Any) -> None:
    """Raises: UsageError for a range such as 5..1."""
    low, dots, high = value.partition("..") if isinstance(value, str) else ("", "", "")
    try:
        is_reversed = bool(dots) and float(low) > float(high)
    except ValueError:  # the task reports the error
        return
    if is_reversed:
        raise UsageError(f"{path}={shorten(value)} is a range from high to low: write {shorten(f'{high}..{low}')}")


def _check_loss(config: dict[str, Any]) -> None:
    """Raises: UsageError if the loss cannot use the readout's output or the task's target.

    For example, cross-entropy on firing rates has a gradient at the correct output only: it never lowers a wrong rate.
    """
    loss, network, task = config["loss"], config["network"], config["task"]
    readout = network.get("readout")
    readout_target = readout.get("_target_") if isinstance(readout, dict) else None
    takes, name = _TAKES.get(str(loss.get("_target_"))), str(loss.get("_target_")).rpartition(".")[2]
    kind, readout_name = str(task.get("_target_")).rpartition(".")[2], str(readout_target).rpartition(".")[2]
    if task.get("_target_") in _SEVERAL_BITS and (name in _ONE_CLASS or readout_target == "tracetorch.nn.LIS"):
        at_fault = f"{name} scores" if name in _ONE_CLASS else "the readout LIS gives"
        raise UsageError(
            f"loss: {kind} has several bits to predict per trial, and {at_fault} probabilities of one class among all: "
            "choose loss=mse network=lif_lif, as experiment=patterns does"
        )
    if takes is None or readout_target not in _GIVES or readout_target in takes:
        return
    output = _GIVES[readout_target]
    kinds = " or ".join(_GIVES[readout].kind for readout in takes)
    advice = f"choose loss={output.loss}, or" if name.startswith("cross_entropy") else "choose"
    raise UsageError(
        f"loss: {name} needs {kinds}, and a readout {readout_name} gives {output.kind}: "
        f"{advice} network={_GIVES[takes[0]].network}"
    )


Typed = Collection[tuple[str, str]]
"""Settings from this command line, as keys and values; see `adapter.typed_values`."""


def check_own(
    config: dict[str, Any],
    typed: Typed,
    config_dir: Path | None = None,
    trust: Collection[str] = (),
    *,
    imports: bool = True,
) -> None:
    """Check the targets of a config that may come from presets of the user: of the project, or of a `--config-dir`.

    It may call what `check_trusted` allows, packages of `--trust`, and the packages of the project; the last not if
    `--config-dir` lies outside of the project. Without a project and a `--config-dir`, nothing is checked.

    Args:
        typed: targets that are allowed, because the user typed them.
        imports: whether to import a package, to check that it defines the target itself.
    Raises: UsageError that names the first target that is not trusted.
    """
    own = project.current()
    if config_dir is not None:
        check_trusted(config, config_dir, [*trust, *project.trusted(config_dir)], typed, imports=imports)
    elif own is not None and own.conf is not None:
        check_trusted(config, own.conf, [*trust, *own.packages], typed, imports=imports)


def check_trusted(
    config: dict[str, Any],
    origin: Path,
    packages: Collection[str] = (),
    typed: Typed = (),
    *,
    imports: bool = True,
) -> None:
    """Check that a config from a folder calls only targets that `is_trusted` allows or that these packages define.

    Args: typed, imports: as for `check_own`.
    Raises: UsageError that names the first target that is not trusted.
    """
    own = []
    for path, node in _targets(config):
        target = str(node["_target_"])
        if is_trusted(target):
            if (f"{path}.id", node.get("id")) not in typed:
                _check_module(path, node, origin, packages)
            continue
        if (f"{path}._target_", target) in typed:
            continue
        trusted = next((package for package in packages if target.startswith(f"{package}.")), None)
        if trusted is not None:
            own.append((path, target, trusted))
            continue
        package = shorten(target.partition(".")[0])
        is_ours = package in ("tracetorch", "torch")
        why = "it is not a public name" if is_ours else f"if you trust it, {project.advice(origin, package)}"
        raise UsageError(f"{origin}: {path} calls {shorten(target)!r}, which is not trusted; {why}")
    for path, target, trusted in own if imports else ():  # only now, because it imports the package
        _check_defined(f"{origin}: {path}", target, trusted)


def _check_module(path: str, node: dict[str, Any], origin: Path, packages: Collection[str]) -> None:
    """Raises: UsageError if a Gymnasium id imports a module that is not trusted."""
    module, colon, _ = str(node.get("id", "")).rpartition(":")
    if node["_target_"] != GYM or not colon:
        return
    if not any(f"{module}.".startswith(f"{package}.") for package in packages):
        imports = f"{path}.id={shorten(node['id'])} imports {shorten(module)!r}, which is not trusted"
        advice = f"if you trust it, add --trust {shorten(module.partition('.')[0])}"
        raise UsageError(f"{origin}: {imports}; {advice}")


def _check_defined(path: str, target: str, package: str) -> None:
    """Raises: UsageError if the target does not exist, or if the package imports it instead of defining it."""
    from tracetorch.cli.adapter.making import is_defined_in, located, naming

    with naming(f"{path}._target_", located):
        is_own = is_defined_in(target, package)
    if not is_own:
        raise UsageError(f"{path} calls {shorten(target)!r}, which is not trusted: {package} does not define it")


def _check_part(part: str, node: Any) -> None:
    if not isinstance(node, dict):
        raise UsageError(f"{part} is missing from the config; choose one with {part}=…")
    if "_target_" not in node:
        raise UsageError(f"{part} has no _target_; choose one with {part}=…")
    is_partial = part != "task"
    if node.get("_partial_", False) is not is_partial:
        raise UsageError(f"{part}._partial_ must be {str(is_partial).lower()}, got {shorten(node.get('_partial_'))}")


def _check_call(path: str, node: dict[str, Any]) -> None:
    target = node["_target_"]
    if isinstance(target, str) and target in TARGETS:
        raise UsageError(f"{path}._target_: {target} is now {TARGETS[target]}")
    if not isinstance(target, str) or (target.startswith("tracetorch.") and definition(target) is None):
        raise UsageError(f"{path}._target_: there is no {shorten(repr(target))}")
    arguments = signature(target)
    if arguments is None:
        return
    for name, value in node.items():
        if name in SPECIAL:
            continue
        if (new_name := ARGUMENTS.get(name)) in arguments:
            raise UsageError(f"{path}.{name} is now {path}.{new_name}")
        if name not in arguments:
            hint, known = did_you_mean(name, arguments), ", ".join(arguments)
            raise UsageError(f"{path}.{name}: {target} takes no '{name}'.{hint} It takes {known}.")
        if not (isinstance(value, dict) and "_target_" in value):
            _check_value(f"{path}.{name}", value, arguments[name])


def nodes(node: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a part of a config and all mappings inside it, with their dotted keys."""
    if isinstance(node, dict):
        yield key, node
        for name, inner in node.items():
            yield from nodes(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for at, inner in enumerate(node):
            yield from nodes(inner, f"{key}[{at}]")


def _targets(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((key, node) for key, node in nodes(config) if "_target_" in node)


def _check_value(path: str, value: Any, annotation: ast.expr | None) -> None:
    expected = _misfit(value, annotation)
    if expected:
        is_one_of_list = not isinstance(value, list) and not _misfit([value], annotation)
        hint = f" Write {path}=[{shorten(value)}]." if is_one_of_list else ""
        raise UsageError(f"{path} must be {' or '.join(dict.fromkeys(expected))}, got {_as_typed(value)}.{hint}")


def _as_typed(value: Any) -> str:
    """A value for a message, as YAML writes it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return shorten(repr(value))


def _misfit(value: Any, annotation: ast.expr | None) -> list[str]:
    """Descriptions of the valid values; empty if the value is valid, or if the annotation cannot be checked."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            sides = _misfit(value, left), _misfit(value, right)
            return sides[0] + sides[1] if all(sides) else []
        case ast.Constant(value=None):
            return [] if value is None else ["null"]
        case ast.Name(id=name) if name in _ALIASES:
            meaning, words = _ALIASES[name]
            return words if _misfit(value, _annotation(meaning)) else []
        case ast.Name(id=name) if name in _KINDS:
            words_of_kind, types = _KINDS[name]
            fits = isinstance(value, types) and isinstance(value, bool) == (types is bool)
            return [] if fits and not (isinstance(value, float) and math.isnan(value)) else [words_of_kind]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=allowed):
            elements = allowed.elts if isinstance(allowed, ast.Tuple) else [allowed]
            names = [element.value for element in elements if isinstance(element, ast.Constant)]
            return [] if value in names else [f"{'one of ' * (len(names) > 1)}{', '.join(map(str, names))}"]
        case ast.Subscript(value=ast.Name(id="Callable")):
            return [] if isinstance(value, dict) and "_target_" in value else ["a part with a _target_"]
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in _LISTS:
            return _misfit_list(value, inner)
    return []


def _misfit_list(value: Any, inner: ast.expr) -> list[str]:
    elements = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    is_endless = len(elements) == 1 or ast.unparse(elements[-1]) == "..."
    exactly = None if is_endless else len(elements)
    fits = isinstance(value, list | tuple) and (exactly is None or len(value) == exactly)
    if fits and not any(_misfit(item, elements[0]) for item in value):
        return []
    kind = _misfit(object(), elements[0])
    kinds = " or ".join(f"{word.removeprefix('a ')}s" for word in dict.fromkeys(kind))
    of = f" of {kinds}" if kind else ""
    return [f"a list of {exactly}{of.removeprefix(' of')}" if exactly else f"a list{of}"]


def _annotation(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
