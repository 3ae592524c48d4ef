"""Whether score and input may be averaged apart: the trace rule's gradient beside that of three factors, on CartPole.

python benchmarks/pairing.py
python benchmarks/pairing.py --quick

The network acts and never learns, and both rules look on: what each would teach is added up.
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
"""By name: whether the fall alone is told, and then the mean of past rewards is taken off."""

Seeds = Annotated[list[int] | None, typer.Option("--seed", min=0, help="Repeatable; 0 and 1, if not given.")]
Updates = Annotated[int, typer.Option(min=2, help="Actions in each environment.")]
Decay = Annotated[float, typer.Option(min=0, max=0.9999, help="λ per action, of both.")]

Sums = dict[str, Tensor]
"""By the parameter, what would have been taught."""


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
    """Cosine of the two, for the weights of each layer; and of two halves of each rule alone: what is noise in it."""
    with common.plain_errors():
        where = common.start("cpu", threads)
        tt.tasks.Gym(id="CartPole-v1", num_envs=1)  # is Gymnasium there?
    machine, rows = common.provenance(where), list[common.Row]()
    for name, fall in REWARDS.items():
        for number in seed or ([0] if quick else [0, 1]):
            trace, three = look_on(fall, number, 60 if quick else updates, decay, num_envs)
            for parameter in trace[0]:
                both = [_sum(parts, parameter) for parts in (trace, three)]
                row = {"reward": name, "seed": number, "parameter": parameter, "cosine": _cosine(*both)}
                row |= {"longer": float(both[0].norm() / both[1].norm())}
                row |= {f"halves_{of}": _cosine(a[parameter], b[parameter]) for of, (a, b) in _named(trace, three)}
                rows.append(row)
            common.write(json, "pairing", machine, rows)
    names = ("cosine", "longer", "halves_trace", "halves_three_factor")
    common.table(
        f"gradient of the trace rule and of three factors, λ = {decay:g}, no learning",
        ["reward", "seed", "of", "cosine", "times as long", "halves: trace", "three factors"],
        [[row["reward"], str(row["seed"]), row["parameter"], *(f"{row[key]:.2f}" for key in names)] for row in rows],
    )


def look_on(fall: bool, seed: int, updates: int, decay: float, num_envs: int) -> tuple[tuple[Sums, Sums], ...]:
    """Act with the network as it was drawn. Returns: of the trace rule and of three factors, each in two halves."""
    torch.manual_seed(seed)
    options = {"sutton_barto_reward": fall}
    world = tt.tasks.Gym(id="CartPole-v1", num_envs=num_envs, steps=16, max_rate=1.0, seed=seed, options=options)
    neuron = partial(tt.nn.LIF, bias=True, trainable=["weight"])
    readout = partial(tt.nn.LIS, decay=0.5, trainable=["weight"])
    net = tt.nn.feedforward(world.input_size, world.output_size, hidden=[64], neuron=neuron, readout=readout)
    rule, reflect = tt.rules.ThreeFactor(net, decay=decay), tt.loss.Reflect(decay=decay, baseline=0.99 if fall else [])
    kept: list[tuple[Sums, Sums]] = [({}, {}), ({}, {})]
    for update in range(updates):
        half = 2 * update // updates
        p = rule.forward(world.observe(), reduce="mean")
        action = torch.multinomial(p, 1)[:, 0]
        reflect.observe(p, action)
        outcome = world.act(action)
        done = outcome.terminated | outcome.truncated
        _, signal = reflect(outcome.reward, done)
        net.backward(signal, at="logits")
        _take(net, kept[0][half])
        rule.observe(reflect.score)
        rule.backward(reflect.modulation)
        _take(net, kept[1][half])
        if bool(done.any()):
            rule.reset(done)
    return kept[0], kept[1]


def _take(net: torch.nn.Module, sums: Sums) -> None:
    for name, parameter in net.named_parameters():
        if parameter.grad is not None and name.endswith("weight"):
            sums[name] = parameter.grad.clone() if name not in sums else sums[name] + parameter.grad
    net.zero_grad()


def _named(trace: tuple[Sums, Sums], three: tuple[Sums, Sums]) -> list[tuple[str, tuple[Sums, Sums]]]:
    return [("trace", trace), ("three_factor", three)]


def _sum(parts: tuple[Sums, Sums], parameter: str) -> Tensor:
    return parts[0][parameter] + parts[1][parameter]


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))


if __name__ == "__main__":
    typer.run(main)
