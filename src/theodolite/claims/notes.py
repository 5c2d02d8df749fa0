"""What the reader of a verdict must know, in sentences."""

from collections.abc import Sequence

import numpy as np

from theodolite.claims.needed import FEWEST
from theodolite.claims.ways import EveryLook, Way
from theodolite.wording import counted

ROUGH = "Rough: with so few seeds, the interval of a median assumes that they do not lie in two groups."


def note(way: Way, shown: str, looks: Sequence[int], *, rough: bool) -> str:
    """The evidence's own note, and what is special about the numbers and the looks at them.

    Args:
        way: to the verdict.
        shown: the task that it hangs on.
        looks: seeds planned at each.
        rough: whether it is so.
    """
    evidence, kind = way.parts[shown], way.claim.kind
    n = len(evidence.low)
    unknown = int(evidence.low.isna().sum())
    bounded = int((evidence.low < evidence.high).sum())
    infinite = int((np.isinf(evidence.low) & (evidence.low == evidence.high)).sum())
    said = [evidence.note]
    if len(way.parts) > 1:
        said.append(f"The decisive one of {len(way.parts)}: {shown}.")
    if not n:
        said.append("No seed has finished yet.")
    elif n < FEWEST:
        said.append(f"Fewer than {FEWEST} seeds decide nothing.")
    if bounded and not evidence.note:  # which else says why
        said.append(
            f"{bounded} of {counted(n, 'seed')} known only within bounds (a run did not get there within its epochs)."
        )
    if unknown:
        why = "a run diverged, or there was nothing to take it from"
        said.append(f"{unknown} of {counted(n, 'seed')} gave no number ({why}); taken at their worst.")
    if infinite:
        said.append(f"{infinite} of {counted(n, 'seed')} gave an infinite number, which leaves a mean without bound.")
    if n > 1 and kind != "share" and unknown + bounded == 0 and evidence.low.nunique() == 1:
        said.append("All seeds gave the same number, which does not say how far another may lie.")
    if rough:
        said.append(ROUGH)
    if isinstance(way, EveryLook) and n:
        said.append(_looked(way, shown, looks))
    return " ".join(filter(None, said))


def _looked(way: EveryLook, shown: str, looks: Sequence[int]) -> str:
    if way.until_decided:
        return f"Tested at every look{_listed(looks)}."
    if not way.first:
        return "Not all planned seeds are there: tested as at every look."
    first = len(way.first[shown].low)
    return f"Planned with {counted(first, 'seed')}: tested on these, and at every look since{_listed(looks)}."


def _listed(looks: Sequence[int]) -> str:
    """After how many seeds; of many looks the last four."""
    if len(looks) < 2:
        return ""
    *most, last = map(str, looks[-4:])
    return f", so far after {'…, ' if len(looks) > 4 else ''}{', '.join(most)} and {last} seeds"
