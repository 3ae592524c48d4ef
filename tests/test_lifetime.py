"""A lifetime run learns from feedback, learns again after each reversal, and can be stopped anywhere."""

import json
import signal
from functools import partial

import pytest
import torch

from tests.command_line import tracetorch
from tests.tiny_world import CRITIC, NET, Lights, facts, live
from tracetorch import loss, rules
from tracetorch.runs import RunFolder
from tracetorch.runs.provenance import first_difference
from tracetorch.tasks import Blocks, Patterns, PoissonClicks
from tracetorch.tasks.wrappers import ContextSchedule

LABELS = {
    "task": lambda: Blocks(
        PoissonClicks(gamma=[3.0], duration=[0.05], delay=0.0, batch_size=4, test_trials=20), classes=1, every=6
    ),
    "loss": loss.cross_entropy,
    "network": partial(NET, hidden=[12]),
}
FORMS = {
    "rewards": {},
    "late rewards": {"teach_every": 3.0, "loss": partial(loss.Reflect, decay=0.6)},
    "by synapse": {"teach_every": 2.0, "rule": partial(rules.ThreeFactor, decay=0.5)},
    "critic": CRITIC | {"task": lambda: Lights(cut=True)},
    "labels": LABELS,
    "late labels": LABELS | {"teach_every": 2.0},
}
EACH = pytest.mark.parametrize("form", FORMS, ids=list(FORMS))


class Killed(BaseException):
    """Ends a run as nothing that it expects would."""


def given(form: str) -> dict:
    return {name: part() if name == "task" else part for name, part in FORMS[form].items()}


def rows_of(run):
    return [json.loads(line) for line in (run.folder.path / "metrics.jsonl").read_text().splitlines()]


def test_it_learns_anew_each_time_the_world_has_changed(tmp_path):
    run = live(tmp_path, updates=750, log_every=50)
    summary, switches = facts(run)["summary"], ContextSchedule(150, 0.2, 0).switches(750)
    assert summary["switches"] == len(switches) and summary["recovered"] == len(switches)
    assert summary["fell"] == len(switches) and 0 < summary["recovery_decisions"] < 80 and summary["forgetting"] > 0.3
    assert summary["average_50"] > 0.7
    told = [row for row in rows_of(run) if row["split"] == "switch"]
    assert [row["switch"] for row in told] == list(range(1, len(told) + 1))
    assert [row["at"] for row in told] == switches[: len(told)]


def test_a_policy_that_has_settled_is_what_uniform_is_for(tmp_path):
    """Without it nothing moves a certain policy once the world has changed; see `loss.EntropyBonus`."""
    found = {}
    for uniform in (0.0, 0.1):
        told = partial(loss.Reflect, baseline=0.9, uniform=uniform)
        found[uniform] = facts(live(tmp_path, name=f"{uniform}", loss=told, updates=450))["summary"]
    assert found[0.0]["recovered"] == 0 and found[0.1]["recovered"] >= 2
    assert found[0.0]["average_50"] < 0.65 < 0.8 < found[0.1]["average_50"]


@EACH
@pytest.mark.parametrize("how", ["wish", "kill"])
def test_a_life_that_was_stopped_ends_as_one_that_was_not(form, how, tmp_path):
    def stop(event, values):
        if event == "progress" and values["done"] == 7:
            if how == "kill":
                raise Killed
            signal.raise_signal(signal.SIGINT)

    long = {"updates": 17, "log_every": 5, "checkpoint_seconds": 0.0}
    whole = live(tmp_path, name="whole", **long, **given(form))
    if how == "kill":
        with pytest.raises(Killed):
            live(tmp_path, listener=stop, **long, **given(form))
    else:
        assert live(tmp_path, listener=stop, **long, **given(form)).status == "interrupted"
    live(tmp_path, resume_from=RunFolder(tmp_path / "life"), **long, **given(form))
    assert not first_difference(whole.folder, RunFolder(tmp_path / "life"))
    ends = [torch.load(tmp_path / name / "checkpoints/latest.pt", weights_only=True) for name in ("whole", "life")]
    for part in ("net", "state", "optimizer"):
        assert str(ends[0][part]) == str(ends[1][part])
    assert all(end["parts"].pop("log") for end in ends)  # it knows how long all took
    assert str(ends[0]["parts"]) == str(ends[1]["parts"])


def test_without_an_end_it_lives_until_it_is_stopped_and_then_all_is_written(tmp_path):
    def stop(event, values):
        if event == "progress":
            assert values["total"] is None
            if values["done"] == 130:
                signal.raise_signal(signal.SIGINT)

    run = live(tmp_path, listener=stop, updates=None, log_every=40, figures=True, averages=(5, 50))
    assert run.status == "interrupted" and facts(run)["summary"]["updates"] == 130
    assert [row["update"] for row in rows_of(run)] == [40, 80, 120]
    assert {"lifetime.png", "policy.png"} <= {path.name for path in (run.folder.path / "plots").iterdir()}
    saved = torch.load(run.folder.checkpoint("latest"), weights_only=True)
    assert saved["update"] == 130


def test_neither_states_nor_traces_are_ever_reset(tmp_path):
    seen = []

    class Watched(rules.Trace):
        def reset(self, mask=None):
            seen.append("reset")
            super().reset(mask)

        def forward(self, xs, **kwargs):
            seen.append("forward")
            return super().forward(xs, **kwargs)

    live(tmp_path, rule=Watched, updates=9)
    once = ["reset", "forward", "reset"]  # the rehearsal
    assert seen == [*once, *["forward"] * 9]


@pytest.mark.parametrize("form", ["late rewards", "late labels"])
def test_what_is_not_told_is_not_learnt_from(form, tmp_path):
    """With a moment that hardly ever comes, the network stays as it was made."""
    changes = given(form) | {"teach_every": 1e9, "updates": 8}
    run = live(tmp_path, **changes)
    (row,) = [row for row in rows_of(run) if row["split"] == "train"]
    assert row["loss"] is None
    torch.manual_seed(0)
    made = changes.get("network", NET)(run_input_size(changes), 2)
    saved = torch.load(run.folder.checkpoint("latest"), weights_only=True)["net"]
    assert all(torch.equal(saved[name], value) for name, value in made.state_dict().items())


def run_input_size(changes):
    return changes["task"].input_size if "task" in changes else 2


def test_what_is_recorded(tmp_path):
    run = live(tmp_path, updates=6, log_every=3)
    rows = rows_of(run)
    assert [(row["split"], row["update"]) for row in rows] == [("train", 3), ("train", 6), ("test", 6)]
    assert set(rows[0]) == {
        "update", "split", "loss", "reward", "steps_per_second", "train_seconds", "steps", "return", "episodes",
        "average_5", "average_50", "switches", "last_switch", "taken_0", "paid_0", "taken_1", "paid_1", "memory_bytes",
    }  # fmt: skip
    assert rows[1]["steps"] == 6 * 4 and rows[0]["taken_0"] + rows[0]["taken_1"] == pytest.approx(1)
    summary = facts(run)["summary"]
    assert summary["tested"] == "latest" and summary["memory_most_bytes"] >= summary["memory_first_bytes"] > 0


def test_the_shorter_of_decisions_and_steps_ends_it(tmp_path):
    assert facts(live(tmp_path, name="a", updates=9, steps=20))["summary"]["updates"] == 5
    assert facts(live(tmp_path, name="b", updates=4, steps=20))["summary"]["updates"] == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": rules.BPTT}, "BPTT needs sequences with an end.*rule=trace or rule=three_factor"),
        ({**LABELS, "rule": rules.EProp}, "choose rule=trace"),
        ({**LABELS, "rule": rules.ThreeFactor}, "ThreeFactor learns from rewards, and Blocks gives labels"),
        ({**LABELS, "loss": loss.Reflect}, "Blocks gives labels, not rewards: choose loss=cross_entropy"),
        ({"loss": loss.cross_entropy}, "Reversal gives rewards, not labels: choose loss=reflect"),
        (CRITIC | {"teach_every": 2.0}, "train.teach_every must be 1, got 2"),
        ({"teach_every": 0.5}, "train.teach_every must be at least 1"),
        ({"averages": ()}, "train.averages must be one or more half-lives"),
        ({"averages": (5, 5)}, "all different"),
        ({"recovered_at": 0.0}, "train.recovered_at must be above 0"),
        ({"steps": 0}, "train.steps must be at least 1"),
        ({"updates": None, "schedule": "cosine"}, "lowers the step size until the end, and this run has none"),
        ({"window": 9}, "train.window must lie between 1 and the 4 steps"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(changes, message, tmp_path):
    changes = {name: part() if name == "task" else part for name, part in changes.items()}
    with pytest.raises(ValueError, match=message):
        live(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("task=labelled_blocks", "loss=reflect"),
            "Blocks gives labels, not rewards: choose loss=cross_entropy",
        ),
        (("task=clicks_switching",), "Reversal gives rewards, not labels: choose loss=reflect"),
    ],
)
def test_a_loss_that_does_not_fit_is_one_sentence_on_the_command_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = tracetorch("run", *words, "train=lifetime")
    assert ended.exit_code == 2 and message in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_task_without_changes_has_no_switches(tmp_path):
    task = Patterns(patterns=4, inputs=6, outputs=2, steps=5, batch_size=4, repeats=2)
    summary = facts(live(tmp_path, task=task, loss=loss.mse, updates=5))["summary"]
    assert summary["switches"] == 0 and "forgetting" not in summary
