"""Starts, continues or joins a study: a search for better settings, in which each trial is a run."""

from __future__ import annotations

from pathlib import Path

from tracetorch.cli import project
from tracetorch.cli.adapter import note_of
from tracetorch.cli.errors import UsageError, quote, shorten
from tracetorch.cli.terminal import say
from tracetorch.cli.tuning.search import read_search, split_search
from tracetorch.cli.tuning.study_folder import FILE, StudySettings, is_being_created, read_study, reserve, resume_hint
from tracetorch.cli.tuning.validate import Composer, validate
from tracetorch.files import expanded


def tune(typed: list[str], *, trials: int | None, folder: Path | None, trust: list[str]) -> int:
    """Start, continue or join a study. Returns: the exit code. Raises: UsageError, with nothing left on disk.

    Args:
        typed: overrides, those of the search included; may be empty to continue a study.
        trials: the number of trials of the whole study; if None, the search's.
        folder: of the study; if None, a new one named after the time.
        trust: packages that the config of an existing study may call.
    """
    if folder is None or not folder.exists() or (typed and is_being_created(folder)):
        try:
            return _start(typed, trials, folder)
        except FileExistsError:  # another process was first
            assert folder is not None
    settings = read_study(folder)
    if typed and typed != settings.typed:
        fault = f"{folder} is a study of {shorten(' '.join(settings.typed), 200)}"
        raise UsageError(f"{fault}; {resume_hint(folder)}; for another study, name another folder")
    packages = [*trust, *project.trusted(folder)]
    composer = Composer(settings.overrides, folder / FILE, packages, settings.configs)
    search, composed = validate(settings.search, composer)
    return _run(settings._replace(search=search), composer, int(composed.config["seed"]), folder, trials)


def _start(typed: list[str], trials: int | None, folder: Path | None) -> int:
    if not typed and folder is not None:
        raise UsageError(f"there is no study {folder}; to start one: tracetorch tune search=… --study {quote(folder)}")
    search_lines, overrides = split_search(typed)
    search = read_search(search_lines)
    for line in overrides:
        if (key := line.lstrip("+~").partition("=")[0]) in search.space:
            advice = f"leave it out, or take the key out of the search: {quote(f'~search.space.{key}')}"
            raise UsageError(f"'{shorten(line)}': the search chooses {shorten(key)}; {advice}")
    composer = Composer(overrides, None, [])
    search, composed = validate(search, composer)
    root = expanded(composed.config["output"].get("root", "outputs"))
    settings = StudySettings(composed.experiment, typed, overrides, search, composer.content())
    study_folder = reserve(settings, root, folder)
    for note in filter(None, [note_of(composed.choices), *composer.notes]):
        say(note)
    return _run(settings, composer, int(composed.config["seed"]), study_folder, trials)


def _run(settings: StudySettings, composer: Composer, seed: int, folder: Path, trials: int | None) -> int:
    from tracetorch.cli.tuning.trials import run_trials  # after all checks, because optuna takes half a second to load

    return run_trials(settings, composer, seed, folder, trials or settings.search.trials)
