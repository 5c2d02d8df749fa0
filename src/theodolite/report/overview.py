"""The first screen: what was asked and done, the counts, and three claims for all; rules in docs/report.md."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from theodolite.findings import Decision, Verdict
from theodolite.report import forest
from theodolite.report.findings import StudyFindings
from theodolite.wording import counted

KINDS: tuple[tuple[str, Decision], ...] = (
    ("Surest hold", "holds"),
    ("Most surprising failure", "fails"),
    ("Most open question", "undecided"),
)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many claims of one kind of source hold, fail and are undecided, after Holm's correction."""

    name: str  # "of the report"
    counts: dict[Decision, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Card:
    """A claim that stands for its kind."""

    kind: str
    verdict: Verdict


def of_report(verdict: Verdict) -> bool:
    """Whether a claim is the report's own, or goes beyond it."""
    return verdict.source.startswith("report")


def tallies(verdicts: Sequence[Verdict]) -> list[Tally]:
    """The report's claims and those beyond it, apart; one count where there is but one kind."""
    own = [verdict for verdict in verdicts if of_report(verdict)]
    beyond = [verdict for verdict in verdicts if not of_report(verdict)]
    named = [("The report’s claims", own), ("Ours, beyond the report", beyond)] if own else [("Claims", beyond)]
    return [Tally(name, _counts(some)) for name, some in named if some]


def _counts(verdicts: Sequence[Verdict]) -> dict[Decision, int]:
    kinds: tuple[Decision, ...] = ("holds", "fails", "undecided")
    return {kind: sum(verdict.verdict_holm == kind for verdict in verdicts) for kind in kinds}


def tally(verdicts: Sequence[Verdict]) -> str:
    """The counts in a sentence, as the terminal ends with them."""
    parts = [
        f"{found.name}: {found.total}, of which "
        + ", ".join(
            f"{count} {word if count == 1 else words}"
            for count, word, words in zip(
                found.counts.values(),
                ("holds", "fails", "is undecided"),
                ("hold", "fail", "are undecided"),
                strict=True,
            )
        )
        for found in tallies(verdicts)
    ]
    return "; ".join(parts) + f" (after Holm's correction over all {len(verdicts)})." if parts else "No claims."


def cards(verdicts: Sequence[Verdict]) -> list[Card]:
    """One claim a kind: the surest that holds, the surest that fails, and of the undecided that nearest its threshold.

    The surest has the smallest p-value; where several are as small, its interval lies farthest from the threshold,
    measured in lengths of that interval. The most open has the largest p-value, and an estimate whose distance from
    the threshold is the smallest share of its interval. The report's own claims come first; rough ones do not stand
    for those that hold or fail.
    """
    found = []
    for kind, decision in KINDS:
        some = [v for v in verdicts if v.verdict_holm == decision and not (v.rough and decision != "undecided")]
        some = [v for v in some if of_report(v)] or some
        if some:
            found.append(Card(kind, min(some, key=_open if decision == "undecided" else _sure)))
    return found


def _sure(verdict: Verdict) -> tuple[float, float]:
    return (math.inf if verdict.p_value is None else verdict.p_value), -forest.clearance(verdict)


def _open(verdict: Verdict) -> tuple[bool, float, float]:
    p = 1.0 if verdict.p_value is None else verdict.p_value
    return verdict.estimate is None, -round(p, 6), forest.imbalance(verdict)


def asked(findings: Sequence[StudyFindings]) -> str:
    """What was asked, in one sentence."""
    claimed = [study for study in findings if study.verdicts]
    if len(claimed) == 1:
        return claimed[0].question
    if any(of_report(verdict) for study in claimed for verdict in study.verdicts):
        return (
            "One report made claims about how neural networks learn, each from a training or two; do they still hold "
            "when every experiment is repeated with other random numbers?"
        )
    return f"{counted(len(claimed), 'study', 'studies')} asked, each with its own experiment, whether its claims hold."


def done(findings: Sequence[StudyFindings]) -> str:
    """What was done, in one sentence, and what a small preset is worth in another."""
    ran = [study for study in findings if study.runs.done]
    seeds = sorted({study.runs.seeds for study in ran})
    each = "" if not seeds else f", with {_span(seeds)} {'seed' if seeds[-1] == 1 else 'seeds'} each"
    runs = sum(study.runs.done for study in ran)
    claims = sum(len(study.verdicts) for study in findings)
    said = (
        f"{counted(len(ran), 'experiment')} took {counted(runs, 'training or analysis', 'trainings and analyses')}"
        f"{each}, and {counted(claims, 'claim was', 'claims were')} tested against thresholds fixed before any of them."
    )
    if "smoke" in {study.preset for study in ran}:
        said += " This is the preset smoke, which only shows that everything runs: its verdicts are not to be cited."
    return said


def changed(verdicts: Sequence[Verdict]) -> str:
    """How many claims were changed since the first run, which the reader must know; empty where none was."""
    count = sum(verdict.changed for verdict in verdicts)
    if not count:
        return ""
    return (
        f"{count} of them {'was' if count == 1 else 'were'} changed since the first run and "
        f"{'does' if count == 1 else 'do'} not count as fixed beforehand."
    )


def _span(seeds: Sequence[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
