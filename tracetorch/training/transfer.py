"""Start from a trained network: its layers and, if asked for, its optimizer and its statistics of observations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tracetorch.nn import Sequential
from tracetorch.nn.layer import Layer
from tracetorch.renamed import PARAMETERS, TASK_STATE, present
from tracetorch.runs.checkpoint import DamagedError, checksum_of, read_checkpoint
from tracetorch.runs.folder import state_of
from tracetorch.tasks import Environment, SampledTask, Task

INIT_PARTS = ("hidden", "readout", "optimizer", "normalization")
"""Parts that can be taken from a run: hidden layers, readout, state of the optimizer, statistics of observations."""


def source_checkpoint(source: str | Path) -> Path:
    """Return the checkpoint that a run tested; before a test, the latest; if that one is missing, the other.

    Args: source: a run's folder, or a checkpoint itself.
    Raises: ValueError if there is none.
    """
    path = Path(source)
    if path.suffix == ".pt" and path.is_file():
        return path
    if not path.is_dir():
        raise ValueError(f"init_from: {_fault_of(path)}")
    summary = state_of(path).facts.get("summary") or {}
    names = ["best", "latest"] if summary.get("tested") == "best" else ["latest", "best"]
    found = [path / "checkpoints" / f"{name}.pt" for name in names]
    checkpoint = next((one for one in found if one.is_file()), None)
    if checkpoint is None:
        raise ValueError(f"init_from: {_fault_of(path)}")
    return checkpoint


def _fault_of(path: Path) -> str:
    """Why a path is not a source, and what to give in its place."""
    run = next((folder for folder in (path, *path.parents[:2]) if (folder / "run.json").is_file()), None)
    if run == path:
        return f"{path} has no checkpoints/latest.pt: give a run that was trained"
    fault = "does not exist"
    if path.exists():
        fault = "is not the folder of a run" if path.is_dir() else "is not a checkpoint (.pt)"
    inside = None if run else max(path.glob("*/checkpoints/latest.pt"), default=None)  # names begin with the time
    advice = "the folder of a run, or a checkpoint (.pt)"
    return f"{path} {fault}: give {run or (inside and f'a run in it, such as {inside.parent.parent}') or advice}"


def transfer(
    source: str | Path,
    net: Sequential,
    *,
    parts: Collection[str] = ("hidden", "readout"),
    optimizer: torch.optim.Optimizer | None = None,
    task: object = None,
) -> dict[str, Any]:
    """Take trained layers from a run into a network, in place.

    Each layer gets the weights, biases, decays and thresholds of the layer with the same number. A readout of another
    shape stays as it is. States of neurons are not taken.

    Args:
        source: the folder of a run, or one of its checkpoints.
        parts: of `INIT_PARTS`. "optimizer" needs `optimizer`; its state, such as momentum, is taken, its settings, such
            as the learning rate, are not. "normalization" needs `task`: an environment, or a task with a learned scale.
    Returns: facts for run.json: the run, the checkpoint and its checksum, the layers taken, and the layers not taken
        with the reasons.
    Raises: ValueError if the number of layers differs, a hidden layer does not fit, a part is missing, or a value is
        not finite, and as `read_checkpoint`; the network is then unchanged.
    Example: `tt.training.transfer("outputs/mnist/20260101-000000-abcdef", net, parts=["hidden"])`
    """
    unknown = [part for part in parts if part not in INIT_PARTS]
    if unknown or isinstance(parts, str) or not parts:
        raise ValueError(f"init_parts is a list of {', '.join(INIT_PARTS)}; got {parts!r}")
    path = source_checkpoint(source)
    try:
        content = read_checkpoint(path)
    except DamagedError as error:
        fault = str(error).removeprefix(str(path)).removeprefix(" is ")
        raise ValueError(f"init_from: {path} is not a checkpoint of traceTorch, or it is {fault}") from error
    layers = _layers_of(content, path)
    if len(layers) != len(net):
        advice = f": give {_sizes(layers)}" if _sizes(layers) else ""
        raise ValueError(
            f"init_from: the number of hidden layers is {len(layers) - 1} in {path}, and {len(net) - 1} here{advice}"
        )
    if "hidden" in parts and (misfit := _misfit_of_data(content, task)):
        advice = "" if "are the axes swapped?" in misfit else "; init_parts=[readout] takes the readout alone"
        raise ValueError(f"init_from: the run of {path} was trained {misfit}{advice}")
    taken, kept = _fitting(layers, net, parts, path)
    if not taken and not {*parts} & {"optimizer", "normalization"}:
        reasons = "; ".join(f"layer {at}: {why}" for at, why in kept.items())
        raise ValueError(f"init_from: no layer of {path} can be taken ({reasons})")
    for at in taken:
        _check_finite(layers[at], f"{path}: layer {at}")
    states = _optimizer_states(content, net, optimizer, taken, path) if "optimizer" in parts else None
    statistics = _statistics(content, task, path) if "normalization" in parts else None
    for at in taken:
        net[at].load_state_dict(layers[at])
    if optimizer is not None and states is not None:
        optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    if isinstance(task, Task | Environment) and statistics is not None:
        task.load_for_test(statistics)
    facts = state_of(path.parent.parent).facts
    known = {name: facts.get(name) for name in ("experiment", "id", "run_id")}
    origin = {"folder": str(source), **known, "checkpoint": path.stem, "update": content.get("update")}
    return origin | {"checksum": checksum_of(content)[:12], "parts": list(parts), "layers": taken, "fresh": kept}


def transfer_note(facts: Mapping[str, Any], num_layers: int) -> str:
    """Describe the result of `transfer` in a sentence. Args: num_layers: of the network."""
    names = {num_layers - 1: "readout"}
    taken = ", ".join(names.get(at, f"layer {at}") for at in facts["layers"]) or "no layer"
    others = [part for part in facts["parts"] if part not in ("hidden", "readout")]
    text = f"starts from {facts['folder']}, update {facts['update']}: {' and '.join([taken, *others])}"
    return text + "".join(f"; {names.get(at, f'layer {at}')} is fresh ({why})" for at, why in facts["fresh"].items())


def freeze(net: Sequential, frozen: Sequence[int | str]) -> None:
    """Exclude layers from training.

    Args: frozen: numbers from 0, the first layer (-1: the readout), or "hidden", "readout".
    Raises: ValueError for a layer that does not exist, or if no layer is left to train.
    """
    if isinstance(frozen, str):
        raise ValueError(f"frozen is a list of layers, such as [0] or [hidden], got {frozen!r}")
    groups = {"hidden": list(range(len(net) - 1)), "readout": [len(net) - 1]}
    for name in frozen:
        chosen = groups.get(str(name)) if not isinstance(name, int) else [name]
        if chosen is None or isinstance(name, bool) or not all(-len(net) <= at < len(net) for at in chosen):
            known = f"0 to {len(net) - 1}, hidden, readout"
            raise ValueError(f"frozen: there is no layer {name!r}; there are {known}")
        for at in chosen:
            net[at].requires_grad_(False)
    if frozen and not any(parameter.requires_grad for parameter in net.parameters()):
        raise ValueError(f"frozen={list(frozen)} leaves no parameter to train; leave a layer out of it")


def _layers_of(content: Mapping[str, Any], path: Path) -> list[dict[str, Tensor]]:
    """The values of each layer in a checkpoint, by their present names. Raises: ValueError."""
    weights = content.get("net")
    found: dict[int, dict[str, Tensor]] = {}
    for name, value in weights.items() if isinstance(weights, Mapping) else ():
        words = str(name).split(".", 2)
        if len(words) == 3 and words[0] == "layers" and words[1].isdecimal() and isinstance(value, Tensor):
            found.setdefault(int(words[1]), {})[words[2]] = value
    if not found or sorted(found) != list(range(len(found))):
        raise ValueError(f"init_from: {path} does not hold the layers of a network")
    return [present(PARAMETERS, found[at]) for at in range(len(found))]


def _sizes(layers: Sequence[Mapping[str, Tensor]]) -> str:
    """The sizes of the hidden layers, as typed; "" unless all are fully connected."""
    weights = [layer.get("connection.weight") for layer in layers[:-1]]
    sizes = [str(len(weight)) for weight in weights if weight is not None and weight.ndim == 2]
    return f"network.hidden=[{','.join(sizes)}]" if len(sizes) == len(weights) > 0 else ""


def _advice(layers: Sequence[Mapping[str, Tensor]], net: Sequential, at: int) -> str:
    """What to do about a hidden layer that does not fit; "" if this is not known."""
    there, here = (layer.get("connection.weight") for layer in (layers[at], net[at].state_dict()))
    if there is None or here is None or there.ndim != 2 or here.ndim != 2:
        return ""
    if at == 0 and there.shape[1] != here.shape[1]:
        return f"; the other task has {there.shape[1]} inputs: init_parts=[readout] takes the readout alone"
    return f"; give {_sizes(layers)}" if there.shape != here.shape else ""


def _fitting(
    layers: Sequence[Mapping[str, Tensor]], net: Sequential, parts: Collection[str], path: Path
) -> tuple[list[int], dict[int, str]]:
    """The layers to take, and those that stay as they are, each with the reason. Raises: ValueError as `transfer`."""
    taken, kept, last = [], {}, len(net) - 1
    for at, layer in enumerate(layers):
        if ("readout" if at == last else "hidden") not in parts:
            kept[at] = "not in init_parts"
        elif not (misfit := _misfit(layer, net[at])):
            taken.append(at)
        elif at == last:
            kept[at] = misfit
        else:
            raise ValueError(f"init_from: layer {at} of {path} does not fit: {misfit}{_advice(layers, net, at)}")
    return taken, kept


def _misfit_of_data(content: Mapping[str, Any], task: object) -> str:
    """What `SampledTask.misfit` says of the state of a task in a checkpoint; "" for other tasks."""
    state = (content.get("parts") or {}).get("task")
    return task.misfit(state) if isinstance(task, SampledTask) and isinstance(state, dict) and "shift" in state else ""


def _misfit(layer: Mapping[str, Tensor], own_layer: Layer) -> str:
    """Why the values of a layer do not fit another; "" if they do."""
    own = own_layer.state_dict()
    for name in {**layer, **own}:
        if name not in own or name not in layer:
            return f"{name} exists only in {'this network' if name in own else 'it'}"
        if own[name].shape != layer[name].shape:
            short = name.rpartition(".")[2]
            return f"its {short} has the shape {tuple(layer[name].shape)}, here {tuple(own[name].shape)}"
    return ""


def _check_finite(values: Mapping[str, Any], origin: str) -> None:
    for name, value in values.items():
        if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
            raise ValueError(f"init_from: {origin}: {name} is not finite")


def _optimizer_states(
    content: Mapping[str, Any], net: Sequential, optimizer: torch.optim.Optimizer | None, taken: list[int], path: Path
) -> dict[int, Any]:
    """The state of each parameter of the layers taken, by its number in the optimizer. Raises: ValueError."""
    if optimizer is None:
        raise ValueError("init_parts: optimizer: no optimizer was given")
    state = content.get("optimizer") or {}
    groups, own_groups = state.get("param_groups") or [], optimizer.state_dict()["param_groups"]
    kinds = [[group.keys() - {"initial_lr", "params"} for group in each] for each in (groups, own_groups)]
    if not groups or kinds[0][0] != kinds[1][0]:  # the names of an optimizer's settings
        raise ValueError(f"init_parts: {path} is from another kind of optimizer; leave optimizer out")
    numbers = [[len(group["params"]) for group in each] for each in (groups, own_groups)]
    if numbers[0] != numbers[1]:
        raise ValueError(f"init_parts: the optimizer of {path} trained other parameters; leave optimizer out")
    of_taken = {id(parameter) for at in taken for parameter in net[at].parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    found = {}
    for number, parameter in enumerate(parameters):
        values = state.get("state", {}).get(number)
        if id(parameter) not in of_taken or values is None:
            continue
        shapes = [value.shape for value in values.values() if isinstance(value, Tensor) and value.numel() != 1]
        if any(shape != parameter.shape for shape in shapes):
            raise ValueError(f"init_parts: the optimizer of {path} trained other parameters; leave optimizer out")
        _check_finite(values, f"{path}: optimizer")
        found[number] = values
    return found


def _statistics(content: Mapping[str, Any], task: object, path: Path) -> dict[str, Any]:
    """The state of a task with a learned scale of its input. Raises: ValueError if there is none."""
    state = (content.get("parts") or {}).get("task")
    if isinstance(task, Task) and task.state_dict() and isinstance(state, dict):
        return state
    if not isinstance(task, Environment) or not isinstance(state, dict):
        raise ValueError(f"init_parts: normalization: {path} and this task have no statistics of observations")
    if not present(TASK_STATE, state).get("statistics"):
        raise ValueError(f"init_parts: normalization: {path} has no statistics of observations; leave it out")
    return state
