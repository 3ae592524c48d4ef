"""A lifetime learns from feedback, learns again after each change, remembers its averages, and can be stopped."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_training import Watched, assert_resumes, facts, stopping
from tests.tiny_world import CRITIC, NET, Lights, reinforce, run_lifetime
from tracetorch import loss, rules
from tracetorch.memory import memory_through
from tracetorch.runs import Run
from tracetorch.tasks import Blocks, Patterns, PoissonClicks
from tracetorch.tasks.wrappers import ContextSchedule
from tracetorch.training import TrainingError
from tracetorch.training.labels import LabelFeedback
from tracetorch.training.life import Life
from tracetorch.training.rewards import RewardAccumulator
from tracetorch.training.setup import Setup
from tracetorch.training.step import FeedbackSchedule


def blocks():
    clicks = PoissonClicks(gamma=[3.0], duration=[0.05], delay=0.0, batch_size=4, test_trials=20)
    return Blocks(clicks, classes=1, every=6)


LABELS = {"task": blocks, "loss": loss.cross_entropy, "network": partial(NET, hidden=[12])}
CASES = {
    "rewards": {},
    "late rewards": {"teach_every": 3.0, "loss": partial(loss.Reflect, decay=0.6)},
    "by synapse": {"teach_every": 2.0, "rule": partial(rules.ThreeFactor, decay=0.5)},
    "stretches": {"teach_every": 2.0, "rule": partial(rules.CoarseBPTT, stretches=2, spacing="log", decay=0.5)},
    "critic": CRITIC | {"task": lambda: Lights(cut=True)},
    "labels": LABELS,
    "late labels": LABELS | {"teach_every": 2.0},
}


def made(case):
    """The parts of a case, with a task of its own."""
    return {name: part() if name == "task" else part for name, part in case.items()}


@pytest.mark.slow
def test_it_recovers_from_each_change_but_not_without_exploration(tmp_path):
    """With `uniform=0` the policy becomes deterministic, and its gradient vanishes; see `loss.EntropyBonus`."""
    run = run_lifetime(tmp_path, updates=750, log_every=50)
    summary, switches = facts(run)["summary"], ContextSchedule(150, 0.2, 0).switches(750)
    assert summary["switches"] == summary["recovered"] == summary["fell"] == len(switches)
    assert 0 < summary["recovery_decisions"] < 80 and summary["forgetting"] > 0.3 and summary["average_50"] > 0.7
    changes = [row for row in run.folder.records() if row["split"] == "switch"]
    assert [(row["switch"], row["at"]) for row in changes] == list(enumerate(switches, 1))
    without_bonus = run_lifetime(
        tmp_path, name="without", loss=partial(loss.Reflect, baseline=0.9, uniform=0.0), updates=450
    )
    assert without_bonus.summary["recovered"] == 0 and without_bonus.summary["average_50"] < 0.65


@pytest.mark.parametrize("case", CASES)
def test_a_stopped_or_killed_life_resumes_to_the_same_end(case, tmp_path):
    how = "signal" if case.startswith("late") else "kill"
    options = {"updates": 17, "log_every": 5, "checkpoint_seconds": 0.0}
    assert_resumes(run_lifetime, tmp_path, lambda: made(CASES[case]), at=7, how=how, **options)


def test_a_run_without_an_end_writes_everything_when_it_is_stopped(tmp_path):
    totals, stop = [], stopping(130, "signal")

    def listen(event, values):
        if event == "progress":
            totals.append(values["total"])
            stop(event, values)

    run = run_lifetime(tmp_path, listener=listen, updates=None, log_every=40, figures=True)
    assert run.status == "interrupted" and facts(run)["summary"]["updates"] == 130 and totals == [None] * 130
    assert [row["update"] for row in run.folder.records()] == [40, 80, 120]
    assert {"lifetime.png", "policy.png"} <= {path.name for path in (run.folder.path / "plots").iterdir()}
    assert torch.load(run.folder.checkpoint("latest"), weights_only=True)["update"] == 130


def test_the_recorded_fields_and_no_reset_after_the_rehearsal(tmp_path):
    watched = Watched()
    run = run_lifetime(tmp_path, rule=watched.rule, updates=6, log_every=3)
    assert (watched.resets, len(watched.parts)) == (2, 1 + 6)  # the rehearsal resets before and after
    rows = run.folder.records()
    assert [(row["split"], row["update"]) for row in rows] == [("train", 3), ("train", 6), ("test", 6)]
    assert set(rows[0]) == {
        "update", "split", "loss", "reward", "steps_per_second", "train_seconds", "steps", "return", "episodes",
        "average_5", "average_50", "switches", "last_switch", "taken_0", "paid_0", "taken_1", "paid_1", "memory_bytes",
    }  # fmt: skip
    assert rows[1]["steps"] == 6 * 4 and rows[0]["taken_0"] + rows[0]["taken_1"] == pytest.approx(1)
    summary = facts(run)["summary"]
    assert summary["tested"] == "latest" and summary["memory_most_bytes"] >= summary["memory_first_bytes"] > 0


@pytest.mark.parametrize("case", ["late rewards", "late labels"])
def test_without_feedback_nothing_is_learnt(case, tmp_path):
    given = made(CASES[case]) | {"teach_every": 1e9, "updates": 8}
    run = run_lifetime(tmp_path, **given)
    assert [row["loss"] for row in run.folder.records() if row["split"] == "train"] == [None]
    torch.manual_seed(0)
    fresh = given.get("network", NET)(given["task"].input_size if "task" in given else 2, 2)
    saved = torch.load(run.folder.checkpoint("latest"), weights_only=True)["net"]
    assert all(torch.equal(saved[name], value) for name, value in fresh.state_dict().items())


def test_the_first_limit_reached_ends_the_run_and_a_task_without_changes_is_allowed(tmp_path):
    assert facts(run_lifetime(tmp_path, name="a", updates=9, steps=20))["summary"]["updates"] == 5
    task = Patterns(patterns=4, inputs=6, outputs=2, steps=5, batch_size=4, repeats=2)
    summary = facts(run_lifetime(tmp_path, name="b", task=task, loss=loss.mse, updates=4, steps=25))["summary"]
    assert (summary["updates"], summary["switches"]) == (4, 0) and "forgetting" not in summary


@pytest.mark.parametrize(("task", "chance"), [(blocks, 0.5), (Patterns, None)])
def test_chance_is_known_for_a_target_that_is_one_class(task, chance, tmp_path):
    run = Run({}, experiment="lights", root=tmp_path, path=tmp_path / "life")
    parts = {"network": NET, "rule": rules.Trace, "loss": loss.mse, "optimizer": torch.optim.Adam}
    setup = Setup(run, feedback="labels", task=task(), seed=0, device="cpu", **parts)
    assert LabelFeedback(setup, FeedbackSchedule(1, 0)).chance_level == chance


class Ending(rules.Trace):
    is_online = False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": rules.BPTT}, "BPTT needs sequences with an end.*rule=trace or rule=three_factor"),
        ({**LABELS, "rule": rules.EProp}, "EProp needs sequences with an end.* choose rule=trace"),
        ({"rule": rules.CoarseBPTT}, "choose rule.spacing=log or rule=trace or rule=three_factor"),
        ({"loss": loss.cross_entropy}, "Reversal gives rewards, not labels: choose loss=reflect"),
        (CRITIC | {"teach_every": 2.0}, "train.teach_every must be 1, got 2"),
        ({**LABELS, "loss": loss.Reflect}, "Blocks gives labels, not rewards: choose loss=cross_entropy"),
        ({"rule": Ending}, "Ending needs sequences with an end"),
        ({"teach_every": 0.5}, "train.teach_every must be at least 1 and finite, got 0.5"),
        ({"averages": (5, 0)}, "of at least 1 decision"),
        ({"updates": 0}, "train.updates must be at least 1, got 0"),
        ({"steps": 0}, "train.steps must be at least 1, got 0"),
        ({"recovered_at": 0.0}, "train.recovered_at must be above 0"),
        ({"updates": None, "schedule": "cosine"}, "lowers the learning rate until the end, and this run has no end"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_lifetime(tmp_path, **made(changes))
    assert not list(tmp_path.iterdir())


def test_a_nan_reward_is_reported_with_its_environment(tmp_path):
    class Broken(Lights):
        def act(self, action):
            outcome = super().act(action)
            return outcome._replace(reward=outcome.reward.index_fill(0, torch.tensor([2]), torch.nan))

    with pytest.raises(TrainingError, match="update 1: the reward of Broken in environment 2 is nan"):
        reinforce(tmp_path, task=Broken())


def life_of(scores, switches, *, averages=(1,), share=0.9, **options):
    """The life, and its records, of these scores of action 0; the task changes after the decisions in `switches`."""
    life = Life(averages, share, 2, **options)
    found = []
    for number, score in enumerate(scores, 1):
        context = sum(number >= switch for switch in switches)
        found.append(life.add(number, torch.tensor([0]), torch.tensor([score]), context))
    return life, [record for record in found if record]


def test_recovery_lasts_from_the_change_until_the_average_reaches_the_level_again():
    life, (record,) = life_of([1.0] * 50 + [0.0] * 10 + [1.0] * 40, [50])
    # after k ones the average of half-life 1 is about 1 − 2^−k: above 0.9 after four
    assert record == {
        "update": 64, "split": "switch", "switch": 1, "at": 50, "before": pytest.approx(1.0),
        "lowest": pytest.approx(0.0, abs=1e-3), "fell": True, "best": pytest.approx(1.0),
        "forgetting": pytest.approx(1.0, abs=1e-3), "recovery_decisions": 14,
    }  # fmt: skip
    assert life.summary() == {
        "switches": 1, "fell": 1, "recovered": 1, "recovery_decisions": 14, "forgetting": record["forgetting"],
        "average_1": pytest.approx(1.0),
    }  # fmt: skip
    _, (record,) = life_of([-1.0] * 20 + [-2.0] * 10 + [-1.05] * 20, [20])
    # the level is −1.1: after k of −1.05 the average is −1.05 − .95·2^−k, at the level after five
    assert record["recovery_decisions"] == 15 and record["forgetting"] == pytest.approx(1.0, abs=0.01)


def test_no_recovery_is_counted_without_a_fall_or_a_rise_back_or_at_chance_level():
    life, (record,) = life_of([1.0] * 60, [20, 40])
    assert (record["fell"], record["recovery_decisions"], record["forgetting"]) == (False, None, 0.0)
    assert life.summary() == {"switches": 2, "fell": 0, "recovered": 0, "average_1": 1.0}
    assert not any(record["fell"] for record in life_of([1.0] * 60, [20, 40], share=1.0)[1])  # it stays at the level
    _, records = life_of([1.0] * 20 + [0.0, 1.0] * 20 + [0.0] * 5, [20, 40, 60])
    # the average stays at or below 0.75 after the first change, under the level of 0.9
    assert [record["recovery_decisions"] for record in records] == [None, None]
    scores = (torch.rand(4000, generator=torch.Generator().manual_seed(0)) < 0.5).float().tolist()  # guesses
    life, _ = life_of(scores, range(100, 4000, 100), averages=(50,), chance_level=0.5)
    assert life.summary()["switches"] == 39 and life.summary()["recovered"] == life.summary()["fell"] == 0
    without_chance_level, _ = life_of(scores, range(100, 4000, 100), averages=(50,))
    assert without_chance_level.summary()["recovered"] > 3
    # three standard errors above chance: 0.5 + 3·√(¼ · (1 − ½)/(1 + ½) / 100) = 0.587
    for score, recovered in ((0.58, 0), (0.6, 1)):
        life, _ = life_of([score] * 9 + [0.0] * 9 + [score] * 9, [9], chance_level=0.5, num_envs=100)
        assert life.summary()["recovered"] == recovered


def test_actions_are_counted_since_the_last_record_for_at_most_16_actions():
    life = Life([10], 0.9, 3)
    life.add(1, torch.tensor([0, 0, 2, 0]), torch.tensor([1.0, 0.0, 1.0, 0.5]), 0)
    taken = life.take()
    assert [taken[f"taken_{at}"] for at in range(3)] == [0.75, 0.0, 0.25]
    assert (taken["paid_0"], taken["paid_2"]) == (0.5, 1.0) and math.isnan(taken["paid_1"])
    life.add(2, torch.tensor([1]), torch.tensor([0.0]), 0)
    assert life.take()["taken_1"] == 1.0
    for actions, expected in ((16, 16), (17, 0)):
        assert sum(name.startswith("taken") for name in Life([10], 0.9, actions).take()) == expected


@given(every=st.floats(1.0, 20.0), seed=st.integers(0, 99))
def test_feedback_has_the_given_rate_and_depends_on_seed_and_number_only(every, seed):
    is_due = [FeedbackSchedule(every, seed).is_due(number) for number in range(1, 401)]
    assert abs(sum(is_due) - 400 / every) <= 5 * math.sqrt(400 / every * (1 - 1 / every)) + 1e-9
    same, other = FeedbackSchedule(every, seed), FeedbackSchedule(every, seed + 1)
    assert is_due[60:90] == [same.is_due(number) for number in range(61, 91)]
    assert every < 2 or is_due != [other.is_due(number) for number in range(1, 401)]


def test_the_accumulator_returns_the_mean_reward_once():
    accumulator, other = RewardAccumulator(2), RewardAccumulator(2)
    for reward in ([1.0, 0.0], [0.0, 0.0]):
        accumulator.add(torch.tensor(reward))
    other.load_state_dict(accumulator.state_dict())
    assert accumulator.take().tolist() == [0.5, 0.0]
    accumulator.add(torch.tensor([3.0, 1.0]))
    assert accumulator.take().tolist() == [3.0, 1.0] and other.take().tolist() == [0.5, 0.0]


def test_memory_through_gives_first_last_and_largest_memory():
    records = [{"memory_bytes": 5}, {"update": 1}, {"memory_bytes": None}, {"memory_bytes": 9}, {"memory_bytes": 7}]
    assert memory_through(records) == {"memory_first_bytes": 5, "memory_last_bytes": 7, "memory_most_bytes": 9}
    assert memory_through([{"update": 1}]) == {}
