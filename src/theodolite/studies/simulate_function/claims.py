"""What is claimed of the function fits, and the numbers of each seed that it is tested on.

Beside :mod:`theodolite.studies.simulate_function.study`, which trains and measures. Thresholds are set before any run.
"""

from dataclasses import replace

import pandas as pd

from theodolite.claims import Claim, Evidence, epochs_to_convergence
from theodolite.store.records import Records
from theodolite.studies.simulate_function.findings import SCALED, results
from theodolite.studies.simulate_function.learning import FULL, NAMED, START, curves_apart, losses_at_start
from theodolite.studies.simulate_function.settings import SimulateFunction
from theodolite.wording import per_cent

ALIKE = 1.25  # the factor within which two numbers count as alike, and beyond which one is "much" the larger
LONGER = 1.5  # from which one takes "much longer": half as long again


def _rows(records: Records[SimulateFunction], function: str, model: str) -> pd.DataFrame:
    """The runs that the claims are about: full batch, where an epoch is a step and no noise hides the network."""
    runs = records.derived(results)
    return runs[(runs["function"] == function) & (runs["model"] == model) & (runs["batch"] == FULL)]


def _each_model(records: Records[SimulateFunction], column: str) -> dict[str, Evidence]:
    return {model: Evidence.exact(_rows(records, "cos", model).set_index("seed")[column]) for model in NAMED}


def _epochs(records: Records[SimulateFunction], function: str, model: str) -> Evidence:
    return epochs_to_convergence(_rows(records, function, model))


def _deep_over_shallow(records: Records[SimulateFunction], function: str, column: str) -> Evidence:
    """Model 2 over the geometric mean of models 1 and 3."""
    one, two, three = (Evidence.exact(_rows(records, function, m).set_index("seed")[column]) for m in NAMED)
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
        _geometric_mean(*(_epochs(records, function, model) for model in NAMED)) for function in ("exp", SCALED, "cos")
    )
    if not len(scaled.low):
        scaled = replace(scaled, note="exp with the spread of cos was not learned; run the study again to add it.")
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
        seeds=lambda settings: settings.seeds // 2,
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
