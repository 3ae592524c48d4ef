"""`diagnostics=gradient`: its numbers are right, and the run is the same with and without it."""

from functools import partial

import pytest
import torch

from tests.oracle import EXACT, full_gradients, misfits
from tests.tiny_training import NET, PATTERNS, Killed, Watched, stopping, timeless, train
from tests.tiny_world import CRITIC, Lights, reinforce, run_lifetime
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
    "coarse": partial(rules.CoarseBPTT, stretches=2),
    "eprop": partial(rules.EProp, feedback="random"),
    "ottt": rules.OTTT,
}
EVERY_TWO = partial(Gradient, every=2)
LONG = {"updates": 9, "log_every": 2, "eval_every": 4}
NAMES = [
    *(f"layers.0.{name}" for name in ("connection.weight", "neuron.raw_decay", "neuron.raw_threshold")),
    *(f"layers.1.{name}" for name in ("connection.weight", "neuron.raw_decay")),
]
AT_OUTPUT = {"loss": partial(losses.Reflect, at="output")}
LAST = partial(rules.ThreeFactor, layers="last", decay=0.7)
READOUT = ["layers.1.connection.weight.cosine", "layers.1.connection.weight.norm_ratio"]


def gradients(run):
    return [row for row in timeless(run) if row["split"] == "gradient"]


def others(run):
    return [row for row in timeless(run) if row["split"] != "gradient"]


def saved(run):
    return repr(torch.load(run.folder.checkpoint("latest"), weights_only=True)["net"])


@pytest.mark.parametrize(
    ("run", "parts"),
    [
        (train, {"rule": rules.Trace, "learn_every": 4, "window": 3}),
        (train, {"rule": RULES["tbptt"], "window": 3}),
        (reinforce, AT_OUTPUT | {"rule": rules.EProp}),
        (reinforce, CRITIC),
        (run_lifetime, {}),
    ],
)
def test_a_run_is_the_same_with_and_without_it(tmp_path, run, parts):
    length = LONG if run is train else {"updates": 9, "log_every": 2}
    without = run(tmp_path, name="without", **length, **parts)
    watched = run(tmp_path, name="watched", diagnostics=EVERY_TWO, **length, **parts)
    assert others(watched) == others(without) and saved(watched) == saved(without)
    assert [row["update"] for row in gradients(watched)] == [2, 4, 6, 8, 9]
    assert watched.summary.keys() == without.summary.keys() and watched.timings["diagnose_seconds"] > 0


def test_it_draws_no_random_numbers_and_changes_no_state_or_gradient(tmp_path):
    watched, seen = Watched(), []

    class Recording(Gradient):
        def look(self, run, update, *, last):
            before = everything()
            super().look(run, update, last=last)
            seen.append(before == everything() and "membrane" in before)

    def everything():
        grads = [parameter.grad for parameter in watched.net.parameters()]
        return repr([torch.get_rng_state(), watched.net.state_dict(), grads, watched.net.save_state()])

    train(tmp_path, rule=watched.rule, network=watched.network, diagnostics=partial(Recording, every=1), learn_every=3)
    assert seen == [True] * 4


def test_it_resumes_after_a_kill(tmp_path):
    given = {"diagnostics": EVERY_TWO, "checkpoint_seconds": 0.0, **LONG}
    whole = train(tmp_path, name="whole", **given)
    with pytest.raises(Killed):
        train(tmp_path, listener=stopping(7, "kill"), **given)
    assert timeless(train(tmp_path, resume_from=RunFolder(tmp_path / "run"), **given)) == timeless(whole)


def test_every_parameter_has_its_two_keys_in_every_record_and_in_the_table(tmp_path):
    free = partial(nn.LI, trace_decay=0.8, trainable=("weight", "decay", "trace_decay"))  # BPTT knows of no trace
    run = train(tmp_path, network=partial(NET, readout=free), diagnostics=EVERY_TWO)
    trace = [f"layers.1.input_trace.raw_decay.{kind}" for kind in ("cosine", "norm_ratio")]
    keys = [f"{name}.{kind}" for name in NAMES for kind in ("cosine", "norm_ratio")] + trace
    rows = gradients(run)
    assert [set(row) for row in rows] == [{"update", "split", *keys}] * 2
    assert [row[key] for row in rows for key in trace] == [None] * 4 and rows[0][READOUT[0]] is not None
    table = (run.folder.path / "metrics.csv").read_text()
    assert set(keys) <= set(table.splitlines()[0].split(",")) and ",," in table
    assert not gradients(train(tmp_path, name="none", diagnostics=Nothing))


@pytest.mark.parametrize("run", [train, reinforce])
def test_bptt_agrees_with_itself(tmp_path, run):
    options = {"surrogate": "triangle", "through_reset": True}
    given = {"rule": partial(rules.BPTT, **options), "diagnostics": partial(EVERY_TWO, **options)}
    for row in gradients(run(tmp_path, **given, **({} if run is train else AT_OUTPUT))):
        numbers = [value for key, value in row.items() if key.endswith(("cosine", "norm_ratio"))]
        assert len(numbers) >= 10 and numbers == pytest.approx([1] * len(numbers), abs=1e-5)


def test_the_similarity_is_1_where_a_rule_is_exact_and_below_elsewhere(tmp_path):
    exact = {"ottt": AT_OUTPUT | {"rule": rules.OTTT}, "critic": CRITIC, "last": {"rule": LAST}}
    for name, parts in exact.items():  # at the readout, for its present output
        for row in gradients(reinforce(tmp_path, name=name, window=1, diagnostics=EVERY_TWO, **parts)):
            assert [row[key] for key in READOUT] == pytest.approx([1, 1], abs=1e-4), name
    (row,) = gradients(train(tmp_path, window=1, diagnostics=partial(Gradient, every=99)))
    assert [row[key] for key in READOUT] == pytest.approx([1, 1], abs=1e-4)
    assert 0.2 < row["layers.0.connection.weight.cosine"] < 0.99
    for row in gradients(reinforce(tmp_path, name="played", diagnostics=EVERY_TWO)):
        assert row["layers.0.connection.weight.cosine"] < 0.999 and row[READOUT[1]] != pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", RULES)
def test_with_several_moments_it_equals_the_oracles_similarity(name):
    task, loss = Patterns(**PATTERNS), losses.mse
    torch.manual_seed(0)
    net = NET(12, 3).double()
    net[0].weight.data.mul_(2).add_(0.1)
    probe = Gradient(RULES[name](net), task, loss, window=2, learn_every=4, surrogate="triangle")
    batch = next(task.eval_batches("validation"))
    given = Example(batch.xs.dense().double(), batch.target, loss, window=2, learn_every=4)
    wanted, own = full_gradients(net, given, surrogate=Triangle()), gradient_by_rule(RULES[name](net), given)
    expected, found = gradient_similarities(own, wanted), probe.compare()
    assert list(found) == NAMES
    for parameter, value in found.items():
        assert value == pytest.approx(expected[parameter], rel=1e-9)
    assert misfits(own, wanted, dict.fromkeys(NAMES, EXACT))


def test_the_probe_is_the_first_validation_trials_or_else_training_trials():
    class Seeing(rules.Trace):
        def forward(self, xs, **options):
            seen.append(xs.dense())
            return super().forward(xs, **options)

    class Open(Patterns):
        def eval_batches(self, split):
            return super().eval_batches(split) if validated else iter(())

    for trials, validated in ((3, True), (1000, True), (2, False)):
        task, seen = Open(**PATTERNS), []
        probed = Gradient(Seeing(NET(12, 3)), task, losses.mse, window=None, learn_every=None, trials=trials)
        assert probed.compare() == probed.compare() and len(seen) == 2
        batch = next(task.eval_batches("validation")) if validated else task.train_batch(0)
        assert all(torch.equal(xs, batch.xs.dense()[:, :trials]) for xs in seen)


def test_a_wrong_option_is_refused_before_anything_is_written(tmp_path):
    for wrong, message in (
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"trials": 0}, "trials must be at least 1, got 0"),
        ({"surrogate": "sigmoid"}, "surrogate must be one of fast_sigmoid, arctan, triangle, got 'sigmoid'"),
    ):
        with pytest.raises(ValueError, match=message):
            train(tmp_path, diagnostics=partial(Gradient, **wrong))
    assert not list(tmp_path.iterdir())


REWARD_LOSSES = [losses.Reflect(), losses.Reflect(at="output"), losses.ActorCritic(critic=3.0)]


@pytest.mark.parametrize("reward_loss", REWARD_LOSSES, ids=["reflect", "reflect at the output", "actor_critic"])
def test_the_signal_for_an_environment_is_the_gradient_of_the_loss_and_does_not_change_it(reward_loss):
    torch.manual_seed(3)
    task, signals = Lights(), []

    class Recording(rules.Trace):
        def backward(self, signal, *, at="output"):
            signals.append((signal, at))

    learner = Recording(nn.feedforward(2, 2, hidden=[8], neuron=nn.LIF, readout=nn.LIS))
    example = Gradient(learner, task, reward_loss, window=None, learn_every=None, trials=5)._example
    assert torch.equal(example.xs.dense(), task.observe().dense()[:, :5])
    logits, action = torch.randn(5, 2 + reward_loss.values), example.target
    output = logits if reward_loss.values else torch.softmax(logits, dim=-1)
    reward_loss.observe(output, 1 - action)
    before = reward_loss.score.clone()
    value, wanted = example.loss(output, action)
    example.teach(learner, output, action)
    assert torch.equal(reward_loss.score, before)
    ((signal, at),) = signals
    assert at == reward_loss.at
    if reward_loss.at == "logits" and not reward_loss.values:  # through the softmax
        leaf = logits.clone().requires_grad_()
        torch.softmax(leaf, dim=-1).backward(wanted)
        wanted = leaf.grad
    torch.testing.assert_close(signal, wanted, rtol=1e-4, atol=1e-6)
    floor = 1e-3 if reward_loss.at == "output" else 0
    chosen = reward_loss.policy(output).gather(1, action[:, None])[:, 0]
    torch.testing.assert_close(value, -(chosen + floor).log().mean())
