"""`tracetorch`: the verbs, their help, and the report of every error as one sentence and an exit code."""

from __future__ import annotations

import atexit
import errno
import functools
import gc
import io
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
import typer.core

import tracetorch
from tracetorch.cli import (
    clean_verb,
    compare_verb,
    completion,
    completion_verb,
    eval_verb,
    export_verb,
    info_verb,
    list_verb,
    new_verb,
    plot_verb,
    resume_verb,
    run_verb,
    runs_verb,
    show_verb,
    tag_verb,
    tune_verb,
)
from tracetorch.cli.check import KEYS
from tracetorch.cli.errors import (
    DONE,
    FAILED,
    INTERRUPTED,
    USAGE,
    UsageError,
    complain,
    did_you_mean,
    quote,
    shorten,
    working_directory,
)
from tracetorch.cli.terminal import lost, prepare, quieten, say, say_starting
from tracetorch.files import WriteError
from tracetorch.printable import printable
from tracetorch.renamed import OPTIONS

GROUPS: dict[str, dict[ModuleType, tuple[str, ...]]] = {
    "Train": {
        run_verb: ("Train a network, test it, record everything.", "run", "run experiment=mnist_sample seed=1"),
        resume_verb: (
            "Continue a run or a sweep.",
            "resume outputs/poisson_clicks/20260101-000000-abcdef",
            "resume outputs/poisson_clicks/20260101-000000-abcdef train.updates=600",
            "resume outputs/poisson_clicks/sweeps/20260101-000000-abcdef hydra/launcher=joblib",
        ),
        tune_verb: (
            "Search for better settings.",
            "tune search=learning_rate",
            "tune search=decays --trials 60 task.delay=2",
        ),
    },
    "Look": {
        list_verb: ("List experiments, tasks, networks, rules, losses, …", "list", "list experiment"),
        show_verb: (
            "Show a composed config or a sweep's plan.",
            "show experiment=mnist",
            "show -m sweep=learned_decays seed=0",
        ),
        info_verb: (
            "Show versions, devices and caches, or a run's facts.",
            "info",
            "info outputs/poisson_clicks/20260101-000000-abcdef",
        ),
        runs_verb: (
            "List runs: the newest, the best, those with a tag.",
            "runs --since 7d --best 5",
            "runs outputs rule=eprop --sort loss",
        ),
        plot_verb: (
            "Draw a run's figures again, or one as a paper needs it.",
            "plot outputs/poisson_clicks/20260101-000000-abcdef",
            "plot outputs/mine/20260101-000000-abcdef --figure membrane --layer 0 --neurons 7 --format pdf --width 3.4",
            "plot outputs/mine/20260101-000000-abcdef --trust mypackage",
        ),
        compare_verb: (
            "Compare runs and sweeps: tables, a figure, an HTML page.",
            "compare outputs/poisson_clicks",
            "compare outputs --by rule --scatter training_memory_bytes",
        ),
        eval_verb: (
            "Test a trained network again, also under other settings.",
            "eval outputs/poisson_clicks/20260101-000000-abcdef",
            "eval outputs/poisson_clicks/20260101-000000-abcdef task.delay=4",
        ),
    },
    "Extend": {
        new_verb: (
            "Write a part of your own: a file that runs, its YAML, its test.",
            "new task louder_half",
            "new neuron synaptic",
        ),
    },
    "Exchange": {
        export_verb: (
            "Write a run's network for other tools: NIR, safetensors.",
            "export outputs/poisson_clicks/20260101-000000-abcdef --format safetensors",
            "export outputs/poisson_clicks/20260101-000000-abcdef --format nir --for snntorch --readout current",
        ),
    },
    "Tidy": {
        tag_verb: (
            "Tag runs, to find them again.",
            "tag outputs/poisson_clicks/20260101-000000-abcdef paper",
            "tag outputs/poisson_clicks/20260101-000000-abcdef paper --remove",
        ),
        clean_verb: (
            "List failed or old runs; with --yes, remove them.",
            "clean --failed",
            "clean --older-than 30d --keep-best 3 --yes",
        ),
        completion_verb: ("Install shell completion.", "completion bash", "completion zsh"),
    },
}
"""The verbs by purpose; for each verb, its line in the list and its examples."""


class Verbs(typer.core.TyperGroup):
    """Lists the verbs by purpose, and explains config keys that are typed as an option or as a verb."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with _in_a_sentence(args):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _in_a_sentence([*ctx.args]):
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: Any) -> Any:
        if args and "=" in args[0]:
            change = shorten(args[0])
            ctx.fail(f"'{change}' is a change to the config, and the verb is missing: tracetorch run {quote(change)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, verbs in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(verb_name(verb), summary) for verb, (summary, *_) in verbs.items()], col_max=10)


_PLAIN_WORDS = {
    "Value error, ": "",
    "Input should be greater than or equal to": "must be at least",
    "Input should be less than or equal to": "must be at most",
    "a valid integer, unable to parse string as an integer": "a whole number",
    "a valid number, unable to parse string as a number": "a number",
    "Input should be": "must be",
}


@contextmanager
def _in_a_sentence(typed: Sequence[str]) -> Iterator[None]:
    """Show Typer's errors about a typed word as one sentence, like all other errors. The help stays as it is."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and type(error).__name__ != "NoArgsIsHelpError":
            sentence = _sentence(error, typed)
            error.show = lambda file=None: complain(sentence)  # type: ignore[attr-defined]
        raise


def _sentence(error: Any, typed: Sequence[str]) -> str:
    error.message = printable(error.message)
    for words, plain in _PLAIN_WORDS.items():
        error.message = error.message.replace(words, plain)
    if hint := _advice(getattr(error, "option_name", None), typed):
        return f"{error.message}{hint}"
    close, error.possibilities = getattr(error, "possibilities", None), None
    text = error.format_message().removesuffix(".")
    if close:
        text += f". Did you mean '{close[0]}'?"
    elif found := re.search(r"'(.*)' is not one of (.*)", error.message):
        known = re.findall("'(.*?)'", found[2])
        text += f".{did_you_mean(found[1], known)}"
    if error.ctx is None or text.endswith("?") or "tracetorch" in text:
        return text
    usage = "u" + " ".join(error.ctx.get_usage().split())[1:]
    return f"{text.removesuffix('.')}; {usage if 'Missing' in text else f'see {error.ctx.command_path} -h'}"


def _advice(option: str | None, typed: Sequence[str]) -> str:
    """Advice for a former option, or for a config key that was typed as an option, such as --seed 1; else ""."""
    if option in OPTIONS:
        return f". It is now {OPTIONS[option]}"
    name = (option or "").lstrip("-")
    key_of = {"lr": "optimizer.lr", **dict.fromkeys(("epoch", "epochs"), "train.passes")}
    name = key_of.get(name, name)
    if name.partition(".")[0] not in ("experiment", *KEYS):
        return ""
    value = "…"
    for word, following in zip(typed, [*typed[1:], "…"], strict=True):
        key, equals, glued = word.partition("=")
        if key == option:
            value = glued if equals else following
    return f". Config keys have no dashes: write {name}={shorten(value)}"


def verb_name(verb: ModuleType) -> str:
    """The name of a verb, from its module: `cli/eval_verb.py` holds `eval`."""
    return verb.__name__.rpartition(".")[2].removesuffix("_verb")


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"tracetorch {tracetorch.__version__}")
        raise typer.Exit


def _examples(*commands: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  tracetorch {command}" for command in commands)


HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    cls=Verbs,
    name="tracetorch",
    epilog=_examples("run", "list", "run experiment=mnist_sample seed=1"),
    context_settings=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train spiking neural networks online, in constant memory, from one command."""


def guarded(verb: Callable[..., None], *, prints: bool, loads: bool) -> Callable[..., None]:
    """Wrap a verb so that its errors become one sentence and an exit code.

    Args:
        prints: whether the verb only prints, and so fails if its output cannot be written.
        loads: whether to show that the verb has begun, because it loads torch, which takes seconds.
    """

    @functools.wraps(verb)
    def guard(*, traceback: bool, **arguments: object) -> None:
        code = DONE
        if loads:
            say_starting()
        try:
            working_directory()
            verb(traceback=traceback, **arguments)
        except typer.Exit as end:
            code = end.exit_code
        except UsageError as error:
            complain(str(error), error, traceback)
            code = USAGE
        except KeyboardInterrupt:
            complain("interrupted")
            code = INTERRUPTED
        except WriteError as error:
            complain(f"cannot write to {error.filename}: {error.strerror}", error, traceback)
            code = FAILED
        except Exception as error:
            name = type(error).__name__
            complain(f"this should not have happened: {name}: {error} (--traceback shows where)", error, traceback)
            code = FAILED
        if failure := lost():
            if failure.errno != errno.EPIPE:  # no message to a reader that has closed, as in `tracetorch show | head`
                complain(f"the standard output cannot be written: {failure.strerror}")
            code = FAILED if prints and code == DONE else code
        raise typer.Exit(code)

    return guard


PRINTING = (list_verb, runs_verb, show_verb, info_verb, completion_verb, new_verb)
LOADING = (run_verb, resume_verb, tune_verb, plot_verb, compare_verb, eval_verb, export_verb)
for verb, (summary, *commands) in (row for verbs in GROUPS.values() for row in verbs.items()):
    register = app.command(verb_name(verb), short_help=summary, epilog=_examples(*commands), context_settings=HELP)
    register(guarded(verb.command, prints=verb in PRINTING, loads=verb in LOADING))


def main() -> None:
    """The entry point of the console script."""
    try:
        start()
    except SystemExit as end:
        if isinstance(end.code, int):
            leave(end.code)
        raise


def start() -> None:
    """Run the verb of the command line, or print a shell's completions. Raises: SystemExit."""
    prepare()
    quieten()
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        # OpenMP threads wait for work in a busy loop, by default for milliseconds, which slows down other runs on the
        # machine (`benchmarks/side_by_side.py`). Let them wait for microseconds. Torch reads this when it is imported.
        os.environ["GOMP_SPINCOUNT"] = "3000"
    os.environ["MPLBACKEND"] = "agg"  # figures go into files; a backend that the environment names may be missing
    if os.environ.get(completion.VARIABLE):
        completion.answer(app)
    else:
        app()


def leave(code: int) -> None:
    """End the process as the interpreter does, but do not unload modules, which takes up to a second with torch.

    Return if a file is still open for writing: the interpreter then flushes it when it exits.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    if not _writes_to_a_file():
        files = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)  # pipes, too
        for stream in (sys.stdout, sys.stderr, *(each for each in gc.get_objects() if type(each) in files)):
            with suppress(OSError, AttributeError, ValueError):  # a reader that is gone, or no stream
                stream.flush()
        os._exit(code)


def _writes_to_a_file() -> bool:
    """Whether a file other than the standard streams is open for writing; True if that is unknown."""
    try:
        import fcntl

        descriptors = [int(entry.name) for entry in Path("/dev/fd").iterdir()]
    except (ImportError, OSError):
        return True
    for descriptor in descriptors:
        with suppress(OSError):  # that of /dev/fd itself is closed by now
            is_writable = fcntl.fcntl(descriptor, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR)
            if descriptor > 2 and is_writable and stat.S_ISREG(os.fstat(descriptor).st_mode):
                return True
    return False


if __name__ == "__main__":
    main()
