"""The verdicts as one picture, for the preview of a link, a README, a slide: drawn without a browser."""

import textwrap
from collections.abc import Sequence
from html import escape

from theodolite.figures import raster
from theodolite.figures.theme import FONT
from theodolite.findings import Verdict
from theodolite.report import forest, overview, text
from theodolite.report.findings import StudyFindings
from theodolite.wording import shown

WIDTH, HEIGHT = 1200, 630  # pixels, as previews of links are
EDGE, TOP, GUTTER = 40, 132, 40
COLOURS = {"holds": "#00694f", "fails": "#a11d3a", "undecided": "#6b5200"}
INK, SOFT, LINE = "#1c2127", "#565e68", "#c3c8ce"
HIGHEST, LETTER = 26.0, 0.53  # pixels of a row at most; of its font, what a letter takes on average


def png(title: str, findings: Sequence[StudyFindings]) -> bytes:
    """The picture, 1200 by 630 pixels."""
    return raster.png(svg(title, findings), 1.0)


def svg(title: str, findings: Sequence[StudyFindings]) -> str:
    """Counts above, and below them a row a claim in two columns, study by study."""
    verdicts = [verdict for study in findings for verdict in study.verdicts]
    studies = [study for study in findings if study.verdicts]
    columns = _halves(studies)
    rows = max(sum(1 + len(study.verdicts) for study in column) for column in columns)
    high = min(HIGHEST, (HEIGHT - TOP - 44) / rows)
    wide = (WIDTH - 2 * EDGE - GUTTER) / 2
    parts = [_text(EDGE, 56, title, 30, weight=700), *_counts(verdicts)]
    for number, column in enumerate(columns):
        left, y = EDGE + number * (wide + GUTTER), float(TOP)
        for study in column:
            y += high
            parts.append(_text(left, y - 0.25 * high, text.short(study.title), 0.62 * high, weight=700))
            for verdict in study.verdicts:
                y += high
                parts += _row(verdict, left, y - high, wide, high)
    parts.append(
        _text(
            EDGE, HEIGHT - 18,
            "Line: the threshold. Right of it as claimed, left against the claim. Bars: 95 % intervals over seeds.",
            14, colour=SOFT,
        )
    )  # fmt: skip
    content = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="{escape(FONT)}"><rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{content}\n</svg>\n'
    )


def _halves(studies: Sequence[StudyFindings]) -> list[Sequence[StudyFindings]]:
    """Two columns, parted where they come nearest to each other in length."""
    lengths = [1 + len(study.verdicts) for study in studies]
    parted = min(range(1, len(studies) + 1), key=lambda at: abs(sum(lengths[:at]) - sum(lengths[at:])))
    return [part for part in (studies[:parted], studies[parted:]) if part]


def _counts(verdicts: Sequence[Verdict]) -> list[str]:
    parts = []
    for line, found in enumerate(overview.tallies(verdicts)):
        y, left = 94 + 28 * line, EDGE + 270.0
        parts.append(_text(EDGE, y, f"{found.name}: {found.total}", 19, colour=SOFT))
        for name, count in found.counts.items():
            word = name if name == "undecided" or count == 1 else name[:-1]
            parts.append(_text(left, y, f"{count} {word}", 19, colour=COLOURS[name], weight=700))
            left += 130
    return parts


def _row(verdict: Verdict, left: float, top: float, wide: float, high: float) -> list[str]:
    font, begin, across = 0.58 * high, left + 0.64 * wide, 0.3 * wide
    middle, centre, colour = top + high / 2, begin + across / 2, COLOURS[verdict.verdict_holm]
    label = textwrap.shorten(text.title(verdict), max(8, int(0.62 * wide / (LETTER * font))), placeholder=" …")
    parts = [
        _text(left, top + 0.7 * high, label, font),
        f'<path d="M{centre:.1f} {top:.1f}V{top + high:.1f}" stroke="{LINE}"/>',
        _text(
            begin + across + 16, top + 0.7 * high, text.SYMBOLS[verdict.verdict_holm], font, colour=colour, weight=700
        ),
    ]
    found = forest.strip(verdict)
    if found is None:
        return parts
    low, high_end = (centre + end * across / 2 for end in (found.low, found.high))
    bold = f'stroke="{colour}" stroke-width="{max(2.0, 0.16 * high):.1f}"'
    parts.append(f'<path d="M{low - 1:.1f} {middle:.1f}H{high_end + 1:.1f}" {bold}/>')
    if found.middle is not None:
        at = centre + found.middle * across / 2
        parts.append(f'<circle cx="{at:.1f}" cy="{middle:.1f}" r="{0.2 * high:.1f}" fill="{colour}"/>')
    return parts


def _text(x: float, y: float, said: str, size: float, *, colour: str = INK, weight: int = 400) -> str:
    look = f'font-size="{size:.1f}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(shown(said))}</text>'
