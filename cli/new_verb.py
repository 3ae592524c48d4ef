"""`tracetorch new`: a part of one's own, as a file that runs, with its YAML and its test."""

from __future__ import annotations

import keyword
import re
import sys
import tomllib
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from tracetorch.cli import project
from tracetorch.cli.errors import UsageError, quote, shorten
from tracetorch.cli.shared_arguments import Traceback
from tracetorch.cli.terminal import say
from tracetorch.files import read_text, write_whole, writing

_GROUPS = {"task": "task", "neuron": "network", "connection": "network", "rule": "rule", "loss": "loss", "env": "task"}
_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}", re.ASCII)
_LIST = re.compile(r"^(packages[ \t]*=[ \t]*\[)([^\]#]*)(\])", re.MULTILINE)
_NEW_PROJECT = """# This folder is a project of traceTorch: see docs/own-code.md.
[tracetorch]
# The folder of configs: conf/task/NAME.yaml, conf/experiment/NAME.yaml, …
conf = "conf"
# The modules that they, and the runs in this folder, may call.
packages = ["{name}"]
"""

Kind = Annotated[
    Literal["task", "neuron", "connection", "rule", "loss", "env"],
    typer.Argument(metavar="KIND", help="task, neuron, connection, rule, loss or env (a task with rewards)."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the file and the choice, such as louder_half.")]


def command(kind: Kind, name: Name, traceback: Traceback = False) -> None:
    """Write a part of your own that runs as it stands: NAME.py, its YAML in conf/, and test_NAME.py.

    Makes the folder a project (tracetorch.toml) if it is none. Overwrites no file.
    """
    group = _GROUPS[kind]
    own = project.current()
    root = own.root if own else Path.cwd()
    conf = own.conf if own and own.conf else root / "conf"
    _check_name(name, group, root)
    texts = {
        root / f"{name}.py": _filled(f"{kind}.py", name),
        conf / group / f"{name}.yaml": _filled(f"{kind}.yaml", name),
        root / f"test_{name}.py": _filled(f"{kind}_test.py", name),
    }
    if existing := [str(_shown(path)) for path in (*texts, root / name) if path.exists() or path.is_symlink()]:
        verb = "exists" if len(existing) == 1 else "exist"
        raise UsageError(f"{', '.join(existing)} {verb} already: give another name, such as {name}_2")
    listed = None if own is None or name in own.packages else _with_package(own, name)
    if own is None:
        texts[root / project.FILE] = _NEW_PROJECT.format(name=name)
    _write_new(texts)
    if own is not None and listed is not None:
        with writing():
            write_whole(own.file, listed)
    say(f"wrote {', '.join(str(_shown(path)) for path in texts)}")
    if listed is not None:
        say(f"added {name} to packages in {_shown(root / project.FILE)}")
    (line,) = [line for line in texts[conf / group / f"{name}.yaml"].splitlines() if line.startswith("# Run:")]
    say(
        f"to train with it:  {line.removeprefix('# Run:').strip()}",
        f"to test it:        pytest {_shown(root / f'test_{name}.py')}",
    )


def _check_name(name: str, group: str, root: Path) -> None:
    """Raises: UsageError for a name that cannot be a module of the project, or that is taken."""
    from tracetorch.cli.adapter import conf_dir

    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UsageError(
            f"{shorten(name)!r} cannot name a module: use small letters, digits and _, such as louder_half"
        )
    if (conf_dir() / group / f"{name}.yaml").exists():
        raise UsageError(f"{group}={name} comes with tracetorch: give another name, such as my_{name}")
    if (
        name in sys.stdlib_module_names
        or name in ("conf", "own_part")
        or (not (root / f"{name}.py").exists() and _is_installed(name))
    ):
        raise UsageError(
            f"there is a module {name} already, which {name}.py would hide: give another name, such as my_{name}"
        )


def _is_installed(name: str) -> bool:
    with suppress(ImportError, ValueError):
        return find_spec(name) is not None
    return False


def _filled(template: str, name: str) -> str:
    """The text of a template for a name: own_part becomes louder_half, OwnPart LouderHalf, Own part Louder half."""
    words = name.strip("_").replace("_", " ")
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    text = text.replace("own_part", name).replace("OwnPart", words.title().replace(" ", ""))
    return text.replace("Own part", words.capitalize())


def _with_package(own: project.Project, name: str) -> str:
    """The text of the project's file with one more package. Raises: UsageError if it must be added by hand."""
    by_hand = UsageError(f'add "{name}" to packages in {own.file} first: its list is not on one line')
    try:
        text = read_text(own.file)
        content = tomllib.loads(text.removeprefix("\ufeff")).get("tracetorch", {})
        names = [*content.get("packages", []), name]
        if "packages" in content:
            new = _LIST.sub(
                lambda found: f"{found[1]}{', '.join(f'{quoted!r}' for quoted in names)}{found[3]}".replace("'", '"'),
                text,
                count=1,
            )
        elif "tracetorch" in tomllib.loads(text.removeprefix("\ufeff")):
            new = re.sub(
                r"^(\[tracetorch\][^\n]*\n?)", rf'\1packages = ["{name}"]\n', text, count=1, flags=re.MULTILINE
            )
        else:
            new = f'{text.rstrip()}\n\n[tracetorch]\npackages = ["{name}"]\n'.lstrip()
        if tomllib.loads(new.removeprefix("\ufeff"))["tracetorch"] == {**content, "packages": names}:
            return new
    except (OSError, ValueError, KeyError):
        pass
    raise by_hand


def _write_new(texts: dict[Path, str]) -> None:
    """Write new files; after an error, remove them again. Raises: UsageError."""
    written: list[Path] = []
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            with suppress(OSError):
                path.unlink()
        raise UsageError(f"cannot write to {error.filename or 'the disk'}: {error.strerror}") from error


def _shown(path: Path) -> str:
    """A path, relative to the working directory if it is below it."""
    with suppress(ValueError, OSError):
        return quote(path.relative_to(Path.cwd()))
    return quote(path)
