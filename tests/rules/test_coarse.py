"""Coarse BPTT: the cut into stretches, equality with BPTT, memory that does not grow, and what a stretch loses."""

import gc
from functools import partial
from itertools import accumulate

import pytest
import torch

from tests.common import BATCH, IN, OUT, STEPS, gradients, normal, spikes
from tests.kernel_cases import combined
from tests.nn.test_memory import tensors_in_memory
from tests.oracle import TRIANGLE, Bounds, assert_oracle, example, network
from tests.own_neuron import CurrentLIF
from tests.rules.test_bptt import NETS, lively
from tracetorch import backends
from tracetorch.encode import poisson
from tracetorch.functional import MembraneState
from tracetorch.nn import LI, LIF, LIS, Layer, Sequential, neurons
from tracetorch.rules import BPTT, CoarseBPTT, coarse
from tracetorch.rules.surrogate import SURROGATES, FastSigmoid

WEIGHT = "layers.0.connection.weight"


def assert_close(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-11)


def learned(rule, *parts, xs=None, signal=None, **reading):
    """Gradients of the last of several stretches of time."""
    xs, at = spikes() if xs is None else xs, 0
    rule.reset()
    for steps in parts:
        rule.forward(xs[at : at + steps], **{"reduce": "mean"} | reading)
        at += steps
    rule.net.zero_grad()
    rule.backward(normal(BATCH, OUT) if signal is None else signal)
    return gradients(rule.net)


# ── the cut ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("most", [1, 3, 16])
@pytest.mark.parametrize("spacing", ["uniform", "log"])
def test_further_steps_only_merge_neighbours(spacing, most):
    """So that the means of earlier steps can be merged, too."""
    before = set[int]()
    for steps in range(1, 200):
        lengths = coarse.cut(steps, most, spacing)
        ends = set(accumulate(lengths))
        assert sum(lengths) == steps and ends <= before | {steps}
        assert all(length == 1 for length in lengths) if steps <= most else max(lengths) > 1
        before = ends


def test_uniform_stretches_are_equally_long_and_log_ones_double():
    assert coarse.cut(112, 16, "uniform") == [8] * 14 and coarse.cut(9, 4, "uniform") == [4, 4, 1]
    assert coarse.cut(30, 3, "log") == [8, 8, 4, 4, 2, 2, 1, 1] and coarse.cut(31, 1, "log") == [16, 8, 4, 2, 1]
    assert len(coarse.cut(10**6, 16, "uniform")) == 16 and len(coarse.cut(10**6, 4, "log")) == 61


def test_merging_never_changes_the_means_of_all_steps():
    for spacing in ("uniform", "log"):
        totals = []
        for stretches in (1, 3, STEPS):
            rule = CoarseBPTT(lively("LIF-LIF-LIS"), stretches=stretches, spacing=spacing)
            for part in spikes().split(5):
                rule.forward(part)
            assert (rule._counts.sum(dim=0) == STEPS).all()
            totals.append([{name: value.sum(dim=0) for name, value in sums.by_name.items()} for sums in rule._sums])
        torch.testing.assert_close(totals[0][0]["input"], spikes().sum(dim=0))
        for merged in totals[:2]:
            for found, wanted in zip(merged, totals[2], strict=True):
                assert_close(found, wanted)


# ── exact where each step has its own stretch ───────────────────────────────────────────────────────────────────────


class Plain(neurons.LIF):
    """LIF without a kernel, which goes the way of a user's neuron."""

    step = neurons.LIF.step


class Rectified(neurons.LI):
    """Neurons without spikes and without a kernel."""

    def step(self, current, state):
        membrane = self.decay * state.membrane + current
        return torch.relu(membrane), MembraneState(membrane)


def _with(neuron, **options):
    return Sequential(Layer(IN, 6, neuron=neuron, decay=torch.tensor([0.5, 0.9]), **options), LIS(6, OUT, bias=True))


def _convolution():
    hidden = LIF(torch.nn.Conv1d(1, 2, 3), threshold=torch.tensor([[0.4], [0.7]]))
    return Sequential(hidden, LI(2 * (IN - 2), OUT, bias=True))


OTHERS = {
    "plain": lambda: _with(Plain, threshold=0.5, bias=True),
    "reset-to-zero": lambda: _with(neurons.LIF, reset="zero", threshold=torch.linspace(0.4, 0.8, 6)),
    "rectified": lambda: _with(Rectified),
    "LI-LI": lambda: _with(neurons.LI),
    "convolution": _convolution,
}


WAYS = {"surrogate": SURROGATES, "through_reset": (False, True)}
READINGS = {"read": ("steps", "last", 3, None), "spacing": ("uniform", "log"), "streamed": (True, False)}


def made(name):
    if name in NETS:
        return lively(name)
    torch.manual_seed(3)
    net = OTHERS[name]().double()
    for layer in net:
        layer.weight.data.mul_(2).add_(0.1)
    return net


@pytest.mark.parametrize(
    ("name", "surrogate", "through_reset", "read", "spacing", "streamed"),
    [
        *combined(
            name=NETS, **WAYS, read=("steps", "last", 3, None), spacing=("uniform", "log"), streamed=(True, False)
        ),
        *combined(name=OTHERS, **WAYS, read=("steps",), spacing=("uniform", "log"), streamed=(False,)),
    ],
)
def test_with_a_stretch_for_each_step_it_is_bptt(name, surrogate, through_reset, read, spacing, streamed):
    stream = poisson(torch.full((BATCH, IN), 0.4, dtype=torch.float64), STEPS, seed=2)
    xs = stream if streamed and name != "convolution" else stream.dense()
    xs = xs[:, :, None] if name == "convolution" else xs
    signal = normal(STEPS, BATCH, OUT) if read == "steps" else normal(BATCH, OUT)
    reading = {"reduce": None} if read in ("steps", "last") else {"window": read}
    options = {"surrogate": surrogate, "through_reset": through_reset}
    found, wanted = (
        learned(make(made(name), **options), STEPS, xs=xs, signal=signal, **reading)
        for make in (partial(CoarseBPTT, stretches=STEPS, spacing=spacing), BPTT)
    )
    assert_close(found, wanted)
    assert all(value.any() for value in wanted.values())


@pytest.mark.parametrize(
    ("surrogate", "spacing"),
    [(FastSigmoid(slope=3.0), "log"), *zip(SURROGATES, ("uniform", "log", "uniform"), strict=True)],
    ids=str,
)
def test_neither_kernels_nor_chunks_change_the_gradient(spacing, surrogate, monkeypatch):
    make = partial(CoarseBPTT, stretches=3, spacing=spacing, surrogate=surrogate)
    found = learned(make(lively("LIF-LIF-LIS")), STEPS)
    monkeypatch.setattr(coarse, "chunk_steps", lambda *_: 5 * coarse._PARTS)
    assert_close(learned(make(lively("LIF-LIF-LIS")), STEPS), found)
    monkeypatch.setattr(backends, "sums_slopes", lambda *_: False)
    assert_close(learned(make(lively("LIF-LIF-LIS")), STEPS), found)


@pytest.mark.parametrize("spacing", ["uniform", "log"])
def test_stretches_do_not_depend_on_how_a_sequence_is_cut_nor_on_earlier_learning_moments(spacing):
    def learn(rule):
        rule.backward(normal(BATCH, OUT, seed=1))

    rule, found = CoarseBPTT(lively("LIF-LIF-LIS"), stretches=3, spacing=spacing), []
    for cut in ([24], [5, 1, 18], [12, 6, 6]):
        rule.reset()
        for number, part in enumerate(spikes().split(cut)):
            rule.forward(part, reduce="mean", window=1)
            if number % 2:
                learn(rule)
        rule.forward(spikes(4), reduce="mean")
        rule.net.zero_grad()
        learn(rule)
        found.append(gradients(rule.net))
    assert_close(found[1], found[0])
    assert_close(found[2], found[0])


# ── approximate with fewer ──────────────────────────────────────────────────────────────────────────────────────────

MEASURED = {1: Bounds((0.8, 1.0), (0.7, 1.3)), 4: Bounds((0.93, 1.0), (0.8, 1.2)), 16: Bounds((0.99, 1.0), (0.9, 1.1))}
"""Of seeds 0 to 7, and a little beyond."""


@pytest.mark.parametrize("hidden", [1, 2])
@pytest.mark.parametrize("stretches", MEASURED)
def test_more_stretches_come_closer_to_bptt(stretches, hidden):
    every = {f"layers.{at}.connection.weight": MEASURED[stretches] for at in range(hidden + 1)}
    for seed in range(3):
        net, given = network(seed=seed, hidden=hidden), example(seed)
        rule = partial(CoarseBPTT, stretches=stretches, surrogate=TRIANGLE)
        assert_oracle(net, rule, given, every, surrogate=TRIANGLE)


def test_the_order_within_a_stretch_is_lost():
    def found(make, xs):
        return learned(make(Sequential(LI(IN, OUT, decay=0.8)).double()), STEPS, xs=xs, reduce=None)[WEIGHT]

    xs = normal(STEPS, BATCH, IN)
    swapped = xs.view(-1, 2, BATCH, IN).flip(1).view_as(xs)
    make = partial(CoarseBPTT, stretches=STEPS // 2)
    swapped[-2:] = xs[-2:]  # the last step counts, and has a stretch of its own
    torch.manual_seed(0)
    one = found(make, xs)
    torch.manual_seed(0)
    torch.testing.assert_close(found(make, swapped), one)
    torch.manual_seed(0)
    assert (found(BPTT, xs) - one).norm() > 1e-3 * one.norm()


# ── rewards ─────────────────────────────────────────────────────────────────────────────────────────────────────────

ACTIONS, LASTING, REWARDED = 6, 4, (1, 4, 5)  # actions, steps of each observation, actions after which a reward comes
DECAY, MODULATION = 0.7, normal(len(REWARDED), BATCH, seed=4)
CUT = torch.tensor([False, True, False])  # samples that are reset after action 2


def rewarded(rule):
    """Gradients after several actions and rewards, of which one comes twice; the last also gives a bonus."""
    for number, part in enumerate(spikes(ACTIONS * LASTING).split(LASTING)):
        rule.forward(part, reduce="mean", window=2)
        rule.observe(normal(BATCH, OUT, seed=10 + number), at="output")
        if number in REWARDED:
            modulation, bonus = MODULATION[REWARDED.index(number)], normal(BATCH, OUT) if number == 5 else None
            signal = modulation[:, None] * normal(BATCH, OUT, seed=10 + number)  # as of a loss that forgets at once
            rule.backward_reward(signal, modulation=modulation, bonus=bonus, at="output")
        if number == 1 and rule.decay is not None:
            rule.backward_reward(signal, modulation=modulation, bonus=None, at="output")
        if number == 2:
            rule.reset(CUT)
    return gradients(rule.net)


def rewarded_through_time(make):
    """BPTT on Σ modulation·Σ λ^(later actions)·log p(action), of each sample and each of its sequences alone."""
    total, xs = {}, spikes(ACTIONS * LASTING)
    for sample in range(BATCH):
        for first, stop in [(0, 3), (3, ACTIONS)] if CUT[sample] else [(0, ACTIONS)]:
            signal = torch.zeros(ACTIONS, LASTING, 1, OUT).double()
            for at, modulation in zip(REWARDED, MODULATION, strict=True):
                for number in range(first, at + 1 if at < stop else 0):
                    score = normal(BATCH, OUT, seed=10 + number)[sample] * (2 if at == 1 else 1)
                    signal[number, -2:] += DECAY ** (at - number) * modulation[sample] * score / 2
            if stop == ACTIONS:
                signal[-1, -2:] += normal(BATCH, OUT)[sample] / 2
            rule, steps = BPTT(make()), slice(first * LASTING, stop * LASTING)
            rule.forward(xs[steps, sample : sample + 1])
            rule.backward(signal.flatten(0, 1)[steps])
            for name, value in gradients(rule.net).items():
                total[name] = total.get(name, 0) + value
    return total


def test_scores_go_back_from_their_own_actions():
    """With a stretch for each step: BPTT. Not so with merged stretches, nor if signals enter at the present output."""
    for name in ("LIF-LI", "LIF-LIF-LIS", "plain"):
        make = partial(made, name)
        wanted, coarse_of = rewarded_through_time(make), partial(CoarseBPTT, stretches=ACTIONS * LASTING)
        for spacing in ("uniform", "log"):
            assert_close(rewarded(coarse_of(make(), spacing=spacing, decay=DECAY)), wanted)
        weight = wanted[WEIGHT]
        for other in (coarse_of(make(), stretches=2, decay=DECAY), coarse_of(make()), coarse_of(make(), decay=0.0)):
            assert (rewarded(other)[WEIGHT] - weight).norm() > 1e-3 * weight.norm()
    rule, twin = (CoarseBPTT(made("LIF-LI"), stretches=count, decay=DECAY) for count in (2, ACTIONS * LASTING))
    rewarded(rule), rewarded(twin)
    merged, single = (one.state_dict()["sums"][-1]["score"] for one in (rule, twin))
    assert len(merged) < len(single)
    torch.testing.assert_close(merged.sum(dim=0), single.sum(dim=0))
    rule.net.zero_grad()
    for _ in range(2):  # with a bonus: any number of times after a `forward`
        rule.backward_reward(torch.zeros(0), modulation=MODULATION[0], bonus=normal(BATCH, OUT), at="output")
    twice = rule.net[0].weight.grad.clone()
    rule.net.zero_grad()
    rule.backward_reward(torch.zeros(0), modulation=MODULATION[0], bonus=normal(BATCH, OUT), at="output")
    torch.testing.assert_close(2 * rule.net[0].weight.grad, twice)


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_a_hook_leaves_no_graph_and_changes_no_gradient(reset):
    found = []
    for is_hooked in (False, True):
        torch.manual_seed(0)
        net = Sequential(LIF(IN, 4, reset=reset), LI(4, OUT)).double()
        if is_hooked:
            net[0].register_forward_hook(lambda *_: None)
        rule = CoarseBPTT(net, stretches=4)
        rule.backward(rule.forward(spikes(), reduce="mean"))
        assert not any(layer.state.neuron[0].requires_grad for layer in net)
        found.append(gradients(net))
    assert_close(*found)


# ── memory, resets, files ───────────────────────────────────────────────────────────────────────────────────────────


def test_frozen_layers_leave_the_gradients_of_others_as_they_are():
    for name in ("LIF-LIF-LIS", "plain"):
        full = learned(CoarseBPTT(made(name), stretches=4), STEPS)
        last = len(made(name)) - 1
        for frozen in ((0,), (last,), (0, 1), (last - 1,)):
            net = made(name)
            for number in frozen:
                net[number].requires_grad_(False)
            found = learned(CoarseBPTT(net, stretches=4), STEPS)
            kept = {key: value for key, value in full.items() if int(key.split(".")[1]) not in frozen}
            assert found.keys() == kept.keys() and all(torch.equal(found[key], value) for key, value in kept.items())


def test_memory_does_not_grow_with_time():
    """Uniform: the same number of stretches after 2⁶ and after 2¹⁶ steps; log: one octave more for twice the time."""
    net, sizes = Sequential(LIF(4, 3), LIS(3, 2)), {}
    rates = torch.full((1, 4), 0.3)
    gc.freeze()  # counts only what is new
    for spacing in ("uniform", "log"):
        rule = CoarseBPTT(net, stretches=4, spacing=spacing)
        for power in (6, 6, 12, 16):
            rule.reset()
            rule.backward(rule.forward(poisson(rates, 1 << power), reduce="mean"))
            net.zero_grad()
            sizes[spacing, power] = tensors_in_memory()
    gc.unfreeze()
    assert sizes["uniform", 6] == sizes["uniform", 12] == sizes["uniform", 16]
    (count, early), (same, late) = sizes["log", 6], sizes["log", 16]
    assert count == same and late < 3 * early


def test_a_masked_reset_forgets_the_stretches_of_its_samples():
    """As if what these samples saw before had been nothing: a run of the rest alone, for them."""
    for spacing in ("uniform", "log"):
        mask, rule = torch.tensor([False, True, False]), CoarseBPTT(made("plain"), stretches=STEPS, spacing=spacing)
        rule.forward(spikes()[:9])
        rule.reset(mask)
        rule.forward(spikes()[9:], reduce="mean")
        rule.backward(normal(BATCH, OUT) * mask[:, None])
        alone = BPTT(made("plain"))
        wanted = learned(alone, STEPS - 9, xs=spikes()[9:], signal=normal(BATCH, OUT) * mask[:, None])
        assert_close(gradients(rule.net), wanted)
        rule.net.zero_grad()
        rule.forward(spikes(), reduce="mean")  # the stretch that the reset cut is merged
        rule.backward(normal(BATCH, OUT))
        assert all(value.isfinite().all() for value in gradients(rule.net).values())


def test_empty_stretches_are_dropped_if_samples_are_reset_in_turn():
    for spacing, most in (("uniform", 4), ("log", 1), ("log", 3), ("log", 16)):
        rule, since = CoarseBPTT(made("plain"), stretches=most, spacing=spacing), torch.zeros(BATCH, IN).double()
        for number in range(30):
            xs = spikes(5, seed=number)
            rule.forward(xs, reduce="mean", window=1 + number % 5)
            mask = torch.arange(BATCH) == number % (BATCH + 1)  # sometimes none
            rule.reset(mask)
            since = (since + xs.sum(dim=0)) * ~mask[:, None]
            torch.testing.assert_close(rule._sums[0].by_name["input"].sum(dim=0), since)
            assert rule._starts[0] == 0 and len(rule._starts) == len(rule._counts)
        assert rule._stop < 40 and len(rule._starts) <= (most + 1 if spacing == "uniform" else 6 * most)
        rule.forward(spikes(3), reduce="mean")
        rule.backward(normal(BATCH, OUT))
        assert all(value.isfinite().all() for value in gradients(rule.net).values())


def test_uniform_stretches_stay_short_if_samples_are_reset_in_turn():
    """Episodes of different lengths: the stretches begin with the oldest of the present ones."""
    rule = CoarseBPTT(made("plain"), stretches=4)
    for number in range(30):
        rule.forward(spikes(4, seed=number), reduce="mean")
        rule.reset(torch.arange(BATCH) == number % BATCH)
    for number in (30, 31):
        rule.forward(spikes(4, seed=number), reduce="mean")
    assert rule._unit == 4 and rule._stop == 16
    signal = normal(BATCH, OUT) * (torch.arange(BATCH) == 2)[:, None]
    rule.backward(signal)
    alone = CoarseBPTT(made("plain"), stretches=2)
    both = torch.cat([spikes(4, seed=number) for number in (30, 31)])
    assert_close(gradients(rule.net), learned(alone, 4, 4, xs=both, signal=signal))
    with pytest.raises(RuntimeError, match="nothing was run since"):
        rule.reset(torch.ones(BATCH, dtype=torch.bool))
        rule.backward(normal(BATCH, OUT))


def test_saved_stretches_go_on_to_the_bit_and_stay_as_they_are():
    for spacing in ("uniform", "log"):
        make, found = partial(CoarseBPTT, stretches=3, spacing=spacing, decay=0.5), []
        rule = make(lively("LIF-LIF-LIS"))
        assert rule.state_dict()["counts"] is None
        for part in spikes()[:16].split(8):
            rule.forward(part, reduce="mean")
            rule.observe(normal(BATCH, OUT), at="output")
            rule.backward(normal(BATCH, OUT))
        saved, state = rule.state_dict(), rule.net.save_state()
        before = str(saved)
        for other in (rule, make(lively("LIF-LIF-LIS"))):
            other.load_state_dict(saved)
            other.net.load_state(state)
            other.net.zero_grad()
            other.forward(spikes()[16:], reduce="mean")
            other.backward_reward(torch.empty(0), modulation=normal(BATCH), bonus=normal(BATCH, OUT), at="logits")
            assert str(saved) == before
            found.append(gradients(other.net))
        assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
        rule.load_state_dict({})
        assert rule.state_dict()["counts"] is None


def test_signals_at_the_logits_skip_the_softmax():
    p = CoarseBPTT(lively("LIF-LIF-LIS")).forward(spikes()[:1])[0]
    signal, found = normal(BATCH, OUT), []
    at_logits = p * (signal - (p * signal).sum(dim=-1, keepdim=True))
    for at, given in (("output", signal), ("logits", at_logits)):
        rule = CoarseBPTT(lively("LIF-LIF-LIS"))
        rule.forward(spikes()[:1])
        rule.backward(given, at=at)
        found.append(gradients(rule.net))
    assert_close(*found)
    rule = CoarseBPTT(lively("LIF"))
    rule.forward(spikes())
    with pytest.raises(ValueError, match="LIF has no logits"):
        rule.backward(signal, at="logits")


def test_it_learns_from_the_spikes_of_rounded_weights():
    rule, plain = CoarseBPTT(lively("LIF-LIF-LIS")), lively("LIF-LIF-LIS")
    rule.net.precision = plain.precision = torch.bfloat16
    torch.testing.assert_close(rule.forward(spikes()), plain.run(spikes()), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(rule.forward(spikes()), lively("LIF-LIF-LIS").run(spikes()))


def test_neurons_with_several_states_or_with_an_effect_on_each_other_are_refused():
    class Competing(Plain):
        def step(self, current, state):
            return super().step(current - current.mean(dim=-1, keepdim=True), state)

    for neuron, why in ((CurrentLIF, "pass on 2 states"), (Competing, "act on each other within a step")):
        with pytest.raises(ValueError, match=f"would train .* wrongly: its neurons {why}.*; choose rule=bptt"):
            CoarseBPTT(Sequential(Layer(IN, OUT, neuron=neuron)))
