"""Names that the examples in docstrings may use without importing them; and what cannot be imported here."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch

import tracetorch as tt

collect_ignore = [] if find_spec("triton") else ["tracetorch/kernels/cuda.py"]


@pytest.fixture(autouse=True)
def _names_for_doctests(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(torch=torch, tt=tt)
