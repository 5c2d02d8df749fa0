"""Copies of a point by permutation and sign: counted against all of them made, and against Morse's theorem."""

from itertools import pairwise, permutations, product

import pytest
import torch
from torch import nn

from theodolite.measure import find_critical_points
from theodolite.measure.critical.mlp_hessian import perceptron
from theodolite.measure.critical.orbit import orbit_size
from theodolite.measure.problem.join import objective


def network(widths, activation=nn.Tanh):
    layers = [part for i, o in pairwise(widths) for part in (nn.Linear(i, o), activation())]
    return nn.Sequential(*layers[:-1]).double()


def chain(model):
    data = torch.zeros(1, model[0].in_features).double(), torch.zeros(1, model[-1].out_features).double()
    return perceptron(objective(model, nn.MSELoss(), data).to(torch.float64))


def copies(model, signs):
    """Every image of the parameters, made by moving units one way after the other; as rows, equal ones once."""
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    weights = [(layer.weight.detach(), layer.bias.detach()) for layer in linear]
    ways = []
    for units in (layer.out_features for layer in linear[:-1]):
        pairs = product(permutations(range(units)), product(signs, repeat=units))
        ways.append([(torch.tensor(order), torch.tensor(sign).double()) for order, sign in pairs])
    rows = set()
    for chosen in product(*ways):
        moved = list(weights)
        for number, (order, sign) in enumerate(chosen):
            (W, b), (V, c) = moved[number : number + 2]
            moved[number] = sign[:, None] * W[order], sign * b[order]
            moved[number + 1] = V[:, order] * sign, c
        flat = torch.cat([part.flatten() for layer in moved for part in layer]) + 0.0  # no -0
        rows.add(tuple(flat.tolist()))
    return len(rows)


def tied(model, pattern):
    """Hidden units of the first layer made equal, opposite or dead: 1 and -1 are copies of unit 0, 0 is dead."""
    with torch.no_grad():
        for unit, sign in enumerate(pattern):
            if sign is not None:
                for tensor in (model[0].weight, model[0].bias, model[2].weight.T):
                    tensor[unit] = sign * tensor[0]
    return model


@pytest.mark.parametrize("pattern", [(), (None, 1), (None, -1, 1), (None, 0), (None, 0, 0), (0, 0, 0), (None, None, 0)])
@pytest.mark.parametrize("widths", [(2, 3, 1), (1, 3, 2, 1)])
def test_the_orbit_is_as_large_as_the_set_of_all_copies(widths, pattern):
    torch.manual_seed(0)
    model = tied(network(widths), pattern)
    vector = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    assert orbit_size(chain(model), vector) == copies(model, (1, -1))


def test_units_equal_in_both_layers_at_once_are_seen():
    torch.manual_seed(1)
    model = tied(network((1, 2, 2, 1)), (None, 1))
    with torch.no_grad():  # the second layer's units are opposite, and what they read is the same
        for tensor in (model[2].weight, model[2].bias, model[4].weight.T):
            tensor[1] = -tensor[0]
    vector = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    assert orbit_size(chain(model), vector) == copies(model, (1, -1))


def test_without_an_odd_activation_signs_make_no_copies():
    torch.manual_seed(0)
    model = network((2, 3, 1), nn.Softplus)
    vector = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    assert orbit_size(chain(model), vector) == copies(model, (1,)) == 6


@pytest.mark.parametrize("seed", range(3))
def test_all_points_of_a_small_landscape_add_up_to_the_euler_characteristic_of_its_space(seed):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(12, 1, generator=draw, dtype=torch.float64)
    y = torch.randn(12, 1, generator=draw, dtype=torch.float64)
    model = network((1, 2, 1))
    found = find_critical_points(model, nn.MSELoss(), (x, y), 150, symmetric=50, weight_decay=3e-2, seed=seed)
    net = chain(model)
    points = found.distinct()
    assert len(points) >= 2
    assert sum((-1) ** p.index * orbit_size(net, p.parameters) for p in points) == 1


def test_copies_hold_every_certified_point_once_and_begin_with_the_distinct_ones():
    draw = torch.Generator().manual_seed(0)
    data = torch.randn(12, 1, generator=draw, dtype=torch.float64), torch.randn(12, 1, generator=draw).double()
    found = find_critical_points(network((1, 2, 1)), nn.MSELoss(), data, 40, weight_decay=1e-2)
    groups = found.copies()
    assert sum(map(len, groups)) == len(found.certified()) > len(groups)
    assert [group[0] for group in groups] == list(found.distinct())
