"""An example without labels: what would make each of some actions likelier, however a rule is told so."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.loss import RewardLoss
from tracetorch.loss.policy import log_prob
from tracetorch.rules.gradient_similarity import Example


def example_of_scores(xs: Tensor | Stream, action: Tensor, loss: RewardLoss, window: int | None = None) -> Example:
    """An example in which each action brought a reward of 1 where 0 was expected.

        L = −mean over the samples of log p(action)

    What a reward teaches is this gradient, sample by sample, times what it was more than expected. Left out: what a
    critic learns, and what a distribution is worth by itself.

    Args:
        xs: what is seen, (time, batch, in_features).
        action: whole numbers, (batch,).
        loss: whose policy it is; it stays as it is.
        window: steps at the end that are read as the answer; all, if None.
    """
    loss = copy.deepcopy(loss)
    floor = 1e-3 if loss.at == "output" else 0.0  # as its own score has it, which would not be finite else

    def negative_log_prob(output: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = output.detach().requires_grad_()
            value = -log_prob(loss.policy(leaf) + floor, action).mean()
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    def teach(rule: Any, output: Tensor, action: Tensor) -> None:
        loss.reset()
        loss.observe(output, action)
        score = loss.score.clone()
        score[:, score.shape[1] - loss.values :] = 0
        rule.observe(score, at=loss.at)
        modulation = torch.full_like(score[:, 0], -1 / len(score))
        rule.backward_reward(-score / len(score), modulation=modulation, bonus=None, at=loss.at)

    return Example(xs, action, negative_log_prob, window, teach=teach)
