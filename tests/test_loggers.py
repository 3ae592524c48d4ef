"""Loggers: TensorBoard, W&B and MLflow get the records; a logger that fails does not stop the run."""

import json
import struct
import sys
from pathlib import Path

import pytest

import tracetorch as tt
from tests.command_line import CLICKS, facts_in, ran, refused
from tracetorch.cli.adapter import compose
from tracetorch.cli.check import check
from tracetorch.cli.errors import UsageError
from tracetorch.loggers import Logger
from tracetorch.runs import RunFolder
from tracetorch.runs.identity import group_of


def curves_of(folder: Path) -> dict[str, dict[int, float]]:
    """The numbers in the records of a run, by split/name and by update."""
    found: dict[str, dict[int, float]] = {}
    for row in RunFolder(folder).records():
        for name, value in row.items():
            if name not in ("update", "split"):
                found.setdefault(f"{row['split']}/{name}", {})[row["update"]] = value
    return found


def test_tensorboard_reads_the_records_of_a_run_also_after_resume(here):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def read():
        events = reader.EventAccumulator("it/tensorboard")
        events.Reload()
        tags = events.Tags()["scalars"]
        return events, {tag: {one.step: one.value for one in events.Scalars(tag)} for tag in tags}

    ran("run", *CLICKS, "train.log_every=1", "output.dir=it", "logger=tensorboard")
    events, found = read()
    assert found == {tag: pytest.approx(curve) for tag, curve in curves_of(Path("it")).items()}
    assert {"train/loss", "train/accuracy", "validation/accuracy", "test/accuracy"} <= found.keys()
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| network.hidden | [4] |" in text
    assert "| status | completed |" in events.Tensors("summary/text_summary")[0].tensor_proto.string_val[0].decode()
    ran("resume", "it", "train.updates=4")
    assert read()[1]["train/loss"] == pytest.approx(curves_of(Path("it"))["train/loss"])


def records_of_wandb(path: Path) -> list[bytes]:
    """The records in a file of W&B: after 7 bytes, blocks of 32 KiB of parts with a checksum, a length and a kind."""
    content, at, found = path.read_bytes(), 7, [b""]
    assert content.startswith(b":W&B")
    while at + 7 <= len(content):
        if (left := -at % 32768) < 7:
            at += left
            continue
        size, kind = struct.unpack_from("<HB", content, at + 4)
        found[-1] += content[at + 7 : at + 7 + size]
        if kind in (1, 4):  # a whole record, or its last part
            found.append(b"")
        at += 7 + size
    return found[:-1]


def test_wandb_writes_offline_files_that_it_can_read(here, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    ended = ran("run", *CLICKS, "train.log_every=1", "output.dir=it", "logger=wandb", "logger.wandb.project=mine")
    assert ended.stderr == ""
    wandb.teardown()  # as at the end of a process: its service writes what it holds
    (path,) = Path("it/wandb").glob("offline-run-*/*.wandb")
    rows, starts, summary = [], [], {}
    for record in map(wandb_internal_pb2.Record.FromString, records_of_wandb(path)):
        match record.WhichOneof("record_type"):
            case "run":
                starts.append(record.run)
            case "history":
                items = record.history.item
                rows.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
            case "summary":
                updates = record.summary.update
                summary |= {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in updates}
    start = starts[0]
    assert (start.project, start.display_name, start.run_id) == ("mine", "it", facts_in(here / "it")["run_id"])
    found = {}
    for row in rows:
        for name, value in row.items():
            if "/" in name:
                found.setdefault(name, {})[row["update"]] = value
    assert found == curves_of(Path("it")) and summary["accuracy"] == facts_in(here / "it")["summary"]["accuracy"]


@pytest.mark.filterwarnings("ignore")  # of MLflow's own libraries
def test_mlflow_gets_the_records_and_a_continued_run_stays_one_run(here, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("alembic", reason="MLflow's database needs it")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/mlflow.db")
    ran("run", *CLICKS, "train.log_every=1", "output.dir=it", "logger=mlflow")
    ran("resume", "it", "train.updates=3")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("poisson_clicks").experiment_id])
    assert (run.info.run_name, run.info.status, run.data.params["network.hidden"]) == ("it", "FINISHED", "[4]")
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert {one.step: one.value for one in history} == curves_of(Path("it"))["train/loss"]
    assert run.data.metrics["accuracy"] == facts_in(here / "it")["summary"]["accuracy"]


FAULTY = """
from tracetorch.cli.adapter import compose
from tracetorch.cli.check import check
from tracetorch.cli.errors import UsageError
from tracetorch.loggers import Logger

class Faulty(Logger):
    calls = []
    def start(self, run):
        self.calls.append(run.experiment)
    def log(self, record):
        raise {error}
    def finish(self, summary, status):
        self.calls.append(status)
"""


@pytest.mark.parametrize("error", ["OSError('no disk')", "SystemExit(3)"])
def test_a_logger_that_fails_stops_neither_the_run_nor_another_logger(here, monkeypatch, error):
    name = f"faulty_{len(error)}"
    Path(f"{name}.py").write_text(FAULTY.format(error=error) + "class Good(Faulty):\n    def log(self, r): pass\n")
    monkeypatch.syspath_prepend(str(here))
    ended = ran(
        "run", *CLICKS, "output.dir=it", f"+logger.one._target_={name}.Faulty", f"+logger.b._target_={name}.Good"
    )
    assert "logger one stopped" in ended.stderr and facts_in(here / "it")["status"] == "completed"
    assert sys.modules[name].Faulty.calls == ["poisson_clicks", "poisson_clicks", "completed"]
    assert any("logger one stopped" in warning for warning in facts_in(here / "it")["warnings"])


def test_wrong_loggers_are_refused_and_loggers_do_not_change_the_group_of_a_run(here, monkeypatch):
    assert "there is no such logger" in refused("run", *CLICKS, "logger=tensorbord")
    assert "logger.tensorboard.flush_seconds must be a whole number" in refused(
        "run", *CLICKS, "logger=tensorboard", "logger.tensorboard.flush_seconds=x"
    )
    assert "logger.x has no _target_" in refused("run", *CLICKS, "+logger.x=3")
    with pytest.raises(UsageError, match="logger has no _target_"):
        check(compose([]).config | {"logger": 3})
    for name in ("tensorboard", "wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
        said = refused("run", *CLICKS, f"logger={name}")
        assert f"needs the package {name}: pip install -c constraints.txt -e '.[{name}]'" in said
    config = {"task": {"a": 1}, "train": {}}
    assert group_of(config) == group_of(config | {"logger": {"tensorboard": {"flush_seconds": 1}}})
    assert issubclass(tt.loggers.TensorBoard, Logger)
