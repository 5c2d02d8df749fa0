"""Figures of the minimal ratio: Figure 8 for each task, the report's protocol in the same axes, the dial, spectra."""

import numpy as np
import pandas as pd

from theodolite.claims import rank_correlation
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import MEDIAN, dots, over_factor, scatter
from theodolite.figures.scales import Axis, Rule
from theodolite.figures.spectra import spectra
from theodolite.findings import Figure
from theodolite.store.records import Records
from theodolite.studies.minimal_ratio.findings import (
    AGAIN,
    CERTIFIED,
    COS,
    CRITICAL,
    DEEP,
    DIGITS,
    KINDS,
    MATRICES,
    NORM,
    NULL,
    PHASES,
    PROTOCOL,
    SELECTED,
    SHORT,
    STARTS,
    TARGETS,
    VARIANTS,
    WAYS,
    WITH_DECAY,
    by_task,
    field,
    large,
    points,
)
from theodolite.studies.minimal_ratio.settings import MinimalRatio
from theodolite.wording import counted, signed

RATIO = Axis("positive", "minimal ratio (share of positive eigenvalues)")
FREE, BOUND = "all units free", "dead or tied units"
FILES = {
    TARGETS: "random-targets",
    DEEP: "random-targets-two-hidden-layers",
    DIGITS: "three-digits",
    COS: "cos",
}  # how the names of their figures end
SHARES = {"positive": "positive", "negative": "negative", "zero": "zero"}
SPREAD = 0.4  # of the step from one minimal ratio to the next
LINEAR = 0.02  # of the axis of spectra: about the least curvatures


def figures(records: Records[MinimalRatio]) -> list[Figure]:
    """All that the records allow."""
    found = points(records)
    if found.empty:
        return []
    made = [_figure_8(records, task, part) for task, part in by_task(records, found)]
    made.append(_by_seed(records))
    if len(field(records)):
        made.append(_field_figure(field(records)))
    if len(records.analysis(PROTOCOL)) and (found["task"] == DIGITS).any():
        made += _protocol(records)
    if len(records.analysis("dial")):
        made += _dial(records)
    made += _spectra(records)
    return made


def _loss(task: str) -> str:
    unit = "cross entropy" if task == DIGITS else "mean squared error"
    return f"loss ({unit}, weight decay included)"


def _figure_8(records: Records[MinimalRatio], task: str, part: pd.DataFrame) -> Figure:
    rows = part.assign(
        structure=np.where(part["free"], FREE, BOUND),
        order=part["start"].map(STARTS.index) - part["free"].astype(float) / 2,
        start=part["start"].replace(WAYS),
    ).sort_values(["order", "seed"])
    correlation = rank_correlation(part, "loss", "positive").low
    return Figure(
        f"figure-8-{FILES[task]}",
        f"Figure 8 at certified critical points: {task}",
        scatter(
            rows,
            x=Axis("loss", _loss(task), log=task == COS),
            y=RATIO,
            series="start",
            marks="structure",
            detail=("index", "live", "seed"),
            spread=SPREAD / int(part["parameters"].iloc[0]),
            size=24,
        ),
        f"A point is a distinct certified critical point; {counted(part['seed'].nunique(), 'seed')}, each with data "
        "of its own, "
        f"{int(part['parameters'].iloc[0])} parameters. Colour: where the walk to it started. Points with dead or tied "
        "units are critical points of a narrower network as well. Points are moved up or down by less than half a "
        "step, so that those of one ratio do not hide each other.",
        f"Spearman's correlation of minimal ratio and loss is {signed(f'{correlation.mean():.2f}')} on average, from "
        f"{signed(f'{correlation.min():.2f}')} to {signed(f'{correlation.max():.2f}')} over seeds.",
        "I should see an inverse correlation between the minimal ratio and the loss of the model.",
    )


def _by_seed(records: Records[MinimalRatio]) -> Figure:
    rows = []
    for task, part in by_task(records, points(records, all_starts=True)):
        for name, some in (("all", part[part["counted"]]), *((s, part[part["start"] == s]) for s in STARTS)):
            enough = large(some)
            if len(enough):
                each = rank_correlation(enough, "loss", "positive").low
                rows.append(pd.DataFrame({"task": task, "start": name, "seed": each.index, "correlation": each.array}))
    for task, part in by_task(records, field(records)):
        each = rank_correlation(part, "loss", "positive").low
        rows.append(pd.DataFrame({"task": task, "start": NULL, "seed": each.index, "correlation": each.array}))
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame({"task": [], "start": [], "correlation": []})
    table = table.sort_values("start", key=lambda names: names.map(("all", *STARTS, NULL).index), kind="stable")
    table = table.replace({"start": WAYS})
    means = table[table["start"] == "all"].groupby("task", sort=False)["correlation"].mean()
    top = float(np.nanmax([0.1, *(table["correlation"] + 0.1)]))
    return Figure(
        "correlation-by-seed",
        "Correlation of minimal ratio and loss, seed by seed",
        over_factor(
            table.assign(task=table["task"].map(SHORT)),
            x=Axis("task", "task"),
            y=Axis("correlation", "rank correlation of minimal ratio and loss", domain=(-1.02, top)),
            series="start",
            statistic="correlation",
            rules=[Rule(0.0, "none", claimed=(-np.inf, 0.0))],
        ),
        f"Over the certified points on one seed's data, all together and by the way to start; and on a random field of "
        f"as many dimensions, from random starts. {dots('correlation')} Shaded: as claimed. The correlation depends on "
        "how points are found, so no number here is that of the landscape.",
        "Mean correlation of minimal ratio and loss, all points together: "
        + "; ".join(f"{task} {signed(f'{value:.2f}')}" for task, value in means.items())
        + ".",
        "I should see an inverse correlation between the minimal ratio and the loss of the model.",
    )


def _field_figure(found: pd.DataFrame) -> Figure:
    correlation = rank_correlation(found.assign(seed=found["seed"] * 100 + found["parameters"]), "loss", "positive").low
    ordered = found.sort_values(["parameters", "seed"])
    return Figure(
        "figure-8-random-field",
        "The null: Figure 8 of smooth random functions",
        scatter(
            ordered.assign(size=ordered["parameters"].astype(str) + " dimensions"),
            x=Axis("loss", "value of the field, weight decay included"),
            y=RATIO,
            series="size",
            detail=("index", "seed"),
            spread=SPREAD / int(found["parameters"].max()),
            size=24,
        ),
        "A point is a distinct certified critical point of a Gaussian random field with as many dimensions as a "
        f"network has parameters; {counted(found['seed'].nunique(), 'seed')}, each with fields of its own. Nothing is "
        "learned here.",
        f"Spearman's correlation of minimal ratio and value is {signed(f'{correlation.mean():.2f}')} on average, from "
        f"{signed(f'{correlation.min():.2f}')} to {signed(f'{correlation.max():.2f}')} over fields.",
    )


def _protocol(records: Records[MinimalRatio]) -> list[Figure]:
    protocol, initial = records.analysis(PROTOCOL), records.analysis("initial")
    on_landscape = protocol[(protocol["variant"] == WITH_DECAY) & (protocol["phase"] == AGAIN)]
    sets = {
        "certified critical points": points(records, DIGITS),
        f"the report's {on_landscape['epoch'].nunique()} epochs": on_landscape,
        "initial weights": initial[initial["task"] == DIGITS],
    }
    sets = {name: rows.assign(relative=rows["gradient_norm"] / rows["largest"]) for name, rows in sets.items()}
    protocol = protocol.assign(relative=protocol["gradient_norm"] / protocol["largest"])
    together = pd.concat([rows.assign(of=name) for name, rows in sets.items()], ignore_index=True)
    step = SPREAD / int(sets["initial weights"]["parameters"].iloc[0])
    relative = Axis("relative", "norm of the gradient / largest curvature (weight)", log=True)
    critical = Rule(CRITICAL, "critical below", claimed=(0.0, CRITICAL))
    correlations = {name: rank_correlation(rows, "loss", "positive").low.mean() for name, rows in sets.items()}
    seeds = protocol["seed"].nunique()
    ends = protocol.groupby("phase", sort=False)["epoch"].max()
    last = protocol[protocol["epoch"].isin(ends)].set_index("phase")["relative"]
    named = "; ".join(f"{name} {signed(f'{value:.2f}')}" for name, value in correlations.items())
    loss = Axis("loss", _loss(DIGITS))
    return [
        Figure(
            "protocol",
            "The report's protocol in the axes of Figure 8",
            scatter(together, x=loss, y=RATIO, series="of", detail=("seed",), spread=step, size=24),
            f"On {DIGITS}, {counted(seeds, 'seed')}, one landscape: certified critical points, the last epochs of the "
            "report's "
            "protocol, and weights before any training.",
            f"Mean correlation of minimal ratio and loss within a seed: {named}.",
            "I believe I got an incorrect output for this, but I could not figure out where I went wrong.",
        ),
        Figure(
            "how-critical",
            "How far each of these is from a zero gradient",
            scatter(
                together,
                x=loss,
                y=relative,
                series="of",
                detail=("seed",),
                rules=[critical],
                size=24,
            ),
            f"The same weights; {counted(seeds, 'seed')}. The ratio of the gradient's norm to the largest curvature "
            "says how far away a critical point could be, which has no gradient. Shaded: critical, as claimed.",
            "Median of the gradient norm, relative to the largest curvature: "
            + "; ".join(f"{name} {signed(format(rows['relative'].median(), '.2g'))}" for name, rows in sets.items())
            + ".",
            "this brought the grad norm to zero",
        ),
        Figure(
            "protocol-gradient-norm",
            "The gradient through the report's protocol",
            curves(
                protocol.replace({"variant": VARIANTS}),
                x=Axis("epoch", "epoch"),
                y=relative,
                series="variant",
                rules=[
                    Rule(float(ends.iloc[0]), "gradient norm as loss", "x"),
                    Rule(float(ends[NORM]), "", "x"),
                    critical,
                ],
            ),
            f"Of the loss over all samples, on {DIGITS}; between the upright lines training minimises the norm itself. "
            f"{counted(seeds, 'seed')}. {BAND} Shaded: critical, as claimed of the end of that part.",
            "Median of the gradient norm, relative to the largest curvature, at the end of each part: "
            + "; ".join(
                f"{PHASES[str(phase)]} {signed(f'{norm:.2g}')}"
                for phase, norm in last.groupby("phase", sort=False).median().items()
            )
            + ".",
            "this brought the grad norm to zero",
        ),
    ]


def _dial(records: Records[MinimalRatio]) -> list[Figure]:
    table = records.analysis("dial")
    kept = table[table["outcome"] == CERTIFIED]
    names = {"positive": "positive", "negative": "negative", "zero": "zero", "soft": "within ten times the decay"}
    mean = kept.groupby(["decay", "seed"])[list(names)].mean().rename(columns=names)
    long = mean.reset_index().melt(["decay", "seed"], var_name="share of eigenvalues", value_name="share")
    last = kept[kept["decay"] == kept["decay"].min()]
    shares = last.melt(["seed", "loss", "index"], list(SHARES), var_name="eigenvalues", value_name="share")
    decay = f"{last['decay'].iloc[0]:g}"
    return [
        Figure(
            "dial",
            "What becomes of the signs as the weight decay goes to zero",
            over_factor(
                long,
                x=Axis("decay", "weight decay"),
                y=Axis("share", "share of eigenvalues, mean over a seed's points", domain=(0.0, 1.0)),
                series="share of eigenvalues",
            ),
            f"Points on {TARGETS} that are still certified, followed from the largest decay down. {MEDIAN}",
            "; ".join(
                f"weight decay {value:g}: " + ", ".join(f"{share:.2f} {name}" for name, share in row.items())
                for value, row in mean[list(SHARES)].groupby("decay").mean().iterrows()
            ),
        ),
        Figure(
            "three-shares",
            f"All three shares against the loss at weight decay {decay}",
            scatter(
                shares,
                x=Axis("loss", "loss (mean squared error)"),
                y=Axis("share", "share of eigenvalues", domain=(-0.02, 1.02)),
                series="eigenvalues",
                detail=("index", "seed"),
                size=24,
            ),
            f"A certified point on {TARGETS} gives three marks; {counted(last['seed'].nunique(), 'seed')}. With "
            "weight decay no "
            "eigenvalue is zero and positive and negative shares mirror each other.",
            "Mean shares: " + ", ".join(f"{last[name].mean():.2f} {name}" for name in SHARES) + ".",
        ),
    ]


def _spectra(records: Records[MinimalRatio]) -> list[Figure]:
    made, table = [], records.analysis("spectra")
    for task, part in by_task(records, table):
        numbers = ": loss " + part["loss"].map("{:.3f}".format) + ", index " + part["index"].astype(str)
        label = part["point"].map(SELECTED) + numbers
        made.append(
            Figure(
                f"spectra-{FILES[task]}",
                f"Spectra at three critical points: {task}",
                spectra(
                    part.assign(label=label, kind=part["kind"].map(KINDS)),
                    x=Axis("eigenvalue", "eigenvalue of the Hessian (loss / weight²)"),
                    y=Axis("density", "density"),
                    panel="label",
                    series="kind",
                    linear=LINEAR,
                ),
                f"Seed {part['seed'].iloc[0]}, {int(part['parameters'].iloc[0])} eigenvalues each, which ticks mark. "
                f"Smoothed densities on an axis that is linear within {LINEAR:g} of zero and logarithmic beyond."
                + (
                    f" {KINDS[MATRICES].capitalize()}: matched to the two first moments."
                    if MATRICES in set(part["kind"])
                    else ""
                ),
                "; ".join(label.drop_duplicates()) + ".",
            )
        )
    found = points(records, TARGETS).dropna(subset="predicted") if len(table) else points(records, TARGETS)
    if len(found):
        shares = found[["loss", "seed", "index", "negative", "predicted"]]
        long = shares.rename(columns={"negative": "measured", "predicted": KINDS[MATRICES]}).melt(
            ["loss", "seed", "index"], var_name="share", value_name="negative"
        )
        made.append(
            Figure(
                "random-matrices",
                "Share of negative eigenvalues, measured and predicted by random matrices",
                scatter(
                    long,
                    x=Axis("loss", _loss(TARGETS)),
                    y=Axis("negative", "share of negative eigenvalues"),
                    series="share",
                    detail=("index", "seed"),
                    size=24,
                ),
                f"Certified points on {TARGETS}, {counted(found['seed'].nunique(), 'seed')}. Prediction after "
                "Pennington and "
                "Bahri 2017 from two moments of each point's own matrices.",
                f"Mean share of negative eigenvalues: measured {found['negative'].mean():.2f}, predicted "
                f"{found['predicted'].mean():.2f}.",
            )
        )
    return made
