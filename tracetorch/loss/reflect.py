"""Learning from rewards: a trace of what was done, and, when a reward comes, more or less of the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from tracetorch import renamed
from tracetorch.loss.base import RewardLoss
from tracetorch.loss.baseline import Baseline, scales
from tracetorch.loss.entropy_bonus import EntropyBonus
from tracetorch.loss.policy import check_at, check_choice, check_ends, check_reward, log_prob, score_of
from tracetorch.modes import check_number, check_tensor, numbers, without_graph


class Reflect(RewardLoss):
    """The trace alternative to REINFORCE: watch each action, and judge what was done when a reward comes.

        e_k ← λ_k·e_k + score,    score = d log p(action)/dz = onehot − p       when `observe` is told of an action
        signal = −(reward − b)·Σ_k w_k·e_k / batch − d worth/dz / batch        when it is called with a reward

    z are the logits, p their softmax, b what was to be expected (`Baseline`), and worth what the
    distribution of the last action is worth by itself (`EntropyBonus`).

    Args:
        decay: λ per action, in [0, 1): for how long an action answers for what comes. One, or several time scales.
        mixture: w, how much each time scale counts; equally much, and 1 in all, if None.
        mixture_rate: how fast the mixtures learn, w and that of the baseline; 0 leaves them as they are.
        baseline: β per reward, in [0, 1), of the rewards to be expected; one or several, or none at all: [].
        per_sample: whether each sample expects what itself got, rather than what all got.
        entropy: c, in reward per nat: weight of the policy's entropy.
        uniform: k, in reward per nat: what it costs to leave an action no chance; see `EntropyBonus`. It pulls where a
            policy has settled, as the entropy does not: for worlds that change.
        at: "logits": signals are for `net.backward(signal, at="logits")`. "output": they are dL/dp, and the score is
            onehot/(p + .001): for rules that know of no logits.
    Returns: of a call: loss, −mean of (reward − b)·Σ_k w_k·(trace of log p(action)) − worth; and signal,
        (batch, actions), its derivative if past outputs all move as one.
    Raises: RuntimeError if it is called before anything was done.
    Gradient: without a bonus, signals add up to that of REINFORCE with discounted eligibility,
        −Σ_t d log p(action)·Σ_{s ≥ t} λ^(s − t)·(reward − b)(s), exactly, where the output depends on the parameters in
        the same way at every action: where always the same is seen, or, at λ = 0, for a tied `LI` or `LIS` readout and
        actions drawn from its present output. Otherwise it is approximate: score and input are averaged apart, and what
        went with what is lost; `rules.ThreeFactor` keeps it. A baseline of past rewards adds no bias at λ = 0. At λ > 0
        some were for actions that are still in the trace: it takes part of them away, 1/batch of it if all share it.
        w ascends how well what a time scale taught last agrees with what is taught now: a hypergradient at the output.
    Memory: batch × actions for each time scale, independent of time.
    Source: Williams (1992), doi:10.1007/BF00992696; of w, Baydin et al. (2018), doi:10.48550/arXiv.1703.04782.
    Example:
        >>> reflect = Reflect(decay=0.9)
        >>> reflect.observe(torch.tensor([[0.5, 0.5]]), torch.tensor([1]))
        >>> reflect(torch.tensor([1.0]))[1]
        tensor([[ 0.5000, -0.5000]])
    """

    def __init__(
        self,
        *,
        decay: float | Sequence[float] = 0.0,
        mixture: Sequence[float] | None = None,
        mixture_rate: float = 0.0,
        baseline: float | Sequence[float] = 0.99,
        per_sample: bool = False,
        entropy: float = 0.0,
        uniform: float = 0.0,
        at: Literal["logits", "output"] = "logits",
    ):
        super().__init__()
        check_at(at)
        check_number(mixture_rate, "mixture_rate")
        if not 0 <= mixture_rate < math.inf:
            raise ValueError(f"mixture_rate must be at least 0 and finite, got {mixture_rate:g}")
        self.at, self.mixture_rate, self.explore = at, mixture_rate, EntropyBonus(entropy, uniform)
        self.baseline = Baseline(baseline, per_sample=per_sample, mixture_rate=mixture_rate)
        self._decays = scales("decay", decay)
        count = len(self._decays)
        if not count:
            raise ValueError("decay needs at least one time scale, such as 0.9 or [0.5, 0.9], got []")
        weights = torch.full((count,), 1 / count) if mixture is None else numbers(mixture, "mixture").view(-1)
        if len(weights) != count or not bool((weights > 0).all()):
            raise ValueError(f"mixture needs a weight above 0 for each of {count} decays, got {mixture}")
        self._sum, self._raw = weights.sum(), weights.log()
        self.reset()

    def reset(self) -> None:
        """Forget what was done; not what is expected."""
        self._scores = self._logs = self._worth = self._taught = torch.zeros(0)
        self.score = self.bonus = self.modulation = torch.zeros(0)

    @property
    def mixture(self) -> Tensor:
        """w, one for each time scale."""
        return self._sum * torch.softmax(self._raw, dim=0)

    def policy(self, output: Tensor) -> Tensor:
        """The distribution from which an action is to be drawn: the output itself.

        Raises: ValueError if it is none.
        """
        check_tensor(output, "the output")
        if bool((output < 0).any()):
            lowest = float(output.min())
            raise ValueError(
                f"Reflect takes probabilities, such as a LIS readout gives (network=lif_lis), got {lowest:g}"
            )
        return output

    @without_graph
    def observe(self, output: Tensor, action: Tensor) -> None:
        """Take note of an action. Afterwards `score` is its score, and `bonus` the signal of `EntropyBonus` alone.

        Args:
            output: p, from which the action was drawn, (batch, actions); a mean over steps is such, too.
            action: whole numbers, (batch,).
        """
        check_choice(output, action)
        self.score = score_of(output, action, self.at)
        self._worth, self.bonus = self.explore(output, self.at)
        if not len(self._scores):
            self._scores = output.new_zeros(len(self._decays), *output.shape)
            self._logs = output.new_zeros(len(self._decays), len(output))
        if self._scores.shape[1:] != output.shape:
            was = tuple(self._scores.shape[1:])
            raise ValueError(f"output was {was} before and is {tuple(output.shape)}: call reflect.reset() in between")
        decays = self._decays.to(output)[:, None]
        self._scores = decays[..., None] * self._scores + self.score
        self._logs = decays * self._logs + log_prob(output, action)

    @without_graph
    def __call__(self, reward: Tensor, done: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Judge what was done; the bonus is computed for each judgement.

        Afterwards `modulation`, (batch,), is the factor of the reward alone, dL/d log p.

        Args:
            reward: any finite numbers, (batch,).
            done: whose episode ends here, bool (batch,): what they did has nothing to do with what comes next.
        """
        if not len(self._scores):
            raise RuntimeError("no action was observed: call reflect.observe(output, action) before reflect(reward)")
        check_reward(reward, len(self._worth))
        if done is not None:
            check_ends(done, len(reward), "done")
        reward = reward.to(self._scores)
        self.modulation = -(reward - self.baseline(reward)) / len(reward)
        weights = self.mixture.to(reward)
        taught = self.modulation[:, None] * self._scores
        signal = torch.tensordot(weights, taught, 1)
        if self.mixture_rate:
            self._mix(signal)
            self._taught = taught
        loss = self.modulation @ (weights @ self._logs) - self._worth.mean()
        if done is not None:
            self._scores = self._scores.masked_fill(done[:, None], 0)
            self._logs = self._logs.masked_fill(done, 0)
        return loss, signal + self.bonus

    def _mix(self, signal: Tensor) -> None:
        """Let a time scale count for more if what it taught last agrees with this."""
        if not len(self._taught):
            return
        share, length = torch.softmax(self._raw, dim=0), signal.norm() * self._taught.flatten(1).norm(dim=1).max()
        agrees = ((self._taught * signal).sum(dim=(1, 2)) / length.clamp(min=1e-12)).to(share)
        self._raw = self._raw + self.mixture_rate * share * (agrees - share @ agrees)

    def state_dict(self) -> dict[str, Any]:
        """Tensors, for a checkpoint."""
        return {name: getattr(self, f"_{name}") for name in _STATE} | {"baseline": self.baseline.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        state = renamed.present(renamed.STATE, state)
        for name in _STATE:
            setattr(self, f"_{name}", state[name])
        self.baseline.load_state_dict(state["baseline"])


_STATE = ("scores", "logs", "taught", "raw")
