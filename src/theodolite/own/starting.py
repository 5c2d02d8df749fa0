"""A file to begin a study or an instrument of one's own with: it runs as it is, and says what to change."""

import keyword
import re
import sys
from importlib.metadata import packages_distributions
from importlib.resources import files
from pathlib import Path

from theodolite.errors import NotWritable, SettingError, UnknownName

KINDS = ("study", "instrument")


def start(kind: str, path: Path) -> str:
    """Write the file, which must not be there yet, and give the command that tries it.

    Raises:
        UnknownName: of no such kind is there one.
        SettingError: a name that Python could not import, or would import in place of something else; there is a file.
        NotWritable: the folder is not there, or may not be written.
    """
    if kind not in KINDS:
        raise UnknownName("kind of file to begin with", kind, KINDS)
    name = _checked(kind, path)
    text = files("theodolite.own").joinpath("templates", f"{kind}.py.txt").read_text(encoding="utf-8")
    text = re.sub(r"\bFILE\b", path.name, text)
    text = re.sub(r"\bNAME\b", name.replace("_", "-") if kind == "study" else name, text)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise SettingError(f"expected a new file, but {path} is there already. Name another, or move it.") from None
    except OSError as error:
        raise NotWritable(
            f"expected to write {path}, but: {error.strerror}. Name a folder that may be written."
        ) from None
    if kind == "study":
        return f"theodolite run {path} --preset smoke"
    return f"theodolite measure {path}:{name} --model {path}:make --data {path}:data"


def _checked(kind: str, path: Path) -> str:
    """The name that the file has as a module, and what is in it by that name."""
    name = path.stem
    if path.suffix != ".py" or not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise SettingError(
            f"expected a Python file named with small letters, digits and _, got '{path.name}'. For example: mine.py"
        )
    if name in sys.stdlib_module_names or name in packages_distributions():
        raise SettingError(
            f"expected a name of its own, got '{path.name}': beside it, `import {name}` would import this file in "
            f"place of the package. For example: my_{name}.py"
        )
    if kind == "study":
        from theodolite.own.declared import check_name

        check_name(name.replace("_", "-"))
    else:
        from theodolite.measure.catalogue import INSTRUMENTS

        if name in INSTRUMENTS:
            raise SettingError(f"expected a name of its own for an instrument, got '{name}', which Theodolite has.")
        if name in ("make", "data"):  # what the file calls its model and data
            raise SettingError(f"expected a name for the instrument, got '{name}'. For example: lengths.py")
    return name
