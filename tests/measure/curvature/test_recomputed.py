"""Blocks that are computed again on the way back: the same products in less memory."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

from theodolite.errors import TooLarge
from theodolite.measure import HessianOperator, hessian_eigenvalues
from theodolite.measure.curvature.kinds import PRODUCTS
from theodolite.measure.curvature.recomputed import Recomputed, blocks_of
from theodolite.measure.problem.join import objective

KINDS = ["hessian", "ggn", "fisher", "empirical_fisher"]


class Unit(nn.Module):
    """A residual unit that gives more than a tensor and takes a keyword, with a place for whatever normalises."""

    def __init__(self, width: int, middle: nn.Module) -> None:
        super().__init__()
        self.wide, self.middle, self.narrow = nn.Linear(width, 2 * width), middle, nn.Linear(2 * width, width)

    def forward(self, x: Tensor, *, factor: float) -> tuple[Tensor, None, Tensor]:
        inner = self.middle(self.wide(x))
        return x + factor * self.narrow(torch.tanh(inner)), None, inner.mean(-1)


class Network(nn.Module):
    def __init__(self, *middles: nn.Module, again: bool = False) -> None:
        super().__init__()
        self.units = nn.ModuleList([Unit(6, middle) for middle in middles])
        self.head, self.again = nn.Linear(6, 3), again

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.units:
            if self.again:
                x, _, inner = checkpoint(unit, x, factor=0.5, use_reentrant=False)
            else:
                x, _, inner = unit(x, factor=0.5)
        return self.head(x) + inner[:, None]


def tied() -> Network:
    model = Network(nn.Identity(), nn.Identity())
    model.units[1].wide.weight = model.units[0].wide.weight
    return model


NETWORKS = {
    "plain": lambda: Network(nn.Identity(), nn.LayerNorm(12), nn.Tanh()),
    "frozen": lambda: Network(nn.Linear(12, 12).requires_grad_(False), nn.Identity()),
    "tied": tied,
    "running statistics": lambda: Network(nn.BatchNorm1d(12), nn.BatchNorm1d(12)),
    "a vector that each call moves": lambda: Network(spectral_norm(nn.Linear(12, 12)), nn.Identity()),
    "dropout": lambda: Network(nn.Dropout(0.5), nn.Dropout(0.5)),
    "checkpointed itself": lambda: Network(nn.Identity(), nn.Identity(), again=True),
}


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(7, 6, dtype=torch.float64, generator=draw), torch.randint(0, 3, (7,), generator=draw)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_products_are_those_of_the_whole_graph(name, kind, data):
    torch.manual_seed(0)
    model = NETWORKS[name]().double()
    whole = objective(model.eval(), cross_entropy, data)
    model.train()  # a network that draws is refused by instruments: here both draw the same
    point = whole.vector.requires_grad_()
    v = torch.randn_like(point)
    found = []
    with torch.enable_grad():
        for make in (PRODUCTS[kind], lambda own, point, batch: Recomputed(own).product(kind, point, batch)):
            torch.manual_seed(1)
            found.append(make(whole, point, data)(v))
    expected, again = found
    assert expected.norm() > 1e-3
    assert torch.allclose(again, expected, rtol=1e-10, atol=1e-12)
    assert not any("forward" in vars(unit) for unit in model.units)


def test_one_blocks_graph_at_a_time_is_what_is_held(data):
    """However many there are."""
    kept = {}
    for count in (4, 8):
        own = Recomputed(objective(Network(*[nn.Identity() for _ in range(count)]).double(), cross_entropy, data))
        point = own.objective.vector.requires_grad_()
        with torch.enable_grad():
            own.product("hessian", point, data)(torch.ones_like(point))
        kept[count] = own.largest
    assert kept[4] == kept[8] > 0


class Tokens(nn.Module):
    """A few layers of attention."""

    def __init__(self, blocks: bool = True) -> None:
        super().__init__()
        layers = [nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True) for _ in range(6)]
        self.layers = nn.ModuleList(layers) if blocks else None
        for at, layer in enumerate(layers if not blocks else []):
            self.add_module(f"layer{at}", layer)
        self.embed, self.head = nn.Embedding(5, 8), nn.Linear(8, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for layer in self.layers or [getattr(self, f"layer{at}") for at in range(6)]:
            x = layer(x)
        return self.head(x)


def next_token(logits: Tensor, tokens: Tensor) -> Tensor:
    return cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


@pytest.fixture
def tokens() -> tuple[Tensor, Tensor]:
    found = torch.randint(0, 5, (3, 160), generator=torch.Generator().manual_seed(0))
    return found, found


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_it_is_taken_where_not_even_one_samples_graph_fits(kind, tokens):
    torch.manual_seed(0)
    model = Tokens()
    rich = HessianOperator(model, next_token, tokens, operator=kind)
    poor = HessianOperator(model, next_token, tokens, operator=kind, memory="8MB")
    assert poor.backend.startswith("block by block")
    assert not rich.backend.startswith("block by block")
    assert poor.check_error < 1e-4
    vectors = torch.randn(rich.size, 2)
    assert torch.allclose(poor @ vectors, rich @ vectors, rtol=1e-4, atol=1e-6)
    values = [
        hessian_eigenvalues(model, next_token, tokens, k=1, operator=kind, memory=memory).eigenvalues
        for memory in (None, "12MB")
    ]
    assert torch.allclose(*values, rtol=1e-3)


def test_a_model_without_blocks_is_refused_and_taken_once_it_has_some(tokens):
    with pytest.raises(TooLarge, match=r"a block being a module in nn\.Sequential or nn\.ModuleList"):
        HessianOperator(Tokens(blocks=False), next_token, tokens, memory="8MB")
    assert HessianOperator(Tokens(), next_token, tokens, memory="8MB").backend.startswith("block by block")


def test_more_memory_never_refuses_what_less_takes(tokens):
    torch.manual_seed(0)
    model, taken = Tokens(), []
    for memory in (2, 4, 6, 9, 12, 15, 18, 24, 60):
        try:
            HessianOperator(model, next_token, tokens, memory=f"{memory}MB")
            taken.append(memory)
        except TooLarge:
            assert not taken
    assert taken[0] == 4


def test_blocks_are_the_innermost_modules_that_hold_others():
    def unit() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 2), nn.Tanh())

    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(unit(), unit()), nn.ModuleList([Unit(2, unit())]))
    found = blocks_of(model)
    assert [type(each).__name__ for each in found] == ["Sequential", "Sequential", "Unit"]
    assert blocks_of(nn.Sequential(nn.Linear(2, 2), nn.Tanh())) == []
