"""A broken transfer is tried again; a set that several places hold is taken from the first that has it."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from theodolite.errors import DataCorrupt, DataUnavailable, MissingExtra

T = TypeVar("T")

TRIES = 3
PAUSE = 0.5  # seconds before the second try; doubled before the third


class Broken(Exception):
    """A transfer that may work when tried again."""


def retried(action: Callable[[], T], *, told: Callable[[str], None], tries: int = TRIES, pause: float = PAUSE) -> T:
    """Call until it is not :class:`Broken`, with a short, doubling pause.

    Raises:
        DataUnavailable: every try was broken; the message is the last one's.
    """
    for number in range(1, tries + 1):
        try:
            return action()
        except Broken as error:
            if number == tries:
                raise DataUnavailable(f"{error} (tried {tries} times)") from error
            told(f"{error}; trying again")
            time.sleep(pause * 2 ** (number - 1))
    raise ValueError(f"expected at least one try, got {tries}")


def first_that_has(
    name: str, places: Sequence[tuple[str, Callable[[], T]]], *, skipped: Sequence[str], advice: str
) -> tuple[T, str]:
    """Ask one place after the other.

    Args:
        name: of the data set.
        places: what each is called, and a call that gives the set or raises a DataError or MissingExtra.
        skipped: why places asked before did not have it, a sentence each.
        advice: what a person can do if none has it.

    Returns:
        What the place gave, and its name.

    Raises:
        DataUnavailable: none has it; the message holds each one's own words.
    """
    reasons = list(skipped)
    for place, call in places:
        try:
            return call(), place
        except (DataUnavailable, DataCorrupt, MissingExtra) as error:
            reasons.append(f"{place}: {error}")
    found = "; ".join(reason.rstrip(".") for reason in reasons)
    raise DataUnavailable(
        f"expected the data set '{name}' here or at one of its origins, got it nowhere. {found}. {advice}"
    )
