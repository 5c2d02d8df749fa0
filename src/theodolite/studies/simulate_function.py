"""Deep against shallow at equal size: three networks of 671, 675 and 740 parameters learn cos and exp.

The report's Figures 1 and 2 and Table 1. It gives parameter counts, layers and functions; the rest is chosen here,
before any run, with the reason beside each setting.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from theodolite import data
from theodolite.claims import Claim, Evidence, Kind, epochs_to_convergence, interval
from theodolite.data import DataSpec
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import over_factor
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure, Table
from theodolite.models.budget import architectures
from theodolite.models.description import MLP, Activation
from theodolite.store.records import Records
from theodolite.study import RunSpec, Seeds, Settings, Study, Training

if TYPE_CHECKING:
    from theodolite.train import Outcome

NAME = "simulate-function"
MODELS = {  # exactly the report's counts and layers (Table 1); the most balanced shapes that have them
    "Model 1": (15, 19, 16),  # 671
    "Model 2": (13, 12, 12, 12, 12),  # 675
    "Model 3": (19, 17, 19),  # 740
}
BUDGET = 671  # of the sweep over depth
GRID = 192  # points inside the domain at which a fit is judged and drawn, and as many outside
FULL, MINI = "full batch", "mini-batch"
EARLY, LATE = 0.05, 0.9  # shares of the epochs: "at the start" ends at the one, the plateau begins at the other


class SimulateFunction(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 16
    functions: tuple[str, ...] = ("cos", "exp")  # the report's; also sinc, sign and any expression of x
    domain: tuple[float, float] = (-math.pi, math.pi)  # one whole period of cos, the same for every function
    points: Annotated[int, Field(ge=8)] = 512  # training points, evenly spaced
    activation: Activation = "relu"  # what a course's script uses unless told otherwise
    learning_rate: PositiveFloat = 1e-3  # Adam's default
    epochs: PositiveInt = 4000  # full batch: one step each
    batch_size: PositiveInt | None = 64  # the same with mini-batches; null leaves them out
    batch_epochs: PositiveInt = 500  # with mini-batches: eight steps each, so as many steps as above
    evaluate_every: PositiveInt = 10  # full batch; mini-batches in proportion
    convergence: Annotated[float, Field(gt=0, lt=1)] = 1e-3  # training loss as a share of the target's variance
    stop_at_convergence: bool = False  # off: `deeper-ends-lower` is about what comes after
    depths: tuple[PositiveInt, ...] = ()  # layers of the sweep at one budget, such as [2, 3, 4, 5, 6, 7, 8]

    @model_validator(mode="after")
    def _check(self) -> "SimulateFunction":
        if self.domain[0] >= self.domain[1]:
            raise ValueError("the domain's first end must lie below its second")
        return self


PRESETS = {
    "smoke": SimulateFunction(seeds=3, points=128, epochs=400, batch_epochs=50),
    "quick": SimulateFunction(),
    "full": SimulateFunction(seeds=32, epochs=20_000, batch_epochs=2_500, depths=(2, 3, 4, 5, 6, 7, 8)),
}


def expand(settings: SimulateFunction) -> Iterator[RunSpec]:
    """Every function, batch, model and seed; then the sweep over depth, full batch only."""
    models = {name: _mlp(hidden, settings) for name, hidden in MODELS.items()}
    sweep = {f"{layers} layers": _at_budget(layers, settings) for layers in settings.depths}
    designs = [(FULL, models), *([(MINI, models)] if settings.batch_size else []), (FULL, sweep)]
    for function in settings.functions:
        for batch, networks in designs:
            for name, model in networks.items():
                for seed in range(settings.seeds):
                    yield _spec(settings, function, name, model, batch, seed)


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """The fit on a grid inside and outside the domain, and its errors at points that were not trained on."""
    low, high = spec.data.domain
    step = (high - low) / GRID
    x = (
        low - (high - low) / 2 + step * (np.arange(2 * GRID, dtype=np.float64) + 0.5)
    )  # midpoints: none of them is a training point
    within = (x > low) & (x < high)
    y = data.evaluate(spec.data.source, x)
    fit = outcome.predict(x[:, None])[:, 0]
    wrong = (fit - y) ** 2
    errors = {
        "inside": float(np.sqrt(wrong[within].mean())),
        "outside": float(np.sqrt(wrong[~within].mean())),
        "r2_inside": float(1 - wrong[within].mean() / y[within].var()),
    }
    return {"fit": pd.DataFrame({"x": x, "target": y, "fit": fit}), "errors": pd.DataFrame([errors])}


def tables(records: Records) -> list[Table]:
    """Table 1 with what became of each model, and the sweep where there is one."""
    runs = records.derived(_results)
    seeds, share = runs["seed"].nunique(), records.plan.settings["convergence"]
    caption = (
        f"Over {seeds} seeds: median epochs to convergence (training loss at {share:g} of the target's variance), "
        "geometric means of the final training loss and of the root mean square errors inside and outside the domain, "
        "each with its 95 % interval. A run that does not converge within its epochs counts as later than that."
    )
    rows = pd.DataFrame([_row(keys, group) for keys, group in runs.groupby(["function", "batch", "model"], sort=False)])
    named = rows["model"].isin(list(MODELS))
    found = [Table("table-1", "Table 1: the three models, and what became of them", rows[named], caption)]
    if not named.all():
        found.append(Table("depth", f"Depth at a budget of about {BUDGET} parameters", rows[~named], caption))
    return found


def figures(records: Records) -> list[Figure]:
    """Per function the fits and the learning curves; over depth, epochs and final loss."""
    settings = records.plan.settings
    seeds = records.done["seed"].nunique()
    tables = (records.table(name) for name in ("fit", "metrics"))
    fits, metrics = (table[table["model"].isin(list(MODELS))] for table in tables)
    found = []
    for number, function in enumerate(settings["functions"], start=1):
        fit = fits[(fits["function"] == function) & (fits["batch"] == FULL)]
        found.append(_fit_figure(fit, function, number, settings, seeds))
        for batch, learning in metrics[metrics["function"] == function].groupby("batch", sort=False):
            found.append(_learning_figure(learning, function, number, str(batch), settings, seeds))
    if settings["depths"]:
        found += _depth_figures(records, settings, seeds)
    return found


def _fit_figure(fits: pd.DataFrame, function: str, number: int, settings: Mapping[str, Any], seeds: int) -> Figure:
    low, high = settings["domain"]
    chart = curves(
        fits,
        x=Axis("x", "x"),
        y=Axis("fit", f"{function}(x) and fits"),
        series="model",
        rules=[Rule(low, "domain", "x"), Rule(high, "domain", "x")],
        reference=fits.drop_duplicates("x")[["x", "target"]].rename(columns={"target": "fit"}),
        reference_label=function,
    )
    caption = (
        f"{function} and the fits of the three models, trained on the full batch inside the domain "
        f"[{low:.3g}, {high:.3g}] and drawn half its width beyond. {seeds} seeds. {BAND}"
    )
    return Figure(
        f"figure-{number}-{_slug(function)}-fit",
        f"Figure {number} (left): fits of {function} inside and outside the domain",
        chart,
        caption,
        f"The fits follow {function} inside the domain of the training data and leave it outside.",
        "Each of the 3 models accurately fits the cosine function within the domain of the training data"
        if function == "cos"
        else "",
    )


def _learning_figure(
    metrics: pd.DataFrame, function: str, number: int, batch: str, settings: Mapping[str, Any], seeds: int
) -> Figure:
    line = _convergence(
        DataSpec(source=f"function:{function}", train=settings["points"], domain=settings["domain"]),
        settings["convergence"],
    )
    chart = curves(
        metrics[metrics["epoch"] > 0],
        x=Axis("epoch", "epoch", log=True),
        y=Axis("train_loss", "training loss (mean squared error)", log=True),
        series="model",
        rules=[Rule(line, "convergence")],
        carry=True,
    )
    return Figure(
        f"figure-{number}-{_slug(function)}-learning-{_slug(batch)}",
        f"Figure {number} (right): learning {function}, {batch}",
        chart,
        f"Training loss of the three models on {function}, {batch} Adam. The line: the convergence fixed beforehand, "
        f"{settings['convergence']:g} of the target's variance. {seeds} seeds. {BAND}",
        f"Training loss of three models on {function} falls over the epochs; which one is lowest is in table 1.",
        "Model 2 reaches convergence in less than half the amount of epochs"
        if function == "cos"
        else "the loss value for model 2 plummets while models 1 and 3 take much longer",
    )


def _depth_figures(records: Records, settings: Mapping[str, Any], seeds: int) -> list[Figure]:
    runs = records.derived(_results)
    runs = runs[~runs["model"].isin(list(MODELS))]
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
        y=Axis("final_loss", "final training loss", log=True),
        panel="function",
    )
    dots = f"Every seed a dot ({seeds} seeds), with the median and its 95 % interval."
    return [
        Figure(
            "depth-epochs",
            f"Epochs to convergence by depth, at about {BUDGET} parameters",
            epochs,
            f"{dots} Open triangles: not converged within {settings['epochs']} epochs.",
            "Epochs to convergence for networks of two to eight layers with the same number of parameters.",
        ),
        Figure(
            "depth-loss",
            f"Final training loss by depth, at about {BUDGET} parameters",
            loss,
            dots,
            "Final training loss for networks of two to eight layers with the same number of parameters.",
        ),
    ]


def _rows(records: Records, function: str, model: str) -> pd.DataFrame:
    """The runs that the claims are about: full batch, where an epoch is a step and no noise hides the network."""
    runs = records.derived(_results)
    return runs[(runs["function"] == function) & (runs["model"] == model) & (runs["batch"] == FULL)]


def _worst(records: Records, column: str, how: str) -> Evidence:
    parts = [_rows(records, "cos", model).set_index("seed")[column] for model in MODELS]
    return Evidence.exact(getattr(pd.concat(parts, axis=1), how)(axis=1, skipna=False))


def _epochs(records: Records, function: str, model: str) -> Evidence:
    return epochs_to_convergence(_rows(records, function, model))


def _deep_over_shallow(records: Records, column: str) -> Evidence:
    """Model 2 over the geometric mean of models 1 and 3, on exp, where the report sees it most clearly."""
    one, two, three = (Evidence.exact(_rows(records, "exp", model).set_index("seed")[column]) for model in MODELS)
    return two / _geometric_mean(one, three)


def _geometric_mean(*parts: Evidence) -> Evidence:
    """Seed by seed, of positive numbers, bound by bound."""
    low, high = (pd.concat([getattr(p, end) for p in parts], axis=1, join="inner") for end in ("low", "high"))
    n = len(parts)
    return Evidence(low.prod(axis=1, skipna=False) ** (1 / n), high.prod(axis=1, skipna=False) ** (1 / n))


def _exponential_over_cosine(records: Records) -> Evidence:
    exponential, cosine = (_geometric_mean(*(_epochs(records, f, m) for m in MODELS)) for f in ("exp", "cos"))
    return exponential / cosine


CLAIMS = (
    Claim(
        id="fits-inside",
        sentence="Each of the 3 models accurately fits the cosine function within the domain of the training data.",
        source="report, Figure 1 left",
        statistic="R² on cos inside the domain at points not trained on, the worst of the three models",
        kind="mean",
        side="above",
        threshold=0.99,
        evidence=lambda records: _worst(records, "r2_inside", "min"),
    ),
    Claim(
        id="fails-outside",
        sentence="Outside of the training data domain the prediction of these models is limited.",
        source="report, Figure 1 left",
        statistic="root mean square error on cos outside the domain over that inside, the best of the three models",
        kind="ratio",
        side="above",
        threshold=10.0,
        evidence=lambda records: _worst(records, "outside_over_inside", "min"),
    ),
    Claim(
        id="same-depth-alike",
        sentence="Models 1 and 3 reach the predefined convergence at the same number of epochs.",
        source="report, Figure 1 right",
        statistic="epochs to convergence on cos, model 1 over model 3",
        kind="median_ratio",
        side="within",
        threshold=(1 / 1.25, 1.25),
        evidence=lambda records: _epochs(records, "cos", "Model 1") / _epochs(records, "cos", "Model 3"),
    ),
    Claim(
        id="deeper-twice-as-fast",
        sentence="Model 2 reaches convergence in less than half the amount of epochs.",
        source="report, Figure 1 right",
        statistic="epochs to convergence on cos, model 2 over the geometric mean of models 1 and 3",
        kind="median_ratio",
        side="below",
        threshold=0.5,
        evidence=lambda records: (
            _epochs(records, "cos", "Model 2")
            / _geometric_mean(_epochs(records, "cos", "Model 1"), _epochs(records, "cos", "Model 3"))
        ),
    ),
    Claim(
        id="deeper-starts-slower",
        sentence="Models with higher numbers of hidden layers are more difficult to train at the start.",
        source="report, Figure 2 right",
        statistic="training loss on exp after 5 % of the epochs, model 2 over the geometric mean of models 1 and 3",
        kind="ratio",
        side="above",
        threshold=1.0,
        evidence=lambda records: _deep_over_shallow(records, "early_loss"),
    ),
    Claim(
        id="deeper-ends-lower",
        sentence="They tend to plateau at lower loss values, eventually overtaking those with less hidden layers.",
        source="report, Figure 2 right",
        statistic="training loss on exp in the last 10 % of epochs, model 2 over the geometric mean of models 1 and 3",
        kind="ratio",
        side="below",
        threshold=1.0,
        evidence=lambda records: _deep_over_shallow(records, "final_loss"),
    ),
    Claim(
        id="exponential-is-harder",
        sentence="The exponential function was much more difficult for the models to learn.",
        source="report, Figure 2",
        statistic="epochs to the same share of the target's variance, exp over cos, geometric mean of the three models",
        kind="median_ratio",
        side="above",
        threshold=1.0,
        evidence=_exponential_over_cosine,
    ),
)


def _results(records: Records) -> pd.DataFrame:
    """One row a run: labels, size, epochs to convergence, loss early and late, errors inside and outside."""
    metrics = records.table("metrics")
    last = metrics.groupby("fingerprint")["epoch"].transform("max")
    early = metrics[metrics["epoch"] <= EARLY * last].groupby("fingerprint")["train_loss"].last()
    late = metrics[metrics["epoch"] >= LATE * last].groupby("fingerprint")["train_loss"]
    final = late.agg(lambda losses: float(np.exp(np.log(losses).mean(skipna=False))))
    errors = records.table("errors").set_index("fingerprint")[["inside", "outside", "r2_inside"]]
    runs = records.done.set_index("fingerprint").join(errors)
    return runs.assign(
        early_loss=early, final_loss=final, outside_over_inside=runs["outside"] / runs["inside"]
    ).reset_index()


def _row(keys: tuple[Any, ...], runs: pd.DataFrame) -> dict[str, object]:
    function, batch, model = keys
    first = runs.iloc[0]
    row: dict[str, object] = {
        "function": function,
        "batch": batch,
        "model": model,
        "parameters": first["parameters"],
        "layers": first["layers"],
        "shape": first["shape"],
        "converged": f"{runs['converged_epoch'].notna().sum()} of {len(runs)}",
    }
    numbers: dict[str, tuple[Evidence, Kind]] = {
        "epochs to convergence": (epochs_to_convergence(runs), "median"),
        "final training loss": (Evidence.exact(runs.set_index("seed")["final_loss"]), "ratio"),
        "error inside": (Evidence.exact(runs.set_index("seed")["inside"]), "ratio"),
        "error outside": (Evidence.exact(runs.set_index("seed")["outside"]), "ratio"),
    }
    for name, (evidence, kind) in numbers.items():
        found = interval(evidence, kind)
        row |= found.columns(name)
    return row


def _spec(settings: SimulateFunction, function: str, name: str, model: MLP, batch: str, seed: int) -> RunSpec:
    full = batch == FULL
    epochs = settings.epochs if full else settings.batch_epochs
    source = DataSpec(
        source=f"function:{function}", train=settings.points, test=settings.points, domain=settings.domain
    )
    return RunSpec(
        study=NAME,
        labels={"function": function, "model": name, "batch": batch},
        seed=seed,
        data=source,
        model=model,
        training=Training(
            loss="mse",
            optimizer="adam",
            learning_rate=settings.learning_rate,
            batch_size=None if full else settings.batch_size,
            epochs=epochs,
            evaluate_every=max(1, settings.evaluate_every * epochs // settings.epochs),
            convergence=_convergence(source, settings.convergence),
            stop_at_convergence=settings.stop_at_convergence,
        ),
        seeds=Seeds(weights=seed, order=seed),
    )


def _convergence(source: DataSpec, share: float) -> float:
    """The training loss that counts as converged: a share of the target's variance on the training points."""
    return share * float(data.load(source).train_targets.var())


def _slug(text: str) -> str:
    """For a file name: letters and digits, the rest as dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _mlp(hidden: tuple[int, ...], settings: SimulateFunction) -> MLP:
    return MLP(inputs=1, hidden=hidden, outputs=1, activation=settings.activation)


def _at_budget(layers: int, settings: SimulateFunction) -> MLP:
    """The most balanced network with this many layers whose count is nearest to the budget, within 2 %."""
    found = architectures(BUDGET, layers, tolerance=BUDGET // 50, limit=200)
    best = min(found, key=lambda model: abs(model.parameters - BUDGET))
    return _mlp(best.hidden, settings)


STUDY = Study(
    name=NAME,
    title="Deep against shallow: fitting a function",
    question=(
        "Do deeper networks of equal size learn a function faster and better, and what do they know outside the domain "
        "they were trained on?"
    ),
    source="Figures 1 and 2, Table 1",
    presets=PRESETS,
    expand=expand,
    measure=measure,
    tables=tables,
    figures=figures,
    claims=CLAIMS,
    seconds={"smoke": 5, "quick": 53},
    not_shown=(
        "One activation, one optimizer and one learning rate for all models: a rate tuned for each depth could change "
        "the order. The three models differ slightly in size. The report does not give its domain, convergence or "
        "learning rate, so its numbers of epochs cannot be compared with these, only its statements."
    ),
)
