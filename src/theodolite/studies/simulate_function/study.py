"""Deep against shallow at equal size: three networks of 671, 675 and 740 parameters learn cos and exp.

The report's Figures 1 and 2 and Table 1. It gives parameter counts, layers and functions; the rest is chosen here,
before any run, with the reason beside each setting.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from theodolite import data
from theodolite.claims import worded
from theodolite.data import DataSpec
from theodolite.models import MLP, architectures
from theodolite.studies.simulate_function.claims import CLAIMS
from theodolite.studies.simulate_function.findings import BUDGET, MINI, SCALED, SWEPT, figures, tables
from theodolite.studies.simulate_function.learning import FULL
from theodolite.studies.simulate_function.schemas import SCHEMAS
from theodolite.studies.simulate_function.settings import PRESETS, SimulateFunction
from theodolite.studies.simulate_function.words import WORDS
from theodolite.study import RunSpec, Seeds, Study, Training

if TYPE_CHECKING:
    from theodolite.train import Outcome

NAME = "simulate-function"
MODELS = {  # exactly the report's counts and layers (Table 1); the most balanced shapes that have them
    "Model 1": (15, 19, 16),  # 671
    "Model 2": (13, 12, 12, 12, 12),  # 675
    "Model 3": (19, 17, 19),  # 740
}
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
    (best,) = architectures(BUDGET, layers, tolerance=BUDGET // 50, limit=1)
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
    claims=worded(CLAIMS, WORDS),
    schemas=SCHEMAS,
    seconds={"smoke": 6, "quick": 39, "full": 1900},
    not_shown=(
        "One activation, one optimizer and one learning rate for all models: a rate tuned for each depth could change "
        "the order. The three models differ slightly in size. The report does not give its domain, convergence or "
        "learning rate, so its numbers of epochs cannot be compared with these, only its statements."
    ),
)
