"""Figures of whatever a recorder wrote down: numbers and vectors over the steps, and densities.

What a figure shows follows from the tables alone, so that instruments of the user's own are drawn as ours are.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from theodolite.figures.curves import BAND, curves
from theodolite.figures.scales import Axis
from theodolite.figures.theme import PALETTE
from theodolite.findings import Figure
from theodolite.wording import counted

ABOUT = {  # how a number was found, not what was found
    "check", "check_error", "converged", "evaluations", "interrupted", "mean_standard_error", "parameters", "products",
    "radius", "residuals", "samples", "standard_error", "tolerance", "width",
}  # fmt: skip
WORDS = {
    "loss": "loss on the measured data",
    "norms": "norm of the gradient",
    "eigenvalues": "eigenvalue",
    "mean": "mean eigenvalue",
}
PLACES = ("largest", "2nd", "3rd", "4th", "5th", "6th", "7th")
LINES = len(PALETTE)  # of one figure, at most
PANELS = 3  # side by side, at most
SPAN = 30.0  # an axis is logarithmic where its numbers span more than this
QUANTILES = {
    "largest": 1.0,
    "90 % below": 0.9,
    "median of those recorded": 0.5,
    "10 % below": 0.1,
    "smallest recorded": 0.0,
}
DENSITIES = 5  # steps whose densities are drawn
DECADES = 6  # of a density, below its peak

Tables = Mapping[str, pd.DataFrame]


def draw(found: Tables) -> list[Figure]:
    """Figures of the tables ``numbers`` and ``vectors``, which say of each row of which ``training`` it is.

    That is its labels in words, nothing where there are none; seeds of one training make the bands.
    """
    numbers, vectors = (found.get(name, pd.DataFrame()) for name in ("numbers", "vectors"))
    return [*_number_figures(numbers), *_vector_figures(vectors)]


def _number_figures(numbers: pd.DataFrame) -> Iterator[Figure]:
    if not len(numbers):
        return
    drawn = set()
    for instrument, own in numbers.groupby("instrument", sort=False):
        known = list(dict.fromkeys(own["quantity"]))
        plain = [q for q in known if "." not in q and q not in ABOUT and q != "loss"]
        for quantity in ["value"] if "value" in plain else plain:
            yield _curves(own[own["quantity"] == quantity], str(instrument), quantity)
        split = own["quantity"].str.partition(".")  # field.key: one of the many numbers of a field
        parts = own.assign(field=split[0], line=split[2])[split[1] == "."]
        for field, part in parts.groupby("field", sort=False):
            yield from _lines(part, str(instrument), str(field), "part of the model")
        if "loss" in known and "loss" not in drawn:
            drawn.add("loss")
            yield _curves(own[own["quantity"] == "loss"], str(instrument), "loss")


def _curves(table: pd.DataFrame, instrument: str, quantity: str) -> Figure:
    """One number over the steps, a line a label."""
    title = _title(instrument, quantity)
    at = _when(table)
    trainings = list(dict.fromkeys(table["training"]))[:LINES]
    shown = table[table["training"].isin(trainings)]
    shown = shown.assign(training=shown["training"].astype(str).where(shown["training"] != "", title))
    first, last = (shown.groupby("fingerprint")["value"].agg(which).median() for which in ("first", "last"))
    return Figure(
        _name(instrument, quantity),
        title[:1].upper() + title[1:],
        curves(shown, x=axis_of(at, at, shown[at]), y=axis_of("value", title, shown["value"]), series="training"),
        f"As measured by {instrument}. {who(shown)}{left_out(table, trainings)}",
        f"The median {title} goes from {first:.3g} at the first measurement to {last:.3g} at the last.",
    )


def _lines(table: pd.DataFrame, instrument: str, quantity: str, what: str, column: str = "line") -> Iterator[Figure]:
    """Several numbers of one kind over the steps, a line each, a panel a training."""
    title = _title(instrument, quantity)
    at = _when(table)
    medians = table.groupby(column, sort=False)["value"].median()
    names = [name for name in medians.index if name in set(medians.nlargest(LINES).index)]
    trainings = list(dict.fromkeys(table["training"]))[:PANELS]
    shown = table[table[column].isin(names) & table["training"].isin(trainings)]
    shown = shown[np.isfinite(shown["value"])]
    if len(names) < 2 or not len(shown):
        return
    more = f" The {LINES} with the largest median of {len(medians)}." if len(medians) > LINES else ""
    more += " Ranks are among the entries recorded." if what == "rank" else ""
    chart = curves(
        shown,
        x=axis_of(at, at, shown[at]),
        y=axis_of("value", title, shown["value"]),
        series=column,
        panel="training" if len(trainings) > 1 else None,
    )
    last = shown[shown[at] == shown[at].max()].groupby(column)["value"].median()
    yield Figure(
        f"{_name(instrument, quantity)}-lines",
        f"{title[:1].upper()}{title[1:]}, by {what}",
        chart,
        f"As measured by {instrument}.{more} {who(shown)}{left_out(table, trainings)}",
        f"At the last measurement the largest is that of {last.idxmax()}, {last.max():.3g}.",
    )


def _vector_figures(vectors: pd.DataFrame) -> Iterator[Figure]:
    if not len(vectors):
        return
    for instrument, own in vectors.groupby("instrument", sort=False):
        known = list(dict.fromkeys(own["quantity"]))
        if {"grid", "density"} <= set(known):
            yield from _densities(own, str(instrument))
        for quantity in dict.fromkeys(vectors_found(own)["quantity"]):
            part = own[own["quantity"] == quantity]
            what = f"rank among the {_lengths(part)} recorded at a time"
            yield from _lines(ranked(part), str(instrument), quantity, what)


def vectors_found(vectors: pd.DataFrame) -> pd.DataFrame:
    """The rows that say what was found: without how it was found, and without densities, which are curves."""
    known = vectors.groupby("instrument")["quantity"].agg(set)
    curves_ = {name for name, own in known.items() if {"grid", "density"} <= own}
    about = vectors["quantity"].isin(ABOUT)
    curve = vectors["instrument"].isin(curves_) & vectors["quantity"].isin({"grid", "density"})
    return vectors[~about & ~curve]


def ranked(part: pd.DataFrame) -> pd.DataFrame:
    """One quantity's vectors by rank: a row for each ``line`` of each measurement.

    Ranks are among what was recorded, which may be the largest few of many.
    """
    longest = int(part["place"].max()) + 1
    keys = ["fingerprint", "seed", "training", "step", "epoch"]
    rows = [
        dict(zip([*keys, "line", "value"], (*key, line, value), strict=True))
        for key, entries in part.groupby(keys, sort=False)["value"]
        for line, value in _entries(entries.to_numpy(), longest)
    ]
    return pd.DataFrame(rows)


def _lengths(part: pd.DataFrame) -> str:
    """How many entries a vector has, over all measurements: ``20``, or ``3 to 20``."""
    lengths = part.groupby(["fingerprint", "step", "epoch"])["place"].max() + 1
    low, high = int(lengths.min()), int(lengths.max())
    return f"{high}" if low == high else f"{low} to {high}"


def _entries(values: npt.NDArray[np.float64], longest: int) -> Iterator[tuple[str, float]]:
    """Each entry of a short vector, the largest first; quantiles of a long one, all of what was recorded."""
    if longest <= LINES:
        yield from zip(PLACES, np.sort(values)[::-1], strict=False)
    else:
        yield from ((name, float(np.quantile(values, q))) for name, q in QUANTILES.items())


def _densities(table: pd.DataFrame, instrument: str) -> Iterator[Figure]:
    """Densities at a few steps, from the first to the last, on one grid; a panel a training."""
    at = _when(table)
    trainings = list(dict.fromkeys(table["training"]))[:PANELS]
    table = table[table["training"].isin(trainings)]
    steps = np.unique(table[at])
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, DENSITIES).round().astype(int))]
    keys = ["fingerprint", "seed", "training", at]
    wide = table[table[at].isin(steps)].pivot_table(
        index=[*keys, "place"], columns="quantity", values="value", aggfunc="last"
    )
    low, high = wide["grid"].min(), wide["grid"].max()
    grid = np.linspace(low, high, 400)
    parts = []
    for (_, seed, training, step), own in wide.groupby(level=keys):
        density = np.interp(grid, own["grid"], own["density"], left=0.0, right=0.0)
        parts.append(
            pd.DataFrame({"seed": seed, "training": training, "line": f"{at} {step}", "x": grid, "density": density})
        )
    shown = pd.concat(parts)
    peak = float(shown["density"].max())
    floor = peak * 10.0**-DECADES
    shown["density"] = shown["density"].clip(lower=floor / 10)
    yield Figure(
        _name(instrument, "density"),
        f"Density of the eigenvalues at {len(steps)} moments of training",
        curves(
            shown,
            x=Axis("x", "eigenvalue"),
            y=Axis("density", "density", log=True, domain=(floor, 2 * peak)),
            series="line",
            panel="training" if len(trainings) > 1 else None,
        ),
        f"As measured by {instrument}: share of the eigenvalues per unit, each drawn as a narrow bell. {who(table)}",
        f"The eigenvalues lie between {low:.3g} and {high:.3g}.",
    )


def _title(instrument: str, quantity: str) -> str:
    name = instrument.replace("_", " ")
    if quantity in ("value", instrument):
        return name
    return WORDS.get(quantity, f"{name}: {quantity.replace('_', ' ')}")


def _name(instrument: str, quantity: str) -> str:
    """A file name of letters, digits and hyphens, whatever an instrument of the user's own is called."""
    text = instrument if quantity in ("value", instrument) else f"{instrument}-{quantity}"
    return "".join(sign if sign.isalnum() else "-" for sign in text.lower()).strip("-") or "number"


def _when(table: pd.DataFrame) -> str:
    return "step" if table["step"].max() > 0 else "epoch"


def axis_of(column: str, title: str, values: pd.Series) -> Axis:
    """Logarithmic where the numbers are positive and span much; a time also where they crowd at its beginning."""
    finite = values[np.isfinite(values)]
    wide = len(finite) > 0 and finite.min() > 0 and finite.max() / finite.min() > SPAN
    if column in ("step", "epoch"):
        times = np.unique(finite)
        wide = wide and len(times) > 4 and bool(np.median(times) < 0.2 * times[-1])
    return Axis(column, title, log=bool(wide))


def who(table: pd.DataFrame) -> str:
    """How many seeds a figure is of, and what its band is."""
    seeds = table["seed"].nunique()
    return f"{counted(seeds, 'seed')}. {BAND}" if seeds > 1 else "One training."


def left_out(table: pd.DataFrame, shown: Sequence[str]) -> str:
    """How many trainings there was no room for."""
    more = table["training"].nunique() - len(shown)
    return f" {more} more with other labels are not drawn." if more > 0 else ""
