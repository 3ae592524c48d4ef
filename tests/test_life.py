"""What is remembered of a life: averages, changes, recovery; and when something is told."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracetorch.memory import memory_through
from tracetorch.training.life import Life
from tracetorch.training.rewards import RewardAccumulator
from tracetorch.training.step import FeedbackSchedule


def lived(scores, switches, *, averages=(1,), share=0.9, chance_level=None):
    """What a life records of these scores, each of one action 0, changing after these decisions."""
    life = Life(averages, share, 2, chance_level=chance_level)
    found = []
    for number, score in enumerate(scores, 1):
        context = sum(number >= switch for switch in switches)
        found.append(life.add(number, torch.tensor([0]), torch.tensor([score]), context))
    return life, [record for record in found if record]


def test_recovery_takes_from_the_change_until_the_average_is_back():
    scores = [1.0] * 50 + [0.0] * 10 + [1.0] * 40
    life, (record,) = lived(scores, [50])
    # after k ones the average of half-life 1 is about 1 − 2^−k: at .9 after four
    assert record == {
        "update": 64, "split": "switch", "switch": 1, "at": 50, "before": pytest.approx(1.0),
        "lowest": pytest.approx(0.0, abs=1e-3), "fell": True, "best": pytest.approx(1.0),
        "forgetting": pytest.approx(1.0, abs=1e-3), "recovery_decisions": 14,
    }  # fmt: skip
    assert life.summary() == {
        "switches": 1, "fell": 1, "recovered": 1, "recovery_decisions": 14, "forgetting": record["forgetting"],
        "average_1": pytest.approx(1.0),
    }  # fmt: skip


def test_a_change_by_which_nothing_is_lost_is_not_learnt_again():
    life, (record,) = lived([1.0] * 60, [20, 40])
    assert (record["fell"], record["recovery_decisions"], record["forgetting"]) == (False, None, 0.0)
    assert life.summary() == {"switches": 2, "fell": 0, "recovered": 0, "average_1": 1.0}


def test_luck_is_nothing_that_could_be_lost_or_learnt_again():
    """One who guesses is above and below any average of his again and again."""
    scores = (torch.rand(4000, generator=torch.Generator().manual_seed(0)) < 0.5).float().tolist()
    switches = list(range(100, 4000, 100))
    life, _ = lived(scores, switches, averages=(50,), chance_level=0.5)
    assert life.summary()["switches"] == 39 and life.summary()["recovered"] == life.summary()["fell"] == 0
    fooled, _ = lived(scores, switches, averages=(50,))
    assert fooled.summary()["recovered"] > 3


def test_what_has_given_up_does_not_recover():
    """After the first change it is never better than half as good; that it stays so after the second is no recovery."""
    _, records = lived([1.0] * 20 + [0.0, 1.0] * 20 + [0.0] * 5, [20, 40, 60])
    assert [record["recovery_decisions"] for record in records] == [None, None]


def test_rewards_may_be_negative():
    _, (record,) = lived([-1.0] * 20 + [-2.0] * 10 + [-1.05] * 20, [20])
    # the level is −1.1: after k of −1.05 the average is −1.05 − .95·2^−k, at the level after five
    assert record["recovery_decisions"] == 15 and record["forgetting"] == pytest.approx(1.0, abs=0.01)


def test_actions_are_counted_since_the_last_record():
    life = Life([10], 0.9, 3)
    life.add(1, torch.tensor([0, 0, 2, 0]), torch.tensor([1.0, 0.0, 1.0, 0.5]), 0)
    taken = life.take()
    assert [taken[f"taken_{at}"] for at in range(3)] == [0.75, 0.0, 0.25]
    assert (taken["paid_0"], taken["paid_2"]) == (0.5, 1.0) and math.isnan(taken["paid_1"])
    life.add(2, torch.tensor([1]), torch.tensor([0.0]), 0)
    assert life.take()["taken_1"] == 1.0


def test_many_actions_are_not_recorded_one_by_one():
    life = Life([10], 0.9, 100)
    life.add(1, torch.tensor([99]), torch.tensor([1.0]), 0)
    assert not [name for name in life.take() if name.startswith("taken")]


@given(every=st.floats(1.0, 20.0), seed=st.integers(0, 99))
def test_moments_come_as_often_as_was_said(every, seed):
    schedule = FeedbackSchedule(every, seed)
    came = sum(schedule.is_due(number) for number in range(1, 401))
    assert abs(came - 400 / every) <= 5 * math.sqrt(400 / every * (1 - 1 / every)) + 1e-9


def test_moments_are_of_their_seed_and_number_alone():
    first, second, other = ([FeedbackSchedule(3.0, seed).is_due(n) for n in range(1, 60)] for seed in (1, 1, 2))
    assert first == second != other


@pytest.mark.parametrize("every", [0.5, math.inf, math.nan, -1.0])
def test_moments_that_make_no_sense_are_refused(every):
    with pytest.raises(ValueError, match=r"train\.teach_every must be at least 1 and finite"):
        FeedbackSchedule(every, 0)


def test_accumulated_rewards_are_taken_as_a_mean_and_once():
    accumulator = RewardAccumulator(2)
    accumulator.add(torch.tensor([1.0, 0.0]))
    accumulator.add(torch.tensor([0.0, 0.0]))
    other = RewardAccumulator(2)
    other.load_state_dict(accumulator.state_dict())
    assert accumulator.take().tolist() == [0.5, 0.0]
    accumulator.add(torch.tensor([3.0, 1.0]))
    assert accumulator.take().tolist() == [3.0, 1.0] and other.take().tolist() == [0.5, 0.0]


def test_memory_through_a_life():
    records = [{"memory_bytes": 5}, {"update": 1}, {"memory_bytes": None}, {"memory_bytes": 9}, {"memory_bytes": 7}]
    assert memory_through(records) == {"memory_first_bytes": 5, "memory_last_bytes": 7, "memory_most_bytes": 9}
    assert memory_through([{"update": 1}]) == {}
