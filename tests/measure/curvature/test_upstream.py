"""Faults of PyTorch and of peers that we go round, pinned: the day one is mended, its test says so."""

import builtins
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.func import jacrev, jvp
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention

pytestmark = [
    pytest.mark.thorough,  # they change when PyTorch or a peer does
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),  # PyTorch's own, in forward mode
    pytest.mark.filterwarnings("ignore:Using backward:UserWarning"),  # PyHessian's
]

PAGE = Path(__file__).parents[3] / "docs" / "correctness.md"
SPEC = importlib.util.spec_from_file_location("correctness", PAGE.parents[1] / "benchmarks" / "correctness.py")
correctness = importlib.util.module_from_spec(SPEC)  # what the page's table comes from
SPEC.loader.exec_module(correctness)


def cells():
    """The page's answers for every layer under cross entropy: (layer, package, what it says)."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text().splitlines()]
    header = next(row for row in rows if row[:2] == ["layer", "loss"])
    return [
        (row[0], package, said)
        for row in rows if len(row) == len(header) and row[1] == "cross_entropy"
        for package, said in zip(header[2:], row[2:], strict=True)
    ]  # fmt: skip


def pinned():
    """A strict expected failure for each answer that is not right, by what it is: another failure is none expected."""
    for layer, package, said in cells():
        if said[0].isdigit():
            continue
        kind = (
            AssertionError if "wrong" in said
            else correctness.EvaluationOnly if "only" in said
            else getattr(builtins, said.removeprefix("raises "))
        )  # fmt: skip
        mark = pytest.mark.xfail(strict=True, raises=kind, reason=f"{package}: {said}")
        yield pytest.param(layer, package, marks=mark, id=f"{package}-{layer}")


@pytest.mark.parametrize(("layer", "package"), list(pinned()))
def test_a_package_is_right_where_the_page_says_it_is_not(layer, package):
    assert correctness.error(layer, "cross_entropy", correctness.WAYS[package][1]) < correctness.RIGHT


@pytest.mark.parametrize("package", correctness.WAYS)
def test_a_package_is_right_on_a_plain_layer_as_the_page_says(package):
    assert "wrong" not in {(layer, name): said for layer, name, said in cells()}["tanh", package]
    assert correctness.error("tanh", "cross_entropy", correctness.WAYS[package][1]) < correctness.RIGHT


@pytest.mark.parametrize("layer", ["silu", "group_norm"])
@pytest.mark.xfail(
    strict=True, raises=NotImplementedError, reason="PyTorch 2.13: under no_grad no forward mode of these"
)
def test_backward_passes_have_a_forward_mode_under_no_grad(layer):
    function = {"silu": functional.silu, "group_norm": lambda x: functional.group_norm(x, 2)}[layer]
    x = torch.randn(4, 6)
    with torch.no_grad():
        jvp(jacrev(lambda x: function(x).pow(2).sum()), (x,), (torch.ones_like(x),))


@pytest.mark.xfail(strict=True, reason="PyTorch 2.13: the second derivative of fused weight normalisation is wrong")
def test_weight_norm_passes_gradgradcheck():
    torch.manual_seed(0)
    v, g = torch.randn(3, 4, dtype=torch.float64), torch.rand(3, 1, dtype=torch.float64) + 0.5
    pair = v.requires_grad_(), g.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda v, g: torch._weight_norm(v, g, 0), pair, raise_exception=False)


@pytest.mark.xfail(strict=True, raises=RuntimeError, reason="PyTorch 2.13: fused attention has no second derivative")
def test_fused_attention_can_be_differentiated_twice():
    q = torch.randn(1, 1, 2, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(scaled_dot_product_attention(q, q, q).pow(2).sum(), q, create_graph=True)
    torch.autograd.grad(slope.sum(), q)


CRASH = """
import torch
from torch import nn
from torch.func import functional_call, grad, linearize
model = nn.Linear(2, 1)
x, y = torch.randn(4, 2), torch.randn(4, 1)
f = lambda p: nn.MSELoss()(functional_call(model, p, (x,)), y)
p = {n: t.detach() for n, t in model.named_parameters()}
linearize(grad(f), p)[1](p)
"""


@pytest.mark.xfail(strict=True, reason="pytorch 196700: linearize of the gradient of MSELoss ends the process")
def test_linearize_of_a_squared_loss_survives():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", CRASH], capture_output=True)
    assert done.returncode >= 0  # below zero: ended by a signal


def test_no_path_of_ours_ends_the_process_on_the_same_case():
    ours = """
import torch
from torch import nn
from theodolite.measure import HessianOperator, hessian_spectrum
model = nn.Linear(2, 1)
data = torch.randn(4, 2), torch.randn(4, 1)
H = HessianOperator(model, nn.MSELoss(), data)
print((H @ torch.eye(3)).shape, len(hessian_spectrum(model, nn.MSELoss(), data).eigenvalues))
"""
    done = subprocess.run([sys.executable, "-c", ours], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "torch.Size([3, 3]) 3"
