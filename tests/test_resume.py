"""Going on with a run that was stopped: what comes after is what would have come, byte for byte, times aside."""

import json
import signal

import pytest
import torch

from tests.command_line import CLICKS, tracetorch
from tests.tiny_training import NET, facts, train
from tracetorch.runs import BusyError, Run, RunFolder, load_checkpoint
from tracetorch.runs.lock import Lock

LONG = {"updates": 12, "log_every": 5, "eval_every": 4, "schedule": "cosine"}


class Killed(BaseException):
    """Ends a run as nothing that it expects would."""


def stopping(at, how):
    """A listener that stops the run after so many updates; `how`: "wish" or "kill"."""

    def listen(event, values):
        if event == "progress" and values["done"] == at:
            if how == "wish":
                signal.raise_signal(signal.SIGINT)
            else:
                raise Killed

    return listen


def timeless(run_or_folder):
    """The records without what depends on the clock."""
    path = getattr(run_or_folder, "folder", run_or_folder).path
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in row.items() if not name.endswith(("_seconds", "_per_second"))} for row in rows
    ]


def weights(folder, name="latest"):
    net = NET(12, 3)
    load_checkpoint(folder.checkpoint(name), net)
    return net.state_dict()


def again(tmp_path, name="run", **changes):
    """Go on in tmp_path/name."""
    return train(tmp_path, resume_from=RunFolder(tmp_path / name), name=name, **LONG | changes)


def assert_same(one, other):
    assert timeless(one) == timeless(other)
    for name in ("latest", "best"):
        left, right = weights(one.folder, name), weights(other.folder, name)
        assert all(torch.equal(left[key], right[key]) for key in left)
    assert {k: v for k, v in facts(one)["summary"].items() if not k.endswith(("seconds", "per_second", "bytes"))} == {
        k: v for k, v in facts(other)["summary"].items() if not k.endswith(("seconds", "per_second", "bytes"))
    }


@pytest.mark.parametrize("how", ["wish", "kill"])
@pytest.mark.parametrize("at", [1, 4, 5, 7, 11])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, how, at):
    whole = train(tmp_path, name="whole", **LONG)
    if how == "wish":
        assert train(tmp_path, listener=stopping(at, how), **LONG).status == "interrupted"
        assert load_checkpoint(tmp_path / "run" / "checkpoints" / "latest.pt", NET(12, 3))["update"] == at
    else:
        with pytest.raises(Killed):
            train(tmp_path, listener=stopping(at, how), **LONG)
    run = again(tmp_path)
    assert run.status == "completed"
    assert len(facts(run)["resumed"]) == 1
    assert_same(run, whole)


def test_it_may_be_stopped_as_often_as_one_likes(tmp_path):
    whole = train(tmp_path, name="whole", **LONG)
    train(tmp_path, listener=stopping(1, "wish"), **LONG)
    for at in range(2, 12):
        run = again(tmp_path, listener=stopping(at, "wish"))
        assert run.status == "interrupted"
    assert_same(again(tmp_path), whole)


def test_with_a_checkpoint_after_every_update_none_is_done_twice(tmp_path):
    done = []

    def listen(event, values):
        if event == "progress":
            done.append(values["done"])
            if len(done) == 7:
                raise Killed

    changes = LONG | {"eval_every": 1000, "checkpoint_seconds": 0.0}
    with pytest.raises(Killed):
        train(tmp_path, listener=listen, **changes)
    again(tmp_path, listener=listen, **changes)
    assert done == [1, 2, 3, 4, 5, 6, 7, *range(7, 13)]  # the seventh was not written yet


def test_patience_goes_on_as_well_and_a_run_that_it_ended_is_not_trained_further(tmp_path):
    changes = LONG | {"updates": 40, "eval_every": 1, "patience": 2, "schedule": "none"}
    whole = train(tmp_path, name="whole", **changes)
    assert facts(whole)["summary"]["updates"] < 40

    def listen(event, values):
        if event == "record" and values["split"] == "test":
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, listener=listen, **changes)
    assert_same(again(tmp_path, **changes), whole)


def test_torchs_own_random_numbers_go_on_too(tmp_path):
    class Noisy(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data += 1e-3 * torch.randn_like(parameter)
            return super().step(closure)

    def noisy(parameters):
        return Noisy(parameters, lr=0.01)

    whole = train(tmp_path, name="whole", optimizer=noisy, **LONG)
    train(tmp_path, optimizer=noisy, listener=stopping(7, "wish"), **LONG)
    assert_same(again(tmp_path, optimizer=noisy), whole)


def test_a_run_with_nothing_written_but_its_folder_starts_from_the_beginning(tmp_path):
    whole = train(tmp_path, name="whole", **LONG)
    (tmp_path / "run").mkdir()
    assert_same(again(tmp_path), whole)


def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path):
    train(tmp_path, listener=stopping(5, "wish"), **LONG)
    remains = [tmp_path / "run" / ".run.json.123", tmp_path / "run" / "checkpoints" / ".latest.pt.77"]
    for path in remains:
        path.write_bytes(b"half")
    again(tmp_path)
    assert not any(path.exists() for path in remains)


def test_one_folder_takes_one_process_at_a_time(tmp_path):
    train(tmp_path, listener=stopping(5, "wish"), **LONG)
    lock = Lock(tmp_path / "run")
    with pytest.raises(BusyError, match="another process is at work"):
        again(tmp_path)
    lock.release()
    assert again(tmp_path).status == "completed"


def test_a_second_run_does_not_get_into_the_folder_of_one_at_work(tmp_path):
    def listen(event, values):
        if event == "progress":
            with pytest.raises(BusyError):
                Run({}, experiment="x", root=tmp_path, resume_from=RunFolder(tmp_path / "run"))

    assert train(tmp_path, listener=listen).status == "completed"


def test_a_damaged_checkpoint_is_refused_and_nothing_is_touched(tmp_path):
    train(tmp_path, listener=stopping(5, "wish"), **LONG)
    path = tmp_path / "run" / "checkpoints" / "latest.pt"
    content = bytearray(path.read_bytes())
    net = NET(12, 3)
    load_checkpoint(path, net)
    at = content.index(net[0].weight.detach().numpy().tobytes()[:16])
    content[at + 5] ^= 0x10  # one bit of one weight
    path.write_bytes(content)
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match="damaged"):
        again(tmp_path)
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


def test_records_that_a_power_cut_took_leave_a_marked_gap(tmp_path):
    whole = train(tmp_path, name="whole", **LONG)
    train(tmp_path, listener=stopping(9, "wish"), **LONG)
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:9] + bytes(40))
    heard = []
    run = again(tmp_path, listener=lambda event, values: heard.append(values) if event == "start" else None)
    records = path.read_bytes().splitlines(keepends=True)
    before = json.loads(lines[1])["update"]
    mark = {"update": 9, "split": "lost", "records": len(lines) - 2, "from_update": before}
    assert records[:2] == lines[:2] and json.loads(records[2]) == mark == heard[0]["lost"]
    assert run.status == "completed"
    untouched = timeless(whole.folder)
    assert timeless(run.folder)[3:] == untouched[len(lines) :]


# ── the verb ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """A run of the command line that was stopped after its third update. Returns: its folder."""
    monkeypatch.chdir(tmp_path)
    from tracetorch.cli.display import Display

    monkeypatch.setattr(Display, "_progress", lambda self, values: stopping(3, "wish")("progress", values))
    ended = tracetorch("run", *CLICKS, "train.updates=6", "train.log_every=2", "output.dir=it")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert ended.exit_code == 130
    assert "interrupted after 3 updates" in ended.stderr and "tracetorch resume it" in ended.stderr
    return tmp_path / "it"


def test_resume_goes_on_and_says_so(interrupted):
    ended = tracetorch("resume", "it")
    assert ended.exit_code == 0, ended.output
    assert "poisson_clicks continues" in ended.stdout and "completed" in ended.stdout
    assert tracetorch("run", *CLICKS, "train.updates=6", "train.log_every=2", "output.dir=whole").exit_code == 0
    assert timeless(RunFolder(interrupted)) == timeless(RunFolder(interrupted.parent / "whole"))
    ended = tracetorch("resume", "it")
    assert ended.exit_code == 0 and "is completed" in ended.stdout


@pytest.mark.parametrize(
    ("spoil", "phrase"),
    [
        (lambda folder: (folder / "config.yaml").unlink(), "neither config.yaml nor sweep.json"),
        (lambda folder: (folder / "config.yaml").write_text("a: [b"), "is not valid YAML"),
        (lambda folder: (folder / "checkpoints" / "latest.pt").write_bytes(b"no zip"), "is damaged"),
        (
            lambda folder: (folder / "config.yaml").write_text(
                (folder / "config.yaml").read_text().replace("torch.optim.Adam", "os.system")
            ),
            "'os.system', which is not trusted",
        ),
    ],
)
def test_a_spoilt_folder_is_told_in_a_sentence(interrupted, spoil, phrase):
    spoil(interrupted)
    ended = tracetorch("resume", "it")
    assert ended.exit_code == 2
    assert phrase in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_half_written_run_json_is_no_obstacle(interrupted):
    (interrupted / "run.json").write_text('{"status": "runn')
    assert tracetorch("resume", "it").exit_code == 0
    assert json.loads((interrupted / "run.json").read_text())["status"] == "completed"
