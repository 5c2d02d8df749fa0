"""FILE.py[:NAME] to the study in it. Naming a file here runs it, as ``python FILE.py`` would. Imports no torch."""

import sys
import traceback
from pathlib import Path
from typing import Any

from theodolite.code import running as files
from theodolite.code import sources
from theodolite.errors import CodeFailed, TheodoliteError, UnknownName
from theodolite.own.declared import OwnStudy
from theodolite.study import Study

_seen: dict[Path, str] = {}  # hash of the code that a file was run with


def load(reference: str) -> tuple[Path, OwnStudy | Study[Any]]:
    """The file, and the study in it.

    Args:
        reference: ``FILE.py``, or ``FILE.py:NAME`` with the name of the study, or of the variable that holds it.

    Raises:
        CodeFailed: there is no such file, it raised an error, or there is no study in it, or several.
        UnknownName: it has no such study; the closest is named.
    """
    file, colon, name = reference.rpartition(":") if not reference.endswith(".py") else (reference, "", "")
    path = Path(file).expanduser()
    if not path.is_file():
        raise CodeFailed(f"expected a Python file with a study, but there is no file {path}. Check the path.")
    return path.resolve(), _chosen(path.resolve(), name if colon else "")


def _chosen(path: Path, name: str) -> OwnStudy | Study[Any]:
    found = studies(module(path))
    by_name = {study.name: study for study in found.values()}
    if name:
        if name not in found and name not in by_name:
            raise UnknownName(f"study in {path.name}", name, by_name)
        return found[name] if name in found else by_name[name]
    if not found:
        raise CodeFailed(
            f"expected a study in {path.name}, got none. Make one: study = th.study(…), then @study.run(…)."
        )
    if len({id(study) for study in found.values()}) > 1:
        raise CodeFailed(
            f"expected one study in {path.name}, got {', '.join(by_name)}. Name one: {path.name}:{next(iter(by_name))}"
        )
    return next(iter(found.values()))


def studies(module: Any) -> dict[str, OwnStudy | Study[Any]]:
    """By the variables that hold them."""
    return {name: value for name, value in vars(module).items() if isinstance(value, OwnStudy | Study)}


def module(path: Path) -> Any:
    """The file as a module: what runs just now if it is that, else run anew where its code has changed."""
    for name in ("__main__", "__mp_main__"):  # ``python FILE.py``, and what a worker made of it
        running = sys.modules.get(name)
        where = getattr(running, "__file__", None)
        if where is not None and Path(where).resolve() == path and studies(running):
            return running
    texts = sources.read(path)
    now = sources.code(texts)
    if _seen.get(path, now) != now:
        own = {str(path.parent / name) for name in texts}
        for name in [name for name, one in sys.modules.items() if getattr(one, "__file__", None) in own]:
            del sys.modules[name]
    _seen[path] = now
    try:
        return files.run(path)
    except CodeFailed as error:
        if not isinstance(error.__cause__, TheodoliteError):
            raise
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__cause__.__traceback__) if frame.filename == str(path)
        ]
        raise CodeFailed(f"{path.name}, line {lines[-1] if lines else '?'}: {error.__cause__}") from error.__cause__
