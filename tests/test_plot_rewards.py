"""What is drawn of a run with rewards: returns over episodes, and one episode as spikes, membranes and actions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from tests.drawings import SPIKES, texts
from tests.tiny_world import CRITIC
from tracetorch import plot
from tracetorch.plot.activity import HUES
from tracetorch.tasks import Gym
from tracetorch.tasks.evaluate import evaluate_policy, record_episode

REWARDS = [
    {"update": 10, "split": "train", "loss": 1.0, "return": 0.0, "episodes": 0},  # none has ended yet
    {"update": 20, "split": "train", "loss": 1.0, "return": 10.0, "episodes": 100},
    {"update": 30, "split": "validation", "loss": None, "return": 15.0},
    {"update": 40, "split": "train", "loss": 1.0, "return": 30.0, "episodes": 140},
    {"update": 40, "split": "test", "loss": None, "return": 40.0},
]
POLICY = torch.tensor([[0.2, 0.8], [0.6, 0.4], [0.9, 0.1], [0.3, 0.7]])
ACTION = torch.tensor([1, 0, 0, 1])
CURRENT = torch.linspace(0, 2, 40 * 3).reshape(40, 3)
LAYERS = {"input": CURRENT, "layer 0, LIF": SPIKES}


def drawn(**changes):
    given = {"layers": LAYERS, "membrane": SPIKES / 2, "threshold": 1.0, "policy": POLICY, "action": ACTION}
    return plot.episode(**given | changes)


EVERY = {"returns": lambda: plot.returns(REWARDS), "episode": drawn}
EXPECTED = {
    "returns": ["episodes, in 40 actions per environment", "return (mean over episodes)",
                "during training", "validation, greedy", "test, greedy"],
    "episode": ["time (steps): a whole episode, 4 actions of 10 steps each", "membrane\n(a.u.)", "θ", "p(action)",
                "action", "action 0", "action 1", "layer 0, LIF, 0.15 spikes per step", "neuron", "channel",
                "neurons 0 (purple), 2 (orange), 5 (light blue)", "input, from 0 (white) to 2 (black)"],
}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_a_figure_says_what_it_shows_and_repeats_to_the_byte(name, tmp_path):
    fig = EVERY[name]()
    assert not set(EXPECTED[name]) - set(texts(fig))
    assert min(text.get_fontsize() for text in fig.findobj(Text) if text.get_text()) >= 7
    assert fig.get_figwidth() <= 7
    pairs = zip(plot.save(fig, tmp_path / "a"), plot.save(EVERY[name](), tmp_path / "b"), strict=True)
    assert all(one.read_bytes() == other.read_bytes() for one, other in pairs)


# ── returns ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_returns_stand_over_the_episodes_that_had_ended_by_then():
    raw, validation, test = plot.returns(REWARDS).axes[0].lines
    assert raw.get_xydata().tolist() == [[100, 10], [140, 30]]  # nothing is drawn of a time when none had ended
    assert validation.get_xydata().tolist() == [[120, 15]]  # update 30 lies halfway between 100 and 140 episodes
    assert test.get_xydata().tolist() == [[140, 40]]


def test_a_running_average_is_drawn_where_there_is_enough_to_average():
    rows = [{"update": at, "split": "train", "return": at % 2, "episodes": 3 * at} for at in range(1, 31)]
    raw, average = plot.returns(rows).axes[0].lines
    assert average.get_xdata().tolist() == raw.get_xdata().tolist() == [3 * at for at in range(1, 31)]
    assert np.ptp(average.get_ydata()[10:]) < 0.2 < np.ptp(raw.get_ydata()[10:])
    assert "its average, half-life 5 records" in texts(plot.returns(rows))
    assert len(plot.returns(rows[:10]).axes[0].lines) == len(plot.returns(rows[:1]).axes[0].lines) == 1


def test_returns_without_episodes_are_no_figure():
    with pytest.raises(ValueError, match=r'returns needs records with the split "train" and episodes that ended'):
        plot.returns(REWARDS[:1])


# ── an episode ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_episode_shows_each_action_for_as_long_as_it_lasted():
    strip = drawn().axes[-1]
    spans = [(bar.get_x(), bar.get_width(), to_rgba(bar.get_facecolor())) for bar in strip.patches]
    assert spans == [(10 * at - 0.5, 10, to_rgba(HUES[done])) for at, done in enumerate(ACTION.tolist())]


def test_an_episode_shows_the_policy_and_every_spike():
    _, layer, membrane, policy, _ = drawn().axes
    assert np.allclose([stairs.get_data().values for stairs in policy.patches], POLICY.T)
    assert len(layer.collections[0].get_segments()) == int(SPIKES.sum())
    for line, at in zip(membrane.lines, (0, 2, 5), strict=False):
        assert line.get_ydata().tolist() == (SPIKES[:, at] / 2).tolist()


def test_neurons_with_thresholds_of_their_own_have_a_line_each():
    levels = torch.linspace(0.5, 1.5, 6)
    lines = drawn(threshold=levels).axes[2].lines
    assert [line.get_ydata()[0] for line in lines[3:]] == pytest.approx(levels[[0, 2, 5]].tolist())
    assert [line.get_color() for line in lines[3:]] == [line.get_color() for line in lines[:3]]


def test_an_axis_of_neurons_has_their_numbers():
    spikes = torch.zeros(40, 90)
    spikes[3, 7] = spikes[4, 8] = spikes[5, 81] = 1
    layer = drawn(layers={"layer 0": spikes}, membrane=spikes, neurons=3).axes[0]
    assert [label.get_text() for label in layer.get_yticklabels()] == ["7", "81"]
    assert "layer 0 (3 of 90 neurons), 0.00083 spikes per step" in texts(layer.figure)


def test_the_names_of_actions_and_seconds_are_used_where_they_are_known():
    said = texts(drawn(names=["left", "right"], dt=0.01, whole=False, threshold=None))
    assert {"left", "right"} < set(said) and "θ" not in said
    assert "time (ms): the beginning of an episode, 4 actions of 10 steps each" in said


@pytest.mark.parametrize(
    "changes",
    [{"membrane": SPIKES[1:]}, {"policy": POLICY[:3], "action": ACTION[:3]}, {"action": ACTION[:3]}],
    ids=["membrane", "policy", "action"],
)
def test_lengths_that_do_not_belong_together_are_refused(changes):
    with pytest.raises(ValueError, match="layers and membrane must be equally long, a multiple of the decisions"):
        drawn(**changes)


# ── what was seen ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("decisions", "ended"), [(3, False), (9, True)])
def test_what_is_watched_is_the_first_episode_of_the_test(decisions, ended):
    pytest.importorskip("gymnasium", reason="the extra rl is not installed")
    torch.manual_seed(0)
    world = Gym(num_envs=3, steps=4, test_episodes=5, max_episode_steps=6, seed=1)
    net = CRITIC["network"](world.input_size, 3)
    net.run(world.observe())
    before, played = net.save_state(), []

    def policy(output):
        played.append(torch.softmax(output[:, :2], dim=-1))
        return played[-1]

    trials = evaluate_policy(net, world, policy, "test", 2)
    asked = torch.stack([p[0] for p in played])
    seen = record_episode(net, world, policy, 2, decisions=decisions)
    length = min(decisions, int(trials["length"][0]))
    assert seen.ended is ended and len(seen.action) == length
    torch.testing.assert_close(seen.policy, asked[:length])
    assert torch.equal(seen.action, asked[:length].argmax(dim=-1))
    assert {name: tuple(v.shape) for name, v in seen.layers.items()} == {
        "input": (4 * length, 8), "layer 0, LIF": (4 * length, 8), "layer 1, LI": (4 * length, 3)}  # fmt: skip
    assert seen.membrane.shape == (4 * length, 8)
    assert all(torch.equal(value, before[name]) for name, value in net.save_state().items())
