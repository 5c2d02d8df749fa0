"""Learning curves of the function fits compared: at the start, and with those of the same model."""

import numpy as np
import pandas as pd

from theodolite.claims import Numbers
from theodolite.store.records import Records
from theodolite.studies.simulate_function.settings import SimulateFunction

NAMED = ("Model 1", "Model 2", "Model 3")  # the report's; every other network is one of the sweep
FULL = "full batch"
START = 0.1  # "at the start" ends at a tenth of the epochs that the shallow networks take to convergence, seed by seed
PAIRS = ("of model 1", "of model 3", "of both")  # of curves, whose distances are compared
PLACES = 50  # epochs at which two curves are compared


def losses_at_start(records: Records[SimulateFunction], function: str) -> pd.DataFrame:
    """Seeds by models: the training loss when the start is over; NaN where models 1 and 3 did not both converge.

    The start is a share of the shallow networks' own time, since epochs mean nothing by themselves: at 100 epochs the
    deeper network is behind and at 200 it is ahead, whatever the length of the training.
    """
    runs = records.done
    runs = runs[(runs["function"] == function) & (runs["batch"] == FULL) & runs["model"].isin(NAMED)]
    epochs = runs.pivot(index="seed", columns="model", values="converged_epoch").reindex(columns=list(NAMED))
    start = START * (epochs["Model 1"].astype("float64") * epochs["Model 3"].astype("float64")) ** 0.5
    metrics = _curves(records, function)
    if metrics.empty:
        return pd.DataFrame(columns=list(NAMED), dtype="float64")
    before = metrics[metrics["epoch"] <= start.reindex(metrics["seed"]).to_numpy()]
    last = before.drop_duplicates(["seed", "model"], keep="last")  # without a number where the run has diverged
    losses = last.pivot(index="seed", columns="model", values="train_loss")
    return losses.reindex(index=epochs.index, columns=list(NAMED))


def curves_apart(records: Records[SimulateFunction]) -> pd.DataFrame:
    """For each pair of seeds how far learning curves on cos lie apart: of one model, of models 1 and 3, and the ratio.

    Of two curves of each model there are two pairs of one model and two of both. Were the models the same, all four
    would be alike in distribution and the ratio as often above 1 as below: its geometric mean is 1, whatever curves
    are like. A pair goes by its even seed.
    """
    metrics = _curves(records, "cos")
    if metrics.empty:
        return pd.DataFrame()
    curves: dict[str, dict[int, Numbers]] = {model: {} for model in NAMED[::2]}
    for model, own in curves.items():
        for seed, part in metrics[metrics["model"] == model].groupby("seed"):
            own[int(str(seed))] = _curve(part)
    ones, threes = curves.values()
    rows = []
    for seed in sorted(ones):
        if seed % 2 == 0 and all(number in own for own in (ones, threes) for number in (seed, seed + 1)):
            one, three = (_apart(own[seed], own[seed + 1]) for own in (ones, threes))
            both = (_apart(ones[seed], threes[seed + 1]) + _apart(ones[seed + 1], threes[seed])) / 2
            ratio = 2 * both / (one + three)
            rows.append({"seed": seed, **dict(zip(PAIRS, (one, three, both), strict=True)), "ratio": ratio})
    return pd.DataFrame(rows)


def _curves(records: Records[SimulateFunction], function: str) -> pd.DataFrame:
    metrics = records.table("metrics", lambda labels: (labels["function"], labels["batch"]) == (function, FULL))
    return metrics if metrics.empty else metrics[metrics["model"].isin(NAMED)].astype({"model": str})


def _curve(metrics: pd.DataFrame) -> Numbers:
    """The logarithm of the loss at epochs evenly spaced on a logarithmic axis."""
    metrics = metrics[metrics["epoch"] > 0]
    epochs = np.geomspace(metrics["epoch"].iloc[0], metrics["epoch"].iloc[-1], PLACES)
    return np.asarray(np.interp(epochs, metrics["epoch"], np.log10(metrics["train_loss"])))


def _apart(a: Numbers, b: Numbers) -> float:
    return float(np.sqrt(((a - b) ** 2).mean()))
