"""Layers whose graph ends at the current learn what autograd would teach, and take the whole graph where they must."""

import pytest
import torch

from tests.common import BATCH, IN, LAYERS, OUT, build, each, normal, spikes
from tracetorch import constrain
from tracetorch.backends.cpu.compiled import gather
from tracetorch.nn import LIF
from tracetorch.nn.local_gradient import average_current


@each([row for row in LAYERS if "stationary" in row.name or row.name in ("LIF-weights-only", "LIF-frozen")])
def test_what_layers_learn_by_products_is_what_autograd_learns_to_the_bit(row):
    layer, signal = build(row), normal(BATCH, OUT, seed=2)
    assert not layer.input_trace.moves(layer.neuron)
    layer.run(spikes())
    average = layer.average_input().requires_grad_()
    learnable = [value for value in layer.parameters() if value.requires_grad]
    output = layer.neuron.steady_state(average_current(layer, average), layer.state.steps)
    *wanted, below = torch.autograd.grad(output, [*learnable, average], signal, allow_unused=True)
    assert torch.equal(layer.backward(signal), below)
    assert all(torch.equal(value.grad, gradient) for value, gradient in zip(learnable, wanted, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_fixed_decays_and_thresholds_are_read_anew_once_they_change(dtype):
    layer = LIF(IN, OUT, trainable="weight", decay=0.8, threshold=0.5).to(dtype)
    changes = [
        lambda: layer.neuron.raw_decay.data.fill_(1.0),
        lambda: layer.neuron.raw_decay.detach().numpy().fill(2.0) if dtype != torch.bfloat16 else None,
        lambda: layer.load_state_dict(LIF(IN, OUT, decay=0.7, threshold=2.0).state_dict()),
        lambda: layer.to(torch.float64),
        lambda: layer.neuron.raw_threshold.requires_grad_(True),
    ]
    for change in (lambda: None, *changes):
        change()
        assert torch.equal(layer.neuron.decay, constrain.decay_from_raw(layer.neuron.raw_decay))
        assert torch.equal(layer.neuron.threshold, constrain.positive_from_raw(layer.neuron.raw_threshold))
        assert layer.trace_decay == layer.neuron.decay
    assert layer.neuron.threshold.requires_grad and not layer.neuron.decay.requires_grad


def test_what_was_read_may_be_written_to():
    layer = LIF(IN, OUT, trainable="weight", decay=0.8)
    layer.neuron.decay.mul_(0.5)
    layer.neuron.threshold.requires_grad_()
    assert float(layer.neuron.decay) == pytest.approx(0.8) and not layer.neuron.threshold.requires_grad


def gradients(layer, signal=None):
    layer.run(spikes())
    layer.backward(normal(BATCH, OUT) if signal is None else signal)
    return [parameter.grad for parameter in layer.parameters() if parameter.requires_grad]


def test_a_weight_that_is_made_of_others_teaches_those():
    layer = LIF(IN, OUT, trainable="weight").double()
    torch.nn.utils.parametrizations.weight_norm(layer.connection)
    found = gradients(layer)
    assert len(found) == 2 and all(gradient.abs().sum() > 0 for gradient in found)


def test_autocast_changes_no_gradient_s_dtype():
    layer = LIF(IN, OUT, trainable="weight")
    layer.run(spikes().float())
    with torch.autocast("cpu", torch.bfloat16):
        below = layer.backward(normal(BATCH, OUT).float())
    assert below.dtype == layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("often", [0, 1, 3, 8, 12])
@pytest.mark.parametrize("seldom", [0, 1, 2, 3, 8, 11, 21])
def test_rows_are_added_one_by_one_but_for_eights(often, seldom, dtype):
    """Sums of rows that fired, in eights as a tree and the rest one by one; off it one by one."""
    inputs, neurons = 40, 300
    rows, bias = (normal(*size, seed=1).to(dtype).numpy() for size in ((inputs, neurons), (neurons,)))
    usual = torch.zeros(inputs, dtype=torch.uint8)
    usual[:often] = 1
    events = torch.tensor([*range(often, often + seldom), *range(often)], dtype=torch.int32).numpy().view("uint32")
    ends = torch.tensor([[seldom, seldom + often]]).numpy().view("uint64")
    found = torch.zeros(1, 1, neurons, dtype=dtype)
    gather(rows, bias, events, ends, usual.numpy(), torch.zeros(1, 1, neurons, dtype=dtype).numpy(), found.numpy())
    wanted = bias.copy()
    for channel in range(often):
        wanted += rows[channel]
    for at in range(0, seldom - 7, 8):
        a, b, c, d, e, f, g, h = (rows[event] for event in events[at : at + 8])
        wanted += ((a + b) + (c + d)) + ((e + f) + (g + h))
    for event in events[seldom - seldom % 8 : seldom]:
        wanted += rows[event]
    for channel in range(often):
        wanted -= rows[channel]
    assert torch.equal(found[0, 0], torch.from_numpy(wanted))
