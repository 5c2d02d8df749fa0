"""The page and its Markdown twin, from templates. Every text is escaped; nothing on the page is fetched."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from theodolite.figures import theme
from theodolite.report import markdown, text
from theodolite.report.findings import StudyFindings

TITLE = "How neural networks learn: a survey"


def html(findings: Sequence[StudyFindings]) -> str:
    """One self-contained page. The Vega library is in it once, and its policy forbids every request."""
    data = {
        "configs": {"light": theme.config(), "dark": theme.config(dark=True)},
        "swaps": theme.swaps(),
        "figures": {
            f"{study.name}-{figure.name}": _own_text(theme.specification(figure.chart))
            for study in findings
            for figure in study.figures
        },
    }
    scripts = [_library(), _asset("page.js")]
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    return _render(
        "page.html.j2",
        findings,
        style=Markup(_asset("page.css")),  # noqa: S704 — our own file
        data=embed(data),
        scripts=[Markup(script) for script in scripts],  # noqa: S704 — our own file and the Vega library
        hashes=hashes,
    )


def twin(findings: Sequence[StudyFindings]) -> str:
    """The page as Markdown, with the figures as pictures beside it."""
    return _render("report.md.j2", findings)


def embed(data: Any) -> Markup:
    """JSON that is safe inside a script element: it holds no ``<``, ``>``, ``&`` or line separator of any kind.

    >>> print(embed({"a": "</script>"}))
    {"a":"\\u003c/script\\u003e"}
    """
    content = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for sign in "<>&":
        content = content.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(content)  # noqa: S704 — escaped in the lines above


def _render(template: str, findings: Sequence[StudyFindings], **more: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": markdown.escape, "row": text.verdict_row}
    verdicts = [verdict for study in findings for verdict in study.verdicts]
    counts = {name: sum(v.verdict == name for v in verdicts) for name in text.SYMBOLS}
    page = environment.get_template(template)
    return page.render(
        title=TITLE, findings=findings, verdicts=verdicts, counts=counts, text=text, markdown=markdown, **more
    )


def _own_text(spec: dict[str, Any]) -> dict[str, Any]:
    """The page gives size and theme itself."""
    return {key: value for key, value in spec.items() if key != "config"}


def _asset(name: str) -> str:
    return resources.files("theodolite.report").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    script = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    return script.replace("</script", "<\\/script")
