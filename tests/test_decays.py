"""What decays learn from: exactly how a trace depends on its decay, or a steady state; float64, against autograd."""

import pytest
import torch

from tests.common import IN, OUT, normal
from tests.common import spikes as random_spikes
from tests.nn.test_exact import MOMENTS, TARGET, TWO, close, each_readout, lively, online, readout
from tracetorch import constrain
from tracetorch import functional as F
from tracetorch.nn import LI, LIF

# ── decays: what a trace's dependence on its decay gives ────────────────────────────────────────────────────────────


@each_readout
def test_the_decay_of_a_tied_readout_learns_as_through_time_at_every_moment(name):
    layer, loss = readout(name)
    xs = normal(40, 3, IN, seed=7)
    online(layer, loss, xs, TARGET)
    raw = layer.neuron.raw_decay.detach().clone().requires_grad_()
    tiny = torch.finfo(torch.float64).eps
    decay = tiny + (1 - 2 * tiny) * torch.sigmoid(raw)
    decay = decay.repeat_interleave(OUT // raw.numel()) if raw.ndim else decay
    membrane, total = torch.zeros(3, OUT, dtype=torch.float64), 0.0
    bias = 0 if layer.bias is None else layer.bias.detach()
    for step, x in enumerate(xs):
        membrane = decay * membrane + x @ layer.weight.detach().T + bias
        if step in MOMENTS:
            total = total + loss(membrane if isinstance(layer, LI) else torch.softmax(membrane, -1), TARGET)[0]
    (wanted,) = torch.autograd.grad(total, raw)
    assert wanted.abs().min() > 1e-3
    close(layer.neuron.raw_decay.grad, wanted)


@each_readout
def test_a_stationary_decay_gradient_is_another(name):
    layer, loss = readout(name, decay_gradient="stationary")
    exact, _ = readout(name)
    xs = normal(40, 3, IN, seed=7)
    online(layer, loss, xs, TARGET)
    online(exact, loss, xs, TARGET)
    assert torch.equal(layer.weight.grad, exact.weight.grad)
    assert (
        layer.neuron.raw_decay.grad - exact.neuron.raw_decay.grad
    ).norm() > 0.05 * exact.neuron.raw_decay.grad.norm()


@pytest.mark.parametrize("decay", [0.9, TWO], ids=["one", "groups"])
def test_fact_1_says_how_a_membrane_depends_on_its_decay_spikes_held_constant(decay):
    """∂m/∂d = W·e − θ·e_s, with the slopes e of the input trace and e_s of the trace of the spikes."""
    layer = lively(LIF(IN, OUT, decay=decay, threshold=0.8))
    layer.neuron.raw_decay.requires_grad_()
    after = torch.zeros(3, OUT, dtype=torch.float64)
    trace, slope = (torch.zeros(3, OUT, dtype=torch.float64) for _ in range(2))
    xs, d = random_spikes(60), layer.neuron.decay
    for x in xs:
        spikes = layer(x).detach()
        after = d * after + x @ layer.weight.T - layer.neuron.threshold * spikes
        slope, trace = F.trace_step(trace, slope, d.detach()), F.trace_step(spikes, trace, d.detach())
    close(after.detach(), layer.state.neuron.membrane)
    sensitivity = layer.state.trace_sensitivity
    weight = layer.weight.view(layer.input_trace.groups, -1, IN)
    weighed = torch.cat([e @ w.T for e, w in zip(sensitivity, weight, strict=True)], dim=1)
    wanted = weighed - layer.neuron.threshold * slope
    at_raw = torch.autograd.grad(constrain.decay_from_raw(layer.neuron.raw_decay).sum(), layer.neuron.raw_decay)[0]
    for group in range(layer.input_trace.groups):
        neurons = slice(group * OUT // layer.input_trace.groups, (group + 1) * OUT // layer.input_trace.groups)
        (through_time,) = torch.autograd.grad(after[:, neurons].sum(), layer.neuron.raw_decay, retain_graph=True)
        close(wanted[:, neurons].sum() * at_raw.reshape(-1)[group], through_time.reshape(-1)[group])
    assert trace.min() > 0 and slope.min() > 0


@pytest.mark.parametrize("decay_gradient", ["exact", "stationary"])
@pytest.mark.parametrize("steps", [5, 40])
def test_only_an_exact_gradient_of_a_free_trace_decay_points_where_a_longer_average_hears_what_came_early(
    steps, decay_gradient
):
    """A known limit of the stationary one, which knows only the scale: its sign is wrong."""
    layer = LI(1, 1, decay=0.9, trace_decay=0.9, trainable="trace_decay", decay_gradient=decay_gradient).double()
    layer.weight.data.fill_(1.0)
    early = torch.zeros(steps, 1, 1, dtype=torch.float64)
    early[0] = 1.0
    layer.run(early)
    layer.backward(torch.ones(1, 1, dtype=torch.float64))

    def average(decay: float) -> float:
        weights = torch.tensor([decay**age for age in range(steps - 1, -1, -1)], dtype=torch.float64)
        return float(weights[0] / weights.sum())

    assert average(0.9 + 1e-6) > average(0.9 - 1e-6)
    assert (float(layer.input_trace.raw_decay.grad) > 0) == (decay_gradient == "exact")


@pytest.mark.parametrize(
    ("options", "name"), [({"trainable": ["weight"]}, "decay"), ({"trace_decay": 0.8}, "trace_decay")]
)
def test_a_decay_that_is_trained_after_all_is_refused_where_what_it_learns_from_was_not_kept(options, name):
    layer, fixed = LIF(4, 3, **options), LIF(4, 3, decay_gradient="stationary", **options)
    for net in (layer, fixed):
        net.requires_grad_(True)
        net.run(torch.rand(5, 2, 4))
    with pytest.raises(RuntimeError, match=f'{name} was not trained when the layer was made.*make it with "{name}"'):
        layer.backward(torch.ones(2, 3))
    fixed.backward(torch.ones(2, 3))
