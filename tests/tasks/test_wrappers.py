"""A world that changes: when, how, and that nothing tells of it."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracetorch.tasks import MNIST, Blocks, Patterns, PoissonClicks, Reversal, RewardedTask
from tracetorch.tasks.wrappers import ContextSchedule


def digits(**changes):
    return MNIST(**{"batch_size": 10, "steps": 3} | changes)


def clicks(batch=4):
    return PoissonClicks(duration=[0.1], delay=0.0, neurons_per_channel=1, batch_size=batch, test_trials=20)


# ── when ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(every=st.integers(1, 300), jitter=st.floats(0, 0.99), seed=st.integers(0, 99), number=st.integers(0, 3000))
def test_phases_follow_each_other_and_cover_all_moments(every, jitter, seed, number):
    schedule = ContextSchedule(every, jitter, seed)
    context = schedule.context(number)
    assert schedule.start(context) <= number < schedule.start(context + 1) or every * (1 - jitter) < 1
    assert abs(schedule.start(context) - context * every) <= jitter * every / 2 + 1
    switches = schedule.switches(number)
    assert len(switches) == context and switches == sorted(switches)
    assert switches == [schedule.start(each) for each in range(1, context + 1)]


def test_jitter_makes_phases_of_different_lengths_and_none_makes_them_equal():
    moments = ContextSchedule(100, jitter=0.5, seed=3).switches(5000)
    lengths = {after - before for before, after in itertools.pairwise(moments)}
    assert len(lengths) > 20 and min(lengths) >= 50 and max(lengths) <= 150
    assert moments != ContextSchedule(100, jitter=0.5, seed=4).switches(5000)
    assert ContextSchedule(100, jitter=0.0).switches(350) == [100, 200, 300]


@pytest.mark.parametrize(
    ("given_", "phrase"),
    [
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"every": 5, "jitter": 1.0}, "jitter must be at least 0 and below 1, got 1"),
        ({"every": 5, "jitter": float("nan")}, "jitter must be at least 0 and below 1, got nan"),
    ],
    ids=str,
)
def test_values_that_make_no_schedule_are_refused(given_, phrase):
    with pytest.raises(ValueError, match=phrase):
        ContextSchedule(**given_)


# ── what the actions mean ───────────────────────────────────────────────────────────────────────────────────────────


def meanings(environment, task, acts):
    """By how much the right action lies off the label, at each act."""
    found = []
    for number in range(acts):
        target = task.train_batch(number).target
        off = number % environment.output_size  # try one after another, so that what is rewarded is found without help
        reward = environment.act((target + off) % environment.output_size).reward
        assert len(reward.unique()) == 1  # all environments switch at once
        found.append((off, bool(reward[0])))
    return found


def test_left_and_right_swap_at_each_switch_and_nothing_that_is_seen_tells_of_it():
    environment, task = Reversal(RewardedTask(clicks()), every=6, jitter=0.5), clicks()
    contexts = [environment.schedule.context(number) for number in range(40)]
    for number, context in enumerate(contexts):
        batch = task.train_batch(number)
        assert torch.equal(environment.observe().dense(), batch.xs.dense())
        right = batch.target if context % 2 == 0 else 1 - batch.target
        assert environment.act(right).reward.tolist() == [1.0] * 4
    assert environment.switches == [
        n for n in range(1, 41) if environment.schedule.context(n) > environment.schedule.context(n - 1)
    ]
    assert len(environment.switches) >= 5


def test_of_many_actions_every_one_changes_its_meaning_at_each_switch():
    environment, task = Reversal(RewardedTask(digits()), every=20, jitter=0.0), digits()
    found, offs = meanings(environment, task, 200), []
    for context in range(10):
        right = {off for off, rewarded in found[20 * context : 20 * context + 20] if rewarded}
        assert len(right) == 1
        offs += right
    assert offs[0] == 0 and all(a != b for a, b in itertools.pairwise(offs)) and len(set(offs)) > 3


def test_a_test_asks_for_what_the_actions_mean_at_present():
    environment = Reversal(RewardedTask(clicks()), every=3, jitter=0.0)
    target = torch.cat([batch.target for batch in clicks().eval_batches("test")])

    def told(xs, begins):
        return target

    assert environment.test(told)["return"].mean() == 1
    for _ in range(3):
        environment.act(torch.zeros(4, dtype=torch.long))
    assert environment.switches == [3]
    assert environment.test(told)["return"].mean() == 0
    environment.begin()
    assert environment.switches == [] and environment.test(told)["return"].mean() == 1


def test_what_cannot_switch_is_refused():
    with pytest.raises(
        ValueError, match="environment must answer with rewards, got MNIST; wrap a task in RewardedTask"
    ):
        Reversal(digits())
    single = RewardedTask(digits())
    single.output_size = 1
    with pytest.raises(ValueError, match="a switch needs at least two actions"):
        Reversal(single)


# ── what is shown ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_block_shows_its_classes_alone_and_a_round_shows_all_of_them_once():
    blocks = Blocks(digits(), classes=3, every=2, jitter=0.0)
    for around in range(3):
        shown = [blocks.shown(8 * around + 2 * at) for at in range(4)]
        assert sorted(name for each in shown for name in each) == list(range(10))
        assert [len(each) for each in shown] == [3, 3, 3, 1]
    for number in range(16):
        batch = blocks.train_batch(number)
        assert set(batch.target.tolist()) <= set(blocks.shown(number)) == set(blocks.shown(number - number % 2))
        assert batch.xs.shape == (10, 784)
    assert blocks.shown(0) != blocks.shown(8) or blocks.shown(2) != blocks.shown(10)
    assert blocks.switches(7) == [2, 4, 6]


def test_the_trials_of_a_block_are_those_of_the_task():
    blocks, task = Blocks(digits(batch_size=5), classes=2, every=3), digits(batch_size=5)
    batch, dense = blocks.train_batch(4), blocks.train_batch(4).xs.dense()
    originals = [task.train_batch(number) for number in range(task.batches_per_pass)]
    where = {int(name): (each, at) for each in originals for at, name in enumerate(each.conditions["digit"])}
    for row, name in enumerate(batch.conditions["digit"].tolist()):
        original, at = where[name]
        assert int(original.target[at]) == int(batch.target[row])
        assert torch.equal(original.xs.dense()[:, at], dense[:, row])
    assert len(set(batch.conditions["digit"].tolist())) == 5


def test_a_trial_is_hardly_ever_shown_in_two_batches_that_follow_each_other():
    blocks = Blocks(digits(batch_size=1), classes=2, every=50)
    shown = [int(blocks.train_batch(number).conditions["digit"]) for number in range(50)]
    assert sum(a == b for a, b in itertools.pairwise(shown)) <= 2


def test_inputs_that_are_no_draws_can_come_in_blocks_too():
    blocks = Blocks(digits(encoding="constant"), classes=1, every=1)
    assert blocks.train_batch(3).xs.dense().shape == (3, 10, 784)


@pytest.mark.parametrize("classes", [0, 10])
def test_a_block_of_no_or_of_all_classes_is_refused(classes):
    with pytest.raises(ValueError, match=f"classes must leave some of the 10 for other blocks, got {classes}"):
        Blocks(digits(), classes=classes)


def test_tasks_without_classes_and_classes_that_never_come_are_told():
    with pytest.raises(ValueError, match="Patterns has no classes"):
        Blocks(Patterns())

    class Zeros(MNIST):
        def train_batch(self, number):
            return super().train_batch(0)._replace(target=torch.zeros(self.batch_size, dtype=torch.long))

    blocks = Blocks(Zeros(batch_size=1, steps=1), classes=5, every=1, jitter=0.0)
    number = next(number for number in range(2) if 0 not in blocks.shown(number))
    with pytest.raises(ValueError, match="Zeros shows none of the classes"):
        blocks.train_batch(number)
