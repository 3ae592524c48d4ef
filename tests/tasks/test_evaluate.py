"""Held-out trials and episodes: each trial counts once, and the network does not change."""

from functools import partial

import pytest
import torch

from tests.command_line import tracetorch
from tests.tiny_world import NET
from tracetorch import loss
from tracetorch.rules import Trace
from tracetorch.runs import RunFolder
from tracetorch.tasks import MNIST, Gym, PoissonClicks
from tracetorch.tasks.evaluate import evaluate, record_episode
from tracetorch.training.report import has_long_episodes


def learner(task):
    torch.manual_seed(0)
    return Trace(NET(task.input_size, task.output_size))


def softmax(output):
    return torch.softmax(output, -1)


def test_batches_of_unequal_size_are_averaged_by_trial_and_the_state_is_blank_before_and_after():
    task = MNIST(validation_digits=507, batch_size=10, steps=4)
    rule = learner(task)
    rule.net.run(torch.ones(9, 2, 784))
    found = evaluate(rule, task, loss.cross_entropy, "validation", None)
    assert rule.net[0].state is None and all(parameter.grad is None for parameter in rule.net.parameters())
    outputs, batches = [], list(task.eval_batches("validation"))
    for batch in batches:
        rule.net.reset()
        outputs.append(rule.net.run(batch.xs, reduce="mean").detach())
    output, target = torch.cat(outputs), torch.cat([batch.target for batch in batches])
    assert [len(part) for part in outputs] == [500, 7]
    assert found.means["loss"] == pytest.approx(float(loss.cross_entropy(output, target)[0]), rel=1e-5)
    assert found.means["accuracy"] == pytest.approx(float((output.argmax(dim=-1) == target).double().mean()))
    assert torch.equal(found.trials["target"], target) and torch.equal(found.trials["digit"], torch.arange(507))
    assert evaluate(rule, MNIST(), loss.cross_entropy, "validation", None) is None


def test_the_loss_is_that_of_the_mean_output_in_the_window():
    task, lax = PoissonClicks(duration=[0.2], test_trials=20), partial(loss.cross_entropy, floor=0.5)
    rule = learner(task)
    (batch,) = task.eval_batches("test")
    output = rule.net.run(batch.xs).detach()
    for window, error in ((None, lax), (5, lax), (5, loss.cross_entropy)):
        expected = float(error(output[-(window or task.steps) :].mean(dim=0), batch.target)[0])
        assert evaluate(rule, task, error, "test", window).means["loss"] == pytest.approx(expected, rel=1e-5)


def pole(**changes):
    pytest.importorskip("gymnasium", reason="the extra rl is not installed")
    return Gym(**{"num_envs": 3, "steps": 5, "test_episodes": 6, "validation_episodes": 2} | changes)


def test_a_recording_leaves_network_and_environment_unchanged():
    world = pole()
    net = learner(world).net
    net.run(world.observe())
    before, state = {n: v.clone() for n, v in net.save_state().items()}, str(world.state_dict())
    seen = record_episode(net, world, softmax, 3, decisions=7)
    assert all(torch.equal(value, before[name]) for name, value in net.save_state().items())
    assert str(world.state_dict()) == state
    assert {len(values) for values in (*seen.layers.values(), *seen.membranes)} == {7 * 5}
    assert len(seen.action) == 7 and torch.equal(seen.policy.argmax(-1), seen.action) and not seen.ended
    net.reset()  # the first decision again, from `run`
    inputs = seen.layers["input"][:5, None]
    torch.testing.assert_close(softmax(net.run(inputs, reduce="mean", window=3))[0], seen.policy[0])
    for environment in (world, pole(num_envs=1, test_episodes=1)):  # to the end of the first episode, or the only one
        seen = record_episode(net, environment, softmax, None, decisions=600)
        assert seen.ended and 5 < len(seen.action) < 600


def test_a_run_with_long_episodes_draws_one_and_eval_repeats_its_test(here):
    """`eval` normalizes observations by the statistics of training."""
    pole()
    small = (
        "device=cpu network.hidden=[8] task.num_envs=4 task.steps=4 task.test_episodes=5 task.validation_episodes=2 "
    )
    small += "train.log_every=20 train.eval_every=40 train.updates=80 output.dir=run"
    run = tracetorch("run", "experiment=cartpole", *small.split())
    assert run.exit_code == 0, run.stderr
    plots = here / "run/plots"
    drawn = {path.stem for path in plots.iterdir()}
    assert {"returns", "episode"} <= drawn and RunFolder(here / "run").facts()["summary"]["episodes"] > 0
    for path in plots.iterdir():
        path.unlink()
    assert tracetorch("plot", "run").exit_code == 0 and {path.stem for path in plots.iterdir()} == drawn
    assert tracetorch("eval", "run").exit_code == 0
    (again,) = (here / "run/eval").iterdir()
    assert RunFolder(again).table("trials.csv") == RunFolder(here / "run").table("trials.csv")
    world, state = pole(), torch.load("run/checkpoints/latest.pt", weights_only=True)["parts"]["task"]
    world.load_for_test(state)
    assert str(world.statistics.state_dict()) == str(state["statistics"])


def test_episodes_of_one_decision_are_not_long():
    assert has_long_episodes([{"update": 10, "episodes": 7}], 2)
    assert not has_long_episodes([{"update": 10, "episodes": 20}], 2)
    assert not has_long_episodes([{"update": 10, "episodes": 0}, {"split": "test"}], 2)


def test_the_trial_to_draw_is_the_row_of_that_number():
    task = PoissonClicks(duration=[0.2], test_trials=7)
    task.eval_batch_size = 3
    batches = list(task.eval_batches("test"))
    inputs, targets = torch.cat([xs.dense() for xs, *_ in batches], dim=1), torch.cat([b.target for b in batches])
    for trial in (0, 2, 3, 6):
        example, marks = task.example(trial)
        assert torch.equal(example.xs.dense(), inputs[:, trial : trial + 1]) and "clicks" in marks
        assert torch.equal(example.target, targets[trial : trial + 1])
    for trial in (-1, 7):
        with pytest.raises(ValueError, match="the test has 7 trials, 0 to 6, got trial"):
            task.example(trial)
