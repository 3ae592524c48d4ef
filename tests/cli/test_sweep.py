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
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from tests.command_line import CLICKS, change, files, ran, refused, tracetorch
from tests.sweeps import statuses, wait_until
from tests.terminals import tracetorch_in_terminal
from tracetorch.cli.adapter import compose
from tracetorch.cli.adapter.overrides import expand
from tracetorch.cli.errors import UsageError
from tracetorch.cli.folders import folder_name
from tracetorch.cli.sweep import job as job_module
from tracetorch.cli.sweep import launchers, launching, stopping
from tracetorch.cli.sweep import monitor as monitor_module
from tracetorch.cli.sweep import plan as plan_module
from tracetorch.cli.sweep.job import Worker, tidy
from tracetorch.cli.sweep.launchers import change_launcher, launcher_of, options_of
from tracetorch.cli.sweep.launching import FOLDER, Queue, _call, carry_out, launch
from tracetorch.cli.sweep.monitor import SweepMonitor
from tracetorch.cli.sweep.plan import Job, Plan, plan, write_plan
from tracetorch.cli.sweep.stopping import (
    NOW,
    STOP,
    ControllerProcess,
    SignalGuard,
    StopListener,
    clear_stop,
    is_stopped,
)
from tracetorch.runs.ending import Interrupt
from tracetorch.runs.lock import Lock

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


TABLE = """\
job  varies           status   update  metric so far
002  lr=0.001, hidd…  running     6/8  accuracy 0.5000
001  lr=0.1           waiting     2/8  accuracy 0.1667
1 completed · 1 failed · 1 running · 2 waiting of 5 · 2:00:04 left
"""


def test_the_table_shows_what_runs_and_waits_as_far_as_there_is_room_and_the_time_left(tmp_path, monkeypatch):
    def state(at, status, update=None):
        folder = tmp_path / f"{at:03d}_"
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text(json.dumps({"status": status, "planned_updates": 8}))
        if update:
            (folder / "metrics.jsonl").write_text(json.dumps({"update": update, "accuracy": update / 12}))
        return folder

    clock = [100.0]
    monkeypatch.setattr(monitor_module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    varies = ["lr=1", "lr=0.1", "lr=0.001, hidden=[128,128]", "lr=0.2", "lr=3"]
    jobs = [Job(f"{at:03d}_", varies[at], [], "") for at in range(5)]
    state(0, "completed")
    state(1, "interrupted", 2)
    lock = Lock(state(2, "running", 2))
    screen = Console(file=io.StringIO(), width=54, height=6)
    monitor = SweepMonitor(screen, tmp_path, jobs, lambda name: False)
    assert "left" not in str(monitor._table().renderables[1])
    clock[0] += 5403
    state(2, "running", 6)
    state(4, "failed")
    monitor._poll()
    assert screen.file.getvalue() == "004_  failed\n"
    screen.print(monitor._table(), soft_wrap=True)
    lock.release()
    assert [line.rstrip() for line in screen.file.getvalue().splitlines()[1:]] == TABLE.splitlines()


def test_in_a_terminal_a_sweep_shows_its_table(here, monkeypatch):
    monkeypatch.setattr(monitor_module, "_POLL_SECONDS", 0.02)
    monkeypatch.setenv("TERM", "xterm")
    code, shown = tracetorch_in_terminal(monkeypatch, "run", "-m", *SMALL, "seed=0,1", "output.dir=sweep")
    assert code == 0 and "1 running · 1 waiting of 2" in shown


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
    assert "there is no such launcher" in refused("resume", "a sweep", "hydra/launcher=jobllib")
    for at_work in (mine, mine / "002_seed=1,lr=0.01"):
        change(mine / "002_seed=1,lr=0.01" / "run.json", status="running" if at_work != mine else "completed")
        lock = Lock(at_work)
        shown = tracetorch("info", "a sweep").stdout
        assert "\nstatus  running\n" in shown and "to continue" not in shown
        lock.release()
    change(mine / "002_seed=1,lr=0.01" / "run.json", status="completed")
    unsafe = ["hydra/launcher=submitit_slurm", "hydra.launcher.setup=[touch harmed]"]
    change(mine / "sweep.json", settings=unsafe)
    assert "which may run commands" in refused("resume", "a sweep")
    assert "2 already completed" in ran("resume", "a sweep", "hydra/launcher=basic").stdout
    change(mine / "sweep.json", settings=[])
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
def test_a_launcher_that_is_not_installed_is_named_with_its_extra(monkeypatch, launcher, extra, here):
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
    assert expand(["rule=glob(o*)"], here / "mine") == [["rule=otpe"], ["rule=ottt"], ["rule=own"]]


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


class Echo(SimpleNamespace):
    def __call__(self, at):
        return f"job {at}"


def test_a_launcher_returns_what_each_job_returns(here, monkeypatch):
    joblib = pytest.importorskip("joblib")
    made, worker = [], Echo(folder=str(here), names=("a", "b"), controller=ControllerProcess())

    def in_order(calls):
        return [function(*given, **named) for function, given, named in calls]

    monkeypatch.setattr(joblib, "Parallel", lambda **options: made.append(options) or in_order)
    assert launch(worker, []) == launch(worker, JOBLIB) == ["job 0", "job 1"]
    assert made == [{"backend": "loky", "initializer": worker.controller.watch, "n_jobs": 2}]


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
    assert queue.has("a") and not queue.has("c") and not queue.has("z")
    assert not Queue("joblib", here, ["a"], earlier=True).has("a")
    assert len(slurm) == 2  # it was asked once, because it serves others too
    queue.cancel(all_jobs=False)
    assert slurm[2:] == [["scancel", "--quiet", "--state=PENDING", "11"]]
    slurm[0] = None  # it does not answer: what it said last holds
    assert queue.left() == {"11_0", "11_1"} and len(slurm) == 4
    monkeypatch.setattr(os, "kill", None)
    queue.cancel(all_jobs=True)
    assert slurm[-1] == ["scancel", "--quiet", "11"]


def test_the_local_queue_holds_children_that_run_and_cancels_them_on_request(here, monkeypatch):
    monkeypatch.setattr(launching, "_call", None)  # no command of Slurm
    child = subprocess.Popen(["sleep", "60"])
    submit(here, str(child.pid), "1")
    queue = Queue("submitit_local", here, ["a"], earlier=True)
    queue.cancel(all_jobs=False)
    assert queue.left() == {str(child.pid)}
    queue.cancel(all_jobs=True)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert queue.left() == set() and child.wait() == -signal.SIGTERM


def test_the_output_of_a_command_is_none_if_it_fails_or_does_not_exist():
    assert _call(["echo", "11_0"]) == "11_0\n"
    assert _call(["false"]) is _call(["no-such-command"]) is None


class FakeQueue:
    """A queue whose jobs end one at each look. Args: is_whole: whether all jobs were submitted."""

    def __init__(self, jobs, is_whole):
        self.jobs, self.is_whole, self.cancelled = jobs, is_whole, []

    def is_complete(self):
        return self.is_whole

    def left(self):
        self.jobs -= 1
        if self.jobs == 99:
            raise KeyboardInterrupt
        return {"7"} if self.jobs > 0 else set()

    def cancel(self, *, all_jobs):
        self.cancelled.append(all_jobs)


SUBMITIT = ["hydra/launcher=submitit_local"]


@pytest.fixture
def carried_out(here, monkeypatch):
    """Calls `carry_out` with a launcher that raises an error, or that waits if that is None."""
    monkeypatch.setattr(launching, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(launching, "_GRACE_SECONDS", 0.001)
    ends = threading.Event()
    worker = Worker(str(here), "", ("a",), ControllerProcess(), False)

    def call(error, queue, settings=SUBMITIT, *, stops=False):
        def launch(worker, settings):
            assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
            if error is None:
                ends.wait(60)
                return [""]
            raise error

        monkeypatch.setattr(launching, "launch", launch)
        return carry_out(worker, settings, queue=queue, guard=SimpleNamespace(is_stopping=stops))

    yield call
    ends.set()


def test_jobs_in_a_queue_are_waited_for_although_their_launcher_has_stopped(carried_out, here):
    queue = FakeQueue(9, is_whole=False)
    launched = carried_out(RuntimeError("no  such\ncluster"), queue)
    assert (launched.trouble, launched.interrupted, queue.jobs) == ("RuntimeError: no such cluster", False, 0)
    assert queue.cancelled == [] and list(launched.messages) == []
    (here / FOLDER).mkdir()
    assert carried_out(RuntimeError("x"), FakeQueue(0, False)).trouble == f"RuntimeError: x (see {here / FOLDER})"
    assert carried_out(RuntimeError("x"), FakeQueue(3, True)).trouble == ""  # the folders of the jobs tell
    launched = carried_out(type("TerminatedWorkerError", (Exception,), {})("long"), None, JOBLIB, stops=True)
    assert launched.trouble == "one of joblib's processes was killed, and joblib then ends the others"
    assert launched.interrupted
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_launcher_that_does_not_return_is_left_once_all_jobs_have_ended(carried_out):
    queue = FakeQueue(5, is_whole=True)
    launched = carried_out(None, queue, stops=True)
    assert (launched.trouble, launched.interrupted) == ("", True)
    assert queue.cancelled == [False] and queue.jobs == 0
    with pytest.raises(KeyboardInterrupt):
        carried_out(None, queue := FakeQueue(103, is_whole=True))
    assert queue.cancelled == [True]


def test_a_controller_is_gone_once_its_process_has_ended():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    controller = ControllerProcess(pid=child.pid)
    assert not controller.is_gone() and not controller.is_this_process() and ControllerProcess().is_this_process()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert controller.is_gone()
    child.communicate()
    assert controller.is_gone() and not ControllerProcess(host="another", pid=child.pid).is_gone()


def test_a_process_of_a_pool_ends_with_the_controller_but_not_within_a_job(monkeypatch):
    def end(code):
        ended.append(code)
        if threading.current_thread() is threading.main_thread():
            raise SystemExit
        threading.Event().wait()

    ended = []
    monkeypatch.setattr(stopping, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(os, "_exit", end)
    child = subprocess.Popen(["sleep", "60"])
    controller = ControllerProcess(pid=child.pid)
    with pytest.raises(SystemExit), controller.busy():
        child.kill()
        child.wait()
        controller.watch()
        time.sleep(0.05)
        assert ended == []
    with pytest.raises(SystemExit), controller.busy():
        ended.append("a job has begun")
    wait_until(lambda: len(ended) >= 3)
    assert ended == [1] * 3

    def foreign(process, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", foreign)  # a process of another user
    assert not controller.is_gone()


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
        listener._checked_at = -1e9
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


def test_the_first_ctrl_c_stops_a_sweep_in_order_and_the_second_at_once(here):
    said, before = [], signal.getsignal(signal.SIGINT)
    with SignalGuard(here, said.append) as guard:
        assert not guard.is_stopping
        signal.raise_signal(signal.SIGINT)
        assert guard.is_stopping and (here / NOW).exists() and "a second Ctrl-C stops at once" in said[0]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before and len(said) == 1


def ending(monkeypatch, code, message, *signals):
    """Let each job end at once, after these signals, instead of running."""

    def execute(*given, **options):
        for number in signals:
            signal.raise_signal(number)
        return SimpleNamespace(code=code, message=message, run=SimpleNamespace(asked_to_stop=bool(signals)))

    monkeypatch.setattr(job_module, "execute", execute)


@pytest.mark.parametrize("count", [1, 2])
def test_an_interrupted_sweep_ends_with_130_and_names_what_continues_it(here, monkeypatch, count):
    ending(monkeypatch, 130, "", *[signal.SIGINT] * count)
    ended = sweep("seed=0,1")
    hint = "interrupted; 2 of 2 jobs are not completed; to continue: tracetorch resume sweep"
    assert (ended.exit_code, ended.stderr) == (130, f"tracetorch: {hint}\n")
    assert "stopping: each job finishes its update and saves" in ended.stdout and (here / "sweep" / NOW).exists()


def test_a_job_in_another_process_passes_the_signal_of_the_cluster_on_and_is_not_repeated(here, monkeypatch):
    heard, redirected = [], []
    jobs = [Job(name, "", [], "", "clicks", {"seed": 0}) for name in ("0", "1")]
    planned = write_plan(Plan("clicks", [], [], jobs, here, here), here)
    (here / "1").mkdir()
    (here / "1" / "run.json").write_text('{"status": "completed"}')
    monkeypatch.setattr(job_module, "_redirect", redirected.append)
    ending(monkeypatch, 130, "why", signal.SIGUSR2)
    worker = Worker(str(here), planned.seal, ("0", "1"), ControllerProcess(pid=os.getppid()), False)
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        assert (worker(0), worker(1)) == ("why", "")
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert heard == [signal.SIGUSR2] and redirected == [here / ".output" / f"{name}.txt" for name in ("0", "1")]


def test_output_files_of_jobs_that_printed_nothing_are_removed(here):
    (here / ".output").mkdir()
    (here / ".output" / "0.txt").touch()
    (here / ".output" / "1.txt").write_text("x")
    tidy(here)
    assert files(here) == {".output/1.txt"}
    (here / ".output" / "1.txt").write_text("")
    tidy(here)
    assert list(here.iterdir()) == []


def test_a_launcher_that_stops_and_a_job_without_a_folder_are_reported(here, monkeypatch):
    def stop(worker, settings):
        raise MemoryError("no room")

    monkeypatch.setattr(launching, "launch", lambda worker, settings: ["the disk is full", ""])
    rows = [line.split("│")[1:-1] for line in sweep("seed=0,1").stdout.splitlines()]
    found = [[cell.strip() for cell in row] for row in rows if row]
    assert found == [["000", "seed=0", "failed", "the disk is full"], ["001", "seed=1", "not run", ""]]
    monkeypatch.setattr(launching, "launch", stop)
    ended = tracetorch("resume", "sweep")
    assert ended.exit_code == 3 and ended.stderr.startswith("tracetorch: the launcher stopped: MemoryError: no room\n")


def test_of_many_jobs_those_that_failed_are_shown_first_and_the_number_of_others(here, monkeypatch):
    ending(monkeypatch, 0, "")
    monkeypatch.setattr(plan_module, "_MANY", 41)
    ended = sweep("seed=range(42)")
    assert ended.exit_code == 3 and ended.stderr.startswith("checking 42 jobs …\n")
    assert "\nand 2 more, in sweep\n" in ended.stdout


def test_a_full_disk_leaves_no_sweep(here, monkeypatch):
    monkeypatch.setattr("tracetorch.files.write_whole", lambda path, text: os.close(-1))
    assert "cannot write to sweep: Bad file descriptor" in refused("run", "-m", *SMALL, "seed=0,1", "output.dir=sweep")
