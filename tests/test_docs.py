"""The documents: what they show runs, what they type composes, what they point at is there."""

import re
import shlex
from functools import cache
from pathlib import Path

from typer.main import get_command

from tests.command_line import app, tracetorch
from tracetorch.cli.adapter import compose
from tracetorch.cli.adapter.overrides import expand, split_settings
from tracetorch.cli.check import check, check_trusted
from tracetorch.cli.sweep.preset import unfold

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
VERBS = {command.name for command in app.registered_commands}
OURS = r"(?<![\w./])((?:tracetorch|cli|conf|experiments|tests|benchmarks)/[\w/.-]+\.(?:py|yaml|sh|md))"
"""A path from the root, such as `tracetorch/functional.py`, also after the arrows of a diagram."""


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, *languages: str) -> list[str]:
    """The fenced blocks in these languages, in order."""
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", read(path), re.MULTILINE | re.DOTALL)
    return [body for language, body in found if language in languages]


def prose(path: Path) -> str:
    """What is outside of the blocks."""
    return re.sub(r"^```.*?^```", "", read(path), flags=re.MULTILINE | re.DOTALL)


def commands(path: Path) -> list[list[str]]:
    """Every `tracetorch …` that is typed in a shell block or inside of a line, without comments."""
    lines = "\n".join(blocks(path, "bash", "sh", "console")).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`(tracetorch \w+[^`\n]*)`", prose(path))
    lines = [line.strip().removeprefix("$ ") for line in lines]
    own = [re.split(r" \\?\| ", line)[0] for line in lines if line.startswith("tracetorch ")]  # not what it is piped to
    return [shlex.split(line, comments=True)[1:] for line in own]


def links(path: Path) -> list[str]:
    """What the links and images of a document point at, unless it is elsewhere on the web."""
    text = prose(path)
    found = re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    return [target for target in found if not re.match("[a-z]+:", target)]


def headings(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings."""
    lines = re.findall(r"^#+ (.*)$", read(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_named_files_and_targets_exist_and_no_placeholder_is_left():
    makefile, missing = read(ROOT / "Makefile"), []
    for path in FILES:
        text = read(path)
        assert not re.search(r"TODO|FIXME|XXX|\| [A-Z]{5,} \|", text), path
        targets = re.findall(r"^make (\w+)|`make (\w+)`", text, re.MULTILINE)
        missing += [(path, one) for one in targets if not re.search(rf"^{''.join(one)}:", makefile, re.MULTILINE)]
        names = [ROOT / name for name in re.findall(OURS, text)]
        missing += [(path, place) for place in names if not place.is_file() and "own" not in place.stem]
    assert not missing


def test_links_have_targets_and_every_figure_is_shown():
    missing, shown = [], set()
    for path in FILES:
        for target in links(path):
            place, _, anchor = target.partition("#")
            there = (path.parent / place).resolve() if place else path
            if not there.exists() or ROOT not in there.parents or (anchor and anchor not in headings(there)):
                missing.append((path, target))
            shown.add(there)
    assert not missing
    assert not set((ROOT / "docs" / "figures").iterdir()) - shown


def test_python_blocks_run(here):
    assert blocks(ROOT / "README.md", "python")
    for path in FILES:
        namespace = {"__name__": "__main__"}
        for number, block in enumerate(blocks(path, "python", "py"), 1):
            exec(compile(block, f"{path.name}, block {number}", "exec"), namespace)


@cache  # several commands of a document lead to the same
def check_job(*overrides):
    config = compose(list(overrides)).config
    check(config)
    check_trusted(config, Path("config.yaml"))  # else it could not be resumed


def with_something_new(jobs):
    """Of all combinations so many that everything that was typed is in one of them."""
    seen = set()
    for job in jobs:
        if not job or not seen.issuperset(job):
            yield job
        seen.update(job)


def check_command(verb, words):
    assert verb in VERBS
    mentioned = not words  # as in "`tracetorch compare` takes …"
    given = get_command(app).commands[verb].make_context(verb, list(words), resilient_parsing=mentioned).params
    if verb == "list":
        assert tracetorch(verb, *words).exit_code == 0
    if verb not in ("run", "show") or given.get("source") or given.get("config_dir"):
        return
    for part in unfold(list(given["overrides"] or ())).sweeps:
        overrides, _ = split_settings(part)
        for job in with_something_new(expand(overrides) if given["multirun"] else [overrides]):
            check_job(*job)


def test_typed_commands_compose():
    wrong = []
    for path in FILES:
        for verb, *words in commands(path):
            try:
                check_command(verb, words)
            except (Exception, SystemExit) as error:
                wrong.append(f"{path.name}: tracetorch {verb} {shlex.join(words)}: {error!r}")
    assert not wrong, "\n".join(wrong)
    assert ["run"] in commands(ROOT / "README.md")


def test_shown_outputs_are_the_real_ones(here):
    missing, count = [], 0
    for path in FILES:
        for block in blocks(path, "text", "console"):
            typed, *shown = block.splitlines()
            if typed.startswith("$ tracetorch "):
                output = tracetorch(*shlex.split(typed, comments=True)[2:]).output
                count += 1
                missing += [(path, typed, line) for line in shown if line.removesuffix("…").rstrip() not in output]
    assert count and not missing
