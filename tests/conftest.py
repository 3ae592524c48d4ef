"""Settings for all tests: property tests draw the same examples every time, nothing is timed, one thread is enough.

The tensors here are tiny, and a second thread on a busy machine only waits: `softmax` of 12 numbers then takes 4 ms.
"""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

from tracetorch.cli import project
from tracetorch.cli.adapter import composing
from tracetorch.rules import stepwise

settings.register_profile(
    "tracetorch",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tracetorch")
MANY = 1000  # tests for which compiling the kernels first is worth it
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # the same in every process that a test starts


def pytest_collection_finish(session):
    """Let each of two workers compile the kernels of one dtype; otherwise both compile all, at the same time."""
    dtype = {"gw0": torch.float32, "gw1": torch.float64}.get(os.environ.get("PYTEST_XDIST_WORKER"))
    if dtype is not None and len(session.items) > MANY:
        from tests import kernel_cases  # not before pytest rewrites its assertions

        kernel_cases.compile_kernels(dtype)


@pytest.fixture(scope="session", autouse=True)
def _choices_are_composed_once():
    """Hydra takes 0.2 s for the choices of a command line; nothing changes what it gives, which jobs of a sweep share.

    Not so where a test has further choices (`--config-dir`), or a `conf/` of its own.
    """
    ours, compose, kept = composing.conf_dir(), composing._compose, {}

    def composed(choices, config_dir):
        if config_dir is not None or composing.conf_dir() != ours or project.current() is not None:
            return compose(choices, config_dir)
        if choices not in kept:
            kept[choices] = compose(choices, None)
        return kept[choices]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composing, "_compose", composed)
        yield


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, and the working directory for as long as the test lasts."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=[64, 5])
def chunk(request, monkeypatch):
    """Most steps of a chunk: all 24 steps are one, or there is one of 4 and four of 5. Blocks have few steps."""
    monkeypatch.setattr(stepwise, "CHUNK", request.param)
    monkeypatch.setattr(stepwise, "BLOCK", 60)
    return request.param
