"""Names that the examples in docstrings may use without importing them; and what cannot be imported here."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch

import tracetorch as tt

_NEEDS = {"tracetorch/backends/cuda.py": "triton", "tests/gym_worlds.py": "gymnasium"}
collect_ignore = [path for path, package in _NEEDS.items() if not find_spec(package)]


@pytest.fixture(autouse=True)
def _names_for_doctests(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(torch=torch, tt=tt)
