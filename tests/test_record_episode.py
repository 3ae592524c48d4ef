"""Watching an episode changes nothing; and what is tested later is what was there when it was learnt."""

import json

import pytest
import torch

from tests.command_line import tracetorch
from tests.tiny_world import NET
from tracetorch.runs import RunFolder
from tracetorch.tasks import Gym, PoissonClicks, Reversal, RewardedTask
from tracetorch.tasks.evaluate import record_episode

gymnasium = pytest.importorskip("gymnasium", reason="the extra rl is not installed")
SMALL = ("device=cpu", "network.hidden=[8]", "task.num_envs=4", "task.steps=4", "task.test_episodes=5",
         "task.validation_episodes=2", "train.log_every=20", "train.eval_every=40")  # fmt: skip


def pole(**changes):
    return Gym(
        **{"id": "CartPole-v1", "num_envs": 3, "steps": 5, "test_episodes": 6, "validation_episodes": 2} | changes
    )


def softmax(output):
    return torch.softmax(output, -1)


def test_it_sees_what_the_network_does_and_leaves_it_as_it_was():
    torch.manual_seed(0)
    world = pole()
    net = NET(world.input_size, 2)
    net.run(world.observe())
    before, state = {n: v.clone() for n, v in net.save_state().items()}, str(world.state_dict())
    seen = record_episode(net, world, softmax, 3, decisions=7)
    assert all(torch.equal(value, before[name]) for name, value in net.save_state().items())
    assert str(world.state_dict()) == state
    assert {len(values) for values in (*seen.layers.values(), seen.membrane)} == {7 * 5}
    assert len(seen.action) == 7 and torch.equal(seen.policy.argmax(-1), seen.action) and not seen.ended
    net.reset()  # the first decision, again and by other means
    inputs = seen.layers["input"][:5, None]
    torch.testing.assert_close(softmax(net.run(inputs, reduce="mean", window=3))[0], seen.policy[0])


def test_it_ends_with_the_episode():
    world = pole()
    torch.manual_seed(0)
    seen = record_episode(NET(world.input_size, 2), world, softmax, None, decisions=600)
    assert seen.ended and 5 < len(seen.action) < 600


def test_it_ends_with_the_only_episode():
    world = pole(num_envs=1, test_episodes=1)
    torch.manual_seed(0)
    assert record_episode(NET(world.input_size, 2), world, softmax, None, decisions=600).ended


def test_what_is_tested_later_sees_with_the_same_eyes(tmp_path, monkeypatch):
    """Observations are normalised by the statistics of training, not with new ones."""
    monkeypatch.chdir(tmp_path)
    run = tracetorch("run", "experiment=cartpole", *SMALL, "train.updates=80", "train.figures=false", "output.dir=run")
    assert run.exit_code == 0, run.stderr
    assert tracetorch("eval", "run").exit_code == 0
    (again,) = (tmp_path / "run" / "eval").iterdir()
    columns = [RunFolder(folder).table("trials.csv") for folder in (tmp_path / "run", again)]
    assert columns[0] == columns[1]
    world = pole()
    state = torch.load(tmp_path / "run/checkpoints/latest.pt", weights_only=True)["parts"]["task"]
    assert str(world.statistics.state_dict()) != str(state["statistics"])
    world.load_for_test(state)
    assert str(world.statistics.state_dict()) == str(state["statistics"])


def test_actions_mean_in_a_later_test_what_they_had_come_to_mean():
    def clicks():
        return RewardedTask(PoissonClicks(duration=[0.05], delay=0.0, batch_size=2, test_trials=20))

    world = Reversal(clicks(), every=10, jitter=0.0)
    for _ in range(15):
        world.act(torch.zeros(2, dtype=torch.long))
    assert world.context == 1
    later = Reversal(clicks(), every=10, jitter=0.0)
    left = [w.test(lambda xs, begins: torch.zeros(len(begins), dtype=torch.long))["return"] for w in (world, later)]
    assert torch.equal(left[0], 1 - left[1])
    later.load_for_test(world.state_dict())
    right = later.test(lambda xs, begins: torch.zeros(len(begins), dtype=torch.long))["return"]
    assert torch.equal(right, left[0])


def test_a_run_of_long_episodes_draws_one_and_its_learning_curve(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tracetorch("run", "experiment=cartpole", *SMALL, "train.updates=80", "output.dir=run")
    assert run.exit_code == 0, run.stderr
    drawn = {path.stem for path in (tmp_path / "run/plots").iterdir()}
    assert {"returns", "episode"} <= drawn
    for path in (tmp_path / "run/plots").iterdir():
        path.unlink()
    again = tracetorch("plot", "run")
    assert again.exit_code == 0 and {path.stem for path in (tmp_path / "run/plots").iterdir()} == drawn
    assert json.loads((tmp_path / "run/run.json").read_text())["summary"]["episodes"] > 0


def test_where_an_episode_is_one_decision_the_learning_curve_is_enough():
    from tracetorch.training.report import has_long_episodes

    assert has_long_episodes([{"update": 10, "episodes": 7}], 2)
    assert not has_long_episodes([{"update": 10, "episodes": 20}], 2)
    assert not has_long_episodes([{"update": 10, "episodes": 0}, {"split": "test"}], 2)
