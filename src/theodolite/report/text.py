"""Numbers, intervals and tables as text: the same on the page and in Markdown."""

import fnmatch
import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from theodolite.claims import Change
from theodolite.findings import Decision, Figure, Table, Verdict
from theodolite.report.findings import StudyFindings
from theodolite.store import tables
from theodolite.wording import counted, rounded, signed

NONE = "–"
SYMBOLS = {"holds": "✓", "fails": "✗", "undecided": "?"}
CHANGED = "changed since the first run"
BEGINNING = 12  # letters by which two sentences are about the same


def number(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits; whole numbers in full, anything else as it is.

    >>> [number(x) for x in (0.41234, 0.99968, 1234.5, 671, 0.00001234, float("inf"), None, True, "1-15-1")]
    ['0.412', '1.00', '1234', '671', '1.23e−5', '∞', '–', 'yes', '1-15-1']
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or value is pd.NA or value is pd.NaT:
        return NONE
    if isinstance(value, int | np.integer):
        return signed(f"{int(value)}")
    return rounded(float(value), digits) if isinstance(value, float | np.floating) else str(value)


def setting(value: object) -> str:
    """A setting as it was given: not rounded, nothing padded.

    >>> [setting(x) for x in (0.001, None, True, (-1.0, 1.0), (), "cos")]
    ['0.001', 'none', 'yes', '-1, 1', 'none', 'cos']
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value)) or "none"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def estimate(verdict: Verdict) -> str:
    """The estimate with its interval; an end that nothing bounds is open.

    Digits follow the width of the interval, so that neither estimate nor ends say more than is known.
    """
    return _with_ends(verdict.estimate, *verdict.interval)


def change(found: Change) -> str:
    """How far two estimates lie apart, with the interval of that: ``× 0.500 [0.350, 0.710]`` or ``+0.0200 [...]``."""
    ends = found.change
    written = _with_ends(*map(finite, (ends.estimate, ends.low, ends.high)))
    if written == NONE:
        return NONE
    if found.ratio:
        return f"× {written}"
    return f"+{written}" if math.isfinite(ends.estimate) and ends.estimate > 0 else written


def finite(value: float) -> float | None:
    """The number, or None where it is none."""
    return value if math.isfinite(value) else None


def _with_ends(middle: float | None, low: float | None, high: float | None) -> str:
    digits = 3
    if low is not None and high is not None and high > low:
        largest = max(abs(low), abs(high))
        digits = min(8, max(3, 1 + math.ceil(math.log10(largest / (high - low)))))
    return _interval(middle, low, high, digits)


def _interval(middle: float | None, low: float | None, high: float | None, digits: int) -> str:
    """A number before its interval; an end that nothing bounds is open, and of what is unknown nothing is said."""
    if middle is None and low is None and high is None:
        return NONE
    begin = "(−∞" if low is None else f"[{number(low, digits)}"
    end = "∞)" if high is None else f"{number(high, digits)}]"
    return f"{number(middle, digits)} {begin}, {end}"


def threshold(verdict: Verdict) -> str:
    """The threshold, or both ends of the margin."""
    limits = verdict.threshold if isinstance(verdict.threshold, tuple) else (verdict.threshold,)
    return " to ".join(map(_limit, limits))


def _limit(value: float) -> str:
    """A threshold in full, with the same minus sign as estimates have."""
    return signed(setting(value))


def claimed(verdict: Verdict) -> str:
    """The threshold with its direction: ``> 10``, ``< 1``, ``0.8 to 1.25``."""
    side = {"above": "> ", "below": "< "}.get(verdict.claimed.partition(" ")[0], "")
    return side + threshold(verdict)


def decision(verdict: Verdict) -> str:
    """The verdict by itself in words behind its symbol, whether it is rough, and whether its claim was changed."""
    return _decided(verdict.verdict, verdict)


def corrected(verdict: Verdict) -> str:
    """The verdict after Holm's correction: the page's, wherever it does not say otherwise."""
    return _decided(verdict.verdict_holm, verdict)


def _decided(decision: Decision, verdict: Verdict) -> str:
    rough = verdict.rough and decision != "undecided"
    marks = [decision, *(["rough"] if rough else []), *([CHANGED] if verdict.changed else [])]
    return f"{SYMBOLS[decision]} {', '.join(marks)}"


def title(verdict: Verdict) -> str:
    """A claim in a few words; where it has none, its sentence, or else its name."""
    return verdict.title or verdict.sentence.rstrip(".") or verdict.id


def short(title: str) -> str:
    """The name of a study in a list: what stands before the colon of its title.

    >>> short("Sensitivity: how strongly the loss reacts to the input, by batch size")
    'Sensitivity'
    """
    return title.partition(":")[0]


def heading(figure: Figure) -> tuple[str, str]:
    """The number of a figure of the report, if it has one, and what it is about.

    >>> heading(Figure("f", "Figure 1 (left): fits of cos", None, "", "")), heading(Figure("g", "Paths", None, "", ""))
    (('Figure 1', 'Fits of cos'), ('', 'Paths'))
    """
    found = re.fullmatch(r"(Figure \d+)[^:]*: (.+)", figure.title, flags=re.DOTALL)
    return (found[1], found[2][:1].upper() + found[2][1:]) if found else ("", figure.title)


def panelled(figures: Sequence[Figure]) -> list[list[Figure]]:
    """Figures one by one; those that follow one another under one number of the report together, as its panels."""
    numbered = [(heading(figure)[0] or figure.name, figure) for figure in figures]
    return [[figure for _, figure in some] for _, some in itertools.groupby(numbered, key=lambda one: one[0])]


def common(study: StudyFindings) -> list[str]:
    """Sentences that stand below at least three figures of a study, to be said once for all of them.

    Short ones stay where they are ("8 seeds."), and so does what some figures say otherwise.
    """
    said = [dict.fromkeys(_sentences(figure.caption)) for figure in study.figures]
    counts = Counter(itertools.chain.from_iterable(said))
    begun = Counter(sentence[:BEGINNING] for sentence in counts)
    return [one for one, n in counts.items() if n >= 3 and len(one) >= 30 and begun[one[:BEGINNING]] == 1]


def _sentences(caption: str) -> list[str]:
    return re.split(r"(?<=\.)(?<! al\.) (?=[A-Z\d])", caption)


def brief(caption: str, known: Sequence[str]) -> str:
    """A caption without the sentences that are said elsewhere."""
    return " ".join(one for one in _sentences(caption) if one not in known)


def captions(panels: Sequence[Figure], known: Sequence[str] = ()) -> list[tuple[str, str]]:
    """What is said below panels, once where it is the same for all, with the letters of those that it is about."""
    letters: dict[str, str] = {}
    for letter, figure in zip("abcdefghij", panels, strict=False):
        caption = brief(figure.caption, known)
        letters[caption] = ", ".join(filter(None, (letters.get(caption), letter)))
    return [(caption, names if len(letters) > 1 else "") for caption, names in letters.items()]


def quoted(panels: Sequence[Figure]) -> list[str]:
    """The report's own statements about panels, each once."""
    return list(dict.fromkeys(figure.report for figure in panels if figure.report))


def named(panels: Sequence[Figure], study: StudyFindings) -> list[Verdict]:
    """The claims that panels show, in the order of the study."""
    return [verdict for verdict in study.verdicts if any(_shows(figure, verdict) for figure in panels)]


def argued(verdicts: Sequence[Verdict]) -> str:
    """What a figure shows, for its title: the finding of its first claim that is decided, or else of the first said."""
    said = [verdict for verdict in verdicts if verdict.finding]
    return next(
        (verdict.finding for verdict in said if verdict.verdict_holm != "undecided"), said[0].finding if said else ""
    )


def shown_in(verdict: Verdict, study: StudyFindings) -> list[Figure]:
    """The figures that show a claim, one of each number of the report."""
    found = [figure for figure in study.figures if _shows(figure, verdict)]
    return list({heading(figure): figure for figure in reversed(found)}.values())[::-1]


def _shows(figure: Figure, verdict: Verdict) -> bool:
    return any(fnmatch.fnmatchcase(figure.name, name) for name in verdict.figures)


def statistic(verdict: Verdict) -> str:
    """What was tested, with what is claimed of it."""
    return "; claimed: ".join(filter(None, (verdict.statistic, verdict.claimed)))


def finding(verdict: Verdict) -> str:
    """What was found, for a reader: the study's own sentence, or statistic and interval where it has none."""
    return verdict.finding or words(verdict)


def words(verdict: Verdict) -> str:
    """What was found, for people in a hurry: the estimate, its interval, and on which side of the threshold it lies.

    "epochs to convergence, 6 layers / 4 layers: 0.412 [0.336, 0.491], all of it below 0.5, as claimed."
    """
    if verdict.estimate is None and verdict.note:
        return f"No estimate yet. {verdict.note}"
    if verdict.estimate is None and verdict.interval == (None, None):
        return f"{_begun(verdict.statistic)}: no number yet; claimed {verdict.claimed or threshold(verdict)}."
    ends = {"holds": ", as claimed", "fails": ", against the claim", "undecided": ""}
    parts = [f"{_begun(verdict.statistic)}: {estimate(verdict)}, {_place(verdict)}{ends[verdict.verdict]}."]
    if verdict.verdict == "undecided":
        parts += [f"Claimed {verdict.claimed}." if verdict.claimed else "", verdict.note]
        parts.append(f"About {verdict.needed_seeds} seeds would decide it." if verdict.needed_seeds else "")
    return " ".join(filter(None, parts))


def _begun(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _place(verdict: Verdict) -> str:
    """Where the interval lies, seen from the threshold or the margin."""
    low, high = (math.inf * sign if end is None else end for end, sign in zip(verdict.interval, (-1, 1), strict=True))
    limits = verdict.threshold if isinstance(verdict.threshold, tuple) else (verdict.threshold, verdict.threshold)
    if verdict.verdict == "undecided":
        return "too few seeds to say" if verdict.seeds < 3 else _across(_crossed(verdict))
    if high < limits[0]:
        return f"all of it below {_limit(limits[0])}"
    if low > limits[1]:
        return f"all of it above {_limit(limits[1])}"
    return f"all of it between {threshold(verdict).replace(' to ', ' and ')}"


def _across(limits: list[float]) -> str:
    """What an undecided interval includes: "including the threshold 0.5", "including both limits, 0.8 and 1.25"."""
    named = " and ".join(map(_limit, limits))
    return f"including the threshold {named}" if len(limits) == 1 else f"including both limits, {named}"


def _crossed(verdict: Verdict) -> list[float]:
    limits = verdict.threshold if isinstance(verdict.threshold, tuple) else (verdict.threshold,)
    low, high = (math.inf * sign if end is None else end for end, sign in zip(verdict.interval, (-1, 1), strict=True))
    return [limit for limit in limits if low <= limit <= high] or list(limits)


def tied(text: str) -> str:
    """A text whose numbers stay on one line with their per cent signs, and the ends of an interval with each other.

    >>> tied("the middle 80 % of seeds"), tied("0.5 [−1.2, 3], once (−∞, ∞)")
    ('the middle 80\\xa0% of seeds', '0.5 [−1.2,\\xa03], once (−∞,\\xa0∞)')
    """
    return re.sub(
        r"([\[(][−\d.e∞]+,) (?=[−\d.e∞]+[\])])", "\\1\N{NO-BREAK SPACE}", text.replace(" %", "\N{NO-BREAK SPACE}%")
    )


def remarks(verdict: Verdict) -> str:
    """What the reader must know beside the verdict: Holm's correction, seeds that would decide, the note."""
    parts = []
    if verdict.changed:
        parts.append("The claim, or how its numbers are taken, was changed since the first run: not fixed beforehand.")
    if verdict.verdict_holm != verdict.verdict:
        parts.append(f"By itself it {verdict.verdict}; with Holm's correction it is undecided.")
    if verdict.needed_seeds is not None:
        parts.append(f"About {verdict.needed_seeds} seeds would decide it.")
    return " ".join([*parts, *([verdict.note] if verdict.note else [])])


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> [duration(s) for s in (0.31, 42.2, 200.0, 7300.0)]
    ['0.3 s', '42 s', '3 min 20 s', '2 h 2 min']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def took(study: StudyFindings) -> str:
    """How long the runs took and how they ended, in one sentence or a few."""
    runs = study.runs
    if not runs.done + runs.failed:
        planned = counted(runs.unfinished, "is", "are")
        return f"No {'run' if runs.kind == 'runs' else 'analysis'} is finished yet; {planned} planned."
    done = counted(runs.done, *(("run",) if runs.kind == "runs" else ("analysis", "analyses")))
    parts = [
        f"{done} with {counted(runs.seeds, 'seed')} took {duration(runs.wall_seconds)} of one worker's time"
        + (f" on {runs.device}." if runs.device else ".")
    ]
    outcomes = (
        (runs.diverged, "diverged", "diverged"),
        (runs.censored, "did not converge within its epochs", "did not converge within their epochs"),
        (runs.failed, "failed", "failed"),
        (runs.unfinished, "is not finished", "are not finished"),
    )
    parts += [f"{counted(*outcome)}." for outcome in outcomes if outcome[0]]
    if runs.ended_by:
        names = ", ".join(dict.fromkeys(runs.ended_by))
        parts.append(f"{counted(len(runs.ended_by), 'training was', 'trainings were')} ended by an error ({names}).")
    elif not runs.diverged and not runs.failed:
        parts.append("None diverged or failed.")
    if runs.versions:
        parts.append("Versions: " + ", ".join(f"{name} {version}" for name, version in runs.versions.items()) + ".")
    return " ".join(parts)


def made(study: StudyFindings) -> dict[str, str]:
    """How a study was made, as name and value: preset, seeds, runs by how they ended, time, device, versions."""
    runs = study.runs
    return {
        "preset": study.preset,
        "seeds": str(runs.seeds),
        "runs done": str(runs.done),
        "diverged": str(runs.diverged),
        "not converged (censored)": str(runs.censored),
        "failed": str(runs.failed),
        "not finished": str(runs.unfinished),
        "wall time of all runs": duration(runs.wall_seconds),
        "device": runs.device or NONE,
    } | {f"version of {name}": version for name, version in runs.versions.items()}


def verdict_row(verdict: Verdict) -> list[str]:
    """A verdict as cells of the Markdown table."""
    return [
        title(verdict),
        corrected(verdict),
        estimate(verdict),
        claimed(verdict),
        str(verdict.seeds),
        verdict.verdict,
    ]


def header(table: Table) -> list[str]:
    """The columns to show: the ends of an interval, ``X low`` and ``X high``, stand with their ``X``."""
    columns = [str(column) for column in table.frame.columns]
    ends = {f"{column} {end}" for column in columns for end in ("low", "high")}
    return [column for column in columns if column not in ends]


def cells(table: Table) -> list[list[str]]:
    """The rows of a table as text, floats rounded to its digits, intervals behind their estimate."""
    columns = [_column(table, name) for name in header(table)]
    return [list(row) for row in zip(*columns, strict=True)]


def parted(cell: str) -> tuple[str, str]:
    """A cell as its number and the interval behind it, which the page sets below.

    >>> parted("0.512 [0.400, ∞)"), parted("Model 1")
    (('0.512', '[0.400, ∞)'), ('Model 1', ''))
    """
    found = re.fullmatch(r"([−–\d.e∞]+) ([\[(][−\d.e∞]+, [−\d.e∞]+[\])])", cell)
    return (found[1], found[2]) if found else (cell, "")


def _column(table: Table, name: str) -> list[str]:
    if f"{name} low" not in table.frame:
        return [number(value, table.digits) for value in table.frame[name]]
    numbers = (table.frame[column].astype("float64") for column in (name, f"{name} low", f"{name} high"))
    return [_interval(finite(x), finite(a), finite(b), table.digits) for x, a, b in zip(*numbers, strict=True)]


def numeric(table: Table) -> list[bool]:
    """Which columns hold numbers, to be set flush right."""
    kinds = [table.frame[name].dtype for name in header(table)]
    return [pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind) for kind in kinds]


def csv(table: Table) -> bytes:
    """All digits; the same table gives the same bytes."""
    return tables.to_csv(table.frame)
