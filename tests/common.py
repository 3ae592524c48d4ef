"""THE TABLE: one row enrols a newcomer in every generic test. `test_architecture.py` fails where one is missing.

a layer    LAYERS      test_layers
a loss     LOSSES      loss/test_loss
an encoder ENCODERS    test_encode
a rule     RULES       rules/test_rules
a task     TASKS       test_tasks
a task with rewards has its row in ENVIRONMENTS of common_environments.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

import tracetorch as tt
from tests.own_neuron import CurrentLIF
from tracetorch.nn import LI, LIF, LIS, Layer, Sequential
from tracetorch.nn.connections import is_dense

IN, OUT, BATCH, STEPS = 6, 4, 3, 24
"""The sizes of everything in the table: `make()` gives a network of IN inputs and OUT neurons."""

Net = Layer | Sequential


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    name: str  # of the test case
    of: str  # the public name that it enrols, such as "LIF"
    make: Callable[..., Any]
    learned: tuple[str, ...] = ()  # layers: the parameters that `backward` gives a gradient, and no others
    says: str = ""  # anything else that the tests of its kind need

    def __str__(self) -> str:
        return self.name


def each(rows: list[Row]) -> pytest.MarkDecorator:
    """Run a test for every row, as its argument `row`."""
    return pytest.mark.parametrize("row", rows, ids=str)


# ── layers and networks: `make()` → Net; `says`: the values of its output ───────────────────────────────────────────

_WEIGHT, _DECAY = "connection.weight", "neuron.raw_decay"
_LIF, _LI = (_WEIGHT, _DECAY, "neuron.raw_threshold"), (_WEIGHT, _DECAY)
_TWO, _FOUR, _SIX = torch.tensor([0.6, 0.95]), torch.tensor([0.5, 0.7, 0.9, 0.95]), torch.linspace(0.5, 0.95, IN)
_FREE = {"trace_decay": _SIX, "trainable": ("weight", "decay", "threshold", "trace_decay")}
_OWN = {"decay": _FOUR, "threshold": torch.tensor([0.5, 0.8, 1.0, 1.5]), "trace_decay": 0.8}


def _in_layers(*names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"layers.{at}.{name}" for at, its in enumerate(names) for name in its)


LAYERS = [
    Row("LIF", "LIF", lambda: LIF(IN, OUT), _LIF, "spikes"),
    Row("LIF-logistic", "LIF", lambda: LIF(IN, OUT, rate_map="logistic"), _LIF, "spikes"),
    Row("LIF-bias", "LIF", lambda: LIF(IN, OUT, bias=True), (*_LIF, "connection.bias"), "spikes"),
    Row("LIF-zero", "LIF", lambda: LIF(IN, OUT, decay=_TWO, reset="zero"), _LIF, "spikes"),
    Row("LIF-groups-bias", "LIF", lambda: LIF(IN, OUT, decay=_TWO, bias=True), (*_LIF, "connection.bias"), "spikes"),
    Row("LIF-free-trace", "LIF", lambda: LIF(IN, OUT, trace_decay=0.8), _LIF, "spikes"),
    Row("LIF-free-trace-per-input", "LIF", lambda: LIF(IN, OUT, **_FREE), (*_LIF, "input_trace.raw_decay"), "spikes"),
    Row("LIF-per-neuron", "LIF", lambda: LIF(IN, OUT, **_OWN), _LIF, "spikes"),
    Row("LIF-weights-only", "LIF", lambda: LIF(IN, OUT, bias=True, trainable="weight"), (_WEIGHT,), "spikes"),
    Row("LIF-stationary", "LIF", lambda: LIF(IN, OUT, decay_gradient="stationary"), _LIF, "spikes"),
    Row("LIF-bank", "LIF", lambda: LIF(IN, OUT, trace_bank=[0.7, 0.95]), _LIF, "spikes"),
    Row("LIF-groups-bank", "LIF", lambda: LIF(IN, OUT, decay=_TWO, trace_bank=[0.8]), _LIF, "spikes"),
    Row("LIF-frozen", "LIF", lambda: LIF(IN, OUT, bias=True, trainable=()), (), "spikes"),
    Row("own", "Neuron", lambda: Layer(IN, OUT, neuron=CurrentLIF), (*_LIF, "neuron.raw_synapse_decay"), "spikes"),
    Row("LI", "LI", lambda: LI(IN, OUT), _LI, "levels"),
    Row("LI-groups", "LI", lambda: LI(IN, OUT, decay=_TWO, bias=True), (*_LI, "connection.bias"), "levels"),
    Row("LI-per-neuron", "LI", lambda: LI(IN, OUT, decay=_FOUR, trace_decay=0.8), _LI, "levels"),
    Row("LI-stationary", "LI", lambda: LI(IN, OUT, decay_gradient="stationary"), _LI, "levels"),
    Row("LIS", "LIS", lambda: LIS(IN, OUT), _LI, "probabilities"),
    Row("LIS-groups", "LIS", lambda: LIS(IN, OUT, decay=_TWO, bias=True), (*_LI, "connection.bias"), "probabilities"),
    Row("LIS-free-trace", "LIS", lambda: LIS(IN, OUT, trace_decay=_SIX), _LI, "probabilities"),
    Row(
        "network",
        "Sequential",
        lambda: Sequential(LIF(IN, 8), LIF(8, 5, decay=torch.full((5,), 0.9), trace_decay=0.8), LIS(5, OUT)),
        _in_layers(_LIF, _LIF, _LI),
        "probabilities",
    ),
    Row(
        "feedforward",
        "feedforward",
        lambda: tt.nn.feedforward(IN, OUT, hidden=[7], neuron=LIF, readout=LI),
        _in_layers(_LIF, _LI),
        "levels",
    ),
]


def build(row: Row, seed: int = 0, dtype: torch.dtype = torch.float64) -> Net:
    """The row's network, in float64, with weights large and positive enough that its neurons fire."""
    torch.manual_seed(seed)
    net = row.make().to(dtype)
    for layer in layers_of(net):
        layer.weight.data.mul_(2).add_(0.2)
        if layer.bias is not None:
            layer.bias.data.uniform_(-0.1, 0.1)
    return net


def draw_weights(layer: Layer, low: float, high: float) -> None:
    """New uniform weights, those of an input one after another."""
    drawn = layer.weight.new_empty(layer.in_features, layer.out_features).uniform_(low, high)
    layer.weight.data.copy_(drawn.t())


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.grad for name, value in module.named_parameters() if value.grad is not None}


def layers_of(net: Net) -> Iterator[Layer]:
    """A network's layers, or a single layer itself."""
    yield from net if isinstance(net, Sequential) else [net]


COMPILED = [
    row for row in LAYERS if all(layer.neuron.kernel and is_dense(layer.connection) for layer in layers_of(row.make()))
]
"""Those that have kernels, which are an option."""


def spikes(steps: int = STEPS, batch: int = BATCH, seed: int = 0, rate: float = 0.4) -> Tensor:
    """Input of 0 and 1, (steps, batch, IN), float64."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, batch, IN, generator=generator) < rate).double()


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, float64, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ── losses: `make(output, target)`; `says`: what its output is ──────────────────────────────────────────────────────

LOSSES = [
    Row("cross_entropy", "cross_entropy", tt.loss.cross_entropy, says="probabilities"),
    Row("cross_entropy_with_logits", "cross_entropy_with_logits", tt.loss.cross_entropy_with_logits, says="levels"),
    Row("mse", "mse", tt.loss.mse, says="levels"),
]

# ── encoders: `make(values, steps, seed, samples)` → Stream; `says`: whether anything is drawn ──────────────────────

ENCODERS = [
    Row("poisson", "poisson", tt.encode.poisson, says="drawn"),
    Row("latency", "latency", tt.encode.latency, says="fixed"),
    Row("constant", "constant", tt.encode.constant, says="fixed"),
]

# ── rules: `make(net)` ──────────────────────────────────────────────────────────────────────────────────────────────

RULES = [
    Row("Trace", "Trace", tt.rules.Trace),
    Row("BPTT", "BPTT", tt.rules.BPTT),
    Row("CoarseBPTT", "CoarseBPTT", tt.rules.CoarseBPTT),
    Row("CoarseBPTT-log", "CoarseBPTT", lambda net: tt.rules.CoarseBPTT(net, stretches=2, spacing="log")),
    Row("EProp", "EProp", tt.rules.EProp),
    Row("EProp-random", "EProp", lambda net: tt.rules.EProp(net, feedback="random")),
    Row("OTTT", "OTTT", tt.rules.OTTT),
    Row("DECOLLE", "DECOLLE", tt.rules.DECOLLE),
    Row("OTPE", "OTPE", tt.rules.OTPE),
    Row("STLLR", "STLLR", tt.rules.STLLR),
    Row("ESDRTRL", "ESDRTRL", tt.rules.ESDRTRL),
    Row("TruncatedBPTT", "TruncatedBPTT", lambda net: tt.rules.TruncatedBPTT(net, k=5)),
]

# ── tasks: `make(seed=…)` → a small task; `says`: "fixed" if nothing in its trials is drawn ──────────────────────


def _clicks(**changes: Any) -> Callable[..., Any]:
    small = {"duration": "0.05..0.3", "delay": 0.1, "neurons_per_channel": 3, "batch_size": 4}
    trials = {"validation_trials": 7, "test_trials": 12}
    return lambda seed=0: tt.tasks.PoissonClicks(**small | trials | changes, seed=seed)


def _digits(**changes: Any) -> Callable[..., Any]:
    small = {"steps": 6, "batch_size": 8, "validation_digits": 20}
    return lambda seed=0: tt.tasks.MNIST(**small | changes, seed=seed)


def _patterns(**changes: Any) -> Callable[..., Any]:
    small = {"patterns": 5, "inputs": 9, "outputs": 4, "steps": 7, "batch_size": 3, "repeats": 2}
    return lambda seed=0: tt.tasks.Patterns(**small | changes, seed=seed)


def _cues(seed: int = 0) -> Any:
    small = {"cues": 5, "cue": 0.004, "interval": 0.006, "delay": 0.02, "recall": 0.01, "neurons_per_channel": 3}
    return tt.tasks.CueAccumulation(**small, rate=300.0, batch_size=4, validation_trials=7, test_trials=12, seed=seed)


def _store(**changes: Any) -> Callable[..., Any]:
    small = {"intervals": 5, "distractors": "0..3", "interval": 0.006, "rate": 300.0, "neurons_per_channel": 3}
    trials = {"batch_size": 4, "validation_trials": 7, "test_trials": 12}
    return lambda seed=0: tt.tasks.StoreRecall(**small | trials | changes, seed=seed)


def _manifolds(seed: int = 0) -> Any:
    small = {"classes": 3, "channels": 5, "duration": 0.02, "readout": 0.004}
    return tt.tasks.Manifolds(**small, batch_size=4, validation_trials=7, test_trials=12, seed=seed)


def _parts(**changes: Any) -> Callable[..., Any]:
    small = {"steps_per_part": 2, "batch_size": 8, "validation_digits": 20}
    return lambda seed=0: tt.tasks.SequentialMNIST(**small | changes, seed=seed)


def _series() -> Any:
    """24 samples, 3 channels and 6 steps, of two classes in turn."""
    values = torch.linspace(0, 1, 24 * 6 * 3).view(24, 6, 3)
    return values, torch.arange(24) % 2


def _sampled(**changes: Any) -> Callable[..., Any]:
    """The task of these samples; the tested ones have as many of one class as of the other."""
    values, labels = _series()
    names = [f"sample {at}" for at in range(24)]
    held_out = {"test": np.arange(24) >= 16, "validation": (np.arange(24) >= 8) & (np.arange(24) < 12), "batch_size": 6}
    samples = tt.data.Samples(list(values.numpy()), 3, labels.numpy(), {}, names, "samples")
    return lambda seed=0: tt.tasks.SampledTask(samples, **held_out | changes, seed=seed)


def _events(seed: int = 0) -> Any:
    """Recordings of 30 events of 5 channels in 0.2 s, of two classes in turn."""
    random, (_, labels) = np.random.default_rng(0), _series()
    times = np.sort(random.random((24, 30)), axis=1) * 0.2
    times[:, -1] = 0.199  # all samples have ten steps
    events = [tt.data.Events(when, random.integers(0, 5, 30)) for when in times]
    samples = tt.data.Samples(events, 5, labels.numpy(), {}, [f"sample {at}" for at in range(24)], "samples")
    held_out = {"test": np.arange(24) >= 16, "validation": (np.arange(24) >= 8) & (np.arange(24) < 12)}
    return tt.tasks.SampledTask(samples, **held_out, dt=0.02, batch_size=6, seed=seed)


def _dataset(seed: int = 0) -> Any:
    values, labels = _series()
    parts = [TensorDataset(values[at::3], labels[at::3]) for at in range(3)]
    return tt.tasks.Dataset(parts[0], validation=parts[1], test=parts[2], batch_size=3, seed=seed)


def _file(seed: int = 0) -> Any:
    path = str(Path(__file__).parent / "data" / "two_classes.npz")
    return tt.tasks.File(path=path, test="index<8", validation="index<12", batch_size=6, seed=seed)


def _blocks(seed: int = 0) -> Any:
    return tt.tasks.Blocks(_digits(steps=3)(seed), classes=3, every=2, seed=seed)


TASKS = [
    Row("blocks", "Blocks", _blocks),
    Row("cues", "CueAccumulation", _cues),
    Row("store-recall", "StoreRecall", _store()),
    Row("store-recall-noise", "StoreRecall", _store(noise=20.0, distractors=[0, 2])),
    Row("manifolds", "Manifolds", _manifolds),
    Row("clicks", "PoissonClicks", _clicks()),
    Row("clicks-count-noise", "PoissonClicks", _clicks(label="count", stereo_click=True, noise=5.0)),
    Row("clicks-delayed", "PoissonClicks", _clicks(delay="0.1..0.8")),
    Row("clicks-delayed-noise", "PoissonClicks", _clicks(delay=[0.0, 0.5], noise=5.0)),
    Row("mnist", "MNIST", _digits()),
    Row("mnist-latency", "MNIST", _digits(encoding="latency")),
    Row("rows", "SequentialMNIST", _parts()),
    Row("rows-levels-constant", "SequentialMNIST", _parts(encoding="constant", levels=3)),
    Row("pixels-permuted", "SequentialMNIST", _parts(by="pixels", order="permuted", levels=4, steps_per_part=1)),
    Row("samples", "SampledTask", _sampled()),
    Row("samples-poisson", "SampledTask", _sampled(encoding="poisson")),
    Row("samples-events", "SampledTask", _events),
    Row("dataset", "Dataset", _dataset),
    Row("file", "File", _file),
    Row("patterns", "Patterns", _patterns()),
    Row("patterns-constant", "Patterns", _patterns(encoding="constant"), says="fixed"),
]
