"""Import of optional libraries."""

from importlib import import_module
from typing import Any


def library(name: str, extra: str) -> Any:
    """Import a library. Args: extra: of the package, that installs it. Raises: ImportError: what to install."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"this needs the package {name.partition('.')[0]}: pip install -c constraints.txt -e '.[{extra}]'"
        ) from error
