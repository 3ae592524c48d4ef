"""The oracle of `tests/oracle.py` itself, and rules held against it where they are exact.

Over finite windows and several learning moments. Where they are not exact: test_oracle_limits.
"""

from functools import partial

import pytest
import torch

from tests.common import BATCH, IN, LAYERS, OUT, build, draw_weights, each, normal, spikes
from tests.oracle import (
    EXACT,
    Bounds,
    Example,
    assert_live,
    assert_oracle,
    central_differences,
    full_gradients,
    misfits,
    unrolled,
)
from tracetorch import loss as losses
from tracetorch.nn import LI, LIF, LIS, Layer, Sequential, neurons
from tracetorch.rules import BPTT, OTTT, EProp, Trace, TruncatedBPTT
from tracetorch.rules.surrogate import FastSigmoid, Triangle

TWO = torch.tensor([0.6, 0.95])
MOMENTS = [
    {},
    {"window": 1},
    {"window": 7},
    {"learn_every": 25},
    {"learn_every": 16, "window": 1},
    {"learn_every": 16, "window": 5},
]
"""One learning moment or several, the last after a shorter stretch than the others; outputs read whole or in part."""
each_moments = pytest.mark.parametrize("moments", MOMENTS, ids=str)
TRIANGLE = Triangle(height=1.0)


def network(readout=LIS, *, seed: int = 0, hidden: int = 1, **options) -> Sequential:
    """Hidden layers of 16 neurons that fire, and a tied readout of 4; 12 inputs; float64."""
    torch.manual_seed(seed)
    sizes = [12, *[16] * hidden]
    below = [LIF(size, 16, decay=0.9, threshold=0.8, bias=True) for size in sizes[:-1]]
    net = Sequential(*below, readout(sizes[-1], 4, **{"decay": 0.8, "bias": True} | options)).double()
    for layer in net:
        layer.bias.data.uniform_(-0.02, 0.05)
        if layer.neuron.spiking:
            draw_weights(layer, -0.25, 0.35)
    return net


def example(seed: int = 0, readout=LIS, *, steps: int = 60, **moments) -> Example:
    """Eight samples, each with rates of its own."""
    generator = torch.Generator().manual_seed(seed)
    rates = 0.4 * torch.rand(8, 12, generator=generator)
    xs = (torch.rand(steps, 8, 12, generator=generator) < rates).double()
    if readout is LI:
        return Example(xs, normal(8, 4, seed=seed), losses.mse, **moments)
    return Example(xs, torch.arange(8) % 4, losses.cross_entropy, **moments)


# ── the oracle itself ───────────────────────────────────────────────────────────────────────────────────────────────


@each(LAYERS)
def test_it_runs_as_the_network_does(row):
    net = build(row)
    net = net if isinstance(net, Sequential) else Sequential(net)
    found = unrolled(net, spikes(), FastSigmoid()).detach()
    torch.testing.assert_close(found, net.run(spikes()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("moments", [{}, {"window": 3}, {"learn_every": 10}, {"learn_every": 10, "window": 3}], ids=str)
@each([row for row in LAYERS if row.of in ("LI", "LIS")])
def test_where_the_loss_is_smooth_it_is_the_central_difference_of_every_parameter(row, moments):
    net = Sequential(build(row))
    target = torch.tensor([0, 3, 1])
    loss = losses.cross_entropy if row.of == "LIS" else losses.mse
    given = Example(normal(24, BATCH, IN), target, loss, **moments)
    found = full_gradients(net, given)
    for name, gradient in found.items():
        assert name.endswith("raw_trace_decay") or gradient.abs().max() > 1e-3
        torch.testing.assert_close(gradient, central_differences(net, given, name), rtol=1e-6, atol=1e-7)


@each_moments
def test_and_so_it_is_for_a_readout_on_top_of_spikes(moments):
    net, given = network(), example(**moments)
    found = full_gradients(net, given, surrogate=FastSigmoid())
    for name in ("layers.1.connection.weight", "layers.1.connection.bias", "layers.1.neuron.raw_decay"):
        torch.testing.assert_close(found[name], central_differences(net, given, name), rtol=1e-6, atol=1e-7)


def test_known_limit_below_a_spike_the_loss_is_a_staircase_and_differences_say_nothing():
    net, given = network(), example()
    for name in ("layers.0.connection.weight", "layers.0.connection.bias", "layers.0.neuron.raw_threshold"):
        with pytest.raises(ValueError, match=f"staircase in {name}, because layer 0 spikes"):
            central_differences(net, given, name)
    net[0].neuron.raw_threshold.data.add_(1e-9)  # no spike comes or goes, so the loss stays where it is, to the bit
    before = net.run(given.xs)
    net.reset()
    net[0].neuron.raw_threshold.data.add_(1e-9)
    assert torch.equal(net.run(given.xs), before)


def test_spikes_without_a_surrogate_are_refused():
    with pytest.raises(ValueError, match="name a surrogate"):
        full_gradients(network(), example())


def test_neurons_of_ones_own_take_their_own_steps():
    net = Sequential(Layer(IN, 5, neuron=neurons.LIF), Layer(5, OUT, neuron=neurons.LIS)).double()
    known = Sequential(LIF(IN, 5), LIS(5, OUT)).double()
    known.load_state_dict(net.state_dict())
    torch.testing.assert_close(unrolled(net, spikes(), Triangle()), unrolled(known, spikes(), Triangle()))


def silent(net):
    net[0].weight.data.fill_(-1.0)


def saturated(net):
    net[0].weight.data.fill_(5.0)


def told_nothing(output, target):
    return output.sum() * 0, torch.zeros_like(output)


@pytest.mark.parametrize(
    ("spoil", "change", "message"),
    [
        (silent, {}, "layer 0 proves nothing: it fires at 0.0 % of the steps, 0 %"),
        (
            saturated,
            {},
            "layer 0 proves nothing: it fires at 100.0 % of the steps, 0 % of its neurons at",
        ),
        (None, {"loss": told_nothing}, "moment after step 16 proves nothing: its signal is zero"),
    ],
)
def test_a_network_that_is_not_live_is_noticed(spoil, change, message):
    net, given = network(), example(learn_every=16)._replace(**change)
    if spoil:
        spoil(net)
        given = given._replace(xs=torch.ones_like(given.xs))
    with pytest.raises(AssertionError, match=message):
        assert_oracle(net, Trace, given, {"layers.1.connection.weight": EXACT}, surrogate=FastSigmoid())


def test_a_gradient_that_is_zero_is_noticed():
    net, given = network(), example()
    for value in (0.0, torch.inf):
        with pytest.raises(AssertionError, match=r"proves nothing: layers\.0\.connection\.bias"):
            assert_live(
                net,
                given,
                {"layers.0.connection.bias": torch.full((16,), value), "layers.0.connection.weight": torch.ones(1)},
            )


def test_a_comparison_that_cannot_fail_is_noticed():
    bounds = {
        "layers.1.connection.weight": EXACT,
        "layers.0.connection.weight": Bounds(cosine=(-1.0, 1.0), norm_ratio=(0.0, 1e9)),
    }
    with pytest.raises(
        AssertionError, match=r"cannot fail: layers\.0\.connection\.weight fits the targets of other samples, fits"
    ):
        assert_oracle(network(), BPTT, example(), bounds, surrogate=FastSigmoid())


def test_what_does_not_fit_is_named_with_its_numbers():
    with pytest.raises(
        AssertionError, match=r"^layers\.0\.connection\.weight: cosine 0\.\d{6}, norm ratio \S+, off by"
    ) as caught:
        assert_oracle(
            network(),
            Trace,
            example(window=1),
            {"layers.0.connection.weight": EXACT, "layers.1.connection.weight": EXACT},
            surrogate=FastSigmoid(),
        )
    assert "layers.1.connection.weight" not in str(caught.value)
    assert misfits({"a": torch.zeros(2)}, {"a": torch.ones(2)}, {"a": Bounds()}), "a cosine that is not defined fits"


# ── where rules are exact ───────────────────────────────────────────────────────────────────────────────────────────

READOUT = {"layers.1.connection.weight": EXACT, "layers.1.connection.bias": EXACT}
HIDDEN = {"layers.0.connection.weight": EXACT, "layers.0.connection.bias": EXACT}
EVERYTHING = (
    READOUT
    | HIDDEN
    | {f"layers.{at}.neuron.raw_decay": EXACT for at in (0, 1)}
    | {"layers.0.neuron.raw_threshold": EXACT}
)
each_readout = pytest.mark.parametrize("readout", [LI, LIS])


@each_readout
@pytest.mark.parametrize("learn_every", [None, 25, 16])
def test_trace_is_exact_for_a_tied_readout_at_every_moment(readout, learn_every):
    given = example(readout=readout, window=1, learn_every=learn_every)
    assert_oracle(network(readout), Trace, given, READOUT, surrogate=TRIANGLE)
    assert_oracle(network(readout, decay=TWO), Trace, given, READOUT, surrogate=TRIANGLE)


@each_readout
@each_moments
@pytest.mark.parametrize("through_reset", [False, True])
def test_bptt_is_exact_for_everything_since_the_last_moment(readout, moments, through_reset):
    surrogate = Triangle(through_reset=through_reset)
    rules = [partial(BPTT, surrogate=surrogate), partial(TruncatedBPTT, k=60, surrogate=surrogate)]
    for rule in rules:
        given = example(readout=readout, **moments)
        assert_oracle(network(readout), rule, given, EVERYTHING, surrogate=surrogate, forget=True)


@each_readout
@pytest.mark.parametrize("moments", [{}, {"learn_every": 16, "window": 5}], ids=str)
def test_eprop_and_ottt_are_exact_for_a_tied_readout_at_every_moment(readout, moments):
    for rule in (EProp, partial(EProp, feedback="random"), OTTT):
        assert_oracle(network(readout), rule, example(readout=readout, **moments), READOUT, surrogate=TRIANGLE)


@each_readout
@each_moments
def test_eprop_is_exact_next_to_a_tied_readout_at_every_moment(readout, moments):
    rule = partial(EProp, surrogate=TRIANGLE)
    given = example(readout=readout, **moments)
    assert_oracle(network(readout), rule, given, HIDDEN | READOUT, surrogate=TRIANGLE)
