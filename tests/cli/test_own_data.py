"""A user's own data on the command line: a path is enough, and what is typed has precedence."""

import json

import numpy as np
import pytest

import tracetorch as tt
from tests.command_line import ran, refused, tracetorch
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


def test_a_path_is_enough(labelled, tmp_path, here):
    done = tracetorch("run", "task=file", f"task.path={labelled}", "train.passes=20", f"output.dir={tmp_path / 'run'}")
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert "chosen for these data: network=lif_lis (class probabilities), loss=cross_entropy (labels)" in words
    assert "train.patience=10" in words and "train.passes" not in words
    assert facts(tmp_path / "run")["summary"]["accuracy"] > 0.9
    assert (tmp_path / "run" / "plots" / "confusion.png").exists()
    own = np.load(labelled)
    inputs, labels = own["inputs"], own["labels"]
    others = {
        "two": (inputs[labels == 1], labels[labels == 1]),
        "new": (inputs[:40], labels[:40] * 4),
        "swapped": (inputs.swapaxes(1, 2), labels),
        "fewer": (inputs[..., :2], labels),
    }
    for name, (values, names) in others.items():
        np.savez(tmp_path / f"{name}.npz", inputs=values, labels=names)
    tested = ["eval", f"{tmp_path / 'run'}", "train.figures=false"]
    one_class = tracetorch(*tested, f"task.path={tmp_path / 'two.npz'}")
    assert one_class.exit_code == 0 and "accuracy of 1" in one_class.output
    assert f"for all of its samples, give task.test={tmp_path}" in " ".join(one_class.output.split())
    assert tt.load(tmp_path / "run", [f"task.path={tmp_path / 'two.npz'}"]).evaluate()["accuracy"] > 0.9
    for name, sentence in {
        "new": "no output for the class 4; its classes are 0, 1",
        "swapped": "trained with 3 channels, and SWAPPED has 12: are the axes swapped?",
        "fewer": "trained with 3 channels, and FEWER has 2\n",
    }.items():
        said = refused(*tested, f"task.path={tmp_path / name}.npz")
        assert sentence.replace(name.upper(), f"{tmp_path / name}.npz") in said
        if name != "new":
            start = ("run", "task=file", f"task.path={tmp_path / name}.npz", f"init_from={tmp_path / 'run'}")
            assert sentence.replace(name.upper(), f"{tmp_path / name}.npz").rstrip() in refused(*start)


def test_what_was_taken_for_a_sample_is_said(tmp_path):
    times = np.arange(200.0)
    signal, path = np.sin(times / 9), tmp_path / "data.csv"

    def read(columns, *typed):
        rows = zip(*columns.values(), strict=True)
        path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]))
        return compose(["task=file", f"task.path={path}", *typed]).notes[0]

    wave = {"x": signal, "target": np.roll(signal, 3)}
    assert "if rows are time steps, give task.time=NAME" in read(wave)
    assert "give task.time=time_ms" in read({"time_ms": times * 10} | wave)
    assert "rows are" not in read(wave, "task.rows=samples")
    assert "4 samples of 50 steps, 1 channel; 1 value at each step" in (said := read(wave, "task.cut=50"))
    assert "max_rate" not in said and "task.max_rate=2 (few neurons" in read(wave, "task.cut=50", "network.hidden=[8]")
    digits = np.arange(200) % 3 * 1.0  # whole numbers, as numpy's savetxt and Excel write them
    hint = "the targets 0, 1, 2 are real numbers, and so values to be predicted; for classes, give task.kind=label"
    assert hint in read({"x": signal, "target": digits})
    said = read({"x": signal, "target": digits}, "task.kind=label")
    assert "3 classes (0, 1, 2)" in said and hint not in said
    noise = np.random.default_rng(0).normal(size=(3, 200))
    assert "rows are" not in read({"x": noise[0], "y": noise[1], "target": noise[2]})


def test_what_is_typed_has_precedence_and_a_preset_is_left_alone(labelled):
    plain = compose(["task=file", f"task.path={labelled}"])
    assert plain.config["network"]["neuron"]["decay"] == 0.5 and plain.config["train"]["learn_every"] == 1
    typed = compose(["task=file", f"task.path={labelled}", "network.neuron.decay=0.7", "loss=mse", "network=lif_lif"])
    assert (typed.config["network"]["neuron"]["decay"], typed.config["network"]["readout"]["decay"]) == (0.7, 0.5)
    assert typed.config["loss"]["_target_"].endswith("mse")
    assert "network.readout.decay" in " ".join(typed.notes) and "loss=" not in " ".join(typed.notes)
    preset = compose(["experiment=spoken_digits", f"task.path={labelled}"])
    assert preset.notes == () and preset.config["network"]["neuron"]["decay"] == 0.9


def test_a_typed_length_counts_for_evaluations_and_patience(labelled):
    given = ["task=file", f"task.path={labelled}", "task.batch_size=8"]  # 5 updates in a pass
    found = {}
    for typed in ("train.passes=2", "train.updates=7", "train.passes=90"):
        train = compose([*given, typed]).config["train"]
        found[typed] = [train[key] for key in ("passes", "updates", "eval_every", "patience")]
    assert found == {
        "train.passes=2": [2, None, 5, None],
        "train.updates=7": [None, 7, 5, None],
        "train.passes=90": [90, None, 15, 10],
    }


@pytest.mark.parametrize("at", ["end", "steps"])
def test_new_arrays_get_the_predictions_that_they_would_get_as_test_samples(at, tmp_path):
    random = np.random.default_rng(0)
    inputs = random.normal(50, 20, size=(40, 10, 2)).astype(np.float32)
    target = inputs[..., 0] * 3 if at == "steps" else inputs.mean(axis=(1, 2))
    np.savez(tmp_path / "data.npz", inputs=inputs, target=target, split=["train", "test"] * 20)
    given = ["task=file", f"task.path={tmp_path / 'data.npz'}", *SHORT, f"output.dir={tmp_path / 'run'}"]
    run = tt.run([*given, "network.neuron.threshold=0.1"], quiet=True)
    reduce = {"reduce": "mean", "window": run.task.readout_window} if at == "end" else {}
    run.net.reset()
    output = run.net.run(run.task.inputs_of(inputs[1::2]), **reduce).detach()
    predicted = run.task.in_units(output).squeeze(-1).numpy()
    error = (predicted.T if at == "steps" else predicted) - target[1::2]
    assert (error**2).mean() == pytest.approx(run.summary["mse"], rel=1e-4)
    for wrong in (inputs[:, :, :1], inputs[0], inputs * np.nan):
        with pytest.raises(ValueError, match="values must"):
            run.task.inputs_of(wrong)


def test_a_typed_length_replaces_that_of_the_preset(here):
    for typed, length in (("train.updates=3", (3, None)), ("train.passes=0.5", (None, 0.5))):
        for preset in ("mnist_sample", "poisson_clicks"):
            train = compose([f"experiment={preset}", typed]).config["train"]
            assert (train["updates"], train["passes"]) == length
    train = compose(["experiment=mnist_sample", "train.updates=3", "train.passes=2"]).config["train"]
    assert (train["updates"], train["passes"]) == (3, 2)  # which the run refuses
    assert "train.updates in its place" in refused("run", "train.passes=1")


def test_runs_are_named_after_their_data(labelled, tmp_path):
    assert compose(["task=file", f"task.path={labelled}"]).experiment == "file_data"
    odd = tmp_path / "my recordings (2).npz"
    odd.write_bytes(labelled.read_bytes())
    assert compose(["task=file", f"task.path='{odd}'"]).experiment == "file_my_recordings_2"
    assert compose(["experiment=spoken_digits", f"task.path={labelled}"]).experiment == "spoken_digits"


DATASETS = """
import torch
import tracetorch as tt

class Sines(torch.utils.data.Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, at):
        return torch.sin(torch.arange(12.0)[:, None] / (2 + at % 3)), at % 3

def task(batch_size=16, seed=0):
    return tt.tasks.Dataset(Sines(), batch_size=batch_size, seed=seed)
"""


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("task={_target_: sines.task, batch_size: 8}", "task"),
        pytest.param(
            "task={_target_: tracetorch.tasks.Dataset, train: {_target_: sines.Sines}, batch_size: 8}",
            "Sines",
            marks=pytest.mark.slow,
        ),
        pytest.param("task=own", "own", marks=pytest.mark.slow),
    ],
)
def test_what_suits_a_dataset_of_ones_own_is_chosen_too(typed, name, here):
    (here / "sines.py").write_text(DATASETS)
    (here / "tracetorch.toml").write_text('[tracetorch]\npackages = ["sines"]\n')
    (here / "conf" / "task").mkdir(parents=True)
    (here / "conf" / "task" / "own.yaml").write_text("# Own\n_target_: sines.task\nbatch_size: 8\n")
    done = ran("run", typed, "train.passes=2", "train.figures=false", "network.hidden=[8]", "output.dir=run")
    words = " ".join(done.stdout.split())
    assert "chosen for these data: network=lif_lis" in words and f"{name} on cpu" in words
    assert tracetorch("resume", "run", "train.passes=3").exit_code == 0
    assert ran("run", "-m", typed, "seed=0,1", "train.passes=1", "network.hidden=[8]").exit_code == 0
    preset = compose([typed, "experiment=patterns"] if name == "task" else [typed], calls_own=name == "task")
    assert not any("chosen" in note for note in preset.notes)


@pytest.mark.parametrize("rule", ["trace", "eprop", "ottt", "bptt"])
def test_regression_with_every_rule(rule, tmp_path):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(40, 10, 2)).astype(np.float32)
    np.savez(tmp_path / "data.npz", inputs=inputs, target=inputs.mean(axis=1) * 50 + 7)
    where = f"output.dir={tmp_path / 'run'}"
    done = tracetorch("run", "task=file", f"task.path={tmp_path / 'data.npz'}", f"rule={rule}", *SHORT, where)
    assert done.exit_code == 0, done.output
    assert {"r2", "mse"} <= facts(tmp_path / "run")["summary"].keys()


@pytest.mark.parametrize(
    "rule", ["trace", "decolle", *(pytest.param(rule, marks=pytest.mark.slow) for rule in ("eprop", "ottt", "bptt"))]
)
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
    first, *rows = (tmp_path / "run" / "steps.csv").read_text().splitlines()
    trials = (tmp_path / "run" / "trials.csv").read_text().splitlines()[1:]
    assert first == "sample,step,target_0,prediction_0" and len(rows) == 20 * len(trials) > 0
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
    first, *rows = (tmp_path / "run" / "trials.csv").read_text().splitlines()
    assert first.endswith(",name,labels,subject") and len(rows) == 12 and all(row.endswith(",2") for row in rows)
    assert {row.split(",")[-2] for row in rows} == {"0", "1"}
    assert tracetorch("plot", str(tmp_path / "run"), "--figure", "confusion").exit_code == 0  # text in the table


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
