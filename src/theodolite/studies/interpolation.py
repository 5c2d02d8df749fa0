"""The straight line between two trained networks: loss and accuracy on it, before and after matching hidden units.

The report's Figure 11. It gives batch sizes, epochs and the range of alpha; the rest is chosen here, before any run,
with the reason beside each setting.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import altair as alt
import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from theodolite.claims import Claim, Evidence, Kind, interval
from theodolite.data import DataSpec
from theodolite.data.sources import SOURCES
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import forest
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure, Table
from theodolite.models.description import CNN
from theodolite.store.records import Records
from theodolite.studies.classifiers import CLASSES, classifier
from theodolite.study import AnalysisSpec, RunSpec, Seeds, Settings, Study, Training

if TYPE_CHECKING:
    from theodolite.runs import Trained
    from theodolite.train import Outcome

NAME = "interpolation"
DNN, CONV = "DNN", "CNN"
OWN, SHARED = "own initial weights", "shared initial weights"
AS_TRAINED, BY_WEIGHTS, BY_ACTIVATIONS = "as trained", "matched by weights", "matched by activations"
TRAIN, TEST = "training", "test"
SECOND = 10_000  # added to the seeds of the second network, so that the two share nothing but their data
RESOLUTION = 0.1  # in alpha: what a figure with 31 values can tell apart; alphas this near to an end count as that end
STABLE = 0.02  # error barrier below which Frankle et al. 2020 call two networks linearly connected


class Interpolation(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8  # pairs of networks
    source: str = "mnist"
    images: PositiveInt | None = 16_384  # of the training set: sixteen whole batches of 1024; null: all
    hidden: tuple[PositiveInt, ...] = (
        64,
        64,
    )  # "the same DNN": two hidden layers, so that both must be matched at once
    batch_sizes: tuple[PositiveInt, PositiveInt] = (32, 1024)  # the report's
    epochs: PositiveInt = 25  # the report's
    learning_rate: PositiveFloat = 1e-3  # Adam's default, for both batch sizes: the report names one training
    alphas: Annotated[int, Field(ge=31)] = 31  # from -1 to 2, evenly spaced; 0 and 1 are among them
    shared_start: bool = False  # also pairs from the same initial weights: the report does not say which it took
    cnn_seeds: NonNegativeInt = 0  # pairs of small convolutional networks with BatchNorm
    cnn_channels: tuple[PositiveInt, ...] = (16, 32)  # two pools, as many as the smallest images allow comfortably
    cnn_hidden: tuple[PositiveInt, ...] = (64,)
    cnn_images: PositiveInt | None = 16_384  # renewing statistics reads them once more for every alpha

    @model_validator(mode="after")
    def _check(self) -> "Interpolation":
        if self.alphas % 3 != 1:
            raise ValueError("0 and 1 are among the alphas only if their number is 1 more than a multiple of 3")
        return self


PRESETS = {
    "smoke": Interpolation(
        seeds=3, source="digits", images=None, hidden=(32, 32), batch_sizes=(32, 256), shared_start=True,
        cnn_seeds=1, cnn_channels=(4, 8), cnn_hidden=(), cnn_images=256,
    ),
    "quick": Interpolation(),
    "full": Interpolation(seeds=16, images=None, hidden=(128, 128), alphas=61, shared_start=True, cnn_seeds=5),
}  # fmt: skip


def expand(settings: Interpolation) -> Iterator[RunSpec]:
    """Two networks a seed, and a third from the initial weights of the first where wanted."""
    for model, seeds in ((DNN, settings.seeds), (CONV, settings.cnn_seeds)):
        for start in _starts(settings, model):
            for number in (0, 1) if start == OWN else (1,):
                for seed in range(seeds):
                    yield _spec(settings, model, start, number, seed)


def analyses(settings: Interpolation) -> Iterator[AnalysisSpec]:
    """One a pair of networks: the line between them, on both sets, with and without matching."""
    for model, seeds in ((DNN, settings.seeds), (CONV, settings.cnn_seeds)):
        for start in _starts(settings, model):
            matchings = [AS_TRAINED, BY_WEIGHTS, BY_ACTIVATIONS] if start == OWN else [AS_TRAINED]
            for seed in range(seeds):
                pair = _spec(settings, model, OWN, 0, seed), _spec(settings, model, start, 1, seed)
                yield AnalysisSpec(
                    study=NAME,
                    labels={"model": model, "start": start},
                    seed=seed,
                    inputs=tuple(spec.fingerprint() for spec in pair),
                    settings={"alphas": settings.alphas, "matchings": matchings},
                )


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """Nothing of one network alone."""
    return {}


def analyse(spec: AnalysisSpec, trained: Sequence["Trained"]) -> Mapping[str, pd.DataFrame]:
    """Loss and accuracy on the line, and its barriers; BatchNorm statistics are renewed at every alpha."""
    from torch.nn.functional import cross_entropy

    from theodolite.measure.alignment import align
    from theodolite.measure.interpolate import interpolate
    from theodolite.train.batches import measured_batches

    first, second = (network.module() for network in trained)
    model, source = trained[0].spec.model, trained[0].spec.data
    data = {TRAIN: measured_batches(model, source, "train"), TEST: measured_batches(model, source, "test")}
    renew = data[TRAIN] if isinstance(model, CNN) else None
    lines, barriers = [], []
    for matching in spec.settings["matchings"]:
        end = second
        if matching != AS_TRAINED:
            method: Literal["weights", "activations"] = "weights" if matching == BY_WEIGHTS else "activations"
            end = align(first, second, method=method, data=data[TRAIN], seed=spec.seed).model
        for name, batches in data.items():
            found = interpolate(first, end, cross_entropy, batches, _alphas(spec.settings["alphas"]), renew=renew)
            place = {"matching": matching, "set": name}
            columns = {"alpha": found.alphas.numpy(), "loss": found.loss.numpy(), "accuracy": found.accuracy.numpy()}
            lines.append(pd.DataFrame({**place, **columns}))
            barriers.append({**place, "barrier": found.barrier, "error_barrier": found.error_barrier})
    return {"line": pd.concat(lines, ignore_index=True), "barriers": pd.DataFrame(barriers)}


def tables(records: Records) -> list[Table]:
    """The barriers of every kind of line, and what the networks at the ends are worth."""
    barriers = _named(_of_all_seeds(records, "barriers"))
    lines = _named(_of_all_seeds(records, "line"))
    if lines.empty:
        return []
    found = [_barrier_row(str(line), part, lines[lines["line"] == line]) for line, part in _groups(barriers, "line")]
    trained = lines[lines["matching"] == AS_TRAINED]
    first, second = records.plan.settings["batch_sizes"]
    ends = [
        {"network": f"{model}, batch size {batch}, {start}", **_end_row(part, end)}
        for (model, start), part in _groups(trained, ["model", "start"])
        for end, batch in ((0.0, first), (1.0, second))
        if start == OWN or end == 1.0  # with shared initial weights only the second network is another one
    ]
    return [
        Table(
            "barriers",
            "What lies between two networks",
            pd.DataFrame(found),
            "Means over seeds with their 95 % intervals. Error barrier: the highest share of wrong answers on the line "
            "between the networks less the mean of the two ends (Frankle et al. 2020); loss barrier: the same with the "
            "loss. Gain of mixing: highest test accuracy strictly between the networks less that of the better one.",
        ),
        Table(
            "ends",
            "The networks at the ends, and where each half of the line is best",
            pd.DataFrame(ends),
            "Geometric mean of losses and mean of accuracies over seeds with their 95 % intervals. Best alpha: "
            "median of where the loss is lowest on that network's half of the line (alpha up to 0.5, or from 0.5 on).",
            digits=4,
        ),
    ]


def figures(records: Records) -> list[Figure]:
    """Figure 11, the same after matching, and the barriers."""
    settings, lines = records.plan.settings, _named(_of_all_seeds(records, "line"))
    if lines.empty:
        return []
    first, second = settings["batch_sizes"]
    dnn = lines[(lines["model"] == DNN) & (lines["start"] == OWN)]
    seeds = dnn["seed"].nunique()
    tested = lines[(lines["set"] == TEST)].assign(series=lambda t: t["matching"].where(t["start"] == OWN, SHARED))
    count = ", ".join(f"{part['seed'].nunique()} pairs of {model}s" for model, part in _groups(tested, "model"))
    barriers = pd.DataFrame(
        {"line": line, **_interval(_exact(part, "error_barrier", TEST), "mean", "error barrier")}
        for line, part in _groups(_named(_of_all_seeds(records, "barriers")), "line")
    )
    return [
        Figure(
            "figure-11",
            "Figure 11: the line between two trained networks",
            _line_chart(dnn[dnn["matching"] == AS_TRAINED], "set", settings),
            "Accuracy and loss (cross entropy, logarithmic) of networks (1 - alpha) A + alpha B; A trained with "
            f"batch size {first}, B with {second}, {settings['epochs']} epochs each, from initial weights of their "
            f"own. {seeds} pairs. {BAND}",
            "Accuracy has a peak and loss a dip at each network, with a valley of low accuracy between the two.",
            "At these alpha values, the model had the highest accuracy and lowest loss. In between these values, "
            "however, the model struggled to make correct predictions.",
        ),
        Figure(
            "aligned",
            "The same line after matching hidden units",
            _line_chart(tested[tested["model"] == DNN], "series", settings),
            f"Test set, the same networks (the function of B is unchanged by matching). {seeds} pairs. {BAND}",
            "Accuracy and loss along the line before and after matching the hidden units of the second network to "
            "the first.",
        ),
        *([_cnn_figure(tested[tested["model"] == CONV], settings)] if settings["cnn_seeds"] else []),
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
            f"Mean over seeds with its 95 % interval; {count}. Below 2 % Frankle et al. 2020 call two networks "
            "connected.",
            "Error barriers for networks as they were trained and after matching, with the 2 % threshold.",
        ),
    ]


def _cnn_figure(lines: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    return Figure(
        "aligned-cnn",
        "The line between two convolutional networks",
        _line_chart(lines, "series", settings),
        f"Test set; BatchNorm statistics renewed on the training set at every alpha. {lines['seed'].nunique()} "
        f"pairs. {BAND}",
        "Accuracy and loss between two convolutional networks before and after matching their channels and units.",
    )


def _line_chart(lines: pd.DataFrame, series: str, settings: Mapping[str, Any]) -> Any:
    """Accuracy above loss, on one axis of alpha."""
    named = [Rule(float(end), f"batch size {size}", "x") for end, size in enumerate(settings["batch_sizes"])]
    plain = [Rule(rule.value, "", "x") for rule in named]  # the names would lie on the curves that are near 100 %
    alpha = Axis("alpha", "alpha", domain=(-1.0, 2.0))
    accuracy = Axis("accuracy", "accuracy", domain=(0.0, 1.02), format=".0%")
    loss = Axis("loss", "loss (cross entropy)", log=True)
    parts = [
        curves(lines, x=alpha, y=y, series=series, rules=rules, part=y.column, height=200)
        for y, rules in ((accuracy, plain), (loss, named))
    ]
    return alt.vconcat(*parts)


def _barrier_row(line: str, barriers: pd.DataFrame, points: pd.DataFrame) -> dict[str, object]:
    return {
        "line": line,
        "seeds": barriers["seed"].nunique(),
        **_interval(_exact(barriers, "error_barrier", TEST), "mean", "error barrier, test"),
        **_interval(_exact(barriers, "barrier", TEST), "mean", "loss barrier, test"),
        **_interval(_exact(barriers, "barrier", TRAIN), "mean", "loss barrier, training"),
        **_interval(_gain(points), "mean", "gain of mixing"),
    }


def _end_row(lines: pd.DataFrame, end: float) -> dict[str, object]:
    row: dict[str, object] = {}
    at_end = lines[lines["alpha"] == end]
    for name in (TRAIN, TEST):
        row |= _interval(_exact(at_end, "loss", name), "ratio", f"{name} loss")
        row |= _interval(_exact(at_end, "accuracy", name), "mean", f"{name} accuracy")
        half = _half(lines[lines["set"] == name], end).dropna(subset="loss")
        row[f"best alpha, {name}"] = half.loc[half.groupby("seed")["loss"].idxmin(), "alpha"].median()
    return row


def _interval(evidence: Evidence, kind: Kind, name: str) -> dict[str, float]:
    found = interval(evidence, kind)
    return found.columns(name)


def _exact(table: pd.DataFrame, column: str, part: str) -> Evidence:
    return Evidence.exact(table[table["set"] == part].set_index("seed")[column])


def _of_all_seeds(records: Records, name: str) -> pd.DataFrame:
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
    kind = table["matching"].where(table["start"] == OWN, SHARED)
    return table.assign(line=table["model"] + ", " + kind)


def _groups(table: pd.DataFrame, by: str | list[str]) -> Iterator[tuple[Any, pd.DataFrame]]:
    return iter(table.groupby(by, sort=False)) if len(table) else iter(())


def _claimed(records: Records, name: str, matching: str = AS_TRAINED) -> pd.DataFrame:
    """What the claims are about: two DNNs from initial weights of their own."""
    table = _of_all_seeds(records, name)
    if table.empty:
        return pd.DataFrame(
            columns=["seed", "matching", "set", "alpha", "loss", "accuracy", "barrier", "error_barrier"]
        )
    return table[(table["model"] == DNN) & (table["start"] == OWN) & (table["matching"] == matching)]


def _half(lines: pd.DataFrame, end: float) -> pd.DataFrame:
    return lines[lines["alpha"] <= 0.5] if end == 0.0 else lines[lines["alpha"] >= 0.5]


def _ends_and_elsewhere(lines: pd.DataFrame, column: str, best: str) -> Iterator[tuple[pd.Series, pd.Series]]:
    """For both ends and both sets: the value at the end, and the best of its half of the line away from it, by seed."""
    for _, part in _groups(lines, "set"):
        for end in (0.0, 1.0):
            half = _half(part, end)
            away = half[(half["alpha"] - end).abs() > RESOLUTION * (1 + 1e-6)]
            at_end = half[half["alpha"] == end].set_index("seed")[column]
            yield at_end, away.groupby("seed")[column].agg(best).reindex(at_end.index)


def _accuracy_lead(records: Records) -> Evidence:
    pairs = _ends_and_elsewhere(_claimed(records, "line"), "accuracy", "max")
    return _least([at_end - elsewhere for at_end, elsewhere in pairs])


def _loss_ratio(records: Records) -> Evidence:
    pairs = _ends_and_elsewhere(_claimed(records, "line"), "loss", "min")
    return _least([elsewhere / at_end for at_end, elsewhere in pairs])


def _least(parts: Sequence[pd.Series]) -> Evidence:
    if not parts:
        return Evidence.exact(pd.Series(dtype="float64"))
    return Evidence.exact(pd.concat(parts, axis=1).min(axis=1, skipna=False))


def _gain(lines: pd.DataFrame) -> Evidence:
    tested = lines[lines["set"] == TEST]
    between = tested[(tested["alpha"] > 0) & (tested["alpha"] < 1)].groupby("seed")["accuracy"].max()
    ends = tested[tested["alpha"].isin([0.0, 1.0])].groupby("seed")["accuracy"].max()
    return Evidence.exact(between - ends)


def _barrier(records: Records, column: str, matching: str = AS_TRAINED) -> Evidence:
    return _exact(_claimed(records, "barriers", matching), column, TEST)


CLAIMS = (
    Claim(
        id="ends-are-best-accuracy",
        sentence="At these alpha values [0 and 1], the model had the highest accuracy.",
        source="report, Figure 11",
        statistic="accuracy of a network less the highest on its half of the line more than 0.1 in alpha away from it, "
        "the least of both networks, training and test set",
        kind="mean",
        side="above",
        threshold=0.0,
        evidence=_accuracy_lead,
    ),
    Claim(
        id="ends-are-lowest-loss",
        sentence="At these alpha values [0 and 1], the model had the lowest loss.",
        source="report, Figure 11",
        statistic="lowest loss on a network's half of the line more than 0.1 in alpha away from it over the loss of "
        "the network, the least of both networks, training and test set",
        kind="ratio",
        side="above",
        threshold=1.0,
        evidence=_loss_ratio,
    ),
    Claim(
        id="barrier",
        sentence="In between these values, however, the model struggled to make correct predictions.",
        source="report, Figure 11",
        statistic="error barrier on the test set: highest share of wrong answers between the networks less the mean "
        "of the two; Frankle et al. 2020 call networks connected below 0.02",
        kind="mean",
        side="above",
        threshold=STABLE,
        evidence=lambda records: _barrier(records, "error_barrier"),
    ),
    Claim(
        id="mixing-never-helps",
        sentence="Combination of various models will not increase the prediction ability of a model.",
        source="report, Figure 11",
        statistic="highest test accuracy at an alpha between 0 and 1 less that of the better network",
        kind="mean",
        side="below",
        threshold=0.0,
        evidence=lambda records: _gain(_claimed(records, "line")),
    ),
    Claim(
        id="alignment-lowers-barrier",
        sentence="Matching the hidden units of one network to those of the other lowers the barrier between them.",
        source="beyond",
        statistic="loss barrier on the test set after matching by weights over that before",
        kind="ratio",
        side="below",
        threshold=1.0,
        evidence=lambda records: _barrier(records, "barrier", BY_WEIGHTS) / _barrier(records, "barrier"),
    ),
)


def _starts(settings: Interpolation, model: str) -> tuple[str, ...]:
    return (OWN, SHARED) if settings.shared_start and model == DNN else (OWN,)


def _alphas(number: int) -> list[float]:
    """From -1 to 2; 0 and 1 come out exactly."""
    return [float(alpha) for alpha in (3 * np.arange(number) - (number - 1)) / (number - 1)]


def _spec(settings: Interpolation, model: str, start: str, number: int, seed: int) -> RunSpec:
    own = number == 1 and start == OWN
    return RunSpec(
        study=NAME,
        labels={"model": model, "start": start, "batch_size": settings.batch_sizes[number]},
        seed=seed,
        data=DataSpec(source=settings.source, train=settings.cnn_images if model == CONV else settings.images),
        model=_cnn(settings) if model == CONV else classifier(settings.source, settings.hidden),
        training=Training(
            loss="cross_entropy",
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_sizes[number],
            epochs=settings.epochs,
            evaluate_every=5,
        ),
        seeds=Seeds(weights=seed + SECOND * own, order=seed + SECOND * number),
    )


def _cnn(settings: Interpolation) -> CNN:
    channels, height, width = (int(side) for side in SOURCES[settings.source].inputs.split("x"))
    return CNN(
        image=(channels, height, width),
        channels=settings.cnn_channels,
        hidden=settings.cnn_hidden,
        outputs=CLASSES,
        batch_norm=True,
    )


STUDY = Study(
    name=NAME,
    title="The line between two trained networks",
    question="Is anything on the straight line between two trained networks as good as the networks themselves?",
    source="Figure 11",
    presets=PRESETS,
    expand=expand,
    measure=measure,
    analyses=analyses,
    analyse=analyse,
    tables=tables,
    figures=figures,
    claims=CLAIMS,
    seconds={"smoke": 6, "quick": 58},
    not_shown=(
        "Mixing means averaging weights on a straight line: averages of predictions (ensembles), of checkpoints of "
        "one run or of networks fine-tuned from one are other things and often do help. A barrier on the line does "
        "not mean that no path is low; the error surface study trains one. Matching by weights finds a local "
        "optimum; a better one may exist. The two batch sizes take different numbers of steps in the same epochs."
    ),
)
