"""Tasks: the inputs of a network, and the labels or rewards that score its outputs."""

from tracetorch.tasks.cue_accumulation import CueAccumulation
from tracetorch.tasks.dataset import Dataset
from tracetorch.tasks.environment import Environment, Outcome
from tracetorch.tasks.event_recordings import dvs_gesture, nmnist, shd
from tracetorch.tasks.file import File
from tracetorch.tasks.gym import Gym
from tracetorch.tasks.manifolds import Manifolds
from tracetorch.tasks.mnist import MNIST, SequentialMNIST
from tracetorch.tasks.patterns import Patterns
from tracetorch.tasks.poisson_clicks import PoissonClicks
from tracetorch.tasks.sampled import SampledTask
from tracetorch.tasks.store_recall import StoreRecall
from tracetorch.tasks.task import Batch, CountedBatch, Task
from tracetorch.tasks.wrappers import Blocks, Reversal, RewardedTask

__all__ = [
    "MNIST",
    "Batch",
    "Blocks",
    "CountedBatch",
    "CueAccumulation",
    "Dataset",
    "Environment",
    "File",
    "Gym",
    "Manifolds",
    "Outcome",
    "Patterns",
    "PoissonClicks",
    "Reversal",
    "RewardedTask",
    "SampledTask",
    "SequentialMNIST",
    "StoreRecall",
    "Task",
    "dvs_gesture",
    "nmnist",
    "shd",
]  # fmt: skip
