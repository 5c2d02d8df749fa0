"""Functions out of the user's own file: FILE.py:NAME. Naming a file here runs it."""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any, ClassVar

from theodolite.errors import CodeFailed, UnknownName

PREFIX = "theodolite_user_"  # of the names that users' files have as modules


def is_code(reference: str) -> bool:
    """Whether a text names something in a Python file, rather than a data set or a loss."""
    return reference.endswith(".py") or ".py:" in reference


def named(reference: str, option: str) -> Any:
    """Run a Python file and give what it calls NAME.

    The file's own folder can be imported from while it runs and afterwards, as if it were run by ``python FILE.py``.

    Args:
        reference: ``FILE.py:NAME``.
        option: that it was given to, for messages: ``"--model"``.

    Raises:
        CodeFailed: no such file, or it raised an error.
        UnknownName: it has no such name; the message gives the closest.
    """
    file, colon, name = reference.rpartition(":")
    if not colon or not file.endswith(".py") or not name.isidentifier():
        raise CodeFailed(f"expected {option} FILE.py:NAME, got '{reference}'. For example: {option} net.py:make")
    path = Path(file).expanduser()
    if not path.is_file():
        raise CodeFailed(f"expected a Python file for {option}, but there is no file {path}. Check the path.")
    module = run(path.resolve())
    if not hasattr(module, name):
        raise UnknownName(f"'{name}' in {path}", name, [n for n in vars(module) if not n.startswith("_")])
    return getattr(module, name)


def called(function: Callable[..., Any], what: str) -> Any:
    """Call what came out of the user's file, with no arguments; its errors are told in one line.

    Raises:
        CodeFailed: it raised an error, or is no function.
    """
    if not callable(function):
        raise CodeFailed(f"expected {what} to be a function, got {type(function).__name__}. Name one.")
    try:
        return function()
    except Exception as error:
        raise CodeFailed(f"expected {what}() to return, but {told(error)}. Correct it there.") from error


def run(path: Path) -> Any:
    """The module of a file; one that was run before is not run again."""
    name = f"{PREFIX}{path.stem}_{abs(hash(path)):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path, loader=_Fresh(name, str(path)))
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - a file that ends in .py has both
    module = importlib.util.module_from_spec(spec)
    _beside(path.parent)
    sys.modules[name] = module  # dataclasses and pickle look classes up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise CodeFailed(f"expected {path} to run, but {told(error)}. Correct it there.") from error
    return module


class _Fresh(SourceFileLoader):
    """Takes the file as it is: what lies compiled beside it may be of another, as long and of the same second."""

    def path_stats(self, path: str) -> dict[str, float]:
        """None, so that no compiled file is read or written."""
        raise OSError(f"{path} is compiled anew")


class _Beside:
    """Finds what lies beside the users' files, whole packages too, and takes it as it is."""

    folders: ClassVar[set[Path]] = set()

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Where Python finds it, if that is one of the folders; None leaves it to Python."""
        package = sys.modules.get(name.partition(".")[0])
        if path is not None and not isinstance(getattr(package, "__loader__", None), _Fresh):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None or type(spec.loader) is not SourceFileLoader:
            return None
        file = Path(spec.origin)
        if path is None and not cls.folders & {file.parent, file.parent.parent}:
            return None
        spec.loader = _Fresh(name, spec.origin)
        return spec


def _beside(folder: Path) -> None:
    """Let modules of this folder be imported."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    if _Beside not in sys.meta_path:
        sys.meta_path.insert(sys.meta_path.index(PathFinder), _Beside)
    _Beside.folders.add(folder)


def theirs(error: BaseException) -> bool:
    """Whether an error came through a file that was run here, and not from Theodolite alone."""
    files = {getattr(m, "__file__", None) for name, m in sys.modules.items() if name.startswith(PREFIX)}
    return any(frame.filename in files for frame in traceback.extract_tb(error.__traceback__))


def told(error: BaseException) -> str:
    """An error in a few words, with the innermost place it came from."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno} is no Python ({error.msg})"
    frames = traceback.extract_tb(error.__traceback__)
    inside = [f for f in frames if f.filename != __file__ and not f.filename.startswith("<")]
    place = f" in line {inside[-1].lineno} of {Path(inside[-1].filename).name}" if inside else ""
    text = " ".join(str(error).split())
    return f"it raised {type(error).__name__}{place}{f': {text}' if text else ''}".rstrip(".")
