"""What the records of the lines between networks say: numbers for the claims, tables and figures.

Beside :mod:`theodolite.studies.interpolation.study`, which trains, measures and claims.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from theodolite.claims import Evidence, Number, groups, row
from theodolite.figures import walk
from theodolite.figures.composed import above
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import forest
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.classifiers import covered
from theodolite.studies.interpolation.settings import Interpolation
from theodolite.wording import counted, per_cent, signed

DNN, CONV = "DNN", "CNN"
OWN, SHARED = "own initial weights", "shared initial weights"  # labels of runs, whose names are made of them
AS_TRAINED, BY_WEIGHTS, BY_ACTIVATIONS = "as_trained", "weights", "activations"
ITSELF, ITSELF_MATCHED = "itself", "itself_matched"  # the null: a network and its own units in another order
MATCHINGS = {
    AS_TRAINED: "as trained",
    BY_WEIGHTS: "matched by weights",
    BY_ACTIVATIONS: "matched by activations",
    ITSELF: "itself in another order",
    ITSELF_MATCHED: "itself, matched by weights",
}
TRAIN, TEST = "training", "test"
RENAMED = {
    "matching": {"as trained": AS_TRAINED, "matched by weights": BY_WEIGHTS, "matched by activations": BY_ACTIVATIONS}
}

RESOLUTION = 0.1  # in alpha: what a figure with 31 values can tell apart; alphas this near to an end count as that end
MARGIN = (
    0.005  # of accuracy: less than half a percentage point, which half of MNIST's test set just resolves, is no gain
)
OLD = "This folder is of a version that did not measure this. Run the study again."
STABLE = 0.02  # error barrier below which Frankle et al. 2020 call two networks linearly connected


def tables(records: Records[Interpolation]) -> list[Table]:
    """The barriers of every kind of line, and what the networks at the ends are worth."""
    barriers = _named(of_all_seeds(records, "barriers"))
    lines, halves = _named(of_all_seeds(records, "line")), records.analysis("halves")
    if lines.empty:
        return []
    chance = covered(records)
    found = [_barrier_row(str(line), part) for line, part in groups(barriers, "line")]
    mixed = [_mixed_row(", ".join(names), part) for names, part in groups(halves, ["model", "start"])]
    trained = lines[lines["matching"] == AS_TRAINED]
    first, second = records.settings.batch_sizes
    ends = [
        {"network": f"{model}, batch size {batch}, {start}", **_end_row(part, end)}
        for (model, start), part in groups(trained, ["model", "start"])
        for end, batch in ((0.0, first), (1.0, second))
        if start == OWN or end == 1.0  # with shared initial weights only the second network is another one
    ]
    return [
        Table(
            "barriers",
            "What lies between two networks",
            pd.DataFrame(found),
            "Means over seeds with their 95 % intervals. Error barrier: the highest share of wrong answers on the line "
            "between the networks minus the mean of the two ends (Frankle et al. 2020); loss barrier: the same with "
            f"the loss. {chance}",
        ),
        *([_mixing_table(mixed, chance)] if mixed else []),
        Table(
            "ends",
            "The networks at the ends, and where each half of the line is best",
            pd.DataFrame(ends),
            "Geometric mean of losses and mean of accuracies over seeds with their 95 % intervals. Best alpha: "
            "median of where the loss is lowest on that network's half of the line (alpha up to 0.5, or from 0.5 on). "
            f"{chance}",
            digits=4,
        ),
    ]


def figures(records: Records[Interpolation]) -> list[Figure]:
    """Figure 11, the same after matching, and the barriers."""
    settings, lines = records.settings, _named(of_all_seeds(records, "line"))
    if lines.empty:
        return []
    first, second = settings.batch_sizes
    dnn = lines[(lines["model"] == DNN) & (lines["start"] == OWN)]
    seeds = dnn["seed"].nunique()
    tested = lines[(lines["set"] == TEST)].assign(series=_kind)
    count = ", ".join(
        f"{counted(part['seed'].nunique(), 'pair')} of {model}s" for model, part in groups(tested, "model")
    )
    barriers = pd.DataFrame(
        {"line": line} | row(part[part["set"] == TEST], {"error barrier": ("error_barrier", "mean")})
        for line, part in groups(_named(of_all_seeds(records, "barriers")), "line")
    )
    return [
        Figure(
            "figure-11",
            "Figure 11: the line between two trained networks",
            _walked(dnn[dnn["matching"] == AS_TRAINED], settings),
            "Accuracy and loss (cross entropy, logarithmic) of networks (1 − alpha) A + alpha B; A trained with "
            f"batch size {first}, B with {second}, {settings.epochs} epochs each, from initial weights of their "
            f"own. {counted(seeds, 'pair')}. {BAND} Diamonds: where the median loss is lowest on "
            "each half of the line.",
            "Accuracy has a peak and loss a dip near each network, with a valley of low accuracy between the two. "
            + _lowest_words(dnn[dnn["matching"] == AS_TRAINED]),
            "At these alpha values, the model had the highest accuracy and lowest loss. In between these values, "
            "however, the model struggled to make correct predictions.",
        ),
        Figure(
            "aligned",
            "The same line after matching hidden units",
            _line_chart(tested[tested["model"] == DNN], "series", settings),
            f"Test set, the same networks (the function of B is unchanged by matching). {counted(seeds, 'pair')}. "
            f"{BAND}",
            f"Median test accuracy halfway between the two networks: {_halfway(tested[tested['model'] == DNN])}.",
        ),
        *([_cnn_figure(tested[tested["model"] == CONV], settings)] if settings.cnn_seeds else []),
        Figure(
            "barriers",
            "Error barriers on the test set",
            forest(
                barriers,
                x=Axis("error barrier", "error barrier (share of test images)", format=".0%"),
                label="line",
                low="error barrier low",
                high="error barrier high",
                rules=[Rule(STABLE, "2 %: linearly connected below", "x")],
            ),
            f"Highest share of wrong answers on the line minus the mean of its ends: mean over seeds with its 95 % "
            f"interval; {count}. Below 2 % Frankle et al. 2020 call two networks connected.",
            "Mean error barriers: "
            + "; ".join(
                f"{line} {per_cent(height, 1)}" for line, height in barriers[["line", "error barrier"]].to_numpy()
            )
            + ".",
        ),
    ]


def _cnn_figure(lines: pd.DataFrame, settings: Interpolation) -> Figure:
    return Figure(
        "aligned-cnn",
        "The line between two convolutional networks",
        _line_chart(lines, "series", settings),
        "Test set; BatchNorm statistics renewed on the training set at every alpha. "
        f"{counted(lines['seed'].nunique(), 'pair')}. {BAND}",
        f"Median test accuracy halfway between two convolutional networks: {_halfway(lines)}.",
    )


def _walked(lines: pd.DataFrame, settings: Interpolation) -> Any:
    """Figure 11 with a slider along alpha, which says both accuracies."""
    medians = lines.groupby(["alpha", "set"])["accuracy"].median().unstack()
    said = [
        f"{signed(f'{alpha:.2f}')}: accuracy {per_cent(training, 1)} ({TRAIN}), {per_cent(test, 1)} ({TEST})"
        for alpha, training, test in medians[[TRAIN, TEST]].itertuples()
    ]
    chart = _line_chart(lines, "set", settings, marks=_lowest(lines), stops=list(medians.index))
    return walk.slider(chart, "alpha", said)


def _lowest(lines: pd.DataFrame) -> pd.DataFrame:
    """Where the median loss over seeds is lowest, on each half of the line and each set."""
    medians = lines.groupby(["set", "alpha"], sort=False)["loss"].median().reset_index()
    halves = [half_of(medians, end).dropna().sort_values("loss", kind="stable") for end in (0.0, 1.0)]
    return pd.concat([half.groupby("set", sort=False).head(1) for half in halves]).assign(label="")


def _lowest_words(lines: pd.DataFrame) -> str:
    places = "; ".join(f"{signed(f'{row.alpha:.2f}')} ({row.set})" for row in _lowest(lines).itertuples(index=False))
    return f"On each half the median loss is lowest at alpha {places}."


def _halfway(lines: pd.DataFrame) -> str:
    middle = lines[np.isclose(lines["alpha"], 0.5)].assign(series=_kind)
    medians = middle.groupby("series", sort=False)["accuracy"].median()
    return "; ".join(f"{kind} {per_cent(accuracy)}" for kind, accuracy in medians.items())


def _line_chart(
    lines: pd.DataFrame,
    series: str,
    settings: Interpolation,
    marks: pd.DataFrame | None = None,
    stops: Sequence[float] = (),
) -> Any:
    """Accuracy above loss, on one axis of alpha."""
    named = [Rule(float(end), f"batch size {size}", "x") for end, size in enumerate(settings.batch_sizes)]
    plain = [Rule(rule.value, "", "x") for rule in named]  # the names would lie on the curves that are near 100 %
    alpha = Axis("alpha", "alpha", domain=(-1.0, 2.0))
    accuracy = Axis("accuracy", "accuracy", domain=(0.0, 1.02), format=".0%")
    loss = Axis("loss", "loss (cross entropy)", log=True)
    parts = [
        curves(lines, x=alpha, y=y, series=series, rules=rules, marks=marked, stops=stops, part=y.column, height=200)
        for y, rules, marked in ((accuracy, plain, None), (loss, named, marks))
    ]
    return above(*parts)


def _barrier_row(line: str, barriers: pd.DataFrame) -> dict[str, object]:
    numbers: dict[str, Number] = {
        "error barrier, test": (exact(barriers, "error_barrier", TEST), "mean"),
        "loss barrier, test": (exact(barriers, "barrier", TEST), "mean"),
        "loss barrier, training": (exact(barriers, "barrier", TRAIN), "mean"),
    }
    return {"line": line, "seeds": barriers["seed"].nunique()} | row(barriers, numbers)


def _mixing_table(rows: list[dict[str, object]], chance: str) -> Table:
    return Table(
        "mixing",
        "What the best mixture gains over the better network",
        pd.DataFrame(rows),
        "How much better the best mixture is than the better network, in test accuracy; a mixture is more than 0.1 in "
        "alpha away from both. Mixture and network are picked on one half of the test images and measured on the "
        f"other, mean of both ways round. Mean over seeds with its 95 % interval; alpha picked: median. {chance}",
    )


def _mixed_row(networks: str, halves: pd.DataFrame) -> dict[str, object]:
    alphas = [alpha for _, part in halves.groupby("seed") for alpha in _picked(part)[1]]
    number: dict[str, Number] = {"gain of mixing": (gain(halves), "mean")}
    about = {"networks": networks, "seeds": halves["seed"].nunique()}
    return about | row(halves, number) | {"alpha picked": float(np.median(alphas))}


def _end_row(lines: pd.DataFrame, end: float) -> dict[str, object]:
    found: dict[str, object] = {}
    at_end = lines[lines["alpha"] == end]
    for name in (TRAIN, TEST):
        there = at_end[at_end["set"] == name]
        found |= row(there, {f"{name} loss": ("loss", "ratio"), f"{name} accuracy": ("accuracy", "mean")})
        half = half_of(lines[lines["set"] == name], end).dropna(subset="loss")
        found[f"best alpha, {name}"] = half.loc[half.groupby("seed")["loss"].idxmin(), "alpha"].median()
    return found


def exact(table: pd.DataFrame, column: str, part: str) -> Evidence:
    """A column on the training or the test set, by seed."""
    return Evidence.exact(table[table["set"] == part].set_index("seed")[column])


def of_all_seeds(records: Records[Interpolation], name: str) -> pd.DataFrame:
    """A table of the analyses; one that failed (a network diverged) keeps its seed, with a row that has no numbers."""
    found = records.analysis(name)
    failed = records.analyses[records.analyses["status"] == "failed"]
    if found.empty or failed.empty:
        return found
    places = found[["matching", "set", *(["alpha"] if name == "line" else [])]].drop_duplicates()
    keys = failed[["fingerprint", "seed", "model", "start"]].merge(places, how="cross")
    kept = (keys["start"] == OWN) | (keys["matching"] == AS_TRAINED)
    return pd.concat([found, keys[kept]], ignore_index=True)


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """With one name for each kind of line: ``DNN, as trained``."""
    if table.empty:
        return table
    return table.assign(line=table["model"].astype(str) + ", " + _kind(table))


def _kind(table: pd.DataFrame) -> pd.Series:
    """What each row's line lies between, in words."""
    return table["matching"].map(MATCHINGS).where(table["start"] == OWN, SHARED)


def half_of(lines: pd.DataFrame, end: float) -> pd.DataFrame:
    """The half of the line that belongs to the network at an end, 0 or 1."""
    return lines[lines["alpha"] <= 0.5] if end == 0.0 else lines[lines["alpha"] >= 0.5]


def gain(halves: pd.DataFrame) -> Evidence:
    """Test accuracy of the best mixture less that of the better network, by seed, neither picked by what judges it."""
    found = {seed: _picked(part)[0] for seed, part in halves.groupby("seed")}
    return Evidence.exact(pd.Series(found, dtype="float64"))


def _picked(halves: pd.DataFrame) -> tuple[float, list[float]]:
    """The gain of one pair of networks, mean of both ways round, and the alphas that were picked."""
    accuracy = halves.pivot_table(index="alpha", columns="half", values="accuracy")
    alpha, values = accuracy.index.to_numpy(dtype=np.float64), accuracy.to_numpy(dtype=np.float64)
    near = RESOLUTION * (1 + 1e-6)  # a mixture that is nearly a network is no mixture
    between, ends = np.flatnonzero((alpha > near) & (alpha < 1 - near)), np.flatnonzero((alpha == 0) | (alpha == 1))
    gains, alphas = [], []
    for picks, judges in ((0, 1), (1, 0)):
        best, better = (rows[values[rows, picks].argmax()] for rows in (between, ends))
        gains.append(values[best, judges] - values[better, judges])
        alphas.append(float(alpha[best]))
    return float(np.mean(gains)), alphas


def claimed(records: Records[Interpolation], name: str, matching: str = AS_TRAINED) -> pd.DataFrame:
    """What the claims are about: two DNNs from initial weights of their own."""
    table = of_all_seeds(records, name)
    if table.empty:
        return pd.DataFrame(
            columns=["seed", "matching", "set", "alpha", "loss", "accuracy", "barrier", "error_barrier"]
        )
    return table[(table["model"] == DNN) & (table["start"] == OWN) & (table["matching"] == matching)]


def ends_and_elsewhere(
    lines: pd.DataFrame, column: str, best: str, batch_sizes: tuple[int, int]
) -> dict[str, tuple[pd.Series, pd.Series]]:
    """For both ends and both sets: the value at the end, and the best of its half of the line away from it, by seed."""
    found = {}
    for name in (TRAIN, TEST):
        part = lines[lines["set"] == name]
        for end, size in zip((0.0, 1.0), batch_sizes, strict=True):
            half = half_of(part, end)
            away = half[(half["alpha"] - end).abs() > RESOLUTION * (1 + 1e-6)]
            at_end = half[half["alpha"] == end].set_index("seed")[column]
            task = f"batch size {size}, {name} set"
            found[task] = at_end, away.groupby("seed")[column].agg(best).reindex(at_end.index)
    return found
