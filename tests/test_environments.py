"""Every task with rewards: what `tasks.environment.Environment` promises, a new one must keep."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from tests.common import each
from tests.common_environments import ENVIRONMENTS
from tracetorch.tasks.task import SPLITS

ACTS = 40


def actions(environment, number, seed=0):
    """Actions for all environments, drawn from nothing but these numbers."""
    generator = torch.Generator().manual_seed(1000 * seed + number)
    return torch.randint(environment.output_size, (environment.num_envs,), generator=generator)


def played(environment, acts=ACTS, first=0, seed=0):
    """All that an environment gives out in so many acts, as one flat list of tensors."""
    came = []
    for number in range(first, first + acts):
        came.append(environment.observe().dense())
        outcome = environment.act(actions(environment, number, seed))
        came += [*outcome[:3], torch.empty(0) if outcome.final is None else outcome.final.dense()]
    return came


def same(one, other):
    return len(one) == len(other) and all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )


def at_random(seed=0):
    """Who acts at random, in the same way every time."""
    generator = torch.Generator().manual_seed(seed)
    return lambda xs, begins: torch.randint(2, (xs.shape[0],), generator=generator)


@each(ENVIRONMENTS)
def test_observations_and_outcomes_have_the_shapes_that_it_says(row):
    environment = row.make()
    shape = (environment.steps, environment.num_envs, environment.input_size)
    for number in range(ACTS):
        xs = environment.observe()
        assert xs.steps == environment.steps and xs.shape == shape[1:]
        dense = xs.dense()
        assert dense.shape == shape and dense.dtype == torch.float32 and bool(torch.isfinite(dense).all())
        outcome = environment.act(actions(environment, number))
        assert outcome.reward.dtype == torch.float32
        assert outcome.terminated.dtype == outcome.truncated.dtype == torch.bool
        assert all(value.shape == (environment.num_envs,) for value in outcome[:3])
        assert not bool((outcome.terminated & outcome.truncated).any())
        assert (outcome.final is not None) == bool(outcome.truncated.any())
        assert outcome.final is None or outcome.final.dense().shape == shape
    assert environment.batch_size == environment.num_envs
    assert environment.readout_window is None or 1 <= environment.readout_window <= environment.steps


@each(ENVIRONMENTS)
def test_an_observation_is_the_same_however_often_and_however_it_is_read(row):
    environment = row.make()
    environment.act(actions(environment, 0))
    dense = environment.observe().dense()
    assert torch.equal(environment.observe().dense(), dense)
    assert torch.equal(torch.cat(list(environment.observe().chunks(2))), dense)


@each(ENVIRONMENTS)
def test_what_happens_is_a_function_of_the_seed_and_the_actions_alone(row):
    torch.manual_seed(1)
    np.random.seed(1)
    came = played(row.make())
    torch.manual_seed(2)
    np.random.seed(2)
    assert same(came, played(row.make()))
    assert not same(came, played(row.make(seed=1)))
    assert not same(came, played(row.make(), seed=1))


@each(ENVIRONMENTS)
def test_begin_starts_anew_as_after_construction(row):
    environment = row.make()
    came = played(environment)
    environment.begin()
    assert same(came, played(environment))


@each([row for row in ENVIRONMENTS if row.says == "apart"])
def test_what_is_done_in_one_environment_changes_nothing_in_another(row):
    one, other = row.make(), row.make()
    for number in range(ACTS):
        assert torch.equal(one.observe().dense()[:, 1:], other.observe().dense()[:, 1:])
        action = actions(one, number)
        otherwise = torch.cat([(action[:1] + 1) % one.output_size, action[1:]])
        for left, right in zip(one.act(action)[:3], other.act(otherwise)[:3], strict=True):
            assert torch.equal(left[1:], right[1:])


@each(ENVIRONMENTS)
def test_it_goes_on_to_the_bit_from_what_a_checkpoint_holds(row):
    whole, first, second = row.make(), row.make(), row.make()
    played(whole, 23)
    expected = played(whole, ACTS, first=23)
    played(first, 23)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    played(second, 3, seed=7)  # somewhere else
    second.load_state_dict(torch.load(file, weights_only=True))
    assert same(expected, played(second, ACTS, first=23))


@each(ENVIRONMENTS)
def test_the_state_is_not_that_of_another(row):
    with pytest.raises(ValueError, match="state"):
        row.make().load_state_dict({"weights": torch.zeros(3)})


@each(ENVIRONMENTS)
def test_a_test_changes_nothing_in_the_environments_that_are_learnt_from(row):
    environment, alone = row.make(), row.make()
    assert same(played(environment, 10), played(alone, 10))
    environment.test(at_random())
    assert same(played(environment, 10, first=10), played(alone, 10, first=10))


@each(ENVIRONMENTS)
@pytest.mark.parametrize("split", SPLITS)
def test_a_test_gives_a_value_for_each_episode_and_the_same_ones_again(row, split):
    environment = row.make()
    trials = environment.test(at_random(), split)
    assert {"return", *environment.metrics} <= set(trials)
    (rows,) = {len(value) for value in trials.values()}
    assert rows > 0 and all(value.shape == (rows,) for value in trials.values())
    again = row.make().test(at_random(), split)
    assert trials.keys() == again.keys() and all(torch.equal(trials[name], again[name]) for name in trials)
    assert all(isinstance(value, float) and value == value for value in environment.summary(trials).values())
    assert all(isinstance(figure, Figure) for figure in environment.figures(trials).values())


@each(ENVIRONMENTS)
def test_a_test_says_where_episodes_begin(row):
    environment, begun = row.make(), []

    def choose(xs, begins):
        assert begins.dtype == torch.bool and begins.shape == (xs.shape[0],)
        begun.append(begins)
        return torch.zeros(xs.shape[0], dtype=torch.long)

    trials = environment.test(choose)
    assert bool(begun[0].all())
    assert sum(int(begins.sum()) for begins in begun) >= len(trials["return"])
    assert all(len(one) == len(other) or bool(other.all()) for one, other in pairwise(begun))


@each(ENVIRONMENTS)
def test_what_is_tested_on_is_not_what_is_learnt_from(row):
    environment, shown = row.make(), {}

    def choose(split):
        def keep(xs, begins):
            shown.setdefault(split, xs.dense())
            return torch.zeros(xs.shape[0], dtype=torch.long)

        return keep

    for split in SPLITS:
        environment.test(choose(split), split)
    first = [environment.observe().dense(), shown["validation"], shown["test"]]
    rows = min(xs.shape[1] for xs in first)
    if "frozen" not in row.name:  # there, every episode begins in the same corner
        assert not any(torch.equal(a[:, :rows], b[:, :rows]) for a, b in [first[:2], first[1:], first[::2]])


@each(ENVIRONMENTS)
def test_an_unknown_split_is_refused(row):
    with pytest.raises(ValueError, match="held-out data are split into validation and test, got 'train'"):
        row.make().test(at_random(), "train")


@each(ENVIRONMENTS)
@pytest.mark.parametrize("bad", ["float", "bool", "short", "column", "negative", "large"])
def test_actions_that_are_none_are_refused_and_nothing_happens(row, bad):
    environment, alone = row.make(), row.make()
    fine = torch.zeros(environment.num_envs, dtype=torch.long)
    given = {
        "float": fine.float(),
        "bool": fine.bool(),
        "short": fine[1:],
        "column": fine[:, None],
        "negative": fine - 1,
        "large": fine + environment.output_size,
    }
    phrase = "actions are numbered 0 to" if bad in ("negative", "large") else "act takes a whole number for each of the"
    with pytest.raises(ValueError, match=phrase):
        environment.act(given[bad])
    assert same(played(environment, 3), played(alone, 3))


@each(ENVIRONMENTS)
def test_the_example_is_one_observation(row):
    environment = row.make()
    xs, marks = environment.example()
    assert xs.shape == (1, environment.input_size) and xs.dense().shape == (
        environment.steps,
        1,
        environment.input_size,
    )
    assert all(0 <= start < stop <= environment.steps for start, stop in marks.values())
    image = environment.input_image()
    assert image is None or image[0] * image[1] == environment.input_size


@each(ENVIRONMENTS)
def test_moving_to_a_device_changes_nothing(row):
    environment = row.make()
    assert environment.to(torch.device("cpu")) is environment
    assert same(played(environment, 5), played(row.make(), 5))
