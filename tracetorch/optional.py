"""Import of libraries that only an extra installs."""

from importlib import import_module
from typing import Any


class MissingLibraryError(ImportError, ValueError):
    """A library is not installed. The message is one sentence that says what to install."""


def library(name: str, extra: str) -> Any:
    """Import a module of an optional library. Args: extra: that installs it. Raises: MissingLibraryError."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name != package:  # a library that is installed lacks another one
            raise
        advice = f"this needs the package {package}: pip install -c constraints.txt -e '.[{extra}]'"
        raise MissingLibraryError(advice) from error
