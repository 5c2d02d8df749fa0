"""What the records of the function fits say: numbers for the claims, tables and figures.

Beside :mod:`theodolite.studies.simulate_function.study`, which trains, measures and claims.
"""

import re
from typing import Any

import numpy as np
import pandas as pd

from theodolite.claims import Number, epochs_to_convergence, interval, row
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import MEDIAN, dots, over_factor
from theodolite.figures.scales import Axis, Rule, order
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.simulate_function.learning import FULL, NAMED, PAIRS, curves_apart
from theodolite.studies.simulate_function.settings import SimulateFunction
from theodolite.wording import counted, signed

BUDGET = 671  # of the sweep over depth


SWEPT = " layers"  # how the names of its networks end


MINI = "mini-batch"


SCALED = "exp scaled"  # exp with the spread of cos: the same curve, without the larger numbers


STEEP = 5  # times its median that a target's largest value has, for an axis on which both can be seen


LATE = 0.9  # of the epochs: the plateau begins


def tables(records: Records[SimulateFunction]) -> list[Table]:
    """Table 1 with what became of each model, and the sweep where there is one."""
    runs = records.derived(results)
    seeds, share = runs["seed"].nunique(), records.settings.convergence
    caption = (
        f"Over {counted(seeds, 'seed')}: median epochs to convergence (training loss at {share:g} of the target's "
        "variance), "
        "geometric means of the final training loss and of the root mean square errors inside and outside the domain, "
        "each with its 95 % interval. A run that does not converge within its epochs counts as later than that."
    )
    rows = pd.DataFrame([_row(keys, group) for keys, group in runs.groupby(["function", "batch", "model"], sort=False)])
    named = rows["model"].isin(NAMED)
    found = [Table("table-1", "Table 1: the three models, and what became of them", rows[named], caption)]
    alike = curves_apart(records)
    if len(alike):
        numbers: dict[str, Number] = {column: (column, "ratio") for column in (*PAIRS, "ratio")}
        about = f"{_apart_words(alike)} Geometric means with 95 % intervals. Of models that learn alike the ratio is 1."
        frame = pd.DataFrame([row(alike, numbers)])
        found.append(Table("learning-curves", "How far learning curves of models 1 and 3 lie apart", frame, about))
    if not named.all():
        found.append(Table("depth", f"Depth at a budget of about {BUDGET} parameters", rows[~named], caption))
    return found


def figures(records: Records[SimulateFunction]) -> list[Figure]:
    """Per function the fits and the learning curves; over depth, epochs and final loss."""
    settings = records.settings
    runs = records.done
    seeds = runs["seed"].nunique()
    metrics = records.table("metrics")
    fits = records.table("fit", lambda labels: labels["batch"] == FULL and labels["model"] in NAMED)
    metrics = metrics.loc[_named(metrics), ["function", "batch", "model", "seed", "epoch", "train_loss"]]
    found = []
    for number, function in enumerate(settings.functions, start=1):
        fit = fits[fits["function"] == function]
        found.append(_fit_figure(fit, function, number, settings, seeds))
        for batch, learning in metrics[metrics["function"] == function].groupby("batch", sort=False):
            own = runs[(runs["function"] == function) & (runs["batch"] == batch) & _named(runs)]
            found.append(_learning_figure(learning, function, number, str(batch), own, settings, seeds))
    alike = curves_apart(records)
    if len(alike):
        found.append(_apart_figure(alike))
    if settings.depths:
        found += _depth_figures(records, settings, seeds)
    return found


def _named(table: pd.DataFrame) -> pd.Series:
    """Which rows are of the report's models, not of the sweep; the sweep's are the most."""
    return table["model"].isin(NAMED)


def _fit_figure(fits: pd.DataFrame, function: str, number: int, settings: SimulateFunction, seeds: int) -> Figure:
    low, high = settings.domain
    targets = fits.loc[fits["x"].between(low, high), "target"].abs()
    steep = not fits.empty and targets.max() > STEEP * targets.median()
    chart = curves(
        fits,
        x=Axis("x", "x"),
        y=Axis("fit", f"{function}(x) and fits", linear=float(targets.max()) / 1000 if steep else None),
        series="model",
        rules=[Rule(low, "domain", "x"), Rule(high, "domain", "x")],
        reference=fits.drop_duplicates("x")[["x", "target"]].rename(columns={"target": "fit"}),
        reference_label=function,
    )
    away = (fits["fit"] - fits["target"]).abs().groupby(fits["x"].between(low, high)).median()
    caption = (
        f"{function} and the fits of the three models, trained on the full batch inside the domain "
        f"[{signed(f'{low:.3g}')}, {signed(f'{high:.3g}')}] and drawn half its width beyond. "
        f"{counted(seeds, 'seed')}. {BAND}"
        + (" The upward axis is logarithmic on both sides of zero." if steep else "")
    )
    return Figure(
        f"figure-{number}-{_slug(function)}-fit",
        f"Figure {number} (left): fits of {function} inside and outside the domain",
        chart,
        caption,
        f"Median distance of the fits from {function}: {away[True]:.2g} inside the domain of the training data, "
        f"{away[False]:.2g} outside.",
        "Each of the 3 models accurately fits the cosine function within the domain of the training data"
        if function == "cos"
        else "",
    )


def _learning_figure(
    metrics: pd.DataFrame,
    function: str,
    number: int,
    batch: str,
    runs: pd.DataFrame,
    settings: SimulateFunction,
    seeds: int,
) -> Figure:
    line = float(runs["convergence"].iloc[0])
    converged = _convergences(runs, line)
    chart = curves(
        metrics[metrics["epoch"] > 0],
        x=Axis("epoch", "epoch", log=True),
        y=Axis("train_loss", "training loss (mean squared error)", log=True),
        series="model",
        rules=[Rule(line, "convergence")],
        marks=converged,
        carry=True,
    )
    last = metrics.sort_values("epoch").groupby(["model", "seed"], sort=False)["train_loss"].last()
    ends = last.groupby("model", sort=False).median()
    return Figure(
        f"figure-{number}-{_slug(function)}-learning-{_slug(batch)}",
        f"Figure {number} (right): learning {function}, {batch}",
        chart,
        f"Training loss of the three models on {function}, {batch} Adam. The line: the convergence fixed beforehand, "
        f"{settings.convergence:g} of the target's variance. {counted(seeds, 'seed')}. {BAND} Diamonds with bars: "
        "median epoch of convergence with its 95 % interval.",
        "Median epoch of convergence: "
        + "; ".join(f"{mark['model']} {mark['epoch']:.0f}" for _, mark in converged.iterrows())
        + ". Median training loss at the end: "
        + "; ".join(f"{m} {loss:.2g}" for m, loss in ends.items())
        + ".",
        "Model 2 reaches convergence in less than half the amount of epochs"
        if function == "cos"
        else "the loss value for model 2 plummets while models 1 and 3 take much longer",
    )


def _convergences(runs: pd.DataFrame, line: float) -> pd.DataFrame:
    """The median epoch of convergence of each model with its interval; none where too few seeds have one."""
    rows = []
    for model, part in runs.groupby("model", sort=False):
        found = interval(epochs_to_convergence(part), "median")
        if np.isfinite(found.estimate):
            ends = {"epoch": found.estimate, "low": found.low, "high": found.high}
            rows.append({"model": model, "train_loss": line, "label": "", **ends})
    return pd.DataFrame(rows, columns=["model", "train_loss", "label", "epoch", "low", "high"])


def _apart_words(alike: pd.DataFrame) -> str:
    return (
        f"Learning curves on cos, full batch, {counted(len(alike), 'pair')} of seeds: root mean square distance of two "
        "in powers of ten of the loss, at epochs evenly spaced on a logarithmic axis. Curves of one model differ by "
        "their initial weights alone; models that learn alike are no farther apart than that."
    )


def _apart_figure(alike: pd.DataFrame) -> Figure:
    long = alike.melt("seed", list(PAIRS), "pair", "distance")
    chart = over_factor(
        long,
        x=Axis("pair", "two learning curves"),
        y=Axis("distance", "distance (powers of ten of the loss)", log=True),
        statistic="ratio",
    )
    means = np.exp(np.log(alike[list(PAIRS)]).mean())
    return Figure(
        "learning-curves-apart",
        "How far learning curves lie apart: of one model, and of models 1 and 3",
        chart,
        f"{_apart_words(alike)} {dots('ratio')}",
        "Geometric mean of the distance: "
        + "; ".join(f"{pair} {distance:.2g}" for pair, distance in means.items())
        + ".",
        "They both reach the predefined convergence at the same number of epochs and follow a similar learning curve.",
    )


def _depth_figures(records: Records[SimulateFunction], settings: SimulateFunction, seeds: int) -> list[Figure]:
    runs = records.derived(results)
    runs = runs[~runs["model"].isin(NAMED)]
    runs = runs.assign(censored=runs["converged_epoch"].isna(), later=runs["converged_epoch"].fillna(runs["epochs"]))
    epochs = over_factor(
        runs,
        x=Axis("layers", "layers that hold weights"),
        y=Axis("later", "epochs to convergence", log=True),
        panel="function",
        censored="censored",
    )
    loss = over_factor(
        runs,
        x=Axis("layers", "layers that hold weights"),
        y=Axis("final_loss", "final training loss (mean squared error)", log=True),
        panel="function",
    )
    about, fewest, most = counted(seeds, "seed") + ".", runs["layers"].min(), runs["layers"].max()
    medians = runs.groupby(["function", "layers"], sort=False)[["later", "final_loss"]].median()
    seen = {}
    for column in ("later", "final_loss"):
        of = medians[column].to_dict()
        seen[column] = "; ".join(
            f"{name} from {of[name, fewest]:.3g} with {fewest} layers to {of[name, most]:.3g} with {most}"
            for name in order(runs["function"])
        )
    return [
        Figure(
            "depth-epochs",
            f"Epochs to convergence by depth, at about {BUDGET} parameters",
            epochs,
            f"{about} {MEDIAN} Open triangles: not converged within {settings.epochs} epochs.",
            f"Median epochs to convergence with the same number of parameters: {seen['later']}.",
        ),
        Figure(
            "depth-loss",
            f"Final training loss by depth, at about {BUDGET} parameters",
            loss,
            f"{about} {MEDIAN}",
            f"Median final training loss with the same number of parameters: {seen['final_loss']}.",
        ),
    ]


def results(records: Records[SimulateFunction]) -> pd.DataFrame:
    """One row a run: labels, size, epochs to convergence, loss at the end, errors inside and outside."""
    metrics = records.table("metrics")
    last = metrics.groupby("fingerprint")["epoch"].transform("max")
    late = metrics[metrics["epoch"] >= LATE * last]
    final = np.exp(np.log(late["train_loss"]).groupby(late["fingerprint"]).mean(skipna=False))
    errors = records.table("errors").set_index("fingerprint")[["inside", "outside", "r2_inside"]]
    runs = records.done.set_index("fingerprint").join(errors)
    return runs.assign(final_loss=final, outside_over_inside=runs["outside"] / runs["inside"]).reset_index()


def _row(keys: tuple[Any, ...], runs: pd.DataFrame) -> dict[str, object]:
    function, batch, model = keys
    place = {"function": function, "batch": batch, "model": model}
    place |= {name: runs[name].iloc[0] for name in ("parameters", "layers", "shape")}
    numbers: dict[str, Number] = {
        "epochs to convergence": (epochs_to_convergence(runs), "median"),
        "final training loss": ("final_loss", "ratio"),
        "error inside": ("inside", "ratio"),
        "error outside": ("outside", "ratio"),
    }
    converged = f"{runs['converged_epoch'].notna().sum()} of {len(runs)}"
    return place | {"converged": converged} | row(runs, numbers)


def _slug(text: str) -> str:
    """For a file name: letters and digits, the rest as dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
