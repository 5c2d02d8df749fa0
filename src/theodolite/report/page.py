"""The page and its Markdown twin, from templates. Every text is escaped; nothing on the page is fetched."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from theodolite.figures import theme
from theodolite.report import forest, markdown, overview, text
from theodolite.report.findings import StudyFindings
from theodolite.report.library import library
from theodolite.wording import counted, shown

TITLE = "How neural networks learn: a survey"


def html(findings: Sequence[StudyFindings], *, scripts: Sequence[str] = (), connect: str = "'none'") -> str:
    """One self-contained page: Vega is in it once, and its policy forbids every request and every other script.

    Args:
        findings: of each study, in the order of the page.
        scripts: JavaScript to run after the page's own, for a server that keeps the page up to date.
        connect: where such a script may connect to, as the policy says it: ``'self'``.

    Returns:
        HTML; the same findings give the same bytes.
    """
    charts = {
        f"{study.name}-{figure.name}": theme.plain(figure.chart) for study in findings for figure in study.figures
    }
    data = {
        "configs": {"light": theme.config(), "dark": theme.config(dark=True)},
        "swaps": theme.swaps(),
        "figures": charts,
        "tables": {
            f"{study.name}-{table.name}": text.csv(table).decode() for study in findings for table in study.tables
        },
    }
    style = asset("page.css")
    every = [library(), asset("figures.js"), asset("slider.js"), asset("page.js"), *scripts]
    return _render(
        "page.html.j2",
        findings,
        broad={name for name, chart in charts.items() if _beside(chart)},
        style=Markup(style),  # noqa: S704 — our own file
        data=embed(data),
        scripts=[Markup(script) for script in every],  # noqa: S704 — our own files and the Vega library
        policy=Markup(policy(every, style, connect)),  # noqa: S704 — hashes and quotes alone
    )


def _beside(chart: dict[str, Any]) -> bool:
    """Whether a figure has panels side by side, which ask for more width than one."""
    return any("hconcat" in row for row in (chart, *chart.get("vconcat", ())))


def policy(scripts: Sequence[str], style: str, connect: str) -> str:
    """The Content-Security-Policy: these very scripts, no code from text, no request but to ``connect``.

    Style attributes are allowed, since Vega places its text with them; style sheets but the page's own are not.
    """
    hashes = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {hashes}; style-src-elem {_hash(style)}; style-src-attr 'unsafe-inline'; "
        f"img-src data: blob:; connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


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


@cache
def environment(template: str) -> jinja2.Environment:
    """Where templates are read; text is escaped in those of HTML."""
    found = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: shown(value) if type(value) is str else value,  # not our own markup and scripts
    )
    found.filters |= {"md": markdown.escape, "row": text.verdict_row, "tied": text.tied, "counted": counted}
    return found


def title(findings: Sequence[StudyFindings]) -> str:
    """Of the page: that of its study, where it has but one."""
    return findings[0].title if len(findings) == 1 else TITLE


def _render(template: str, findings: Sequence[StudyFindings], **more: Any) -> str:
    verdicts = [verdict for study in findings for verdict in study.verdicts]
    given = {"text": text, "markdown": markdown, "overview": overview, "forest": forest}
    return (
        environment(template)
        .get_template(template)
        .render(title=title(findings), findings=findings, verdicts=verdicts, **given, **more)
    )


def asset(name: str) -> str:
    """A template, style sheet or script of the page."""
    return resources.files("theodolite.report").joinpath("templates", name).read_text(encoding="utf-8")
