"""The kernels of this machine and their inputs: multiples of 1/8, whose sums are exact in any order."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
from torch import Tensor

from tests.common import normal
from tracetorch.backends import (
    FusedReadout,
    LazySpikes,
    OutputSpec,
    SynapticInput,
    TraceBuffers,
    cpu,
    limit_of,
    reference,
)

STEPS, BATCH, IN, OUT = 5, 2, 6, 5
CPU, GPU = torch.device("cpu"), torch.device("cuda")
FLOATS = (torch.float32, torch.float64)
NEURONS = {"lif": 2, "lif_zero": 2, "li": 1, "lis": 1}
"""Neurons with a kernel, and how many constants each has."""


class Kernels(NamedTuple):
    """A module of kernels and its device; or None, and why it is missing."""

    module: Any
    device: torch.device = CPU
    why: str = ""


def _triton() -> Kernels:
    """The kernels for CUDA; without a GPU, in Triton's interpreter on tensors of the CPU."""
    try:
        if torch.cuda.is_available():
            return Kernels(importlib.import_module("tracetorch.backends.cuda"), GPU)
        if "triton" in sys.modules:
            return Kernels(None, why="Triton was loaded before the interpreter was selected")
        # Triton reads it when functions are made, some at the first launch; no other test may see the variable.
        with mock.patch.dict(os.environ, {"TRITON_INTERPRET": "1"}):
            cuda = importlib.import_module("tracetorch.backends.cuda")
            cuda.trace_scan(torch.zeros(1, 1, 1), TraceBuffers(torch.zeros(1, 1), torch.tensor(0.5)))
        return Kernels(cuda)
    except ImportError as error:
        return Kernels(None, why=f"no Triton: {error}")


NUMBA, TRITON = Kernels(cpu), _triton()
_MARKS = [
    *[pytest.mark.gpu] * (TRITON.device == GPU),
    pytest.mark.skipif(TRITON.module is None, reason=TRITON.why or "it is there"),
]
KERNELS = pytest.mark.parametrize(
    "kernels", [pytest.param(NUMBA, id="numba"), pytest.param(TRITON, id="triton", marks=_MARKS)]
)
"""Run a test with every module of kernels."""


def pairwise(every: list[tuple[Any, ...]]) -> list[int]:
    """Indices of combinations that together contain every pair of values."""
    pairs = [set(itertools.combinations(enumerate(one), min(2, len(one)))) for one in every]
    left, chosen = set().union(*pairs), []
    while left:
        chosen.append(max(range(len(every)), key=lambda at: len(pairs[at] & left)))
        left -= pairs[chosen[-1]]
    return sorted(chosen)


def combined(**values: Iterable[Any]) -> list[Any]:
    """Every combination of these values; those that pairs do not need are marked `exhaustive`."""
    every = list(itertools.product(*values.values()))
    some = set(pairwise([tuple(map(str, one)) for one in every]))
    return [
        pytest.param(
            *one, id="-".join(map(str, one)).replace("torch.", ""), marks=[pytest.mark.exhaustive] * (at not in some)
        )
        for at, one in enumerate(every)
    ]


def on_kernels(**values: Iterable[Any]) -> pytest.MarkDecorator:
    """`KERNELS`, each with combinations of these values; the slow interpreter with one in seventeen of all."""
    rows = combined(**values)
    some = rows if TRITON.device == GPU else [row._replace(marks=()) for row in rows[::17]]
    cases = [
        pytest.param(module, *row.values, id=f"{name}-{row.id}", marks=[*marks, *row.marks])
        for module, name, marks, its in ((NUMBA, "numba", [], rows), (TRITON, "triton", _MARKS, some))
        for row in its
    ]
    return pytest.mark.parametrize(("kernels", *values), cases)


def eighths(*shape: int, seed: int = 0) -> Tensor:
    """Multiples of 1/8 from −1 to 1, float64."""
    return (normal(*shape, seed=seed) * 4).round().clamp(-8, 8) / 8


def binary(*shape: int, rate: float = 0.3) -> Tensor:
    """0 and 1, float64, at a rate that lies beyond where the dense product begins."""
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(3)) < rate).double()


def drawn(
    steps: int = STEPS, batch: int = BATCH, channels: int = IN, varying: bool = False, rate: float = 0.1
) -> LazySpikes:
    """Spikes to be drawn: channel 0 never fires, channel 1 always, channel 2 mostly."""
    probability = torch.full((*[steps] * varying, batch, channels), rate, dtype=torch.float64)
    probability *= 1 + normal(*probability.shape, seed=8).tanh()
    probability[..., 0], probability[..., 1:2], probability[..., 2:3] = 0, 1, 0.7
    names = torch.arange(batch) * 10**12 - 5
    return LazySpikes(limit_of(probability), 7, range(1_000, 1_000 + steps), names, torch.float32, rate)


INPUTS = {
    "draws": drawn,
    "varying-draws": lambda *size: drawn(*size, varying=True),
    "dense-draws": lambda *size: drawn(*size, rate=0.6),
    "few-spikes": lambda *size: binary(*size, rate=0.08).bool(),
    "many-spikes": lambda *size: binary(*size, rate=0.7).bool(),
    "float-spikes": lambda *size: binary(*size, rate=0.08),
    "real": lambda *size: eighths(*size, seed=9),
}
"""(time, batch, channels) → input, for each code path."""


def traced(*shape: int, decay: Tensor, sensitivity_decay: Tensor | None = None) -> TraceBuffers:
    sensitivity = None if sensitivity_decay is None else eighths(len(sensitivity_decay), *shape[-2:], seed=4)
    return TraceBuffers(eighths(*shape, seed=5), decay, sensitivity, sensitivity_decay)


_ONE = torch.tensor(0.9).double()


def _decays(*shape: int, seed: int) -> Tensor:
    return normal(*shape, seed=seed).sigmoid()


TRACES = {
    "no-trace": lambda *size: None,
    "one": lambda *size: traced(*size, decay=_ONE),
    "per-input": lambda *size: traced(*size, decay=_decays(size[-1], seed=6)),
    "groups": lambda *size: traced(3, *size, decay=_decays(3, 1, 1, seed=6)),
    "sensitivity": lambda *size: traced(*size, decay=_ONE, sensitivity_decay=_decays(2, 1, 1, seed=8)),
    "sensitivities-of-groups": lambda *size: traced(
        2, *size, decay=_decays(2, 1, 1, seed=6), sensitivity_decay=_decays(3, 1, size[-1], seed=8)
    ),
}
"""(batch, features) → a trace and its decay, and traces of it."""


class Setup(NamedTuple):
    """How a layer may be used; `out`: what is asked for."""

    trace: str
    bias: bool
    out: tuple[str, ...]
    above: str = "no-trace"


SETUPS = {
    "outputs": Setup("no-trace", False, ("outputs",)),
    "total": Setup("one", True, ("total",)),
    "trace-above": Setup("per-input", False, (), "one"),
    "layer-above": Setup("groups", True, ("outputs",), "per-input"),
    "groups-above": Setup("no-trace", True, (), "groups"),
    "all": Setup("groups", False, ("outputs", "total"), "groups"),
    "sensitivities": Setup("sensitivity", False, (), "sensitivities-of-groups"),
    "sensitivities-above": Setup("sensitivities-of-groups", True, ("outputs",), "sensitivity"),
    "nothing": Setup("one", True, ()),
}


def to(thing: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """The same on a device, in a dtype if it is a real number; a copy."""
    if isinstance(thing, Tensor):
        return thing.to(device, dtype if thing.is_floating_point() else thing.dtype, copy=True)
    if isinstance(thing, TraceBuffers):
        return TraceBuffers(*(to(value, dtype, device) for value in thing))
    if isinstance(thing, LazySpikes):
        return thing._replace(limit=thing.limit.to(device), samples=thing.samples.to(device), dtype=dtype)
    return thing


class Case(NamedTuple):
    """A layer over a chunk: all that it reads and writes."""

    neuron: str
    synaptic: SynapticInput
    membrane: Tensor
    constants: tuple[Tensor, ...]
    out: OutputSpec

    def results(self) -> dict[str, Tensor]:
        found = {"membrane": self.membrane, "outputs": self.out.outputs, "total": self.out.total}
        for name, trace in (("trace", self.synaptic.trace), ("above", self.out.trace)):
            if trace is not None:
                found |= {name: trace.values, f"{name}, of it": trace.sensitivity}
        return {name: value.cpu() for name, value in found.items() if value is not None}


def case(
    neuron: str,
    xs: Tensor | LazySpikes,
    setup: Setup,
    dtype: torch.dtype,
    *,
    device: torch.device = CPU,
    precision: torch.dtype | None = None,
    neurons: int = OUT,
    fired: int | None = None,
    weight: Tensor | None = None,
) -> Case:
    """A new case with the same numbers each time; per-neuron constants if the trace is per input."""
    size = xs.size if isinstance(xs, LazySpikes) else tuple(xs.shape)
    steps, batch, channels = size
    own = 0 if setup.trace in ("no-trace", "one", "sensitivity") else slice(None)
    total = torch.ones(batch, neurons, dtype=torch.float64, device=device) if "total" in setup.out else None
    spike = torch.bool if neuron in reference.SPIKING and setup.above != "no-trace" else dtype
    outputs = torch.empty(steps, batch, neurons, dtype=spike, device=device) if "outputs" in setup.out else None

    def moved(value: Any) -> Any:
        return to(value, dtype, device)

    synapse = eighths(neurons, channels, seed=1) if weight is None else weight
    synaptic = SynapticInput(
        moved(xs),
        moved(synapse).t().contiguous().t(),
        moved(eighths(neurons, seed=2)) if setup.bias else None,
        precision or dtype,
        moved(TRACES[setup.trace](batch, channels)),
        fired=fired,
    )
    constants = (normal(neurons, seed=3).sigmoid()[own], normal(neurons, seed=4).abs()[own] / 2 + 0.2)
    first = min(2, steps - 1)
    out = OutputSpec(outputs, total, first, moved(TRACES[setup.above](batch, neurons)))
    return Case(
        neuron, synaptic, moved(eighths(batch, neurons, seed=7)), tuple(map(moved, constants[: NEURONS[neuron]])), out
    )


def scanned(module: Any, one: Case) -> dict[str, Tensor]:
    module.scan_neurons(one.neuron, one.synaptic, one.membrane, one.constants, one.out)
    return one.results()


def compile_kernels(dtype: torch.dtype) -> None:
    """Run the kernels of the CPU for one dtype, which compiles most of what the tests need."""
    kinds = ("draws", "dense-draws", "few-spikes", "float-spikes")
    for kind, setup in itertools.product(kinds, ("outputs", "all")):
        lower = case("lif", INPUTS[kind](STEPS, BATCH, IN), SETUPS[setup], dtype)
        scanned(cpu, lower)
        if setup == "outputs" and kind in kinds[:2]:  # a readout whose outputs are spikes
            above = case("lif", torch.zeros(STEPS, BATCH, OUT), SETUPS["all"], dtype)
            lower.out.outputs = None
            lower.out.readout = FusedReadout("lif", *above.synaptic[1:3], above.membrane, above.constants, above.out)
            scanned(cpu, lower)


def expected(*args: Any, **options: Any) -> dict[str, Tensor]:
    return scanned(reference, case(*args, **options))


def assert_equal(actual: dict[str, Tensor], wanted: dict[str, Tensor], close: tuple[str, ...] = ()) -> None:
    """The same bits; for the names in `close`, the same to within the last few."""
    assert actual.keys() == wanted.keys()
    for name, value in wanted.items():
        if name in close:
            torch.testing.assert_close(actual[name], value, msg=lambda text, name=name: f"{name}: {text}")
        else:
            assert torch.equal(actual[name], value), name
