"""The operator's own check: it finds a wrong layer by name, and lets right ones pass whatever their kinks."""

from dataclasses import replace

import pytest
import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn import functional

import oracles
from theodolite import measure
from theodolite.errors import CheckFailed, NotDifferentiable
from theodolite.measure import HessianOperator, hessian_eigenvalues
from theodolite.measure.curvature.verification import verify


class Slope(torch.autograd.Function):
    """cos, but with a derivative (the sine's second) that is off by a factor."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return torch.cos(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return -g * ctx.factor * torch.sin(x), None


class Sine(torch.autograd.Function):
    """Values and first derivatives right, second ones off by a factor."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * Slope.apply(x, ctx.factor), None


class Wave(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return Sine.apply(x, self.factor)


def problem(*middle, dtype=torch.float64, samples=20):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), *middle, nn.Linear(6, 3)).to(dtype)
    return model, nn.CrossEntropyLoss(), (torch.randn(samples, 4, dtype=dtype), torch.randint(0, 3, (samples,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_a_right_layer_passes(dtype, operator):
    assert HessianOperator(*problem(Wave(1.0), dtype=dtype), operator=operator).check < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [1.05, 0.0, -1.0])
def test_a_wrong_second_derivative_is_found_and_the_layer_named(dtype, factor):
    with pytest.raises(CheckFailed, match=r"layer '2' \(Wave\)"):
        HessianOperator(*problem(nn.Tanh(), Wave(factor), nn.ReLU(), dtype=dtype))


def test_every_instrument_on_it_refuses():
    with pytest.raises(CheckFailed, match="Wave"):
        hessian_eigenvalues(*problem(Wave(1.2)), k=1)


def test_a_wrong_loss_is_named():
    model, _, (x, y) = problem(nn.Tanh())

    def crooked(outputs, targets):
        return Sine.apply(outputs, 1.5).mean()

    with pytest.raises(CheckFailed, match=r"the loss \(crooked\)"):
        HessianOperator(model, crooked, (x, y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kinks_are_not_mistaken_for_faults(dtype):
    for seed in range(5):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 32), nn.ReLU(), nn.Linear(32, 3)
        ).to(dtype)
        data = torch.randn(200, 1, 8, 8, dtype=dtype), torch.randint(0, 3, (200,))
        assert HessianOperator(model, nn.CrossEntropyLoss(), data).check < 1e-4


def test_a_loss_near_zero_is_not_mistaken_for_a_fault():
    """Its gradient is all rounding, 1e-16, and so are finite differences with a small step."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    x, y = torch.randn(20, 4).double(), torch.randint(0, 3, (20,))
    with torch.no_grad():
        margin = nn.functional.one_hot(y, 3).double()
    for scale in (5.0, 10.0, 20.0, 40.0):
        H = HessianOperator(model, lambda o, t, s=scale: functional.cross_entropy(o + s * margin, t), (x, y))
        assert torch.isfinite(H @ torch.ones(H.shape[0]).double()).all()


class Distances(nn.Module):
    """Distances to fixed points: PyTorch has no second derivative for cdist."""

    def forward(self, x):
        return torch.cdist(x, torch.ones(6, x.shape[1], dtype=x.dtype))


def test_what_pytorch_cannot_differentiate_twice_is_named_with_a_way_round():
    with pytest.raises(NotDifferentiable, match=r"layer '1' \(Distances\).*parameters="):
        HessianOperator(*problem(Distances()))


def test_the_way_round_works():
    model, loss, data = problem(Distances())
    assert HessianOperator(model, loss, data, parameters="2.*").check < 1e-5


WAYS_ROUND = {  # layer or function of 6 features, and the word of the message that says what to do
    "hardsigmoid": (lambda x: functional.hardsigmoid(x), "clamp"),
    "pdist": (lambda x: torch.pdist(x)[:6].expand(len(x), 6), "triu_indices"),
    "embedding_bag": (
        lambda x: functional.embedding_bag(
            torch.arange(12).view(-1, 2).repeat(4, 1)[: len(x)], x[:12], mode="sum", per_sample_weights=x[:, :2] ** 2
        ),
        "nn.Embedding",
    ),
    "reentrant checkpoint": (
        lambda x: torch.utils.checkpoint.checkpoint(torch.sin, x, use_reentrant=True), "use_reentrant=False"
    ),
}  # fmt: skip


class Named(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # checkpoint, without a gradient
@pytest.mark.parametrize("name", WAYS_ROUND)
def test_the_message_knows_what_to_write_instead(name):
    function, words = WAYS_ROUND[name]
    with pytest.raises(NotDifferentiable, match=rf"layer '1' \(Named\).*{words}"):
        HessianOperator(*problem(Named(function)))


def test_layers_that_write_into_their_input_are_not_blamed_for_others():
    model, loss, data = problem(Distances(), nn.Linear(6, 6), nn.ReLU(inplace=True))
    with pytest.raises(NotDifferentiable, match=r"layer '1' \(Distances\)"):
        HessianOperator(model, loss, data)


def test_what_writes_over_numbers_that_its_gradient_needs_is_told_so():
    model, loss, data = problem(nn.ReLU(inplace=True), nn.ReLU(inplace=True))
    with pytest.raises(RuntimeError, match="inplace"):  # of a plain script, whose first layer's output is overwritten
        loss(model(data[0]), data[1]).backward()
    with pytest.raises(NotDifferentiable, match=r"leave out inplace=True"):
        HessianOperator(model, loss, data)
    for layer in (model[1], model[2]):
        layer.inplace = False
    assert HessianOperator(model, loss, data).check_error < 1e-5


def test_a_loss_without_a_second_derivative_is_named():
    model, _, data = problem(nn.Tanh())
    with pytest.raises(NotDifferentiable, match=r"the loss \(MultiMarginLoss\).*clamp"):
        HessianOperator(model, nn.MultiMarginLoss(), data)


class Once(torch.autograd.Function):
    """Its backward pass leaves PyTorch, as those of many extensions in C++ do: gradients are right, and constants."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.from_numpy(x.detach().numpy() ** 3)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.from_numpy(3 * x.detach().numpy() ** 2)


def test_a_backward_pass_outside_pytorch_is_named():
    with pytest.raises(CheckFailed, match=r"layer '1' \(Named\)"):
        HessianOperator(*problem(Named(Once.apply)))


def test_what_is_detached_on_purpose_has_no_hessian_and_is_named():
    with pytest.raises(CheckFailed, match=r"layer '1' \(Named\).*detaches"):
        HessianOperator(*problem(Named(lambda x: x * torch.sigmoid(x).detach())))


class Text(nn.Module):
    """Tokens, some of them padding, whose row PyTorch never moves."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4, padding_idx=0)
        nn.init.normal_(self.embed.weight)
        self.out = nn.Linear(4, 5, bias=False)
        if tied:
            self.out.weight = self.embed.weight

    def forward(self, x):
        return self.out(torch.tanh(self.embed(x).sum(1)))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_padding_is_held_and_not_mistaken_for_a_fault(tied, operator):
    torch.manual_seed(0)
    model, data = Text(tied).double(), [(torch.randint(0, 5, (6, 3)), torch.randint(0, 5, (6,)))]
    loss = nn.CrossEntropyLoss()
    G = HessianOperator(model, loss, data, operator=operator)
    dense = oracles.hessian if operator == "hessian" else oracles.gauss_newton
    expected = dense(model, loss, data)
    assert torch.allclose(G @ torch.eye(len(expected)).double(), expected, rtol=1e-8, atol=1e-12)
    assert G.check < 1e-5
    if not tied:
        assert not expected[:4].any()
        assert not expected[:, :4].any()


@pytest.mark.parametrize("batches", [1, 3])
def test_the_check_takes_one_product_of_all_data_and_one_of_some(monkeypatch, batches):
    model, loss, (x, y) = problem(nn.LayerNorm(6), samples=21)
    taken = []

    def counting(product):
        def multiply(v):
            taken.append(len(v) if v.ndim == 2 else 1)
            return product(v)

        return multiply

    data = list(zip(x.chunk(batches), y.chunk(batches), strict=True))
    H = HessianOperator(model, loss, data)
    monkeypatch.setattr(H, "_kept", [(counting(product), share) for product, share in H._kept])
    backend = replace(H._backend, make=lambda *given: counting(H._backend.make(*given)))
    verify(H.objective, backend, H.rows, next(H.objective.batches())[0])
    of_all, of_one_batch = batches, 1
    assert sum(taken) == of_all + of_one_batch


class Crooked(torch.autograd.Function):
    """g cos x, whose derivative by g is off by a factor: a second derivative through it is not symmetric."""

    @staticmethod
    def forward(ctx, g, x, factor):
        ctx.save_for_backward(g, x)
        ctx.factor = factor
        return g * torch.cos(x)

    @staticmethod
    def backward(ctx, grad):
        g, x = ctx.saved_tensors
        return ctx.factor * grad * torch.cos(x), -grad * g * torch.sin(x), None


class CrookedSine(Sine):
    @staticmethod
    def backward(ctx, g):
        return Crooked.apply(g, ctx.saved_tensors[0], ctx.factor), None


class Later(nn.Module):
    """A second derivative that is wrong in batches whose first number is positive."""

    def forward(self, x):
        return CrookedSine.apply(x, 2.0 if self.wrong else 1.0)


def later(dtype):
    model, loss, (x, y) = problem(Later(), dtype=dtype)
    x[:, 0] = torch.linspace(-1, 1, len(x)).to(dtype)
    model.register_forward_pre_hook(lambda model, inputs: setattr(model[1], "wrong", bool(inputs[0][0, 0] > 0)))
    return model, loss, list(zip(x.chunk(2), y.chunk(2), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_wrong_in_a_later_batch_alone_shows_in_the_first_products(dtype):
    H = HessianOperator(*later(dtype))
    for first in (torch.eye(H.size)[:, 0], torch.eye(H.size)[:, :5], torch.randn(H.size)):
        with pytest.raises(CheckFailed, match="symmetric"):
            HessianOperator(*later(dtype)) @ first


@pytest.mark.parametrize(
    "instrument",
    [
        lambda *given: measure.hessian_eigenvalues(*given, k=1),
        measure.hessian_trace,
        measure.hessian_density,
        measure.hessian_diagonal,
        measure.hessian_blocks,
    ],
)
def test_every_instrument_sees_it(instrument):
    with pytest.raises(CheckFailed, match="symmetric"):
        instrument(*later(torch.float64))


def test_vectors_that_are_zero_or_of_any_length_are_no_fault():
    H = HessianOperator(*problem(nn.Tanh(), dtype=torch.float32))
    v = torch.randn(H.size)
    for length in (0.0, 1e-30, 1e-6, 1.0, 1e6):
        H @ (length * v)
