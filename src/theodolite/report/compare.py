"""Two surveys side by side: the same table for the terminal, the page, Markdown and JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from theodolite.claims import Change
from theodolite.report import dumbbell, markdown, page, text
from theodolite.report.build import check_free
from theodolite.report.findings import Comparison
from theodolite.store import files
from theodolite.wording import counted

HEADER = ("Claim", "A", "B", "Estimate A", "Estimate B", "Change", "By more than chance", "With Holm")


def build(comparison: Comparison, directory: Path) -> Path:
    """Write ``comparison.html``, ``comparison.md`` and ``comparison.json`` into a folder; gives the page's path.

    Raises:
        StoreError: pages of these names are there, and are none of ours.
    """
    check_free(directory, "comparison")
    files.write(directory / "comparison.md", twin(comparison).encode())
    files.write(directory / "comparison.json", json.dumps(facts(comparison), indent=1, ensure_ascii=False).encode())
    path = directory / "comparison.html"
    files.write(path, html(comparison).encode())
    return path


def summary(comparison: Comparison) -> str:
    """How much changed, in a sentence or two."""
    parts = [_of_claims(comparison)] if comparison.changes or comparison.recorded is None else []
    if comparison.recorded is not None:
        frame = comparison.recorded.frame
        apart = int((frame["differs by"] == "more than chance").sum())
        parts.append(
            f"{len(frame)} recorded series compared; {counted(apart, 'differs', 'differ')} at the end by more than "
            f"chance at 95 % each ({len(frame) / 20:.1f} would by chance alone)."
        )
    return " ".join(parts)


def _of_claims(comparison: Comparison) -> str:
    changes = comparison.changes
    apart = sum(change.chance == "more than chance" for change in changes)
    sure = sum(change.chance_holm == "more than chance" for change in changes)
    unknown = sum(change.chance == "cannot say" for change in changes)
    return (
        f"{counted(len(changes), 'claim')} compared; {counted(len(turned(comparison)), 'verdict')} changed. "
        f"{counted(apart, 'estimate differs', 'estimates differ')} by more than chance at 95 % each "
        f"({len(changes) / 20:.1f} would by chance alone), "
        f"{sure} with Holm's correction over " + (f"all; of {unknown} nothing can be said." if unknown else "all.")
    )


def turned(comparison: Comparison) -> list[Change]:
    """The claims whose verdict changed."""
    return [change for change in comparison.changes if change.turned]


def rows(comparison: Comparison) -> list[list[str]]:
    """A row a claim, in the order of :data:`HEADER`."""
    return [row(change) for change in comparison.changes]


def row(change: Change) -> list[str]:
    """Verdicts, estimates and their change as text."""
    a, b = change.a, change.b
    return [
        text.title(a),
        text.decision(a),
        text.decision(b) + (" (changed)" if change.turned else ""),
        f"{text.estimate(a)}, {counted(a.seeds, 'seed')}",
        f"{text.estimate(b)}, {counted(b.seeds, 'seed')}",
        text.change(change),
        change.chance,
        change.chance_holm,
    ]


def facts(comparison: Comparison) -> list[dict[str, Any]]:
    """A dictionary a claim, and a recorded series, for other programs; ends that nothing bounds are None."""
    claims = [_facts(change) for change in comparison.changes]
    if comparison.recorded is None:
        return claims
    rows = comparison.recorded.frame.to_dict("records")
    return claims + [{str(k): text.finite(v) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def _facts(change: Change) -> dict[str, Any]:
    found = change.change
    return {
        "study": change.a.study,
        "id": change.a.id,
        "a": change.a.model_dump(mode="json"),
        "b": change.b.model_dump(mode="json"),
        "verdict_changed": change.turned,
        "change": "b / a" if change.ratio else "b - a",
        "estimate": text.finite(found.estimate),
        "interval": [text.finite(found.low), text.finite(found.high)],
        "p_value": change.p_value,
        "chance": change.chance,
        "chance_holm": change.chance_holm,
    }


def html(comparison: Comparison) -> str:
    """One page without any script."""
    style = page.asset("page.css")
    policy = Markup(page.policy((), style, "'none'"))  # noqa: S704 — a hash and quotes alone
    return _render("compare.html.j2", comparison, style=Markup(style), policy=policy)  # noqa: S704 — our own file


def twin(comparison: Comparison) -> str:
    """The page as Markdown."""
    return _render("compare.md.j2", comparison)


def _render(template: str, comparison: Comparison, **more: Any) -> str:
    sides: Sequence[Any] = (("A", comparison.a, comparison.only_a), ("B", comparison.b, comparison.only_b))
    return (
        page.environment(template)
        .get_template(template)
        .render(
            comparison=comparison,
            sides=sides,
            summary=summary(comparison),
            turned=turned(comparison),
            text=text,
            pairs=dumbbell.rows(comparison.changes),
            header=HEADER,
            rows=list(zip(comparison.changes, rows(comparison), strict=True)),
            markdown=markdown,
            **more,
        )
    )
