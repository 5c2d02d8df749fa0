"""The loss's Hessian by the outputs, in whichever way it is kept, is that of the loss."""

import pytest
import torch
from torch import Tensor, nn

from theodolite.measure.curvature.sequential.output_hessian import BLOCK_OUTPUTS, loss_hessian

CLASSES = torch.tensor([0, 2, 1, 1, 0])
SOME_LEFT_OUT = torch.tensor([0, -100, 1, 1, 0])
NUMBERS = torch.linspace(-1, 1, 15, dtype=torch.float64).view(5, 3)


def meeting(z: Tensor, _: Tensor) -> Tensor:
    """Samples that are normalised by each other."""
    return (z / z.norm(dim=0)).pow(3).sum()


CASES = {
    "cross entropy": (nn.CrossEntropyLoss(), (5, 3), CLASSES),
    "cross entropy as a function": (nn.functional.cross_entropy, (5, 3), CLASSES),
    "cross entropy with a target left out": (nn.CrossEntropyLoss(), (5, 3), SOME_LEFT_OUT),
    "cross entropy with smoothed labels": (nn.CrossEntropyLoss(label_smoothing=0.1), (5, 3), CLASSES),
    "cross entropy with shares": (nn.CrossEntropyLoss(), (5, 3), NUMBERS.softmax(1)),
    "cross entropy of many classes": (nn.CrossEntropyLoss(), (5, BLOCK_OUTPUTS + 4), CLASSES),
    "cross entropy of pixels": (nn.CrossEntropyLoss(), (5, 3, 2), torch.stack([CLASSES, CLASSES.flip(0)], 1)),
    "squared error": (nn.MSELoss(), (5, 3), NUMBERS),
    "squared error of narrower targets": (nn.MSELoss(), (5, 3), NUMBERS.float()),
    "summed squared error": (nn.MSELoss(reduction="sum"), (5, 3), NUMBERS),
    "Huber's": (nn.HuberLoss(), (5, 3), NUMBERS),
    "one over many outputs": (
        nn.SmoothL1Loss(),
        (5, BLOCK_OUTPUTS + 4),
        torch.zeros(5, BLOCK_OUTPUTS + 4, dtype=torch.float64),
    ),
    "one where samples meet": (meeting, (5, 3), NUMBERS),
}


@pytest.fixture(params=CASES)
def case(request):
    loss, shape, targets = CASES[request.param]
    z = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = loss_hessian(loss, z, targets)
    size = z.numel()
    exact = torch.autograd.functional.hessian(lambda outputs: loss(outputs, targets), z).reshape(size, size)
    return loss, z, targets, found, exact


def test_delta_is_the_gradient_of_the_loss(case):
    loss, z, targets, found, _ = case
    free = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(free, targets), free)
    torch.testing.assert_close(found.delta, gradient)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_rates_are_multiplied_by_the_matrix_of_second_derivatives(case, k):
    _, z, _, found, exact = case
    rates = torch.randn(len(z), k, *z.shape[1:], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = (rates.transpose(0, 1).reshape(k, -1) @ exact).view(k, *z.shape).transpose(0, 1)
    torch.testing.assert_close(found.rows(rates), expected)


def test_one_rate_with_samples_side_by_side_gives_the_same(case):
    _, z, _, found, exact = case
    if z.ndim != 2:
        pytest.skip("rates of one direction are those of plain outputs")
    rate = torch.randn(z.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(found.column(rate.mT.contiguous()), (exact @ rate.flatten()).view(z.shape).mT)


def test_samples_are_independent_where_the_matrix_has_a_block_for_each(case):
    _, z, _, found, exact = case
    n, outputs = len(z), z[0].numel()
    between = exact.view(n, outputs, n, outputs).abs().amax((1, 3)).fill_diagonal_(0)
    assert found.samples_independent == (not between.any())
