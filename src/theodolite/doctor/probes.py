"""One cell of the table each: a way to a Hessian product on one layer or loss, against finite differences.

``python -m theodolite.doctor.probes N`` runs the cells from the N-th on and prints each as a line, before it starts and
when it is done: some ways end the process on some layers, and :mod:`~theodolite.doctor.curvature` then starts anew.
"""

import json
import sys
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacrev, jvp, linearize
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrizations import weight_norm

from theodolite.measure.curvature.operator import HessianOperator

Loss = Callable[[Tensor], Tensor]  # of the flat parameters
STEP = 1e-5  # of the central difference: its error is h² and the gradient's rounding over h, both about 1e-10


class Attention(nn.Module):
    """scaled_dot_product_attention over two tokens of four features, one head."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(N, 8)`` to as many."""
        q, k, v = self.qkv(x.reshape(-1, 1, 2, 4)).chunk(3, -1)
        return functional.scaled_dot_product_attention(q, k, v).flatten(1)


def _around(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), *middle, nn.Linear(8, 3))


def _own_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).mean()


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "tanh": lambda: _around(nn.Tanh()),
    "GELU": lambda: _around(nn.GELU()),
    "LayerNorm": lambda: _around(nn.LayerNorm(8)),
    "GroupNorm": lambda: _around(nn.GroupNorm(2, 8)),
    "RMSNorm": lambda: _around(nn.RMSNorm(8)),
    "BatchNorm (eval)": lambda: _around(nn.BatchNorm1d(8)).eval(),
    "BatchNorm (batch)": lambda: _around(nn.BatchNorm1d(8, track_running_stats=False)),
    "attention": lambda: _around(Attention()),
    "weight_norm": lambda: nn.Sequential(weight_norm(nn.Linear(8, 8)), nn.Tanh(), nn.Linear(8, 3)),
}
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "MSELoss": nn.MSELoss(),
    "HuberLoss": nn.HuberLoss(),
    "own square": _own_square,
}


def _autograd(loss: Loss, point: Tensor, v: Tensor) -> Tensor:
    here = point.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(here), here, create_graph=True)
    return torch.autograd.grad(slope, here, v)[0]


# The gradient differentiated by autograd, torch.func.jvp and linearize; torch.func.hessian; jacrev of jacrev.
WAYS: dict[str, Callable[[Loss, Tensor, Tensor], Tensor]] = {
    "autograd": _autograd,
    "jvp": lambda loss, point, v: jvp(grad(loss), (point,), (v,))[1],
    "linearize": lambda loss, point, v: linearize(grad(loss), point)[1](v),
    "hessian": lambda loss, point, v: hessian(loss)(point) @ v,
    "jacrev": lambda loss, point, v: jacrev(jacrev(loss))(point) @ v,
}
OURS = "theodolite"
ROWS = (*LAYERS, *LOSSES)
CELLS = [(row, way) for row in ROWS for way in (*WAYS, OURS)]


def cell(row: str, way: str) -> dict[str, object]:
    """Relative error of a product, or why there is none."""
    torch.manual_seed(0)
    model = LAYERS.get(row, LAYERS["tanh"])().double()
    loss = LOSSES.get(row) or nn.CrossEntropyLoss()
    inputs = torch.randn(10, 8, dtype=torch.float64)
    targets = torch.randn(10, 3, dtype=torch.float64) if row in LOSSES else torch.randint(0, 3, (10,))
    point = torch.cat([p.detach().flatten() for p in model.parameters()])
    v = torch.randn(len(point), dtype=torch.float64)
    function = partial(_loss, model, loss, inputs, targets)
    with sdpa_kernel(SDPBackend.MATH):
        ahead, behind = (grad(function)(point + sign * STEP * v) for sign in (1, -1))
    expected = (ahead - behind) / (2 * STEP)
    try:
        if way == OURS:
            operator = HessianOperator(model, loss, (inputs, targets))
            found, path = operator @ v, operator.path
        else:
            found, path = WAYS[way](function, point, v), ""
    except (RuntimeError, NotImplementedError) as error:
        return {"says": str(error).splitlines()[0]}
    return {"error": float((found - expected).norm() / expected.norm()), "path": path}


def _loss(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, targets: Tensor, vector: Tensor
) -> Tensor:
    own = dict(model.named_parameters())
    parts = vector.split([p.numel() for p in own.values()])
    tensors = {name: part.view(p.shape) for (name, p), part in zip(own.items(), parts, strict=True)}
    return loss(functional_call(model, tensors, (inputs,)), targets)


def main(first: int) -> None:
    """Print the cells from the first on, a line when one starts and one when it is done."""
    warnings.simplefilter("ignore")  # PyTorch's own, in forward mode
    torch.set_num_threads(1)
    for number in range(first, len(CELLS)):
        print(json.dumps({"cell": number}), flush=True)
        print(json.dumps({"cell": number, **cell(*CELLS[number])}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
