"""Wrappers of tasks: rewards instead of labels, classes in blocks, and actions that change their meaning."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracetorch.tasks import MNIST, Blocks, Dataset, Patterns, PoissonClicks, Reversal, RewardedTask
from tracetorch.tasks.wrappers import ContextSchedule


def digits(**changes):
    return MNIST(**{"batch_size": 10, "steps": 3} | changes)


def clicks(batch=4):
    return PoissonClicks(duration=[0.1], delay=0.0, neurons_per_channel=1, batch_size=batch, test_trials=20)


def test_a_switching_environment_checks_actions_in_the_test_and_says_that_episodes_began_again():
    reversal = Reversal(RewardedTask(clicks()), every=3)
    with pytest.raises(ValueError, match="action"):
        reversal.test(lambda xs, begins: torch.full((len(begins),), 7))
    reversal.environment.restarted = True
    reversal.load_state_dict(reversal.state_dict())
    assert reversal.restarted
    with pytest.raises(TypeError, match="seed"):
        Reversal(RewardedTask(clicks()), every=3, seed=1.5)


@given(every=st.integers(1, 300), jitter=st.floats(0, 0.99), seed=st.integers(0, 99), number=st.integers(0, 3000))
def test_contexts_cover_all_decisions_and_jitter_changes_their_lengths(every, jitter, seed, number):
    schedule = ContextSchedule(every, jitter, seed)
    context = schedule.context(number)
    assert schedule.start(context) <= number < schedule.start(context + 1) or every * (1 - jitter) < 1
    assert abs(schedule.start(context) - context * every) <= jitter * every / 2 + 0.5
    switches = schedule.switches(number)
    assert switches == sorted(switches) == [schedule.start(each) for each in range(1, context + 1)]
    assert jitter < 0.5 or every < 100 or number < 3 * every or switches != ContextSchedule(every, 0.0).switches(number)
    assert ContextSchedule(100, jitter=0.0).switches(350) == [100, 200, 300]


def test_left_and_right_swap_at_each_switch_and_observations_do_not_change():
    environment, task = Reversal(RewardedTask(clicks()), every=6, jitter=0.5), clicks()
    contexts = [environment.schedule.context(number) for number in range(41)]
    for number, context in enumerate(contexts[:40]):
        batch = task.train_batch(number)
        assert torch.equal(environment.observe().dense(), batch.xs.dense()) and environment.context == context
        right = batch.target if context % 2 == 0 else 1 - batch.target
        assert environment.act(right).reward.tolist() == [1.0] * 4
    assert environment.switches == [n for n in range(1, 41) if contexts[n] > contexts[n - 1]]
    assert len(environment.switches) >= 5


def test_each_action_changes_its_meaning_at_each_switch():
    environment, task, found = Reversal(RewardedTask(digits()), every=20, jitter=0.0), digits(), []
    for number in range(200):  # the actions of ten trials differ from the label by 0 … 9
        reward = environment.act((task.train_batch(number).target + torch.arange(10)) % 10).reward
        found.append(reward.nonzero()[:, 0].tolist())
    meanings = found[::20]
    assert found == [meaning for meaning in meanings for _ in range(20)] and {len(each) for each in meanings} == {1}
    assert meanings[0] == [0] and all(a != b for a, b in itertools.pairwise(meanings))
    assert len({*itertools.chain(*meanings)}) > 3


def test_a_test_uses_the_present_meaning_of_the_actions_also_from_a_checkpoint():
    original, restored = (Reversal(RewardedTask(clicks()), every=3, jitter=0.0) for _ in range(2))
    target = torch.cat([batch.target for batch in clicks().eval_batches("test")])

    def returns(environment):
        return float(environment.test(lambda xs, begins: target)["return"].mean())

    assert returns(original) == 1
    for _ in range(3):
        original.act(torch.zeros(4, dtype=torch.long))
    assert original.switches == [3] and returns(original) == 0 and returns(restored) == 1
    restored.load_for_test(original.state_dict())
    assert returns(restored) == 0
    nested = Reversal(Reversal(RewardedTask(clicks()), every=3, jitter=0.0), every=99)
    nested.load_for_test({"acts": 0, "environment": original.state_dict()})
    assert returns(nested) == 0
    both = Reversal(Reversal(RewardedTask(clicks()), every=2, jitter=0.0), every=3, jitter=0.0)
    contexts = [both.context]
    for _ in range(6):
        both.act(torch.zeros(4, dtype=torch.long))
        contexts.append(both.context)
    assert contexts == [at // 2 + at // 3 for at in range(7)]  # the sum of both contexts
    original.reset()
    assert original.switches == [] and returns(original) == 1


def test_a_block_has_its_classes_only_and_a_round_has_each_class_once():
    blocks = Blocks(digits(), classes=3, every=2, jitter=0.0)
    for cycle in range(3):
        shown = [blocks.classes_in(8 * cycle + 2 * at) for at in range(4)]
        assert sorted(itertools.chain(*shown)) == list(range(10)) and [len(each) for each in shown] == [3, 3, 3, 1]
    for number in range(16):
        batch = blocks.train_batch(number)
        assert (
            set(batch.target.tolist()) <= set(blocks.classes_in(number)) == set(blocks.classes_in(number - number % 2))
        )
    assert blocks.classes_in(0) != blocks.classes_in(8) or blocks.classes_in(2) != blocks.classes_in(10)
    assert blocks.switches(7) == [2, 4, 6] and [blocks.context(number) for number in (1, 5)] == [0, 2]


@pytest.mark.parametrize("encoding", ["poisson", "constant"])
def test_the_trials_of_a_block_are_those_of_the_task(encoding):
    inner, task = (digits(batch_size=5, encoding=encoding) for _ in range(2))
    batch = Blocks(inner, classes=2, every=3).train_batch(4)
    digit_ids, dense = batch.conditions["digit"].tolist(), batch.xs.dense()
    originals = [task.train_batch(number) for number in range(task.batches_per_pass)]
    place_of = {int(digit): (each, at) for each in originals for at, digit in enumerate(each.conditions["digit"])}
    for row, (original, at) in enumerate(place_of[digit] for digit in digit_ids):
        assert int(original.target[at]) == int(batch.target[row])
        assert torch.equal(original.xs.dense()[:, at], dense[:, row])
    assert len(set(digit_ids)) == 5


def test_consecutive_batches_of_a_block_rarely_share_a_trial():
    blocks = Blocks(digits(batch_size=1), classes=2, every=50)
    shown = [int(blocks.train_batch(number).conditions["digit"]) for number in range(50)]
    assert sum(a == b for a, b in itertools.pairwise(shown)) <= 2


def test_the_reward_is_1_for_the_right_choice_and_a_test_has_each_held_out_trial_once():
    task = PoissonClicks(duration=[0.2], validation_trials=0, test_trials=700, batch_size=60)
    environment, shift = RewardedTask(task), torch.arange(60) % 2
    for number in range(5):
        outcome = environment.act((task.train_batch(number).target + shift) % 2)
        assert torch.equal(outcome.reward, 1.0 - shift)
        assert bool(outcome.terminated.all()) and not bool(outcome.truncated.any()) and outcome.final is None
    assert environment.state_dict() == {"number": 5}  # the number of the batch, without its labels
    targets = [batch.target for batch in task.eval_batches("test")]
    shown = iter(targets)

    def half_right(xs, begins):
        target = next(shown)
        assert bool(begins.all()) and len(begins) == xs.shape[0] == len(target)
        return (target + torch.arange(len(target))) % 2

    trials = environment.test(half_right)
    assert torch.equal(trials["target"], torch.cat(targets))
    assert trials["return"].tolist() == trials["accuracy"].tolist() == [1.0, 0.0] * 350
    assert environment.summary(trials) == task.summary(trials) and environment.test(half_right, "validation") == {}
    assert set(environment.figures(trials)) == {"psychometric", "accuracy_map"}
    assert environment.example()[1] == task.example()[1]
    assert (environment.readout_window, environment.output_names, environment.dt) == (10, ("left", "right"), 0.01)
    assert (environment.actions_per_pass, RewardedTask(digits()).actions_per_pass) == (None, 100)


def test_a_rewarded_task_moves_to_a_device_with_its_present_batch():
    environment = RewardedTask(clicks()).to(torch.device("meta"))
    assert environment.observe().dense().device.type == "meta"


@pytest.mark.parametrize("wrap", [lambda task: Blocks(task, classes=1), RewardedTask])
def test_a_test_uses_the_scale_of_the_training_data(wrap):
    def task_of(factor):
        items = [(factor * torch.tensor([at + 1.0, -at]), at % 2) for at in range(16)]
        return wrap(Dataset(items, validation=0, test=0.25))

    trained, other = task_of(1.0), task_of(10.0)
    other.load_for_test(trained.state_dict())
    assert torch.equal(torch.from_numpy(other.task.scale.factor), torch.from_numpy(trained.task.scale.factor))


def changed(task, **attributes):
    vars(task).update(attributes)
    return task


def unequal():
    """A task with samples of two and three steps."""
    return Dataset([(torch.ones(2 + at // 2 % 2, 1), at % 2) for at in range(16)], validation=0)


NO_DIGIT = digits().train_batch(0)._replace(target=torch.full((10,), -1))


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: Reversal(digits()), "must give rewards, got MNIST; wrap a task in RewardedTask"),
        (lambda: Reversal(changed(RewardedTask(digits()), output_size=1)), "a switch needs at least two actions to"),
        (lambda: Blocks(digits(), classes=0), "classes must leave some of the 10 for other blocks, got 0"),
        (lambda: Blocks(digits(), classes=10), "classes must leave some of the 10 for other blocks, got 10"),
        (lambda: Blocks(Patterns()), "Patterns has no classes: blocks need one correct class in each trial"),
        (
            lambda: Blocks(changed(digits(), train_batch=lambda _: NO_DIGIT)).train_batch(1),
            r"MNIST shows too few of the classes \[\d, \d\] in 5000 batches",
        ),
        (lambda: RewardedTask(Patterns()), "Patterns has targets that are not a single class; a reward needs"),
        (lambda: RewardedTask(RewardedTask(digits())), "must be a task with labels, such as MNIST, got RewardedTask"),
        (lambda: RewardedTask(3), "must be a task with labels, such as MNIST, got int"),
        (lambda: RewardedTask(unequal()), "Dataset has samples of different lengths, or targets at steps; a wrapper"),
        (lambda: Blocks(unequal(), classes=1), "Dataset has samples of different lengths"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(make, phrase):
    with pytest.raises(ValueError, match=phrase):
        make()
