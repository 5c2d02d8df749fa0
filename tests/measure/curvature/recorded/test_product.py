"""Products operation by operation, against closed forms, graphs that are kept, and dense matrices by rows of one."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import cases
import oracles
from cases import Lambda
from theodolite.errors import BadData
from theodolite.measure import HessianOperator
from theodolite.measure.curvature.kinds import PRODUCTS
from theodolite.measure.curvature.recorded.calls import NotRecordable
from theodolite.measure.curvature.recorded.product import recorded_product
from theodolite.measure.problem.join import objective

FALLS_BACK = ("gaussian_nll",)  # writes a bound in place where no gradient is computed


@pytest.mark.parametrize(("layer", "loss"), cases.CASES)
def test_all_rows_and_matrices_are_those_of_the_kept_graph(layer, loss):
    case = cases.make(layer, loss)
    whole = objective(case.model, case.loss, case.batches)
    point = whole.vector.requires_grad_()
    v = torch.randn(2, len(point), dtype=torch.float64)
    for kind, kept in PRODUCTS.items():
        if kind != "hessian" and loss not in ("cross_entropy", "mse"):
            continue
        for batch, _ in whole.batches():
            with whole.twice_differentiable():
                if loss in FALLS_BACK:
                    with pytest.raises(NotRecordable):
                        recorded_product(whole, kind, point, batch)
                    continue
                found, expected = recorded_product(whole, kind, point, batch), kept(whole, point, batch)
            one_by_one = torch.stack([expected(each) for each in v])  # some layers have no batched second derivative
            torch.testing.assert_close(found(v), one_by_one, rtol=1e-10, atol=1e-13)


def test_a_weight_that_is_used_twice_has_the_closed_form():
    layer = nn.Linear(1, 1, bias=False).double()
    x = torch.linspace(-1, 2, 7, dtype=torch.float64)[:, None]
    H = HessianOperator(Lambda(lambda x, layer: layer(layer(x)), layer=layer), lambda o, _: o.square().mean(), (x, x))
    w, square = float(layer.weight), float(x.square().mean())
    assert H.path == "operation by operation"
    assert float(H @ torch.ones(1).double()) == pytest.approx(12 * w**2 * square)  # of w⁴ x²


class InPlace(nn.Module):
    def __init__(self, *, parts):
        super().__init__()
        self.a, self.b, self.parts = nn.Linear(8, 6), nn.Linear(6, 3), parts

    def forward(self, x):
        h = self.a(x)
        if self.parts:
            h[:, :2] = torch.tanh(h[:, :2])
        return self.b(functional.silu(h, inplace=True).mul_(h).add_(0.1))


def straight_through(x):
    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

        @staticmethod
        def backward(ctx, slope):
            return slope

    return Round.apply(x)


def images(flat):
    """A view that channels last in memory do not allow."""
    return Lambda(
        lambda x, c, out: out(flat(torch.tanh(c(x.view(-1, 2, 2, 2))))), c=nn.Conv2d(2, 2, 1), out=nn.Linear(8, 3)
    )


MODELS = {
    "writes in place": (lambda: InPlace(parts=False), "operation by operation"),
    "writes into a part": (lambda: InPlace(parts=True), "kept graph"),
    "stops a gradient": (
        lambda: Lambda(lambda x, a, b: b(torch.tanh(a(x)) * a(x).detach()), a=nn.Linear(8, 4), b=nn.Linear(4, 3)),
        "operation by operation",
    ),
    "has a backward pass of its own": (
        lambda: Lambda(lambda x, a, b: b(torch.sin(straight_through(a(x)))), a=nn.Linear(8, 4), b=nn.Linear(4, 3)),
        "kept graph",
    ),
    "computes a part without gradients": (
        lambda: Lambda(lambda x, a, b: b(a(x) * _norm(a(x))), a=nn.Linear(8, 4), b=nn.Linear(4, 3)),
        "kept graph",
    ),
    "recomputes": (
        lambda: Lambda(
            lambda x, a, b: b(checkpoint(lambda x: torch.tanh(a(x)), x, use_reentrant=False)),
            a=nn.Linear(8, 4), b=nn.Linear(4, 3),
        ),
        "operation by operation",
    ),
    "views images": (lambda: images(lambda z: z.view(len(z), -1)), "operation by operation"),
    "flattens images": (lambda: images(lambda z: z.flatten(1)), "operation by operation"),
}  # fmt: skip


@torch.no_grad()
def _norm(z):
    return z.norm()


@pytest.mark.parametrize("name", MODELS)
def test_what_is_not_followed_takes_the_graph_and_all_is_the_dense_matrix(name):
    make, path = MODELS[name]
    torch.manual_seed(0)
    model = make().double()
    data = torch.randn(7, 8).double(), torch.randint(0, 3, (7,))
    H = HessianOperator(model, nn.CrossEntropyLoss(), data)
    assert H.path == path
    expected = oracles.hessian(model, nn.CrossEntropyLoss(), [data])
    torch.testing.assert_close(H @ torch.eye(len(expected)).double(), expected, rtol=1e-9, atol=1e-12)


def test_a_batch_that_goes_another_way_through_the_model_is_taken_as_it_goes():
    def forward(x, a, b, c):
        if x.sum() > 0:
            return c(torch.tanh(a(x)))
        return c(torch.sin(straight_through(b(x))))  # in the second batch alone, and not followed

    torch.manual_seed(0)
    model = Lambda(forward, a=nn.Linear(8, 4), b=nn.Linear(8, 4), c=nn.Linear(4, 3)).double()
    batches = [(s * torch.rand(5, 8).double(), torch.randint(0, 3, (5,))) for s in (1, -1)]
    H = HessianOperator(model, nn.CrossEntropyLoss(), batches)
    expected = oracles.hessian(model, nn.CrossEntropyLoss(), batches)
    torch.testing.assert_close(H @ torch.eye(len(expected)).double(), expected, rtol=1e-9, atol=1e-12)


def test_data_that_were_written_to_are_noticed():
    case = cases.make("residual", "cross_entropy")
    x, y = case.batches[0]
    H = HessianOperator(case.model, case.loss, (x, y))
    x += 1
    with pytest.raises(BadData, match="written to"):
        H @ torch.ones(H.shape[0]).double()
