"""What the studies on image classes train: perceptrons that fit a named data set, by cross entropy."""

from collections.abc import Mapping
from math import prod
from typing import Any

from theodolite.data.sources import SOURCES
from theodolite.data.spec import DataSpec
from theodolite.errors import UnknownName
from theodolite.models.description import MLP, Architecture
from theodolite.study import RunSpec, Seeds, Training

CLASSES = 10  # of every data set that has a name of its own


def classifier(source: str, hidden: tuple[int, ...]) -> MLP:
    """A ReLU perceptron for a data set: as many inputs as a sample has numbers, an output a class.

    Raises:
        UnknownName: the data set has no name of its own, so its shape is not known before it is read.

    Example:
        >>> classifier("mnist", (100,)).shape
        '784-100-10'
    """
    if source not in SOURCES:
        raise UnknownName("data set", source, SOURCES)
    inputs = prod(int(side) for side in SOURCES[source].inputs.split("x"))
    return MLP(inputs=inputs, hidden=hidden, outputs=CLASSES)


def training_of(
    study: str,
    labels: dict[str, str | int | float],
    seed: int,
    data: DataSpec,
    model: Architecture,
    *,
    seeds: Seeds | None = None,
    measure: Mapping[str, Any] | None = None,
    **training: Any,
) -> RunSpec:
    """A run that trains a classifier by cross entropy.

    Args:
        study: its name.
        labels: the run's place in the design.
        seed: the unit of evidence; initial weights and data order are drawn from it too, unless ``seeds`` says other.
        data: what it is trained on.
        model: what is trained.
        seeds: of its own for initial weights and data order.
        measure: settings of what the study measures after training.
        training: fields of :class:`theodolite.study.Training` beside the loss.
    """
    return RunSpec(
        study=study,
        labels=labels,
        seed=seed,
        data=data,
        model=model,
        training=Training(loss="cross_entropy", **training),
        seeds=seeds or Seeds(weights=seed, order=seed),
        measure=dict(measure or {}),
    )
