"""`tracetorch show`: the composed config; runs nothing."""

from __future__ import annotations

from tracetorch.cli.arguments import Overrides, Traceback


def command(overrides: Overrides = None, traceback: Traceback = False) -> None:
    """Show the config that these overrides compose to; run nothing."""
    from tracetorch.cli.adapter import compose
    from tracetorch.cli.check import check

    composed = compose(overrides or [])
    check(composed.config)
    print(f"# experiment: {composed.experiment}\n{composed.yaml}", end="")
