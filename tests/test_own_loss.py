"""A loss for rewards of one's own trains in every loop that has rewards, and is saved in checkpoints."""

from functools import partial

import pytest
import torch

from tests.tiny_world import facts, live, play
from tracetorch.loss import RewardLoss
from tracetorch.runs import RunFolder
from tracetorch.runs.provenance import first_difference

LOOPS = {"reinforcement": play, "lifetime": live}


class AboveAverage(RewardLoss):
    """The last action alone, judged by how much more it brought than all before it on average."""

    def __init__(self):
        super().__init__()
        self.count, self.mean = 0, 0.0

    def policy(self, output):
        return output

    def observe(self, output, action):
        chosen = torch.nn.functional.one_hot(action, output.shape[1])
        self.log, self.score = output.gather(1, action[:, None])[:, 0].log(), chosen - output

    def __call__(self, reward, done=None):
        assert done is None or done.dtype == torch.bool
        self.modulation = -(reward - self.mean) / len(reward)
        self.count += 1
        self.mean += (float(reward.mean()) - self.mean) / self.count
        return self.modulation @ self.log, self.modulation[:, None] * self.score

    def state_dict(self):
        return {"count": self.count, "mean": self.mean}

    def load_state_dict(self, state):
        self.count, self.mean = state["count"], state["mean"]


class Killed(BaseException):
    """Ends a run as SIGKILL would."""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_killed_run_with_it_goes_on_exactly(loop, tmp_path):
    def kill(event, values):
        if event == "progress" and values["done"] == 5:
            raise Killed

    given = {"loss": AboveAverage, "updates": 9, "checkpoint_seconds": 0.0}
    whole = LOOPS[loop](tmp_path, name="whole", **given)
    with pytest.raises(Killed):
        LOOPS[loop](tmp_path, name="killed", listener=kill, **given)
    LOOPS[loop](tmp_path, resume_from=RunFolder(tmp_path / "killed"), **given)
    assert not first_difference(whole.folder, RunFolder(tmp_path / "killed"))
    parts = torch.load(tmp_path / "killed/checkpoints/latest.pt", weights_only=True)["parts"]
    assert parts["loss"]["count"] > 5


def test_it_learns(tmp_path):
    run = play(tmp_path, loss=AboveAverage, updates=200, optimizer=partial(torch.optim.Adam, lr=0.04))
    assert facts(run)["summary"]["return"] == 1.0


def test_one_that_judges_by_the_next_observation_needs_a_reward_for_each_action(tmp_path):
    class Ahead(AboveAverage):
        bootstraps = True

    with pytest.raises(ValueError, match=r"Ahead judges each action by the next .*teach_every must be 1, got 3"):
        live(tmp_path, loss=Ahead, teach_every=3)
