"""How a supervised run ends: interrupted, failed or refused, and what its folder then says."""

import json
import math
import signal

import pytest
import torch

from tests.tiny_training import NET, Watched, facts, train
from tracetorch.loss import mse
from tracetorch.runs import load_checkpoint
from tracetorch.tasks import PoissonClicks
from tracetorch.training import TrainingError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
def test_an_interruption_ends_after_the_present_update_with_everything_kept(tmp_path, number):
    def listener(event, values):
        if event == "progress" and values["done"] == 3:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    run = train(tmp_path, updates=1000, log_every=1, eval_every=1000, listener=listener)
    assert signal.getsignal(number) is before
    assert facts(run)["status"] == run.status == "interrupted"
    assert run.summary["updates"] == 3
    assert load_checkpoint(run.folder.checkpoint("latest"), NET(12, 3))["update"] == 3
    assert {row["split"] for row in run.folder.records()} == {"train"}  # going on will give what would have come
    assert not (run.folder.path / "error.txt").exists()


def test_a_second_interruption_stops_at_once(tmp_path):
    def listener(event, values):
        if event == "progress" and values["done"] == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, updates=1000, listener=listener)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


def test_a_failure_inside_of_the_loop_is_told(tmp_path):
    calls = []

    def broken(output, target):
        calls.append(1)
        if len(calls) > 1:  # after the rehearsal
            raise RuntimeError("the loss fell off")
        return mse(output, target)

    with pytest.raises(RuntimeError, match="fell off"):
        train(tmp_path, loss=broken)
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (told["status"], told["error"]) == ("failed", "RuntimeError: the loss fell off")
    assert "fell off" in (tmp_path / "run" / "error.txt").read_text()


def test_a_loss_that_is_no_number_ends_the_run_before_it_spoils_the_weights(tmp_path):
    watched = Watched()
    with pytest.raises(TrainingError, match="update 1: the loss is nan"):
        train(
            tmp_path, loss=lambda y, q: (torch.tensor(math.nan), torch.full_like(y, math.nan)), network=watched.network
        )
    assert all(bool(torch.isfinite(parameter).all()) for parameter in watched.net.parameters())


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"passes": 2}, "the data of Patterns never end; give train.updates, and train.passes=null"),
        ({"updates": None}, "train.updates and train.passes are both null"),
        ({"updates": None, "passes": 1}, "the data of Patterns never end; give train.updates, and train.passes=null"),
        ({"updates": 0}, "must make at least 1 update, got 0"),
        ({"device": "gpu"}, "device=gpu is not a device"),
        ({"log_every": 0}, "log_every"),
        ({"eval_every": 0}, "eval_every"),
        ({"eval_every": -1}, "eval_every"),
        ({"learn_every": 0}, "learn_every"),
        ({"learn_every": -3}, "learn_every"),
        ({"window": 0}, "window"),
        ({"window": -1}, "window"),
        ({"window": 11}, "window"),
        ({"patience": 0}, "patience"),
        ({"patience": -1}, "patience"),
    ],
    ids=str,
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, changes, phrase):
    with pytest.raises(ValueError, match=phrase):
        train(tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []


def test_patience_without_anything_held_out_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"patience.*(validation|held out)"):
        train(tmp_path, task=PoissonClicks(duration=[0.2], validation_trials=0, batch_size=3), patience=3)
    assert list(tmp_path.iterdir()) == []
