"""Whether score and input may be averaged separately: gradients of the trace and three-factor rules on CartPole.

python benchmarks/pairing.py
python benchmarks/pairing.py --quick

The network acts and never learns; the gradients of both rules are summed over time.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import torch
import typer
from torch import Tensor

import common
import tracetorch as tt

REWARDS = {"1 for every action": False, "-1 for the fall": True}
"""By name: whether the reward is −1 at the fall and 0 otherwise; a running mean of past rewards is then subtracted."""

Seeds = Annotated[list[int] | None, typer.Option("--seed", min=0, help="Repeatable; 0 and 1, if not given.")]
Updates = Annotated[int, typer.Option(min=2, help="Actions in each environment.")]
Decay = Annotated[float, typer.Option(min=0, max=0.9999, help="λ per action, of both rules.")]

Sums = dict[str, Tensor]
"""Summed gradients, by parameter."""


def main(
    *,
    seed: Seeds = None,
    updates: Updates = 1500,
    decay: Decay = 0.98,
    num_envs: Annotated[int, typer.Option(min=1, help="Environments in parallel.")] = 32,
    threads: common.Threads = 2,
    quick: common.Quick = False,
    json: common.JSON = None,
) -> None:
    """For the weights of each layer: the cosine of the two rules' gradients.

    As a measure of noise, also the cosine of each rule's gradients in the two halves of the run.
    """
    with common.plain_errors():
        cpu = common.start("cpu", threads)
        tt.tasks.Gym(id="CartPole-v1", num_envs=1)  # fails without Gymnasium
    machine, rows = common.provenance(cpu), list[common.Row]()
    for name, only_fall in REWARDS.items():
        for number in seed or ([0] if quick else [0, 1]):
            trace, three_factor = accumulate(only_fall, number, 60 if quick else updates, decay, num_envs)
            for parameter in trace[0]:
                both = [_sum(halves, parameter) for halves in (trace, three_factor)]
                row = {"reward": name, "seed": number, "parameter": parameter, "cosine": _cosine(*both)}
                row |= {"longer": float(both[0].norm() / both[1].norm())}
                for rule, (a, b) in (("trace", trace), ("three_factor", three_factor)):
                    row[f"halves_{rule}"] = _cosine(a[parameter], b[parameter])
                rows.append(row)
            common.write(json, "pairing", machine, rows)
    names = ("cosine", "longer", "halves_trace", "halves_three_factor")
    common.table(
        f"gradients of the trace and the three-factor rule, λ = {decay:g}, no learning",
        ["reward", "seed", "parameter", "cosine", "norm ratio", "halves: trace", "halves: three-factor"],
        [[row["reward"], str(row["seed"]), row["parameter"], *(f"{row[key]:.2f}" for key in names)] for row in rows],
    )


def accumulate(only_fall: bool, seed: int, updates: int, decay: float, num_envs: int) -> tuple[tuple[Sums, Sums], ...]:
    """Act with the initial network. Returns: sums of the trace and the three-factor rule, over each half of the run."""
    torch.manual_seed(seed)
    options = {"sutton_barto_reward": only_fall}
    environment = tt.tasks.Gym(id="CartPole-v1", num_envs=num_envs, steps=16, max_rate=1.0, seed=seed, options=options)
    neuron = partial(tt.nn.LIF, bias=True, trainable=["weight"])
    readout = partial(tt.nn.LIS, decay=0.5, trainable=["weight"])
    net = tt.nn.feedforward(
        environment.input_size, environment.output_size, hidden=[64], neuron=neuron, readout=readout
    )
    rule, reflect = (
        tt.rules.ThreeFactor(net, decay=decay),
        tt.loss.Reflect(decay=decay, baseline=0.99 if only_fall else []),
    )
    sums: list[tuple[Sums, Sums]] = [({}, {}), ({}, {})]
    for update in range(updates):
        half = 2 * update // updates
        p = rule.forward(environment.observe(), reduce="mean")
        action = torch.multinomial(p, 1)[:, 0]
        reflect.observe(p, action)
        outcome = environment.act(action)
        done = outcome.terminated | outcome.truncated
        _, signal = reflect(outcome.reward, done)
        net.backward(signal, at="logits")
        _add_gradients(net, sums[0][half])
        rule.observe(reflect.score)
        rule.backward(reflect.modulation)
        _add_gradients(net, sums[1][half])
        if bool(done.any()):
            rule.reset(done)
    return sums[0], sums[1]


def _add_gradients(net: torch.nn.Module, sums: Sums) -> None:
    for name, parameter in net.named_parameters():
        if parameter.grad is not None and name.endswith("weight"):
            sums[name] = parameter.grad.clone() if name not in sums else sums[name] + parameter.grad
    net.zero_grad()


def _sum(halves: tuple[Sums, Sums], parameter: str) -> Tensor:
    return halves[0][parameter] + halves[1][parameter]


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))


if __name__ == "__main__":
    typer.run(main)
