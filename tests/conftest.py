"""Settings for all tests: property tests draw the same examples every time, nothing is timed, one thread is enough.

The tensors here are tiny, and a second thread on a busy machine only waits: `softmax` of 12 numbers then takes 4 ms.
"""

import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "tracetorch",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tracetorch")
torch.set_num_threads(1)
