"""Names that the examples in docstrings may use without importing them."""

from typing import Any

import pytest
import torch

import tracetorch as tt


@pytest.fixture(autouse=True)
def _names_for_doctests(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(torch=torch, tt=tt)
