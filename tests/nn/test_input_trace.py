"""The input trace: what its decay learns from, and its bank, against sums over all steps written out, in float64."""

import pytest
import torch
from torch import Tensor

from tests.common import BATCH, IN, OUT, STEPS, normal, spikes
from tracetorch import constrain, loss
from tracetorch import functional as F
from tracetorch.nn import LI, LIF, LIS, Sequential, input_trace

BANK = [0.6, 0.8, 0.95]


def close(actual: Tensor, wanted: Tensor) -> None:
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
def test_each_stretch_is_the_mean_of_the_trace_over_its_window(steps, options):
    layer, xs = made(**options), spikes(steps)
    layer.run(xs)
    bank, decay, traces = layer.input_trace.trace_bank, layer.trace_decay.detach(), [torch.zeros_like(xs[0])]
    for x in xs:
        traces.append(F.trace_step(x, traces[-1], decay))
    past, weights = (1 - decay) * torch.stack(traces[:0:-1]), windows(bank, steps)
    whole = weights.sum(dim=1) > 0  # after one step there is only the first stretch
    found, sums = averages(layer), torch.einsum("ks,sbi->kbi", weights, past)
    close(found[whole], (sums / weights.sum(dim=1)[:, None, None])[whole])
    assert torch.isfinite(found).all()
    close(input_trace.windows(bank[:, None, None], layer.state.steps)[:, 0, 0], weights.sum(dim=1))
    for reader in (0.3, 0.95, 0.999):  # shares of what it remembers
        kept = torch.tensor(reader).double() ** torch.arange(steps)
        wanted = (weights / bank[-1] ** torch.arange(steps) * kept).sum(dim=1) / kept.sum()
        close(input_trace.shares(torch.tensor(reader).double(), layer.state.steps, bank)[:, 0, 0], wanted)


@pytest.mark.parametrize(("decays", "reader"), [(BANK, [0.96, 0.98]), ([0.9], 0.97)], ids=["several", "one"])
def test_the_gradient_is_the_sum_over_stretches_each_on_its_own_place_of_the_map(decays, reader):
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
    close(below.weight.grad, wanted)
    close(back, wanted_below.sum(dim=0))
    assert below.neuron.raw_threshold.grad is not None and below.weight.grad.norm() > 1e-3
    plain, banked = made([]), made(decays)  # decays learn as without a bank
    for layer in (plain, banked):
        layer.run(spikes())
        layer.backward(normal(BATCH, OUT))
    assert torch.equal(plain.neuron.raw_decay.grad, banked.neuron.raw_decay.grad)
    assert not torch.allclose(plain.weight.grad, banked.weight.grad, rtol=1e-2)


def test_the_same_stretches_are_handed_down_one_by_one_and_others_as_their_sum():
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
        close(both.weight.grad[neurons], one.weight.grad)
    close(below, alone)


@pytest.mark.parametrize(("kind", "decay"), [(LI, 0.3), (LI, [0.6, 0.95]), (LIS, 0.97), (LIS, [0.6, 0.95])])
def test_the_decay_of_a_tied_readout_learns_as_through_time_at_every_moment(kind, decay):
    torch.manual_seed(5)
    layer, xs, target = kind(IN, OUT, decay=decay, bias=True).double(), normal(40, 3, IN, seed=7), torch.arange(3)
    layer.bias.data.uniform_(-0.1, 0.3)
    loss_of, total, membrane = loss.mse if kind is LI else loss.cross_entropy, 0.0, torch.zeros(3, OUT).double()
    raw = layer.neuron.raw_decay.detach().clone().requires_grad_()
    decays = constrain.decay_from_raw(raw)
    decays = decays.repeat_interleave(OUT // 2) if raw.ndim else decays
    for step, x in enumerate(xs):
        output = layer(x).detach()
        membrane = decays * membrane + x @ layer.weight.detach().T + layer.bias.detach()
        if step in (0, 5, 39):
            layer.backward(loss_of(output, target)[1])
            total = total + loss_of(membrane if kind is LI else torch.softmax(membrane, -1), target)[0]
    (wanted,) = torch.autograd.grad(total, raw)
    torch.testing.assert_close(layer.neuron.raw_decay.grad, wanted, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("options", [{"trainable": "weight"}, {"trace_decay": 0.8}])
def test_a_decay_that_is_trained_after_all_is_refused_where_what_it_learns_from_was_not_kept(options):
    name = "trace_decay" if options == {"trace_decay": 0.8} else "decay"
    layer, fixed = LIF(4, 3, **options), LIF(4, 3, decay_gradient="stationary", **options)
    for net in (layer, fixed):
        net.requires_grad_(True).run(4 * torch.rand(5, 2, 4))
    with pytest.raises(RuntimeError, match=f'{name} was not trained when the layer was made.*make it with "{name}"'):
        layer.backward(torch.ones(2, 3))
    fixed.backward(torch.ones(2, 3))
    assert all(parameter.grad.any() for parameter in fixed.parameters())
