"""Sweeps: what they consist of, that no job harms another, and that what is left undone can be done."""

import json
from pathlib import Path

import pytest

from tests.command_line import CLICKS, tracetorch
from tracetorch.cli.adapter import compose, composing
from tracetorch.cli.adapter.overrides import expand
from tracetorch.cli.errors import UsageError
from tracetorch.cli.sweep import launchers
from tracetorch.cli.sweep.plan import plan
from tracetorch.runs.folder import state_of

SMALL = (*CLICKS, "train.log_every=1")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def statuses(folder: Path) -> dict[str, str]:
    return {path.name: state_of(path).status for path in sorted(folder.iterdir()) if path.is_dir()}


def sweep(*words):
    return tracetorch("run", "-m", *SMALL, "output.dir=sweep", *words)


def test_every_combination_gets_a_folder_that_says_what_varies(here):
    ended = sweep("seed=0,1", "optimizer.lr=0.01,0.02")
    assert ended.exit_code == 0, ended.output
    assert statuses(here / "sweep") == {
        "000_seed=0,lr=0.01": "completed",
        "001_seed=0,lr=0.02": "completed",
        "002_seed=1,lr=0.01": "completed",
        "003_seed=1,lr=0.02": "completed",
    }
    assert "4 of 4 completed" in ended.stdout and "tracetorch compare sweep" in ended.stdout
    facts = [json.loads((path / "run.json").read_text()) for path in sorted((here / "sweep").glob("0*"))]
    assert [row["seed"] for row in facts] == [0, 0, 1, 1]
    assert facts[0]["group"] == facts[2]["group"] != facts[1]["group"]
    assert {path.name for path in (here / "sweep").iterdir() if path.is_file()} == {"sweep.json", ".lock"}


def test_a_job_is_the_very_run_that_its_overrides_would_give_alone(here):
    assert sweep("seed=1,2").exit_code == 0
    assert tracetorch("run", *SMALL, "seed=2", "output.dir=alone").exit_code == 0
    left, right = ((here / name / "trials.csv").read_text() for name in ("sweep/001_seed=2", "alone"))
    assert left == right


def test_a_folder_of_its_own_below_those_of_its_experiment(here):
    assert tracetorch("run", "-m", *SMALL, "seed=3,4").exit_code == 0
    (found,) = (here / "outputs" / "poisson_clicks" / "sweeps").iterdir()
    assert list(statuses(found)) == ["000_seed=3", "001_seed=4"]


def test_a_job_that_fails_stops_no_other_and_is_told_at_once_and_at_the_end(here):
    ended = sweep("optimizer.lr=0.01,1e30,0.02", "train.updates=6")
    assert ended.exit_code == 3
    assert list(statuses(here / "sweep").values()) == ["completed", "failed", "completed"]
    (failed,) = (here / "sweep").glob("001_*")
    assert (failed / "error.txt").exists()
    lines = ended.stdout.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith(f"{failed.name}  failed: "))
    assert at < next(at for at, line in enumerate(lines) if line.startswith("002_lr=0.02  completed"))
    assert "1 of 3 jobs are not completed; to continue: tracetorch resume sweep" in ended.stderr


def test_a_part_that_refuses_its_values_fails_in_a_folder_of_its_own(here):
    ended = sweep("network.neuron.decay=0.9,1.5")
    assert ended.exit_code == 3
    assert "decay" in (here / "sweep" / "001_decay=1.5" / "error.txt").read_text()
    assert json.loads((here / "sweep" / "001_decay=1.5" / "run.json").read_text())["status"] == "failed"


def test_fail_fast_starts_nothing_more_and_resume_does(here):
    ended = sweep("--fail-fast", "optimizer.lr=1e30,0.01,0.02", "train.updates=6")
    assert ended.exit_code == 3
    assert list(statuses(here / "sweep").values()) == ["failed"]
    ended = tracetorch("resume", "sweep")
    assert ended.exit_code == 3
    assert list(statuses(here / "sweep").values()) == ["failed", "completed", "completed"]


def test_resume_runs_what_is_missing_and_nothing_else(here):
    import shutil

    assert sweep("seed=0,1,2").exit_code == 0
    shutil.rmtree(here / "sweep" / "001_seed=1")
    before = (here / "sweep" / "000_seed=0" / "run.json").stat().st_mtime_ns
    ended = tracetorch("resume", "sweep")
    assert ended.exit_code == 0, ended.output
    assert "2 already completed" in ended.stdout
    assert (here / "sweep" / "000_seed=0" / "run.json").stat().st_mtime_ns == before
    assert set(statuses(here / "sweep").values()) == {"completed"}
    ended = tracetorch("resume", "sweep")
    assert ended.exit_code == 0 and "all 3 jobs of sweep are completed" in ended.stdout


def test_the_plan_is_shown_and_nothing_run(here):
    assert tracetorch("run", *SMALL, "seed=1").exit_code == 0
    (done,) = (here / "outputs" / "poisson_clicks").iterdir()
    ended = tracetorch("show", "-m", *SMALL, "seed=0,1")
    assert ended.exit_code == 0, ended.output
    first, *jobs = ended.stdout.splitlines()
    assert first == f"# poisson_clicks: 2 jobs → {Path('outputs/poisson_clicks/sweeps/<time>-<id>')}"
    assert jobs == ["000_seed=0  to do", f"001_seed=1  done in {done.relative_to(here)}"]
    assert list((here / "outputs" / "poisson_clicks").iterdir()) == [done]


def test_groups_of_the_config_can_be_swept_too(here):
    words = ("task=patterns,poisson_clicks", "train.updates=1", "train.figures=false", "loss=mse", "network=lif_li")
    ended = tracetorch("show", "-m", *words)
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.splitlines()[2:] == ["000_task=patterns        to do", "001_task=poisson_clicks  to do"]
    assert "\n# several: 2 jobs" in ended.stdout


def test_jobs_that_make_the_same_choices_are_composed_once_and_each_is_as_it_would_be_alone(monkeypatch):
    made, original = [], composing._compose
    monkeypatch.setattr(composing, "_compose", lambda *args: made.append(args[0]) or original(*args))
    words = ("experiment=poisson_clicks,mnist_sample", "rule=trace,bptt", "network.hidden=[3],[4,5]", "++task.seed=7")
    jobs = plan([*words, "seed=0,1"]).jobs
    assert len(jobs) == 16 and len(made) == 4
    alone = [compose(job.overrides) for job in jobs]
    assert [(job.config, job.experiment) for job in jobs] == [(one.config, one.experiment) for one in alone]
    with pytest.raises(UsageError, match=r"job 1 of 2 \(task=poisson_clicks task.source=sample\): task.source: "):
        plan(["task=mnist,poisson_clicks", "task.source=sample"])


def test_a_sweep_of_one_job_is_counted_as_one():
    assert "# poisson_clicks: 1 job →" in tracetorch("show", "-m", "seed=3").stdout


JOBLIB = ("seed=0,1", "hydra/launcher=joblib")
SLURM = ("seed=0,1", "hydra/launcher=submitit_slurm")
WRONG = [
    (("seed=0,1", "optimizer.lrr=0.1"), "Did you mean 'optimizer.lr'?"),
    (("optimizer.lr=0.1,fast",), "job 1 of 2 (optimizer.lr=fast): optimizer.lr must be a number"),
    (("optimizer=adam,admaw",), "Did you mean 'adamw'?"),
    (("seed=0,1", "output.dir=a,b"), "output.root and output.dir apply to the whole sweep"),
    (("seed=0,1", "hydra/launcher=jobllib"), "hydra/launcher=jobllib: there is no such"),
    (("seed=0,1", "hydra.sweep.dir=/tmp/x"), "only hydra/launcher and its settings"),
    (("seed=0,1", "hydra/sweeper=basic"), "only hydra/launcher and its settings"),
    (("seed=range(0,0)",), "no jobs"),
    (("seed=range(0,nan)",), "no jobs: seed=range(0,nan): "),
    (("seed=range(0,9,0)",), "no jobs: seed=range(0,9,0): range() arg 3 must not be zero"),
    (("optimizer.lr=range(0,.9,0)",), "no jobs: optimizer.lr=range(0,.9,0): Invalid range values"),
    (("seed=interval(0,1)",), "no jobs: seed=interval(0,1): an interval lists no values; write range("),
    (("task=glob(nothing*)",), "this sweep has no jobs: task=glob(nothing*)"),
    (("seed=0,1", "hydra.launcher.n_jobs=2"), "hydra.launcher.n_jobs=2: the basic launcher"),
    ((*JOBLIB, "hydra.launcher.n_job=2"), "the joblib launcher has no such setting. Did you mean 'n_jobs'?"),
    ((*JOBLIB, "hydra.launcher.n_jobs=two"), "hydra.launcher.n_jobs=two: it must be a whole number"),
    ((*JOBLIB, "hydra.launcher.n_jobs=1,2"), "hydra.launcher.n_jobs=1,2: it must be a whole number"),
    ((*SLURM, "hydra.launcher.setup=module load"), "it must be a list such as ['module load cuda']"),
    (("seed=0,[",), "cannot be read"),
    (("seed=0,",), "a value is missing before or after a comma"),
]


@pytest.mark.parametrize(
    ("typed", "phrase"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_a_wrong_sweep_is_told_before_any_job_begins(here, typed, phrase):
    ended = tracetorch("run", "-m", *typed)
    assert ended.exit_code == 2, ended.output
    assert phrase in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("seed=range(3)", ["0", "1", "2"]),
        ("optimizer.lr=range(0.5,2,0.5)", ["0.5", "1.0", "1.5"]),
        ("network.hidden=[4],[5,6]", ["[4]", "[5,6]"]),
        ("+task.label='a b',null,true", ["'a b'", "null", "True"]),
        ("seed=choice(4,2)", ["4", "2"]),
        ("rule=glob(*bptt)", ["bptt", "tbptt"]),
        ("rule=glob([b*,t*],exclude=tr*)", ["bptt", "tbptt", "three_factor"]),
        ("seed=sort(3,1,2)", ["1", "2", "3"]),
        ("~loss.floor", ["null"]),
    ],
)
def test_the_values_of_a_sweep_in_hydra_s_syntax(typed, values):
    key = typed.partition("=")[0]
    assert expand([typed]) == [[f"{key}={value}"] for value in values]


def test_every_combination_is_one_job_and_of_a_key_given_twice_the_last_line_counts():
    jobs = expand(["seed=7", "rule=trace,bptt", "task.delay=1,2", "seed=8,9"])
    assert len(jobs) == len(set(map(tuple, jobs))) == 8
    assert jobs[:2] == [["seed=8", "rule=trace", "task.delay=1"], ["seed=8", "rule=trace", "task.delay=2"]]


def test_glob_finds_the_choices_of_a_folder_of_one_s_own(here):
    (here / "mine" / "rule").mkdir(parents=True)
    (here / "mine" / "rule" / "own.yaml").write_text("{}\n")
    assert expand(["rule=glob(o*)"], here / "mine") == [["rule=ottt"], ["rule=own"]]


@pytest.mark.parametrize(("launcher", "extra"), [("joblib", "parallel"), ("submitit_local", "slurm")])
def test_a_launcher_that_is_not_installed_is_told_with_its_extra(monkeypatch, launcher, extra):
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    ended = tracetorch("show", "-m", "seed=0,1", f"hydra/launcher={launcher}")
    assert ended.exit_code == 2
    assert f"hydra/launcher={launcher} needs the extra '{extra}': pip install" in ended.stderr


def test_several_values_without_the_option_are_told_what_to_type(here):
    ended = tracetorch("run", "seed=0,1")
    assert ended.exit_code == 2 and "tracetorch run -m seed=0,1" in ended.stderr


def test_a_folder_that_exists_is_not_written_into(here):
    (here / "sweep").mkdir()
    (here / "sweep" / "mine").touch()
    ended = sweep("seed=0,1")
    assert ended.exit_code == 2 and "exists already; name another folder" in ended.stderr
    assert [path.name for path in (here / "sweep").iterdir()] == ["mine"]
    (here / "sweep" / "sweep.json").touch()
    ended = sweep("seed=0,1")
    assert ended.exit_code == 2 and "tracetorch resume sweep" in ended.stderr


def test_links_out_of_a_sweep_are_not_followed(here):
    assert sweep("seed=0,1").exit_code == 0
    victim = here / "victim"
    (here / "sweep" / "001_seed=1").rename(victim)
    facts = json.loads((victim / "run.json").read_text())
    (victim / "run.json").write_text(json.dumps(facts | {"status": "interrupted"}))
    before = {path: path.read_bytes() for path in victim.rglob("*") if path.is_file()}
    for link, target in (("001_seed=1", victim), (".output", victim), ("stop", here / "nowhere")):
        (here / "sweep" / link).symlink_to(target)
        ended = tracetorch("resume", "sweep")
        assert ended.exit_code == 2 and f"{link} is a link that leads out of sweep" in ended.stderr
        (here / "sweep" / link).unlink()
    assert {path: path.read_bytes() for path in victim.rglob("*") if path.is_file()} == before
    assert not (here / "nowhere").exists()


def test_odd_facts_in_a_job_block_no_sweep(here):
    assert sweep("seed=0,1").exit_code == 0
    path = here / "sweep" / "001_seed=1" / "run.json"
    facts = json.loads(path.read_text()) | {"status": "failed", "planned_updates": "a", "resumed": 5, "error": ["x"]}
    path.write_text(json.dumps(facts))
    assert tracetorch("resume", "sweep").exit_code == 0
    assert set(statuses(here / "sweep").values()) == {"completed"}


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        ("{", "sweep.json is broken"),
        ('{"jobs": 3}', "sweep.json is broken"),
        (
            '{"experiment": "x", "typed": [], "settings": [], '
            '"jobs": [{"name": "../../x", "varies": "", "overrides": [], "id": ""}]}',
            "would lie outside",
        ),
    ],
)
def test_a_broken_plan_is_refused(here, content, phrase):
    (here / "sweep").mkdir()
    (here / "sweep" / "sweep.json").write_text(content)
    ended = tracetorch("resume", "sweep")
    assert ended.exit_code == 2 and phrase in ended.stderr


def hostile(here, *, settings=(), overrides=("seed=1",), name="000"):
    content = {"experiment": "x", "typed": [], "settings": list(settings)}
    job = {"name": name, "varies": "", "overrides": list(overrides), "id": ""}
    (here / "sweep").mkdir()
    (here / "sweep" / "sweep.json").write_text(json.dumps(content | {"jobs": [job]}))


@pytest.mark.parametrize(
    ("plan", "phrase"),
    [
        ({"overrides": ["rule._target_=os.system"]}, "'os.system', which is not trusted"),
        ({"overrides": ["+task.x._target_=builtins.eval"]}, "takes no 'x'"),
        ({"overrides": ["network.neuron._target_=builtins.exec"]}, "not trusted"),
        ({"settings": ["hydra/launcher=submitit_slurm", "hydra.launcher.setup=[touch harmed]"]}, "may run commands"),
        ({"settings": ["hydra.launcher._target_=os.system"]}, "may run commands"),
        ({"settings": ["hydra/launcher=mine"]}, "may run commands"),
        ({"settings": ["hydra/sweeper=mine"]}, "may run commands"),
        ({"name": "../../x"}, "would lie outside"),
        ({"name": "/tmp/x"}, "would lie outside"),
    ],
    ids=str,
)
def test_a_plan_from_a_stranger_runs_nothing_of_theirs(here, plan, phrase):
    hostile(here, **plan)
    ended = tracetorch("resume", "sweep")
    assert ended.exit_code == 2, ended.output
    assert phrase in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert [path.name for path in (here / "sweep").iterdir()] == ["sweep.json"] and not (here / "harmed").exists()


def test_what_a_run_is_resumed_with_cannot_be_changed(here):
    assert tracetorch("run", *SMALL, "output.dir=it").exit_code == 0
    ended = tracetorch("resume", "it", "seed=3")
    assert ended.exit_code == 2 and "a run continues with its own config" in ended.stderr


def test_names_of_folders_are_plain_whatever_varies(here):
    (here / "a b").mkdir()
    ended = tracetorch("show", "-m", *SMALL, "task.delay=0.1,0.2", "+experiment=")
    assert ended.exit_code == 2
    from tracetorch.cli.folders import folder_name

    assert folder_name("007", "root=/a b/ü, lr=1") == "007_root=-a-b-ü,lr=1"
    assert len(folder_name("000", "x=" + "é" * 500).encode()) < 120
    assert folder_name("001", "") == "001"


def test_info_says_what_a_sweep_is_and_how_it_stands(here):
    assert tracetorch("run", "-m", "seed=0,1", *CLICKS, "output.dir=it is").exit_code == 0
    shown = tracetorch("info", "it is").stdout
    assert shown.startswith("sweep       poisson_clicks\n") and "\nstatus      completed\n" in shown
    assert "\nto compare  tracetorch compare 'it is'\n" in shown
    (here / "it is" / "001_seed=1" / "run.json").unlink()
    shown = tracetorch("info", "it is").stdout
    assert "\nstatus       not completed\njobs         1 completed, 1 killed\n" in shown
    assert "\nto continue  tracetorch resume 'it is'\n" in shown
