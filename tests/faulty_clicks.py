"""The click test with faults that a test can put in, and take away again: files in a folder, named after the seed."""

import time
from pathlib import Path

from tracetorch.tasks import PoissonClicks
from tracetorch.tasks.task import Batch


class FaultyClicks(PoissonClicks):
    """The same trials.

    Args: faults: a folder. While it holds `raise-SEED`, runs of that seed raise in their third update; while it holds
        `slow-SEED`, each update takes half a second.
    """

    def __init__(self, *, faults: str, seed: int = 0, **others):
        super().__init__(seed=seed, **others)
        self._raise, self._slow = (Path(faults) / f"{name}-{seed}" for name in ("raise", "slow"))

    def train_batch(self, number: int) -> Batch:
        if number == 2 and self._raise.exists():
            raise RuntimeError("the fault is still there")
        if self._slow.exists():
            time.sleep(0.5)
        return super().train_batch(number)
