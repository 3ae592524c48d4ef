"""Settings for all tests: property tests draw the same examples every time, nothing is timed, one thread is enough.

The tensors here are tiny, and a second thread on a busy machine only waits: `softmax` of 12 numbers then takes 4 ms.
"""

import pytest
import torch
from hypothesis import HealthCheck, settings

from tracetorch.rules import replayed

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


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, and the working directory for as long as the test lasts."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=[64, 5])
def chunk(request, monkeypatch):
    """Rules that run a sequence again take all 24 steps at once; or 4, and then 5 at a time."""
    monkeypatch.setattr(replayed, "CHUNK", request.param)
    return request.param
