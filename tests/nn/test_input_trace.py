"""The input trace: what its decay learns from, and its bank, against sums over all steps written out, in float64."""

import pytest
import torch
from torch import Tensor

from tests.common import BATCH, IN, OUT, STEPS, normal, spikes
from tracetorch import functional as F
from tracetorch.nn import LIF, LIS, Sequential, input_trace

BANK = [0.6, 0.8, 0.95]


def assert_close(actual: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(actual, wanted, rtol=1e-6, atol=1e-8)  # a bank is stored in float32


def made(decays=BANK, inputs: int = IN, **options) -> LIF:
    torch.manual_seed(4)
    layer = LIF(inputs, OUT, trace_bank=decays, **options).double()
    layer.weight.data.mul_(2).add_(0.2)
    return layer


def windows(decays: Tensor, steps: int) -> Tensor:
    """w_k(s), (bank, steps), s counted back from the present."""
    kept = decays.double()[:, None] ** torch.arange(steps)
    return torch.cat([kept[:1], kept[1:] - kept[:-1]])


def averages(layer: LIF) -> Tensor:
    bank = layer.input_trace.trace_bank
    return input_trace.average_inputs(layer.state.trace, layer.trace_decay.detach(), layer.state, bank)


@pytest.mark.parametrize("options", [{}, {"trace_decay": 0.7}, {"trainable": "weight"}], ids=str)
@pytest.mark.parametrize("steps", [1, 2, STEPS])
def test_each_average_is_the_mean_of_the_trace_over_its_window(steps, options):
    layer, xs = made(**options), spikes(steps)
    layer.run(xs)
    bank, decay, traces = layer.input_trace.trace_bank, layer.trace_decay.detach(), [torch.zeros_like(xs[0])]
    for x in xs:
        traces.append(F.trace_step(x, traces[-1], decay))
    past, weights = (1 - decay) * torch.stack(traces[:0:-1]), windows(bank, steps)
    whole = weights.sum(dim=1) > 0  # after one step there is only the first stretch
    found, sums = averages(layer), torch.einsum("ks,sbi->kbi", weights, past)
    assert_close(found[whole], (sums / weights.sum(dim=1)[:, None, None])[whole])
    assert torch.isfinite(found).all()
    assert_close(input_trace.windows(bank[:, None, None], layer.state.steps)[:, 0, 0], weights.sum(dim=1))
    for reader in (0.3, 0.95, 0.999):  # shares of what it remembers
        kept = torch.tensor(reader).double() ** torch.arange(steps)
        wanted = (weights / bank[-1] ** torch.arange(steps) * kept).sum(dim=1) / kept.sum()
        assert_close(input_trace.shares(torch.tensor(reader).double(), layer.state.steps, bank)[:, 0, 0], wanted)


@pytest.mark.parametrize(("decays", "reader"), [(BANK, [0.96, 0.98]), ([0.9], 0.97)], ids=["several", "one"])
def test_the_gradient_is_the_sum_over_windows_each_at_its_own_point_of_the_map(decays, reader):
    below, above, signal = made(decays), LIS(OUT, 2, decay=reader).double(), normal(BATCH, 2)
    net = Sequential(below, above)
    net.run(spikes())
    back, passed = net.backward(signal), above.backward(signal)
    weight, stretches, steps = below.weight.detach().clone().requires_grad_(), averages(below), below.state.steps
    rates = F.lif_rate(
        stretches.requires_grad_() @ weight.T, below.neuron.decay.detach(), below.neuron.threshold.detach(), steps
    )
    share = input_trace.shares(above.trace_decay.detach().mean(), steps, below.input_trace.trace_bank)
    wanted, wanted_below = torch.autograd.grad((rates * passed * share).sum(), (weight, stretches))
    assert_close(below.weight.grad, wanted)
    assert_close(back, wanted_below.sum(dim=0))
    assert below.neuron.raw_threshold.grad is not None and below.weight.grad.norm() > 1e-3
    plain, banked = made([]), made(decays)  # decays learn as without a bank
    for layer in (plain, banked):
        layer.run(spikes())
        layer.backward(normal(BATCH, OUT))
    assert torch.equal(plain.neuron.raw_decay.grad, banked.neuron.raw_decay.grad)
    assert not torch.allclose(plain.weight.grad, banked.weight.grad, rtol=1e-2)


def test_input_gradients_of_equal_banks_stay_apart_and_others_are_summed():
    top, signal = made(inputs=OUT), normal(BATCH, OUT)
    for decays in (BANK, [0.5], []):
        below = made(decays)
        top.reset()
        Sequential(below, top).run(spikes())
        passed = top.backward(signal)
        assert passed.shape == (len(BANK), BATCH, OUT)
        one_by_one, kept = below.backward(passed, top), below.weight.grad.clone()
        below.zero_grad()
        summed = below.backward(passed.sum(dim=0), top)
        assert torch.equal(below.weight.grad, kept) == (decays != BANK)
        assert one_by_one.shape == summed.shape == ((len(decays), BATCH, IN) if decays else (BATCH, IN))


@pytest.mark.parametrize("trainable", [("weight",), ("weight", "decay")], ids=["no-slope", "slope"])
def test_groups_have_a_bank_each(trainable):
    """As if each group of neurons were a layer."""
    both, signal, xs = made(decay=[0.5, 0.9], trainable=trainable), normal(BATCH, OUT), spikes()
    both.run(xs)
    below, alone, half = both.backward(signal), 0, OUT // 2
    for at, decay in enumerate((0.5, 0.9)):
        one = LIF(IN, half, decay=decay, trace_bank=BANK, trainable=trainable).double()
        neurons = slice(at * half, (at + 1) * half)
        one.weight.data.copy_(both.weight.data[neurons])
        one.run(xs)
        # From a loss, the reader is taken to remember as the layer does: on average over its groups.
        reader = LIS(half, 2, decay=0.7).double()
        reader.run(xs[..., :half])
        alone = alone + one.backward(signal[:, neurons], reader)
        assert_close(both.weight.grad[neurons], one.weight.grad)
    assert_close(below, alone)


@pytest.mark.parametrize("options", [{"trainable": "weight"}, {"trace_decay": 0.8}])
def test_a_decay_made_trainable_later_is_refused_without_its_sensitivities(options):
    name = "trace_decay" if options == {"trace_decay": 0.8} else "decay"
    layer, fixed = LIF(4, 3, **options), LIF(4, 3, decay_gradient="stationary", **options)
    for net in (layer, fixed):
        net.requires_grad_(True).run(4 * torch.rand(5, 2, 4))
    with pytest.raises(RuntimeError, match=f'{name} was not trained when the layer was made.*make it with "{name}"'):
        layer.backward(torch.ones(2, 3))
    fixed.backward(torch.ones(2, 3))
    assert all(parameter.grad.any() for parameter in fixed.parameters())
