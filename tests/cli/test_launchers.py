"""Sweeps under each launcher: a job that fails, finds the disk full or is killed stops no other; all can be mended."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import sweeps
from tests.command_line import ran

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
    if reason := sweeps.lacks_slurm():
        pytest.skip(reason)
    with sweeps.cluster(tmp_path_factory.mktemp("slurm") / "cluster") as conf:
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
    words = (*sweeps.faulty(where / "faults"), f"seed=range({COUNT})", f"output.dir={where / 'sweep'}")
    ran("run", "-m", *words)
    return where / "sweep"


def assert_equal_to(sweep: Path, undisturbed: Path, seeds: range) -> None:
    assert sweeps.statuses(sweep) == {sweeps.job(sweep, seed).name: "completed" for seed in seeds}
    for seed in seeds:
        assert sweeps.numbers(sweeps.job(sweep, seed)) == sweeps.numbers(sweeps.job(undisturbed, seed)), seed


@every(*LAUNCHERS)
def test_of_twelve_jobs_one_fails_one_is_killed_and_one_fills_the_disk(here, faults, undisturbed, launcher):
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("to fill a disk takes root")
    sweep = here / "sweep"
    (faults / f"raise-{RAISES}").touch()
    (faults / f"slow-{KILLED}").touch()
    with sweeps.full_disk(sweeps.job(sweep, FULL), (sweep / "sweep.json").exists) as make_room:
        words = (*sweeps.faulty(faults), f"seed=range({COUNT})", "output.dir=sweep")
        process = sweeps.start("run", "-m", *words, *LAUNCHERS[launcher])
        sweeps.wait_until(lambda: sweeps.is_at_work(sweeps.job(sweep, KILLED)))
        os.kill(sweeps.process_of(sweeps.job(sweep, KILLED)), signal.SIGKILL)
        ended = sweeps.finish(process)
        found = sweeps.statuses(sweep)
        assert found[sweeps.job(sweep, KILLED).name] == "killed", (found, ended)
        assert found[sweeps.job(sweep, RAISES).name] == "failed", (found, ended)
        assert found[sweeps.job(sweep, FULL).name] in ("failed", "killed"), (found, ended)
        others = set(range(COUNT)) - {RAISES, FULL, KILLED}
        if launcher != "basic":
            assert ended.returncode == 3, ended
            assert "to continue: tracetorch resume sweep" in ended.stderr and "Traceback" not in ended.stderr
            assert len(ended.stderr.splitlines()) == 1 + (launcher == "joblib")
        else:
            assert ended.returncode == -signal.SIGKILL
        if launcher.startswith("submitit"):
            assert {found[sweeps.job(sweep, seed).name] for seed in others} == {"completed"}, (found, ended)
        for path in faults.iterdir():
            path.unlink()
        make_room()
        ended = sweeps.finish(sweeps.start("resume", "sweep", "--trust", "tests"))
        assert ended.returncode == 0 and ended.stderr == "", ended
        assert "12 of 12 completed" in ended.stdout
        assert_equal_to(sweep, undisturbed, range(COUNT))


@every(*LAUNCHERS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_stops_its_jobs_in_order(here, faults, launcher, number):
    sweep = here / "sweep"
    for seed in range(4):
        (faults / f"slow-{seed}").touch()
    words = (*sweeps.faulty(faults), "train.updates=4000", "seed=range(4)", "output.dir=sweep")
    process = sweeps.start("run", "-m", *words, *LAUNCHERS[launcher])
    sweeps.wait_until(lambda: any(sweeps.is_at_work(path) for path in sweep.glob("[0-9]*")))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does it
    else:
        process.send_signal(number)
    ended = sweeps.finish(process)
    assert ended.returncode == 130, ended
    assert "interrupted; 4 of 4 jobs are not completed" in ended.stderr
    found = set(sweeps.statuses(sweep).values())
    assert "interrupted" in found and found <= {"interrupted", "absent"}, (found, ended)
    assert not [path for path in sweep.glob("[0-9]*/run.json") if sweeps.is_alive(sweeps.process_of(path.parent))]


@every("joblib", "submitit_local")
def test_jobs_end_when_the_process_of_their_sweep_is_killed(here, faults, launcher):
    sweep = here / "sweep"
    for seed in (0, 1):
        (faults / f"slow-{seed}").touch()
    words = (*sweeps.faulty(faults), "train.updates=4000", "seed=0,1", "output.dir=sweep")
    process = sweeps.start("run", "-m", *words, *LAUNCHERS[launcher])
    sweeps.wait_until(lambda: all(sweeps.is_at_work(sweeps.job(sweep, seed)) for seed in (0, 1)))
    processes = [sweeps.process_of(sweeps.job(sweep, seed)) for seed in (0, 1)]
    process.kill()
    sweeps.finish(process)  # which is when the last process that can write to its terminal has ended
    assert set(sweeps.statuses(sweep).values()) == {"interrupted"}
    assert not any(map(sweeps.is_alive, processes))


@every("submitit_local")
def test_a_preempted_job_is_submitted_again_and_continues(here, faults, undisturbed, launcher):
    sweep = here / "sweep"
    (faults / "slow-0").touch()
    process = sweeps.start("run", "-m", *sweeps.faulty(faults), "seed=0,1", "output.dir=sweep", *LAUNCHERS[launcher])
    sweeps.wait_until(lambda: sweeps.is_at_work(sweeps.job(sweep, 0)))
    os.kill(sweeps.process_of(sweeps.job(sweep, 0)), signal.SIGUSR2)
    ended = sweeps.finish(process)
    assert ended.returncode == 0, ended
    assert "interrupted" in ended.stdout
    assert_equal_to(sweep, undisturbed, range(2))
