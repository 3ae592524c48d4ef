"""Going on with a run that was stopped: what comes after is what would have come, byte for byte, times aside."""

import json
from functools import partial

import pytest
import torch

from tests.command_line import CLICKS, tracetorch
from tests.tiny_training import LONG, NET, Killed, assert_same, facts, stopping, timeless, train
from tracetorch.cli.display import Display
from tracetorch.runs import BusyError, Run, RunFolder, load_checkpoint


class Noisy(torch.optim.SGD):
    """An optimizer that draws torch's own random numbers."""

    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            parameter.data += 1e-3 * torch.randn_like(parameter)
        return super().step(closure)


LONG = LONG | {"optimizer": partial(Noisy, lr=0.01)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that is never stopped."""
    return train(tmp_path_factory.mktemp("whole"), **LONG)


def resumed(tmp_path, **changes):
    """Go on in tmp_path/run."""
    return train(tmp_path, resume_from=RunFolder(tmp_path / "run"), **LONG | changes)


@pytest.mark.parametrize(("at", "how"), [(1, "kill"), (4, "signal"), (5, "kill"), (11, "signal")])
def test_a_stopped_or_killed_run_resumes_to_the_same_end(tmp_path, whole, at, how):
    if how == "signal":
        assert train(tmp_path, listener=stopping(at, how), **LONG).status == "interrupted"
        assert load_checkpoint(tmp_path / "run" / "checkpoints" / "latest.pt", NET(12, 3))["update"] == at
    else:
        with pytest.raises(Killed):
            train(tmp_path, listener=stopping(at, how), **LONG)
    run = resumed(tmp_path)
    assert run.status == "completed" and len(facts(run)["resumed"]) == 1
    assert_same(run, whole)


def test_a_run_may_be_stopped_several_times_even_before_its_first_record(tmp_path, whole):
    (tmp_path / "run").mkdir()
    for at in (1, 2, 6, 10):
        run = resumed(tmp_path, listener=stopping(at, "signal"))
        assert run.status == "interrupted"
    assert_same(resumed(tmp_path), whole)


def test_no_update_is_repeated_after_a_checkpoint_at_every_update(tmp_path):
    done = []

    def listen(event, values):
        if event == "progress":
            done.append(values["done"])
            if len(done) == 7:
                raise Killed

    changes = LONG | {"eval_every": 1000, "checkpoint_seconds": 0.0}
    with pytest.raises(Killed):
        train(tmp_path, listener=listen, **changes)
    resumed(tmp_path, listener=listen, **changes)
    assert done == [1, 2, 3, 4, 5, 6, 7, *range(7, 13)]  # the seventh was not written yet


def test_patience_is_resumed_and_a_run_that_it_ended_is_only_tested(tmp_path):
    changes = LONG | {"updates": 40, "eval_every": 1, "patience": 2, "schedule": "none"}
    whole = train(tmp_path, name="whole", **changes)
    assert facts(whole)["summary"]["updates"] < 40

    def listen(event, values):
        if event == "record" and values["split"] == "test":
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, listener=listen, **changes)
    assert_same(resumed(tmp_path, **changes), whole)


def test_resume_refuses_a_damaged_checkpoint_or_a_folder_in_use_and_removes_half_written_files(tmp_path):
    folder = RunFolder(tmp_path / "run")

    def listen(event, values):
        if event == "progress":
            with pytest.raises(BusyError, match="another process is at work"):
                Run({}, experiment="x", root=tmp_path, resume_from=folder)
            stopping(5, "signal")(event, values)

    assert train(tmp_path, listener=listen, **LONG).status == "interrupted"
    remains = [folder.path / ".run.json.123", folder.path / "checkpoints" / ".latest.pt.77"]
    for path in remains:
        path.write_bytes(b"half")
    whole, net = folder.checkpoint("latest").read_bytes(), NET(12, 3)
    load_checkpoint(folder.checkpoint("latest"), net)
    at = whole.index(net[0].weight.detach().numpy().tobytes()[:16]) + 5
    folder.checkpoint("latest").write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])  # one bit
    before = {file: file.read_bytes() for file in folder.path.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match="damaged"):
        resumed(tmp_path)
    assert {file: file.read_bytes() for file in folder.path.rglob("*") if file.is_file()} == before
    folder.checkpoint("latest").write_bytes(whole)
    assert resumed(tmp_path).status == "completed" and not any(path.exists() for path in remains)


def test_records_that_a_power_cut_took_leave_a_marked_gap(tmp_path, whole):
    train(tmp_path, listener=stopping(9, "signal"), **LONG)
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:9] + bytes(40))
    heard = []
    run = resumed(tmp_path, listener=lambda event, values: heard.append(values) if event == "start" else None)
    records = path.read_bytes().splitlines(keepends=True)
    mark = {"update": 9, "split": "lost", "records": len(lines) - 2, "from_update": json.loads(lines[1])["update"]}
    assert records[:2] == lines[:2] and json.loads(records[2]) == mark == heard[0]["lost"]
    assert run.status == "completed" and timeless(run)[3:] == timeless(whole)[len(lines) :]


def test_resume_on_the_command_line_continues_and_completes_the_run(here, monkeypatch):
    words = ("run", *CLICKS, "train.updates=6", "train.log_every=2")
    with monkeypatch.context() as patch:
        patch.setattr(Display, "_progress", lambda self, values: stopping(3, "signal")("progress", values))
        ended = tracetorch(*words, "output.dir=it")
    assert ended.exit_code == 130
    assert "interrupted after 3 updates" in ended.stderr and "tracetorch resume it" in ended.stderr
    (here / "it" / "run.json").write_text('{"status": "runn')  # a broken one is no obstacle
    ended = tracetorch("resume", "it")
    assert ended.exit_code == 0, ended.output
    assert "poisson_clicks continues" in ended.stdout and "completed" in ended.stdout
    assert tracetorch(*words, "output.dir=whole").exit_code == 0
    assert timeless(RunFolder(here / "it")) == timeless(RunFolder(here / "whole"))
    ended = tracetorch("resume", "it")
    assert ended.exit_code == 0 and "is completed" in ended.stdout
