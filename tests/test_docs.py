"""The documents: what they show runs, what they type composes, what they point at is there."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from tests.command_line import app, tracetorch
from tracetorch.cli.adapter import compose
from tracetorch.cli.adapter.overrides import expand, split_settings
from tracetorch.cli.check import check, check_trusted
from tracetorch.cli.sweep.preset import unfold

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
VERBS = {command.name for command in app.registered_commands}


def blocks(path: Path, *languages: str) -> list[str]:
    """The fenced blocks in these languages, in order."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [body for language, body in found if language in languages]


def commands(path: Path) -> list[list[str]]:
    """Every `tracetorch …` that is typed in a shell block or inside of a line, without comments."""
    lines = "\n".join(blocks(path, "bash", "sh", "console")).replace("\\\n", " ").splitlines()
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines += re.findall(r"`(tracetorch \w+[^`\n]*)`", prose)
    lines = [line.strip().removeprefix("$ ") for line in lines]
    own = [re.split(r" \\?\| ", line)[0] for line in lines if line.startswith("tracetorch ")]  # not what it is piped to
    return [shlex.split(line, comments=True)[1:] for line in own]


def links(path: Path) -> list[str]:
    """What the links and images of a document point at, unless it is elsewhere on the web."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    return [target for target in found if not re.match("[a-z]+:", target)]


def headings(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings."""
    lines = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_the_readme_shows_python_and_commands():
    assert blocks(ROOT / "README.md", "python")
    assert blocks(ROOT / "README.md", "bash", "sh")
    assert ["run"] in commands(ROOT / "README.md")


def test_no_placeholder_is_left():
    for path in FILES:
        assert not re.search(r"TODO|FIXME|XXX|\| [A-Z]{5,} \|", path.read_text(encoding="utf-8")), path


@EVERY_FILE
def test_the_files_that_are_named_exist(path):
    """A path from the root, such as `tracetorch/functional.py`, also after the arrows of a diagram."""
    text = path.read_text(encoding="utf-8")
    for name in re.findall(
        r"(?<![\w./])((?:tracetorch|cli|conf|experiments|tests|benchmarks)/[\w/.-]+\.(?:py|yaml|sh|md))", text
    ):
        place = ROOT / name
        assert place.is_file() or "own" in place.stem, f"{path.name}: {name}"


@EVERY_FILE
def test_python_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
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


@EVERY_FILE
def test_commands_compose(path):
    for verb, *words in commands(path):
        assert verb in VERBS, f"tracetorch {verb}"
        mentioned = not words  # as in "`tracetorch compare` takes …"
        given = get_command(app).commands[verb].make_context(verb, list(words), resilient_parsing=mentioned).params
        if verb == "list":
            assert tracetorch(verb, *words).exit_code == 0
        if verb not in ("run", "show") or given.get("source") or given.get("config_dir"):
            continue
        for part in unfold(list(given["overrides"] or ())).sweeps:
            overrides, _ = split_settings(part)
            for job in with_something_new(expand(overrides) if given["multirun"] else [overrides]):
                check_job(*job)


@EVERY_FILE
def test_shown_answers_are_the_ones_that_come(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks(path, "text", "console"):
        typed, *shown = block.splitlines()
        if typed.startswith("$ tracetorch "):
            result = tracetorch(*shlex.split(typed, comments=True)[2:])
            for line in shown:
                assert line.removesuffix("…").rstrip() in result.output


@EVERY_FILE
def test_make_targets_are_there(path):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)|`make (\w+)`", path.read_text(encoding="utf-8"), re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target


def test_make_says_what_it_installs_and_silences_the_warnings_of_pip():
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("$(READY): ")[2].splitlines()
    (said,) = (at for at, line in enumerate(recipe) if line.startswith('\t@echo "Installing into $(VENV), about'))
    (pip,) = (at for at, line in enumerate(recipe) if " pip install " in line)
    assert said < pip and recipe[pip].count(" --quiet") == 2  # errors are shown even so


@EVERY_FILE
def test_links_lead_somewhere(path):
    for target in links(path):
        place, _, anchor = target.partition("#")
        there = (path.parent / place).resolve() if place else path
        assert there.exists(), target
        assert ROOT in there.parents, target
        if anchor:
            assert anchor in headings(there), target


def test_every_figure_is_shown_in_a_document():
    shown = {(path.parent / target.partition("#")[0]).resolve() for path in FILES for target in links(path)}
    for figure in (ROOT / "docs" / "figures").iterdir():
        assert figure in shown, f"docs/figures/{figure.name} is in no document"
