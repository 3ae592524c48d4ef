"""The environment own_part: rewards depend on the seed and the actions alone, and its state can be restored."""

import torch

from tracetorch.cli.templates.env import OwnPart

ONES = torch.ones(8, dtype=torch.int64)


def rewards(env, pulls):
    """The rewards of pulls of the second lever, (pulls, num_envs)."""
    return torch.stack([env.act(ONES).reward for _ in range(pulls)])


def test_rewards_depend_on_the_seed_and_the_actions_alone():
    first = rewards(OwnPart(seed=1), 5)
    assert torch.equal(first, rewards(OwnPart(seed=1), 5)) and not torch.equal(first, rewards(OwnPart(seed=2), 5))
    env = OwnPart()
    assert env.observe().shape == (env.num_envs, env.input_size) and env.observe().steps == env.steps


def test_it_continues_from_its_state():
    env, restored = OwnPart(), OwnPart()
    rewards(env, 3)
    restored.load_state_dict(env.state_dict())
    assert torch.equal(rewards(env, 4), rewards(restored, 4))


def test_the_second_lever_pays_more_often():
    env = OwnPart(test_episodes=400)
    better, worse = (env.test(lambda xs, begins, lever=lever: torch.full((400,), lever)) for lever in (1, 0))
    assert better["return"].mean() > worse["return"].mean() + 0.2
