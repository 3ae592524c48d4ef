"""How long one training step takes: encoding, forward, backward, update.

python benchmarks/train_step.py                                                            # all cells: an hour
python benchmarks/train_step.py --network 784-256-10 --batch 128 --steps 200 --json t.json # the headline: a minute
python benchmarks/train_step.py --network 784-256-10 --batch 128 --contender "ours, bptt" # our other rules
python benchmarks/train_step.py --quick                                                    # does it run at all?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Annotated

import typer

import common
from contenders import TRAINERS, USUAL, build
from contenders.base import Contender
from contenders.ours import Ours
from inputs import INPUTS, Inputs
from rounds import Forecast, Peak, out_of_memory, timed, turns

NETWORKS = ("784-256-10", "784-1024-1024-10")
BATCHES = (1, 128)
STEPS = (20, 200, 2000)
PROBE = 10
"""A length of which nothing is known is first tried at a tenth."""

Batches = Annotated[list[int] | None, typer.Option("--batch", min=1, help="Rows in a batch; repeatable.")]
Steps = Annotated[list[int] | None, typer.Option("--steps", min=1, help="Time steps; repeatable.")]
Kinds = Annotated[list[str] | None, typer.Option("--input", help="uniform or mnist; repeatable.")]
Source = Annotated[str, typer.Option(help="Of the digits: sample, download, or a folder with the IDX files.")]
Gain = Annotated[float, typer.Option(help="Multiplies all weights; 1 as layers are made, about 2 for lively spiking.")]
InARow = Annotated[int, typer.Option(min=1, help="Training steps at each turn; told is the time of one.")]
Budget = Annotated[float, typer.Option(min=0, help="Seconds that one contender may take in one cell.")]
Share = Annotated[float, typer.Option(help="Share of the free memory that one contender may take.")]


def main(
    *,
    network: common.Networks = None,
    batch: Batches = None,
    steps: Steps = None,
    input: Kinds = None,
    contender: common.Names = None,
    source: Source = "sample",
    gain: Gain = 1.0,
    rounds: common.Rounds = 7,
    in_a_row: InARow = 1,
    budget_seconds: Budget = 120.0,
    memory_share: Share = 0.7,
    device: common.Device = "auto",
    threads: common.Threads = 2,
    quick: common.Quick = False,
    json: common.JSON = None,
) -> None:
    """One training step: median and minimum of interleaved rounds, against the floor and against ours."""
    with common.plain_errors():
        where = common.start(device, threads)
        names = common.taking_part(TRAINERS, contender or USUAL)
        kinds = [common.widths(text) for text in network or (["12-8-4"] if quick else NETWORKS)]
        shown = input or (["uniform"] if quick else INPUTS)
        sets = {
            key: Inputs(key[0], key[1], key[2], source, where)
            for key in product(shown, kinds, batch or ([2] if quick else BATCHES))
        }
    machine = common.provenance(where)
    common.console.print(common.describe(machine), "\n", markup=False)
    rows: list[common.Row] = []
    for (kind, sizes, size), inputs in sets.items():
        own = build(TRAINERS["ours"], sizes, where, gain)
        activity = own.activity(inputs(0)[0]) if isinstance(own, Ours) else []
        race = Race(names, inputs, gain, 1 if quick else rounds, in_a_row, budget_seconds, memory_share)
        for length in sorted(steps or ([4] if quick else STEPS)):
            cell = {"input": kind, "network": "-".join(map(str, sizes)), "batch": size, "steps": length}
            cell |= {"in_a_row": in_a_row, "gain": gain, "activity": activity}
            found = race(length)
            rows += [cell | row for row in found]
            common.write(json, "train_step", machine, rows)
            _print(cell, found)


@dataclass
class Race:
    """All contenders with one network on one kind of input, from short sequences to long ones."""

    names: list[str]
    inputs: Inputs
    gain: float
    rounds: int
    in_a_row: int
    budget: float
    share: float

    def __post_init__(self) -> None:
        self.forecasts = {name: Forecast(self.budget) for name in self.names}
        self.batches = [self.inputs(number) for number in range(self.rounds)]

    def __call__(self, steps: int) -> list[common.Row]:
        """All contenders at one length; a row each, those that were not tried with the reason."""
        works: dict[str, Callable[[int], None]] = {}
        rows: list[common.Row] = []
        for name in self.names:
            made = build(TRAINERS[name], self.inputs.sizes, self.inputs.device, self.gain)
            skipped = self._warm(made, steps, self.forecasts[name])
            if not skipped:
                works[name] = partial(self._work, made, steps)
            rows.append({"contender": name, "detail": made.detail, "skipped": skipped})
        times = {name: self.forecasts[name].seconds(steps) for name in works}
        most = {name: max(1, int(self.budget / seconds) - 1) for name, seconds in times.items()}
        rows_taken = turns(works, self.rounds, self.inputs.device, most)
        taken = {name: [seconds / self.in_a_row for seconds in of] for name, of in rows_taken.items()}
        for row in rows:
            if row["contender"] in taken:
                row["seconds"] = common.summarize(taken[row["contender"]])
                for other in [other for other in ("floor", "ours") if other in taken]:
                    row[f"to_{other}"] = row["seconds"]["median"] / common.summarize(taken[other])["median"]
        return rows

    def _warm(self, made: Contender, steps: int, forecast: Forecast) -> str:
        """Compile, load, allocate, and note what it took. Returns: why this length is not to be tried, or nothing."""
        try:
            if not forecast.seen:
                self._note(made, max(1, steps // PROBE), forecast)
            refusal = forecast.refusal(steps, runs=2, room=common.memory_room(made.device, self.share))
            if not refusal:
                self._note(made, steps, forecast)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return "ran out of memory"
        return refusal

    def _note(self, made: Contender, steps: int, forecast: Forecast) -> None:
        """Run once; if it is the first time of all, which compiles, note the second."""
        peak = Peak(made.device)
        peak.start()
        made.prepare(self.batches[0][0], steps, 0)
        runs = [timed(partial(self._work, made, steps, 0), made.device) for _ in range(1 if forecast.seen else 2)]
        forecast.note(steps, runs[-1], peak.read())

    def _work(self, made: Contender, steps: int, number: int) -> None:
        first = number * self.in_a_row
        for at in range(first, first + self.in_a_row):
            rates, target = self.batches[at % len(self.batches)]
            made.train_step(rates, steps, at, target)


def _print(cell: common.Row, rows: list[common.Row]) -> None:
    """One table."""
    title = f"{cell['network']}, batch {cell['batch']}, T = {cell['steps']}, {cell['input']} input"
    if cell["activity"]:
        title += "\nhidden neurons fire in " + " and ".join(f"{100 * share:.2g} %" for share in cell["activity"])
        title += " of the steps"
    lines = []
    for row in rows:
        if row["skipped"]:
            lines.append([row["contender"], "", "", "", "", "", row["skipped"]])
            continue
        seconds = row["seconds"]
        times = [common.milliseconds(seconds["median"]), common.milliseconds(seconds["min"])]
        ratios = [f"{row[key]:.2f}" if key in row else "" for key in ("to_floor", "to_ours")]
        lines.append([row["contender"], *times, *ratios, str(seconds["n"]), ""])
    common.table(title, ["", "median ms", "min ms", "× floor", "× ours", "rounds", "note"], lines)


if __name__ == "__main__":
    typer.run(main)
