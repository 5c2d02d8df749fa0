"""Kinds of result: the names by which files know classes. Nothing that a file names is imported.

The kinds of this package are found through the catalogue, those of a user where his own file was imported.
"""

from dataclasses import is_dataclass
from typing import Any, get_type_hints

from theodolite.errors import SettingError, StoreError
from theodolite.measure.catalogue import OF_KIND, origin
from theodolite.measure.problem.typed import parts_of

KINDS: dict[str, type] = {}
OURS = "theodolite.measure."


def register(kind: str, cls: type) -> None:
    """Make a class known by its kind; the same class defined again takes its own place.

    Raises:
        SettingError: the kind is no identifier, or another class has it.
    """
    if not isinstance(kind, str) or not kind.isidentifier():
        raise SettingError(
            f"expected the kind of {cls.__name__} as a name of letters, digits and underscores, got {kind!r:.60}. "
            'For example: class Lengths(Result, kind="lengths").'
        )
    before = KINDS.get(kind)
    reserved = kind in OF_KIND and not cls.__module__.startswith(OURS)
    if reserved or (before is not None and origin(before) != origin(cls)):
        owner = "a result of Theodolite" if before is None or reserved else "{1} in {0}".format(*origin(before))
        raise SettingError(
            f"expected a kind of its own for {cls.__name__}, got '{kind}', which {owner} has. Choose another."
        )
    KINDS[kind] = cls


def of(cls: type) -> str | None:
    """The kind of a class; None where it was given none, whatever those that it inherits from have."""
    kind: str | None = cls.__dict__.get("_kind")
    return kind


def named(kind: str) -> type:
    """The class of a kind.

    Raises:
        StoreError: no class of this kind is known here.
    """
    if kind in OF_KIND:
        OF_KIND[kind].load()
    if kind not in KINDS:
        raise StoreError(
            f"expected a result of a kind that is known here, got '{kind:.60}'. Known: "
            f"{', '.join(sorted({*KINDS, *OF_KIND}))}. If it is your own, import the file that defines it."
        )
    return KINDS[kind]


def hints(cls: type) -> dict[str, Any]:
    """The annotations of a class.

    Raises:
        StoreError: they cannot be told, since a name in them is not there.
    """
    try:
        return get_type_hints(cls)
    except NameError as error:
        raise StoreError(
            f"expected annotations of {cls.__name__} that can be read, but {error}. Import the name at the top of the "
            "file that defines it, not for type checkers alone."
        ) from error


def part(hint: Any) -> type | None:
    """The one dataclass that an annotation names, as ``Structure | None`` does: within a result it needs no kind."""
    classes = [one for one in parts_of(hint) if isinstance(one, type) and is_dataclass(one)]
    return classes[0] if len(classes) == 1 else None
