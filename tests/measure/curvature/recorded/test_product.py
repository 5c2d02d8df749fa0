"""Products operation by operation, against closed forms, graphs that are kept, and dense matrices by rows of one."""

import pytest
import torch
from torch import nn
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


@pytest.mark.sampled(2)
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
    w, square = float(layer.weight.detach()), float(x.square().mean())
    assert H.path == "operation by operation"
    assert (H @ torch.ones(1).double()).item() == pytest.approx(12 * w**2 * square)  # of w⁴ x²


class Exponential(torch.autograd.Function):
    """With a backward pass of its own, which is right."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx, slope):
        return slope * ctx.saved_tensors[0].exp()


def perceptron(middle):
    return Lambda(lambda x, a, b: b(middle(a(x))), a=nn.Linear(8, 6), b=nn.Linear(6, 3))


def writing_in_place(h):
    return torch.tanh((h + 0.1).mul_(2).add_(h).relu_())


def writing_into_a_part(h):
    h = h.clone()
    h[:, :2] = torch.tanh(h[:, :2])
    return h


def images(flat):
    return Lambda(
        lambda x, c, out: out(flat(torch.tanh(c(x.view(-1, 2, 2, 2))))), c=nn.Conv2d(2, 2, 1), out=nn.Linear(8, 3)
    )


FOLLOWED, GRAPH = "operation by operation", "kept graph"
MODELS = {
    "writes in place": (lambda: perceptron(writing_in_place), FOLLOWED),
    "writes into a part": (lambda: perceptron(writing_into_a_part), GRAPH),
    "has a backward pass of its own": (lambda: perceptron(Exponential.apply), GRAPH),
    "recomputes": (lambda: perceptron(lambda h: checkpoint(torch.tanh, h, use_reentrant=False)), FOLLOWED),
    "views images, which channels last do not allow": (lambda: images(lambda z: z.view(len(z), -1)), FOLLOWED),
    "flattens images": (lambda: images(lambda z: z.flatten(1)), FOLLOWED),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_not_followed_takes_the_graph_and_all_give_the_dense_matrix(name):
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
        return c(torch.tanh(a(x)) if x.sum() > 0 else writing_into_a_part(b(x)))  # the second is not followed

    torch.manual_seed(0)
    model = Lambda(forward, a=nn.Linear(8, 4), b=nn.Linear(8, 4), c=nn.Linear(4, 3)).double()
    batches = [(s * torch.rand(5, 8).double(), torch.randint(0, 3, (5,))) for s in (1, -1)]
    H = HessianOperator(model, nn.CrossEntropyLoss(), batches)
    assert H.path == FOLLOWED
    expected = oracles.hessian(model, nn.CrossEntropyLoss(), batches)
    torch.testing.assert_close(H @ torch.eye(len(expected)).double(), expected, rtol=1e-9, atol=1e-12)


def test_where_a_gradient_is_stopped_nothing_passes():
    torch.manual_seed(0)
    model = perceptron(lambda h: torch.tanh(h) * h.detach()).double()
    whole = objective(model, nn.CrossEntropyLoss(), (torch.randn(7, 8).double(), torch.randint(0, 3, (7,))))
    point, (batch, _) = whole.vector.requires_grad_(), next(whole.batches())
    v = torch.randn_like(point)
    found, expected = (make(whole, point, batch)(v) for make in (_recorded_hessian, PRODUCTS["hessian"]))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


def _recorded_hessian(whole, point, batch):
    return recorded_product(whole, "hessian", point, batch)


def test_data_that_were_written_to_are_noticed():
    case = cases.make("residual", "cross_entropy")
    x, y = case.batches[0]
    H = HessianOperator(case.model, case.loss, (x, y))
    x += 1
    with pytest.raises(BadData, match="written to"):
        H @ torch.ones(H.shape[0]).double()
