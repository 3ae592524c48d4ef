"""A bank of traces: its stretches of the past, against sums over all steps written out, in float64."""

import pytest
import torch
from torch import Tensor

from tests.common import BATCH, IN, OUT, STEPS, normal, spikes
from tracetorch import functional as F
from tracetorch.nn import LIF, LIS, Sequential
from tracetorch.nn import input_trace as trace_bank

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


def traces(layer: LIF, xs: Tensor) -> Tensor:
    """The layer's own trace at every step, the present first."""
    found, trace = [], torch.zeros_like(xs[0])
    for x in xs:
        trace = F.trace_step(x, trace, layer.trace_decay.detach())
        found.append(trace)
    return torch.stack(found[::-1])


@pytest.mark.parametrize(
    "options", [{}, {"trace_decay": 0.7}, {"trainable": "weight"}], ids=["slope", "free", "no-slope"]
)
@pytest.mark.parametrize("steps", [1, 2, STEPS])
def test_each_stretch_is_the_mean_of_the_trace_over_its_window(steps, options):
    layer, xs = made(**options), spikes(steps)
    layer.run(xs)
    weights, decay = windows(layer.input_trace.trace_bank, steps), layer.trace_decay.detach()
    sums = torch.einsum("ks,sbi->kbi", weights, (1 - decay) * traces(layer, xs))
    found = trace_bank.average_inputs(layer.state.trace, decay, layer.state, layer.input_trace.trace_bank)
    whole = weights.sum(dim=1) > 0  # after one step there is only the first stretch
    close(found[whole], (sums / weights.sum(dim=1)[:, None, None])[whole])
    assert torch.isfinite(found).all()
    found = trace_bank.windows(layer.input_trace.trace_bank[:, None, None], layer.state.steps)[:, 0, 0]
    close(found, weights.sum(dim=1))


@pytest.mark.parametrize("reader", [0.3, 0.95, 0.999])
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_the_stretches_share_what_a_reader_remembers(reader, steps):
    decays = torch.tensor(BANK, dtype=torch.float64)
    found = trace_bank.shares(torch.tensor(reader).double(), torch.full((2, 1), steps), decays)[:, 0, 0]
    kept = torch.tensor(reader).double() ** torch.arange(steps)
    wanted = (windows(decays, steps) / decays[-1] ** torch.arange(steps) * kept).sum(dim=1) / kept.sum()
    torch.testing.assert_close(found, wanted)
    assert float(found.sum()) == pytest.approx(1) and found.min() >= 0


def test_a_reader_that_remembers_as_long_as_the_bank_gets_back_its_own_average():
    """Σ_k share·B_k = Σ_s rˢ·x̄(s) / Σ_s rˢ: nothing is lost where the map is a line."""
    layer, xs = made(), spikes()
    layer.run(xs)
    averages = trace_bank.average_inputs(
        layer.state.trace, layer.trace_decay.detach(), layer.state, layer.input_trace.trace_bank
    )
    together = (
        trace_bank.shares(layer.input_trace.trace_bank[-1], layer.state.steps, layer.input_trace.trace_bank) * averages
    ).sum(dim=0)
    kept = layer.input_trace.trace_bank[-1] ** torch.arange(STEPS)
    wanted = torch.einsum("s,sbi->bi", kept, (1 - layer.trace_decay.detach()) * traces(layer, xs)) / kept.sum()
    close(together, wanted)


@pytest.mark.parametrize("decays", [BANK, [0.9]], ids=["several", "one"])
def test_the_gradient_is_the_sum_over_stretches_each_on_its_own_place_of_the_map(decays):
    below, above = made(decays), LIS(OUT, 2, decay=0.97).double()
    net, xs, signal = Sequential(below, above), spikes(), normal(BATCH, 2)
    net.run(xs)
    back = net.backward(signal)
    told = above.backward(signal)

    weight = below.weight.detach().clone().requires_grad_()
    averages = trace_bank.average_inputs(
        below.state.trace, below.trace_decay.detach(), below.state, below.input_trace.trace_bank
    )
    averages.requires_grad_()
    rates = F.lif_rate(
        averages @ weight.T, below.neuron.decay.detach(), below.neuron.threshold.detach(), below.state.steps
    )
    share = trace_bank.shares(above.trace_decay.detach(), above.state.steps, below.input_trace.trace_bank)
    wanted, wanted_below = torch.autograd.grad((rates * told * share).sum(), (weight, averages))
    close(below.weight.grad, wanted)
    close(back, wanted_below.sum(dim=0))
    assert below.neuron.raw_threshold.grad is not None and below.weight.grad.norm() > 1e-3


def test_decays_learn_as_without_a_bank():
    plain, banked = made([]), made(BANK)
    for layer in (plain, banked):
        layer.run(spikes())
        layer.backward(normal(BATCH, OUT))
    assert torch.equal(plain.neuron.raw_decay.grad, banked.neuron.raw_decay.grad)
    assert not torch.allclose(plain.weight.grad, banked.weight.grad, rtol=1e-2)


def test_the_same_stretches_are_handed_down_one_by_one_and_others_as_their_sum():
    top, signal = made(BANK, inputs=OUT), normal(BATCH, OUT)
    for decays in (BANK, [0.5], []):
        below = made(decays)
        net = Sequential(below, top)
        net.reset()
        net.run(spikes())
        told = top.backward(signal)
        assert told.shape == (len(BANK), BATCH, OUT)
        one_by_one = below.backward(told, top)
        below.weight.grad, kept = None, below.weight.grad
        summed = below.backward(told.sum(dim=0), top)
        assert torch.equal(below.weight.grad, kept) == (decays != BANK)
        assert one_by_one.shape == summed.shape == ((len(decays), BATCH, IN) if decays else (BATCH, IN))


def test_what_comes_early_teaches_a_neuron_that_has_forgotten_it():
    """A known limit of a single trace: a neuron that fired at the start, and whose own trace has faded, learns nothing,
    though the layer above remembers."""
    learned = []
    for decays in ([], [0.99]):
        hidden, readout = made(decays, decay=0.5), LIS(OUT, 2, decay=0.99).double()
        net, xs = Sequential(hidden, readout), torch.zeros(60, 1, IN, dtype=torch.float64)
        xs[:10] = 1.0
        net.run(xs)
        assert readout.state.trace.max() > 1
        net.backward(torch.tensor([[1.0, -1.0]], dtype=torch.float64))
        learned.append(float(hidden.weight.grad.norm()))
    assert learned[0] < 1e-10 and learned[1] > 1e-3


@pytest.mark.parametrize(("decays", "options"), [([0.5, 1.0], {}), ([0.0], {}), ([0.5, 0.5], {}), ([2.0], {})])
def test_bad_decays(decays, options):
    with pytest.raises(ValueError, match="trace_bank lists different decays between 0 and 1"):
        LIF(IN, OUT, trace_bank=decays, **options)


@pytest.mark.parametrize("trainable", [("weight",), ("weight", "decay")], ids=["no-slope", "slope"])
def test_groups_have_a_bank_each(trainable):
    """As if each group of neurons were a layer."""
    both, signal, xs = made(decay=[0.5, 0.9], trainable=trainable), normal(BATCH, OUT), spikes()
    both.run(xs)
    below = both.backward(signal)
    alone, half = 0, OUT // 2
    for at, decay in enumerate((0.5, 0.9)):
        one = LIF(IN, half, decay=decay, trace_bank=BANK, trainable=trainable).double()
        neurons = slice(at * half, (at + 1) * half)
        one.weight.data.copy_(both.weight.data[neurons])
        one.run(xs)
        # From a loss, the reader is taken to remember as the layer does: on average over its groups.
        reader = LIS(half, 2, decay=0.7).double()
        reader.run(spikes()[..., :half])
        alone = alone + one.backward(signal[:, neurons], reader)
        close(both.weight.grad[neurons], one.weight.grad)
    close(below, alone)


def test_a_decay_of_the_bank_that_changes_where_it_lies_is_the_next_steps():
    layer, other = (LIF(4, 3, trace_bank=[0.9]) for _ in range(2))
    other.load_state_dict(layer.state_dict())
    xs = torch.rand(4, 2, 4)
    for net in (layer, other):
        torch.stack([net(x) for x in xs[:2]])
        net.input_trace.trace_bank.fill_(0.5)
    torch.stack([layer(x) for x in xs[2:]])
    other.run(xs[2:])
    torch.testing.assert_close(layer.save_state()["trace_sensitivity"], other.save_state()["trace_sensitivity"])
