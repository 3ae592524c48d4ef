"""The oracle itself, how gradients are compared, and rules held against it: where they are exact, each known limit."""

import math
from functools import partial

import pytest
import torch

from tests.common import LAYERS, build, each, normal, spikes
from tests.kernel_cases import combined
from tests.oracle import (
    EXACT,
    TRIANGLE,
    Bounds,
    assert_oracle,
    central_differences,
    example,
    full_gradients,
    loss_of,
    misfits,
    network,
    others,
    unrolled,
)
from tracetorch.nn import LI, LIS, Sequential
from tracetorch.rules import BPTT, OTPE, OTTT, STLLR, CoarseBPTT, EProp, Trace, TruncatedBPTT
from tracetorch.rules.gradient_similarity import (
    gradient_by_rule,
    gradient_similarities,
    gradient_similarity,
    gradient_through_time,
)
from tracetorch.rules.surrogate import FastSigmoid, Triangle

READOUTS = {"LI": LI, "LIS": LIS}
MOMENTS = [{}, {"window": 1}, {"learn_every": 25}, {"learn_every": 16, "window": 5}]  # the last stretch is shorter
THROUGH_RESET = Triangle(height=1.0, through_reset=True)  # spikes make up for what flows in, as the trace rule takes it
WEIGHT = "layers.0.connection.weight"
READOUT = {"layers.1.connection.weight": EXACT, "layers.1.connection.bias": EXACT}
HIDDEN = {WEIGHT: EXACT, "layers.0.connection.bias": EXACT}
DECAYS = dict.fromkeys(
    ("layers.0.neuron.raw_decay", "layers.0.neuron.raw_threshold", "layers.1.neuron.raw_decay"), EXACT
)


@each([row for row in LAYERS if row.name in ("LIF-groups-bias", "LIF-zero", "LI-groups", "own", "network")])
def test_the_oracle_runs_as_the_network_does(row):
    net = build(row)
    net = net if isinstance(net, Sequential) else Sequential(net)
    torch.testing.assert_close(unrolled(net, spikes(), TRIANGLE).detach(), net.run(spikes()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("readout", "moments"), [(LI, {}), (LIS, {"learn_every": 16, "window": 5})], ids=str)
def test_the_oracle_equals_central_differences_where_the_loss_is_smooth(readout, moments):
    net, given = network(readout, decay=torch.tensor([0.6, 0.95])), example(readout=readout, **moments)
    found = full_gradients(net, given, surrogate=FastSigmoid())
    for name in (*READOUT, "layers.1.neuron.raw_decay"):
        assert found[name].abs().max() > 1e-3
        torch.testing.assert_close(found[name], central_differences(net, given, name), rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match=f"staircase in {WEIGHT}, because layer 0 spikes"):
        central_differences(net, given, WEIGHT)
    with pytest.raises(ValueError, match="name a surrogate"):
        full_gradients(net, given)


def test_assert_oracle_refuses_silent_networks_blind_bounds_and_misfits():
    blind = READOUT | {WEIGHT: Bounds(cosine=(-1.0, 1.0), norm_ratio=(0.0, 1e9))}
    for message, rule, bounds, weight in (
        ("layer 0 proves nothing: it fires at 0.0 % of the steps, 0 %", Trace, READOUT, -1.0),
        (r"cannot fail: layers\.0\.connection\.weight fits the targets of other samples, fits", BPTT, blind, None),
        (r"^layers\.0\.connection\.weight: cosine 0\.\d{6}, norm ratio \S+, off by", Trace, {WEIGHT: EXACT}, None),
    ):
        net, given = network(), example(window=1)
        if weight:
            net[0].weight.data.fill_(weight)
        with pytest.raises(AssertionError, match=message):
            assert_oracle(net, rule, given, bounds, surrogate=FastSigmoid())


def test_gradients_are_compared_by_their_cosine_and_the_ratio_of_their_norms():
    found, wanted = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    assert gradient_similarities({"a": -found}, {"a": wanted}) == {"a": pytest.approx((-0.8, 2.5))}
    assert gradient_similarity(torch.tensor(-3.0), torch.tensor(2.0)) == (-1.0, 1.5)
    value, none = normal(7, 5), torch.zeros(7, 5)
    cosines = [gradient_similarity(value, scale * value).cosine for scale in (1, -1e-30)]
    assert 1 - 1e-12 < cosines[0] <= 1 and -1 <= cosines[1] < -1 + 1e-12
    assert math.isnan(gradient_similarity(none, value).cosine) and gradient_similarity(none, value).norm_ratio == 0
    assert all(map(math.isnan, gradient_similarity(value, none) + gradient_similarity(value * torch.nan, value)))
    with pytest.raises(ValueError, match=r"one shape, got \(2,\) and \(3,\)"):
        gradient_similarity(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match="different parameters: a and b"):
        gradient_similarities({"a": value}, {"b": value})


@pytest.mark.parametrize(("rule", "gradients"), [(Trace, gradient_by_rule), (BPTT, gradient_through_time)])
def test_gradients_by_rule_have_the_trainable_parameters_and_ignore_earlier_gradients(rule, gradients):
    net, given = network(), example(learn_every=25)
    net[0].bias.requires_grad_(False)
    net[1].input_trace.raw_decay = torch.nn.Parameter(torch.zeros(16, dtype=torch.float64))  # BPTT knows of no trace
    found = gradients(rule(net), given)
    assert "layers.0.connection.bias" not in found and found["layers.1.connection.bias"].any()
    assert bool(found["layers.1.input_trace.raw_decay"].any()) is (rule is Trace)
    kept = {name: value.clone() for name, value in found.items()}
    again = gradients(rule(net), given)
    assert all(torch.equal(found[name], again[name]) and torch.equal(found[name], kept[name]) for name in kept)


RULES = {
    "trace": (Trace, TRIANGLE, READOUT),
    "bptt": (partial(BPTT, surrogate=TRIANGLE), TRIANGLE, READOUT | HIDDEN | DECAYS),
    "tbptt-reset": (partial(TruncatedBPTT, k=60, surrogate=THROUGH_RESET), THROUGH_RESET, READOUT | HIDDEN | DECAYS),
    "coarse": (partial(CoarseBPTT, stretches=60, surrogate=TRIANGLE), TRIANGLE, READOUT | HIDDEN | DECAYS),
    "coarse-log-reset": (
        partial(CoarseBPTT, stretches=60, spacing="log", surrogate=THROUGH_RESET),
        THROUGH_RESET,
        READOUT | HIDDEN | DECAYS,
    ),
    "eprop": (partial(EProp, surrogate=TRIANGLE), TRIANGLE, READOUT | HIDDEN),
    "eprop-random": (partial(EProp, feedback="random"), TRIANGLE, READOUT),
    "ottt": (OTTT, TRIANGLE, READOUT),
    "otpe": (partial(OTPE, surrogate=TRIANGLE), TRIANGLE, READOUT | HIDDEN),
    "otpe-factorized": (partial(OTPE, factorized=True), TRIANGLE, READOUT),
    "s_tllr": (STLLR, TRIANGLE, READOUT),
    "ottt-forgetful": (partial(OTTT, surrogate=TRIANGLE), TRIANGLE, READOUT | HIDDEN),
}


OF_ANY_RESET = ("trace", "bptt", "tbptt-reset", "coarse", "coarse-log-reset")
"""Rules that train neurons with reset to zero as well."""


@pytest.mark.parametrize(("rule", "readout", "moments"), combined(rule=RULES, readout=READOUTS, moments=MOMENTS))
def test_rules_are_exact_at_every_moment(rule, readout, moments):
    make, surrogate, bounds = RULES[rule]
    given = example(readout=READOUTS[readout], **moments)
    if rule == "trace":  # for the present output
        given = given._replace(window=1)
    for reset in ("subtract", "zero") if rule in OF_ANY_RESET else ("subtract",):
        net = network(READOUTS[readout], reset=reset)
        if rule == "ottt-forgetful":  # nothing comes out later than at the step itself
            net[1].neuron.raw_decay.data.fill_(-40.0)
        assert_oracle(net, make, given, bounds, surrogate=surrogate, forget="bptt" in rule)
        if rule == "bptt":  # but from every moment through all time, if asked
            wanted = full_gradients(net, given, surrogate=TRIANGLE)
            assert not misfits(gradient_through_time(make(net), given), wanted, dict.fromkeys(wanted, EXACT))


# ── bounds as measured with seeds 0 to 7, and a little beyond ───────────────────────────────────

MEASURED = {
    "end": ({"window": 1}, THROUGH_RESET, Bounds((0.85, 1.0), (0.6, 1.1))),
    "reset": ({"learn_every": 16, "window": 5}, THROUGH_RESET, Bounds((0.9, 1.0), (0.65, 1.15))),
    "fast": ({"learn_every": 16, "window": 5}, FastSigmoid(), Bounds((0.8, 1.0), (0.55, 1.4))),
    "triangle": ({"learn_every": 16, "window": 5}, TRIANGLE, Bounds((0.9, 1.0), (0.02, 0.25))),
    "readout": ({}, TRIANGLE, Bounds((0.65, 1.0), (0.8, 1.6))),
}
ZERO_MEASURED = Bounds((0.7, 1.0), (0.4, 1.0))
"""As "reset", for reset to zero: a spike ends the effect of earlier input, which the trace still contains."""


@pytest.mark.parametrize(("measured", "readout", "hidden"), combined(at=MEASURED, readout=READOUTS, hidden=(1, 2)))
def test_trace_lies_within_measured_bounds_for_hidden_weights_and_a_readout_window(measured, readout, hidden):
    moments, surrogate, bounds = MEASURED[measured]
    layers = (hidden,) if measured == "readout" else range(hidden)
    every = {f"layers.{at}.connection.weight": bounds for at in layers}
    for seed in range(5):
        net, given = network(READOUTS[readout], seed=seed, hidden=hidden), example(seed, READOUTS[readout], **moments)
        assert_oracle(net, Trace, given, every, surrogate=surrogate)
        if measured == "reset":
            net = network(READOUTS[readout], seed=seed, hidden=hidden, reset="zero")
            assert_oracle(net, Trace, given, dict.fromkeys(every, ZERO_MEASURED), surrogate=surrogate)


def both(rule, net, given, surrogate=None) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of the first weights that a rule finds, and the whole one."""
    return gradient_by_rule(rule(net), given)[WEIGHT], full_gradients(net, given, surrogate=surrogate)[WEIGHT]


def linear(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A loss whose signal is the target."""
    return (output * target).sum(), target


def test_trace_rule_cannot_tell_order_within_a_window():
    """Every 10 steps are turned around, and scaled so that the trace is the same after each of them."""
    net, first = network(LI), example(0, LI, window=1)._replace(loss=linear)
    age = net[0].neuron.decay.detach() ** torch.arange(-9, 10, 2, dtype=torch.float64)[:, None, None]
    second = first._replace(xs=torch.cat([part.flip(0) * age for part in first.xs.split(10)]))
    (blind, seen), (alike, turned) = (both(Trace, net, given, FastSigmoid()) for given in (first, second))
    torch.testing.assert_close(blind, alike, rtol=1e-9, atol=1e-9)
    assert gradient_similarity(seen, turned).cosine < 0.85


def test_trace_rule_takes_a_mean_over_a_window_where_the_readout_stands_at_its_end():
    """Input that came and went within the window: the mean still has it, the end of the window hardly."""
    given = example(0, LI)._replace(loss=linear)
    given.xs[20:].zero_()
    trace, full = both(Trace, Sequential(LI(12, 4, decay=0.5).double()), given)
    assert full.norm() > 0.1 and trace.norm() < 1e-9


def test_truncation_and_a_learning_moment_forget_earlier_steps():
    torch.manual_seed(0)
    net, given = Sequential(LI(12, 4, decay=0.95).double()), example(readout=LI, window=1)
    given.xs[20:].zero_()
    assert_oracle(net, partial(TruncatedBPTT, k=60), given, {WEIGHT: EXACT})
    forgotten, full = both(partial(TruncatedBPTT, k=40), net, given)
    assert full.any() and not forgotten.any()
    found, wanted = both(BPTT, net, example(readout=LI, window=1, learn_every=30))
    assert (found - wanted).norm() > 0.05 * wanted.norm()  # 0.95³⁰ = 0.21 of the first moment


def test_ottt_lacks_what_reaches_the_output_later_than_the_step_itself():
    given = example(readout=LI, window=1)
    close = gradient_similarity(*both(partial(OTTT, surrogate=TRIANGLE), network(LI, decay=0.95), given, TRIANGLE))
    assert close.norm_ratio < 0.3, close


@pytest.mark.parametrize(("hidden", "options"), [(2, {}), (1, {"feedback": "random"})], ids=str)
def test_eprop_further_down_and_with_random_feedback_is_another_gradient(hidden, options):
    rule, given = partial(EProp, surrogate=TRIANGLE, **options), example()
    assert abs(gradient_similarity(*both(rule, network(hidden=hidden), given, TRIANGLE)).cosine) < 0.95


@pytest.mark.parametrize("rule", [EProp, OTTT])
def test_eprop_and_ottt_give_decays_and_thresholds_the_gradient_of_each_step_alone(rule):
    """With one step that counts, that of truncation after one; how long a membrane remembers does not come into it."""
    net, given = network(LI), example(readout=LI, window=1)
    found = gradient_by_rule(rule(net, surrogate=TRIANGLE), given)
    alone = gradient_by_rule(TruncatedBPTT(net, k=1, surrogate=TRIANGLE), given)
    full = full_gradients(net, given, surrogate=TRIANGLE)
    for name in DECAYS:
        torch.testing.assert_close(found[name], alone[name], rtol=1e-9, atol=1e-12)
        assert 0.01 < gradient_similarity(found[name], full[name]).norm_ratio < 0.3, name


SIGMA = 0.05


def noisy(net, draws, seed, look):
    """The mean of `look(ε)`; as it looks, the weights are off by σ·ε."""
    weight, generator = net.get_parameter(WEIGHT), torch.Generator().manual_seed(seed)
    here, total = weight.detach().clone(), torch.zeros_like(weight)
    for _ in range(draws):
        noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        with torch.no_grad():
            weight.copy_(here + SIGMA * noise)
        total += look(noise) / draws
    with torch.no_grad():
        weight.copy_(here)
    return total.detach()


def slope(net, given, guess, seed):
    """The gradient of the mean loss.

    The loss is a staircase; its mean over normal noise ε of width σ is smooth, and its gradient is the mean of
    ε·(L(W + σε) − L(W − σε)) / 2σ, whatever happens inside. Any guess g of it may be taken off each draw, as ε·⟨ε, g⟩,
    and put back at the end: that leaves the mean where it is, and makes it surer the better the guess.
    """

    def look(noise):
        above = loss_of(net, given)
        with torch.no_grad():
            net.get_parameter(WEIGHT).sub_(2 * SIGMA * noise)
        return noise * ((above - loss_of(net, given)) / (2 * SIGMA) - (noise * guess).sum())

    return guess + noisy(net, 1500, seed, look)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_trace_follows_the_slope_of_the_smoothed_loss_as_closely_as_bptt_does(seed):
    net, given = network(seed=seed), example(seed, learn_every=16, window=5)

    def averaged(found):
        return noisy(net, 50, 7, lambda noise: found()[WEIGHT])

    wide = averaged(lambda: full_gradients(net, given, surrogate=THROUGH_RESET))
    narrow = averaged(lambda: full_gradients(net, given, surrogate=FastSigmoid()))
    trace = averaged(lambda: gradient_by_rule(Trace(net), given))
    truth, again = slope(net, given, wide, seed=1), slope(net, given, trace, seed=2)
    assert gradient_similarity(truth, again).cosine > 0.97, "the reference is not sure"
    guesses = {"trace": trace, "fast": narrow, "wide": wide}
    found = {name: gradient_similarity(value, truth) for name, value in guesses.items()}
    assert found["trace"].cosine > 0.93 and 0.75 < found["trace"].norm_ratio < 1.0, found
    assert found["fast"].cosine > 0.93 and found["wide"].cosine > 0.96, found
    for what, wrong in others(given).items():
        close = gradient_similarity(averaged(partial(gradient_by_rule, Trace(net), wrong)), truth)
        assert close.cosine < 0.85, what
