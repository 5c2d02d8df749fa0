from itertools import pairwise

import pytest
import torch
from torch import nn

from theodolite.measure.critical.landscape import landscape
from theodolite.measure.critical.mlp_hessian import perceptron
from theodolite.measure.problem.join import objective


def network(*widths, activation=nn.Tanh, bias=True):
    torch.manual_seed(0)
    layers = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=bias), activation()]
    return nn.Sequential(*layers[:-1]).double()


def batches(inputs, outputs, classes):
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(11, inputs, generator=generator, dtype=torch.float64)
    Y = torch.randn(11, outputs, generator=generator, dtype=torch.float64)
    Y = torch.randint(outputs, (11,), generator=generator) if classes else Y
    return list(zip(X.split([4, 1, 6]), Y.split([4, 1, 6]), strict=True))


CASES = [
    (network(3, 1), nn.MSELoss()),
    (network(3, 4, 1), nn.MSELoss()),
    (network(2, 4, 3), nn.CrossEntropyLoss()),
    (network(2, 3, 4, 2, activation=nn.Softplus), nn.CrossEntropyLoss(label_smoothing=0.1)),
    (network(2, 3, 2, 3, 2, activation=nn.GELU), nn.MSELoss()),
    (network(3, 4, 2, activation=nn.Sigmoid, bias=False), lambda o, t: (o - t).pow(4).mean()),
    (network(3, 4, 2, activation=nn.Identity), nn.MSELoss()),
    (network(2, 3, 2), nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]).double())),
    (network(2, 3, 2), nn.MSELoss(reduction="sum")),
]


@pytest.mark.parametrize(("model", "loss"), CASES)
def test_closed_form_is_the_finite_difference_of_pytorchs_gradients(model, loss):
    data = batches(model[0].in_features, model[-1].out_features, isinstance(loss, nn.CrossEntropyLoss))
    whole = objective(model, loss, data)
    surface = landscape(whole, weight_decay=0.1)
    assert surface.backend == "closed form"
    points = whole.vector + torch.randn(3, whole.size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    value, gradient, hessian = surface(points)

    def truth(vector):
        vector = vector.clone().requires_grad_()
        total = sum(share * whole.batch_loss(whole.unflatten(vector), batch) for batch, share in whole.batches())
        total = total + 0.05 * vector.square().sum()
        return total.detach(), torch.autograd.grad(total, vector)[0]

    h = 1e-5
    for s, point in enumerate(points):
        total, slope = truth(point)
        assert value[s] == pytest.approx(float(total), rel=1e-13)
        assert torch.allclose(gradient[s], slope, rtol=0, atol=1e-13 * float(slope.abs().max()))
        rows = [(truth(point + h * e)[1] - truth(point - h * e)[1]) / (2 * h) for e in torch.eye(whole.size).double()]
        assert torch.allclose(hessian[s], torch.stack(rows), rtol=0, atol=1e-8 * float(hessian[s].abs().max()))


def refused(model, loss=None, inputs=2):
    X, Y = torch.randn(5, inputs, dtype=torch.float64), torch.zeros(5, 2, dtype=torch.float64)
    return perceptron(objective(model.double(), loss or nn.MSELoss(), (X, Y))) is None


def test_models_that_are_no_plain_chain_are_left_to_the_general_way():
    square = nn.Linear(2, 2)
    assert refused(nn.Sequential(square, nn.Tanh(), square))
    assert refused(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2)))
    assert refused(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))
    assert refused(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2, bias=False)))
    frozen = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    frozen[0].weight.requires_grad_(False)
    assert refused(frozen)
    hooked = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    hooked[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    assert refused(hooked)


def test_loss_that_mixes_samples_is_found_out_and_left_to_the_general_way():
    model = network(2, 3, 2)
    whole = objective(model, lambda o, t: (o - o.mean(0) - t).pow(2).mean(), batches(2, 2, classes=False))
    assert landscape(whole, 0.0).backend != "closed form"
