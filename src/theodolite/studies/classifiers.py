"""What the studies on image classes train: perceptrons that fit a named data set; and which of its images."""

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from theodolite.data import SOURCES, DataSpec
from theodolite.errors import UnknownName
from theodolite.models import MLP, Architecture
from theodolite.study import RunSpec, Seeds, Training

if TYPE_CHECKING:
    from theodolite.store.records import Records

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


def images(source: str, seed: int, *, train: int | None, test: int | None, **labels: Any) -> DataSpec:
    """A data set as one seed sees it: where a subset is kept, each seed draws its own.

    Subsets differ by more than trainings do: with 1,000 images of MNIST the variance of a test accuracy between subsets
    was six times that between initial weights, and seeds that share a subset say nothing of it.

    Args:
        source: a named data set.
        seed: the unit of evidence.
        train: training images kept; None: all.
        test: the same of the test set.
        labels: ``random_labels`` and ``label_seed``.

    Example:
        >>> images("mnist", 3, train=1000, test=None).seed, images("mnist", 3, train=None, test=None).seed
        (3, 0)
    """
    whole = train is None and test is None
    return DataSpec(source=source, train=train, test=test, seed=0 if whole else seed, **labels)


def covered(records: "Records[Any]") -> str:
    """What chance the intervals of a study's captions cover: a sentence, about its images."""
    ours = (spec for spec in records.specs() if spec.data.source in SOURCES)  # the points of a function are no subset
    spec = next((spec for spec in ours if spec.seed), None)  # the first seed is 0 in any case
    if spec is None:
        return ""
    if spec.data.train is None and spec.data.test is None:
        return (
            "All seeds have the whole data set: intervals cover the chance of initial weights and order, not of images."
        )
    if spec.data.seed:
        return "Each seed draws its own images, initial weights and order: intervals cover the chance of all three."
    return (
        "All seeds share one subset of the images, as an earlier version drew it, and intervals do not cover its "
        "chance. Run the study again for a subset a seed."
    )


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
