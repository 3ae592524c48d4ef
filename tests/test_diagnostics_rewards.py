"""`diagnostics=gradient` where actions are rewarded: what it tells is right, and the run is the same without it."""

from functools import partial

import pytest
import torch

from tests.test_diagnostics import EVERY_TWO, gradients, others
from tests.test_resume import timeless
from tests.tiny_world import CRITIC, NET, Lights, live, play
from tests.training.test_reinforcement import E_PROP, FORMS, given
from tracetorch import loss, rules
from tracetorch.rules.gradient_similarity import example_of_scores
from tracetorch.runs import load_checkpoint

EACH = pytest.mark.parametrize("form", [*FORMS, "e-prop"])
READOUT = ["layers.1.connection.weight.cosine", "layers.1.connection.weight.norm_ratio"]
LOSSES = {
    "logits": (loss.Reflect(), 2),
    "output": (loss.Reflect(at="output"), 2),
    "critic": (loss.ActorCritic(critic=3.0), 3),
}


def weights(run, parts):
    net = parts.get("network", NET)(2, 2 + parts["loss"]().values)
    load_checkpoint(run.folder.checkpoint("latest"), net)
    return net.state_dict()


@EACH
def test_a_run_is_the_same_with_and_without_it(form, tmp_path):
    length = {"updates": 7, "log_every": 3}
    without = play(tmp_path, name="without", **length, **given(form))
    watched = play(tmp_path, name="watched", diagnostics=EVERY_TWO, **length, **given(form))
    assert others(watched) == others(without) and [row["update"] for row in gradients(watched)] == [2, 4, 6, 7]
    left, right = (weights(run, given(form)) for run in (watched, without))
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_a_life_is_the_same_with_and_without_it(tmp_path):
    runs = live(tmp_path, name="without"), live(tmp_path, name="watched", diagnostics=EVERY_TWO)
    without, watched = ([row for row in timeless(run) if row.pop("memory_bytes", 0) >= 0] for run in runs)
    assert [row for row in watched if row["split"] != "gradient"] == without
    assert [row["update"] for row in watched if row["split"] == "gradient"] == [2, 4, 6]


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"rule": rules.ThreeFactor},
        {"rule": partial(rules.ThreeFactor, layers="last")},
        E_PROP,
        E_PROP | {"rule": rules.OTTT},
        CRITIC,
        CRITIC | {"rule": partial(rules.ThreeFactor, decay=0.7)},
    ],
    ids=["trace", "by synapse", "by synapse, the last", "e-prop", "ottt", "critic", "critic by synapse"],
)
def test_readouts_are_told_to_be_exact_at_their_present_output(parts, tmp_path):
    for row in gradients(play(tmp_path, window=1, diagnostics=EVERY_TWO, **parts)):
        assert [row[key] for key in READOUT] == pytest.approx([1, 1], abs=1e-4)


def test_bptt_agrees_with_itself(tmp_path):
    for row in gradients(play(tmp_path, diagnostics=EVERY_TWO, **FORMS["through time"])):
        numbers = [value for key, value in row.items() if key.endswith(("cosine", "norm_ratio"))]
        assert len(numbers) == 12 and numbers == pytest.approx([1] * 12, abs=1e-5)


def test_trace_is_told_to_be_off_where_it_is(tmp_path):
    for row in gradients(play(tmp_path, diagnostics=EVERY_TWO)):
        assert row["layers.0.connection.weight.cosine"] < 0.999 and row[
            "layers.1.connection.weight.norm_ratio"
        ] != pytest.approx(1, abs=1e-3)


def test_environments_are_no_more_than_was_asked_for(tmp_path):
    seen = []

    class Looking(EVERY_TWO.func):
        def __init__(self, *words, **named):
            super().__init__(*words, **named)
            seen.append(self._example)

    play(tmp_path, task=Lights(), diagnostics=partial(Looking, trials=4))
    (example,) = seen
    assert torch.equal(example.xs.dense(), Lights().observe().dense()[:, :4])
    assert len(example.target) == 4


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_taught_is_the_slope_of_the_loss(name):
    reward_loss, width = LOSSES[name]
    torch.manual_seed(3)
    logits, action = torch.randn(5, width), torch.tensor([0, 1, 1, 0, 1])
    output = logits if reward_loss.values else torch.softmax(logits, dim=-1)
    told = []

    class Listening(rules.Trace):
        def backward(self, signal, *, at="output"):
            told.append((signal, at))

    example = example_of_scores(torch.zeros(2, 5, 3), action, reward_loss)
    value, wanted = example.loss(output, action)
    assert example.teach is not None
    example.teach(Listening(NET(2, 2)), output, action)
    ((signal, at),) = told
    assert at == reward_loss.at
    if reward_loss.at == "logits" and not reward_loss.values:  # through the softmax
        leaf = logits.clone().requires_grad_()
        torch.softmax(leaf, dim=-1).backward(wanted)
        wanted = leaf.grad
    torch.testing.assert_close(signal, wanted, rtol=1e-4, atol=1e-6)
    floor = 1e-3 if reward_loss.at == "output" else 0
    chosen = reward_loss.policy(output).gather(1, action[:, None])[:, 0]
    torch.testing.assert_close(value, -(chosen + floor).log().mean())


def test_the_loss_stays_as_it_is():
    reward_loss = loss.Reflect(decay=0.5)
    output = torch.full((3, 2), 0.5)
    reward_loss.observe(output, torch.tensor([0, 1, 1]))
    before = reward_loss.score.clone()
    example = example_of_scores(torch.zeros(2, 5, 3), torch.zeros(5, dtype=torch.int64), reward_loss)

    class Deaf(rules.Trace):
        def backward(self, signal, *, at):
            pass

    assert example.teach is not None
    example.teach(Deaf(NET(2, 2)), torch.full((5, 2), 0.5), example.target)
    assert torch.equal(reward_loss.score, before)
