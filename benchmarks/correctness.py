"""Which packages get a Hessian product right, on every row of the tests' table: `python benchmarks/correctness.py`.

Each is called as its own documentation says, on the same float64 model, loss and data in one batch, and multiplies
the same vector. Truth are central differences of gradients, taken with attention in elementary operations. Shown is
the relative error; below 1e-6 is right, since the differences themselves are good to about 1e-8. `--math` runs the
others inside ``sdpa_kernel(SDPBackend.MATH)``, the switch with which they can differentiate attention twice.
"""

import argparse
import io
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import cases
import oracles
from theodolite.measure import HessianOperator

RIGHT = 1e-6
Batch = tuple[Tensor, Tensor]


def ours(case: cases.Case, batch: Batch, v: Tensor) -> Tensor:
    return HessianOperator(case.model, case.loss, batch) @ v


class Mean(nn.Module):
    """A function as curvlinops wants a loss: a module that says how it reduces."""

    reduction = "mean"

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss."""
        return self.function(outputs, targets)


def curvlinops(case: cases.Case, batch: Batch, v: Tensor) -> Tensor:
    from curvlinops import HessianLinearOperator

    loss = case.loss if isinstance(case.loss, nn.Module) else Mean(case.loss)
    return HessianLinearOperator(case.model, loss, oracles.trainable(case.model), [batch]) @ v


def eigenthings(case: cases.Case, batch: Batch, v: Tensor) -> Tensor:
    from hessian_eigenthings import HessianOperator as Operator
    from hessian_eigenthings import supervised_loss

    return Operator(case.model, [batch], supervised_loss(case.loss)).matvec(v)


class EvaluationOnly(Exception):
    """The package measures another mode than the one the model is in."""


def pyhessian(case: cases.Case, batch: Batch, v: Tensor) -> Tensor:
    """Its product, of a model in evaluation mode: its class calls ``.eval()``, so rows in training mode are others."""
    import pyhessian as package
    from pyhessian.utils import hessian_vector_product

    was = case.model.training
    computer = package.hessian(case.model, case.loss, data=batch, cuda=False)
    parts = v.split([p.numel() for p in computer.params])
    shaped = [part.view_as(p) for part, p in zip(parts, computer.params, strict=True)]
    if was and any(
        isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats for m in case.model.modules()
    ):
        raise EvaluationOnly
    found = hessian_vector_product(computer.gradsH, computer.params, shaped)
    return torch.cat([part.flatten() for part in found])


def functional(case: cases.Case, batch: Batch, v: Tensor) -> Tensor:
    own = {n: p.detach() for n, p in case.model.named_parameters() if p.requires_grad}

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([p.numel() for p in own.values()])
        tensors = {n: part.view_as(p) for (n, p), part in zip(own.items(), parts, strict=True)}
        return case.loss(functional_call(case.model, tensors, (batch[0],)), batch[1])

    return hessian(loss)(torch.cat([p.flatten() for p in own.values()])) @ v


WAYS: dict[str, tuple[str, Callable[[cases.Case, Batch, Tensor], Tensor]]] = {
    "Theodolite": ("theodolite", ours),
    "curvlinops": ("curvlinops-for-pytorch", curvlinops),
    "hessian-eigenthings": ("hessian-eigenthings", eigenthings),
    "PyHessian": ("PyHessian", pyhessian),
    "torch.func.hessian": ("torch", functional),
}


def error(layer: str, loss: str, way: Callable[[cases.Case, Batch, Tensor], Tensor], *, math: bool = False) -> float:
    """Relative to central differences; whatever the package raises is its answer."""
    case = cases.make(layer, loss)
    batch = tuple(torch.cat(parts) for parts in zip(*case.batches, strict=True))
    size = sum(p.numel() for p in oracles.trainable(case.model))
    v = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = oracles.differences(case.model, case.loss, [batch], v, 1e-5)
    with sdpa_kernel(SDPBackend.MATH) if math and way is not ours else nullcontext(), redirect_stdout(io.StringIO()):
        found = way(case, batch, v).detach()
    return float((found - expected).norm() / expected.norm())


def measure(layer: str, loss: str, *, math: bool) -> dict[str, str]:
    """A word a package for one row."""
    said = {"layer": layer, "loss": loss}
    for name, (_, way) in WAYS.items():
        try:
            off = error(layer, loss, way, math=math)
        except EvaluationOnly:
            said[name] = "evaluation mode only"
        except Exception as raised:
            said[name] = f"raises {type(raised).__name__}"
        else:
            said[name] = f"{off:.0e}" if off < RIGHT else f"**wrong {off:.0%}**"
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--math", action="store_true", help="Attention by elementary operations for the others.")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(", ".join(f"{name} {version(package)}" for name, (package, _) in WAYS.items()), "\n")
    columns = ["layer", "loss", *WAYS]
    print("| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |", sep="\n")
    rows = [measure(layer, loss, math=arguments.math) for layer, loss in cases.CASES]
    for row in rows:
        print("| " + " | ".join(row[column] for column in columns) + " |")
    print()
    for name in WAYS:
        wrong = sum("wrong" in row[name] for row in rows)
        none = sum("raises" in row[name] or "only" in row[name] for row in rows)
        print(f"{name}: {len(rows) - wrong - none} right, {wrong} wrong, {none} without an answer, of {len(rows)}")


if __name__ == "__main__":
    main()
