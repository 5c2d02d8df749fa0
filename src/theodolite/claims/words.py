"""A claim in a reader's words: a title, one sentence for each verdict with the numbers found, and where it is drawn."""

import math
import string
from collections.abc import Mapping
from dataclasses import dataclass

from theodolite.claims.intervals import Interval
from theodolite.errors import SettingError
from theodolite.findings import Decision
from theodolite.wording import Said

NAMES = ("estimate", "low", "high", "least", "most", "seeds")


@dataclass(frozen=True, slots=True)
class Words:
    """What a claim says and what was found, for a reader who knows a training curve and no statistics.

    Braces in the three sentences name numbers: ``{estimate}``, its interval from ``{low}`` to ``{high}``, ``{seeds}``,
    and the margin of the claim from ``{least}`` to ``{most}`` (the same number twice where it has one threshold). A
    format may follow, as in ``{estimate:.0%}``; without one, three significant digits are shown.
    """

    title: str = ""  # in a few words, as if it held; empty: the claim's sentence serves
    holds: str = ""  # a sentence; empty: statistic and interval serve
    fails: str = ""
    undecided: str = ""
    figures: tuple[str, ...] = ()  # names of the study's figures that show it; a * stands for anything
    names: tuple[tuple[str, str], ...] = ()  # identifiers that evidence names, and what a reader calls them

    def __post_init__(self) -> None:
        for sentence in (self.holds, self.fails, self.undecided):
            try:
                if any(name not in (None, *NAMES) for _, name, _, _ in string.Formatter().parse(sentence)):
                    raise KeyError("another name")  # nor an attribute of a number: sentences are read from folders
                sentence.format(**dict.fromkeys(NAMES, Said(0.5)))
            except (KeyError, IndexError, ValueError, AttributeError) as error:
                raise SettingError(
                    f"expected a sentence with only {', '.join(NAMES)} in braces, got {sentence!r:.120} ({error}). "
                    "Write a brace that is none of them twice."
                ) from None

    def said(self, text: str) -> str:
        """A text about the evidence, with the names that a reader knows.

        >>> Words(names=(("cnn_0", "CNN 0"),)).said("The decisive one of 3: cnn_0.")
        'The decisive one of 3: CNN 0.'
        """
        for identifier, name in self.names:
            text = text.replace(identifier, name)
        return text

    def filled(self, found: Interval, threshold: float | tuple[float, float], seeds: int) -> Mapping[Decision, str]:
        """Each sentence with its numbers; none where there is no number to name."""
        if math.isnan(found.estimate):
            return {}
        least, most = threshold if isinstance(threshold, tuple) else (threshold, threshold)
        numbers = {"estimate": found.estimate, "low": found.low, "high": found.high, "least": least, "most": most}
        said = {name: Said(number) for name, number in numbers.items()}
        bounded = math.isfinite(found.low) and math.isfinite(found.high)
        return {
            "holds": self.holds.format(seeds=seeds, **said),
            "fails": self.fails.format(seeds=seeds, **said),
            "undecided": self.undecided.format(seeds=seeds, **said) if bounded else "",
        }


PLAIN = Words()
