"""`tracetorch plot`: the same figures of the same network, and nothing that a stranger's config asks for."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tests.command_line import CLICKS, DIGITS, files, tracetorch
from tracetorch.tasks import mnist_source
from tracetorch.training import report

PLOTS = {"learning", "parameters", "psychometric", "accuracy_map", "raster", "membrane"}
DRAWN = report.Drawn(["x"], {})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of a finished run with figures."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    result = tracetorch("run", *CLICKS, "train.figures=true", f"output.dir={folder}")
    assert result.exit_code == 0, result.stderr
    return folder


def test_a_run_draws_each_figure_twice_over(drawn):
    assert files(drawn / "plots") == {f"{name}.{suffix}" for name in PLOTS for suffix in ("png", "svg")}
    assert all(path.stat().st_size > 1000 for path in (drawn / "plots").iterdir())


def test_plot_draws_the_figures_again(drawn):
    folder = drawn
    before = files(folder)
    for path in (folder / "plots").iterdir():
        path.unlink()
    result = tracetorch("plot", str(folder))
    assert result.exit_code == 0, result.stderr
    assert files(folder) == before
    assert result.stdout.startswith(f"6 figures in {folder / 'plots'}: ") and all(
        name in result.stdout for name in PLOTS
    )


def test_plot_draws_the_network_that_was_tested(here, monkeypatch):
    seen = []
    monkeypatch.setattr(report, "draw", lambda folder, net, *rest, **more: seen.append(net.state_dict()) or DRAWN)
    words = ("train.updates=30", "train.figures=true", "train.eval_every=1", "train.patience=1", "optimizer.lr=0.1")
    assert tracetorch("run", *CLICKS, *words, "output.dir=patient").exit_code == 0
    rounds = {n: torch.load(here / "patient" / "checkpoints" / f"{n}.pt")["update"] for n in ("best", "latest")}
    assert rounds["best"] < rounds["latest"] < 30
    assert tracetorch("plot", "patient").exit_code == 0
    assert len(seen) == 2
    assert all(map(torch.equal, seen[0].values(), seen[1].values()))


def test_plot_of_a_run_without_trials_says_so(here):
    assert tracetorch("run", *CLICKS, "network.neuron.threshold=1e6", "output.dir=dead").exit_code == 1
    result = tracetorch("plot", "dead")
    assert result.exit_code == 0, result.stderr
    assert "this run was not tested" in result.stdout
    assert (here / "dead" / "plots" / "parameters.png").exists()
    assert not (here / "dead" / "plots" / "psychometric.png").exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.mkdir",
        "pathlib.Path.mkdir",
        "tracetorch.runs.provenance.os.mkdir",
        "torch.nn.parallel.distributed.os.mkdir",
        "torch.hub.load",
    ],
)
def test_plot_calls_nothing_that_a_strangers_config_names(drawn, here, target):
    config = yaml.safe_load((drawn / "config.yaml").read_text())
    config["task"] = {"_target_": target, "_args_": [str(here / "made")]}
    (here / "evil").mkdir()
    (here / "evil" / "config.yaml").write_text(yaml.safe_dump(config))
    result = tracetorch("plot", "evil")
    assert not (here / "made").exists()
    assert result.exit_code == 2
    assert target in result.stderr


# ── data that have moved ────────────────────────────────────────────────────────────────────────────────────────────

SAMPLE = Path(mnist_source.__file__).parent / "mnist_sample"


@pytest.fixture
def moved(here):
    """The folder of a run whose data have moved since."""
    shutil.copytree(SAMPLE, here / "digits")
    result = tracetorch("run", *DIGITS, "task.source=digits", "output.dir=run")
    assert result.exit_code == 0, result.output
    (here / "digits").rename(here / "else where")
    return here / "run"


def test_without_its_data_a_run_gets_the_figures_that_need_none(moved):
    result = tracetorch("plot", "run")
    assert files(moved / "plots") == {
        f"{name}.{kind}" for name in ("learning", "parameters") for kind in ("png", "svg")
    }
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1, result.output
    assert "that need the task are left out: task: source=digits: there is no such folder" in result.stderr
    assert "tracetorch plot run task.source=FOLDER" in result.stderr


def test_data_that_have_moved_are_named_and_others_are_refused(moved):
    result = tracetorch("plot", "run", "task.source=else where")
    assert result.exit_code == 0, result.output
    assert (moved / "plots" / "raster.png").exists()
    labels = moved.parent / "else where" / "train-labels-idx1-ubyte.gz"
    shutil.copy(labels.with_name("t10k-labels-idx1-ubyte.gz"), labels)
    shutil.copy(labels.with_name("t10k-images-idx3-ubyte.gz"), labels.with_name("train-images-idx3-ubyte.gz"))
    result = tracetorch("plot", "run", "task.source=else where")
    assert result.exit_code == 1 and "task.source names other data than the run read" in result.stderr


def test_plot_changes_nothing_but_the_place_of_the_data(moved):
    result = tracetorch("plot", "run", "task.steps=2")
    assert result.exit_code == 2 and "for other settings: tracetorch eval run task.steps=2" in result.stderr
