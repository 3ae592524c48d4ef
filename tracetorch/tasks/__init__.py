"""The data: what a network sees, what is asked of it, and how its answers are judged."""

from tracetorch.tasks.cue_accumulation import CueAccumulation
from tracetorch.tasks.mnist import MNIST
from tracetorch.tasks.patterns import Patterns
from tracetorch.tasks.poisson_clicks import PoissonClicks
from tracetorch.tasks.task import Batch, Task

__all__ = ["MNIST", "Batch", "CueAccumulation", "Patterns", "PoissonClicks", "Task"]
