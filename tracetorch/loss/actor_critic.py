"""Actor-critic learning: one output of the network is the value."""

import torch
from torch import Tensor

from tracetorch.loss.base import EntropyBonus, RewardLoss, check_choice, check_ends, check_reward, log_prob, score_of
from tracetorch.modes import check_number, check_tensor, without_graph


class ActorCritic(RewardLoss):
    """TD learning: one additional output is the value, the expected discounted sum of future rewards.

        (z, y) = output,    p = softmax(z),    V = u·y
        δ = reward + γ·V' − V         V, V': value of this and of the next observation; V' = 0 at the end
        signal at (z, y) = −δ·(onehot(action) − p, v) / batch − (d worth/dz, 0) / batch

    A truncated episode has not terminated: V' is then the value of its last observation.

    Args:
        discount: γ per action, in [0, 1].
        unit: u > 0, the value V of an output y = 1. Weights grow slowly, so a large value needs a large u.
        critic: v ≥ 0, weight of the critic's loss.
        entropy, uniform: c and k, in reward per nat, as in `Reflect`.
    Returns: a call returns the loss, the mean of ½·δ² − δ·log p(action) − worth, and the signal, (batch, actions + 1),
        for `net.backward(signal, at="logits")` with an `LI` readout, in the network's state at the action. `score` is
        (onehot − p, v), `modulation` is −δ/batch and `bonus` is the rest. With `rules.ThreeFactor` they give TD(λ/γ).
    Raises: RuntimeError for a call before the first action; ValueError for a reward that is not finite.
    Gradient: of the policy: REINFORCE with δ for the return, unbiased if V is exact. Of the value: the semi-gradient of
        TD, in units of u.
    Memory: a few numbers for each output and sample, independent of time.
    Source: Sutton (1988), doi:10.1007/BF00115009; Barto, Sutton, Anderson (1983), doi:10.1109/TSMC.1983.6313077; for
        truncated episodes, Pardo et al. (2018), doi:10.48550/arXiv.1712.00378.
    """

    values = 1
    bootstraps = True

    def __init__(
        self,
        *,
        discount: float = 0.99,
        unit: float = 10.0,
        critic: float = 0.5,
        entropy: float = 0.02,
        uniform: float = 0.0,
    ):
        for name, value in {"discount": discount, "unit": unit, "critic": critic}.items():
            check_number(value, name)
        if not 0 <= discount <= 1:
            raise ValueError(f"discount must lie between 0 and 1, got {discount:g}")
        if not unit > 0:
            raise ValueError(f"unit must be above 0, got {unit:g}")
        if not critic >= 0:
            raise ValueError(f"critic must be at least 0, got {critic:g}")
        self.discount, self.unit, self.critic, self.explore = discount, unit, critic, EntropyBonus(entropy, uniform)
        self._value = self._log = self._worth = torch.zeros(0)

    def policy(self, output: Tensor) -> Tensor:
        """Return the probabilities of the actions, (batch, actions)."""
        check_tensor(output, "the output")
        return torch.softmax(output[:, :-1], dim=-1)

    def value(self, output: Tensor) -> Tensor:
        """Return V in units of the reward, (batch,)."""
        return self.unit * output[:, -1]

    @without_graph
    def observe(self, output: Tensor, action: Tensor) -> None:
        """Observe the actions, whole numbers, (batch,). Args: output: real numbers, (batch, actions + 1)."""
        check_choice(output, action)
        p, critic = self.policy(output), output.new_full((len(output), 1), self.critic)
        self.score = torch.cat([score_of(p, action, "logits"), critic], dim=1)
        self._worth, bonus = self.explore(p, "logits")
        self.bonus = torch.cat([bonus, torch.zeros_like(critic)], dim=1)
        self._value, self._log = self.value(output), log_prob(p, action)

    @without_graph
    def __call__(self, reward: Tensor, terminated: Tensor, upcoming: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss and signal of the last action.

        Args:
            reward: finite numbers, (batch,). terminated: episodes that have ended, bool (batch,).
            upcoming: output for the next observation, (batch, actions + 1); not used for terminated episodes.
        """
        if not self._value.numel():
            raise RuntimeError("no action was observed: call loss.observe(output, action) before the reward")
        check_reward(reward, len(self._value))
        check_ends(terminated, len(reward), "terminated")
        check_tensor(upcoming, "upcoming")
        if upcoming.shape != self.score.shape:
            shapes = f"{tuple(self.score.shape)}, got {tuple(upcoming.shape)}"
            raise ValueError(f"upcoming must have the shape of the output that was observed, {shapes}")
        next_value = self.value(upcoming).masked_fill(terminated, 0)
        error = reward.to(next_value) + self.discount * next_value - self._value
        self.modulation = -error / len(error)
        loss = (error.square() / 2 - error * self._log - self._worth).mean()
        return loss, self.modulation[:, None] * self.score + self.bonus
