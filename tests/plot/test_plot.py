"""Every figure says what it shows, is saved whole, repeats to the byte, and names what is wrong in one sentence."""

from __future__ import annotations

import math

import matplotlib
import pytest
import torch
from matplotlib.text import Text

from tests import drawings
from tests.drawings import CLASSES, EVIDENCE, GRADIENTS, HELD_OUT, LIFE, RECORDS, RIGHT, SPIKES, WEIGHTS, network, texts
from tracetorch import plot

EVERY = {
    "raster": lambda: plot.raster({"input": SPIKES, "hidden": SPIKES * 0}, dt=0.001, marks={"clicks": (0, 0.03)}),
    "membrane": lambda: plot.membrane(SPIKES / 2, SPIKES, torch.ones(6), dt=None),
    "learning_curves": lambda: plot.learning_curves(
        [20, 40], {"a": [1, 2], "b": [math.nan, 1]}, half_lives=(1, 2), reference=3, validation=([40], [1.5])
    ),
    "learning": lambda: plot.learning(RECORDS + HELD_OUT, reference=0.99),
    "gradient": lambda: plot.gradient(RECORDS + GRADIENTS),
    "lifetime": lambda: plot.lifetime(LIFE),
    "policy": lambda: plot.policy(LIFE, names=["left", "right"]),
    "recovery": lambda: plot.recovery(LIFE),
    "distributions": lambda: plot.distributions(network()),
    "receptive_fields": lambda: plot.receptive_fields(WEIGHTS, (3, 4), count=4),
    "confusion": lambda: plot.confusion(CLASSES, CLASSES.flip(0), ["zero", "one", "two"]),
    "psychometric": lambda: plot.psychometric(EVIDENCE, RIGHT, ideal=(EVIDENCE, torch.sigmoid(EVIDENCE))),
    "accuracy_curve": lambda: plot.accuracy_curve(EVIDENCE.abs(), RIGHT, ideal=EVIDENCE.abs() / 2, xlabel="delay (s)"),
    "accuracy_map": lambda: plot.accuracy_map(RIGHT, EVIDENCE, EVIDENCE.abs(), ideal=torch.sigmoid(EVIDENCE.abs())),
    "returns": lambda: plot.returns(drawings.REWARDS),
    "episode": drawings.episode,
}
EXPECTED = {
    "lifetime": ["reward (running average)", "memory (MiB)", "decisions, of 70 time steps each", "reversal"],
    "policy": ["left", "right", "action", "reward 1", "reward 0", "reversal"],
    "recovery": ["time to recover (decisions)", "reward (fastest average)", "recovered", "before the reversal"],
    "raster": ["time (ms)", "neuron", "input, 146 Hz", "hidden, 0 Hz", "no spikes", "clicks"],
    "membrane": ["time (steps)", "membrane (a.u.)", "θ", "neuron 5, 0.12 spikes per step"],
    "learning_curves": ["updates", "accuracy (fraction correct)", "ideal\nobserver", "a", "b", "validation", "1", "2"],
    "learning": ["updates", "loss", "accuracy (fraction correct)", "train", "validation", "half-life (updates)", "100"],
    "gradient": ["updates", "cosine with BPTT's gradient", "norm, relative to BPTT's gradient", "chance",
                 "layer 0, weight", "layer 0, decay (correct sign: 33 %)", "layer 1, bias", "the same\nlength"],
    "distributions": ["weight", "decay (per step)", "half-life (steps)", "threshold θ (a.u.)", "layer 0: LIF 12 → 6",
                      "layer 1: LIS 6 → 3", "no threshold", "input trace", "0.90", "share (%)"],
    "receptive_fields": ["weight", "strongest 4 of 6 neurons"],
    "confusion": ["true class", "predicted class", "share of true class (%)", "two", "0.0 % correct (n = 6)", "2"],
    "psychometric": ["log rate ratio γ", "P(choose right)", "network (n = 6, 95 % interval)", "ideal observer"],
    "accuracy_curve": ["delay (s)", "correct (%)", "chance", "network (n = 6, 95 % interval)", "ideal observer"],
    "accuracy_map": ["duration (s)", "|log rate ratio γ|", "correct (%)", "network: 66.7 %", "ideal observer: 78.1 %"],
    "returns": ["episodes, in 40 actions per environment", "return (mean over episodes)",
                "during training", "validation, greedy", "test, greedy"],
    "episode": ["time (steps): a whole episode, 4 actions of 10 steps each", "membrane\n(a.u.)", "θ", "p(action)",
                "action", "action 0", "action 1", "layer 0, LIF, 0.15 spikes per step", "neuron", "channel",
                "neurons 0 (purple), 2 (orange), 5 (light blue)", "input, from 0 (white) to 2 (black)"],
}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_every_figure_is_labelled_readable_and_repeats_byte_for_byte(name, tmp_path) -> None:
    before = dict(matplotlib.rcParams)
    fig = EVERY[name]()
    assert not set(EXPECTED[name]) - set(texts(fig))
    assert min(text.get_fontsize() for text in fig.findobj(Text) if text.get_text()) >= 7
    assert fig.get_figwidth() <= 7
    assert dict(matplotlib.rcParams) == before, "the style leaked"
    first, again = plot.save(fig, tmp_path / "a.0"), plot.save(EVERY[name](), tmp_path / "deep" / "b")
    assert [path.name for path in first] == ["a.0.png", "a.0.svg"]
    assert [one.read_bytes() for one in first] == [one.read_bytes() for one in again]
    assert b"<dc:date>" not in first[1].read_bytes() and first[0].read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 3, "a file is left over"


def test_a_failing_save_leaves_the_old_files(tmp_path, monkeypatch) -> None:
    png, svg = plot.save(EVERY["confusion"](), tmp_path / "a")
    old = png.read_bytes(), svg.read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        plot.save(EVERY["psychometric"](), tmp_path / "a")
    assert (png.read_bytes(), svg.read_bytes()) == old and len(list(tmp_path.iterdir())) == 2


WRONG = {
    "one axis": (lambda: plot.raster({"x": torch.zeros(4)}), r"\(time, neurons\)"),
    "nothing": (lambda: plot.raster({}), "at least one layer"),
    "no spikes": (lambda: plot.raster({"x": -SPIKES}), "spikes"),
    "unequal times": (lambda: plot.raster({"x": SPIKES, "y": SPIKES[1:]}), "equally long"),
    "mark backwards": (lambda: plot.raster({"x": SPIKES}, marks={"cue": (3, 2)}), "mark 'cue'"),
    "dt": (lambda: plot.raster({"x": SPIKES}, dt=0), "dt must be above 0"),
    "no neurons": (lambda: plot.raster({"x": SPIKES}, neurons=0), "at least 1"),
    "membrane": (lambda: plot.membrane(SPIKES, SPIKES[1:], torch.ones(6)), "same shape"),
    "half a class": (lambda: plot.confusion(CLASSES + 0.5, CLASSES, ["a"] * 4), "classes must be 0 to 3"),
    "threshold": (lambda: plot.membrane(SPIKES, SPIKES, torch.ones(5)), "threshold must be"),
    "no series": (lambda: plot.learning_curves([], {}), "at least one series"),
    "lengths": (lambda: plot.learning_curves([1, 2], {"x": [1]}), "one value for each step"),
    "validation": (lambda: plot.learning_curves([1], {"x": [1]}, validation=([1], [])), "'validation'"),
    "no gradients": (lambda: plot.gradient(RECORDS), "split .gradient. and keys"),
    "no network": (lambda: plot.distributions(torch.nn.Linear(2, 2)), "got a Linear"),
    "fields": (lambda: plot.receptive_fields(WEIGHTS, (3, 5)), r"\(neurons, 15\)"),
    "trials": (lambda: plot.psychometric(EVIDENCE, RIGHT[1:]), "same trials"),
    "infinite": (lambda: plot.psychometric(EVIDENCE / 0, RIGHT), "finite"),
    "map": (lambda: plot.accuracy_map(RIGHT, EVIDENCE, EVIDENCE, ideal=EVIDENCE[1:]), "same trials"),
    "curve": (lambda: plot.accuracy_curve(EVIDENCE, RIGHT[1:], xlabel="x"), "same trials"),
    "wilson": (lambda: plot.wilson(3, 2), "successes"),
    "values": (lambda: plot.running_averages(torch.zeros(2, 2)), r"\(n,\)"),
    "no half-life": (lambda: plot.TraceMeter(()), "one or more half-lives"),
    "half-lives alike": (lambda: plot.TraceMeter((1, 1.0)), "all different"),
    "half-life of 0": (lambda: plot.TraceMeter((0,)), "half-life"),
    "endless half-life": (lambda: plot.TraceMeter((1e18,)), "too long"),
    "a life": (lambda: plot.lifetime(RECORDS), "lifetime needs records with the split"),
    "no reversal": (lambda: plot.recovery(RECORDS), "recovery needs records with the split"),
    "no policy": (lambda: plot.policy(RECORDS), "policy needs records with the split"),
    "no episodes": (lambda: plot.returns(drawings.REWARDS[:1]), "train. and episodes that ended"),
    "membrane of an episode": (lambda: drawings.episode(membrane=SPIKES[1:]), "equally long, a multiple of the"),
    "policy of an episode": (lambda: drawings.episode(policy=RIGHT[:3, None], action=RIGHT[:3]), "a multiple of the"),
    "actions of an episode": (lambda: drawings.episode(action=RIGHT[:3]), "equally long, a multiple of the decisions"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_refused_in_one_sentence(name: str) -> None:
    call, words = WRONG[name]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
