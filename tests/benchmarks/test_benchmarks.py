"""The benchmarks run, and write what their README says; like is compared with like. Nothing is timed here."""

import importlib
import io
import json
import math
import struct
import sys
import wave
import zipfile
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from tests.benchmark_scripts import BENCHMARKS, on_the_path, run, start  # noqa: F401 (a fixture)
from tests.command_line import tracetorch
from tests.common import normal
from tracetorch.backends.dispatch import DENSE_FROM
from tracetorch.cli.adapter import compose
from tracetorch.loss import Reflect
from tracetorch.tasks import MNIST

OWN = ["--contender", "ours", "--contender", "floor"]
SPREAD = {"median", "min", "n", "all"}


# ── every script ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_train_step_and_its_tables(here, monkeypatch, capsys):
    rows = run(monkeypatch, "train_step.py", *OWN)["rows"]
    assert [row["contender"] for row in rows] == ["ours", "floor"]
    for row in rows:
        assert {"input", "network", "batch", "steps", "gain", "activity", "detail", "skipped"} < row.keys()
        assert set(row["seconds"]) == SPREAD
        assert row["to_ours"] == pytest.approx(row["seconds"]["median"] / rows[0]["seconds"]["median"])
        assert row["to_floor"] == pytest.approx(row["seconds"]["median"] / rows[1]["seconds"]["median"])
    assert "12-8-4, batch 2, T = 4, uniform input" in capsys.readouterr().out
    assert start(monkeypatch, "results.py", "out/new.json") == 0
    printed = capsys.readouterr().out
    assert "|  | T = 4: ms | × floor | × ours |" in printed and "| floor | " in printed


def test_train_step_on_digits_and_over_the_budget(here, monkeypatch, capsys):
    words = ["--input", "mnist", "--network", "784-8-10", "--steps", "2", "--steps", "3"]
    rows = run(monkeypatch, "train_step.py", *OWN, *words)["rows"]
    assert [(row["steps"], row["contender"]) for row in rows] == [(2, "ours"), (2, "floor"), (3, "ours"), (3, "floor")]
    rows = run(monkeypatch, "train_step.py", *OWN, "--budget-seconds", "0")["rows"]
    assert all("the budget is 0 s" in row["skipped"] and "seconds" not in row for row in rows)
    assert "the budget is 0 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "words", "named"),
    [
        ("train_step.py", "--network 784x10", "784x10"),
        ("train_step.py", "--contender absent", "absent"),
        ("train_step.py", "--input mnist", "12-8-4"),
        ("reinforce_without_spikes.py", "--network 784-8-3", "784-8-3"),
        ("reinforce_without_spikes.py", "--lr 0", "above 0, got 0"),
    ],
)
def test_a_wrong_option_is_named(script, words, named, here, monkeypatch, capsys):
    assert start(monkeypatch, script, "--quick", "--threads", "1", *words.split()) == 2
    error = capsys.readouterr().err
    assert named in error and "Traceback" not in error


def test_stream(here, monkeypatch):
    names = ["ours, chunks", "ours, steps"]
    rows = run(monkeypatch, "stream.py", *(word for name in names for word in ("--contender", name)))["rows"]
    assert [row["contender"] for row in rows] == names
    for row in rows:
        assert set(row["steps_per_second"]) == SPREAD | {"max"}
        assert row["steps"] >= 1
        assert row["network"] == "12-8-4"


def test_memory_and_its_figure(here, monkeypatch):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak memory of a process is read from /proc")
    written = run(monkeypatch, "memory.py", "--contender", "ours", "--steps", "2")
    assert written["provenance"]["memory_limit_bytes"] > 0
    (row,) = written["rows"]
    assert {key: row[key] for key in ("contender", "network", "batch", "steps", "skipped")} == {
        "contender": "ours", "network": "12-8-4", "batch": 2, "steps": 2, "skipped": ""
    }  # fmt: skip
    assert row["seconds"] > 0
    assert row["extra_bytes"] >= 0
    stopped = row | {"steps": 20, "skipped": "would take 9 GiB", "forecast": {"seconds": 1.0, "extra_bytes": 9 * 2**30}}
    written["rows"] = [row | {"extra_bytes": 4096}, stopped]
    Path("memory.json").write_text(json.dumps(written), encoding="utf-8")
    assert start(monkeypatch, "figure.py", "memory.json", "figures/memory.png") == 0
    assert Path("figures/memory.png").read_bytes().startswith(b"\x89PNG")


def test_sparsity_startup_and_side_by_side(here, monkeypatch):
    usual = dict(DENSE_FROM)
    rows = run(monkeypatch, "sparsity.py")["rows"]
    assert {row["precision"] for row in rows} == {"float32", "bfloat16"}
    assert all(row["sparse"] > 0 and row["dense"] > 0 and 0 < row["share"] < 1 for row in rows)
    assert usual == DENSE_FROM
    (row,) = run(monkeypatch, "startup.py")["rows"]
    assert row["command"] == "tracetorch --help"
    assert set(row["warm"]) == set(row["cold"]) == SPREAD
    (row,) = run(monkeypatch, "side_by_side.py")["rows"]
    assert (row["rule"], row["at_once"], row["spins"]) == ("trace", 2, 3_000)
    assert row["seconds"]["n"] == 2 and row["seconds"]["min"] > 0


def test_the_parts_of_one_decision_lie_within_its_update(here, monkeypatch):
    whole, parts = run(monkeypatch, "one_decision.py")["rows"]
    assert whole["case"] == parts["case"] == "clicks_lifetime" and set(whole["update"]) == SPREAD
    assert min(parts["parts"].values()) > 0, parts  # not so if calls outside of updates were counted


# ── what they share ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_library_is_named_with_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "snntorch", None)  # as if it were not installed
    contenders = importlib.import_module("contenders")
    assert contenders.present(contenders.TRAINERS, ["ours", "floor"]) == (["ours", "floor"], "")
    there, line = contenders.present(contenders.TRAINERS, ["ours", "snntorch"])
    assert there == ["ours"]
    assert "left out: snntorch" in line
    assert "pip install --no-deps -r benchmarks/requirements.txt" in line


# ── the spoken digits ───────────────────────────────────────────────────────────────────────────────────────────────


def test_spoken_digits_are_a_task_of_ones_own(here, monkeypatch):
    with zipfile.ZipFile("recordings.zip", "w") as archive:
        for digit, speaker, index in [(d, s, i) for d in range(10) for s in ("ann", "ben") for i in range(12)]:
            archive.writestr(f"recordings/{digit}_{speaker}_{index}.wav", _tone(200 + 300 * digit, 0.1 + 0.01 * index))
    typed = ["experiment=spoken_digits", "task.path=recordings.zip", "task.validation=true", "output.dir=run",
             "task.batch_size=10"]  # fmt: skip
    short = [
        "train.passes=6",
        "optimizer.lr=0.01",
        "train.learn_every=16",
        "network.hidden=[64]",
        "train.figures=false",
    ]
    found = tracetorch("run", "--config-dir", f"{BENCHMARKS}/conf", "--trust", "spoken_digits", *typed, *short)
    assert found.exit_code == 0, found.output
    summary = json.loads(Path("run/run.json").read_text(encoding="utf-8"))["summary"]
    assert summary["accuracy"] > 0.9  # tones of ten pitches; the test has 10 digits × 2 speakers × indices 0 to 4

    task = importlib.import_module("spoken_digits").SpokenDigits(path="recordings.zip", test="ben")
    sizes = {"train": 120, "validation": 0, "test": 120}
    assert {name: len(digits) for name, (_, digits) in task.splits.items()} == sizes
    with pytest.raises(ValueError, match="one of the speakers ann, ben, got 'eve'"):
        type(task)(path="recordings.zip", test="eve")


def _tone(frequency: float, seconds: float) -> bytes:
    """A wav file of 8,000 samples a second, 16 bits each."""
    samples = [int(9000 * math.sin(2 * math.pi * frequency * n / 8000)) for n in range(int(8000 * seconds))]
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 2, 8000, len(samples), "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return content.getvalue()


# ── rewards ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reinforce_without_spikes(here, monkeypatch, capsys):
    rows = run(monkeypatch, "reinforce_without_spikes.py", "--seed", "3", "--lr", "0.001", "--lr", "0.002")["rows"]
    assert [(row["seed"], row["lr"]) for row in rows] == [(3, 0.001), (3, 0.002)]
    for row in rows:
        assert 0 <= row["late_reward"] <= 1 and 0 <= row["return"] <= 1
        assert {"network", "batch", "entropy", "baseline", "seconds"} < row.keys()
    assert "REINFORCE without spikes, 784-128-10, one pass, batch 16" in capsys.readouterr().out


def test_it_has_the_settings_the_digits_and_the_order_of_the_preset(here):
    script = importlib.import_module("reinforce_without_spikes")
    preset = compose(["experiment=bandit_mnist"]).config
    chosen = script.main.__kwdefaults__
    assert chosen["network"] == f"784-{preset['network']['hidden'][0]}-10"
    assert (chosen["entropy"], chosen["baseline"]) == (preset["loss"]["entropy"], preset["loss"]["baseline"])
    assert chosen["batch"] == preset["task"]["task"]["batch_size"]
    settings = {name: preset["task"]["task"][name] for name in ("encoding", "steps", "batch_size")}
    theirs, world = MNIST(source="sample", seed=3, **settings), script.digits("sample", chosen["batch"], 3)
    for number in (0, 7, 70):  # the last of them in the second pass
        wanted, shown = theirs.train_batch(number), world.task.train_batch(number)
        assert torch.equal(shown.conditions["digit"], wanted.conditions["digit"])
        images = theirs.splits["train"][0][wanted.conditions["digit"]]
        torch.testing.assert_close(shown.xs.dense(), images.flatten(1)[None].float() / 255)


def test_its_slope_is_the_signal_of_reflect():
    script = importlib.import_module("reinforce_without_spikes")
    logits, action, reward = normal(5, 4).requires_grad_(), torch.tensor([0, 3, 1, 1, 2]), normal(5, seed=1)
    script.objective(torch.log_softmax(logits, -1), action[:, None], reward - 0.3, 0.05).backward()
    reflect = Reflect(baseline=[], entropy=0.05)
    reflect.observe(torch.softmax(logits.detach(), -1), action)
    torch.testing.assert_close(logits.grad, reflect(reward - 0.3)[1], rtol=0, atol=1e-12)


ROWS = [
    {"update": 10, "split": "train", "episodes": 4},
    {"update": 10, "split": "validation", "return": 3.0},
    {"update": 20, "split": "train", "episodes": 7},
    {"update": 30, "split": "train", "episodes": 9},
]


def test_a_curve_is_actions_over_episodes_that_ended_and_drawn_from_the_folders_of_runs(here, monkeypatch, capsys):
    assert importlib.import_module("episodes").curve(ROWS, num_envs=2) == ([4, 9], [2 * 10 / 4, 2 * 20 / 5])
    for name in ("outputs/one/trace_rule/0", "outputs/one/trace_rule/1", "outputs/one/three-factor__all_layers/0"):
        Path(name).mkdir(parents=True)
        Path(name, "metrics.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
        OmegaConf.save({"task": {"num_envs": 2}}, Path(name, "config.yaml"))
    found = importlib.import_module("episodes").gather(Path("outputs/one"))
    assert {name: len(curves) for name, curves in found.items()} == {"trace_rule": 2, "three-factor__all_layers": 1}
    (legend,) = importlib.import_module("episodes").draw({"one": found}).legends
    assert {text.get_text() for text in legend.get_texts()} == {"trace rule", "three-factor, all layers"}
    assert start(monkeypatch, "episodes.py", "figures/curves.png", "one=outputs/one", "again=outputs/one") == 0
    assert Path("figures/curves.png").read_bytes().startswith(b"\x89PNG")
    assert start(monkeypatch, "episodes.py", "figures/curves.png", "outputs/one") == 2
    assert "TITLE=FOLDER" in capsys.readouterr().err


def test_apart_they_say_the_opposite_where_every_action_is_rewarded_and_not_where_the_fall_is(here, monkeypatch):
    pytest.importorskip("gymnasium", reason="the extra rl is not installed")
    cosines = {False: [], True: []}
    for row in run(monkeypatch, "pairing.py")["rows"]:
        cosines["fall" in row["reward"]].append(row["cosine"])
        assert {"seed", "parameter", "longer", "halves_trace", "halves_three_factor"} < row.keys()
    assert max(cosines[False]) < -0.5 and min(cosines[True]) > 0.3
