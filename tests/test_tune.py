"""Searches from beginning to end: what they leave, what they tell, and how they end."""

import json
import os
import signal
from pathlib import Path

import optuna
import pytest

from tests.command_line import CLICKS, tracetorch
from tests.tiny_training import facts, train
from tracetorch.runs.ending import Interrupt
from tracetorch.runs.folder import state_of

SMALL = (*CLICKS, "train.eval_every=1", "search.pruner=none")


@pytest.fixture(autouse=True)
def there(here):
    return here


def tune(*words, trials=3, study="study", small=SMALL):
    return tracetorch("tune", "search=learning_rate", *small, f"search.trials={trials}", "--study", study, *words)


def statuses(folder: Path) -> list[str]:
    return [state_of(path).status for path in sorted(folder.glob("0*"))]


def records(folder: Path, split: str = "validation") -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == split]


def journal(study: str = "study") -> list[optuna.trial.FrozenTrial]:
    backend = optuna.storages.journal.JournalFileBackend(str(Path(study).resolve() / "study.jsonl"))
    return optuna.load_study(study_name="tune", storage=optuna.storages.JournalStorage(backend)).trials


def states() -> list[str]:
    return [trial.state.name for trial in journal()]


# ── what it leaves and tells ────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_for_each_trial_and_what_came_of_them(there):
    ended = tune()
    assert ended.exit_code == 0, ended.output
    study = there / "study"
    assert statuses(study) == ["completed"] * 3
    assert {path.name for path in study.iterdir() if not path.name.startswith("0")} == {
        ".lock", "study.json", "study.jsonl", "presets", "plots",
    }  # fmt: skip
    assert {path.name for path in (study / "plots").iterdir()} == {"search.png", "search.svg"}
    for path, trial in zip(sorted(study.glob("0*")), journal(), strict=True):
        assert path.name == f"{trial.number:04d}_lr={trial.params['optimizer.lr']:.4g}"
        assert trial.value == records(path)[-1]["accuracy"]
        assert list(trial.intermediate_values) == [1, 2]
        typed = (path / "overrides.yaml").read_text()
        assert f"optimizer.lr={trial.params['optimizer.lr']!r}" in typed and "search" not in typed
        assert not (path / "config.yaml").read_text().count("search")


def test_the_table_has_a_row_for_each_trial_and_the_end_says_what_to_type(there):
    lines = tune().stdout.splitlines()
    assert lines[0] == "poisson_clicks: 3 trials → study"
    assert lines[1].split() == ["trial", "status", "accuracy", "best", "so", "far", "what", "varies"]
    best = max(journal(), key=lambda trial: (trial.value, -trial.number))
    for number, (line, trial) in enumerate(zip(lines[2:5], journal(), strict=True)):
        words = line.split()
        assert words[:3] == [str(number), "completed", f"{trial.value:.4f}"]
        assert words[4] == f"lr={trial.params['optimizer.lr']:.4g}"
    assert float(lines[4].split()[3]) == pytest.approx(best.value, abs=1e-4)
    assert lines[5].startswith(f"best: accuracy {best.value:.4f}, trial {best.number}, lr=")
    assert lines[6] == f"its run: study/{best.number:04d}_lr={best.params['optimizer.lr']:.4g}"
    assert lines[7].endswith("tracetorch run --config-dir study/presets experiment=best seed=1")
    assert lines[8] == "figure: study/plots/search.png"


def test_a_study_has_a_place_of_its_own_below_that_of_its_experiment(there):
    ended = tracetorch("tune", "search=learning_rate", *SMALL, "--trials", "1", "output.root=results")
    assert ended.exit_code == 0, ended.output
    (study,) = (there / "results" / "poisson_clicks" / "studies").iterdir()
    assert statuses(study) == ["completed"]


def test_a_search_over_choices_and_whole_numbers(there):
    space = "search.space={network.hidden: {choices: [[4], [5, 6]]}, optimizer: {choices: [adam, sgd]}}"
    small = [word for word in SMALL if not word.startswith("network.hidden")]
    ended = tune(space, "search.space.train.learn_every={low: 20, high: 40, step: 10}", trials=4, small=small)
    assert ended.exit_code == 0, ended.output
    for path, trial in zip(sorted((there / "study").glob("0*")), journal(), strict=True):
        assert trial.params["network.hidden"] in ("[4]", "[5,6]") and trial.params["optimizer"] in ("adam", "sgd")
        assert type(trial.params["train.learn_every"]) is int
        assert path.name.startswith(f"{trial.number:04d}_hidden={trial.params['network.hidden']},optimizer=")
        import yaml

        config = yaml.safe_load((path / "config.yaml").read_text())
        assert config["network"]["hidden"] == json.loads(trial.params["network.hidden"])
        assert config["optimizer"]["_target_"].lower().endswith(trial.params["optimizer"])


def test_the_same_search_tries_the_same_and_another_seed_another(there):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert tune(f"seed={seed}", trials=2, study=name).exit_code == 0
    tried = [[(trial.params, trial.value) for trial in journal(name)] for name in "abc"]
    assert tried[0] == tried[1]
    assert all(left[0] != right[0] for left, right in zip(tried[0], tried[2], strict=True))


@pytest.mark.slow
def test_what_goes_on_tries_what_it_would_have_tried(there):
    assert tune(trials=12, study="whole").exit_code == 0
    assert tune("--trials", "5", trials=12).exit_code == 0
    ended = tracetorch("tune", "--study", "study")
    assert ended.exit_code == 0 and "12 trials, 5 already started" in ended.stdout
    assert [trial.params for trial in journal()] == [trial.params for trial in journal("whole")]  # 10 are random
    again = tracetorch("tune", "--study", "study")
    assert again.exit_code == 0 and "12 already started" in again.stdout and len(journal()) == 12


# ── the objective ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_search_where_rewards_teach(there):
    parts = ["task.task.validation_trials=10", "task.task.test_trials=10", "task.task.batch_size=4"]
    small = ["experiment=clicks_reward", "train.updates=2", "train.figures=false", "network.hidden=[4]", *parts]
    ended = tracetorch("tune", "search=learning_rate", "search.metric=return", *small, "--trials", "1", "--study", "s")
    assert ended.exit_code == 0, ended.output
    (trial,) = journal("s")
    assert trial.value == records(next((there / "s").glob("0*")))[-1]["return"]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ((), lambda values: values[-1]["accuracy"]),
        (("search.metric=loss", "search.direction=minimize"), lambda values: values[-1]["loss"]),
        (("train.patience=9",), lambda values: max(row["accuracy"] for row in values)),
        (
            ("train.patience=9", "search.metric=loss", "search.direction=minimize"),
            lambda values: min(row["loss"] for row in values),
        ),
    ],
)
def test_the_value_is_that_of_the_validation_records(there, words, chosen):
    ended = tune("train.updates=5", *words, trials=2)
    assert ended.exit_code == 0, ended.output
    for path, trial in zip(sorted((there / "study").glob("0*")), journal(), strict=True):
        assert trial.value == chosen(records(path))
        assert list(trial.intermediate_values.values()) == [
            row["loss" if "search.metric=loss" in words else "accuracy"] for row in records(path)
        ]
    values = [trial.value for trial in journal()]
    best = min(values) if "search.direction=minimize" in words else max(values)
    assert f"{best:.4f}, trial {values.index(best)}" in ended.stdout


# ── trials that come to no end ──────────────────────────────────────────────────────────────────────────────────────


def test_a_trial_that_fails_stops_no_other(there):
    space = "search.space={optimizer.lr: {choices: [0.01, 1e30]}}"
    ended = tune(space, "train.updates=6", trials=6)
    assert ended.exit_code == 0, ended.output
    states = [trial.state.name for trial in journal()]
    assert set(states) == {"COMPLETE", "FAIL"}
    for path, state in zip(sorted((there / "study").glob("0*")), states, strict=True):
        assert (state_of(path).status, (path / "error.txt").exists()) == (
            ("failed", True) if state == "FAIL" else ("completed", False)
        )
    failed = [line for line in ended.stdout.splitlines() if " failed " in line]
    assert len(failed) == states.count("FAIL") and all("lr=1e+30: " in line for line in failed)


def test_a_search_in_which_everything_fails_gives_up(there):
    ended = tune("search.space={optimizer.lr: {choices: [1e30, 1e31]}}", "train.updates=6", trials=9)
    assert ended.exit_code == 1
    assert len(journal()) == 5 and "5 trials in a row failed, and none has completed" in ended.stderr
    assert not (there / "study" / "presets").exists()


def test_a_run_that_cannot_begin_leaves_a_folder_that_says_why(there):
    words = ("search.space={train.window: {choices: [1, 9998, 9999]}}", "train.updates=2")
    ended = tune(*words, trials=4)
    assert ended.exit_code == 0, ended.output
    refused = [path for path in (there / "study").glob("0*") if state_of(path).status == "failed"]
    assert refused and all("train.window must lie between 1 and" in (p / "error.txt").read_text() for p in refused)


def test_a_trial_that_is_worse_than_others_is_ended_early(there, monkeypatch):
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda trial: trial.number == 1)
    ended = tune("train.updates=8", trials=3)
    assert ended.exit_code == 0, ended.output
    assert [trial.state.name for trial in journal()] == ["COMPLETE", "PRUNED", "COMPLETE"]
    _, pruned, _ = sorted((there / "study").glob("0*"))
    told = json.loads((pruned / "run.json").read_text())
    assert (told["status"], told["error"]) == ("interrupted", "pruned at update 2")  # after a quarter
    assert len(records(pruned)) == 2 and not records(pruned, "test")
    assert journal()[1].value == records(pruned)[-1]["accuracy"]
    assert [line.split()[1] for line in ended.stdout.splitlines()[2:5]] == ["completed", "pruned", "completed"]


def test_a_trial_that_is_done_is_not_ended_early(there, monkeypatch):
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda trial: True)
    ended = tune("train.eval_every=8", "train.updates=8", trials=1)
    assert ended.exit_code == 0, ended.output
    assert [trial.state.name for trial in journal()] == ["COMPLETE"]


@pytest.mark.slow
def test_the_median_of_five_trials_decides(there):
    ended = tune("search.pruner=median", "train.updates=20", "optimizer=sgd", "train.eval_every=5", trials=14)
    assert ended.exit_code == 0, ended.output
    found = journal()
    completed = [trial for trial in found if trial.state.name == "COMPLETE"]
    assert {trial.state.name for trial in found[:5]} == {"COMPLETE"}
    for trial in [trial for trial in found if trial.state.name == "PRUNED"]:
        before = [other for other in completed if other.number < trial.number]
        at = trial.last_step
        middle = sorted(other.intermediate_values[at] for other in before)
        assert max(trial.intermediate_values.values()) <= middle[len(middle) // 2]


@pytest.mark.parametrize("answer", [None, "", "it is enough"])
def test_a_listener_may_end_a_run(tmp_path, answer):
    run = train(tmp_path, listener=lambda event, values: answer if event == "record" else "not asked", log_every=1)
    status = "interrupted" if answer else "completed"
    assert (run.status, facts(run)["status"], facts(run)["error"]) == (status, status, answer or None)
    assert run.summary["updates"] == (1 if answer else 4)
    if answer:
        again = train(tmp_path, resume_from=run.folder, log_every=1)
        assert facts(again)["status"] == "completed" and again.summary["updates"] == 4


def test_a_wish_inside_of_another_is_heard_by_both():
    with Interrupt() as outer:
        with Interrupt() as inner:
            os.kill(os.getpid(), signal.SIGINT)
            assert inner.stop and outer.stop
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        with Interrupt() as next_one:
            assert outer.stop and not next_one.stop
    with Interrupt() as alone:
        assert not alone.stop


# ── what info says of it ────────────────────────────────────────────────────────────────────────────────────────────


def test_info_says_what_a_study_is_and_how_it_stands(there):
    assert tune("search.pruner=median", trials=2).exit_code == 0
    shown = dict(line.split(maxsplit=1) for line in tracetorch("info", "study").stdout.splitlines())
    assert shown["study"] == "poisson_clicks" and shown["search"] == "maximize accuracy over optimizer.lr"
    assert (shown["status"], shown["trials"]) == ("completed", "2 completed of 2")
    assert shown["best"].startswith("accuracy 0.") and " in trial " in shown["best"]
    assert shown["to"] == "run it  tracetorch run --config-dir study/presets experiment=best seed=1"
    (there / "study").rename(there / "it's")
    facts_file = there / "it's" / "study.json"
    facts_file.write_text(facts_file.read_text().replace('"trials": 2', '"trials": 9'))
    shown = tracetorch("info", "it's").stdout
    assert "not completed\n" in shown and "2 completed of 9\n" in shown
    assert """to continue  tracetorch tune --study 'it'"'"'s'\n""" in shown
    resumed = tracetorch("resume", "it's")
    assert resumed.exit_code == 2 and """to continue it: tracetorch tune --study 'it'"'"'s'""" in resumed.stderr
