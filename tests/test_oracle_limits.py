"""Rules held against the oracle where they are approximate: measured bounds, and each known limit by its name."""

from functools import partial

import pytest
import torch

from tests.common import normal
from tests.oracle import EXACT, Bounds, assert_oracle, full_gradients
from tests.test_oracle import TRIANGLE, each_readout, example, network
from tracetorch.nn import LI, Sequential
from tracetorch.rules import BPTT, OTTT, EProp, Trace, TruncatedBPTT
from tracetorch.rules.gradient_similarity import gradient_by_rule, gradient_similarity
from tracetorch.rules.surrogate import FastSigmoid, Triangle


def told(signal: torch.Tensor):
    """A loss whose signal is this one, whatever comes out."""
    return lambda output, target: ((output * signal).sum(), signal)


# ── bounds as measured with seeds 0 to 7, and a little beyond ───────────────────────────────────────────────────────

THROUGH_RESET = Triangle(height=1.0, through_reset=True)
"""Of area 1, and through the reset: a neuron's spikes then make up for what flows in, as the trace rule takes it."""
MEASURED = [
    ({"window": 1}, THROUGH_RESET, Bounds((0.85, 1.0), (0.6, 1.1))),
    ({"learn_every": 16, "window": 5}, THROUGH_RESET, Bounds((0.9, 1.0), (0.65, 1.15))),
    ({"learn_every": 16, "window": 5}, FastSigmoid(), Bounds((0.8, 1.0), (0.55, 1.4))),
    ({"learn_every": 16, "window": 5}, TRIANGLE, Bounds((0.9, 1.0), (0.02, 0.25))),
]


@each_readout
@pytest.mark.parametrize("hidden", [1, 2])
@pytest.mark.parametrize(("moments", "surrogate", "bounds"), MEASURED, ids=str)
def test_trace_comes_close_for_the_weights_of_spiking_layers(readout, hidden, moments, surrogate, bounds):
    every = {f"layers.{at}.connection.weight": bounds for at in range(hidden)}
    for seed in range(5):
        net, given = network(readout, seed=seed, hidden=hidden), example(seed, readout, **moments)
        assert_oracle(net, Trace, given, every, surrogate=surrogate)


@each_readout
def test_trace_comes_close_for_a_readout_over_a_window(readout):
    bounds = Bounds((0.65, 1.0), (0.9, 1.6))
    for seed in range(5):
        given = example(seed, readout)
        assert_oracle(
            network(readout, seed=seed), Trace, given, {"layers.1.connection.weight": bounds}, surrogate=TRIANGLE
        )


# ── known limits, each with its name ────────────────────────────────────────────────────────────────────────────────


def both(rule, net, given, surrogate=None) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of the first weights that a rule finds, and the whole one."""
    return (
        gradient_by_rule(rule(net), given)["layers.0.connection.weight"],
        full_gradients(net, given, surrogate=surrogate)["layers.0.connection.weight"],
    )


def reordered(xs: torch.Tensor, decay: torch.Tensor, size: int = 10) -> torch.Tensor:
    """Every `size` steps turned around, and scaled so that a trace with this decay is the same after each of them."""
    age = decay ** torch.arange(1 - size, size, 2, dtype=xs.dtype)[:, None, None]
    return torch.cat([part.flip(0) * age for part in xs.split(size)])


def test_trace_rule_cannot_tell_order_within_a_window():
    net, signal = network(LI), normal(8, 4)
    first = example(window=1)._replace(loss=told(signal))
    second = first._replace(xs=reordered(first.xs, net[0].neuron.decay.detach()))
    (blind, seen), (alike, turned) = (both(Trace, net, given, FastSigmoid()) for given in (first, second))
    torch.testing.assert_close(blind, alike, rtol=1e-9, atol=1e-9)
    assert gradient_similarity(seen, turned).cosine < 0.85
    answers = []
    for given in (first, second):
        net.reset()
        answers.append(net.run(given.xs, reduce="mean", window=1))
    assert not torch.allclose(*answers, rtol=0.1), "the forward pass can"


def test_trace_rule_takes_a_mean_over_a_window_where_the_readout_stands_at_its_end():
    """Input that came and went within the window: the mean still has it, the end of the window hardly."""
    given = example(readout=LI)._replace(loss=told(normal(8, 4)))
    given.xs[20:].zero_()
    trace, full = both(Trace, Sequential(LI(12, 4, decay=0.5).double()), given)
    assert full.norm() > 0.1 and trace.norm() < 1e-9


def test_truncation_forgets_what_came_more_than_k_steps_ago():
    net = Sequential(LI(12, 4, decay=0.95).double())
    given = example(readout=LI, window=1)
    given.xs[20:].zero_()
    for rule in (Trace, partial(TruncatedBPTT, k=60)):
        assert_oracle(net, rule, given, {"layers.0.connection.weight": EXACT})
    forgotten, full = both(partial(TruncatedBPTT, k=40), net, given)
    assert full.any() and not forgotten.any()


def test_bptt_forgets_what_came_before_the_last_learning_moment():
    net = Sequential(LI(12, 4, decay=0.95).double())
    given = example(readout=LI, window=1, learn_every=30)
    assert_oracle(net, Trace, given, {"layers.0.connection.weight": EXACT})
    assert_oracle(net, BPTT, given, {"layers.0.connection.weight": EXACT}, forget=True)
    found, wanted = both(BPTT, net, given)
    assert (found - wanted).norm() > 0.1 * wanted.norm()


def test_ottt_lacks_what_reaches_the_output_later_than_the_step_itself():
    given = example(readout=LI, window=1)
    close = gradient_similarity(*both(partial(OTTT, surrogate=TRIANGLE), network(LI, decay=0.95), given, TRIANGLE))
    assert close.norm_ratio < 0.3, close


@pytest.mark.parametrize("rule", [EProp, OTTT])
def test_eprop_and_ottt_give_decays_and_thresholds_the_gradient_of_each_step_alone(rule):
    """With one step that counts, that of truncation after one; how long a membrane remembers does not come into it."""
    net, given = network(LI), example(readout=LI, window=1)
    found = gradient_by_rule(rule(net, surrogate=TRIANGLE), given)
    alone = gradient_by_rule(TruncatedBPTT(net, k=1, surrogate=TRIANGLE), given)
    full = full_gradients(net, given, surrogate=TRIANGLE)
    for name in ("layers.0.neuron.raw_decay", "layers.0.neuron.raw_threshold", "layers.1.neuron.raw_decay"):
        torch.testing.assert_close(found[name], alone[name], rtol=1e-9, atol=1e-12)
        assert 0.01 < gradient_similarity(found[name], full[name]).norm_ratio < 0.3, name
