"""Time of one training step: encoding, forward, backward, update.

python benchmarks/train_step.py                                                            # all cells: an hour
python benchmarks/train_step.py --network 784-256-10 --batch 128 --steps 200 --json t.json # the headline: a minute
python benchmarks/train_step.py --network 784-256-10 --batch 128 --contender "ours, bptt" # another rule of ours
python benchmarks/train_step.py --quick                                                    # check that it runs
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
from rounds import Forecast, Peak, interleave, out_of_memory, timed

NETWORKS = ("784-256-10", "784-1024-1024-10")
BATCHES = (1, 128)
STEPS = (20, 200, 2000)
PROBE = 10
"""Before the first length, a length shorter by this factor is run, to forecast the cost."""

Batches = Annotated[list[int] | None, typer.Option("--batch", min=1, help="Rows in a batch; repeatable.")]
Steps = Annotated[list[int] | None, typer.Option("--steps", min=1, help="Time steps; repeatable.")]
Kinds = Annotated[list[str] | None, typer.Option("--input", help="uniform or mnist; repeatable.")]
Source = Annotated[str, typer.Option(help="Source of the digits: sample, download, or a folder with the IDX files.")]
Gain = Annotated[
    float, typer.Option(help="Factor of all weights: 1 is the default of layers; about 2 gives many spikes.")
]
InARow = Annotated[int, typer.Option(min=1, help="Training steps per turn; the time of one is reported.")]
Budget = Annotated[float, typer.Option(min=0, help="Seconds that one contender may take per cell.")]
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
    """Time one training step: median and minimum of interleaved rounds, relative to the floor and to ours."""
    with common.plain_errors():
        machine_device = common.start(device, threads)
        names = common.available(TRAINERS, contender or USUAL)
        networks = [common.widths(text) for text in network or (["12-8-4"] if quick else NETWORKS)]
        input_names = input or (["uniform"] if quick else INPUTS)
        sets = {
            key: Inputs(key[0], key[1], key[2], source, machine_device)
            for key in product(input_names, networks, batch or ([2] if quick else BATCHES))
        }
    machine = common.provenance(machine_device)
    common.console.print(common.describe(machine), "\n", markup=False)
    rows: list[common.Row] = []
    for (input_name, sizes, batch_size), inputs in sets.items():
        own = build(TRAINERS["ours"], sizes, machine_device, gain)
        activity = own.activity(inputs(0)[0]) if isinstance(own, Ours) else []
        race = Race(names, inputs, gain, 1 if quick else rounds, in_a_row, budget_seconds, memory_share)
        for length in sorted(steps or ([4] if quick else STEPS)):
            cell = {"input": input_name, "network": "-".join(map(str, sizes)), "batch": batch_size, "steps": length}
            cell |= {"in_a_row": in_a_row, "gain": gain, "activity": activity}
            new_rows = race(length)
            rows += [cell | row for row in new_rows]
            common.write(json, "train_step", machine, rows)
            _print(cell, new_rows)


@dataclass
class Race:
    """All contenders with one network and one input; call it with increasing lengths."""

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
        """Measure all contenders at one length. Returns: a row for each, with the reason if it was skipped."""
        workloads: dict[str, Callable[[int], None]] = {}
        rows: list[common.Row] = []
        for name in self.names:
            runner = build(TRAINERS[name], self.inputs.sizes, self.inputs.device, self.gain)
            skipped = self._warm(runner, steps, self.forecasts[name])
            if not skipped:
                workloads[name] = partial(self._steps, runner, steps)
            rows.append({"contender": name, "detail": runner.detail, "skipped": skipped})
        predicted = {name: self.forecasts[name].seconds(steps) for name in workloads}
        most = {name: max(1, int(self.budget / seconds) - 1) for name, seconds in predicted.items()}
        timings = interleave(workloads, self.rounds, self.inputs.device, most)
        step_seconds = {name: [seconds / self.in_a_row for seconds in values] for name, values in timings.items()}
        for row in rows:
            if row["contender"] in step_seconds:
                row["seconds"] = common.summarize(step_seconds[row["contender"]])
                for other in [other for other in ("floor", "ours") if other in step_seconds]:
                    row[f"to_{other}"] = row["seconds"]["median"] / common.summarize(step_seconds[other])["median"]
        return rows

    def _warm(self, runner: Contender, steps: int, forecast: Forecast) -> str:
        """Run a warm-up and note its cost. Returns: why this length is skipped; "" if it is not."""
        try:
            if not forecast.measured:
                self._note(runner, max(1, steps // PROBE), forecast)
            refusal = forecast.refusal(steps, runs=3, room=common.memory_room(runner.device, self.share))
            if not refusal:
                self._note(runner, steps, forecast)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return "ran out of memory"
        return refusal

    def _note(self, runner: Contender, steps: int, forecast: Forecast) -> None:
        """Run twice and note the faster run: the first one may compile, for each new length again."""
        peak = Peak(runner.device)
        peak.start()
        runner.prepare(self.batches[0][0], steps, 0)
        runs = [timed(partial(self._steps, runner, steps, 0), runner.device) for _ in range(2)]
        forecast.note(steps, min(runs), peak.read())

    def _steps(self, runner: Contender, steps: int, number: int) -> None:
        first = number * self.in_a_row
        for at in range(first, first + self.in_a_row):
            rates, target = self.batches[at % len(self.batches)]
            runner.train_step(rates, steps, at, target)


def _print(cell: common.Row, rows: list[common.Row]) -> None:
    """Print the table of one cell."""
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
