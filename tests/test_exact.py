"""The two exact facts, in float64, against backpropagation through a loop written out here."""

import pytest
import torch
from torch import Tensor

from tests.common import IN, OUT, draw_weights, normal
from tests.common import spikes as random_spikes
from tracetorch import functional as F
from tracetorch import loss as losses
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.nn.local_gradient import average_current

TWO = torch.tensor([0.6, 0.95])
MOMENTS = (0, 1, 5, 16, 39)
"""Steps of a 40-step sequence at which there is something to learn: the first one, and early ones, included."""


def close(actual: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(actual, wanted, rtol=1e-11, atol=1e-12)


# ── fact 1: what the trace of the spikes is ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_threshold_times_spike_trace_is_weighted_input_trace_minus_membrane(decay, seed):
    d, threshold = torch.tensor(decay, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    weight, fired = normal(OUT, IN, seed=seed), 0
    membrane, trace, spike_trace = (torch.zeros(2, n, dtype=torch.float64) for n in (OUT, IN, OUT))
    for x in normal(300, 2, IN, seed=seed + 10):
        spikes, membrane = F.lif_step(x @ weight.T, membrane, d, threshold)
        trace, spike_trace = F.trace_step(x, trace, d), F.trace_step(spikes, spike_trace, d)
        fired += int(spikes.sum())
        close(threshold * spike_trace, trace @ weight.T - membrane)
    assert fired > 100


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("decay", [0.9, TWO], ids=["one", "groups"])
def test_the_same_for_a_tied_layer_with_groups_and_bias(decay, bias):
    layer = lively(LIF(IN, OUT, decay=decay, threshold=0.8, bias=bias))
    spike_trace, ones_trace = torch.zeros(3, OUT, dtype=torch.float64), 0
    for x in random_spikes(60):
        spike_trace = F.trace_step(layer(x), spike_trace, layer.neuron.decay)
        ones_trace = 1 + layer.neuron.decay * ones_trace
        weighted = trace_times_weight(layer) + (layer.bias * ones_trace if bias else 0)
        close(layer.neuron.threshold * spike_trace, weighted - layer.state.neuron.membrane)
    assert spike_trace.min() > 0


def test_with_a_free_trace_decay_fact_1_does_not_hold():
    layer = lively(LIF(IN, OUT, trace_decay=0.7))
    spike_trace = torch.zeros(3, OUT, dtype=torch.float64)
    for x in random_spikes(60):
        spike_trace = F.trace_step(layer(x), spike_trace, layer.neuron.decay)
    off = layer.neuron.threshold * spike_trace - (trace_times_weight(layer) - layer.state.neuron.membrane)
    assert off.abs().min() > 1e-2


def lively(layer):
    torch.manual_seed(5)
    draw_weights(layer.double(), -0.2, 0.8)
    if layer.bias is not None:
        layer.bias.data.uniform_(-0.1, 0.3)
    return layer.requires_grad_(False)


def trace_times_weight(layer: LIF) -> Tensor:
    trace = layer.state.trace if layer.input_trace.groups > 1 else layer.state.trace[None]
    weight = layer.weight.view(layer.input_trace.groups, -1, IN)
    return torch.cat([t @ w.T for t, w in zip(trace, weight, strict=True)], dim=1)


# ── fact 2: the local gradient of a tied readout is backpropagation through time ────────────────────────────────────

READOUTS = {
    "LI": (LI, {}),
    "LI-fast": (LI, {"decay": 0.3}),
    "LI-slow-bias": (LI, {"decay": 0.999, "bias": True}),
    "LI-groups-bias": (LI, {"decay": TWO, "bias": True}),
    "LI-all-their-own": (LI, {"decay": torch.linspace(0.3, 0.9, OUT)}),
    "LIS": (LIS, {}),
    "LIS-bias": (LIS, {"decay": 0.97, "bias": True}),
    "LIS-groups-bias": (LIS, {"decay": TWO, "bias": True}),
}
each_readout = pytest.mark.parametrize("name", READOUTS)


def readout(name: str, inputs: int = IN, **more):
    kind, options = READOUTS[name]
    torch.manual_seed(3)
    layer = kind(inputs, OUT, **{**options, **more}).double()
    if layer.bias is not None:
        layer.bias.data.uniform_(-0.5, 0.5)
    return layer, losses.mse if kind is LI else losses.cross_entropy


def through_time(layer, loss, xs: Tensor, target: Tensor, moments=MOMENTS) -> tuple[Tensor, Tensor]:
    """Gradients for weight and bias of the losses at all moments, by autograd through the whole history."""
    weight = layer.weight.detach().clone().requires_grad_()
    bias = torch.zeros(OUT, dtype=torch.float64) if layer.bias is None else layer.bias.detach().clone()
    bias.requires_grad_()
    membrane, total = torch.zeros(xs.shape[1], OUT, dtype=torch.float64), 0.0
    for step, x in enumerate(xs):
        membrane = layer.neuron.decay.detach() * membrane + x @ weight.T + bias
        if step in moments:
            total = total + loss(membrane if isinstance(layer, LI) else torch.softmax(membrane, -1), target)[0]
    return torch.autograd.grad(total, (weight, bias))


def online(net, loss, xs: Tensor, target: Tensor, moments=MOMENTS) -> None:
    for step, x in enumerate(xs):
        output = net(x)
        if step in moments:
            net.backward(loss(output, target)[1])


TARGET = torch.tensor([0, 3, 1])


@each_readout
def test_a_tied_readout_learns_as_through_time_at_every_moment(name):
    layer, loss = readout(name)
    xs = normal(40, 3, IN, seed=7)
    online(layer, loss, xs, TARGET)
    weight, bias = through_time(layer, loss, xs, TARGET)
    close(layer.weight.grad, weight)
    if layer.bias is not None:
        close(layer.bias.grad, bias)


@each_readout
def test_and_over_several_finite_windows_with_a_reset_between(name):
    layer, loss = readout(name)
    wanted = torch.zeros_like(layer.weight)
    for length in (1, 2, 7, 25):
        xs = normal(length, 3, IN, seed=length)
        layer.reset()
        online(layer, loss, xs, TARGET, moments=(length - 1,))
        wanted += through_time(layer, loss, xs, TARGET, moments=(length - 1,))[0]
    close(layer.weight.grad, wanted)


@each_readout
def test_and_on_top_of_a_spiking_layer(name):
    below = lively(LIF(IN, 8))
    layer, loss = readout(name, inputs=8)
    xs = random_spikes(40)
    fired = below.run(xs)
    assert 0.1 < fired.mean() < 0.9
    below.reset()
    online(Sequential(below, layer), loss, xs, TARGET)
    close(layer.weight.grad, through_time(layer, loss, fired, TARGET)[0])


@each_readout
def test_the_output_that_learning_assumes_is_the_present_output(name):
    layer, _ = readout(name)
    for x in normal(12, 3, IN, seed=8):
        present = layer(x)
        current = average_current(layer, layer.average_input())
        close(layer.neuron.steady_state(current, layer.state.steps), present)


@pytest.mark.parametrize("kind", [LI, LIS])
@pytest.mark.parametrize(
    "free", [{"trace_decay": 0.7}, {"decay": torch.linspace(0.6, 0.95, OUT), "trace_decay": 0.9}], ids=["other", "own"]
)
def test_a_free_trace_is_not_exact(kind, free):
    layer, loss = readout(kind.__name__, **free)
    xs = normal(40, 3, IN, seed=7)
    online(layer, loss, xs, TARGET)
    wanted, _ = through_time(layer, loss, xs, TARGET)
    assert (layer.weight.grad - wanted).norm() > 0.05 * wanted.norm()


def test_a_free_trace_that_happens_to_decay_as_the_membrane_is_exact():
    layer, loss = readout("LI", decay=0.9, trace_decay=0.9)
    xs = normal(40, 3, IN, seed=7)
    online(layer, loss, xs, TARGET)
    close(layer.weight.grad, through_time(layer, loss, xs, TARGET)[0])


# ── steady input: the signal below and the decays are exact too ─────────────────────────────────────────────────────


@each_readout
@pytest.mark.parametrize("steps", [1, 3, 30])
def test_for_steady_input_the_signal_below_and_the_decay_are_exact_too(name, steps):
    layer, _ = readout(name)
    signal, steady = normal(3, OUT, seed=1), normal(3, IN, seed=2)
    below, output = None, None
    for _ in range(steps):
        output = layer(steady)
    below = layer.backward(signal)

    x, raw = steady.clone().requires_grad_(), layer.neuron.raw_decay.detach().clone().requires_grad_()
    decay = torch.sigmoid(raw).repeat_interleave(OUT // raw.numel()) if raw.ndim else torch.sigmoid(raw)
    membrane = torch.zeros(3, OUT, dtype=torch.float64)
    for _ in range(steps):
        membrane = decay * membrane + x @ layer.weight.detach().T + (0 if layer.bias is None else layer.bias.detach())
    wanted = membrane if isinstance(layer, LI) else torch.softmax(membrane, -1)
    close(output, wanted.detach())
    wanted_below, wanted_raw = torch.autograd.grad(wanted, (x, raw), signal)
    close(below, wanted_below)
    torch.testing.assert_close(layer.neuron.raw_decay.grad, wanted_raw, rtol=1e-9, atol=1e-11)


def test_the_signal_below_an_integrator_written_out():
    layer, _ = readout("LI")
    for _ in range(5):
        layer(torch.ones(2, IN).double())
    signal, beta = normal(2, OUT), layer.neuron.decay.item()
    close(layer.backward(signal), signal @ layer.weight.detach() * (1 - beta**5) / (1 - beta))
