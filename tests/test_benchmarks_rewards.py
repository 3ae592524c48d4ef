"""The benchmarks of learning from rewards: like is compared with like, and what is drawn is what was recorded."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from tests.benchmark_scripts import on_the_path, run, start  # noqa: F401 (a fixture)
from tests.common import normal
from tracetorch.cli.adapter import compose
from tracetorch.loss import Reflect
from tracetorch.tasks import MNIST


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


def test_it_learns():
    script = importlib.import_module("reinforce_without_spikes")
    torch.manual_seed(0)
    net, world = script.perceptron([784, 32, 10]), script.digits("sample", 16, 0)
    late = script.learn(net, world, lr=0.002, entropy=0.05, baseline=0.99, seed=0, updates=700)
    assert late > 0.4  # by chance .1


@pytest.mark.parametrize(("words", "named"), [("--network 784-8-3", "784-8-3"), ("--lr 0", "above 0, got 0")])
def test_a_network_or_a_step_that_can_not_be_is_named(words, named, here, monkeypatch, capsys):
    assert start(monkeypatch, "reinforce_without_spikes.py", "--quick", *words.split()) == 2
    assert named in capsys.readouterr().err


# ── curves against episodes ─────────────────────────────────────────────────────────────────────────────────────────

ROWS = [
    {"update": 10, "split": "train", "episodes": 4},
    {"update": 10, "split": "validation", "return": 3.0},
    {"update": 20, "split": "train", "episodes": 7},
    {"update": 30, "split": "train", "episodes": 9},
]


def test_a_curve_is_actions_over_episodes_that_ended():
    ended, lengths = importlib.import_module("episodes").curve(ROWS, num_envs=2)
    assert ended == [4, 9]
    assert lengths == [2 * 10 / 4, 2 * 20 / 5]


def test_curves_are_drawn_from_the_folders_of_runs(here, monkeypatch, capsys):
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


# ── score and input, apart and in pairs ─────────────────────────────────────────────────────────────────────────────


def test_apart_they_say_the_opposite_where_every_action_is_rewarded_and_not_where_the_fall_is(here, monkeypatch):
    pytest.importorskip("gymnasium", reason="the extra rl is not installed")
    cosines = {False: [], True: []}
    for row in run(monkeypatch, "pairing.py")["rows"]:
        cosines["fall" in row["reward"]].append(row["cosine"])
        assert {"seed", "parameter", "longer", "halves_trace", "halves_three_factor"} < row.keys()
    assert max(cosines[False]) < -0.5 and min(cosines[True]) > 0.3
