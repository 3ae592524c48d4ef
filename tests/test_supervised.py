"""The supervised time loop: it learns, it repeats itself to the bit, and it keeps what it should."""

import json
from functools import partial

import pytest
import torch
from torch.nn.utils import prune

from tests.tiny_training import NET, Watched, facts, train
from tracetorch import loss as losses
from tracetorch.nn import LI, LIF, Sequential, feedforward
from tracetorch.rules import ThreeFactor
from tracetorch.runs import load_checkpoint, save_checkpoint
from tracetorch.tasks import MNIST, PoissonClicks, RewardedTask
from tracetorch.tasks.evaluate import Evaluation
from tracetorch.training import HealthWatch, TrainingError, labels
from tracetorch.training.setup import network_and_loss, network_of, parameter_groups

THE_CLOCK = ("_seconds", "_per_second")


def kept(run):
    """What metrics.jsonl holds apart from the clock, as text."""
    rows = ({k: v for k, v in row.items() if not k.endswith(THE_CLOCK)} for row in run.folder.records())
    return "\n".join(map(json.dumps, rows))


class NeedsClosure(torch.optim.SGD):
    """An optimizer that calls the loss itself, as LBFGS does."""

    def step(self, closure):
        closure()


# ── learning ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_loss_falls(tmp_path):
    rows = train(tmp_path, updates=60, log_every=10).folder.records()
    learnt = [row["loss"] for row in rows if row["split"] == "train"]
    assert len(learnt) == 6
    assert learnt[-1] < 0.6 * learnt[0]


def test_a_convolution_in_a_run_leaves_its_figures_without_a_warning(tmp_path):
    def network(inputs, outputs):
        convolution = torch.nn.Sequential(torch.nn.Unflatten(1, (1, 3, inputs // 3)), torch.nn.Conv2d(1, 2, 3))
        pooling = torch.nn.Sequential(torch.nn.Unflatten(1, (2, 1, 2)), torch.nn.AvgPool2d((1, 2)), torch.nn.Flatten())
        hidden = LIF(convolution, threshold=0.05), LIF(torch.nn.Sequential(torch.nn.Flatten(), pooling), threshold=0.05)
        return Sequential(*hidden, LI(2, outputs))

    run = train(tmp_path, network=network, figures=True, updates=2)
    assert run.status == "completed" and run.warnings == []
    assert {"raster.png", "parameters.png"} <= {path.name for path in (run.folder.path / "plots").iterdir()}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"schedule": "falling"}, "train.schedule must be one of none, linear, cosine, got 'falling'"),
        ({"precision": "float16"}, "train.precision must be one of float32, bfloat16, got 'float16'"),
        ({"eval_every": "often"}, "train.eval_every must be a whole number, got 'often'"),
        ({"log_every": None}, "train.log_every must be a whole number, got None"),
        ({"updates": 1.5}, r"train.updates must be a whole number, got 1\.5"),
        ({"checkpoint_seconds": None}, "train.checkpoint_seconds must be a number, got None"),
        ({"task": "mnist"}, "task must be a task or an environment, such as .*, got 'mnist'"),
        ({"rule": "trace"}, "rule must be a function of the network .*, got 'trace'"),
        ({"network": NET(12, 3)}, "network must be a function of the numbers of inputs .*, got tracetorch.Sequential"),
        ({"optimizer": "adam"}, "optimizer must be a function of the parameters .*, got 'adam'"),
        ({"loss": "mse"}, "loss must be a function .* such as tracetorch.loss.mse, .*, got 'mse'"),
        ({"loss": torch.nn.functional.mse_loss}, r"a loss gives \(loss, signal\), .*; this one gives torch.Tensor"),
        ({"loss": torch.nn.MSELoss()}, r"a loss gives \(loss, signal\), .*; this one gives torch.Tensor"),
    ],
)
def test_an_option_of_a_wrong_kind_is_refused_from_python_too(tmp_path, option, message):
    with pytest.raises((TypeError, ValueError), match=message):
        train(tmp_path, **option)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("loss", [torch.nn.functional.mse_loss, losses.mse, partial(losses.cross_entropy, floor=0.1)])
def test_a_loss_for_labels_is_refused_where_rewards_are_given(loss):
    with pytest.raises(ValueError, match="gives rewards, not labels: choose loss=reflect or loss=actor_critic"):
        network_and_loss(RewardedTask(PoissonClicks()), NET, loss)


@pytest.mark.parametrize("optimizer", [partial(torch.optim.SGD, lr=1e99), torch.optim.SparseAdam, NeedsClosure])
def test_a_step_that_an_optimizer_cannot_take_ends_with_advice(tmp_path, optimizer):
    with pytest.raises(
        TrainingError, match=r"update 1: the optimizer \w+ cannot take .*; lower optimizer.lr, or choose"
    ):
        train(tmp_path, optimizer=optimizer)


def test_a_signal_that_is_nan_is_not_blamed_on_the_data(tmp_path):
    def broken(output, target):
        return output.sum(), torch.full_like(output, torch.nan)

    with pytest.raises(
        TrainingError, match=r"(raw_decay|weight) of layer 0 .* is no longer finite|gradient of layer 0"
    ):
        train(tmp_path, loss=broken)


def test_the_loss_that_stays_the_same_is_reported_for_a_convolution_too(caplog):
    net = Sequential(LIF(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3))), LI(8, 2))
    net.run(torch.zeros(3, 1, 1, 4, 4), reduce="mean")
    watch = HealthWatch(patience=1)
    watch.compare(net, 0.5, 1)
    assert "layer 0" in caplog.messages[0] and "is silent" in caplog.messages[0]


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tmp_path):
    one, again, other = (train(tmp_path, seed=s, name=n, log_every=1) for s, n in ((5, "a"), (5, "b"), (6, "c")))
    assert kept(one) == kept(again)
    assert kept(one) != kept(other)
    for name in ("accuracy", "loss", "recalled"):
        assert one.summary[name] == again.summary[name]
    assert (one.folder.path / "trials.csv").read_bytes() == (again.folder.path / "trials.csv").read_bytes()


@pytest.mark.parametrize(
    ("learn_every", "update_every", "updates"),
    [(None, None, 1), (3, None, 1), (3, 6, 2), (3, 3, 4), (3, "moment", 4), (None, "moment", 1), (2, 4, 3)],
)
def test_gradients_of_several_learning_moments_make_one_update(tmp_path, learn_every, update_every, updates):
    steps = []

    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            steps.append([parameter.grad.clone() for group in self.param_groups for parameter in group["params"]])
            super().step(closure)

    train(
        tmp_path,
        optimizer=partial(Counting, lr=0.0),
        learn_every=learn_every,
        update_every=update_every,
        updates=1,
    )
    assert len(steps) == updates
    alone = list(steps)
    steps.clear()
    train(tmp_path, name="moments", optimizer=partial(Counting, lr=0.0), learn_every=learn_every, updates=1)
    for update, whole in zip(torch.tensor_split(torch.arange(len(steps)), updates), alone, strict=True):
        for number, gradient in enumerate(whole):
            torch.testing.assert_close(gradient, sum(steps[moment][number] for moment in update))


@pytest.mark.parametrize(
    ("learn_every", "update_every", "phrase"),
    [
        (None, 4, r"learns at the end alone \(train.learn_every=null\)"),
        (3, 4, "learns every 3 steps, .* give a multiple of train.learn_every"),
        (3, 0, "update_every must be at least 1"),
    ],
)
def test_an_update_follows_a_learning_moment(tmp_path, learn_every, update_every, phrase):
    with pytest.raises(ValueError, match=phrase):
        train(tmp_path, learn_every=learn_every, update_every=update_every)


def test_the_learning_moments_of_a_sequence_see_its_consecutive_parts(tmp_path):
    for name, learn_every, parts in (("a", None, [(10, 5)]), ("b", 4, [(4, 4), (4, 4), (2, 2)])):
        watched = Watched()
        train(tmp_path, name=name, updates=3, window=5, learn_every=learn_every, eval_every=99, rule=watched.rule)
        assert watched.taught == 3 * len(parts)
        assert watched.parts[0] == (10, 5)  # the rehearsal, a whole sequence
        assert watched.parts[1 : 1 + len(parts)] == parts
        # the rehearsal, before and after; 3 sequences; 2 batches of the validation, of the test, and after both
        assert watched.resets == 2 + 3 + 2 * 3


def test_the_window_is_the_tasks_unless_it_is_given(tmp_path):
    clicks = PoissonClicks(duration=[0.2], validation_trials=0, test_trials=3, batch_size=3)
    for name, window, expected in (("a", None, clicks.readout_window), ("b", 7, 7)):
        watched = Watched()
        train(tmp_path, name=name, task=clicks, updates=1, window=window, rule=watched.rule)
        assert {seen for _, seen in watched.parts} == {expected}


@pytest.mark.parametrize(("schedule", "last"), [("none", 0.02), ("cosine", 0.0)])
def test_the_step_size_follows_its_schedule(tmp_path, schedule, last):
    watched = Watched()
    train(tmp_path, updates=4, schedule=schedule, learn_every=5, optimizer=watched.optimizer)
    assert watched.stepper.param_groups[0]["lr"] == pytest.approx(last, abs=1e-12)


def test_passes_are_counted_in_batches(tmp_path):
    digits = MNIST(batch_size=100, steps=2)
    run = train(tmp_path, task=digits, loss=losses.cross_entropy_with_logits, updates=None, passes=0.3)
    assert run.summary["updates"] == 3


# ── what is kept ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_records_come_when_they_should_and_the_test_comes_last(tmp_path):
    rows = train(tmp_path, updates=7, log_every=3, eval_every=2).folder.records()
    told = [(row["split"], row["update"]) for row in rows]
    validation = [("validation", update) for update in (2, 4, 6, 7)]
    assert [row for row in told if row[0] == "train"] == [("train", update) for update in (3, 6, 7)]
    assert [row for row in told if row[0] == "validation"] == validation
    assert told[-1] == ("test", 7)


def test_the_summary_is_that_of_the_trials_in_the_table(tmp_path):
    run = train(tmp_path)
    assert set(run.summary) == {
        *("updates", "loss", "accuracy", "recalled", "steps_per_second", "peak_memory_bytes", "wall_seconds", "tested"),
        *("update_seconds", "training_memory_bytes", "decay_0", "decay_1"),
    }
    trials = run.folder.table("trials.csv")
    assert len(trials["accuracy"]) == 8
    assert run.summary["accuracy"] == pytest.approx(sum(trials["accuracy"]) / 8)
    assert facts(run)["summary"] == run.summary
    assert set(facts(run)["timings"]) == {"train_seconds", "evaluate_seconds"}
    assert not (run.folder.path / "plots").exists()


def test_the_last_checkpoint_is_the_network_as_it_ended(tmp_path):
    watched = Watched()
    run = train(tmp_path, network=watched.network)
    torch.manual_seed(99)
    fresh = NET(12, 3)
    assert load_checkpoint(run.folder.checkpoint("latest"), fresh)["update"] == 4
    assert all(map(torch.equal, fresh.state_dict().values(), watched.net.state_dict().values()))


def scripted(monkeypatch, accuracies):
    """Let the evaluations of the validation come out as written."""
    script, real = iter(accuracies), labels.evaluate

    def evaluate(learner, task, loss, split, window):
        if split == "validation":
            return Evaluation({"loss": 1.0, "accuracy": next(script), "recalled": 0.0}, {})
        return real(learner, task, loss, split, window)

    monkeypatch.setattr(labels, "evaluate", evaluate)


def test_patience_stops_and_goes_back_to_the_best(tmp_path, monkeypatch):
    scripted(monkeypatch, [0.2, 0.9, 0.5, 0.9, 1.0])
    watched = Watched()
    run = train(tmp_path, updates=50, eval_every=1, patience=2, network=watched.network)
    assert run.summary["updates"] == 4
    fresh = NET(12, 3)
    assert load_checkpoint(run.folder.checkpoint("best"), fresh)["update"] == 2
    assert all(map(torch.equal, fresh.state_dict().values(), watched.net.state_dict().values()))


def test_without_patience_the_last_network_is_tested_and_the_best_is_kept_beside(tmp_path, monkeypatch):
    scripted(monkeypatch, [0.2, 0.9, 0.5, 0.3])
    watched = Watched()
    run = train(tmp_path, updates=4, eval_every=1, network=watched.network)
    fresh = NET(12, 3)
    assert load_checkpoint(run.folder.checkpoint("best"), fresh)["update"] == 2
    assert not torch.equal(fresh[0].weight, watched.net[0].weight)
    assert run.summary["updates"] == 4


def test_learning_within_a_sequence_does_not_take_its_silent_start_for_death(tmp_path):
    clicks = PoissonClicks(duration=[0.1, 0.5], validation_trials=0, test_trials=3, batch_size=2)
    run = train(tmp_path, task=clicks, updates=6, learn_every=1, log_every=1)
    assert run.status == "completed"


def test_weight_decay_is_for_weights_alone(tmp_path):
    watched = Watched()
    train(tmp_path, updates=1, network=watched.network, optimizer=watched.optimizer)
    weights, others = watched.stepper.param_groups
    assert {id(p) for p in weights["params"]} == {id(layer.weight) for layer in watched.net}
    assert others["weight_decay"] == 0
    assert id(watched.net[0].neuron.raw_threshold) in {id(p) for p in others["params"]}


@pytest.mark.parametrize("norm", ["pruned", "parametrized"])
def test_weights_that_are_computed_from_others_decay_too(norm):
    net = Sequential(LIF(12, 8, bias=True), LIF(torch.nn.Linear(8, 3)))
    for layer in net:
        if norm == "pruned":
            prune.l1_unstructured(layer.connection, "weight", amount=0.5)
        else:
            torch.nn.utils.parametrizations.weight_norm(layer.connection)
    weights, others = parameter_groups(net)
    names = {id(parameter): name.rpartition(".")[2] for name, parameter in net.named_parameters()}
    wanted = {"pruned": {"weight_orig"}, "parametrized": {"original0", "original1"}}[norm]
    assert {names[id(p)] for p in weights["params"]} == wanted
    assert {names[id(p)] for p in others["params"]} == {"bias", "raw_decay", "raw_threshold"}


def test_the_network_of_a_checkpoint_has_its_sizes_whatever_its_connections_are(tmp_path):
    def network(inputs, outputs):
        convolution = torch.nn.Sequential(torch.nn.Unflatten(1, (1, inputs)), torch.nn.Conv1d(1, 2, 3, padding=1))
        readout = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Unflatten(1, (1, 2 * inputs)))
        return Sequential(
            LIF(convolution, threshold=0.05),
            LI(torch.nn.Sequential(readout, torch.nn.Conv1d(1, 1, 2 * inputs - outputs + 1), torch.nn.Flatten())),
        )

    run = train(tmp_path, network=network, updates=2)
    weights = run.folder.checkpoint("latest")
    assert [p.shape for p in network_of(weights, network).parameters()] == [
        p.shape for p in network(12, 3).parameters()
    ]


def test_the_network_of_a_checkpoint_without_states_has_its_sizes_from_its_weights(tmp_path):
    net = NET(12, 3)
    save_checkpoint(tmp_path / "latest.pt", net, torch.optim.Adam(net.parameters()))
    assert network_of(tmp_path / "latest.pt", NET)[0].in_features == 12


def test_a_network_in_which_nothing_can_be_learnt_is_refused(tmp_path):
    frozen = partial(feedforward, hidden=[4], neuron=partial(LIF, trainable=()), readout=partial(LI, trainable=()))
    with pytest.raises(ValueError, match="the network has no trainable parameters"):
        train(tmp_path, network=frozen)
    assert not list(tmp_path.iterdir())


def test_a_rule_that_learns_from_rewards_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ThreeFactor learns from rewards, and Patterns gives labels"):
        train(tmp_path, rule=ThreeFactor)
    assert not list(tmp_path.iterdir())
