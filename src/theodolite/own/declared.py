"""What a user writes a study of one's own with: factors, a function, measurements and claims. Imports no torch.

Each mistake is told where it is made, before anything runs.
"""

import inspect
import re
import runpy
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from pydantic import ValidationError

from theodolite.claims import given
from theodolite.claims.intervals import Statistic
from theodolite.claims.planned import source_hash
from theodolite.claims.tested import HOW
from theodolite.claims.words import PLAIN, Words
from theodolite.errors import SettingError, UnknownName, UsageError
from theodolite.own import factors as levels_of
from theodolite.own.claimed import statistic as in_words
from theodolite.own.described import Claimed, said
from theodolite.own.factors import Label
from theodolite.own.values import METRICS
from theodolite.store.schema import first_line

Run = Callable[..., Any]  # (seed, factors by name) -> Trained, a dict of numbers, or DataFrames by name
R = TypeVar("R", bound=Run)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
NOT_SHOWN = (
    "Whether it is so at other levels, sizes or data than those that were run, and whether the code does what its "
    "author meant: it stands above, as it was run."
)


class OwnStudy:
    """A study of one's own: what :func:`study` gives. It runs nothing by itself."""

    def __init__(self, name: str, question: str, seeds: int, title: str, not_shown: str) -> None:
        self.name, self.question, self.seeds = name, question, seeds
        self.title, self.not_shown = title or name, not_shown or NOT_SHOWN
        self.function: Run | None = None
        self.factors: dict[str, dict[Label, Any]] = {}  # levels by label
        self.measures: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {}
        self.claims: dict[str, Claimed] = {}
        self.evidence: dict[str, Callable[..., Any]] = {}  # by claim

    def run(self, **factors: Any) -> Callable[[R], R]:
        """Make a function the run of this study: called as ``function(seed=…, **levels)`` for all levels and seeds.

        Before each call the seeds of torch, NumPy and ``random`` are set to ``seed``. Each call is one run, in a worker
        process. It returns a :class:`Trained`, a dict of numbers, or a dict of DataFrames by name.

        Args:
            factors: by name the list of its levels: numbers, text, tuples of them, functions or classes.

        Raises:
            SettingError: levels that are none, or print alike; or a function that does not take them.
        """
        checked = levels_of.levels(factors)

        def register(function: R) -> R:
            if self.function is not None:
                raise SettingError(f"expected one @study.run in '{self.name}', got a second. Make another study.")
            _check_signature(function, factors)
            self.function, self.factors = function, checked
            return function

        return register

    def measure(self, name: str, function: Callable[..., Any], **options: Any) -> None:
        """Measure each trained network in its worker: ``function(model, loss, data, **options)``.

        Args:
            name: by which claims know it: ``NAME.FIELD``.
            function: an instrument of :mod:`theodolite.measure`, or any function that returns a number, a vector, or a
                mapping of them.
            options: of the function.
        """
        if not callable(function):
            raise SettingError(f"expected a function to measure '{name}' with, got {type(function).__name__}.")
        if name == METRICS or name in self.measures or not NAME.fullmatch(name):
            raise SettingError(
                f"expected a name of its own for a measurement, of letters, digits, - and _, got '{name}'."
            )
        self.measures[name] = function, options

    def claim(
        self,
        id: str,  # noqa: A002 - the word that verdicts have
        sentence: str,
        *,
        value: str | None = None,
        compare: Mapping[str, tuple[Any, Any]] | None = None,
        how: Literal["difference", "ratio"] = "difference",
        statistic: Statistic = "mean",
        above: float | None = None,
        below: float | None = None,
        within: tuple[float, float] | None = None,
        evidence: Callable[..., Any] | None = None,
        source: str = "",
        words: Words = PLAIN,
    ) -> None:
        """Claim something of one number a seed. It is fixed before the first run.

        Over factors that a claim does not name it is tested within each level, and holds if it holds in all.

        Args:
            id: its name, the same for ever.
            sentence: what is claimed, in words.
            value: the number: ``metrics.NAME``, ``MEASURE.FIELD[.INDEX]`` or ``TABLE.COLUMN[.INDEX]``.
            compare: a factor, or several, each with its level in the first and in the second arm. Both share the seed.
            how: the ``difference`` first - second, or the ``ratio`` first / second of positive numbers.
            statistic: over seeds: ``mean``, ``median``; without ``compare`` also ``ratio``, ``share``, ``correlation``
                and ``median_ratio`` (:func:`theodolite.claims.test`).
            above: the claim is that it lies above this.
            below: or below this.
            within: or between these two.
            evidence: for all else: a function of the study's records that gives one number a seed.
            source: who says so: a paper, a figure.
            words: a title, and a sentence for each verdict, for a reader: :class:`theodolite.claims.Words`.

        Raises:
            SettingError: what cannot be tested; the message says what was expected.
            UnknownName: a factor or level that is not there; the closest is named.
        """
        if not NAME.fullmatch(id) or id in self.claims:
            raise SettingError(f"expected a name of its own for a claim, of letters, digits, - and _, got '{id}'.")
        if (value is None) == (evidence is None):
            raise SettingError(
                f"expected value= or evidence= in claim '{id}', got {'none' if value is None else 'both'}."
            )
        if evidence is not None and (compare or not callable(evidence)):
            raise SettingError(
                f"expected evidence= of claim '{id}' as a function of the records alone, without compare=."
            )
        if value is not None and "." not in str(value):
            raise SettingError(
                f"expected value= of claim '{id}' as metrics.NAME, MEASURE.FIELD or TABLE.COLUMN, got {value!r}. For "
                "example: "
                f"'metrics.{value}'"
            )
        arms = self._arms(id, compare or {})
        kind: Statistic = statistic
        if arms:
            if (how, statistic) not in HOW:
                raise SettingError(
                    f"expected how='difference' or 'ratio' and statistic='mean' or 'median' in claim '{id}', got "
                    f"{how!r} and {statistic!r}."
                )
            kind = HOW[how, statistic]
        tested = given.claim(kind, above, below, within, 0.95)
        told = in_words(value, arms, how, kind) if value else f"{kind} of what {_name(evidence)} gives"
        try:
            self.claims[id] = Claimed(
                id=id, sentence=str(sentence), source=source or "own", value=value, compare=arms, how=how, kind=kind,
                side=tested.side, threshold=tested.threshold, statistic=told,
                made_by="" if evidence is None else source_hash(evidence), words=said(words),
            )  # fmt: skip
        except ValidationError as error:
            raise SettingError(f"claim '{id}': {first_line(error)}.") from None
        if evidence is not None:
            self.evidence[id] = evidence

    def main(self) -> None:
        """Run this file as ``theodolite run FILE.py`` does, with the same options."""
        file = getattr(sys.modules["__main__"], "__file__", None)
        if file is None:
            raise UsageError("expected a study in a file, which workers can read, got none. Save it, and run the file.")
        sys.argv = ["theodolite", "run", f"{Path(file)}:{self.name}", *sys.argv[1:]]
        runpy.run_module("theodolite", run_name="__main__")  # the command line, which lies above this room

    def check(self) -> None:
        """What can only be told once all is written.

        Raises:
            SettingError: there is nothing to run.
            UnknownName: a claim names a measurement that is not there.
        """
        if self.function is None:
            raise SettingError(f"expected a function under @study.run(…) in study '{self.name}', got none. Add it.")
        for claim in self.claims.values():
            name, _, field = str(claim.value).partition(".")
            known = _fields(self.measures[name][0]) if name in self.measures else ()
            if known and field.partition(".")[0] not in known:
                raise UnknownName(f"field of '{name}', which claim '{claim.id}' names,", field, known)

    def _arms(self, claim: str, compare: Mapping[str, Any]) -> dict[str, tuple[Label, Label]]:
        arms: dict[str, tuple[Label, Label]] = {}
        if compare and self.function is None:
            raise SettingError(
                f"expected @study.run above claim '{claim}', which compares levels of its factors. Move it."
            )
        for name, both in compare.items():
            if not isinstance(both, tuple | list) or len(both) != 2:
                raise SettingError(f"expected two levels of '{name}' to compare in claim '{claim}', got {both!r:.60}.")
            first, second = (levels_of.found(name, level, self.factors) for level in both)
            if first == second:
                raise SettingError(f"expected two levels of '{name}' in claim '{claim}', got {first!r} twice.")
            arms[name] = (first, second)
        return arms


def study(name: str, *, question: str = "", seeds: int = 8, title: str = "", not_shown: str = "") -> OwnStudy:
    """A study of one's own, in any file; ``theodolite run FILE.py`` runs it.

    Args:
        name: of its folder, and in verdicts.
        question: what it asks, for the page.
        seeds: runs of each combination of levels, unless ``--seeds`` says other.
        title: for the page; the name by default.
        not_shown: what it does not show, for the page.

    Raises:
        SettingError: a name that is none for a folder, or is taken; no number of seeds.

    Example:
        >>> coin = study("coin", question="Is it fair?", seeds=20)
        >>> @coin.run(side=[0, 1])
        ... def toss(seed, side):
        ...     return {"came": (seed * 7919 + side) % 2}
        >>> coin.claim("fair", "Each side comes as often.", value="metrics.came", statistic="share", within=(0.2, 0.8))
        >>> list(coin.claims)
        ['fair']
    """
    check_name(name)
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise SettingError(f"expected seeds as a whole number from 1 on, got {seeds!r}.")
    return OwnStudy(name, question, seeds, title, not_shown)


def check_name(name: Any) -> None:
    """Raise SettingError where a study of one's own may not be called so."""
    from theodolite import studies
    from theodolite.recordings.trainings import NAME as RECORDINGS

    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > 100:
        raise SettingError(f"expected a study's name of letters, digits, - and _, got {name!r:.60}. It names a folder.")
    if name in studies.INDEX or name == RECORDINGS:
        raise SettingError(
            f"expected a name of its own for a study, got '{name}', which Theodolite has. Choose another."
        )


def _check_signature(function: Any, factors: Mapping[str, Any]) -> None:
    name = _name(function)
    if not callable(function):
        raise SettingError(f"expected a function under @study.run, got {type(function).__name__}.")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise SettingError(f"expected {name} to be a plain function that returns, got one that yields or awaits.")
    parameters = inspect.signature(function).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    wanted = ["seed", *factors]
    missing = [name for name in wanted if name not in parameters and not free]
    extra = [
        n
        for n, p in parameters.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and n not in wanted
    ]
    if missing or extra:
        what = f"no '{missing[0]}'" if missing else f"'{extra[0]}', which is no factor"
        raise SettingError(f"expected {name}({', '.join(wanted)}), got {what}. Give it these arguments.")


def _fields(function: Any) -> tuple[str, ...]:
    """Of the result of an instrument; none where nothing says what it returns."""
    try:
        returned = get_type_hints(function).get("return")
    except Exception:  # an annotation may be anything, and name what is not imported
        return ()
    return (
        tuple(field.name for field in fields(returned)) if isinstance(returned, type) and is_dataclass(returned) else ()
    )


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
