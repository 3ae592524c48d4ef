"""`diagnostics=gradient`: what it tells of a run is right, and the run is the same with and without it."""

import json
from functools import partial

import pytest
import torch

from tests.oracle import EXACT, full_gradients, misfits
from tests.test_resume import Killed, timeless, weights
from tests.tiny_training import NET, PATTERNS, Watched, train
from tracetorch import loss as losses
from tracetorch import nn, rules
from tracetorch.diagnostics import Gradient, Nothing
from tracetorch.rules.gradient_similarity import Example, gradient_by_rule, gradient_similarities
from tracetorch.rules.surrogate import Triangle
from tracetorch.runs import RunFolder
from tracetorch.tasks import Patterns

RULES = {
    "trace": rules.Trace,
    "bptt": rules.BPTT,
    "tbptt": partial(rules.TruncatedBPTT, k=4),
    "eprop": partial(rules.EProp, feedback="random"),
    "ottt": rules.OTTT,
}
EVERY_TWO = partial(Gradient, every=2)
LONG = {"updates": 9, "log_every": 2, "eval_every": 4}
NAMES = [
    *(f"layers.0.{name}" for name in ("connection.weight", "neuron.raw_decay", "neuron.raw_threshold")),
    *(f"layers.1.{name}" for name in ("connection.weight", "neuron.raw_decay")),
]


def gradients(run):
    return [row for row in timeless(run) if row["split"] == "gradient"]


def others(run):
    """The lines of metrics.jsonl that are not its own, as bytes, times aside."""
    return [json.dumps(row) for row in timeless(run) if row["split"] != "gradient"]


# ── it changes nothing ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("learn_every", [None, 4])
@pytest.mark.parametrize("name", RULES)
def test_a_run_is_the_same_with_and_without_it(tmp_path, name, learn_every):
    given = {"rule": RULES[name], "learn_every": learn_every, "window": 3, **LONG}
    without = train(tmp_path, name="without", **given)
    watched = train(tmp_path, name="watched", diagnostics=EVERY_TWO, **given)
    assert others(watched) == others(without) and len(gradients(watched)) == 5
    left, right = weights(watched.folder), weights(without.folder)
    assert all(torch.equal(left[key], right[key]) for key in left)
    assert watched.summary.keys() == without.summary.keys()


def test_it_draws_no_random_numbers_and_leaves_states_and_gradients_alone(tmp_path):
    watched = Watched()
    seen = []

    class Looking(Gradient):
        def look(self, run, update, *, last):
            before = torch.get_rng_state(), _all(watched.net)
            super().look(run, update, last=last)
            seen.append(torch.equal(before[0], torch.get_rng_state()))
            after = _all(watched.net)
            seen.extend(torch.equal(value, after[key]) for key, value in before[1].items())
            assert before[1].keys() == after.keys() and any("membrane" in key for key in after)

    train(tmp_path, rule=watched.rule, network=watched.network, diagnostics=partial(Looking, every=1), learn_every=3)
    assert seen and all(seen)


def _all(net):
    named = dict(net.named_parameters())
    grads = {f"{name}.grad": value.grad.clone() for name, value in named.items() if value.grad is not None}
    return {**{name: value.detach().clone() for name, value in named.items()}, **grads, **net.save_state()}


@pytest.mark.parametrize("at", [1, 2, 4, 7])
def test_it_goes_on_where_a_run_was_killed(tmp_path, at):
    def listen(event, values):
        if event == "progress" and values["done"] == at:
            raise Killed

    given = {"diagnostics": EVERY_TWO, "checkpoint_seconds": 0.0, **LONG}
    whole = train(tmp_path, name="whole", **given)
    with pytest.raises(Killed):
        train(tmp_path, listener=listen, **given)
    run = train(tmp_path, resume_from=RunFolder(tmp_path / "run"), **given)
    assert timeless(run) == timeless(whole) and len(gradients(run)) == 5


# ── what it tells ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_looks_every_so_many_updates_and_after_the_last(tmp_path):
    run = train(tmp_path, diagnostics=partial(Gradient, every=4), updates=10)
    assert [row["update"] for row in gradients(run)] == [4, 8, 10]
    assert run.timings["diagnose_seconds"] > 0
    assert not gradients(train(tmp_path, name="none", diagnostics=Nothing))


def test_every_parameter_has_its_two_keys_in_every_record_and_in_the_table(tmp_path):
    run = train(tmp_path, diagnostics=EVERY_TWO)
    keys = [f"{name}.{kind}" for name in NAMES for kind in ("cosine", "norm_ratio")]
    assert [list(row) for row in gradients(run)] == [["update", "split", *keys]] * 2
    header = (run.folder.path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert [name for name in header if name in keys] == keys


@pytest.mark.parametrize("surrogate", ["fast_sigmoid", "triangle"])
def test_bptt_agrees_with_itself(tmp_path, surrogate):
    options = {"surrogate": surrogate, "through_reset": True}
    given = {"rule": partial(rules.BPTT, **options), "diagnostics": partial(Gradient, every=1, **options)}
    for row in gradients(train(tmp_path, **given)):
        for name in NAMES:
            assert row[f"{name}.cosine"] == pytest.approx(1, abs=1e-5)
            assert row[f"{name}.norm_ratio"] == pytest.approx(1, abs=1e-5)


def test_trace_is_told_to_be_exact_where_it_is_and_to_be_off_where_it_is_not(tmp_path):
    (row,) = gradients(train(tmp_path, window=1, diagnostics=partial(Gradient, every=99)))
    assert row["layers.1.connection.weight.cosine"] == pytest.approx(1, abs=1e-5)
    assert row["layers.1.connection.weight.norm_ratio"] == pytest.approx(1, abs=1e-4)
    assert 0.2 < row["layers.0.connection.weight.cosine"] < 0.99


@pytest.mark.parametrize("name", RULES)
def test_with_several_moments_it_is_the_oracles_similarity(name):
    task = Patterns(**PATTERNS)
    torch.manual_seed(0)
    net = NET(12, 3).double()
    net[0].weight.data.mul_(2).add_(0.1)
    loss = losses.mse
    looking = Gradient(RULES[name](net), task, loss, window=2, learn_every=4, surrogate="triangle")
    batch = next(task.eval_batches("validation"))
    given = Example(batch.xs.dense().double(), batch.target, loss, window=2, learn_every=4)
    wanted = full_gradients(net, given, surrogate=Triangle())
    expected = gradient_similarities(gradient_by_rule(RULES[name](net), given), wanted)
    found = looking.compare()
    assert list(found) == NAMES
    for parameter, value in found.items():
        assert value == pytest.approx(expected[parameter], rel=1e-9)
    assert misfits(gradient_by_rule(RULES[name](net), given), wanted, dict.fromkeys(NAMES, EXACT))


def test_a_gradient_that_is_zero_has_no_direction(tmp_path):
    free = partial(nn.LI, trace_decay=0.8, trainable=("weight", "trace_decay"))  # of a trace BPTT knows nothing
    net = partial(nn.feedforward, hidden=[8], neuron=nn.LIF, readout=free)
    run = train(tmp_path, network=net, diagnostics=EVERY_TWO)
    for row in gradients(run):
        assert (
            row["layers.1.input_trace.raw_decay.cosine"] is None
            and row["layers.1.input_trace.raw_decay.norm_ratio"] is None
        )
        assert row["layers.1.connection.weight.cosine"] is not None
    assert ",," in (run.folder.path / "metrics.csv").read_text()


# ── the probe ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Seeing(rules.Trace):
    """Keeps what it is given."""

    seen: list[torch.Tensor]

    def forward(self, xs, **options):
        Seeing.seen.append(xs.dense())
        return super().forward(xs, **options)


@pytest.mark.parametrize(("trials", "expected"), [(3, 3), (4, 4), (1000, 4)])
def test_the_probe_is_the_first_trials_that_are_held_out(trials, expected):
    Seeing.seen, task = [], Patterns(**PATTERNS)
    looking = Gradient(Seeing(NET(12, 3)), task, losses.mse, window=None, learn_every=None, trials=trials)
    first, again = looking.compare(), looking.compare()
    assert first == again
    batch = next(task.eval_batches("validation"))
    assert all(torch.equal(xs, batch.xs.dense()[:, :expected]) for xs in Seeing.seen) and len(Seeing.seen) == 2


def test_where_nothing_is_held_out_it_is_of_the_training():
    class Open(Patterns):
        def eval_batches(self, split):
            return iter(()) if split == "validation" else super().eval_batches(split)

    Seeing.seen, task = [], Open(**PATTERNS)
    Gradient(Seeing(NET(12, 3)), task, losses.mse, window=None, learn_every=None, trials=2).compare()
    assert torch.equal(Seeing.seen[0], task.train_batch(0).xs.dense()[:, :2])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"trials": 0}, "trials must be at least 1, got 0"),
        ({"surrogate": "sigmoid"}, "surrogate must be one of fast_sigmoid, arctan, triangle, got 'sigmoid'"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path, diagnostics=partial(Gradient, **wrong))
    assert not list(tmp_path.iterdir())
