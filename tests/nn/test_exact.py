"""The two exact facts, and signals at the logits, in float64, against backpropagation through a loop written out."""

import pytest
import torch
from torch import Tensor

from tests.common import IN, OUT, draw_weights, normal
from tests.common import spikes as random_spikes
from tracetorch import loss as losses
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.nn.local_gradient import average_current
from tracetorch.rules import BPTT

TWO = torch.tensor([0.6, 0.95])
MOMENTS = (0, 1, 5, 16, 39)
"""Steps of a 40-step sequence at which there is something to learn: the first one, and early ones, included."""
TARGET = torch.tensor([0, 3, 1])


def close(actual: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(actual, wanted, rtol=1e-11, atol=1e-12)


# ── fact 1: what the trace of the spikes is ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", [{"decay": 0.99}, {"decay": 0.6, "bias": True}, {"trace_decay": 0.7}], ids=str)
def test_threshold_times_spike_trace_is_weighted_input_trace_minus_membrane_if_the_trace_is_tied(options):
    layer, spike_trace, ones_trace = lively(LIF(IN, OUT, threshold=0.8, **options)), 0, 0
    for x in random_spikes(60):
        spike_trace = layer(x) + layer.neuron.decay * spike_trace
        ones_trace = 1 + layer.neuron.decay * ones_trace
        bias = 0 if layer.bias is None else layer.bias * ones_trace
        weighted = layer.state.trace @ layer.weight.T + bias - layer.state.neuron.membrane
        off = layer.neuron.threshold * spike_trace - weighted
        assert off.abs().max() < 1e-12 or not layer.input_trace.tied
    assert spike_trace.min() > 0 and (layer.input_trace.tied or off.abs().min() > 1e-2)


def lively(layer):
    torch.manual_seed(5)
    draw_weights(layer.double(), -0.2, 0.8)
    if layer.bias is not None:
        layer.bias.data.uniform_(-0.1, 0.3)
    return layer.requires_grad_(False)


# ── fact 2: the local gradient of a tied readout is backpropagation through time ────────────────────────────────────

READOUTS = {
    "LI": (LI, {"decay": 0.3}),
    "LI-groups-bias": (LI, {"decay": TWO, "bias": True}),
    "LI-all-their-own": (LI, {"decay": torch.linspace(0.3, 0.9, OUT)}),
    "LIS": (LIS, {}),
    "LIS-slow-bias": (LIS, {"decay": 0.999, "bias": True}),
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


def through_time(layer, loss, xs: Tensor, moments=MOMENTS) -> tuple[Tensor, ...]:
    """Gradients for the raw decay, weight, and bias if any, of the losses at all moments, through the whole history."""
    learned = layer.neuron.raw_decay, layer.weight, layer.bias
    raw, *parameters = [p.detach().clone().requires_grad_() for p in learned if p is not None]
    decay = torch.sigmoid(raw).repeat_interleave(OUT // raw.numel()) if raw.ndim else torch.sigmoid(raw)
    membrane, total = torch.zeros(xs.shape[1], OUT, dtype=torch.float64), 0.0
    for step, x in enumerate(xs):
        membrane = decay * membrane + torch.nn.functional.linear(x, *parameters)
        if step in moments:
            total = total + loss(membrane if isinstance(layer, LI) else torch.softmax(membrane, -1), TARGET)[0]
    return torch.autograd.grad(total, [raw, *parameters])


def online(net, loss, xs: Tensor, target: Tensor, moments=MOMENTS) -> None:
    for step, x in enumerate(xs):
        output = net(x)
        if step in moments:
            net.backward(loss(output, target)[1])


@each_readout
def test_a_tied_readout_has_the_gradient_of_bptt_at_every_moment_and_after_resets(name):
    layer, loss = readout(name)
    wanted = 0
    for length, moments in ((40, MOMENTS), (1, (0,)), (2, (1,)), (25, (24,))):
        xs = normal(length, 3, IN, seed=length)
        layer.reset()
        online(layer, loss, xs, TARGET, moments)
        average = average_current(layer, layer.average_input())
        present = layer.state.neuron.membrane if isinstance(layer, LI) else layer.state.neuron.membrane.softmax(-1)
        close(layer.neuron.steady_state(average, layer.state.steps), present)  # the output that learning assumes
        found = through_time(layer, loss, xs, moments)
        wanted = [old + new for old, new in zip(wanted or [0] * len(found), found, strict=True)]
    for parameter, value in zip((layer.neuron.raw_decay, layer.weight, layer.bias), wanted, strict=False):
        torch.testing.assert_close(parameter.grad, value, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "options", "exact"),
    [
        ("LI", {"trace_decay": 0.7}, False),
        ("LIS", {"decay": torch.linspace(0.6, 0.95, OUT), "trace_decay": 0.9}, False),
        ("LI", {"decay": 0.9, "trace_decay": 0.9}, True),
    ],
    ids=["LI", "LIS-own", "the membrane's decay"],
)
def test_a_free_trace_is_exact_only_if_it_decays_as_the_membrane(name, options, exact):
    layer, loss = readout(name, **options)
    xs = normal(40, 3, IN, seed=7)
    online(layer, loss, xs, TARGET)
    wanted = through_time(layer, loss, xs)[1]
    off = (layer.weight.grad - wanted).norm() / wanted.norm()
    assert off < 1e-11 if exact else off > 0.05


@each_readout
def test_for_steady_input_the_input_gradient_and_the_decay_are_exact_too(name):
    layer, _ = readout(name)
    signal, steady = normal(3, OUT, seed=1), normal(3, IN, seed=2)
    x, raw = steady.clone().requires_grad_(), layer.neuron.raw_decay.detach().clone().requires_grad_()
    decay = torch.sigmoid(raw).repeat_interleave(OUT // raw.numel()) if raw.ndim else torch.sigmoid(raw)
    membrane = torch.zeros(3, OUT, dtype=torch.float64)
    for step in range(30):
        output = layer(steady)
        membrane = decay * membrane + torch.nn.functional.linear(x, layer.weight, layer.bias)
        if step not in (0, 2, 29):
            continue
        below = layer.backward(signal)
        wanted = membrane if isinstance(layer, LI) else torch.softmax(membrane, -1)
        wanted_below, wanted_raw = torch.autograd.grad(wanted, (x, raw), signal, retain_graph=True)
        close(output, wanted.detach())
        close(below, wanted_below)
        torch.testing.assert_close(layer.neuron.raw_decay.grad, wanted_raw, rtol=1e-9, atol=1e-11)
        layer.zero_grad()


@pytest.mark.parametrize(
    ("name", "options"), [("LI", {}), ("LIS", {}), ("LIS-groups-bias", {}), ("LIS", {"trace_decay": 0.7})], ids=str
)
def test_through_the_softmax_a_signal_at_the_output_is_one_at_the_logits(name, options):
    layer, _ = readout(name, inputs=8, **options)
    net, signal = Sequential(lively(LIF(IN, 8)).requires_grad_(), layer), normal(3, OUT)
    net.run(random_spikes())
    p = layer.neuron.steady_state(average_current(layer, layer.average_input()), layer.state.steps).detach()
    at_logits = signal if name == "LI" else p * (signal - (p * signal).sum(-1, keepdim=True))
    found = []
    for given, at in ((at_logits, "logits"), (signal, "output")):
        below = net.backward(given, at=at)
        found.append([below, *(p.grad for p in net.parameters() if p.grad is not None)])
        net.zero_grad()
    assert len(found[1]) == 6 + (layer.bias is not None) and all(value.any() for value in found[1])
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)


def test_a_signal_at_logits_that_do_not_exist_is_refused():
    net = Sequential(LIF(IN, OUT))
    net.run(torch.ones(12, 3, IN))
    with pytest.raises(ValueError, match=r"LIF has no logits: give it a signal at its output"):
        net.backward(torch.ones(3, OUT), at="logits")
    with pytest.raises(ValueError, match='at must be "output" or "logits", got \'membrane\''):
        net.backward(torch.ones(3, OUT), at="membrane")
    with pytest.raises(ValueError, match='BPTT takes signals at the output, got at="logits"'):
        BPTT(net).backward(torch.ones(3, OUT), at="logits")
