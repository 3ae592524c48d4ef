"""Trials that are rewarded: what is told of them, and what is not."""

import pytest
import torch

from tests.command_line import tracetorch
from tracetorch.tasks import MNIST, Batch, Environment, Patterns, PoissonClicks, RewardedTask


def digits(**changes):
    return MNIST(**{"batch_size": 10, "steps": 3} | changes)


def test_the_reward_is_1_for_the_right_choice_and_0_for_all_others():
    environment, task = RewardedTask(digits()), digits()
    for number in range(5):
        target = task.train_batch(number).target
        shift = torch.arange(10) % 3
        outcome = environment.act((target + shift) % 10)
        assert torch.equal(outcome.reward, (shift == 0).float())
        assert bool(outcome.terminated.all()) and not bool(outcome.truncated.any()) and outcome.final is None


class Relabelled(MNIST):
    """MNIST in which every digit goes by another name."""

    def train_batch(self, number):
        batch = super().train_batch(number)
        return batch._replace(target=(batch.target + 1) % 10)


def test_no_label_leaves_the_task_but_by_the_reward_of_what_was_done():
    one, other = RewardedTask(digits()), RewardedTask(Relabelled(batch_size=10, steps=3))
    for number in range(5):
        assert torch.equal(one.observe().dense(), other.observe().dense())
        assert not hasattr(one.observe(), "target")
        action = (torch.arange(10) + number) % 10
        came, otherwise = one.act(action), other.act((action + 1) % 10)
        assert all(map(torch.equal, came[:3], otherwise[:3]))
    assert set(came._fields) == {"reward", "terminated", "truncated", "final"}
    assert one.state_dict() == {"number": 5}


def test_a_pass_shows_every_digit_once_in_an_order_of_the_seed_and_the_next_begins_after_it():
    environment = RewardedTask(digits(batch_size=100, encoding="constant", steps=1))
    assert environment.actions_per_pass == 10
    passes = []
    for _ in range(2):
        seen = []
        for _ in range(10):
            seen.append(environment.observe().dense()[0])
            environment.act(torch.zeros(100, dtype=torch.long))
        passes.append(torch.cat(seen))
    assert len(torch.unique(passes[0], dim=0)) == 1000
    assert not torch.equal(*passes)
    assert torch.equal(torch.unique(passes[0], dim=0), torch.unique(passes[1], dim=0))


def test_a_test_shows_every_held_out_trial_once_and_keeps_what_the_figures_need():
    environment = RewardedTask(digits())
    labels = torch.cat([batch.target for batch in digits().eval_batches("test")])
    at = iter(labels.split([len(batch.target) for batch in digits().eval_batches("test")]))

    def half_right(xs, begins):
        assert bool(begins.all())
        target = next(at)
        return torch.where(torch.arange(len(target)) % 2 == 0, target, (target + 1) % 10)

    trials = environment.test(half_right)
    assert len(trials["return"]) == 500
    assert torch.equal(trials["target"], labels)
    assert torch.equal(trials["return"], (torch.arange(500) % 2 == 0).float())
    assert torch.equal(trials["return"], trials["accuracy"])
    assert set(environment.figures(trials)) == {"confusion"}


def test_nothing_held_out_gives_no_columns():
    assert RewardedTask(digits()).test(lambda xs, begins: torch.zeros(0), "validation") == {}


def test_the_click_test_from_reward_has_the_ideal_observer_beside_it():
    task = PoissonClicks(duration=[0.2], test_trials=400, batch_size=4)
    environment = RewardedTask(task)
    assert (environment.readout_window, environment.output_names, environment.dt) == (10, ("left", "right"), 0.01)
    clicks = environment.task.neurons_per_channel

    def count(xs, begins):
        dense = xs.dense().sum(dim=0)
        return (dense[:, clicks] > dense[:, 0]).long()

    trials = environment.test(count)
    summary = environment.summary(trials)
    assert set(summary) == {"ideal_accuracy", "of_ideal"}
    assert summary["of_ideal"] == pytest.approx(1.0, abs=0.1)
    assert set(environment.figures(trials)) == {"psychometric", "accuracy_map"}
    assert set(environment.example()[1]) == {"clicks", "delay", "cue"}


def test_a_task_without_one_right_choice_is_refused():
    with pytest.raises(ValueError, match="Patterns has targets that are not a single class; a reward needs"):
        RewardedTask(Patterns())
    with pytest.raises(ValueError, match="task must be a task with labels, such as MNIST, got RewardedTask"):
        RewardedTask(RewardedTask(digits()))
    with pytest.raises(ValueError, match="got int"):
        RewardedTask(3)


def test_rewards_are_not_learnt_from_as_if_they_were_labels(here):
    result = tracetorch("run", "task=clicks_reward", "task.task.batch_size=4")
    assert result.exit_code == 2
    assert "RewardedTask gives rewards, not labels: choose train=reinforcement" in result.stderr
    assert list(here.iterdir()) == []


def test_any_task_with_a_right_choice_can_be_rewarded():
    class Sign(PoissonClicks):
        def train_batch(self, number):
            batch = super().train_batch(number)
            return Batch(batch.xs, 1 - batch.target, {})

    environment: Environment = RewardedTask(Sign(batch_size=4, duration=[0.1]))
    target = PoissonClicks(batch_size=4, duration=[0.1]).train_batch(0).target
    assert environment.act(1 - target).reward.tolist() == [1.0] * 4
