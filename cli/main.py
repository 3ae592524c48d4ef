"""`tracetorch`: the verbs, and what happens to an error that nobody caught."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from typing import Any

import typer
import typer.core

from tracetorch.cli import clean, compare, completion, eval, info, list, plot, resume, run, show, tune
from tracetorch.cli.completion.answer import VARIABLE, answer
from tracetorch.cli.errors import DONE, FAILED, INTERRUPTED, USAGE, UsageError, complain, shorten
from tracetorch.cli.terminal import lost, prepare
from tracetorch.printable import printable


class Verbs(typer.core.TyperGroup):
    """Takes a change to the config in the place of a verb for a command without `run`."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:  # of Typer, about a word that was typed, or that a pattern such as * stood for
            if hasattr(error, "format_message"):
                error.message = printable(error.message)  # type: ignore[attr-defined]
            raise

    def resolve_command(self, ctx: Any, args: Any) -> Any:
        if args and "=" in args[0]:
            ctx.fail(
                f"'{shorten(args[0])}' is a change to the config, and the verb is missing: tracetorch run {args[0]}"
            )
        return super().resolve_command(ctx, args)


SPINS = "3000"
EXAMPLES = "`tracetorch list` says what there is; `tracetorch run experiment=mnist_sample seed=1` is an example."

app = typer.Typer(
    cls=Verbs,
    name="tracetorch",
    help="Train spiking neural networks online, in constant memory, from one command.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def guarded(verb: Callable[..., None], *, prints: bool) -> Callable[..., None]:
    """The same verb, but what goes wrong in it ends as one sentence and an exit code.

    Args: prints: whether what it prints is all that it does; then it fails if that cannot be written.
    """

    @functools.wraps(verb)
    def guard(*, traceback: bool, **arguments: object) -> None:
        code = DONE
        try:
            verb(traceback=traceback, **arguments)
        except typer.Exit as ended:
            code = ended.exit_code
        except UsageError as error:
            complain(str(error), error, traceback)
            code = USAGE
        except KeyboardInterrupt:
            complain("interrupted", None, traceback)
            code = INTERRUPTED
        except Exception as error:
            name = type(error).__name__
            complain(f"this should not have happened: {name}: {error} (--traceback shows where)", error, traceback)
            code = FAILED
        if why := lost():
            if why.errno != errno.EPIPE:  # of a reader that has gone, as in `tracetorch show | head`, nothing is said
                complain(f"the standard output cannot be written: {why.strerror}", None, traceback)
            code = FAILED if prints and code == DONE else code
        raise typer.Exit(code)

    return guard


SUMMARIES = {
    run: "Train, test, record; the click test by default.",
    list: "List experiments, tasks, networks, rules, …",
    show: "Show a composed config; run nothing.",
    resume: "Go on with a run or a sweep.",
    eval: "Test a run's network again.",
    tune: "Search for better settings.",
    compare: "Compare runs and sweeps: tables, figure, page.",
    plot: "Draw a run's figures again.",
    info: "Show versions, devices, caches; or a run.",
    clean: "Remove failed or old runs.",
    completion: "Make a shell complete what you type.",
}
PRINTING = (list, show, info, completion)
for verb, summary in SUMMARIES.items():
    name = verb.__name__.rpartition(".")[2]
    app.command(name, short_help=summary, epilog=EXAMPLES)(guarded(verb.command, prints=verb in PRINTING))


def share_processors() -> None:
    """Let OpenMP's threads wait for work in a busy loop for microseconds only, unless the environment says how long.

    They do so for milliseconds by themselves. Where two runs share processors, each then waits for a thread that the
    other's waiting keeps from its work, and both take many times as long (`benchmarks/side_by_side.py`). To be called
    before torch is loaded: its library reads this once.
    """
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        os.environ["GOMP_SPINCOUNT"] = SPINS


def main() -> None:
    """The entry point of the console script."""
    prepare()
    share_processors()
    os.environ["MPLBACKEND"] = "agg"  # figures go into files, and a notebook's backend may not be installed here
    if os.environ.get(VARIABLE):
        answer(app)
    else:
        app()


if __name__ == "__main__":
    main()
