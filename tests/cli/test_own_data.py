"""A user's own data on the command line: a path is enough, and what is typed has precedence."""

import json

import numpy as np
import pytest

from tests.command_line import tracetorch
from tracetorch.cli.adapter import compose

SHORT = ("train.passes=2", "network.hidden=[8]", "train.figures=false")


@pytest.fixture
def labelled(tmp_path):
    """A file with two classes, which differ in their mean."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    inputs = random.normal(2 * labels[:, None, None] - 1, 0.5, (60, 12, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", inputs=inputs, labels=labels, subject=np.arange(60) // 12)
    return tmp_path / "data.npz"


def facts(folder):
    """The content of a run.json."""
    return json.loads((folder / "run.json").read_text())


def test_a_path_is_enough(labelled, tmp_path):
    done = tracetorch("run", "task=file", f"task.path={labelled}", "train.passes=20", f"output.dir={tmp_path / 'run'}")
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert "chosen for these data: network=lif_lis (class probabilities), loss=cross_entropy (labels)" in words
    assert "train.patience=10" in words and "train.passes" not in words
    assert facts(tmp_path / "run")["summary"]["accuracy"] > 0.9
    assert (tmp_path / "run" / "plots" / "confusion.png").exists()


def test_what_is_typed_has_precedence_and_a_preset_is_left_alone(labelled):
    plain = compose(["task=file", f"task.path={labelled}"])
    assert plain.config["network"]["neuron"]["decay"] == 0.5 and plain.config["train"]["learn_every"] == 1
    typed = compose(["task=file", f"task.path={labelled}", "network.neuron.decay=0.7", "loss=mse", "network=lif_lif"])
    assert (typed.config["network"]["neuron"]["decay"], typed.config["network"]["readout"]["decay"]) == (0.7, 0.5)
    assert typed.config["loss"]["_target_"].endswith("mse")
    assert "network.readout.decay" in " ".join(typed.notes) and "loss=" not in " ".join(typed.notes)
    preset = compose(["experiment=spoken_digits", f"task.path={labelled}"])
    assert preset.notes == () and preset.config["network"]["neuron"]["decay"] == 0.9


@pytest.mark.parametrize("rule", ["trace", "eprop", "ottt", "bptt"])
def test_regression_with_every_rule(rule, tmp_path):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(40, 10, 2)).astype(np.float32)
    np.savez(tmp_path / "data.npz", inputs=inputs, target=inputs.mean(axis=1) * 50 + 7)
    where = f"output.dir={tmp_path / 'run'}"
    done = tracetorch("run", "task=file", f"task.path={tmp_path / 'data.npz'}", f"rule={rule}", *SHORT, where)
    assert done.exit_code == 0, done.output
    assert {"r2", "mse"} <= facts(tmp_path / "run")["summary"].keys()


@pytest.mark.parametrize("rule", ["trace", "eprop", "ottt", "bptt", "decolle"])
def test_a_signal_with_a_target_at_each_step_with_every_rule(rule, tmp_path):
    pytest.importorskip("pandas")
    x = np.sin(np.arange(400) / 7)
    lines = [f"{at * 0.01:.2f},{value:.4f},{-value:.4f}" for at, value in enumerate(x)]
    (tmp_path / "signal.csv").write_text("time,x,target\n" + "\n".join(lines))
    given = ("task=file", f"task.path={tmp_path / 'signal.csv'}", "task.cut=20", f"rule={rule}", "network.hidden=[8]")
    done = tracetorch("run", *given, "train.passes=2", f"output.dir={tmp_path / 'run'}")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "plots" / "traces.png").exists()
    if rule == "trace":
        again = tracetorch("plot", str(tmp_path / "run"), "--figure", "traces")
        assert again.exit_code == 0 and again.stdout.startswith("1 figure"), again.output
    assert facts(tmp_path / "run")["summary"]["r2"] > (-1 if rule != "bptt" else -5)


def test_samples_of_different_lengths_are_trained_and_resumed_exactly(tmp_path):
    random = np.random.default_rng(0)
    lengths = np.array([4, 6, 9, 5] * 6)
    inputs = random.normal(size=(lengths.sum(), 2)).astype(np.float32)
    np.savez(tmp_path / "data.npz", inputs=inputs, lengths=lengths, labels=np.arange(24) % 2)
    given = ("run", "task=file", f"task.path={tmp_path / 'data.npz'}", *SHORT, "task.batch_size=4")
    for name in ("one", "other"):
        assert tracetorch(*given, f"output.dir={tmp_path / name}").exit_code == 0
    assert tracetorch("run", "--from", str(tmp_path / "one"), f"output.dir={tmp_path / 'again'}").exit_code == 0
    first, second = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("one", "other"))
    strip = [
        [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in text.splitlines()]
        for text in (first, second)
    ]
    assert strip[0] == strip[1]


def test_other_data_are_noticed(labelled, tmp_path):
    run = tmp_path / "run"
    assert tracetorch("run", "task=file", f"task.path={labelled}", *SHORT, f"output.dir={run}").exit_code == 0
    assert facts(run)["data"].keys() == {"task.path"}
    content = dict(np.load(labelled))
    np.savez(labelled, **{**content, "inputs": content["inputs"] ** 2})
    done = tracetorch("run", "--from", str(run), f"output.dir={tmp_path / 'other'}")
    assert done.exit_code == 1 and "the data of task.path had different content" in " ".join(done.output.split())


def test_leave_one_group_out(labelled, tmp_path):
    given = (
        "run",
        "task=file",
        f"task.path={labelled}",
        "task.test=subject=2",
        *SHORT,
        f"output.dir={tmp_path / 'run'}",
    )
    assert tracetorch(*given).exit_code == 0
    assert len((tmp_path / "run" / "trials.csv").read_text().splitlines()) == 13


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (("task.path=nowhere.npz",), "task.path=nowhere.npz: there is no such file or folder"),
        ((), "task.path"),
        (("task.path={data}", "task.test=subjct=2"), "did you mean subject?"),
        (("task.path={data}", "task.encoding=events"), "choose current, poisson, delta or auto"),
    ],
)
def test_wrong_words_get_one_sentence(typed, sentence, labelled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = tracetorch("run", "task=file", *(word.format(data=labelled) for word in typed))
    assert done.exit_code == 2 and sentence in " ".join(done.output.split()), done.output
    assert "Traceback" not in done.output and not (tmp_path / "outputs").exists()
