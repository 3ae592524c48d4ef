"""Every task with rewards keeps what `tasks.environment.Environment` promises."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from tests.common import each
from tests.common_environments import ENVIRONMENTS
from tracetorch.tasks.environment import check_actions
from tracetorch.tasks.task import SPLITS

ACTS = 30


def actions(environment, number, seed=0):
    """Actions for all environments, a function of the seed and the number of the act."""
    generator = torch.Generator().manual_seed(1000 * seed + number)
    return torch.randint(environment.output_size, (environment.num_envs,), generator=generator)


def played(environment, acts=ACTS, first=0, seed=0):
    """Observation, reward, terminated, truncated and final observation of each of `acts` acts."""
    came = []
    for number in range(first, first + acts):
        seen = environment.observe().dense()
        outcome = environment.act(actions(environment, number, seed))
        came.append((seen, *outcome[:3], torch.empty(0) if outcome.final is None else outcome.final.dense()))
    return came


def are_equal(one, other):
    return all(all(map(torch.equal, a, b)) for a, b in zip(one, other, strict=True))


def evaluated(environment, split="test"):
    """The trials of a test with actions at random, always the same ones, and (observation, begins) of each call."""
    generator, calls = torch.Generator().manual_seed(0), []

    def choose(xs, begins):
        calls.append((xs.dense(), begins))
        return torch.randint(2, (xs.shape[0],), generator=generator)

    return environment.test(choose, split), calls


@each(ENVIRONMENTS)
def test_outcomes_are_a_function_of_seed_and_actions_only(row):
    environment, other = row.make(), row.make()
    torch.manual_seed(1)
    np.random.seed(1)
    came, xs = played(environment), environment.observe()
    torch.manual_seed(2)
    np.random.seed(2)
    assert other.to(torch.device("cpu")) is other
    assert are_equal(came, played(other))
    assert torch.equal(torch.cat(list(other.observe().chunks(2))), xs.dense())
    other.reset()
    with pytest.raises(ValueError, match="actions are numbered 0 to"):
        other.act(actions(other, 0) + other.output_size)
    assert are_equal(came, played(other))  # from the beginning; refused actions changed nothing
    assert not are_equal(came, played(row.make(seed=1))) and not are_equal(came, played(row.make(), seed=1))
    shape = (xs.steps, *xs.shape)
    assert shape == (environment.steps, environment.batch_size, environment.input_size)
    for seen, reward, terminated, truncated, final in came:
        assert seen.shape == shape and seen.dtype == torch.float32 and bool(torch.isfinite(seen).all())
        assert reward.shape == terminated.shape == truncated.shape == shape[1:2]
        assert (reward.dtype, terminated.dtype, truncated.dtype) == (torch.float32, torch.bool, torch.bool)
        assert not bool((terminated & truncated).any())
        assert final.shape == (shape if bool(truncated.any()) else (0,))
    one, marks = environment.example()
    assert one.dense().shape == (one.steps, *one.shape) == (shape[0], 1, shape[2])
    assert all(0 <= start < stop <= environment.steps for start, stop in marks.values())
    assert environment.readout_window is None or 1 <= environment.readout_window <= environment.steps
    image = environment.input_image()
    assert image is None or image[0] * image[1] == environment.input_size


@each([row for row in ENVIRONMENTS if row.says == "apart"])
def test_actions_in_one_environment_change_nothing_in_another(row):
    one, other = row.make(), row.make()
    for number in range(ACTS):
        assert torch.equal(one.observe().dense()[:, 1:], other.observe().dense()[:, 1:])
        action = actions(one, number)
        otherwise = torch.cat([(action[:1] + 1) % one.output_size, action[1:]])
        for left, right in zip(one.act(action)[:3], other.act(otherwise)[:3], strict=True):
            assert torch.equal(left[1:], right[1:])


@each(ENVIRONMENTS)
def test_an_environment_continues_from_its_saved_state_to_the_bit(row):
    first, second, file = row.make(), row.make(), io.BytesIO()
    played(first, 23)
    torch.save(first.state_dict(), file)
    expected = played(first, first=23)
    file.seek(0)
    played(second, 3, seed=7)  # somewhere else
    second.load_state_dict(torch.load(file, weights_only=True))
    assert are_equal(expected, played(second, first=23)) and not second.restarted
    with pytest.raises(ValueError, match="state"):
        second.load_state_dict({"weights": torch.zeros(3)})


@each(ENVIRONMENTS)
def test_a_test_is_always_the_same_and_leaves_the_environment_unchanged(row):
    environment, alone = row.make(), row.make()
    assert are_equal(played(environment, 10), played(alone, 10))
    shown = [environment.observe().dense()]
    for split in SPLITS:
        trials, calls = evaluated(environment, split)
        (rows,) = {len(value) for value in trials.values()}
        assert rows > 0 and {"return", *environment.metrics} <= set(trials)
        assert all(value.shape == (rows,) for value in trials.values())
        again = evaluated(environment, split)[0]
        assert trials.keys() == again.keys() and all(torch.equal(trials[name], again[name]) for name in trials)
        assert all(isinstance(value, float) and value == value for value in environment.summary(trials).values())
        observations, begins = zip(*calls, strict=True)
        shown.append(observations[0])
        assert all(b.dtype == torch.bool and b.shape == (xs.shape[1],) for xs, b in calls) and bool(begins[0].all())
        assert sum(int(b.sum()) for b in begins) >= rows
        assert all(len(a) == len(b) or bool(b.all()) for a, b in pairwise(begins))
    assert all(isinstance(figure, Figure) for figure in environment.figures(trials).values())
    assert are_equal(played(environment, 10, first=10), played(alone, 10, first=10))
    rows = min(xs.shape[1] for xs in shown)
    if "frozen" not in row.name:  # there, every episode begins in the same corner
        assert not any(torch.equal(a[:, :rows], b[:, :rows]) for a, b in [shown[:2], shown[1:], shown[::2]])
    with pytest.raises(ValueError, match="held-out data are split into validation and test, got 'train'"):
        evaluated(environment, "train")


def test_invalid_actions_are_refused():
    fine, whole = torch.zeros(4, dtype=torch.long), "a whole number for each of the 4 environments, got "
    for given, phrase in [
        (fine.float(), rf"{whole}float32 of shape \(4,\)"),
        (fine.bool(), f"{whole}bool"),
        (fine[1:], rf"{whole}int64 of shape \(3,\)"),
        (fine[:, None], r"got int64 of shape \(4, 1\)"),
        (fine - 1, "actions are numbered 0 to 2, got -1 to -1"),
        (torch.arange(4), "actions are numbered 0 to 2, got 0 to 3"),
    ]:
        with pytest.raises(ValueError, match=phrase):
            check_actions(given, num_envs=4, actions=3)
