"""The loop over rewards: it learns, records, can be stopped and go on to the bit; parts that do not fit are refused."""

import math
from functools import partial

import pytest
import torch

from tests.tiny_training import Watched, assert_resumes, facts
from tests.tiny_world import CRITIC, NET, Lights, reinforce
from tracetorch import loss, rules
from tracetorch.runs import load_checkpoint
from tracetorch.tasks import Patterns
from tracetorch.tasks.evaluate import evaluate_policy, look_ahead
from tracetorch.training.rewards import Episodes, sample_actions
from tracetorch.training.setup import network_and_loss

CASES = {
    "reflect": {"loss": partial(loss.Reflect, decay=[0.0, 0.5], mixture_rate=0.1, entropy=0.01)},
    "by synapse": {"loss": partial(loss.Reflect, entropy=0.01), "rule": partial(rules.ThreeFactor, decay=0.5)},
    "critic": CRITIC,
    "critic by synapse": CRITIC | {"rule": partial(rules.ThreeFactor, decay=0.5, layers="last")},
    "cut off": CRITIC | {"task": lambda: Lights(cut=True), "loss": partial(loss.ActorCritic, discount=0.5)},
    "stretches": {"rule": partial(rules.CoarseBPTT, stretches=3, decay=0.5)},
    "through time": {"rule": rules.BPTT, "loss": partial(loss.Reflect, at="output")},
}
E_PROP = {"rule": rules.EProp, "loss": partial(loss.Reflect, at="output")}  # keeps eligibilities, and learns this late


def given(case: str) -> dict:
    parts = E_PROP if case == "e-prop" else CASES[case]
    return {name: part() if name == "task" else part for name, part in parts.items()}


def rows_of(run, split=None):
    return [row for row in run.folder.records() if split in (None, row["split"])]


@pytest.mark.parametrize("case", CASES)
def test_it_learns_which_arm_pays(case, tmp_path):
    run = reinforce(tmp_path, updates=200, log_every=40, optimizer=partial(torch.optim.Adam, lr=0.04), **given(case))
    assert facts(run)["summary"]["return"] == 1.0
    late = [row["reward"] for row in rows_of(run, "train")]
    assert late[0] < 0.9 < late[-1]


@pytest.mark.parametrize(("number", "case"), [*enumerate([*CASES, "e-prop"])])
def test_a_stopped_or_killed_run_resumes_to_the_same_end(number, case, tmp_path):
    at, how = (7, "kill") if number % 2 else (3, "signal")
    options = {"updates": 12, "log_every": 5, "eval_every": 4, "schedule": "cosine"}
    end = assert_resumes(reinforce, tmp_path, lambda: given(case), at=at, how=how, **options)
    assert math.isfinite(end["parts"]["best"]["score"])


def test_what_is_recorded(tmp_path):
    watched = Watched()
    run = reinforce(tmp_path, updates=6, log_every=3, eval_every=4, rule=watched.rule)
    rows = rows_of(run)
    assert watched.resets == 2 + 6  # before and after the rehearsal; in each update an episode ends
    assert [(row["split"], row["update"]) for row in rows] == [
        ("train", 3), ("validation", 4), ("train", 6), ("validation", 6), ("test", 6)]  # fmt: skip
    names = {name for name in rows[0] if not name.endswith(("_seconds", "_per_second"))}
    assert names == {"update", "split", "loss", "reward", "return", "episodes"}
    assert rows[2]["episodes"] == 2 * (6 + 3 + 2)  # environments with episodes of 1, 2 and 3 decisions
    summary = facts(run)["summary"]
    assert 0 < summary["effective_acs"] + summary["effective_macs"] <= summary["synaptic_operations"]
    assert summary["tested"] == "best" and summary["late_reward"] == pytest.approx(
        (rows[0]["reward"] + rows[2]["reward"]) / 2
    )


@pytest.mark.parametrize(("updates", "every"), [(20, 2), (3, 1)])
def test_a_run_is_evaluated_ten_times_if_nothing_is_said(tmp_path, updates, every):
    rows = rows_of(reinforce(tmp_path, updates=updates), "validation")
    assert [row["update"] for row in rows] == list(range(every, updates + 1, every))


def test_a_pass_has_the_length_that_the_task_gives_and_without_validation_the_latest_is_tested(tmp_path):
    run = reinforce(tmp_path, updates=None, passes=0.2, task=Lights(validation_episodes=0))
    summary = facts(run)["summary"]
    assert summary["updates"] == 6 and summary["tested"] == "latest"
    assert not run.folder.checkpoint("best").exists()


def test_the_checkpoint_with_the_best_validation_is_kept(tmp_path):
    """Later evaluations are worse: the learning rate is far too large."""
    run = reinforce(tmp_path, updates=12, eval_every=1, optimizer=partial(torch.optim.SGD, lr=50.0))
    scores = [row["return"] for row in rows_of(run, "validation")]
    first = scores.index(max(scores)) + 1
    assert load_checkpoint(run.folder.checkpoint("best"), NET(2, 2))["update"] == first


def test_an_environment_without_test_episodes_fails_the_run(tmp_path):
    class Untested(Lights):
        def test(self, choose, split="test"):
            return {}

    with pytest.raises(ValueError, match="Untested has no episodes to test on"):
        reinforce(tmp_path, task=Untested(), updates=1)


def test_a_function_without_arguments_may_make_the_loss():
    def make():
        return loss.Reflect()

    net, made = network_and_loss(Lights(), NET, make)
    assert (net[0].in_features, type(made)) == (2, loss.Reflect)


def test_playing_leaves_the_environments_as_they_are():
    torch.manual_seed(0)
    net, world = NET(2, 2), Lights()
    net.run(world.observe())
    before = {name: value.clone() for name, value in net.save_state().items()}
    evaluate_policy(net, world, lambda output: output, "test", 2)
    ahead = look_ahead(net, world.observe(), 2)
    assert all(torch.equal(value, before[name]) for name, value in net.save_state().items())
    assert torch.equal(net.run(world.observe(), reduce="mean", window=2), ahead)


def test_returns_are_those_of_the_ended_episodes_and_the_late_reward_is_the_mean_of_the_last_5000():
    episodes, long, wide = Episodes(2), Episodes(1), Episodes(6000)
    for reward, done in (([1.0, 2.0], [False, True]), ([3.0, 4.0], [False, False]), ([5.0, 6.0], [True, False])):
        episodes.add(torch.tensor(reward), torch.tensor(done))
    assert (episodes.mean, episodes.late) == (5.5, 3.5)  # 1 + 3 + 5 and 2
    assert episodes.take() == episodes.take() == {"return": 5.5, "episodes": 2}
    episodes.drop()
    episodes.add(torch.ones(2), torch.tensor([False, True]))
    assert episodes.take() == {"return": 1.0, "episodes": 3}
    for number in range(5003):
        long.add(torch.tensor([float(number)]), torch.tensor([False]))
    wide.add(torch.arange(6000.0), torch.ones(6000).bool())
    assert (long.late, wide.late) == (2502.5, 2999.5) and long.mean == 0


def test_actions_have_the_frequencies_of_their_probabilities():
    p = torch.tensor([[0.1, 0.0, 0.6, 0.3]]).expand(2000, -1)
    drawn = [sample_actions(p, 7, update) for update in (*range(60, 68), 130, 131)]  # over blocks of random numbers
    assert not any(torch.equal(one, other) for one in drawn for other in drawn if one is not other)
    counts = torch.cat(drawn).bincount(minlength=4) / 20_000
    torch.testing.assert_close(counts, p[0], rtol=0, atol=0.015)
    assert counts[1] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": rules.BPTT}, "BPTT takes signals at the output: .*loss.at=output"),
        ({"rule": rules.DECOLLE}, "DECOLLE learns from labels, and Lights gives rewards: choose rule=trace"),
        ({"loss": loss.ActorCritic}, "choose network=lif_li"),
        ({"network": CRITIC["network"]}, "Reflect takes probabilities"),
        ({"task": Patterns()}, "Patterns gives labels, not rewards: choose train=supervised"),
        ({"updates": None}, "train.updates and train.passes are both null"),
        ({"log_every": 0}, "train.log_every must be at least 1"),
        ({"eval_every": 0}, "train.eval_every must be at least 1"),
        ({"patience": 0}, "train.patience must be at least 1"),
        ({"window": 9}, "train.window must lie between 1 and the 4 steps"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        reinforce(tmp_path, **changes)
    assert not list(tmp_path.iterdir())
