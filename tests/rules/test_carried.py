"""S-TLLR, OTPE and ES-D-RTRL against their definitions, computed step by step; what each of them drops."""

import math
from functools import partial
from typing import NamedTuple

import pytest
import torch

from tests.common import gradients, normal, spikes
from tests.kernel_cases import combined
from tests.oracle import TRIANGLE, draw_weights, example, full_gradients, network
from tests.rules.test_stepwise import learned, learned_at_steps, look
from tracetorch.nn import LI, LIF, LIS, Layer, Sequential, neurons
from tracetorch.rules import BPTT, ESDRTRL, OTPE, OTTT, STLLR, TruncatedBPTT
from tracetorch.rules.gradient_similarity import gradient_by_rule, gradient_similarity

WEIGHTS = [f"layers.{at}.connection.weight" for at in range(3)]
BIASES = [f"layers.{at}.connection.bias" for at in range(3)]
STEPS, BATCH, OUT = 60, 8, 4


def spiking_readout():
    torch.manual_seed(5)
    net = Sequential(*(LIF(n, m, decay=d, threshold=0.6, bias=True) for n, m, d in ((12, 9, 0.9), (9, 4, 0.7))))
    for layer in net.double():
        draw_weights(layer, -0.2, 0.4)
    return net


def grouped():
    """Layers of two decays each."""
    torch.manual_seed(6)
    decays = torch.tensor([[0.6, 0.95], [0.5, 0.8], [0.7, 0.9]])
    below = (LIF(n, m, decay=d, threshold=0.6, bias=True) for n, m, d in ((12, 8, decays[0]), (8, 6, decays[1])))
    net = Sequential(*below, LIS(6, 4, decay=decays[2], bias=True)).double()
    for layer in net:
        draw_weights(layer, -0.2, 0.4)
    return net


NETS = {
    "LIS": partial(network, LIS, hidden=2),
    "LI": partial(network, LI, hidden=2),
    "spiking": spiking_readout,
    "groups": grouped,
}


class Step(NamedTuple):
    """A layer's activity at one step, (batch, …) each."""

    x: torch.Tensor
    slope: torch.Tensor  # d output / d current; 1 for a readout, whose softmax is in `delta`
    delta: torch.Tensor  # dL/d current
    signal: torch.Tensor  # dL/d output


@torch.no_grad()
def activity(net, xs, signal, through=lambda at, slope: slope, direct=()):
    """The steps of each layer; the signal goes down through each step alone, multiplied by `through`.

    Args: direct: of each layer below the last, a matrix (OUT, neurons); its signal is then the last layer's δ times it.
    """
    membranes = [torch.zeros(xs.shape[1], layer.out_features, dtype=xs.dtype) for layer in net]
    found = [[] for _ in net]
    for x, down in zip(xs, signal, strict=True):
        inputs, slopes = [x], []
        for at, layer in enumerate(net):
            u = layer.neuron.decay * membranes[at] + inputs[at] @ layer.weight.T + layer.bias
            slope, output = torch.ones_like(u), torch.softmax(u, dim=-1) if isinstance(layer, LIS) else u
            if layer.neuron.spiking:
                output = (u > layer.neuron.threshold).to(u.dtype)
                slope = TRIANGLE.derivative(u / layer.neuron.threshold - 1) / layer.neuron.threshold
            membranes[at] = u - layer.neuron.threshold * output if layer.neuron.spiking else u
            slopes.append(slope)
            inputs.append(output)
        signals = [down]
        for at in reversed(range(len(net))):
            output, arrived = inputs[at + 1], signals[-1]
            delta = slopes[at] * arrived
            if isinstance(net[at], LIS):
                delta = output * (arrived - (output * arrived).sum(dim=-1, keepdim=True))
            found[at].append(Step(inputs[at], slopes[at], delta, arrived))
            signals.append((delta if at == len(net) - 1 else arrived * through(at, slopes[at])) @ net[at].weight)
            if direct and at:
                signals[-1] = found[-1][-1].delta @ direct[at - 1]
    return found


def outer(left, right):
    """Of a layer's neurons and of inputs, or of traces of inputs for each neuron."""
    return torch.einsum("bo,bi->oi" if right.ndim == 2 else "bo,boi->oi", left, right)


def add_input(decay, trace, x):
    """The trace of the inputs for each neuron, (batch, neurons, inputs)."""
    return torch.as_tensor(decay).reshape(-1, 1) * trace + x[:, None]


def by_trace(layer, steps):
    """Weights and bias of a layer that learns from δ and the trace of its input."""
    weight, bias, trace, ones = 0, 0, 0, 0
    for step in steps:
        trace, ones = add_input(layer.neuron.decay, trace, step.x), layer.neuron.decay * ones + 1
        weight, bias = weight + outer(step.delta, trace), bias + (step.delta * ones).sum(dim=0)
    return weight, bias


def s_tllr(net, xs, signal, *, pre_decay=None, post_decay=0.5, pre_scale=1.0, post_scale=-0.2, seed=None, delay=1, **_):
    found, draws = [], torch.Generator().manual_seed(seed or 0)
    direct = [torch.randn(OUT, layer.out_features, generator=draws).double() / OUT**0.5 for layer in list(net)[:-1]]
    for layer, steps in zip(net, activity(net, xs, signal, direct=direct if seed else ()), strict=True):
        if not layer.neuron.spiking:
            found.append(by_trace(layer, steps))
            continue
        decay = layer.neuron.decay if pre_decay is None else pre_decay
        weight, bias, trace, slopes = 0, 0, 0, [torch.zeros_like(steps[0].slope)]
        for step in steps:
            trace = add_input(decay, trace, step.x)
            slopes.append(post_decay * slopes[-1] + step.slope)
            weight = weight + pre_scale * outer(step.signal * step.slope, trace)
            weight = weight + post_scale * outer(step.signal * slopes[-1 - delay], step.x)
            bias = bias + step.delta.sum(dim=0)
        found.append((weight, bias))
    return found


class MeanSlopes:
    """ψ̄ of each layer, as time passes."""

    def __init__(self, leaks):
        self.leaks, self.sums = leaks, [(0, 0) for _ in leaks]

    def __call__(self, at, slope):
        total, count = self.sums[at]
        self.sums[at] = total * self.leaks[at] + slope, count * self.leaks[at] + 1
        return self.sums[at][0] / self.sums[at][1]


def otpe(net, xs, signal, *, factorized=False, above=1, mean=True):
    leaks = [net[min(at + above, len(net) - 1)].neuron.decay.mean() for at in range(len(net))]
    through = MeanSlopes(leaks) if mean else lambda at, slope: slope
    found = []
    for at, (layer, steps) in enumerate(zip(net, activity(net, xs, signal, through), strict=True)):
        if at == len(net) - 1:
            found.append(by_trace(layer, steps))
            continue
        leak, means = leaks[at], MeanSlopes(leaks)
        weight, bias, trace, ones, twice, r, r_bias = 0, 0, 0, 0, 0, 0, 0
        for step in steps:
            trace, ones = add_input(layer.neuron.decay, trace, step.x), layer.neuron.decay * ones + 1
            r = leak * r + step.slope[..., None] * trace
            r_bias = leak * r_bias + step.slope * ones
            twice, passed = leak * twice + trace, step.signal * means(at, step.slope)
            weight = weight + (outer(passed, twice) if factorized else outer(step.signal, r))
            bias = bias + (passed if factorized else step.signal * r_bias).sum(dim=0)
        found.append((weight, bias))
    return found


def es_d_rtrl(net, xs, signal, *, decay=0.9, through_reset=False, corrected=True):
    found = []
    for layer, steps in zip(net, activity(net, xs, signal), strict=True):
        weight, bias, trace, reach, last = 0, 0, 0, 0, torch.zeros(())
        for number, step in enumerate(steps, start=1):
            passed = layer.neuron.decay
            if through_reset and layer.neuron.spiking:
                passed = passed * (1 - layer.neuron.threshold * last)
            trace, reach, last = decay * trace + step.x, decay * passed * reach + (1 - decay), step.slope
            scaled = step.delta * reach / (1 - decay**number if corrected else 1)
            weight, bias = weight + outer(scaled, trace), bias + scaled.sum(dim=0)
        found.append((weight, bias))
    return found


def d_rtrl(net, xs, signal):
    """ε ← D·ε + x for each synapse, D = β, and the error of each step."""
    found = []
    for layer, steps in zip(net, activity(net, xs, signal), strict=True):
        weight, bias, e, e_bias = 0, 0, torch.zeros(BATCH, *layer.weight.shape), 0
        for step in steps:
            e, e_bias = add_input(layer.neuron.decay, e, step.x), layer.neuron.decay * e_bias + 1
            weight = weight + outer(step.delta, e)
            bias = bias + (step.delta * e_bias).sum(dim=0)
        found.append((weight, bias))
    return found


RANDOM = {"feedback": "random", "seed": 4}
RULES = {
    "s_tllr": (STLLR, s_tllr, {}, {"delay": 0}),
    "s_tllr-own": (STLLR, s_tllr, {"pre_decay": 1.0, "post_decay": 0.9, "post_scale": 1.0}, {"pre_decay": 0.99}),
    "s_tllr-random": (STLLR, s_tllr, {"pre_scale": 0.5, "post_scale": 2.0} | RANDOM, {"post_scale": 1.9}),
    "otpe": (OTPE, otpe, {}, {"above": 0}),
    "otpe-factorized": (OTPE, otpe, {"factorized": True}, {"above": 0}),
    "es_d_rtrl": (ESDRTRL, es_d_rtrl, {"decay": 0.8}, {"corrected": False}),
    "es_d_rtrl-reset": (ESDRTRL, es_d_rtrl, {"through_reset": True}, {"through_reset": False}),
    "d_rtrl": (OTTT, d_rtrl, {}, None),
}
"""Rule, definition, options of both, and what makes the definition another one."""
PARTS = {rule: partial(RULES[rule][0], **RULES[rule][2]) for rule in RULES if rule not in ("d_rtrl", "s_tllr-random")}


def distances(found, wanted):
    """Of each layer's weights and bias."""
    pairs = [(found[f"layers.{at}.connection.{name}"], value) for at, pair in enumerate(wanted)
             for name, value in zip(("weight", "bias"), pair, strict=True)]  # fmt: skip
    assert all(value.abs().max() > 1e-3 for _, value in pairs)
    return [gradient_distance(one, other) for one, other in pairs]


@torch.no_grad()
def gradient_distance(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("rule", "net", "chunk"), combined(rule=RULES, net=NETS, chunk=(64, 5)), indirect=["chunk"])
def test_a_rule_follows_its_definition_step_by_step(rule, net, chunk):
    """D-RTRL is OTTT: without recurrence, its eligibilities are the traces of the inputs."""
    make, definition, options, wrong = RULES[rule]
    net = NETS[net]()
    xs, signal = example().xs, normal(STEPS, BATCH, OUT)
    found = learned_at_steps(make(net, surrogate=TRIANGLE, **options), xs, signal)
    assert max(distances(found, definition(net, xs, signal, **options))) < 1e-9
    if wrong:
        assert max(distances(found, definition(net, xs, signal, **options | wrong))) > 1e-3
    turned = definition(net, xs, signal.roll(1, dims=-1), **options)
    assert min(distances(found, turned)) > 1e-3


@pytest.mark.parametrize("window", [5, pytest.param(60, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("rule", [*PARTS, "s_tllr-random"])
def test_a_window_gives_each_of_its_steps_its_part_of_the_signal(rule, window):
    make, definition, options, _ = RULES[rule]
    net, xs, signal = network(hidden=2), example().xs, torch.zeros(STEPS, BATCH, OUT).double()
    signal[-window:] = normal(BATCH, OUT) / window
    found = learned(make(net, surrogate=TRIANGLE, **options), STEPS, xs=xs, signal=normal(BATCH, OUT), window=window)
    assert max(distances(found, definition(net, xs, signal, **options))) < 1e-9


def test_otpe_sends_signals_down_through_mean_slopes():
    net, xs, signal = network(hidden=2), example().xs, normal(STEPS, BATCH, OUT)
    found = learned_at_steps(OTPE(net, surrogate=TRIANGLE), xs, signal)
    lowest, *others = distances(found, otpe(net, xs, signal, mean=False))[::2]
    assert lowest > 0.05 and max(others) < 1e-9


# ── sums go on from part to part of a sequence ──────────────────────────────────────────────────


def learn(rule):
    rule.backward(normal(3, OUT))


def lively():
    torch.manual_seed(3)
    net = Sequential(
        LIF(6, 7, decay=torch.tensor([0.5] * 3 + [0.9] * 4), threshold=0.5, bias=True), LIF(7, 5), LI(5, OUT)
    )
    for layer in net.double():
        draw_weights(layer, -0.2, 0.8)
    return net


TOGETHER = combined(rule=PARTS, moments=(0, 1), chunk=(64, 5))
"""Rules, numbers of learning moments between parts, and steps at once."""


def assert_same(found, wanted):
    assert set(found) == set(wanted) >= {"layers.0.connection.weight", "layers.0.connection.bias"}
    for name, value in wanted.items():
        assert value.abs().max() > 0
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("rule", "moments", "chunk"), TOGETHER, indirect=["chunk"])
def test_sums_continue_from_part_to_part_of_a_sequence(rule, moments, chunk):
    between = (learn,) * moments
    found = learned(PARTS[rule](lively()), 6, *between, 9, *between, 9, window=3)
    assert_same(found, learned(PARTS[rule](lively()), 24, window=3))


@pytest.mark.parametrize(("rule", "moments", "chunk"), TOGETHER, indirect=["chunk"])
def test_a_masked_reset_clears_the_sums_of_its_samples(rule, moments, chunk):
    """As if what these samples saw before had been nothing: a run of the rest alone, for them."""
    mask = torch.tensor([False, True, False])
    signal, alone = normal(3, OUT) * mask[:, None], PARTS[rule](lively())
    found = learned(
        PARTS[rule](lively()), 4, learn, 5, *(learn,) * moments, lambda rule: rule.reset(mask), 15, signal=signal
    )
    alone.forward(spikes()[9:], reduce="mean")
    alone.backward(signal)
    assert_same(found, gradients(alone.net))


@pytest.mark.parametrize("rule", PARTS)
def test_a_rule_goes_on_from_its_saved_state_which_stays_as_it_is(rule):
    first, found = PARTS[rule](lively()), []
    for part in spikes()[:16].split(8):
        first.forward(part, reduce="mean")
        learn(first)
    saved, state = first.state_dict(), first.net.save_state()
    before = str(saved)
    for other in (first, PARTS[rule](lively())):
        other.load_state_dict(saved)
        other.net.load_state(state)
        other.net.zero_grad()
        other.reset(torch.tensor([False, True, False]))
        other.forward(spikes()[16:], reduce="mean")
        learn(other)
        assert str(saved) == before
        found.append(gradients(other.net))
    assert_same(*found)
    fresh = PARTS[rule](lively())
    fresh.net.load_state(state)
    fresh.forward(spikes()[16:], reduce="mean")
    learn(fresh)
    name = "layers.0.connection.weight"
    assert gradient_distance(gradients(fresh.net)[name], found[0][name]) > 1e-3


@pytest.mark.parametrize("rule", PARTS)
def test_a_forward_without_autograd_ends_all_sums(rule):
    first, second = (learned(PARTS[rule](lively()), 9, *between, look, 15) for between in ((), (learn,)))
    assert_same(first, second)


# ── what they drop ──────────────────────────────────────────────────────────────────────────────


def test_s_tllr_without_its_non_causal_term_is_ottt_but_for_hidden_biases():
    net, xs, signal = network(hidden=2), example().xs, normal(STEPS, BATCH, OUT)
    causal, full = (learned_at_steps(STLLR(net, post_scale=scale), xs, signal) for scale in (0.0, -0.2))
    wanted = learned_at_steps(OTTT(net), xs, signal)
    same = {name for name in wanted if gradient_distance(causal[name], wanted[name]) < 1e-9}
    assert set(wanted) - same == set(BIASES[:2])
    assert all(gradient_distance(full[name], wanted[name]) > 1e-3 for name in WEIGHTS[:2])


@pytest.mark.parametrize("make", [partial(STLLR, post_scale=0.0), ESDRTRL], ids=str)
def test_s_tllr_and_es_d_rtrl_lack_what_reaches_the_output_later_than_the_step_itself(make):
    given, net = example(readout=LI, window=1), network(LI, decay=0.95)
    found = gradient_by_rule(make(net, surrogate=TRIANGLE), given)[WEIGHTS[0]]
    close = gradient_similarity(found, full_gradients(net, given, surrogate=TRIANGLE)[WEIGHTS[0]])
    assert close.norm_ratio < 0.3, close


def test_es_d_rtrl_at_the_decay_of_the_membranes_is_a_part_of_ottt():
    """The part at step t is (1 + βᵗ)/(1 + β), of weights; with the reset it is another gradient."""
    net, xs, at = network(hidden=2, decay=0.9), example().xs, 40
    beta = float(net[0].neuron.decay.detach())
    signal = torch.zeros(STEPS, BATCH, OUT).double()
    signal[at - 1] = normal(BATCH, OUT)
    found = learned_at_steps(ESDRTRL(net, decay=beta), xs, signal)
    reset = learned_at_steps(ESDRTRL(net, decay=beta, through_reset=True), xs, signal)
    wanted = learned_at_steps(OTTT(net), xs, signal)
    for name in WEIGHTS:
        assert gradient_distance(found[name], wanted[name] * (1 + beta**at) / (1 + beta)) < 1e-9
        assert name == WEIGHTS[2] or abs(gradient_similarity(reset[name], wanted[name]).cosine) < 0.999


@pytest.mark.parametrize("make", [network, spiking_readout])
def test_otpe_is_exact_for_the_layer_below_the_last_unless_factorized(make):
    net, xs, signal = make(), example().xs, normal(STEPS, BATCH, OUT)
    wanted = learned_at_steps(BPTT(net, surrogate=TRIANGLE), xs, signal)
    for factorized in (False, True):
        found = learned_at_steps(OTPE(net, surrogate=TRIANGLE, factorized=factorized), xs, signal)
        off = {name: gradient_distance(found[name], wanted[name]) for name in WEIGHTS[:2] + BIASES[:2]}
        hidden = max(off[WEIGHTS[0]], off[BIASES[0]])
        assert max(off[WEIGHTS[1]], off[BIASES[1]]) < 1e-9
        assert hidden > 0.05 if factorized else hidden < 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_otpe_further_down_is_another_gradient_though_closer_to_bptt_than_that_of_ottt(seed):
    net, xs, signal = (
        network(LI, hidden=2, seed=seed, decay=0.95),
        example(seed).xs,
        normal(STEPS, BATCH, OUT, seed=seed),
    )
    cosines = []
    for make in (OTPE, partial(OTPE, factorized=True), OTTT):
        found, full = (learned_at_steps(one(net, surrogate=TRIANGLE), xs, signal)[WEIGHTS[0]] for one in (make, BPTT))
        cosines.append(gradient_similarity(found, full).cosine)
    assert 0.9 < cosines[0] < 0.98 and 0.9 < cosines[1] < 0.98 and cosines[2] < 0.85, cosines


@pytest.mark.parametrize("rule", PARTS)
def test_decays_and_thresholds_get_the_gradient_of_each_step_alone(rule):
    """With one step that counts, that of truncation after one."""
    net, given = network(LI), example(readout=LI, window=1)
    found = gradient_by_rule(PARTS[rule](net, surrogate=TRIANGLE), given)
    alone = gradient_by_rule(TruncatedBPTT(net, k=1, surrogate=TRIANGLE), given)
    for name in ("layers.0.neuron.raw_decay", "layers.0.neuron.raw_threshold", "layers.1.neuron.raw_decay"):
        assert found[name].abs().max() > 0
        torch.testing.assert_close(found[name], alone[name], rtol=1e-9, atol=1e-12)


class Own(neurons.LIF):
    kernel = None


def own():
    return Sequential(Layer(6, 4, neuron=Own))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(STLLR, pre_decay=1.5), "pre_decay must be from 0 to 1, got 1.5"),
        (partial(STLLR, post_decay=-0.1), "post_decay must be from 0 to 1, got -0.1"),
        (partial(STLLR, post_scale=math.nan), "post_scale must be finite, got nan"),
        (partial(STLLR, feedback="direct"), "feedback must be symmetric or random, got 'direct'"),
        (partial(ESDRTRL, decay="a"), "decay must be a number, got 'a'"),
        (partial(ESDRTRL, decay=1.0), "decay must be above 0 and below 1, got 1"),
        (lambda net: ESDRTRL(own(), through_reset=True), "through_reset=True needs .* neurons, got Own"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(network())
