"""Sweeps: what they consist of, that no job harms another, and that what is left undone can be done."""

import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.command_line import CLICKS, change, files, ran, refused, tracetorch
from tests.sweeps import statuses
from tracetorch.cli.adapter import compose
from tracetorch.cli.adapter.overrides import expand
from tracetorch.cli.errors import UsageError
from tracetorch.cli.folders import folder_name
from tracetorch.cli.sweep import launchers, launching
from tracetorch.cli.sweep.job import Worker
from tracetorch.cli.sweep.launchers import change_launcher, launcher_of, options_of
from tracetorch.cli.sweep.launching import FOLDER, Queue, launch
from tracetorch.cli.sweep.monitor import SweepMonitor
from tracetorch.cli.sweep.plan import Job, plan
from tracetorch.cli.sweep.stopping import NOW, STOP, ControllerProcess, StopListener, clear_stop, is_stopped
from tracetorch.runs.ending import Interrupt

SMALL = (*CLICKS, "train.log_every=1")


def sweep(*words):
    return tracetorch("run", "-m", *SMALL, "output.dir=sweep", *words)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A completed sweep of four jobs: (its folder, what the command said)."""
    folder = tmp_path_factory.mktemp("finished") / "sweep"
    return folder, tracetorch("run", "-m", *SMALL, f"output.dir={folder}", "seed=0,1", "optimizer.lr=0.01,0.02")


@pytest.fixture
def mine(finished, here):
    """A copy of it that may be spoilt, in the present folder."""
    shutil.copytree(finished[0], here / "a sweep")
    return here / "a sweep"


def test_every_combination_is_a_run_in_a_folder_named_after_what_varies(finished, here):
    folder, ended = finished
    assert ended.exit_code == 0, ended.output
    names = ["000_seed=0,lr=0.01", "001_seed=0,lr=0.02", "002_seed=1,lr=0.01", "003_seed=1,lr=0.02"]
    assert statuses(folder) == dict.fromkeys(names, "completed")
    assert "4 of 4 completed" in ended.stdout and f"tracetorch compare {folder}" in ended.stdout
    facts = [json.loads((folder / name / "run.json").read_text()) for name in names]
    assert [row["seed"] for row in facts] == [0, 0, 1, 1]
    assert facts[0]["group"] == facts[2]["group"] != facts[1]["group"]
    assert {path.name for path in folder.iterdir() if path.is_file()} == {"sweep.json", ".lock"}
    ran("run", *SMALL, "seed=1", "optimizer.lr=0.02", "output.dir=alone")
    assert folder_name("007", "root=/a b/ü, lr=1") == "007_root=-a-b-ü,lr=1" and folder_name("001", "") == "001"
    assert len(folder_name("000", "x=" + "é" * 500).encode()) < 120
    assert (folder / names[3] / "trials.csv").read_text() == (here / "alone" / "trials.csv").read_text()


def test_a_failed_job_does_not_stop_the_others_and_is_reported(here):
    ended = sweep("network.neuron.decay=0.9,1.5,0.8")
    assert ended.exit_code == 3
    assert list(statuses(here / "sweep").values()) == ["completed", "failed", "completed"]
    assert "decay" in (here / "sweep" / "001_decay=1.5" / "error.txt").read_text()
    assert re.search(r"\n001_decay=1\.5  failed: .*decay(.*\n)+?002_decay=0\.8  completed  accuracy", ended.stdout)
    assert "1 of 3 jobs are not completed; to continue: tracetorch resume sweep" in ended.stderr


def test_a_job_is_killed_if_it_is_seen_so_twice_and_the_launcher_no_longer_has_it(tmp_path):
    shown, queued, jobs = io.StringIO(), ["001_"], [Job(name, "", [], "") for name in ("000_", "001_")]
    monitor = SweepMonitor(Console(file=shown), tmp_path, jobs, lambda name: name in queued)
    for job in jobs:
        (tmp_path / job.name).mkdir()
        (tmp_path / job.name / "run.json").write_text('{"status": "running"}')  # which no process has locked
    monitor._poll()
    assert shown.getvalue() == ""
    monitor._poll()
    assert re.findall(r"00\d_ +\w+", shown.getvalue()) == ["000_  killed"]
    queued.clear()
    monitor._poll()
    assert re.findall(r"00\d_ +\w+", shown.getvalue()) == ["000_  killed", "001_  killed"]


def test_fail_fast_starts_no_further_jobs_and_resume_does(here):
    ended = sweep("--fail-fast", "optimizer.lr=1e30,0.01", "train.updates=6")
    assert ended.exit_code == 3
    assert list(statuses(here / "sweep").values()) == ["failed"]
    ended = tracetorch("resume", "sweep")
    assert ended.exit_code == 3
    assert list(statuses(here / "sweep").values()) == ["failed", "completed"]


def test_resume_runs_only_missing_and_broken_jobs(mine):
    shown = tracetorch("info", "a sweep").stdout
    assert shown.startswith("sweep       poisson_clicks\n") and "\nstatus      completed\n" in shown
    assert "\nto compare  tracetorch compare 'a sweep'\n" in shown
    shutil.rmtree(mine / "001_seed=0,lr=0.02")
    odd = {"status": "failed", "planned_updates": "a", "resumed": 5, "error": ["x"]}
    change(mine / "003_seed=1,lr=0.02" / "run.json", **odd)
    content = json.loads((mine / "sweep.json").read_text())
    del content["figures"]  # as from a sweep before there were any
    (mine / "sweep.json").write_text(json.dumps(content))
    shown = tracetorch("info", "a sweep").stdout
    assert "\nstatus       not completed\njobs         2 completed, 1 not run, 1 failed\n" in shown
    assert "\nto continue  tracetorch resume 'a sweep'\n" in shown
    before = (mine / "000_seed=0,lr=0.01" / "run.json").stat().st_mtime_ns
    assert "2 already completed" in ran("resume", "a sweep").stdout
    assert (mine / "000_seed=0,lr=0.01" / "run.json").stat().st_mtime_ns == before
    assert set(statuses(mine).values()) == {"completed"}
    assert "all 4 jobs of a sweep are completed" in ran("resume", "a sweep").stdout


def test_a_sweep_with_jobs_in_slurms_queue_is_not_resumed(mine, monkeypatch):
    monkeypatch.setattr(launching, "_call", lambda command: "11_0\n11_1\n")
    (mine / "001_seed=0,lr=0.02" / "run.json").unlink()
    submit(mine, "11_1")
    change(mine / "sweep.json", settings=["hydra/launcher=submitit_slurm"])
    said = refused("resume", "a sweep")
    assert "Slurm still has jobs of a sweep" in said and "scancel 11" in said


def test_show_prints_the_plan_and_runs_nothing(here):
    ran("run", *SMALL, "seed=1")
    (done,) = (here / "outputs" / "poisson_clicks").iterdir()
    ended = tracetorch("show", "-m", *SMALL, "seed=0,1")
    first, *jobs = ended.stdout.splitlines()
    assert first == f"# poisson_clicks: 2 jobs → {Path('outputs/poisson_clicks/sweeps/<time>-<id>')}"
    assert jobs == ["000_seed=0  to do", f"001_seed=1  done in {done.relative_to(here)}"]
    ended = tracetorch("show", "-m", "task=patterns,poisson_clicks", "loss=mse", "network=lif_li")
    assert ended.stdout.splitlines()[2:] == ["000_task=patterns        to do", "001_task=poisson_clicks  to do"]
    assert "\n# several: 2 jobs" in ended.stdout
    assert "# poisson_clicks: 1 job →" in tracetorch("show", "-m", "seed=3").stdout
    assert list((here / "outputs" / "poisson_clicks").iterdir()) == [done]


def test_each_job_has_the_config_of_a_single_run():
    words = ("experiment=poisson_clicks,mnist_sample", "network.hidden=[3],[4,5]", "++task.seed=7", "seed=0,1")
    jobs = plan(list(words)).jobs
    alone = [compose(job.overrides) for job in jobs]
    assert [(job.config, job.experiment) for job in jobs] == [(one.config, one.experiment) for one in alone]
    with pytest.raises(UsageError, match=r"job 1 of 2 \(task=poisson_clicks task.source=sample\): task.source: "):
        plan(["task=mnist,poisson_clicks", "task.source=sample"])


@pytest.mark.parametrize(("launcher", "extra"), [("joblib", "parallel"), ("submitit_local", "slurm")])
def test_a_launcher_that_is_not_installed_is_named_with_its_extra(monkeypatch, launcher, extra):
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    needed = f"hydra/launcher={launcher} needs the extra '{extra}': pip install"
    assert needed in refused("show", "-m", "seed=0,1", f"hydra/launcher={launcher}")


def test_the_values_of_a_sweep_follow_hydras_syntax(here):
    for typed, values in {
        "seed=range(3)": ["0", "1", "2"],
        "optimizer.lr=range(0.5,2,0.5)": ["0.5", "1.0", "1.5"],
        "network.hidden=[4],[5,6]": ["[4]", "[5,6]"],
        "+task.label='a b',null,true": ["'a b'", "null", "True"],
        "rule=glob([b*,t*],exclude=tr*)": ["bptt", "tbptt", "three_factor"],
        "seed=sort(3,1,2)": ["1", "2", "3"],
        "~loss.floor": ["null"],
    }.items():
        assert expand([typed]) == [[f"{typed.partition('=')[0]}={value}"] for value in values]
    jobs = expand(["seed=7", "rule=trace,bptt", "task.delay=1,2", "seed=8,9"])
    assert len(jobs) == len(set(map(tuple, jobs))) == 8
    assert jobs[:2] == [["seed=8", "rule=trace", "task.delay=1"], ["seed=8", "rule=trace", "task.delay=2"]]
    (here / "mine" / "rule").mkdir(parents=True)
    (here / "mine" / "rule" / "own.yaml").write_text("{}\n")
    assert expand(["rule=glob(o*)"], here / "mine") == [["rule=ottt"], ["rule=own"]]


def test_an_existing_folder_is_not_written_into(here):
    (here / "sweep").mkdir()
    for name, advice in (("mine", "exists already; name another folder"), ("sweep.json", "tracetorch resume sweep")):
        (here / "sweep" / name).touch()
        ended = sweep("seed=0,1")
        assert ended.exit_code == 2 and advice in ended.stderr
    assert files(here) == {"sweep/mine", "sweep/sweep.json"}


def test_links_out_of_a_sweep_are_not_followed(mine, here):
    victim = here / "victim"
    (mine / "001_seed=0,lr=0.02").rename(victim)
    change(victim / "run.json", status="interrupted")
    before = {name: (victim / name).read_bytes() for name in files(victim)}
    for link, target in (("001_seed=0,lr=0.02", victim), (".output", victim), ("stop", here / "nowhere")):
        (mine / link).symlink_to(target)
        assert f"{link} is a link that leads out of a sweep" in refused("resume", "a sweep")
        (mine / link).unlink()
    assert {name: (victim / name).read_bytes() for name in files(victim)} == before
    assert not (here / "nowhere").exists()


JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def test_settings_of_a_launcher_have_defaults_and_alone_can_change_later():
    assert change_launcher(JOBLIB, []) == JOBLIB and launcher_of(JOBLIB) == "joblib"
    assert change_launcher(JOBLIB, ["hydra.launcher.n_jobs=4"]) == [*JOBLIB, "hydra.launcher.n_jobs=4"]
    assert change_launcher(JOBLIB, ["hydra/launcher=basic"]) == ["hydra/launcher=basic"]
    assert launcher_of([]) == launcher_of([*JOBLIB, "hydra/launcher=basic"]) == "basic"
    with pytest.raises(UsageError, match="'seed=3': of a sweep that has started, only the launcher"):
        change_launcher(JOBLIB, ["seed=3"])
    assert options_of([]) == {} and options_of(JOBLIB) == {"n_jobs": 2} and options_of(JOBLIB[:1]) == {"n_jobs": -1}
    typed = ["hydra.launcher.setup=['module load cuda']", "hydra.launcher.mem_per_cpu=4"]
    defaults = {"timeout_min": 60, "signal_delay_s": 120, "max_num_timeout": 0, "nodes": 1, "tasks_per_node": 1}
    wanted = {**defaults, "name": "tracetorch", "setup": ["module load cuda"], "mem_per_cpu": "4"}
    assert options_of(["hydra/launcher=submitit_slurm", *typed]) == wanted


def test_submitit_gets_the_settings_and_jobs_that_can_be_requeued(here, monkeypatch):
    submitit = pytest.importorskip("submitit")
    (here / "srun").write_text("")  # submitit looks for it
    (here / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(here), prepend=os.pathsep)
    made = []
    monkeypatch.setattr(submitit.AutoExecutor, "map_array", lambda *given: made.append(given) or [])
    typed = ["timeout_min=5", "partition=main", "array_parallelism=3", "setup=[a b]", "additional_parameters={x: 1}"]
    worker = Worker(str(here), "", ("a", "b"), ControllerProcess(), False)
    launch(worker, ["hydra/launcher=submitit_slurm", *(f"hydra.launcher.{line}" for line in typed)])
    ((executor, job, numbers),) = made
    wanted = {"time": 5, "partition": "main", "array_parallelism": 3, "setup": ["a b"]}
    defaults = {"job_name": "tracetorch", "nodes": 1, "ntasks_per_node": 1, "signal_delay_s": 120}
    assert executor.parameters == wanted | defaults | {"additional_parameters": {"x": 1}}
    assert executor.folder == here / FOLDER / "%j" and list(numbers) == [0, 1]
    again = job.checkpoint(1)
    assert (again.function, again.args) == (worker, (1,))


def submit(sweep, *numbers):
    for number in numbers:
        (sweep / FOLDER / number).mkdir(parents=True)
        (sweep / FOLDER / number / f"{number}_submitted.pkl").touch()


def test_the_queue_holds_the_jobs_of_this_launch_only(here, monkeypatch):
    slurm = ["11_0\n11_1\n99\n"]  # its answer, and then what it is asked
    monkeypatch.setattr(launching, "_call", lambda command: slurm.append(command) or slurm[0])
    submit(here, "10_0", "10_1")
    queue = Queue("submitit_slurm", here, ["a", "b", "c"])
    assert not queue.left() and not queue.is_complete()
    submit(here, "11_0", "11_1", "11_2")
    assert queue.is_complete() and queue.left() == {"11_0", "11_1"}
    assert queue.has("a") and not queue.has("c")
    monkeypatch.setattr(launching, "_QUERY_SECONDS", 0.0)
    slurm[0] = None  # it does not answer: what it said last holds
    assert queue.left() == {"11_0", "11_1"}
    queue.cancel(all_jobs=False)
    assert slurm[-1] == ["scancel", "--quiet", "--state=PENDING", "11"]


def test_a_controller_is_gone_once_its_process_has_ended():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    controller = ControllerProcess(pid=child.pid)
    assert not controller.is_gone() and not controller.is_this_process() and ControllerProcess().is_this_process()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert controller.is_gone()
    child.communicate()
    assert controller.is_gone() and not ControllerProcess(host="another", pid=child.pid).is_gone()


def test_a_pickled_worker_of_an_earlier_version_is_read():
    at = "tracetorch.cli.sweep."
    earlier = (  # what protocol 0 wrote when the controller was called owner
        f"ccopy_reg\n_reconstructor\n(c{at}job\nWorker\nc__builtin__\nobject\nNtR(dVfolder\nVit\nsVseal\nV\nsVnames\n(V0\nts"
        f"Vowner\nccopy_reg\n_reconstructor\n(c{at}stopping\nOwner\nc__builtin__\nobject\nNtR(dVhost\nVa\nsVpid\nI7\nsbs"
        "Vfail_fast\nI00\nsb."
    )
    worker = Worker("it", "", ("0",), ControllerProcess("a", 7), False)
    assert pickle.loads(earlier.encode()) == worker == pickle.loads(pickle.dumps(worker))


def test_a_run_stops_between_two_updates_if_its_sweep_stops(here):
    listener = StopListener(here, ControllerProcess())
    with Interrupt() as wish, listener:
        (here / STOP).touch()
        listener("progress", {})
        assert is_stopped(here) and not wish.stop
        (here / NOW).touch()
        listener._checked_at = -1e9
        listener("record", {})
        assert not wish.stop
        listener("progress", {})
        assert wish.stop
        listener("progress", {})  # a second wish would be an exception
    clear_stop(here)
    assert not is_stopped(here)


def test_a_signal_of_the_cluster_stops_the_run_and_is_passed_on(here):
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        with StopListener(here, ControllerProcess()) as listener, Interrupt() as wish:
            signal.raise_signal(signal.SIGUSR2)
            listener("progress", {})
            assert wish.stop and not heard
        listener.call_original_handler()
        assert heard == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)
