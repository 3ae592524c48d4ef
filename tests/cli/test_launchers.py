"""Sweeps under each launcher: a job that fails, finds the disk full or is killed stops no other; all can be mended."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.command_line import tracetorch
from tests.sweeps import (
    cluster,
    faulty,
    finish,
    full_disk,
    is_alive,
    is_at_work,
    job,
    lacks_slurm,
    numbers,
    process_of,
    start,
    statuses,
    wait_until,
)

RAISES, FULL, KILLED, COUNT = 2, 5, 7, 12


LAUNCHERS = {
    "basic": (),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("hydra/launcher=submitit_local",),
    "submitit_slurm": ("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=10"),
}
"""What to choose. A job that is killed takes the others along with the first two."""


def every(*names):
    """For each of these launchers, by name."""
    marks = {name: [pytest.mark.slow, *[pytest.mark.slurm] * name.endswith("slurm")] for name in names}
    return pytest.mark.parametrize("launcher", [pytest.param(name, marks=marks[name]) for name in names])


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if reason := lacks_slurm():
        pytest.skip(reason)
    with cluster(tmp_path_factory.mktemp("slurm") / "cluster") as conf:
        yield conf


@pytest.fixture
def faults(here, request, monkeypatch):
    """A folder for faults; the test is skipped if its launcher is not installed, and gets a cluster if it needs one."""
    launcher = request.node.callspec.params["launcher"]
    if launcher != "basic":
        pytest.importorskip(launcher.partition("_")[0])
    if request.node.get_closest_marker("slurm"):
        monkeypatch.setenv("SLURM_CONF", request.getfixturevalue("slurm"))
    (here / "faults").mkdir()
    return here / "faults"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A sweep in which nothing happens."""
    where = tmp_path_factory.mktemp("undisturbed")
    (where / "faults").mkdir()
    words = (*faulty(where / "faults"), f"seed=range({COUNT})", f"output.dir={where / 'sweep'}")
    assert tracetorch("run", "-m", *words).exit_code == 0
    return where / "sweep"


def slow_down(faults: Path, *seeds: int) -> None:
    for seed in seeds:
        (faults / f"slow-{seed}").touch()


def clear(faults: Path) -> None:
    for path in faults.iterdir():
        path.unlink()


def assert_all_is_well(sweep: Path, undisturbed: Path, seeds: range) -> None:
    assert statuses(sweep) == {job(sweep, seed).name: "completed" for seed in seeds}
    for seed in seeds:
        assert numbers(job(sweep, seed)) == numbers(job(undisturbed, seed)), seed


@every(*LAUNCHERS)
def test_twelve_jobs_of_which_three_meet_with_something(here, faults, undisturbed, launcher):
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("to fill a disk takes root")
    sweep = here / "sweep"
    (faults / f"raise-{RAISES}").touch()
    slow_down(faults, KILLED)
    with full_disk(job(sweep, FULL), (sweep / "sweep.json").exists) as make_room:
        words = (*faulty(faults), f"seed=range({COUNT})", "output.dir=sweep")
        process = start("run", "-m", *words, *LAUNCHERS[launcher])
        wait_until(lambda: is_at_work(job(sweep, KILLED)))
        os.kill(process_of(job(sweep, KILLED)), signal.SIGKILL)
        ended = finish(process)
        found = statuses(sweep)
        assert found[job(sweep, KILLED).name] == "killed", (found, ended)
        assert found[job(sweep, RAISES).name] == "failed", (found, ended)
        assert found[job(sweep, FULL).name] in ("failed", "killed"), (found, ended)
        others = set(range(COUNT)) - {RAISES, FULL, KILLED}
        if launcher != "basic":
            assert ended.returncode == 3, ended
            assert "to continue: tracetorch resume sweep" in ended.stderr and "Traceback" not in ended.stderr
            assert len(ended.stderr.splitlines()) == 1 + (launcher == "joblib")
        else:
            assert ended.returncode == -signal.SIGKILL
        if launcher.startswith("submitit"):
            assert {found[job(sweep, seed).name] for seed in others} == {"completed"}, (found, ended)
        clear(faults)
        make_room()
        ended = finish(start("resume", "sweep", "--trust", "tests"))
        assert ended.returncode == 0 and ended.stderr == "", ended
        assert "12 of 12 completed" in ended.stdout
        assert_all_is_well(sweep, undisturbed, range(COUNT))


@every(*LAUNCHERS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_when_a_sweep_is_interrupted_its_jobs_write_and_stop(here, faults, launcher, number):
    sweep = here / "sweep"
    slow_down(faults, *range(4))
    words = (*faulty(faults), "train.updates=4000", "seed=range(4)", "output.dir=sweep")
    process = start("run", "-m", *words, *LAUNCHERS[launcher])
    wait_until(lambda: any(is_at_work(path) for path in sweep.glob("[0-9]*")))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does it
    else:
        process.send_signal(number)
    ended = finish(process)
    assert ended.returncode == 130, ended
    assert "interrupted; 4 of 4 jobs are not completed" in ended.stderr
    found = set(statuses(sweep).values())
    assert "interrupted" in found and found <= {"interrupted", "absent"}, (found, ended)
    assert not [path for path in sweep.glob("[0-9]*/run.json") if is_alive(process_of(path.parent))]


@every("joblib", "submitit_local")
def test_jobs_do_not_outlive_the_sweep_whose_process_was_killed(here, faults, launcher):
    sweep = here / "sweep"
    slow_down(faults, 0, 1)
    words = (*faulty(faults), "train.updates=4000", "seed=0,1", "output.dir=sweep")
    process = start("run", "-m", *words, *LAUNCHERS[launcher])
    wait_until(lambda: all(is_at_work(job(sweep, seed)) for seed in (0, 1)))
    processes = [process_of(job(sweep, seed)) for seed in (0, 1)]
    process.kill()
    finish(process)  # which is when the last process that can write to its terminal has ended
    assert set(statuses(sweep).values()) == {"interrupted"}
    assert not any(map(is_alive, processes))


@every("submitit_local")
def test_a_job_that_a_cluster_takes_back_is_submitted_again_and_goes_on(here, faults, undisturbed, launcher):
    sweep = here / "sweep"
    slow_down(faults, 0)
    process = start("run", "-m", *faulty(faults), "seed=0,1", "output.dir=sweep", *LAUNCHERS[launcher])
    wait_until(lambda: is_at_work(job(sweep, 0)))
    os.kill(process_of(job(sweep, 0)), signal.SIGUSR2)
    ended = finish(process)
    assert ended.returncode == 0, ended
    assert "interrupted" in ended.stdout
    assert_all_is_well(sweep, undisturbed, range(2))
