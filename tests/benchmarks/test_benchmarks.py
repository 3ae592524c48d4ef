"""The benchmarks run, and write what their README says; like is compared with like. Nothing is timed here."""

import importlib
import io
import itertools
import json
import math
import runpy
import shutil
import struct
import sys
import wave
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import tracetorch as tt
from tests.common import normal
from tracetorch.backends.dispatch import DENSE_FROM
from tracetorch.cli.adapter import compose
from tracetorch.loss import Reflect
from tracetorch.tasks import MNIST

OWN = ["--contender", "ours", "--contender", "floor"]
SPREAD = {"median", "min", "n", "all"}
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MACHINE = {"command", "cpu", "cores", "instructions", "memory_bytes", "threads", "device", "system", "python"}


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `python benchmarks/….py` does: siblings can be imported. They are forgotten at the end."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for name, module in list(sys.modules.items()):
        if BENCHMARKS in Path(getattr(module, "__file__", None) or "/").parents:
            del sys.modules[name]


def start(monkeypatch, script: str, *words: str) -> int:
    """Run a script in this process, as from the command line; its exit code."""
    monkeypatch.setattr(sys, "argv", [script, *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    return ended.value.code or 0


def run(monkeypatch, script: str, *words: str) -> dict:
    """Run it with `--quick --json`; what it wrote."""
    assert start(monkeypatch, script, "--quick", "--threads", "1", "--json", "out/new.json", *words) == 0
    written = json.loads(Path("out/new.json").read_text(encoding="utf-8"))
    assert written["benchmark"] == script.removesuffix(".py")
    assert set(written["provenance"]) >= MACHINE
    assert written["provenance"]["versions"]["torch"]
    return written


def test_train_step_and_its_tables(here, monkeypatch, capsys):
    words = ["--network", "12-8-4", "--steps", "4", "--steps", "5"]
    rows = run(monkeypatch, "train_step.py", *OWN, *words)["rows"]
    assert [(row["steps"], row["contender"]) for row in rows] == [(4, "ours"), (4, "floor"), (5, "ours"), (5, "floor")]
    for row in rows[:2]:
        assert {"input", "network", "batch", "steps", "gain", "activity", "detail", "skipped"} < row.keys()
        assert set(row["seconds"]) == SPREAD
        assert row["to_ours"] == pytest.approx(row["seconds"]["median"] / rows[0]["seconds"]["median"])
        assert row["to_floor"] == pytest.approx(row["seconds"]["median"] / rows[1]["seconds"]["median"])
    assert "12-8-4, batch 2, T = 4, uniform input" in capsys.readouterr().out
    assert start(monkeypatch, "results.py", "out/new.json") == 0
    printed = capsys.readouterr().out
    assert "|  | T = 4: ms | × floor | × ours |" in printed and "| floor | " in printed
    digits = ["--input", "mnist", "--network", "784-8-10", "--steps", "2"]
    rows = run(monkeypatch, "train_step.py", *OWN, *digits)["rows"]
    assert [row["contender"] for row in rows if "seconds" in row and row["input"] == "mnist"] == ["ours", "floor"]
    rows = run(monkeypatch, "train_step.py", *OWN, "--budget-seconds", "0")["rows"]
    assert all("the budget is 0 s" in row["skipped"] and "seconds" not in row for row in rows)


def test_a_wrong_option_is_named(here, monkeypatch, capsys):
    for script, words, named in (
        ("train_step.py", "--network 784x10", "784x10"),
        ("train_step.py", "--contender absent", "absent"),
        ("train_step.py", "--input mnist", "12-8-4"),
        ("reinforce_without_spikes.py", "--network 784-8-3", "784-8-3"),
        ("reinforce_without_spikes.py", "--lr 0", "above 0, got 0"),
        ("episodes.py", "figures/curves.png outputs/one", "TITLE=FOLDER"),
    ):
        options = [] if script == "episodes.py" else ["--quick", "--threads", "1"]
        assert start(monkeypatch, script, *options, *words.split()) == 2
        error = capsys.readouterr().err
        assert named in error and "Traceback" not in error


def test_memory_and_its_figure(here, monkeypatch):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak memory of a process is read from /proc")
    written = run(monkeypatch, "memory.py", "--contender", "ours", "--steps", "2")
    assert written["provenance"]["memory_limit_bytes"] > 0
    (row,) = written["rows"]
    columns = ("contender", "network", "batch", "steps", "skipped")
    assert [row[key] for key in columns] == ["ours", "12-8-4", 2, 2, ""]
    assert row["seconds"] > 0 and row["extra_bytes"] >= 0
    stopped = row | {"steps": 20, "skipped": "would take 9 GiB", "forecast": {"seconds": 1.0, "extra_bytes": 9 * 2**30}}
    written["rows"] = [row | {"extra_bytes": 4096}, stopped]
    Path("memory.json").write_text(json.dumps(written), encoding="utf-8")
    assert start(monkeypatch, "figure.py", "memory.json", "figures/memory.png") == 0
    assert Path("figures/memory.png").read_bytes().startswith(b"\x89PNG")


def test_stream_and_sparsity(here, monkeypatch):
    names = ["ours, chunks", "ours, steps"]
    rows = run(monkeypatch, "stream.py", *(word for name in names for word in ("--contender", name)))["rows"]
    assert [(row["contender"], row["network"]) for row in rows] == [(name, "12-8-4") for name in names]
    assert all(set(row["steps_per_second"]) == SPREAD | {"max"} and row["steps"] >= 1 for row in rows)
    usual = dict(DENSE_FROM)
    rows = run(monkeypatch, "sparsity.py")["rows"]
    assert {row["precision"] for row in rows} == {"float32", "bfloat16"}
    assert all(row["sparse"] > 0 and row["dense"] > 0 and 0 < row["share"] < 1 for row in rows)
    assert usual == DENSE_FROM


@pytest.mark.slow
def test_startup_many_runs_and_side_by_side(here, monkeypatch):
    (row,) = run(monkeypatch, "startup.py")["rows"]
    assert row["command"] == "tracetorch --help" and set(row["warm"]) == set(row["cold"]) == SPREAD
    rows = run(monkeypatch, "many_runs.py")["rows"]
    assert [row["runs"] for row in rows] == [20] * 3 and all(set(row["wall"]) == SPREAD for row in rows)
    (row,) = run(monkeypatch, "side_by_side.py")["rows"]
    assert (row["rule"], row["at_once"], row["spins"], row["seconds"]["n"]) == ("trace", 2, 3_000, 2)


def test_the_parts_of_one_decision_lie_within_its_update(here, monkeypatch):
    whole, parts = run(monkeypatch, "one_decision.py")["rows"]
    assert whole["case"] == parts["case"] == "clicks_lifetime" and set(whole["update"]) == SPREAD
    assert min(parts["parts"].values()) > 0, parts  # not so if calls outside of updates were counted


def test_a_missing_library_is_named_with_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "snntorch", None)  # as if it were not installed
    contenders = importlib.import_module("contenders")
    assert contenders.present(contenders.TRAINERS, ["ours", "floor"]) == (["ours", "floor"], "")
    available, line = contenders.present(contenders.TRAINERS, ["ours", "snntorch"])
    assert available == ["ours"] and "left out: snntorch" in line
    assert "pip install --no-deps -r benchmarks/requirements.txt" in line


def _tone(frequency: float, seconds: float) -> bytes:
    """A wav file of 8,000 samples a second, 16 bits each."""
    samples = [int(9000 * math.sin(2 * math.pi * frequency * n / 8000)) for n in range(int(8000 * seconds))]
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 2, 8000, len(samples), "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return content.getvalue()


def test_reinforce_without_spikes_has_the_settings_and_the_order_of_the_preset(here, monkeypatch, capsys):
    rows = run(monkeypatch, "reinforce_without_spikes.py", "--seed", "3", "--lr", "0.001", "--lr", "0.002")["rows"]
    assert [(row["seed"], row["lr"]) for row in rows] == [(3, 0.001), (3, 0.002)]
    for row in rows:
        assert 0 <= row["late_reward"] <= 1 and 0 <= row["return"] <= 1
        assert {"network", "batch", "entropy", "baseline", "seconds"} < row.keys()
    assert "REINFORCE without spikes, 784-128-10, one pass, batch 16" in capsys.readouterr().out
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


def test_the_gradient_of_reinforce_without_spikes_is_the_signal_of_reflect():
    script = importlib.import_module("reinforce_without_spikes")
    logits, action, reward = normal(5, 4).requires_grad_(), torch.tensor([0, 3, 1, 1, 2]), normal(5, seed=1)
    script.objective(torch.log_softmax(logits, -1), action[:, None], reward - 0.3, 0.05).backward()
    reflect = Reflect(baseline=[], entropy=0.05)
    reflect.observe(torch.softmax(logits.detach(), -1), action)
    torch.testing.assert_close(logits.grad, reflect(reward - 0.3)[1], rtol=0, atol=1e-12)


def test_an_episode_curve_is_actions_per_episode_and_drawn_from_the_folders_of_runs(here, monkeypatch):
    episodes = importlib.import_module("episodes")
    rows = [{"update": at, "split": "train", "episodes": count} for at, count in ((10, 4), (20, 7), (30, 9))]
    rows.insert(1, {"update": 10, "split": "validation", "return": 3.0})
    assert episodes.curve(rows, num_envs=2) == ([4, 9], [2 * 10 / 4, 2 * 20 / 5])
    for name in ("outputs/one/trace_rule/0", "outputs/one/trace_rule/1", "outputs/one/three-factor__all_layers/0"):
        Path(name).mkdir(parents=True)
        Path(name, "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        OmegaConf.save({"task": {"num_envs": 2}}, Path(name, "config.yaml"))
    found = episodes.gather(Path("outputs/one"))
    assert {name: len(curves) for name, curves in found.items()} == {"trace_rule": 2, "three-factor__all_layers": 1}
    (legend,) = episodes.draw({"one": found}).legends
    (many,) = episodes.draw({"many": {str(at): [([1, 2], [3.0, 4.0])] for at in range(12)}}).legends
    assert len({(line.get_color(), line.get_linestyle()) for line in many.get_lines()}) == 12
    assert {text.get_text() for text in legend.get_texts()} == {"trace rule", "three-factor, all layers"}
    assert start(monkeypatch, "episodes.py", "figures/curves.png", "one=outputs/one", "again=outputs/one") == 0
    assert Path("figures/curves.png").read_bytes().startswith(b"\x89PNG")


def test_accuracy_against_memory_has_a_point_for_each_number_of_stretches(here, monkeypatch, capsys):
    stretches = importlib.import_module("stretches")
    for at, (rule, count, seed) in enumerate(itertools.product(("trace", "coarse", "bptt"), (4, 8), (0, 1))):
        config = {"rule": {"stretches": count} if rule == "coarse" else {}}
        summary = {"accuracy": 0.5 + at / 100, "training_memory_bytes": (1 + at) << 20}
        Path(f"sweep/{at}").mkdir(parents=True)
        facts = {"rule": rule, "seed": seed, "config": config, "summary": summary}
        Path(f"sweep/{at}/run.json").write_text(json.dumps(facts))
    points = stretches.gather([Path("sweep")])
    assert points.keys() == {("trace", 0), ("coarse", 4), ("coarse", 8), ("bptt", 0)}
    assert points["coarse", 8].memory == 7.5 and points["coarse", 8].accuracy == pytest.approx([56, 57])
    assert start(monkeypatch, "stretches.py", "figures/stretches.png", "sweep") == 0
    assert Path("figures/stretches.png").read_bytes().startswith(b"\x89PNG")
    shutil.rmtree("sweep/5")  # a seed of one rule
    assert start(monkeypatch, "stretches.py", "figures/stretches.png", "sweep") == 2
    assert "the same seeds" in capsys.readouterr().err


def test_every_rule_is_tuned_on_validation_data_alone(here, monkeypatch, capsys):
    tuned = importlib.import_module("tuned_rules")
    commands = []

    def train(where, overrides):
        """Runs whose score is best at a step size of .08, with `arctan` a little better; half of it is best in full."""
        where.mkdir(parents=True)
        key, values = overrides[-1].split("=")
        given = dict(override.split("=") for override in overrides)
        commands.append(given)
        found = []
        for value in values.split(","):
            own = given | {key: value}
            wanted = 0.04 if key == "seed" else 0.08
            score = 0.9 - abs(float(own["optimizer.lr"]) - wanted) + 0.01 * (own.get("rule.surrogate") == "arctan")
            summary = {"accuracy": 1 - score, "update_seconds": 0.1, "training_memory_bytes": 1 << 20}
            found.append(({"summary": summary}, {"accuracy": score, "loss": 1.0}))
        return found

    monkeypatch.setattr(tuned, "train", train)
    tuned.finish(Path("out"), "manifolds", "bptt", {})
    tuned.finish(Path("out"), "manifolds", "trace", {})
    assert [given["optimizer.lr"] for given in commands if "," in given["optimizer.lr"]] == [
        "0.005,0.01,0.02,0.04,0.08"
    ] * 2
    cells = tuned.load(Path("out"))
    assert cells["manifolds", "bptt"]["chosen"] == {"optimizer.lr": 0.04, "rule.surrogate": "arctan"}
    assert cells["manifolds", "trace"]["chosen"] == {"optimizer.lr": 0.04}
    assert cells["manifolds", "trace"]["accuracy"] == pytest.approx([0.1] * 3)
    count = len(commands)
    tuned.finish(Path("out"), "manifolds", "trace", {})  # finished before
    assert len(commands) == count and not list(Path("out").glob("*.lock"))
    assert start(monkeypatch, "tuned_rules.py", "out", "--figure", "figures/rules.png") == 0
    assert Path("figures/rules.png").read_bytes().startswith(b"\x89PNG")
    assert start(monkeypatch, "tuned_rules.py", "out", "--task", "rows") == 2
    assert "--source mnist=PATH" in capsys.readouterr().err


def test_pairing_shows_opposite_signals_where_every_action_is_rewarded(here, monkeypatch):
    pytest.importorskip("gymnasium", reason="the extra rl is not installed")
    cosines = {False: [], True: []}
    for row in run(monkeypatch, "pairing.py")["rows"]:
        cosines["fall" in row["reward"]].append(row["cosine"])
        assert {"seed", "parameter", "longer", "halves_trace", "halves_three_factor"} < row.keys()
    assert max(cosines[False]) < -0.5 and min(cosines[True]) > 0.3


SIZES = (200, 80, 60, 5)
STEPS, BATCH, RATE = 60, 8, 0.1
GAIN = 1.8
"""Makes both hidden layers fire, and leaves no membrane above twice its threshold, where snnTorch's reset differs."""


@pytest.fixture(params=["snntorch", "spikingjelly", "norse"])
def peer(request):
    """A peer's network with freshly drawn weights."""
    pytest.importorskip(request.param)
    contenders = importlib.import_module("contenders")
    return contenders.build(contenders.TRAINERS[request.param], SIZES, torch.device("cpu"))


def ours_like(peer) -> tt.nn.Sequential:
    """Our network, and its weights in the peer's."""
    torch.manual_seed(3)
    first, *hidden, last = SIZES
    net = tt.nn.feedforward(first, last, hidden=hidden, neuron=tt.nn.LIF, readout=tt.nn.LIS)
    with torch.no_grad():
        for layer in net:
            layer.weight.mul_(GAIN)
    peer.load([layer.weight for layer in net])
    return net


def hidden_spikes(peer, run) -> list[torch.Tensor]:
    """How often each hidden neuron fires while `run` runs, for each layer: (batch, width), seen by a forward hook."""
    counts = [torch.zeros(BATCH, width) for width in SIZES[1:-1]]

    def count(at, module, args, output):
        spikes = output[0] if isinstance(output, tuple) else output
        counts[at] += spikes.detach().reshape(-1, *counts[at].shape).sum(dim=0)

    handles = [module.register_forward_hook(partial(count, at)) for at, module in enumerate(peer.spiking)]
    run()
    for handle in handles:
        handle.remove()
    return counts


def test_a_peer_has_the_same_spikes_and_the_same_answer(peer):
    net = ours_like(peer)
    xs = tt.encode.poisson(torch.full((BATCH, SIZES[0]), RATE), STEPS, seed=1).dense()
    wanted, below = [], xs
    for layer in list(net)[:-1]:
        below = torch.stack([layer(x) for x in below])
        wanted.append(below.sum(dim=0))
    answer = torch.stack([net[-1](x) for x in below]).mean(dim=0)
    means: list[torch.Tensor] = []
    found = hidden_spikes(peer, lambda: means.append(peer.mean_distribution(xs)))
    assert all(counts.sum() > 100 for counts in wanted)  # it is alive
    for ours, theirs in zip(wanted, found, strict=True):
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(means[0], answer, atol=1e-6, rtol=0)
    peer.reset()
    steps = torch.stack([peer.step(x) for x in xs]).mean(dim=0)
    torch.testing.assert_close(steps, answer, atol=1e-6, rtol=0)


def test_a_peer_has_the_same_loss_and_learns(peer):
    base = importlib.import_module("contenders.base")
    mean, target = torch.softmax(torch.randn(BATCH, SIZES[-1]), dim=-1), torch.arange(BATCH) % SIZES[-1]
    torch.testing.assert_close(base.cross_entropy(mean, target), tt.loss.cross_entropy(mean, target)[0])
    ours_like(peer)
    before = [synapse.weight.detach().clone() for synapse in peer.synapses]
    peer.train_step(torch.full((BATCH, SIZES[0]), RATE), STEPS, 0, target)
    assert all(not torch.equal(old, synapse.weight) for old, synapse in zip(before, peer.synapses, strict=True))
    peer.reset()
    peer.stream(torch.full((1, SIZES[0]), RATE), 5, 0)
