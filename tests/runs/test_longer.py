"""Continuing a run to a new length, and refusing a config.yaml that was edited by hand."""

import re
import shutil
from functools import partial

import pytest
import torch

from tests.command_line import CLICKS, change, facts_in, ran, refused, tracetorch
from tests.tiny_training import facts, stopping, train, weights
from tracetorch.runs import RunFolder


def longer(tmp_path, **changes):
    """Continue the run in tmp_path/run to a new length."""
    return train(tmp_path, resume_from=RunFolder(tmp_path / "run"), new_length=True, **changes)


def assert_equal_weights(one, other):
    left, right = weights(one.folder), weights(other.folder)
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("schedule", ["none", "linear", "cosine"])
def test_a_run_goes_on_with_the_learning_rate_of_a_run_of_the_new_length(tmp_path, schedule):
    def rates(**changes):
        made, found = [], {}

        def optimizer(parameters):
            made.append(torch.optim.Adam(parameters, lr=0.02))
            return made[0]

        def listen(event, values):
            if event == "progress":  # after the step of the schedule
                found[values["done"]] = made[0].param_groups[0]["lr"]

        options = {"schedule": schedule, "optimizer": optimizer, "listener": listen}
        return changes.pop("run_with", train)(tmp_path, **options, **changes), found

    whole, all_rates = rates(name="whole", updates=12)
    rates(updates=5)
    change(tmp_path / "run" / "run.json", summary={"updates": 5, "wall_seconds": 7000.0})
    run, later_rates = rates(run_with=longer, updates=12)
    assert later_rates == {at: pytest.approx(all_rates[at], abs=1e-9) for at in range(6, 13)}
    if schedule == "none":
        assert_equal_weights(run, whole)
    assert run.notes[0].startswith("goes on from update 5 to 12") and (schedule in run.notes[0]) is (schedule != "none")
    assert facts(run)["planned_updates"] == facts(run)["summary"]["updates"] == 12
    assert [one["planned_updates"] for one in facts(run)["earlier_lengths"]] == [5]
    assert facts(run)["earlier_lengths"][0]["summary"]["updates"] == 5
    assert 7000 < facts(run)["summary"]["wall_seconds"] < 8000  # 7000 s of the earlier session are included


def test_a_run_that_patience_ended_or_that_was_interrupted_goes_on(tmp_path):
    options = {"eval_every": 1, "patience": 2, "optimizer": partial(torch.optim.Adam, lr=0.0)}
    assert facts(train(tmp_path, updates=40, **options))["summary"]["updates"] == 3
    assert facts(longer(tmp_path, updates=30, **options))["summary"]["updates"] == 5  # patience restarts
    assert facts(longer(tmp_path, updates=6, **options))["summary"]["updates"] == 6
    shutil.rmtree(tmp_path / "run")
    assert train(tmp_path, updates=40, listener=stopping(3, "signal")).status == "interrupted"
    whole = train(tmp_path, name="whole", updates=8)
    assert longer(tmp_path, updates=8, listener=stopping(5, "signal")).status == "interrupted"
    assert_equal_weights(train(tmp_path, updates=8, resume_from=RunFolder(tmp_path / "run")), whole)


def test_a_length_that_is_over_already_changes_nothing(tmp_path):
    train(tmp_path, updates=4)
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match="has done 4 updates, and the new length is 4: give a longer one"):
        longer(tmp_path, updates=4)
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("r") / "it"
    ran("run", *CLICKS, f"output.dir={folder}")
    return folder


@pytest.fixture
def mine(finished, here):
    """A copy of a finished run, in the current folder."""
    shutil.copytree(finished, here / "it")
    return here / "it"


def test_resume_takes_a_length_and_records_it(mine):
    change(mine / "run.json", status="killed")  # resume ignores a status that no run writes
    ended = ran("resume", "it", "train.updates=3")
    assert "goes on from update 2 to 3" in ended.stdout and facts_in(mine)["summary"]["updates"] == 3
    assert "updates: 3\n" in (mine / "config.yaml").read_text() and facts_in(mine)["config"]["train"]["updates"] == 3
    assert "there is nothing to continue; to train it for longer: tracetorch resume it" in ran("resume", "it").stdout
    ran("eval", "it")


def test_all_jobs_of_a_sweep_go_on_to_a_new_length(here):
    ran("run", "-m", *CLICKS, "seed=0,1", "output.dir=sweep")
    shutil.rmtree(here / "sweep" / "001_seed=1")  # a job that had not started
    failed = tracetorch("resume", "sweep", "train.passes=3")
    assert failed.exit_code == 3 and "0 of 2 completed" in failed.stdout and "never end" in failed.stdout
    assert "2 of 2 completed" in ran("resume", "sweep", "train.updates=4").stdout
    ran("run", *CLICKS, "train.updates=4", "seed=1", "output.dir=whole")
    jobs = [here / "sweep" / name for name in ("000_seed=0", "001_seed=1")]
    assert [facts_in(job)["summary"]["updates"] for job in jobs] == [4, 4]
    assert [one["planned_updates"] for one in facts_in(jobs[0])["earlier_lengths"]] == [2]
    assert facts_in(jobs[1])["summary"]["loss"] == facts_in(here / "whole")["summary"]["loss"]
    for words in ((), ("train.updates=4",)):
        assert "all 2 jobs of sweep are completed" in ran("resume", "sweep", *words).stdout
    assert "has done 4 updates; give a longer length" in refused("resume", "sweep", "train.updates=3")
    assert "only the launcher and the length" in refused("resume", "sweep", "optimizer.lr=1")
    ran("run", "-m", *CLICKS[1:], "train.updates=2,3", "output.dir=lengths")
    assert "differ in their length alone" in refused("resume", "lengths", "train.updates=4")


REFUSED = [
    ("train.updates=2", "has done 2 updates, and the new length is 2: give a longer one"),
    ("train.updates=-1", "must give at least 1 update, got -1"),
    ("train.updates=many", "train.updates must be a whole number or null"),
    ("train.passes=3", "train.passes: the data of PoissonClicks never end; give train.updates"),
    ("train.steps=9", "train.steps: there is no key 'steps'"),
    ("train.patience=3", "has done 2 updates, and the new length is 2"),
    ("optimizer.lr=1", "only its length changes.*to start a new run from its weights: tracetorch run init_from=it"),
    ("train.updates", "'train.updates' sets nothing"),
]


@pytest.mark.parametrize(("typed", "phrase"), REFUSED)
def test_a_wrong_length_is_refused_in_one_sentence(mine, typed, phrase):
    sentence = refused("resume", "it", *typed.split())
    assert re.search(phrase, sentence) and "should not have happened" not in sentence, sentence


def test_a_config_that_was_edited_by_hand_is_refused_by_every_verb_that_reads_the_run(mine):
    path = mine / "config.yaml"
    content = path.read_text()
    for before, after, phrase in [
        ("updates: 2", "updates: 9", "train.updates is 9, .* 2; .*: tracetorch resume it train.updates=9"),
        ("test_trials: 10", "test_trials: 20", "task.test_trials is 20, .*: tracetorch eval it task.test_trials=20"),
        ("lr: 0.002", "lr: 0.5", "optimizer.lr is 0.5, .* start a new run"),
    ]:
        assert before in content, before
        path.write_text(content.replace(before, after))
        for words in (["resume", "it"], ["eval", "it"], ["plot", "it"], ["run", "--from", "it"]):
            assert re.search(f"config.yaml: {phrase}", refused(*words)), words
    path.write_text(content.replace("updates: 2", "updates: 9"))  # a kill as a length is written leaves this, too
    assert "goes on from update 2 to 3" in ran("resume", "it", "train.updates=3").stdout
    # Comments, spaces and the output folder do not change what is trained.
    path.write_text("# mine\n" + path.read_text().replace("root: outputs", "root:   elsewhere"))
    ran("eval", "it")
