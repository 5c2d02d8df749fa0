"""What the studies on image classes train: perceptrons that fit a named data set."""

from math import prod

from theodolite.data.sources import SOURCES
from theodolite.errors import UnknownName
from theodolite.models.description import MLP

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
