"""Docstrings made ready for the site: their equations and cross references, and the comments beside fields."""

import inspect
import re
from importlib import import_module
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import griffe

BLOCK = re.compile(r"^\.\. math::[ ]*(.*(?:\n(?:[ ]+.*|[ ]*(?=\n[ ]{4})))*)", re.MULTILINE)
ROLE = re.compile(r":(?:func|class|mod|meth|attr):`~?([^`]+)`")


class Docstrings(griffe.Extension):
    """Griffe calls this with each object that it reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite what is there; give a field that has none the comment that stands beside it."""
        if isinstance(obj, griffe.Function) and any("with_options" in str(each.value) for each in obj.decorators):
            _spell_out(obj)
        if obj.docstring:
            obj.docstring.value = rewritten(obj.docstring.value)
        elif obj.is_attribute and obj.lineno and isinstance(obj.filepath, Path):
            comment = _comment(obj.filepath, obj.lineno, obj.endlineno or obj.lineno)
            if comment:
                obj.docstring = griffe.Docstring(comment, parent=obj)


def _spell_out(function: griffe.Function) -> None:
    """In place of ``**options``, the options that a decorator adds, which reading the file alone does not show."""
    real = getattr(import_module(function.module.path), function.name)
    function.docstring = griffe.Docstring(inspect.getdoc(real) or "", parent=function)
    function.parameters._params = [each for each in function.parameters if each.name != "options"]
    for each in inspect.signature(real).parameters.values():
        if each.name not in function.parameters:
            function.parameters.add(
                griffe.Parameter(
                    each.name,
                    kind=griffe.ParameterKind.keyword_only,
                    annotation=inspect.formatannotation(each.annotation),
                    default=repr(each.default),
                )
            )


def rewritten(text: str) -> str:
    """A docstring as Markdown.

    >>> print(rewritten("Norm.\\n\\n.. math:: a\\n          + b\\n\\nSee :func:`~x.y` and :math:`c`."))
    Norm.
    <BLANKLINE>
    $$
    a
    + b
    $$
    <BLANKLINE>
    See `y` and $c$.
    """
    text = BLOCK.sub(_display, text)
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = ROLE.sub(lambda found: f"`{found[1].rpartition('.')[2]}`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)  # griffe's own name for what is run
    return re.sub(r"^Source: ", "**Source:** ", text, flags=re.MULTILINE)


def _display(found: re.Match[str]) -> str:
    first, _, rest = found[1].partition("\n")
    lines = [line for line in (first.strip(), *dedent(rest).splitlines()) if line.strip()]
    return "$$\n" + indent("\n".join(line.strip() for line in lines), "") + "\n$$\n"


def _comment(path: Path, first: int, last: int) -> str:
    """The comments on the lines of a field."""
    lines = path.read_text(encoding="utf-8").splitlines()[first - 1 : last]
    parts = [line.partition("  # ")[2] for line in lines]
    return " ".join(part for part in parts if part and not part.startswith("type:"))
