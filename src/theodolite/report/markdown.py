"""The Markdown twin of the page, and tables as Markdown."""

import re
from collections.abc import Sequence

from theodolite.findings import Table
from theodolite.report import text
from theodolite.wording import shown


def escape(content: object) -> str:
    """Text that Markdown shows as it is: no tags, no emphasis, no cell borders, one line.

    >>> escape("a|b <script> *c*")
    'a\\\\|b &lt;script&gt; \\\\*c\\\\*'
    """
    line = shown(" ".join(str(content).split()))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", line)


def table(given: Table) -> str:
    """A pipe table; numbers flush right."""
    return rows(text.header(given), text.cells(given), text.numeric(given))


def rows(header: Sequence[str], body: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """A pipe table from cells that are not yet escaped."""
    lines = [header, *body]
    marks = ["---:" if flush else "---" for flush in right]
    written = ["| " + " | ".join(map(escape, line)) + " |" for line in lines]
    return "\n".join([written[0], "| " + " | ".join(marks) + " |", *written[1:]]) + "\n"
