"""Plain REINFORCE with backpropagation and without spikes: an ordinary network on the rewards of `bandit_mnist`.

python benchmarks/reinforce_without_spikes.py --source FOLDER               # 60,000 digits, three seeds: two minutes
python benchmarks/reinforce_without_spikes.py --source FOLDER --seed 10 --lr 0.0005 --lr 0.002   # the learning rate
python benchmarks/reinforce_without_spikes.py --quick                       # check that it runs
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
import typer
from torch import Tensor

import common
from tracetorch.loss.reflect import Baseline
from tracetorch.tasks import MNIST, RewardedTask
from tracetorch.training.rewards import Episodes

Source = Annotated[str, typer.Option(help="Source of the digits: sample, download, or a folder with the IDX files.")]
Seeds = Annotated[list[int] | None, typer.Option("--seed", min=0, help="Repeatable; 0, 1 and 2, if not given.")]
Rates = Annotated[list[float] | None, typer.Option("--lr", help="Learning rate of Adam; repeatable.")]
Entropy = Annotated[float, typer.Option(min=0, help="Entropy bonus in reward per nat, as loss.entropy of the preset.")]
BaselineDecay = Annotated[
    float, typer.Option(min=0, max=0.999999, help="Decay of the baseline per reward, as loss.baseline of the preset.")
]
Batch = Annotated[int, typer.Option(min=1, help="Digits per update.")]

LR = 0.001
"""The best learning rate on seed 10; see the README."""


def main(
    *,
    source: Source = "sample",
    seed: Seeds = None,
    lr: Rates = None,
    network: Annotated[str, typer.Option(help="Widths, such as 784-128-10.")] = "784-128-10",
    entropy: Entropy = 0.05,
    baseline: BaselineDecay = 0.99,
    batch: Batch = 16,
    threads: common.Threads = 2,
    quick: common.Quick = False,
    json: common.JSON = None,
) -> None:
    """Train for one pass over the digits of `experiment=bandit_mnist`, in its order, each answered once; then test."""
    with common.plain_errors():
        cpu, sizes = common.start("cpu", threads), common.widths(network)
        if (sizes[0], sizes[-1]) != (784, 10):
            raise ValueError(f"digits need a network 784-…-10, got {network}")
        if lr and not all(rate > 0 for rate in lr):
            raise ValueError(f"a learning rate must be above 0, got {min(lr):g}")
        seeds = seed or ([0] if quick else [0, 1, 2])
        environments = {number: digits(source, batch, number) for number in seeds}
    machine, rows = common.provenance(cpu), list[common.Row]()
    common.console.print(common.describe(machine), "\n", markup=False)
    for rate in lr or [LR]:
        for number in seeds:
            environment, start = environments[number], time.perf_counter()
            torch.manual_seed(number)
            net = perceptron(sizes)
            settings = {"lr": rate, "entropy": entropy, "baseline": baseline, "seed": number}
            late = learn(net, environment, **settings, updates=3 if quick else None)
            accuracy = float(
                environment.test(lambda xs, begins, net=net: net(xs.dense()[0]).argmax(dim=-1))["return"].mean()
            )
            rows.append({"network": network, "batch": batch, **settings, "late_reward": late, "return": accuracy})
            rows[-1]["seconds"] = time.perf_counter() - start
            common.write(json, "reinforce_without_spikes", machine, rows)
    _print(rows)


def digits(source: str, batch: int, seed: int) -> RewardedTask:
    """The digits of the preset, in its order: the brightness of each pixel instead of spikes.

    Raises: ValueError, OSError if the digits cannot be read.
    """
    return RewardedTask(MNIST(source=source, encoding="constant", steps=1, batch_size=batch, seed=seed))


def perceptron(sizes: Sequence[int]) -> torch.nn.Sequential:
    """Linear layers with ReLU between them; the output is logits."""
    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def learn(
    net: torch.nn.Sequential,
    environment: RewardedTask,
    *,
    lr: float,
    entropy: float,
    baseline: float,
    seed: int,
    updates: int | None = None,
) -> float:
    """Train for one pass, or for `updates`. Returns: the mean of the last rewards, as `late_reward` of a run."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    mean_reward, episodes = Baseline(baseline, per_sample=False, mixture_rate=0.0), Episodes(environment.num_envs)
    generator = torch.Generator().manual_seed(seed)
    environment.reset()
    for _ in range(updates or environment.actions_per_pass or 0):
        log_p = torch.log_softmax(net(environment.observe().dense()[0]), dim=-1)
        action = torch.multinomial(log_p.detach().exp(), 1, generator=generator)
        outcome = environment.act(action[:, 0])
        reward = outcome.reward
        loss = objective(log_p, action, reward - mean_reward(reward), entropy)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        episodes.add(reward, outcome.terminated)
    return episodes.late


def objective(log_p: Tensor, action: Tensor, advantage: Tensor, entropy: float) -> Tensor:
    """−mean of (reward − b)·log p(action) + c·H, for autograd."""
    policy_term = advantage * log_p.gather(1, action)[:, 0]
    policy_entropy = -(log_p.exp() * log_p).sum(dim=-1)
    return -(policy_term + entropy * policy_entropy).mean()


def _print(rows: list[common.Row]) -> None:
    lines = []
    for rate in dict.fromkeys(row["lr"] for row in rows):
        own_rows = [row for row in rows if row["lr"] == rate]
        for row in own_rows:
            lines.append([f"{rate:g}", str(row["seed"]), f"{row['late_reward']:.3f}", f"{row['return']:.1%}"])
        if len(own_rows) > 1:
            means = [statistics.mean(row[key] for row in own_rows) for key in ("late_reward", "return")]
            lines.append([f"{rate:g}", "mean", f"{means[0]:.3f}", f"{means[1]:.1%}"])
    title = f"REINFORCE without spikes, {rows[0]['network']}, one pass, batch {rows[0]['batch']}"
    common.table(title, ["lr", "seed", "mean of the last rewards", "test accuracy"], lines)


if __name__ == "__main__":
    typer.run(main)
