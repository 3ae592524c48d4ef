"""The step of a lifetime: decisions without resets, and what is measured of them."""

from __future__ import annotations

from typing import Any

from tracetorch.memory import memory_bytes, memory_through
from tracetorch.runs import Run
from tracetorch.training.life import Life
from tracetorch.training.report import draw_life
from tracetorch.training.setup import Setup
from tracetorch.training.step import FeedbackSource, Step, Update


class EndlessStream(Step):
    """One update: one decision in each environment, with or without feedback; nothing is ever reset.

    Args: source: of decisions and feedback. life: the running averages, and the recoveries from changes of the world.
    """

    def __init__(self, setup: Setup, source: FeedbackSource, life: Life):
        super().__init__(setup)
        self.source, self.life = source, life
        self.logged, self.parts = source.logged, {"life": life, **source.parts}

    def __call__(self, number: int) -> Update:
        action, score, update = self.source.decide(number)
        return update._replace(event=self.life.add(number, action, score, self.source.context))

    def rehearse(self) -> None:
        self.source.rehearse()

    def so_far(self) -> dict[str, float]:
        return self.source.so_far()

    def take(self, steps: int) -> dict[str, Any]:
        memory = {"memory_bytes": memory_bytes(self.task.device)}
        return {"steps": steps, **self.source.take(steps), **self.life.take(), **memory}

    def resumed(self, update: int) -> str:
        return self.source.resumed(update)

    def summary(self, run: Run, steps: int) -> dict[str, Any]:
        return {"steps": steps, **self.life.summary(), **memory_through(run.folder.records())}

    def report(self, run: Run, *, figures: bool) -> None:
        self.source.report(run, figures=figures)

    def draw_stopped(self, run: Run) -> None:
        draw_life(run, self.task.output_names)
