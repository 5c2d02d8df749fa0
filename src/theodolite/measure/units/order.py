"""Hidden units in another order: the same function at other weights, a null for whatever tells networks apart."""

from copy import deepcopy

import numpy as np
from torch import nn

from theodolite.measure.units.axes import groups_of, permute, tensors_of
from theodolite.measure.units.networks import chained


def shuffled(model: nn.Module, chance: np.random.Generator) -> nn.Module:
    """A copy of a network of layers in a row, with the units of each hidden layer in a random order."""
    copy = deepcopy(model)
    for group in groups_of(model, chained(model)):
        permute(tensors_of(copy), group, chance.permutation(group.size))
    return copy
