"""Networks as graphs of NIR, the Neuromorphic Intermediate Representation, and back.

NIR describes neurons by differential equations. A graph fixes neither their discretisation nor the length of a step.
traceTorch uses Euler's method, as snnTorch and spikingjelly do, whose default is dt = 0.0001 s:

    τ·dv/dt = v_leak − v + R·I    →    v ← (1 − dt/τ)·v + (dt/τ)·(v_leak + R·I)

    LIF, LI, LIS: m ← β·m + W·x + b    ↔    τ = dt/(1 − β),  R = τ/dt,  v_leak = 0,  Linear(W) or Affine(W, b)

NIR's LIF sets the membrane to v_reset at a spike, as `LIF(reset="zero")` does. The metadata of a LIF's node have
`reset = "subtract"` or `"zero"`. Other frameworks ignore that; `TARGETS` holds what to set in each.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tracetorch import __version__, constrain, files
from tracetorch.nn import LI, LIF, LIS, Layer, Sequential, neurons
from tracetorch.nn.input_trace import MAX_GROUPS
from tracetorch.optional import library
from tracetorch.printable import printable

DT = 1e-4
"""Length of a step in seconds that snnTorch and spikingjelly assume."""


class Framework(NamedTuple):
    """The ways in which a framework reads a graph of NIR differently from the equations above."""

    advice: str  # what its user sets, so that neurons reset by subtraction
    zero_advice: str = ""  # what its user sets, so that neurons reset to zero; "": nothing
    uniform: tuple[str, ...] = ()  # constants that all neurons of a layer share
    has_li: bool = False  # whether it reads leaky integrators
    dt: float | None = None  # the only step length that it takes, s; None: any
    unit_resistance: bool = False  # whether it needs R = 1, with weights multiplied by τ/dt
    exponential: bool = False  # whether it takes β = exp(−dt/τ) instead of 1 − dt/τ
    has_linear: bool = True  # whether it reads connections without a bias; if not, they get a bias of zeros


TARGETS = {
    "snntorch": Framework(
        "for each snntorch.Leaky: leaky.reset_mechanism = 'subtract'; leaky.state_function = leaky._base_sub; spikes "
        "are equal as long as no membrane exceeds two thresholds",
        uniform=("threshold",),
        dt=DT,
    ),
    "spikingjelly": Framework("for each LIFNode: node.v_reset = None", uniform=("decay", "threshold")),
    "norse": Framework(
        "for each LIFBoxCell: cell.p = cell.p._replace(reset_method=norse.torch.functional.reset.reset_subtract)",
        unit_resistance=True,
    ),
    "sinabs": Framework(
        "for each LIFSqueeze: layer.spike_fn = sinabs.activation.SingleSpike",
        zero_advice="for each LIFSqueeze: layer.spike_fn = sinabs.activation.SingleSpike; layer.reset_fn = "
        "sinabs.activation.MembraneReset()",
        has_li=True,
        dt=1.0,
        unit_resistance=True,
        exponential=True,
        has_linear=False,
    ),
}
"""The frameworks for which `to_nir` can make a graph, by name."""

_ANY = Framework("", has_li=True)
_NEURONS = {neurons.LIF: "LIF", neurons.LI: "LI", neurons.LIS: "LI"}
_MOST_ENTRIES = 10_000  # groups and arrays in a file
_DEEPEST = 8  # nested groups in a file: node/nodes/NAME/metadata has 4
_ULPS = 8  # floats on each side of a first guess, among which the exact one is searched
_SAME_GAIN = 1e-6  # a gain R·dt/τ this close to 1 counts as 1, as in snnTorch and spikingjelly


# ── to NIR ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def to_nir(
    net: Sequential | Layer,
    *,
    dt: float | None = None,
    readout: Literal["neurons", "current"] = "neurons",
    target: str | None = None,
    input_shape: Sequence[int] | None = None,
) -> Any:
    """Describe a network as a graph of NIR.

    Args:
        net: layers whose connections are `torch.nn.Linear`, `Conv2d`, `AvgPool2d`, `Flatten` or a `torch.nn.Sequential`
            of these, with neurons LIF, LI or LIS.
        dt: length of a step in seconds; time constants are multiples of it. None: 0.0001, or the dt of the target.
        readout: "neurons": a last layer of LI or LIS becomes NIR's LI; the softmax of LIS is left out. "current": the
            graph ends with the current of these neurons, for frameworks without leaky integrators.
        target: the framework that will read the graph, a name in `TARGETS`. It reads the same neurons if its user
            follows `advice` or `zero_advice`. None: the graph has the form of the equations above.
        input_shape: of one sample; needed for a convolution that has not run yet.
    Returns: a `nir.NIRGraph`, without the state, and without constants that only learning uses, such as trace decays.
    Raises: ValueError for what NIR or the target cannot express; ImportError without the package nir.
    """
    nir = library("nir", "nir")
    form = _ANY if target is None else TARGETS.get(target)
    if form is None:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}, got {printable(target, 40)}")
    if None not in (dt, form.dt) and dt != form.dt:
        raise ValueError(f"{target} reads every graph with dt={form.dt:g}, got dt={dt:g}: leave dt out")
    dt = form.dt or (DT if dt is None else dt)
    if not 0 < dt < float("inf"):
        raise ValueError(f"dt must be a length above 0, in seconds, got {dt:g}")
    if readout not in ("neurons", "current"):
        raise ValueError(f'readout must be "neurons" or "current", got {readout!r}')
    layers = net.chain
    shape = _input_shape(layers[0], input_shape)
    last: Any = None  # the last node with weights
    nodes: dict[str, Any] = {"input": nir.Input(input_type={"input": np.array(shape)})}
    for at, layer in enumerate(layers):
        kind = _NEURONS.get(type(layer.neuron))
        if kind is None:
            known = ", ".join(neuron.__name__ for neuron in _NEURONS)
            raise ValueError(f"layer {at}: NIR has no neuron like {layer.kind}; it has {known}")
        if layer.in_features is not None and len(shape) > 1:
            shape = _add(nodes, at, nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1))
        has_neurons = kind == "LIF" or readout == "neurons" or layer is not layers[-1]
        if has_neurons:
            _check_target(f"layer {at}", kind, layer.neuron, target, form)
        modules = list(_modules(layer.connection))
        for module in modules:
            node = _connection_node(nir, module, shape, f"layer {at}")
            if isinstance(node, nir.Linear) and not form.has_linear:
                node = nir.Affine(weight=node.weight, bias=np.zeros(len(node.weight), node.weight.dtype))
            shape = _add(nodes, at, node)
            last = node if hasattr(node, "weight") else last
        if has_neurons:
            if form.unit_resistance and not form.exponential:
                _divide(last, 1 - layer.neuron.decay, f"layer {at}")
            shape = _add(nodes, at, _neuron_node(nir, layer.neuron, shape, dt, form))
    nodes["output"] = nir.Output(output_type={"output": np.array(shape)})
    names = list(nodes)
    metadata = {"format": "tracetorch", "version": __version__, "dt": float(dt), "readout": readout}
    metadata |= {} if target is None else {"target": target}
    return nir.NIRGraph(nodes=nodes, edges=list(pairwise(names)), metadata=metadata)


def _check_target(name: str, kind: str, neuron: neurons.Neuron, target: str | None, form: Framework) -> None:
    """Raises: ValueError for neurons that the target cannot express. Args: name: of the layer. kind: NIR's neuron."""
    if kind == "LI" and not form.has_li:
        raise ValueError(
            f"{name}: {target} reads no leaky integrators; with readout='current' the graph ends with their current, "
            "which is to be integrated there"
        )
    for constant in form.uniform:
        values = getattr(neuron, constant)
        if values.numel() > 1 and bool((values != values.reshape(-1)[0]).any()):
            raise ValueError(f"{name}: {target} reads one {constant} for all neurons of a layer, and these differ")


def _divide(node: Any, divisors: Tensor, name: str) -> None:
    """Divide the weights in front of neurons by 1 − β of each. Args: node: with the weights. name: of the layer."""
    divisor = _compact(divisors).detach().cpu().numpy()
    if node is None or divisor.size not in (1, len(node.weight)):
        raise ValueError(f"{name}: neurons with the same weights differ in their decay, which norse cannot express")
    for key in ("weight", "bias"):
        if (values := getattr(node, key, None)) is not None:
            setattr(node, key, values / divisor.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype))


def _input_shape(layer: Layer, given: Sequence[int] | None) -> tuple[int, ...]:
    """Return the shape of one sample of a layer's input. Raises: ValueError if it is not known yet."""
    if given is not None:
        return tuple(given)
    if layer.in_features is not None:
        return (layer.in_features,)
    if layer.live_state is None:
        raise ValueError(f"{layer} takes input of any size: give input_shape, such as input_shape=(1, 28, 28)")
    return tuple(layer.live_state.trace.shape[1:])


def _add(nodes: dict[str, Any], at: int, node: Any) -> tuple[int, ...]:
    """Add a node of layer `at` under a unique name, and return the shape of its output."""
    name = f"{type(node).__name__.lower()}_{at}"
    nodes[name if name not in nodes else f"{name}_{len(nodes)}"] = node
    return tuple(int(size) for size in node.output_type["output"])


def _modules(connection: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules of a connection in their order."""
    if isinstance(connection, nn.Sequential):
        for module in connection:
            yield from _modules(module)
    else:
        yield connection


def _connection_node(nir: Any, module: nn.Module, shape: tuple[int, ...], name: str) -> Any:
    """Return the node of a module. Args: shape: of its input. name: of the layer. Raises: ValueError without one."""
    if module._forward_hooks or module._forward_pre_hooks:
        raise ValueError(f"{name}: {module} has hooks, which NIR cannot express")
    if type(module).forward is nn.Linear.forward:
        weight, bias = _array(module.weight), getattr(module, "bias", None)
        return nir.Linear(weight=weight) if bias is None else nir.Affine(weight=weight, bias=_array(bias))
    if type(module).forward is nn.Conv2d.forward and module.padding_mode == "zeros":
        weight = _array(module.weight)
        bias = np.zeros(len(weight), weight.dtype) if module.bias is None else _array(module.bias)
        options = {key: getattr(module, key) for key in ("stride", "padding", "dilation", "groups")}
        return nir.Conv2d(input_shape=shape[-2:], weight=weight, bias=bias, **options)
    plain_pool = type(module) is nn.AvgPool2d and not module.ceil_mode and module.divisor_override is None
    if plain_pool and (module.count_include_pad or module.padding in (0, (0, 0))):
        sizes = {key: np.array(_pair(getattr(module, key))) for key in ("kernel_size", "stride", "padding")}
        node = nir.AvgPool2d(**sizes)
        extent = (np.array(shape[-2:]) + 2 * sizes["padding"] - sizes["kernel_size"]) // sizes["stride"] + 1
        node.input_type, node.output_type = {"input": np.array(shape)}, {"output": np.array([*shape[:-2], *extent])}
        return node
    if type(module) is nn.Flatten:
        dims = {"start_dim": max(module.start_dim - 1, 0), "end_dim": module.end_dim - (module.end_dim > 0)}
        return nir.Flatten(input_type={"input": np.array(shape)}, **dims)
    raise ValueError(f"{name}: NIR has no connection like {module}; Linear, Conv2d, AvgPool2d and Flatten are exported")


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _neuron_node(nir: Any, neuron: neurons.Neuron, shape: tuple[int, ...], dt: float, form: Framework) -> Any:
    """Return the node of a layer's neurons. Args: shape: of the layer's output."""
    decay = np.broadcast_to(_array(neuron.decay).astype(np.float64), shape)
    if form.exponential:
        tau = -dt / np.log(decay)
    else:
        tau = _exact(dt / (1 - decay), lambda tau: 1 - dt / tau, decay, np.nextafter)
    r = np.ones(shape) if form.unit_resistance else tau / dt
    common = {"tau": tau, "r": r, "v_leak": np.zeros(shape)}
    if not isinstance(neuron, neurons.LIF):
        return nir.LI(**common, metadata={"softmax": str(isinstance(neuron, neurons.LIS)).lower()})
    threshold = np.array(np.broadcast_to(_array(neuron.threshold).astype(np.float64), shape))
    metadata = {"reset": neuron.reset}
    return nir.LIF(**common, v_threshold=threshold, v_reset=np.zeros(shape), metadata=metadata)


def _array(tensor: Any) -> np.ndarray:
    return np.array(tensor.detach().cpu().numpy())


def _exact(first: Any, read: Callable[[Any], Any], wanted: Any, next_after: Callable[[Any, float], Any]) -> Any:
    """Return the floats near the first guess whose reading is closest to the wanted values.

    A map and its inverse both round, so that the reading of the first guess may be wrong in its last bits.

    Args: read: the map from stored to actual values. next_after: the next float in the direction of a limit.
    """
    best, least = first, abs(read(first) - wanted)
    for limit in (-np.inf, np.inf):
        value = first
        for _ in range(_ULPS):
            value = next_after(value, limit)
            error = abs(read(value) - wanted)
            where = torch.where if isinstance(first, Tensor) else np.where
            best, least = where(error < least, value, best), where(error < least, error, least)
    return best


# ── from NIR ────────────────────────────────────────────────────────────────────────────────────────────────────────


def from_nir(graph: Any, *, dt: float | None = None, reset: Literal["subtract", "zero"] | None = None) -> Sequential:
    """Make a network from a graph of NIR.

    Args:
        graph: a `nir.NIRGraph`, or the path of a file for `read_nir`. It is a chain, in which one or more of Linear,
            Affine, Conv2d, AvgPool2d and Flatten are followed by LIF or LI, and so on.
        dt: length of a step in seconds; None: the one in the graph's metadata, else 0.0001.
        reset: None: a LIF resets to zero, as NIR says, or by subtraction if its metadata say so. "subtract" or "zero":
            every LIF resets this way; spikes may then differ from those of the graph.
    Returns: the network, in the dtype of the weights. A gain R·dt/τ other than 1 multiplies the weights.
    Raises: ValueError for what the layers cannot express; TypeError for anything but a graph or a path; ImportError
        without the package nir; as `read_nir`.
    """
    nir = library("nir", "nir")
    if isinstance(graph, str | Path):
        graph = read_nir(graph)
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(f"from_nir takes a nir.NIRGraph or the path of a file, got {type(graph).__name__}")
    found = graph.metadata if isinstance(graph.metadata, dict) else {}
    if TARGETS.get(str(found.get("target")), _ANY).exponential:
        raise ValueError(f"the graph was made for {found['target']}: export the network again, without a target")
    if reset not in (None, "subtract", "zero"):
        raise ValueError(f"reset must be 'subtract', 'zero' or None, got {printable(reset, 40)}")
    dt = _number(found.get("dt", DT)) if dt is None else dt
    if not 0 < dt < float("inf"):
        raise ValueError(f"dt must be a length above 0, in seconds, got {dt:g}")
    layers: list[Layer] = []
    modules: list[nn.Module] = []  # of the connection of the next neurons
    for name, node in _chain(nir, graph):
        if isinstance(node, nir.LIF | nir.LI):
            if not modules:
                raise ValueError(f"{name}: the neurons have no connection in front of them; add a nir.Linear")
            layers.append(_layer(nir, name, node, modules, dt=dt, reset=reset))
            modules = []
        else:
            modules.append(_module(nir, name, node))
    if modules:
        advice = "export it with readout='neurons'" if found.get("readout") == "current" else "add a nir.LI"
        raise ValueError(f"the graph ends with a connection, and a layer needs neurons; {advice}")
    return Sequential(*layers)


def _number(value: Any) -> float:
    """Return the dt in a graph's metadata. Raises: ValueError if it is not a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"the dt of the graph is not a number: {printable(value, 40)}") from None


def _chain(nir: Any, graph: Any) -> list[tuple[str, Any]]:
    """Return the nodes between input and output, by name. Raises: ValueError unless the graph is a chain."""
    after, before = dict[str, str](), dict[str, str]()
    for start, end in graph.edges:
        if start in after or end in before:
            place = printable(start if start in after else end)
            raise ValueError(f"{place}: the graph branches or loops; a network of traceTorch is a chain of layers")
        after[start], before[end] = end, start
    starts = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(starts) != 1:
        raise ValueError(f"the graph has {len(starts)} inputs, and a network of traceTorch has one")
    chain, name = list[tuple[str, Any]](), starts[0]
    while (name := after.get(name, "")) and not isinstance(graph.nodes.get(name), nir.Output):
        if name not in graph.nodes or len(chain) > len(graph.nodes):
            raise ValueError(f"{printable(name)}: the edges of the graph lead to no output")
        chain.append((printable(name), graph.nodes[name]))
    if not name or len(chain) != len(graph.nodes) - 2:
        raise ValueError("the nodes of the graph are not one chain from its input to its output")
    return chain


def _module(nir: Any, name: str, node: Any) -> nn.Module:
    """Return the module of a node. Raises: ValueError for a node without a counterpart, or with wrong values."""
    if isinstance(node, nir.Linear | nir.Affine):
        weight, bias = _tensor(name, "weight", node.weight, 2), getattr(node, "bias", None)
        module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        return _with_weights(name, module, weight, bias)
    if isinstance(node, nir.Conv2d):
        weight = _tensor(name, "weight", node.weight, 4)
        padding = node.padding if isinstance(node.padding, str) else _ints(name, node.padding)
        groups = _ints(name, node.groups)[0]
        bias = node.bias if np.any(node.bias) else None
        conv = nn.Conv2d(
            weight.shape[1] * groups,
            weight.shape[0],
            (weight.shape[2], weight.shape[3]),
            _ints(name, node.stride),
            padding,
            _ints(name, node.dilation),
            groups,
            bias=bias is not None,
            device="meta",
        )
        return _with_weights(name, conv, weight, bias)
    if isinstance(node, nir.AvgPool2d):
        return nn.AvgPool2d(_ints(name, node.kernel_size), _ints(name, node.stride), _ints(name, node.padding))
    if isinstance(node, nir.Flatten):
        start, end = int(node.start_dim), int(node.end_dim)
        return nn.Flatten(start + (start >= 0), end + (end >= 0))
    known = "Linear, Affine, Conv2d, AvgPool2d, Flatten, LIF and LI"
    raise ValueError(f"{name}: a nir.{type(node).__name__} has no counterpart in traceTorch, which reads {known}")


def _with_weights(name: str, module: nn.Module, weight: Tensor, bias: Any) -> nn.Module:
    """Return the module with these weights in place of its own. Args: name: of the node."""
    module.weight = nn.Parameter(weight)
    if bias is not None:
        values = _tensor(name, "bias", bias, 1).to(weight.dtype)
        if len(values) != len(weight):
            raise ValueError(f"{name}: {len(values)} biases for {len(weight)} outputs")
        module.bias = nn.Parameter(values)
    return module


def _ints(name: str, value: Any) -> tuple[int, int]:
    """Return one or two whole numbers as two. Args: name: of the node. Raises: ValueError for anything else."""
    values = np.ravel(np.asarray(value))
    if values.dtype.kind not in "iu" or values.size not in (1, 2) or values.min(initial=0) < 0:
        raise ValueError(f"{name}: strides, paddings and sizes are one or two whole numbers, got {printable(value)}")
    return int(values[0]), int(values[-1])


def _tensor(name: str, what: str, value: Any, ndim: int | None) -> Tensor:
    """Return an array of a node as a tensor, float64 if it is, else float32.

    Args: name: of the node. what: name of the array. ndim: None: any number of dimensions.
    Raises: ValueError for anything but finite numbers in this number of dimensions.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or (ndim is not None and array.ndim != ndim) or not array.size:
        shape = f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{name}: {what} must hold numbers{f' in {ndim} dimensions' if ndim else ''}, got {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: {what} holds values that are not finite")
    dtype = np.float64 if array.dtype == np.float64 else np.float32
    return torch.from_numpy(np.array(array, dtype))


def _layer(nir: Any, name: str, node: Any, modules: list[nn.Module], *, dt: float, reset: str | None) -> Layer:
    """Return the layer of a neuron node and the modules in front of it. Args: name: of the node.

    Raises: ValueError that names the node for constants that no layer has.
    """
    is_lif, metadata = isinstance(node, nir.LIF), node.metadata if isinstance(node.metadata, dict) else {}
    constants = ("tau", "r", "v_leak", *(("v_threshold", "v_reset") if is_lif else ()))
    values = {key: _tensor(name, key, getattr(node, key), None).double() for key in constants}
    weighted = next((module for module in reversed(modules) if isinstance(module, nn.Linear | nn.Conv2d)), None)
    for key, value in values.items():
        outputs = len(weighted.weight) if weighted is not None else value.shape[0] if value.ndim else 1
        if value.numel() > 1 and value.shape[0] != outputs:
            raise ValueError(f"{name}: {key} has the shape {tuple(value.shape)}, and the connection {outputs} outputs")
    for key in ("v_leak", "v_reset"):
        if key in values and bool(values[key].any()):
            raise ValueError(f"{name}: {key} is not 0, which traceTorch cannot express")
    decay, gain = 1 - dt / values["tau"], values["r"] * dt / values["tau"]
    if not bool(((decay > 0) & (decay < 1)).all()):
        worst = float(values["tau"].min())
        raise ValueError(f"{name}: tau must be above the step of dt={dt:g} s, got {worst:g} s; give another dt")
    _scale(name, modules, gain)
    connection = modules[0] if len(modules) == 1 else nn.Sequential(*modules)
    if len(modules) == 2 and isinstance(modules[0], nn.Flatten) and isinstance(modules[1], nn.Linear):
        connection = modules[1]  # the layer itself flattens its input
    features = connection.out_features if isinstance(connection, nn.Linear) else None
    weights = [parameter for module in modules for parameter in module.parameters()]
    dtype = weights[-1].dtype if weights else torch.get_default_dtype()
    is_linear = features is not None
    decays = _groups(decay) if is_linear else _compact(decay)
    options: dict[str, Any] = {"decay": decays.float()}
    if is_linear and decays.numel() > MAX_GROUPS:
        options["trace_decay"] = float(decays.median())
    kind = LIF if is_lif else LIS if metadata.get("softmax") == "true" else LI
    thresholds = _compact(values["v_threshold"]) if is_lif else None
    if thresholds is not None:
        if not bool((thresholds > 0).all()):
            raise ValueError(f"{name}: v_threshold must be above 0, got {float(thresholds.min()):g}")
        options["threshold"] = thresholds.float()
        options["reset"] = reset or ("subtract" if metadata.get("reset") == "subtract" else "zero")
    try:
        layer = kind(connection, **options)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    layer.to(dtype)
    _store(layer.neuron.raw_decay, decays, constrain.raw_from_decay, constrain.decay_from_raw)
    if thresholds is not None:
        raw = layer.neuron.get_parameter("raw_threshold")
        _store(raw, thresholds, constrain.raw_from_positive, constrain.positive_from_raw)
    return layer


def _scale(name: str, modules: list[nn.Module], gain: Tensor) -> None:
    """Multiply the last weights in front of neurons by their gains R·dt/τ. Args: name: of the neuron node."""
    if bool(((gain - 1).abs() < _SAME_GAIN).all()):
        return
    weighted = [[*module.parameters()] for module in modules if isinstance(module, nn.Linear | nn.Conv2d)]
    gain = _compact(gain)
    if not weighted or (gain.numel() > 1 and gain.numel() != len(weighted[-1][0])):
        raise ValueError(f"{name}: r·dt/tau differs between neurons with the same weights; export r = tau/dt")
    for parameter in weighted[-1]:
        parameter.data *= gain.reshape(-1, *[1] * (parameter.ndim - 1)).to(parameter.dtype)


def _compact(values: Tensor) -> Tensor:
    """Return the values with size 1 in the dimensions over which they are constant, or one number if all are equal."""
    if bool((values == values.reshape(-1)[0]).all()):
        return values.reshape(-1)[0]
    for dim in range(values.ndim):
        first = values.narrow(dim, 0, 1)
        values = first if bool((values == first).all()) else values
    return values


def _groups(values: Tensor) -> Tensor:
    """Return one decay for each of a few equal groups of neurons, or for each neuron if it has no such groups."""
    values = _compact(values)
    for count in range(1, min(MAX_GROUPS, values.numel()) + 1):
        if values.ndim == 1 and not len(values) % count:
            groups = values.reshape(count, -1)
            if bool((groups == groups[:, :1]).all()):
                return groups[:, 0]
    return values


@torch.no_grad()
def _store(
    parameter: nn.Parameter, values: Tensor, to_raw: Callable[[Any], Tensor], read: Callable[[Tensor], Tensor]
) -> None:
    """Set a raw parameter so that `read` gives exactly these values, where that is possible. Args: to_raw: inverse."""
    wanted = values.to(parameter.dtype)
    next_after = lambda raw, limit: torch.nextafter(raw, torch.full_like(raw, limit))  # noqa: E731
    parameter.copy_(_exact(to_raw(wanted), read, wanted, next_after))


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_nir(path: str | Path, graph: Any) -> None:
    """Write a graph of NIR to a file (HDF5), atomically. Raises: files.WriteError; ImportError without nir."""
    nir, buffer = library("nir", "nir"), io.BytesIO()
    nir.write(buffer, graph)
    files.write_whole(Path(path), buffer.getvalue())


def read_nir(path: str | Path) -> Any:
    """Read a graph of NIR from a file of any origin.

    Raises: OSError; ValueError that names the file if it holds links, data in other files, more than 2 GiB once it is
        unpacked, more than 10,000 entries, or no graph; ImportError without the package nir.
    """
    nir, h5py, path = library("nir", "nir"), library("h5py", "nir"), Path(path)
    with files.open_regular(path) as file:
        try:
            with h5py.File(file, "r") as content:
                _check_file(h5py, content)
        except (OSError, RuntimeError, KeyError) as error:
            raise ValueError(f"{path} is not a file of NIR: it is not HDF5, or is damaged") from error
        except ValueError as error:
            raise ValueError(f"{path} is refused: {error}") from error
        file.seek(0)
        try:
            return nir.read(file)
        except Exception as error:  # an assertion, a missing key, a wrong argument: the message is for programmers
            raise ValueError(
                f"{path} holds no graph of NIR ({type(error).__name__}: {printable(error, 80)})"
            ) from error


def _check_file(h5py: Any, content: Any) -> None:
    """Raises: ValueError for links, external data, types, deep nesting, too many entries or too much data."""
    todo: list[tuple[Any, int]] = [(content, 0)]
    count, size = 0, 0
    while todo:
        group, depth = todo.pop()
        for name in group:
            count += 1
            if count > _MOST_ENTRIES:
                raise ValueError(f"it has more than {_MOST_ENTRIES:,} entries")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{printable(name)} is a link")
            item = group[name]
            if isinstance(item, h5py.Group):
                if depth == _DEEPEST:
                    raise ValueError(f"it is nested more than {_DEEPEST} deep")
                todo.append((item, depth + 1))
            elif not isinstance(item, h5py.Dataset):
                raise ValueError(f"{printable(name)} is neither a group nor an array")
            elif item.external or item.is_virtual:
                raise ValueError(f"{printable(name)} has its data in another file")
            elif (size := size + item.nbytes) > files.MOST_DATA_BYTES:
                raise ValueError(f"it holds more than {files.MOST_DATA_BYTES >> 30} GiB once it is unpacked")
