"""Deep against shallow at equal size: three networks of 671, 675 and 740 parameters learn cos and exp.

The report's Figures 1 and 2 and Table 1. It gives parameter counts, layers and functions; the rest is chosen here,
before any run, with the reason beside each setting.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from theodolite import data
from theodolite.claims import Claim, Evidence, epochs_to_convergence
from theodolite.data import DataSpec
from theodolite.models.budget import architectures
from theodolite.models.description import MLP
from theodolite.store.records import Records
from theodolite.studies.simulate_function.findings import (
    BUDGET,
    MINI,
    SCALED,
    SWEPT,
    figures,
    results,
    tables,
)
from theodolite.studies.simulate_function.learning import FULL, NAMED, START, curves_apart, losses_at_start
from theodolite.studies.simulate_function.settings import PRESETS, SimulateFunction
from theodolite.study import RunSpec, Seeds, Study, Training
from theodolite.wording import per_cent

if TYPE_CHECKING:
    from theodolite.train import Outcome

NAME = "simulate-function"
MODELS = {  # exactly the report's counts and layers (Table 1); the most balanced shapes that have them
    "Model 1": (15, 19, 16),  # 671
    "Model 2": (13, 12, 12, 12, 12),  # 675
    "Model 3": (19, 17, 19),  # 740
}
ALIKE = 1.25  # the factor within which two numbers count as alike, and beyond which one is "much" the larger
LONGER = 1.5  # from which one takes "much longer": half as long again
GRID = 192  # points inside the domain at which a fit is judged and drawn, and as many outside


def expand(settings: SimulateFunction) -> Iterator[RunSpec]:
    """Every function, batch, model and seed; full batch only: the sweep over depth, and exp with the spread of cos."""
    models = {name: _mlp(hidden, settings) for name, hidden in MODELS.items()}
    sweep = {f"{layers}{SWEPT}": _at_budget(layers, settings) for layers in settings.depths}
    designs = [(FULL, models), *([(MINI, models)] if settings.batch_size else []), (FULL, sweep)]
    for function in settings.functions:
        for batch, networks in designs:
            for name, model in networks.items():
                for seed in range(settings.seeds):
                    yield _spec(settings, function, function, name, model, batch, seed)
    if {"cos", "exp"} <= set(settings.functions):
        for name, model in models.items():
            for seed in range(settings.seeds):
                yield _spec(settings, SCALED, _scaled(settings), name, model, FULL, seed)


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


def _rows(records: Records[SimulateFunction], function: str, model: str) -> pd.DataFrame:
    """The runs that the claims are about: full batch, where an epoch is a step and no noise hides the network."""
    runs = records.derived(results)
    return runs[(runs["function"] == function) & (runs["model"] == model) & (runs["batch"] == FULL)]


def _each_model(records: Records[SimulateFunction], column: str) -> dict[str, Evidence]:
    return {model: Evidence.exact(_rows(records, "cos", model).set_index("seed")[column]) for model in MODELS}


def _epochs(records: Records[SimulateFunction], function: str, model: str) -> Evidence:
    return epochs_to_convergence(_rows(records, function, model))


def _deep_over_shallow(records: Records[SimulateFunction], function: str, column: str) -> Evidence:
    """Model 2 over the geometric mean of models 1 and 3."""
    one, two, three = (Evidence.exact(_rows(records, function, m).set_index("seed")[column]) for m in MODELS)
    return two / _geometric_mean(one, three)


def _deep_over_shallow_at_start(records: Records[SimulateFunction]) -> Evidence:
    losses = losses_at_start(records, "exp")
    one, two, three = (Evidence.exact(losses[model]) for model in NAMED)
    return two / _geometric_mean(one, three)


def _one_over_three(records: Records[SimulateFunction], column: str) -> Evidence:
    one, three = (Evidence.exact(_rows(records, "cos", m).set_index("seed")[column]) for m in NAMED[::2])
    return one / three


def _shallow_epochs(records: Records[SimulateFunction], function: str) -> Evidence:
    return _geometric_mean(*(_epochs(records, function, model) for model in NAMED[::2]))


def _curves_apart(records: Records[SimulateFunction]) -> Evidence:
    pairs = curves_apart(records)
    return Evidence.exact(pairs.set_index("seed")["ratio"] if len(pairs) else pd.Series(dtype="float64"))


def _geometric_mean(*parts: Evidence) -> Evidence:
    """Seed by seed, of positive numbers, bound by bound."""
    low, high = (pd.concat([getattr(p, end) for p in parts], axis=1, join="inner") for end in ("low", "high"))
    n = len(parts)
    return Evidence(low.prod(axis=1, skipna=False) ** (1 / n), high.prod(axis=1, skipna=False) ** (1 / n))


def _exponential_over_cosine(records: Records[SimulateFunction]) -> dict[str, Evidence]:
    """Of exp as it is, and with the spread of cos: whether its shape is hard, or its large numbers are."""
    exponential, scaled, cosine = (
        _geometric_mean(*(_epochs(records, function, model) for model in MODELS)) for function in ("exp", SCALED, "cos")
    )
    return {"exp": exponential / cosine, SCALED: scaled / cosine}


CLAIMS = (
    Claim(
        id="fits-inside",
        sentence="Each of the 3 models accurately fits the cosine function within the domain of the training data.",
        source="report, Figure 1 left",
        statistic="R² on cos inside the domain at points not trained on, for each of the three models",
        kind="mean",
        side="above",
        threshold=0.99,
        evidence=lambda records: _each_model(records, "r2_inside"),
    ),
    Claim(
        id="fails-outside",
        sentence="Outside of the training data domain the prediction of these models is limited.",
        source="report, Figure 1 left",
        statistic="root mean square error on cos outside the domain over that inside, for each of the three models",
        kind="ratio",
        side="above",
        threshold=10.0,
        evidence=lambda records: _each_model(records, "outside_over_inside"),
    ),
    Claim(
        id="same-depth-alike",
        sentence="Models 1 and 3 reach the predefined convergence at the same number of epochs.",
        source="report, Figure 1 right",
        statistic="epochs to convergence on cos, model 1 over model 3",
        kind="median_ratio",
        side="within",
        threshold=(1 / ALIKE, ALIKE),
        evidence=lambda records: _epochs(records, "cos", "Model 1") / _epochs(records, "cos", "Model 3"),
    ),
    Claim(
        id="same-depth-performs-alike",
        sentence="Model 1 and Model 3 have similar performance.",
        source="report, Figure 1 right",
        statistic="root mean square error on cos inside the domain at points not trained on, model 1 over model 3",
        kind="ratio",
        side="within",
        threshold=(1 / ALIKE, ALIKE),
        evidence=lambda records: _one_over_three(records, "inside"),
    ),
    Claim(
        id="same-depth-learns-alike",
        sentence="Models 1 and 3 follow a similar learning curve.",
        source="report, Figure 1 right",
        # Two curves of one model lie apart as well: the null is that of their initial weights.
        statistic="distance of the learning curves of models 1 and 3 on cos over that of two trainings of one model, "
        "in powers of ten, pairs of seeds",
        kind="ratio",
        side="below",
        threshold=ALIKE,
        evidence=_curves_apart,
    ),
    Claim(
        id="deeper-twice-as-fast",
        sentence="Model 2 reaches convergence in less than half the amount of epochs.",
        source="report, Figure 1 right",
        statistic="epochs to convergence on cos, model 2 over the geometric mean of models 1 and 3",
        kind="median_ratio",
        side="below",
        threshold=0.5,
        evidence=lambda records: _epochs(records, "cos", "Model 2") / _shallow_epochs(records, "cos"),
    ),
    Claim(
        id="deeper-performs-better",
        sentence="Model 2 performs significantly better than models 1 and 3.",
        source="report, Figure 1 right",
        statistic="root mean square error on cos inside the domain at points not trained on, model 2 over the "
        "geometric mean of models 1 and 3",
        kind="ratio",
        side="below",
        threshold=1.0,
        evidence=lambda records: _deep_over_shallow(records, "cos", "inside"),
    ),
    Claim(
        id="deeper-starts-slower",
        sentence="Models with higher numbers of hidden layers are more difficult to train at the start.",
        source="report, Figure 2 right",
        # Not at a share of all epochs, which is a setting: the curves cross early, and the verdict turned with it.
        statistic=f"training loss on exp after {per_cent(START)} of the epochs that models 1 and 3 take to convergence "
        "(geometric mean), model 2 over the geometric mean of models 1 and 3",
        kind="ratio",
        side="above",
        threshold=1.0,
        evidence=_deep_over_shallow_at_start,
    ),
    Claim(
        id="deeper-ends-lower",
        sentence="They tend to plateau at lower loss values, eventually overtaking those with less hidden layers.",
        source="report, Figure 2 right",
        statistic="training loss on exp in the last 10 % of epochs, model 2 over the geometric mean of models 1 and 3",
        kind="ratio",
        side="below",
        threshold=1.0,
        evidence=lambda records: _deep_over_shallow(records, "exp", "final_loss"),
    ),
    Claim(
        id="shallow-takes-much-longer",
        sentence="The loss value for model 2 plummets while models 1 and 3 take much longer to get to a lower loss "
        "value.",
        source="report, Figure 2 right",
        statistic="epochs to convergence on exp, the geometric mean of models 1 and 3 over model 2",
        kind="median_ratio",
        side="above",
        threshold=LONGER,
        evidence=lambda records: _shallow_epochs(records, "exp") / _epochs(records, "exp", "Model 2"),
    ),
    Claim(
        id="exponential-is-harder",
        sentence="The exponential function was much more difficult for the models to learn.",
        source="report, Figure 2",
        # exp reaches 23 and cos 1, and larger numbers alone take longer from small initial weights: hence exp twice.
        statistic="epochs to the same share of the target's variance, exp over cos, geometric mean of the three "
        "models; exp as it is, and with the spread of cos",
        kind="median_ratio",
        side="above",
        threshold=ALIKE,
        evidence=_exponential_over_cosine,
    ),
)


def _scaled(settings: SimulateFunction) -> str:
    """Exp times what gives it the spread of cos over the training points."""
    cos, exp = (data.load(_source(settings, function)).train_targets.std() for function in ("cos", "exp"))
    return f"{float(cos / exp):.6g}*exp(x)"


def _source(settings: SimulateFunction, function: str) -> DataSpec:
    return DataSpec(source=f"function:{function}", train=settings.points, test=settings.points, domain=settings.domain)


def _spec(
    settings: SimulateFunction, label: str, function: str, name: str, model: MLP, batch: str, seed: int
) -> RunSpec:
    full = batch == FULL
    epochs = settings.epochs if full else settings.batch_epochs
    source = _source(settings, function)
    return RunSpec(
        study=NAME,
        labels={"function": label, "model": name, "batch": batch},
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
    settings_type=SimulateFunction,
    presets=PRESETS,
    expand=expand,
    measure=measure,
    tables=tables,
    figures=figures,
    claims=CLAIMS,
    seconds={"smoke": 5, "quick": 31, "full": 1700},
    not_shown=(
        "One activation, one optimizer and one learning rate for all models: a rate tuned for each depth could change "
        "the order. The three models differ slightly in size. The report does not give its domain, convergence or "
        "learning rate, so its numbers of epochs cannot be compared with these, only its statements."
    ),
)
