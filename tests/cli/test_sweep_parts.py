"""The parts of a sweep that look after its jobs: the launcher's settings, Slurm's queue, how a job hears."""

import os
import pickle
import signal
import subprocess
import sys

import pytest

from tracetorch.cli.errors import UsageError
from tracetorch.cli.sweep import launching
from tracetorch.cli.sweep.job import Worker
from tracetorch.cli.sweep.launchers import change_launcher, launcher_of, options_of
from tracetorch.cli.sweep.launching import FOLDER, Queue, launch
from tracetorch.cli.sweep.stopping import NOW, STOP, ControllerProcess, StopListener, go_on, is_stopped
from tracetorch.runs.ending import Interrupt

JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def test_the_launcher_of_a_sweep_that_has_begun_can_be_changed_and_nothing_else():
    assert change_launcher(JOBLIB, []) == JOBLIB and launcher_of(JOBLIB) == "joblib"
    assert change_launcher(JOBLIB, ["hydra.launcher.n_jobs=4"]) == [*JOBLIB, "hydra.launcher.n_jobs=4"]
    assert change_launcher(JOBLIB, ["hydra/launcher=basic"]) == ["hydra/launcher=basic"]
    assert launcher_of([]) == launcher_of([*JOBLIB, "hydra/launcher=basic"]) == "basic"
    with pytest.raises(UsageError, match="'seed=3': of a sweep that has started, only the launcher"):
        change_launcher(JOBLIB, ["seed=3"])


def test_the_settings_of_a_launcher_with_their_defaults():
    assert options_of([]) == {} and options_of(JOBLIB) == {"n_jobs": 2} and options_of(JOBLIB[:1]) == {"n_jobs": -1}
    typed = ["hydra.launcher.setup=['module load cuda']", "hydra.launcher.mem_per_cpu=4"]
    defaults = {"timeout_min": 60, "signal_delay_s": 120, "max_num_timeout": 0, "nodes": 1, "tasks_per_node": 1}
    wanted = {**defaults, "name": "tracetorch", "setup": ["module load cuda"], "mem_per_cpu": "4"}
    assert options_of(["hydra/launcher=submitit_slurm", *typed]) == wanted


def test_submitit_gets_the_settings_and_jobs_that_a_cluster_may_submit_again(here, monkeypatch):
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


def test_slurm_s_queue_is_that_of_this_launch(here, monkeypatch):
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
    queue.cancel(running=False)
    assert slurm[-1] == ["scancel", "--quiet", "--state=PENDING", "11"]


def test_a_controller_is_gone_when_its_process_is_even_before_it_is_reaped():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    controller = ControllerProcess(pid=child.pid)
    assert not controller.is_gone() and not controller.is_here() and ControllerProcess().is_here()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert controller.is_gone()
    child.communicate()
    assert controller.is_gone() and not ControllerProcess(host="another", pid=child.pid).is_gone()


def test_a_worker_that_an_earlier_version_has_pickled_is_read():
    at = "tracetorch.cli.sweep."
    earlier = (  # what protocol 0 wrote when the controller was called owner
        f"ccopy_reg\n_reconstructor\n(c{at}job\nWorker\nc__builtin__\nobject\nNtR(dVfolder\nVit\nsVseal\nV\nsVnames\n(V0\nts"
        f"Vowner\nccopy_reg\n_reconstructor\n(c{at}stopping\nOwner\nc__builtin__\nobject\nNtR(dVhost\nVa\nsVpid\nI7\nsbs"
        "Vfail_fast\nI00\nsb."
    )
    worker = Worker("it", "", ("0",), ControllerProcess("a", 7), False)
    assert pickle.loads(earlier.encode()) == worker == pickle.loads(pickle.dumps(worker))


def test_a_run_hears_between_two_updates_that_its_sweep_stops(here):
    listener = StopListener(here, ControllerProcess())
    with Interrupt() as wish, listener:
        (here / STOP).touch()
        listener("progress", {})
        assert is_stopped(here) and not wish.stop
        (here / NOW).touch()
        listener._looked = -1e9
        listener("record", {})
        assert not wish.stop
        listener("progress", {})
        assert wish.stop
        listener("progress", {})  # a second wish would be an exception
    go_on(here)
    assert not is_stopped(here)


def test_a_signal_of_a_cluster_ends_the_run_and_then_goes_to_whom_it_was_meant_for(here):
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        with StopListener(here, ControllerProcess()) as listener, Interrupt() as wish:
            signal.raise_signal(signal.SIGUSR2)
            listener("progress", {})
            assert wish.stop and not heard
        listener.pass_on()
        assert heard == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)
