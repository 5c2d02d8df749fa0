"""Equations as MathML, which browsers draw themselves: no script, and no request to anyone."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

FOUND = re.compile(r'<(div|span) class="arithmatex">\\([\[(])(.*?)\\[\])]</\1>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """MkDocs calls this with each page."""
    return FOUND.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    latex = " ".join(html.unescape(found[3]).split())
    for unknown, known in ((r"\lVert", r"\|"), (r"\rVert", r"\|"), (r"\tfrac", r"\frac"), (r"\Big", ""), (r"\big", "")):
        latex = re.sub(re.escape(unknown) + r"(?![a-zA-Z])", known.replace("\\", r"\\"), latex)
    return str(convert(latex, display="block" if found[1] == "div" else "inline"))
