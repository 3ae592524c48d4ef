"""Making what the parts of a config describe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from tracetorch.cli.errors import UsageError


def make(node: dict[str, Any], name: str) -> Any:
    """Make what a part of a config describes.

    Returns: the object; for a node with `_partial_`, a function that makes it.
    Raises: UsageError, now or when that function is called, if the part with this name says something that cannot be.
    """

    def named(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except (InstantiationException, TypeError, ValueError) as error:
            cause = error.__cause__ if isinstance(error, InstantiationException) else error
            raise UsageError(f"{name}: {' '.join(str(cause or error).split())}") from error

    made = named(instantiate, node, _convert_="all")
    return partial(named, made) if node.get("_partial_") else made


def function(node: dict[str, Any]) -> Callable[..., Any]:
    """The function that a part of a config with `_partial_` describes, its arguments filled in; errors are its own."""
    return instantiate(node, _convert_="all")
