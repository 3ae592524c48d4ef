"""Learning from rewards: a trace of the scores of past actions, multiplied by each reward."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from tracetorch import renamed
from tracetorch.loss.base import (
    EntropyBonus,
    RewardLoss,
    check_choice,
    check_ends,
    check_reward,
    log_prob,
    score_of,
)
from tracetorch.modes import check_number, check_tensor, numbers, without_graph


class Baseline:
    """Expected reward: a mixture of running means of past rewards.

        r_j = (r + β_j·r' + β_j²·r'' + …)/(1 + β_j + β_j² + …),    b = Σ_j v_j·r_j,    v = softmax of stored parameters

    Args:
        decays: β per reward, in [0, 1), one for each running mean; with an empty list b is 0.
        per_sample: whether each sample has its own means; otherwise all samples share them.
        mixture_rate: learning rate of v, by gradient descent on (reward − b)²; 0 keeps v constant.
    Memory: two numbers for each decay (and sample), independent of time.
    """

    def __init__(self, decays: float | Sequence[float], *, per_sample: bool, mixture_rate: float):
        self.decays, self.per_sample = scales("baseline", decays), per_sample
        self.mixture_rate = mixture_rate
        self._raw, self._sums = torch.zeros(len(self.decays)), torch.zeros(0)

    def __call__(self, reward: Tensor) -> Tensor:
        """Return the expected reward, (batch,); then add this reward, (batch,), to the means."""
        if not len(self.decays):
            return torch.zeros_like(reward)
        present = reward if self.per_sample else reward.mean(dim=0, keepdim=True)
        if not self._sums.numel():
            self._sums = present.new_zeros(2, len(self.decays), len(present))  # of rewards, and of ones
        rewards, ones = self._sums
        if len(present) != rewards.shape[-1]:
            message = (
                f"a baseline of {rewards.shape[-1]} samples, each with a mean of its own, got {len(present)} rewards"
            )
            raise ValueError(f"{message}: make a new loss for another batch, or one with per_sample=False")
        means = rewards / ones.clamp(min=torch.finfo(present.dtype).tiny)
        weights, decays = self.mixture.to(present), self.decays.to(present)
        expected = weights @ means
        if self.mixture_rate:
            slope = 2 * ((present - expected) * weights[:, None] * (means - expected)).mean(dim=1)
            self._raw = self._raw + self.mixture_rate * slope.to(self._raw)
        self._sums = self._sums * decays[:, None] + torch.stack([present, torch.ones_like(present)])[:, None]
        return expected.expand_as(reward)

    @property
    def mixture(self) -> Tensor:
        """The weights v, one for each decay; their sum is 1."""
        return torch.softmax(self._raw, dim=0)

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors for a checkpoint."""
        return {"raw": self._raw, "sums": self._sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self._raw, self._sums = state["raw"], state["sums"]


def scales(name: str, decays: float | Sequence[float]) -> Tensor:
    """Return one or several decays in [0, 1) as a tensor."""
    listed = list(decays) if isinstance(decays, Iterable) and not isinstance(decays, str) else [decays]
    for decay in listed:
        check_number(decay, name)
    values = torch.tensor(listed, dtype=torch.float64)
    if not bool(((values >= 0) & (values < 1)).all()):
        raise ValueError(f"{name}: each decay must be at least 0 and below 1, got {values.tolist()}")
    return values


class Reflect(RewardLoss):
    """The trace alternative to REINFORCE: a trace of action scores, multiplied by each reward to give a signal.

        e_k ← λ_k·e_k + score,    score = d log p(action)/dz = onehot − p       at every action: `observe`
        signal = −(reward − b)·Σ_k w_k·e_k / batch − d worth/dz / batch        at every reward: the call

    z are the logits, p their softmax, b the expected reward (`Baseline`), worth the exploration bonus of the
    last policy (`EntropyBonus`).

    Args:
        decay: λ per action, in [0, 1): for how long rewards are credited to an action. One time scale or several.
        mixture: w, weights of the time scales; None: equal weights with sum 1.
        mixture_rate: learning rate of w and of the baseline's weights; 0 keeps them constant.
        baseline: β per reward, in [0, 1), of the expected reward; one value, several, or none ([]).
        per_sample: whether each sample has its own expected reward; otherwise all share one.
        entropy: c, in reward per nat: weight of the policy's entropy.
        uniform: k, in reward per nat: weight of KL(uniform ‖ policy). Unlike that of the entropy, its gradient does not
            vanish for a deterministic policy: for tasks that change.
        at: "logits": signals are for `net.backward(signal, at="logits")`. "output": signals are dL/dp and the score
            is onehot/(p + .001), for rules that do not take logits.
    Returns: a call returns the loss, −mean of (reward − b)·Σ_k w_k·(trace of log p(action)) − worth, and the signal,
        (batch, actions), the derivative of the loss if all past outputs change equally.
    Raises: RuntimeError for a call before the first action.
    Gradient: without a bonus, the signals sum to the gradient of REINFORCE with discounted eligibility,
        −Σ_t d log p(action)·Σ_{s ≥ t} λ^(s − t)·(reward − b)(s). This is exact where the output depends on the
        parameters in the same way at every action: with a constant input, or, at λ = 0, for a tied `LI` or `LIS`
        readout and actions drawn from its present output. Otherwise approximate: score and input are averaged
        separately; `rules.ThreeFactor` keeps their product. A baseline of past rewards adds no bias at λ = 0. At λ > 0
        it contains rewards of actions that are still in the trace and cancels part of them, 1/batch of each if it is
        shared.
        w follows a hypergradient at the output: it grows for time scales whose last signal agrees with the present one.
    Memory: batch × actions for each time scale, independent of time.
    Source: Williams (1992), doi:10.1007/BF00992696; for w, Baydin et al. (2018), doi:10.48550/arXiv.1703.04782.
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
        if at not in ("logits", "output"):
            raise ValueError(f'at must be "logits" or "output", got {at!r}')
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
        """Forget the actions so far, but not the expected rewards."""
        self._scores = self._logs = self._worth = self._taught = torch.zeros(0)

    @property
    def mixture(self) -> Tensor:
        """The weights w, one for each time scale."""
        return self._sum * torch.softmax(self._raw, dim=0)

    def policy(self, output: Tensor) -> Tensor:
        """Return the probabilities of the actions: the output itself. Raises: ValueError for values below 0."""
        check_tensor(output, "the output")
        if bool((output < 0).any()):
            lowest = float(output.min())
            raise ValueError(
                f"Reflect takes probabilities, such as a LIS readout gives (network=lif_lis), got {lowest:g}"
            )
        return output

    @without_graph
    def observe(self, output: Tensor, action: Tensor) -> None:
        """Observe the actions, whole numbers, (batch,), drawn from p, (batch, actions); set `score` and `bonus`."""
        check_choice(output, action)
        self.score = score_of(output, action, self.at)
        self._worth, self.bonus = self.explore(output, self.at)
        if not self._scores.numel():
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
        """Return loss and signal of a finite reward, (batch,); set `modulation`. Args: done: which episodes end."""
        if not self._scores.numel():
            raise RuntimeError("no action was observed: call reflect.observe(output, action) before reflect(reward)")
        check_reward(reward, len(self._worth))
        if done is not None:
            check_ends(done, len(reward), "done")
        reward = reward.to(self._scores)
        self.modulation = -(reward - self.baseline(reward)) / len(reward)
        weights = self.mixture.to(reward)
        signals = self.modulation[:, None] * self._scores  # one for each time scale
        signal = torch.tensordot(weights, signals, 1)
        if self.mixture_rate:
            if self._taught.numel():  # raise the weights of time scales whose last signal agrees with this one
                normalised = torch.softmax(self._raw, dim=0)
                norms = signal.norm() * self._taught.flatten(1).norm(dim=1).max()
                agreement = ((self._taught * signal).sum(dim=(1, 2)) / norms.clamp(min=1e-12)).to(normalised)
                self._raw = self._raw + self.mixture_rate * normalised * (agreement - normalised @ agreement)
            self._taught = signals
        loss = self.modulation @ (weights @ self._logs) - self._worth.mean()
        if done is not None:
            self._scores = self._scores.masked_fill(done[:, None], 0)
            self._logs = self._logs.masked_fill(done, 0)
        return loss, signal + self.bonus

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors for a checkpoint."""
        return {name: getattr(self, f"_{name}") for name in _STATE} | {"baseline": self.baseline.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        state = renamed.present(renamed.STATE, state)
        for name in _STATE:
            setattr(self, f"_{name}", state[name])
        self.baseline.load_state_dict(state["baseline"])


_STATE = ("scores", "logs", "taught", "raw")
