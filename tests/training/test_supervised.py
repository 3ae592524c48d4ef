"""The supervised time loop: it learns, repeats itself to the bit, keeps what it should, and ends as it should."""

import math
import signal
from functools import partial

import pytest
import torch
from torch.nn.utils import prune

from tests.tiny_training import NET, PATTERNS, Watched, facts, timeless, train, weights
from tracetorch import loss as losses
from tracetorch.nn import LI, LIF, LIS, Sequential, feedforward
from tracetorch.rules import ThreeFactor
from tracetorch.runs import RunFolder, load_checkpoint, save_checkpoint
from tracetorch.tasks import MNIST, Patterns, PoissonClicks, RewardedTask
from tracetorch.tasks.evaluate import Evaluation
from tracetorch.training import TrainingError, labels
from tracetorch.training.progress import Best, Log
from tracetorch.training.report import chance_level, decays
from tracetorch.training.setup import count_updates, network_of, parameter_groups

FROZEN = partial(feedforward, hidden=[4], neuron=partial(LIF, trainable=()), readout=partial(LI, trainable=()))


def with_metric(name):
    task = Patterns()
    task.metrics = (name,)
    return task


class NeedsClosure(torch.optim.SGD):
    """An optimizer that calls the loss itself, as LBFGS does."""

    def step(self, closure):
        closure()


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_the_loss_falls_and_a_seed_repeats_the_run(tmp_path):
    options = {"updates": 62, "log_every": 10, "eval_every": 25}
    one, again, other = (train(tmp_path, seed=s, name=n, **options) for s, n in ((5, "a"), (5, "b"), (6, "c")))
    assert timeless(one) == timeless(again) != timeless(other)
    assert (one.folder.path / "trials.csv").read_bytes() == (again.folder.path / "trials.csv").read_bytes()
    rows = one.folder.records()
    trained = [(row["update"], row["loss"]) for row in rows if row["split"] == "train"]
    assert [update for update, _ in trained] == [10, 20, 30, 40, 50, 60, 62] and trained[-1][1] < 0.6 * trained[0][1]
    assert [row["update"] for row in rows if row["split"] == "validation"] == [25, 50, 62]
    assert (rows[-1]["split"], rows[-1]["update"]) == ("test", 62)


def test_a_convolution_in_a_run_leaves_its_figures_and_a_checkpoint_with_its_sizes(tmp_path):
    def network(inputs, outputs):
        convolution = torch.nn.Sequential(torch.nn.Unflatten(1, (1, 3, inputs // 3)), torch.nn.Conv2d(1, 2, 3))
        pooling = torch.nn.Sequential(torch.nn.Unflatten(1, (2, 1, 2)), torch.nn.AvgPool2d((1, 2)), torch.nn.Flatten())
        hidden = LIF(convolution, threshold=0.05), LIF(torch.nn.Sequential(torch.nn.Flatten(), pooling), threshold=0.05)
        return Sequential(*hidden, LI(2, outputs))

    run = train(tmp_path, network=network, figures=True, updates=2)
    assert run.status == "completed" and run.warnings == []
    assert {"raster.png", "parameters.png"} <= {path.name for path in (run.folder.path / "plots").iterdir()}
    found, expected = network_of(run.folder.checkpoint("latest"), network), network(12, 3)
    assert [p.shape for p in found.parameters()] == [p.shape for p in expected.parameters()]


def test_the_network_of_a_checkpoint_without_sizes_has_them_from_its_weights(tmp_path):
    net = NET(12, 3)
    save_checkpoint(tmp_path / "latest.pt", net, torch.optim.Adam(net.parameters()))
    assert equal(network_of(tmp_path / "latest.pt", NET).state_dict(), net.state_dict())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"task": "mnist"}, "task must be a task or an environment, such as .*, got 'mnist'"),
        ({"task": with_metric("split")}, "'split' is a field of every record; give the metric another name"),
        ({"task": with_metric("my_seconds")}, "Patterns.metrics: 'my_seconds' has an ending reserved for costs"),
        (
            {"task": RewardedTask(MNIST(steps=2))},
            "RewardedTask gives rewards, not labels: choose train=reinforcement",
        ),
        ({"updates": 1.5}, r"train.updates must be a whole number, got 1\.5"),
        ({"checkpoint_seconds": None}, "train.checkpoint_seconds must be a number, got None"),
        ({"log_every": None}, "train.log_every must be a whole number, got None"),
        ({"update_every": 0}, "train.update_every must be at least 1, got 0"),
        ({"learn_every": 0}, "train.learn_every must be at least 1, got 0"),
        ({"eval_every": 0}, "train.eval_every must be at least 1, got 0"),
        ({"patience": 0}, "train.patience must be at least 1, got 0"),
        ({"update_every": 4}, r"learns at the end alone \(train.learn_every=null\)"),
        ({"learn_every": 3, "update_every": 4}, "learns every 3 steps, .* give a multiple of train.learn_every"),
        ({"checkpoint_seconds": -1}, "train.checkpoint_seconds must be at least 0, got -1"),
        ({"schedule": "step"}, "train.schedule must be one of none, linear, cosine, got 'step'"),
        ({"precision": "half"}, "train.precision must be one of float32, bfloat16, got 'half'"),
        ({"window": 11}, "train.window must lie between 1 and the 10 steps of a trial, got 11"),
        ({"network": NET(12, 3)}, "network must be a function of the numbers of inputs .*, got tracetorch.Sequential"),
        ({"network": FROZEN}, "the network has no trainable parameters"),
        ({"loss": "mse"}, "loss must be a function .* such as tracetorch.loss.mse, .*, got 'mse'"),
        ({"loss": torch.nn.MSELoss()}, r"a loss gives \(loss, signal\), .*; this one gives torch.Tensor"),
        ({"rule": ThreeFactor}, "ThreeFactor learns from rewards, and Patterns gives labels"),
        (
            {"task": PoissonClicks(duration=[0.2], validation_trials=0, batch_size=3), "patience": 3},
            "train.patience needs validation trials, and the task has none",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, option, message):
    with pytest.raises((TypeError, ValueError), match=message):
        train(tmp_path, **option)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"optimizer": partial(torch.optim.SGD, lr=1e99)}, r"the optimizer SGD cannot take .*; lower optimizer.lr, or"),
        ({"optimizer": NeedsClosure}, "the optimizer NeedsClosure cannot take .*; lower optimizer.lr, or choose"),
        ({"loss": lambda y, q: (torch.tensor(math.nan), torch.full_like(y, math.nan))}, "the loss is nan"),
        ({"loss": lambda y, q: (y.sum(), torch.full_like(y, math.nan))}, "weight of layer 0 .* is no longer finite"),
    ],
)
def test_an_update_that_cannot_be_made_ends_the_run_with_advice(tmp_path, option, message):
    watched = Watched()
    with pytest.raises(TrainingError, match=rf"update [12]: .*{message}"):
        train(tmp_path, network=watched.network, **option)
    is_finite = all(bool(torch.isfinite(parameter).all()) for parameter in watched.net.parameters())
    assert is_finite == ("no longer" not in message)


def test_a_task_without_test_trials_fails_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(Patterns, "eval_batches", lambda self, split: iter(()))
    with pytest.raises(ValueError, match="Patterns has no trials to test on"):
        train(tmp_path, updates=1)


@pytest.mark.parametrize(("learn_every", "update_every", "updates"), [(3, 6, 2), (3, None, 1), (2, "moment", 5)])
def test_gradients_of_several_learning_moments_make_one_update(tmp_path, learn_every, update_every, updates):
    steps = []

    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            steps.append([parameter.grad.clone() for group in self.param_groups for parameter in group["params"]])
            super().step(closure)

    given = {"optimizer": partial(Counting, lr=0.0), "learn_every": learn_every, "updates": 1}
    train(tmp_path, update_every=update_every, **given)
    assert len(steps) == updates
    alone = list(steps)
    steps.clear()
    train(tmp_path, name="moments", **given)
    for update, whole in zip(torch.tensor_split(torch.arange(len(steps)), updates), alone, strict=True):
        for number, gradient in enumerate(whole):
            torch.testing.assert_close(gradient, sum(steps[moment][number] for moment in update))


@pytest.mark.parametrize(("learn_every", "parts"), [(None, [(10, 5)]), (4, [(4, 4), (4, 4), (2, 2)])])
def test_the_learning_moments_of_a_sequence_see_its_consecutive_parts(tmp_path, learn_every, parts):
    watched = Watched()
    train(tmp_path, updates=3, window=5, learn_every=learn_every, eval_every=99, rule=watched.rule)
    assert watched.taught == 3 * len(parts)
    assert watched.parts[: 1 + len(parts)] == [(10, 5), *parts]  # after the rehearsal, a whole sequence
    # the rehearsal, before and after; 3 sequences; 2 batches of the validation, of the test, and after both
    assert watched.resets == 2 + 3 + 2 * 3


RATES = {"none": [1] * 4, "linear": [0.75, 0.5, 0.25, 0], "cosine": [0.8535534, 0.5, 0.1464466, 0]}


@pytest.mark.parametrize("schedule", RATES)
def test_the_learning_rate_follows_its_schedule(tmp_path, schedule):
    watched, seen = Watched(), []

    def listen(event, values):
        if event == "progress":
            seen.append(watched.optimizer_made.param_groups[0]["lr"] / 0.02)

    train(tmp_path, schedule=schedule, learn_every=5, optimizer=watched.optimizer, listener=listen)
    assert seen == pytest.approx(RATES[schedule], abs=1e-7)


def test_passes_are_counted_in_batches(tmp_path):
    digits = MNIST(batch_size=100, steps=2, validation_digits=20)
    run = train(tmp_path, task=digits, loss=losses.cross_entropy_with_logits, updates=None, passes=0.3)
    assert run.summary["updates"] == 3 and evaluated(run) == [3]  # a pass has 10


def evaluated(run):
    return [row["update"] for row in run.folder.records() if row["split"] == "validation"]


def test_a_run_is_evaluated_ten_times_if_nothing_is_said(tmp_path):
    assert evaluated(train(tmp_path, updates=20)) == list(range(2, 21, 2))
    assert evaluated(train(tmp_path, name="short", updates=3)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("per_pass", "updates", "passes", "found"),
    [
        (10, None, 0.34, 3),
        (None, 1, None, 1),
        (10, 3, 2.0, "train.updates=3 and train.passes=2 are both set"),
        (None, None, 2.0, "the data of MNIST never end; give train.updates in its place"),
        (None, None, None, "train.updates and train.passes are both null"),
        (10, None, 0.0, "train.passes must be above 0 and finite, got 0"),
        (10, None, math.inf, "train.passes must be above 0 and finite, got inf"),
        (10, None, 0.01, "train.updates or train.passes must give at least 1 update, got 0"),
    ],
)
def test_the_number_of_updates_is_given_or_follows_from_passes(per_pass, updates, passes, found):
    if isinstance(found, int):
        assert count_updates(MNIST(), per_pass, updates, passes) == found
    else:
        with pytest.raises(ValueError, match=found):
            count_updates(MNIST(), per_pass, updates, passes)


def test_a_record_has_means_and_the_speed_since_the_one_before():
    log, resumed = Log(["loss"]), Log(["loss"])
    log.add({"loss": 2.0}, 30)
    log.add({"loss": None}, 10)
    assert log.take(4.0) == {"loss": 2.0, "steps_per_second": 10.0, "train_seconds": 4.0}
    assert math.isnan(log.averages()["loss"])
    log.add({"loss": 3.0}, 30)
    resumed.load_state_dict(log.state_dict())
    assert resumed.take(6.0) == {"loss": 3.0, "steps_per_second": 15.0, "train_seconds": 6.0} and resumed.steps == 70


def test_what_a_run_leaves(tmp_path):
    watched = Watched()
    run = train(tmp_path, network=watched.network, optimizer=watched.optimizer)
    assert set(run.summary) == {
        *("updates", "loss", "accuracy", "recalled", "steps_per_second", "peak_memory_bytes", "wall_seconds", "tested"),
        *("update_seconds", "training_memory_bytes", "decay_0", "decay_1", "tested_update"),
        *("firing_rate_per_step", "activation_sparsity", "connection_sparsity"),
        *("synaptic_operations", "effective_acs", "effective_macs"),
    }
    assert run.summary["steps_per_second"] == pytest.approx(4 * 10 / run.timings["train_seconds"])
    assert facts(run)["summary"] == run.summary and (run.summary["updates"], run.summary["tested"]) == (4, "latest")
    trained = facts(run)["timings"]["train_seconds"]
    assert run.summary["steps_per_second"] == pytest.approx(40 / trained)
    assert set(facts(run)["timings"]) == {"train_seconds", "evaluate_seconds"}
    trials = run.folder.table("trials.csv")["accuracy"]
    assert len(trials) == 8 and run.summary["accuracy"] == pytest.approx(sum(trials) / 8)
    assert not (run.folder.path / "plots").exists()
    assert equal(weights(run.folder), watched.net.state_dict())
    matrices, others = watched.optimizer_made.param_groups
    assert {id(p) for p in matrices["params"]} == {id(layer.weight) for layer in watched.net}
    assert others["weight_decay"] == 0 and len(others["params"]) == 3  # two decays and a threshold


def test_weights_that_are_computed_from_other_parameters_have_weight_decay():
    net = Sequential(LIF(12, 8, bias=True), LIF(torch.nn.Linear(8, 3)))
    prune.l1_unstructured(net[0].connection, "weight", amount=0.5)
    torch.nn.utils.parametrizations.weight_norm(net[1].connection)
    names = {id(parameter): name.rpartition(".")[2] for name, parameter in net.named_parameters()}
    matrices, others = ({names[id(p)] for p in group["params"]} for group in parameter_groups(net))
    assert matrices == {"weight_orig", "original0", "original1"}
    assert others == {"bias", "raw_decay", "raw_threshold"}


@pytest.mark.parametrize("patience", [2, None])
def test_patience_stops_and_tests_the_best_network_which_is_saved_without_it_too(tmp_path, monkeypatch, patience):
    script, real = iter([0.2, 0.9, 0.5, 0.9, 1.0]), labels.evaluate

    def evaluate(learner, task, loss, split, window):
        if split == "validation":
            return Evaluation({"loss": 1.0, "accuracy": next(script), "recalled": 0.0}, {})
        return real(learner, task, loss, split, window)

    best = Best(patience=2)
    assert [best.update(score) for score in (math.nan, 0.5, math.nan, 0.4)] == [True, True, False, False]
    assert best.is_final
    monkeypatch.setattr(labels, "evaluate", evaluate)
    watched = Watched()
    run = train(tmp_path, updates=50 if patience else 4, eval_every=1, patience=patience, network=watched.network)
    tested = ("best", 2) if patience else ("latest", 4)
    assert run.summary["updates"] == 4 and (run.summary["tested"], run.summary["tested_update"]) == tested
    assert load_checkpoint(run.folder.checkpoint("best"), NET(12, 3))["update"] == 2
    assert equal(weights(run.folder, "best"), watched.net.state_dict()) is bool(patience)


def test_the_best_network_has_the_least_of_a_metric_that_is_an_error(tmp_path, monkeypatch):
    class Errors(Patterns):
        metrics = ("mean_error",)

        def score(self, output, batch):
            return {"mean_error": 1 - super().score(output, batch)["accuracy"]}

    script, real = iter([0.5, 0.2, 0.9]), labels.evaluate

    def evaluate(learner, task, loss, split, window):
        if split == "validation":
            return Evaluation({"loss": 1.0, "mean_error": next(script)}, {})
        return real(learner, task, loss, split, window)

    monkeypatch.setattr(labels, "evaluate", evaluate)
    run = train(tmp_path, task=Errors(**PATTERNS), updates=3, eval_every=1)
    assert load_checkpoint(run.folder.checkpoint("best"), NET(12, 3))["update"] == 2


def test_of_equal_scores_the_one_with_less_loss_is_best():
    best = Best(patience=4)
    assert [best.update(0.9, loss) for loss in (0.5, 0.6, 0.4, 0.4)] == [True, False, True, False]
    assert not best.is_final and not best.update(0.9) and best.is_final
    earlier = Best(patience=None)
    earlier.load_state_dict({"score": 0.9, "waited": 1})  # of a checkpoint that holds no loss
    assert not earlier.update(0.9, 0.1) and earlier.waited == 2 and earlier.update(0.95, 0.3)


def test_a_silent_start_of_a_sequence_does_not_count_as_a_silent_network(tmp_path):
    clicks = PoissonClicks(duration=[0.1, 0.5], validation_trials=0, test_trials=3, batch_size=2)
    watched = Watched()
    assert train(tmp_path, task=clicks, updates=6, learn_every=1, log_every=1, rule=watched.rule).status == "completed"
    assert {window for steps, window in watched.parts if steps > 1} == {clicks.readout_window}


def test_the_summary_has_the_mean_decay_of_each_layer_and_the_chance_accuracy():
    net = Sequential(LIF(4, 3, decay=0.5, trainable=["weight"]), LI(3, 2, decay=0.9), LIS(2, 2, decay=0.99))
    found = {"decay_1": 0.9, "time_constant_1": 0.0949122, "decay_2": 0.99, "time_constant_2": 0.994992}
    assert decays(net, dt=0.01) == pytest.approx(found, rel=1e-4)
    free = LI(2, 3, decay=[0.2, 0.4, 0.9], trace_decay=[0.3, 0.5], trainable=["decay", "trace_decay"])
    assert decays(Sequential(free), None) == pytest.approx({"decay_0": 0.5, "trace_decay_0": 0.4})
    trials = {"target": torch.tensor([2, 0, 2, 1]), "prediction": torch.zeros(4), "accuracy": torch.zeros(4)}
    assert chance_level(trials) == {"chance_accuracy": 0.5} and chance_level({"accuracy": torch.ones(3)}) == {}


def test_a_first_signal_ends_the_run_after_the_update_and_a_second_one_at_once(tmp_path):
    def listen(event, values):
        if event == "progress" and values["done"] == 3:
            for one in signals:
                signal.raise_signal(one)

    before, signals = signal.getsignal(signal.SIGTERM), [signal.SIGTERM]
    run = train(tmp_path, updates=1000, log_every=1, eval_every=1000, listener=listen)
    assert signal.getsignal(signal.SIGTERM) is before
    assert facts(run)["status"] == run.status == "interrupted" and run.summary["updates"] == 3
    assert load_checkpoint(run.folder.checkpoint("latest"), NET(12, 3))["update"] == 3
    assert {row["split"] for row in run.folder.records()} == {"train"}  # going on will give what would have come
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGINT]
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, name="again", updates=1000, log_every=1, listener=listen)
    found = RunFolder(tmp_path / "again")
    assert (found.facts()["status"], found.facts()["error"], len(found.records())) == ("interrupted", None, 2)
    assert not (tmp_path / "again" / "error.txt").exists()
