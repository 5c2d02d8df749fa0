"""Inputs that are a mapping: keyword arguments, or whole to a model that takes one argument; against plain autograd."""

from collections import UserDict

import pytest
import torch
from torch import nn

from theodolite import measure
from theodolite.errors import BadData

MANY = 3000  # samples, more than go together in a microbatch


class Whole(nn.Module):
    def __init__(self, read):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        self.read = read

    def forward(self, batch):
        return self.net(self.read(batch))


class Spread(Whole):
    def forward(self, x, mask=None):
        return self.net(x)


class Encoding(UserDict):
    """A mapping whose entries are attributes too, as what tokenizers give has them."""

    def __getattr__(self, name):
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(name) from None


WAYS = {
    "a dict": (Whole(lambda batch: batch["x"]), dict),
    "a mapping that is no dict": (Whole(lambda batch: batch["x"]), UserDict),
    "entries as attributes": (Whole(lambda batch: batch.x), Encoding),
    "keyword arguments": (Spread(None), Encoding),
}


def inputs(n):
    torch.manual_seed(0)
    return torch.randn(n, 3, dtype=torch.float64), torch.randn(n, 2, dtype=torch.float64)


@pytest.mark.parametrize("n", [7, MANY])
@pytest.mark.parametrize("way", WAYS)
def test_a_mapping_is_measured_as_the_tensor_in_it(way, n):
    model, mapping = WAYS[way]
    x, y = inputs(n)
    data = mapping({"x": x}), y
    loss = nn.functional.mse_loss(model.net(x), y)
    slope = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    assert measure.gradient_norm(model, nn.MSELoss(), data).value == pytest.approx(float(slope.norm()), rel=1e-12)
    plain = torch.eye(26, dtype=torch.float64)
    H = measure.HessianOperator(model, nn.MSELoss(), data) @ plain
    assert torch.allclose(H, measure.HessianOperator(model.net, nn.MSELoss(), (x, y)) @ plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "keyword arguments"])
def test_a_batch_that_is_a_mapping_is_targets_as_well(way):
    model, mapping = WAYS[way]
    x, y = inputs(7)
    found = measure.gradient_norm(model, lambda o, batch: (o - batch["y"]).square().mean(), [mapping({"x": x, "y": y})])
    assert found.value == pytest.approx(measure.gradient_norm(model.net, nn.MSELoss(), (x, y)).value, rel=1e-12)


def test_a_name_that_the_model_does_not_take_is_refused():
    x, y = inputs(7)
    for model in (nn.Linear(3, 2).double(), Spread(None)):
        with pytest.raises(BadData, match=r"must be Tensor, not dict|unexpected keyword argument 'inputs'"):
            measure.gradient_norm(model, nn.MSELoss(), ({"inputs": x}, y))
