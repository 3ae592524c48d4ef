"""`tracetorch plot`: the same figures of the same network, and nothing that a stranger's config asks for."""

import re
import shutil
from pathlib import Path

import torch
import yaml

from tests.command_line import CLICKS, DIGITS, files, ran, refused, tracetorch
from tracetorch.tasks import mnist_source
from tracetorch.training import report

PLOTS = {"learning", "parameters", "psychometric", "accuracy_map", "raster", "membrane"}
SAMPLE = Path(mnist_source.__file__).parent / "mnist_sample"


def figures(*names):
    return {f"{name}.{kind}" for name in names for kind in ("png", "svg")}


def test_plot_repeats_the_figures_and_calls_no_untrusted_target(here):
    ran("run", *CLICKS, "train.figures=true", "output.dir=it")
    for _ in range(2):
        assert files(here / "it" / "plots") == figures(*PLOTS)
        assert all(path.stat().st_size > 1000 for path in (here / "it" / "plots").iterdir())
        shutil.rmtree(here / "it" / "plots")
        result = ran("plot", "it")
    assert result.stdout.startswith("6 figures in it/plots: ") and all(name in result.stdout for name in PLOTS)
    config = yaml.safe_load((here / "it" / "config.yaml").read_text())
    for target in ("os.mkdir", "tracetorch.runs.provenance.os.mkdir", "torch.hub.load"):
        config["task"] = {"_target_": target, "_args_": [str(here / "made")]}
        (here / "it" / "config.yaml").write_text(yaml.safe_dump(config))
        assert target in refused("plot", "it") and not (here / "made").exists()


def test_plot_draws_the_network_that_was_tested(here, monkeypatch):
    seen, drawn = [], report.Drawn(["x"], {"y": "it is odd"})
    monkeypatch.setattr(report, "draw", lambda folder, net, *rest, **more: seen.append(net.state_dict()) or drawn)
    words = ("train.updates=30", "train.figures=true", "train.eval_every=1", "train.patience=1", "optimizer.lr=0.1")
    ran("run", *CLICKS, *words, "output.dir=patient")
    rounds = {n: torch.load(here / "patient" / "checkpoints" / f"{n}.pt")["update"] for n in ("best", "latest")}
    assert rounds["best"] < rounds["latest"] < 30
    ended = tracetorch("plot", "patient")
    assert (ended.exit_code, ended.stderr) == (1, "tracetorch: no figure y: it is odd\n") and len(seen) == 2
    assert all(map(torch.equal, seen[0].values(), seen[1].values()))


def test_plot_of_a_run_without_trials_says_so(here):
    assert tracetorch("run", *CLICKS, "network.neuron.threshold=1e6", "output.dir=dead").exit_code == 1
    result = ran("plot", "dead")
    assert "this run was not tested" in result.stdout
    assert figures("parameters") <= files(here / "dead" / "plots") and "psychometric" not in result.stdout


def test_moved_data_are_named_and_other_data_are_refused(here):
    shutil.copytree(SAMPLE, here / "digits")
    ran("run", *DIGITS, "task.source=digits", "output.dir=run")
    (here / "digits").rename(here / "else where")
    result = tracetorch("plot", "run")
    assert files(here / "run" / "plots") == figures("learning", "parameters")
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1, result.output
    assert "that need the task are left out: task: source=digits: there is no such folder" in result.stderr
    assert "tracetorch plot run task.source=FOLDER" in result.stderr
    result = ran("plot", "run", "task.source=else where")
    assert (here / "run" / "plots" / "raster.png").exists()
    for kind in ("labels-idx1", "images-idx3"):
        shutil.copy(here / "else where" / f"t10k-{kind}-ubyte.gz", here / "else where" / f"train-{kind}-ubyte.gz")
    result = tracetorch("plot", "run", "task.source=else where")
    assert result.exit_code == 1 and "task.source names other data than the run read" in result.stderr
    assert "for other settings: tracetorch eval run task.steps=2" in refused("plot", "run", "task.steps=2")


def test_one_figure_as_a_paper_needs_it_is_one_command(here):
    ran("run", *CLICKS, "output.dir=it")
    (here / "paper.mplstyle").write_text('font.size: 9  # points\naxes.grid: True\nlines.linewidth: "2"\n')
    given = ("--layer", "1", "--neurons", "1", "--trial", "3", "--format", "pdf", "--format", "svg,png")
    result = ran("plot", "it", "--figure", "membrane", *given, "--width", "7", "--style", "paper.mplstyle")
    assert result.stdout == "1 figure in it/plots as pdf, svg, png: membrane_layer1_neurons1_trial3\n"
    pdf, png, svg = sorted((here / "it" / "plots").iterdir())
    assert re.search(rb"/MediaBox \[ 0 0 504 ", pdf.read_bytes()) and b"/FontFile2" in pdf.read_bytes()
    assert ">layer 1, LIS, neuron 1</text>" in svg.read_text() and int.from_bytes(png.read_bytes()[16:20]) == 1400
    first = pdf.read_bytes()
    ran("plot", "it", "--figure", "membrane", *given, "--width", "7", "--style", "paper.mplstyle")
    assert pdf.read_bytes() == first
    ran("plot", "it", "--figure", "membrane", *given, "--title", "One neuron")
    assert ">One neuron</text>" in svg.read_text()
    assert ran("plot", "it", "--figure", "learning,raster").stdout.startswith("2 figures in it/plots: learning, raster")
    before = (here / "it" / "plots" / "raster.png").stat().st_mtime_ns
    for option, part in (("--trial", "trial0"), ("--layer", "layer0_trial0")):
        said = ran("plot", "it", "--figure", "raster", option, "0", "--format", "png").stdout
        assert said == f"1 figure in it/plots as png: raster_{part}\n"
    assert (here / "it" / "plots" / "raster.png").stat().st_mtime_ns == before


def test_a_wrong_choice_of_figures_is_one_sentence_and_draws_nothing(here):
    ran("run", *CLICKS, "output.dir=it")
    (here / "a.mplstyle").write_text("font.sise: 9\n")
    (here / "b.mplstyle").write_text("font.size: large cat\n")
    (here / "c.mplstyle").write_text("\nfont.size 9\n")
    for words, said in {
        "--figure rastr": "this run has no figure 'rastr'. Did you mean 'raster'? There are: accuracy_map, learning,",
        "--layer 2": "the network has 2 layers, 0 to 1, got layer 2",
        "--layer 1 --neurons 0,9": "layer 1 has 2 neurons, 0 to 1, got neuron 9",
        "--neurons 7": "layer 0 has 4 neurons, 0 to 3, got neuron 7",
        "--neurons a": "--neurons a: expected up to 100 numbers from 0 on",
        "--trial 10": "the test has 10 trials, 0 to 9, got trial 10",
        "--figure learning --layer 0": "choose what raster and membrane show, not what learning shows",
        "--figure learning --trial 0": "--trial chooses what raster, membrane and traces show, not what learning shows",
        "--format pfd": "--format pfd: figures are written as png, svg, pdf. Did you mean 'pdf'?",
        "--figure raster,": "--figure: a name is empty",
        "--title $\\frac{$": "matplotlib cannot draw the title",
        "--width 300": "a width of 300 inches is not between 1 and 30",
        "--style none.mplstyle": "--style none.mplstyle cannot be read: No such file",
        "--style .": "is not a regular file",
        "--style a.mplstyle": "a.mplstyle, line 1: matplotlib has no setting 'font.sise'; 'font.size' is close",
        "--style b.mplstyle": "b.mplstyle, line 1: ",
        "--style c.mplstyle": "c.mplstyle, line 2: expected KEY: VALUE, such as font.size: 9, got 'font.size 9'",
    }.items():
        assert said in refused("plot", "it", *words.split()), words
