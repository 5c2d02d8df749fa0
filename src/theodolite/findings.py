"""What a survey finds: verdicts, tables and figures. Imports no torch."""

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

Decision = Literal["holds", "fails", "undecided"]


class Part(BaseModel):
    """One task of a claim about several: its own estimate and interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    estimate: float | None
    interval: tuple[float | None, float | None]
    seeds: int
    verdict: Decision  # of this task by itself


class Verdict(BaseModel):
    """What became of one claim: an entry of ``claims.json``, whose fields are fixed.

    ``estimate`` and ``interval`` are in the statistic's own unit; an end that nothing bounds is None. Fields with a
    default are newer than the others: files of earlier versions lack them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    id: str
    sentence: str  # the report's words, or ours where the study goes beyond it
    source: str  # where they stand: "report, Figure 1", or "beyond"
    statistic: str  # in words: "R² inside the domain, the worst of three models"
    claimed: str = ""  # side and threshold in words: "below 0.5"; empty in files that have them in ``statistic``
    estimate: float | None
    interval: tuple[float | None, float | None]
    level: float  # 0.95
    threshold: float | tuple[float, float]  # a pair: the margin of an equivalence test
    seeds: int
    verdict: Decision
    verdict_holm: Decision  # with Holm's correction over all claims of the survey
    needed_seeds: int | None  # seeds that would decide it, where undecided and estimable
    preset: str
    note: str = ""
    title: str = ""  # in a few words, as if it held
    finding: str = ""  # what was found, for a reader: by ``verdict``, and what Holm's correction makes of it
    caveat: str = ""  # of the note, what the study itself says: a second look that may turn the finding round
    figures: tuple[str, ...] = ()  # of its study that show it, by name; a * stands for anything
    kind: str = ""  # of the statistic over seeds: mean, ratio, correlation, share, median, median_ratio
    p_value: float | None = None  # smallest 1 - level at which it is decided; 1 where it never is
    looks: int = 1  # how often the numbers were looked at so far
    rough: bool = False  # of a median of so few seeds that its interval assumes one group
    changed: bool = False  # not what was planned before the first run: it does not count as fixed beforehand
    parts: tuple[Part, ...] = ()  # the tasks of a claim about several: estimate and interval are the decisive one's


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a study. ``frame`` holds values for CSV; page and Markdown round, and join X, X low, X high."""

    name: str  # file name without its ending: "table-1"
    title: str
    frame: pd.DataFrame
    caption: str = ""
    digits: int = 3  # significant


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a study, as a Vega-Lite specification: one source for PNG, SVG, PDF and the page."""

    name: str  # file name without its ending: "figure-1-cos"
    title: str
    chart: Any  # altair chart, or figures.theme.plain of one
    caption: str  # what it shows, number of seeds, what the band is
    alt: str  # the finding, for those who cannot see it
    report: str = ""  # the report's own statement about it
