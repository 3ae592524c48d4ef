"""Which code runs a layer. These tables list every choice between backends, and all that a choice depends on.

One step, (batch, inputs), `one_step`:

    neuron         connection         device  code
    with a kernel  weight             CPU     "compiled": `cpu.step`, one call; a "chunk" beyond `MOST_PRODUCTS`,
                                              or where the precision differs from the weights' dtype
    with a kernel  weight, computed   CUDA    "graph": `nn.graph` replays a chunk of one step
    anything else                             "chunk": a chunk of one step

Currents of a chunk, (time, batch, inputs):

    connection        input           device  code
    module            any             any     the module is called; the scan starts from its currents
    weight, computed  few spikes      CPU     `is_sparse`: `cpu.scan` draws or lists spikes and adds rows of weights
    weight, computed  anything else   CPU     a matrix product; `cpu.scan` first draws spikes
    weight, computed  any             CUDA    a matrix product; `cuda` first draws spikes
    weight, computed  any             other   `reference`

A chunk of at most 4096 steps × samples, with layers of fewer than `WIDE` neurons that all are "compiled", runs in
`cpu.step.pass_through`, which makes the same choices with fewer lookups.

Neurons of a chunk:

    neuron         device  code
    with a kernel  CPU     `cpu.scan`, which goes through a narrow readout as well: `fuses_readout`
    with a kernel  CUDA    `cuda`; `reference` for a softmax of more than 4096 neurons
    with a kernel  other   `reference`
    without        any     `Neuron.step` in torch, one step after another

The slopes of spikes, `times_slopes`, come from compiled code on a CPU, for surrogates that have a compiled form; under
the same conditions a scan also adds them up, for the neurons in `sums_slopes`. Elsewhere torch computes them.

Where numba or Triton is missing or does not work, and for dtypes other than float32 and float64, a device counts as
"other", except for "graph".

A connection's `Form` is "weight": `torch.nn.Linear`; "computed": the same, with a weight that is computed from others,
as by `torch.nn.utils.parametrize`; "module": any other module, and one with hooks, such as a pruned one.
"""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from tracetorch.backends import reference
from tracetorch.backends.arguments import OutputSpec, SynapticInput, TraceBuffers
from tracetorch.backends.rng import LazySpikes, limit_of

MOST_PRODUCTS = 1 << 21
"""Products `batch × inputs × neurons` of one step beyond which torch's threads are faster."""

DENSE_FROM = {torch.float32: 0.27, torch.float64: 0.27, torch.bfloat16: 0.12}
"""Share of active inputs beyond which a dense product is faster than adding up rows of weights, by the dtype of the
product; measured by benchmarks/sparsity.py."""

WIDE = 192
"""With fewer neurons than this, the dense product is faster from a smaller share on, because it takes less time, and
listing the active inputs does not. This does not hold for spikes yet to be drawn: drawing lists them anyway."""

FEW = 32
"""Largest readout that is fused with a layer of `WIDE` or more neurons. In two scans, the spikes would move from the
cache of one core to that of another, which takes longer than the readout."""

Form = Literal["weight", "computed", "module"]


class Traits(NamedTuple):
    """The properties of a layer on which a choice depends."""

    neuron: str | None  # name of its kernel
    form: Form  # of its connection
    weight: Tensor  # (neurons, inputs); for a "module", any tensor of the layer's dtype and device
    precision: torch.dtype  # of the matrix product


# ── choices ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def one_step(layer: Traits) -> Literal["compiled", "graph", "chunk"]:
    """The code that runs one step; see the first table."""
    if layer.neuron is None or layer.form == "module":
        return "chunk"
    if layer.weight.is_cuda:
        return "graph"
    is_compiled = layer.form == "weight" and layer.precision == layer.weight.dtype and is_on_cpu(layer)
    return "compiled" if is_compiled else "chunk"


def is_sparse(share: float, neurons: int, precision: torch.dtype, *, drawn: bool) -> bool:
    """Whether a CPU adds up the weights of active inputs.

    Args: share: of inputs that are active. drawn: whether the spikes are drawn in the same pass.
    """
    return share <= DENSE_FROM[precision] * (1.0 if drawn else min(1.0, neurons / WIDE))


def fuses_readout(hidden: Traits, readout: Traits) -> bool:
    """Whether one scan runs both layers, with `OutputSpec.readout`."""
    return (
        None not in (hidden.neuron, readout.neuron)
        and "module" not in (hidden.form, readout.form)
        and readout.precision == hidden.weight.dtype == readout.weight.dtype
        and len(readout.weight) <= FEW
        and len(hidden.weight) >= WIDE
        and is_on_cpu(hidden)
    )


def sums_slopes(layer: Traits, surrogate: Any) -> bool:
    """Whether a scan of the layer adds up slopes and input of stretches: `OutputSpec.slopes`, `TraceBuffers.sums`.

    Args: surrogate: None: whether it writes membranes in place of slopes.
    """
    is_known = surrogate is None or surrogate.compiled is not None
    return layer.neuron in ("lif", "li", "lis") and is_on_cpu(layer) and is_known


def spike_dtype(layer: Traits) -> torch.dtype:
    """The dtype in which a layer takes spikes: bool where a kernel lists them, else that of the product."""
    if layer.form == "module":
        return layer.weight.dtype
    return torch.bool if is_on_cpu(layer) else layer.precision


def is_on_cpu(layer: Traits) -> bool:
    """Whether the compiled code of the CPU runs this layer."""
    return layer.weight.device.type == "cpu" and _backend(layer.weight) is not reference


def names() -> dict[str, str]:
    """The kernels of each kind of device, in words."""
    found = {"cpu": "numba" if _numba() else "torch (install numba for speed)"}
    if torch.cuda.is_available():
        found["cuda"] = "triton" if _triton() else "torch (install triton for speed)"
    return found | {"other devices": "torch"}


# ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def scan(
    neuron: str, synaptic: SynapticInput, membrane: Tensor, constants: tuple[Tensor, ...], out: OutputSpec
) -> None:
    """Run a layer over a chunk of time; its membrane and traces are updated in place.

    Args:
        neuron: a name in `reference.NEURONS`.
        synaptic: the input and its weights.
        membrane: (batch, neurons); updated.
        constants: decay, and of spiking neurons the threshold: each a number or (neurons,).
        out: takes the outputs.
    """
    _backend(membrane).scan_neurons(neuron, synaptic, membrane, constants, out)


def compiled_step(
    layer: Traits,
    bias: Tensor | None,
    raw: Sequence[Tensor],
    constants: Callable[[Any], tuple[tuple[Tensor, ...], TraceBuffers]],
    parts: tuple[Any, ...],
) -> Any:
    """A compiled step, for `one_step` "compiled"; see `cpu.step.CompiledStep`."""
    most = max(1, MOST_PRODUCTS // layer.weight.numel())
    return _backend(layer.weight).CompiledStep(layer.neuron, layer.weight, bias, raw, constants, parts, most)


def pass_through(layers: Sequence[Any], xs: Tensor, out: OutputSpec) -> bool:
    """See `cpu.step.pass_through`."""
    backend = _numba()
    return backend is not None and bool(backend.pass_through(layers, xs, out))


def currents(synaptic: SynapticInput) -> Tensor:
    """Currents for a neuron without a kernel, (time, batch, neurons); see `reference.currents`."""
    values: Any = synaptic.xs if synaptic.weight is None else _backend(synaptic.weight).currents(synaptic)
    return values


def trace_scan(xs: Tensor, trace: TraceBuffers) -> None:
    """Add a chunk of input, (time, batch, inputs), to its trace."""
    _backend(trace.values).trace_scan(xs, trace)


def leak_scan(xs: Tensor, values: Tensor, decay: Tensor, out: Tensor) -> None:
    """Write `y ← d·y + x` after each step into `out`; `values`, (batch, features), are y, and updated.

    Args: xs, out: (time, batch, features). decay: a number or (features,).
    """
    scan("li", SynapticInput(xs, None, None, xs.dtype), values, (decay,), OutputSpec(outputs=out))


def times_slopes(
    values: Tensor,
    raised: Tensor,
    threshold: Tensor,
    surrogate: Any,
    leak: Tensor | None = None,
    after: Tensor | None = None,
) -> Tensor:
    """Multiply values by the slope of each spike with respect to its current, and leak them back in time, in place.

        y(t) = ψ(t)·v(t) + d·y(t + 1),    ψ = surrogate'((u − θ)/θ)/θ

    Args:
        values: v, (time, batch, neurons), contiguous; overwritten with y.
        raised: u, the membranes of LIF neurons before their reset, (time, batch, neurons).
        threshold: θ, a number or (neurons,).
        surrogate: a `Surrogate`.
        leak: d, a number or (neurons,); None: 0.
        after: y after the last step, (batch, neurons); None: 0.
    Returns: `values`.
    """
    backend = _backend(raised)
    if backend is _numba() and surrogate.compiled is not None:
        after = torch.zeros_like(raised[0]) if after is None else after
        backend.times_slopes(
            values, raised, threshold, surrogate, torch.zeros_like(threshold) if leak is None else leak, after
        )
        return values
    values.mul_(surrogate.derivative((raised - threshold) / threshold) / threshold)
    return values if leak is None else leak_back(values, after, leak)


def leak_back(values: Tensor, after: Tensor | None, leak: Tensor | float) -> Tensor:
    """As `times_slopes`, without slopes: `y(t) = v(t) + d·y(t + 1)`."""
    leak = torch.as_tensor(leak, dtype=values.dtype, device=values.device)
    for value in reversed(values.unbind(0)):
        if after is not None:
            value.addcmul_(after, leak)
        after = value
    return values


def spikes(lazy: LazySpikes) -> Tensor:
    """Draw spikes: 0 and 1, (time, batch, channels)."""
    return (_of(lazy.samples.device) or reference).spikes(lazy)


def bernoulli(probability: Tensor, seed: int, steps: range, samples: Tensor) -> Tensor:
    """True with the given probability: `uniform(...) < probability`, without making the uniform numbers.

    Args: probability: in [0, 1], (batch, channels) or (time, batch, channels); resolved to 2⁻²⁴. Others: as `uniform`.
    Returns: (time, batch, channels), bool. Probability 0 is never and 1 is always True.
    """
    return spikes(LazySpikes(limit_of(probability), seed, steps, samples, torch.bool))


# ── backends ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _backend(tensor: Tensor) -> ModuleType:
    if tensor.dtype not in (torch.float32, torch.float64):
        return reference
    return _of(tensor.device) or reference


def _of(device: torch.device) -> ModuleType | None:
    return _numba() if device.type == "cpu" else _triton() if device.type == "cuda" else None


@cache
def _numba() -> ModuleType | None:
    try:
        from numba.core import config  # noqa: PLC0415

        if getattr(config, "DISABLE_JIT", False):  # without compilation, kernels take minutes, and integers overflow
            raise RuntimeError("NUMBA_DISABLE_JIT is set")
        from tracetorch.backends import cpu  # noqa: PLC0415 (numba takes half a second to load)
    except (ImportError, RuntimeError) as error:
        _warn_missing("numba", error)
        return None
    return cpu


@cache
def _triton() -> ModuleType | None:
    try:
        from tracetorch.backends import cuda  # noqa: PLC0415 (Triton exists only where CUDA does)

        cuda.probe()
    except Exception as error:  # from a compiler, a driver or a GPU that is too old
        _warn_missing("triton", error)
        return None
    return cuda


def _warn_missing(name: str, error: Exception) -> None:
    why, lines = "is missing" if isinstance(error, ImportError) else "does not work here", str(error).splitlines()
    message = "%s %s (%s): the slower torch kernels run instead"
    logging.getLogger("tracetorch").warning(message, name, why, lines[0] if lines else type(error).__name__)
