"""`tt.run` and `tt.load`: runs from Python."""

import shutil
from pathlib import Path

import pytest
import torch

import tracetorch as tt
from tests.command_line import CLICKS, DIGITS, ran
from tests.tiny_training import stopping
from tracetorch.cli.display import Display
from tracetorch.cli.errors import UsageError
from tracetorch.runs import load_checkpoint


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run that Python made, with figures."""
    folder = tmp_path_factory.mktemp("n") / "it"
    return tt.run([*CLICKS, "train.figures=true", f"output.dir={folder}"], quiet=True)


def test_a_run_from_python_is_that_of_the_command_line(made, here, capsys):
    again = tt.run([*CLICKS, "output.dir=again"])
    assert "poisson_clicks: completed" in capsys.readouterr().out
    ran("run", *CLICKS, "output.dir=typed")
    typed = tt.load("typed")
    for run in (again, typed):
        assert run.summary["accuracy"] == made.summary["accuracy"] and run.status == "completed"
        assert all(
            torch.equal(one, other) for one, other in zip(run.net.parameters(), made.net.parameters(), strict=True)
        )
    tt.run([*CLICKS, "output.dir=silent"], quiet=True)
    assert capsys.readouterr() == ("", "")


def test_what_a_run_holds(made):
    assert [row["split"] for row in made.metrics][-1] == "test" and made.config["network"]["hidden"] == [4]
    assert made.figures["raster"]._repr_png_().startswith(b"\x89PNG") and "poisson_clicks" in repr(made)
    assert made.facts["summary"] == made.summary and made.experiment == "poisson_clicks"


def test_a_run_is_ready_to_step_to_learn_and_to_be_tested(made):
    run = tt.load(made.folder)
    found = run.evaluate()
    assert found["accuracy"] == made.summary["accuracy"] and found["loss"] == pytest.approx(made.summary["loss"])
    assert run.net(torch.zeros(3, 30)).shape == (3, 2)
    before, batch = run.net[1].weight.detach().clone(), run.task.train_batch(0)
    run.rule.reset()
    output = run.rule.forward(batch.xs, reduce="mean", window=run.task.readout_window)
    run.rule.backward(run.loss(output, batch.target)[1])
    run.optimizer.step()
    assert not torch.equal(run.net[1].weight, before)
    assert all(state["step"] == 3 for state in run.optimizer.state_dict()["state"].values())
    saved = tt.nn.feedforward(30, 2, hidden=[4], neuron=tt.nn.LIF, readout=tt.nn.LIS)
    load_checkpoint(run.checkpoint, saved)
    assert torch.equal(saved[1].weight, before)  # nothing is written
    assert tt.load(made.folder, ["task.test_trials=20"], checkpoint="best").evaluate() != found


def test_a_run_whose_data_are_missing_opens(here):
    shutil.copytree(Path(tt.tasks.__file__).parent / "mnist_sample", here / "data")
    tt.run([*DIGITS, "task.source=data", "output.dir=it"], quiet=True)
    shutil.rmtree(here / "data")
    run = tt.load("it")
    assert run.net(torch.zeros(1, run.net.in_features)).shape == (1, 10)
    with pytest.raises(UsageError, match="there is no such folder"):
        run.task  # noqa: B018


def test_rewards(here):
    run = tt.run(
        ["experiment=bandit_sample", "train.updates=2", "train.passes=null", "train.figures=false", "device=cpu",
         "network.hidden=[4]", "output.dir=it"],
        quiet=True,
    )  # fmt: skip
    assert run.evaluate().items() <= run.summary.items()


def test_presets_call_only_what_is_trusted_and_notes_are_shown(here, capsys):
    (here / "own" / "task").mkdir(parents=True)
    (here / "own" / "task" / "strange.yaml").write_text("# Strange.\n_target_: os.mkdir\npath: harmed\n")
    with pytest.raises(UsageError, match=r"calls 'os\.mkdir', which is not trusted"):
        tt.run(["task=strange"], config_dir="own")
    assert not (here / "harmed").exists()
    tt.run([*CLICKS, "experiment=mnist_sample", "task=poisson_clicks", "train.passes=null", "output.dir=it"])
    assert "sets task.source, which task=poisson_clicks does not take" in " ".join(capsys.readouterr().out.split())


def test_a_path_in_the_home_folder_is_expanded(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    tt.run([*DIGITS, "output.dir=it"], quiet=True)
    assert tt.load("it", ["task.source=~/data"]).config["task"]["source"] == str(here / "data")


def test_mistakes_are_sentences_and_an_interrupted_run_is_saved(made, here, monkeypatch, tmp_path_factory):
    bare = shutil.copytree(made.folder, tmp_path_factory.mktemp("bare") / "run")
    (bare / "checkpoints" / "best.pt").unlink()
    for call, phrase in [
        (lambda: tt.run("seed=1"), "overrides must be a list of strings"),
        (lambda: tt.run(["-m", "seed=1,2"]), "a sweep is a loop over tt.run"),
        (lambda: tt.run(["sed=1"]), "Did you mean 'seed'"),
        (lambda: tt.load("nowhere"), "there is no folder nowhere"),
        (lambda: tt.load("."), "not a run folder"),
        (lambda: tt.load(made.folder, ["optimizer=sgd"]), "optimizer was chosen when the run began"),
        (lambda: tt.load(made.folder, device="gpu"), "device=gpu is not a device"),
        (lambda: tt.load(made.folder, checkpoint="bst"), "'bst': give 'latest' or 'best'. Did you mean 'best'"),
        (lambda: tt.load(bare, checkpoint="best"), "there is no checkpoint .*best.pt; there is another"),
    ]:
        with pytest.raises((UsageError, ValueError), match=phrase):
            call()
    assert not list(here.iterdir())
    with pytest.raises(RuntimeError, match=r"is silent.*\(see it\)"):
        tt.run([*CLICKS, "network.neuron.threshold=1e6", "output.dir=it"], quiet=True)
    assert tt.load("it").status == "failed"
    monkeypatch.setattr(Display, "_progress", lambda self, values: stopping(1, "signal")("progress", values))
    with pytest.raises(KeyboardInterrupt, match="tracetorch resume cut"):
        tt.run([*CLICKS, "output.dir=cut"])
    assert tt.load("cut").status == "interrupted" and tt.load("cut").net
