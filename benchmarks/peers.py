"""Eigenvalues, density and trace beside the maintained peers, one thread: `python benchmarks/peers.py [--quick]`.

Every side gets the same model, loss and data, and makes its own operator within the time. Each peer is called as its
own documentation says: curvlinops 3 through ARPACK and its own quadrature, hessian-eigenthings 1 with the full
reorthogonalisation that its documentation advises for close eigenvalues, and the fewest steps, in tens, after which
all ten have converged. Sides alternate, ratios are medians over repeats. A side that takes more than its limit of
processor time is stopped, and the table says so. Neither peer can differentiate fused attention twice: for the GPT
both run inside ``sdpa_kernel(SDPBackend.MATH)``, which ours needs nobody to know.
"""

import argparse
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import curvlinops
import hessian_eigenthings
import numpy as np
import pyhessian
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from curvature import OURS, alternate, cnn, mlp, report
from networks import NextToken, gpt, resnet20, vit_tiny
from theodolite.measure import HessianOperator, hessian_density, hessian_eigenvalues, hessian_trace

K, TOLERANCE = 10, 1e-3  # eigenvalues, and their residuals relative to the largest
PROBES, STEPS = 4, 40  # of the density
PRODUCTS = 60  # of the peers' trace; ours stops where its standard error is no larger
CURVLINOPS, EIGENTHINGS = "curvlinops", "hessian-eigenthings"


@dataclass(frozen=True)
class Case:
    """What all sides get."""

    name: str
    model: nn.Module
    data: tuple[Tensor, Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    large: bool = False  # with --quick and no task named, only its products are timed

    def curvlinops(self) -> curvlinops.HessianLinearOperator:
        """Its operator."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return curvlinops.HessianLinearOperator(
            self.model, self.loss, parameters, [self.data], check_deterministic=False
        )

    def eigenthings(self) -> hessian_eigenthings.HessianOperator:
        """Its operator."""
        return hessian_eigenthings.HessianOperator(
            self.model, [self.data], hessian_eigenthings.supervised_loss(self.loss)
        )


def batch_norm_cnn(count: int) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """The CNN of the other benchmark with BatchNorm after each convolution, in evaluation mode."""
    plain, (images, labels) = cnn()
    layers: list[nn.Module] = []
    for layer in plain:
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            layers.append(nn.BatchNorm2d(layer.out_channels))
    model = nn.Sequential(*layers)
    for part in images.split(100):
        model(part)
    return model.eval(), (images[:count], labels[:count])


def cases() -> list[Case]:
    entropy = nn.CrossEntropyLoss()
    return [
        Case("MLP, 1,000 samples", *mlp(), entropy),
        Case("BatchNorm CNN, 50 images", *batch_norm_cnn(50), entropy),
        Case("GPT-2, 16 × 64 tokens", *gpt(), NextToken()),
        Case("ResNet-20, 50 images", *resnet20(50), entropy, large=True),
        Case(
            "GPT-2 of 10 M, 4 × 128 tokens",
            *gpt(width=320, layers=8, heads=8, samples=4, length=128),
            NextToken(),
            True,
        ),
        Case("ViT-tiny, 8 images", *vit_tiny(8), entropy, large=True),
    ]


@dataclass(frozen=True)
class Run:
    """How often, and for how long at most; ratios of the times are gathered in it."""

    repeats: int
    warm: bool
    limit: float
    ratios: dict[str, tuple[float, bool]]

    def show(self, title: str, sides: dict[str, Callable[[], object]]) -> None:
        """Time the sides and print them."""
        times = alternate(sides, self.repeats, warm=self.warm, limit=self.limit)
        report(title, times, limit=self.limit)
        best = min((name for name in times if name != OURS), key=lambda name: median(times[name]))
        ratio = median(a / b for a, b in zip(times[best], times[OURS], strict=True))
        self.ratios[title] = ratio, self.limit in times[best]


def counted(products: Callable[[Any], Any], counts: Counter[str], name: str) -> Callable[[Any], Any]:
    """The same products, and how many vectors went through them."""

    def count(vectors: Any) -> Any:
        counts[name] += vectors.shape[1] if vectors.ndim == 2 else 1
        return products(vectors)

    return count


def products(case: Case, run: Run) -> None:
    """With the Hessian, and with the generalised Gauss-Newton matrix, of one vector; the least of interleaved repeats.

    PyHessian computes the gradient's graph before the time, and keeps it, as ours keeps what it needs.
    """
    parameters = [p for p in case.model.parameters() if p.requires_grad]
    H, C, E = HessianOperator(case.model, case.loss, case.data), case.curvlinops(), case.eigenthings()
    Y = pyhessian.hessian(case.model, case.loss, data=case.data, cuda=False)
    v = torch.randn(H.shape[0])
    shaped = [part.view_as(p) for part, p in zip(v.split([p.numel() for p in parameters]), parameters, strict=True)]
    sides = {
        OURS: lambda: H @ v,
        CURVLINOPS: lambda: C @ v,
        EIGENTHINGS: lambda: E.matvec(v),
        "PyHessian": lambda: pyhessian.utils.hessian_vector_product(Y.gradsH, Y.params, shaped),
        "a gradient": lambda: torch.autograd.grad(case.loss(case.model(case.data[0]), case.data[1]), parameters),
    }
    least(f"Product, {case.name}, {H.path}", sides, H @ v, {CURVLINOPS: C @ v, EIGENTHINGS: E.matvec(v)})
    G = HessianOperator(case.model, case.loss, case.data, operator="ggn")
    K = curvlinops.GGNLinearOperator(case.model, case.loss, parameters, [case.data], check_deterministic=False)
    sides = {OURS: lambda: G @ v, CURVLINOPS: lambda: K @ v}
    least(f"Gauss-Newton product, {case.name}, {G.path}", sides, G @ v, {CURVLINOPS: K @ v})


def least(title: str, sides: dict[str, Callable[[], object]], ours: Tensor, theirs: dict[str, Tensor]) -> None:
    """Print the least processor time of each side, and how far the peers' vectors are from ours."""
    times = {name: min(each) for name, each in alternate(sides, 5).items()}
    print(f"{title}\n  " + ", ".join(f"{n} {1e3 * t:.1f} ms ({t / times[OURS]:.2f} ×)" for n, t in times.items()))
    apart = {name: float((found - ours).norm() / ours.norm()) for name, found in theirs.items()}
    print("  apart:", ", ".join(f"{name} {each:.1e}" for name, each in apart.items()), flush=True)


def eigenvalues(case: Case, run: Run) -> None:
    found: dict[str, tuple[Tensor, float]] = {}
    counts: Counter[str] = Counter()

    def ours() -> None:
        top = hessian_eigenvalues(case.model, case.loss, case.data, k=K, tolerance=TOLERANCE)
        found[OURS] = top.eigenvalues, float(top.residuals.max())
        counts[OURS] = top.products

    def with_curvlinops() -> None:
        counts[CURVLINOPS] = 0
        A = case.curvlinops().to_scipy()
        A = LinearOperator(A.shape, matvec=counted(A.matvec, counts, CURVLINOPS), dtype=A.dtype)
        values, vectors = eigsh(A, k=K, which="LA", tol=TOLERANCE)
        found[CURVLINOPS] = torch.as_tensor(values.copy()).sort().values, float("nan")
        pairs[CURVLINOPS] = A, values, vectors

    def with_eigenthings(steps: int) -> bool:
        counts[EIGENTHINGS] = 0
        E = case.eigenthings()
        E.matvec = counted(E.matvec, counts, EIGENTHINGS)
        result = hessian_eigenthings.lanczos(
            E, k=K, which="LA", max_iter=steps, tol=TOLERANCE, seed=0, reorthogonalize=True
        )
        found[EIGENTHINGS] = result.eigenvalues.double().sort().values, float(result.residuals.max())
        return float(result.residuals.max()) <= TOLERANCE * float(result.eigenvalues.max())

    pairs: dict[str, Any] = {}
    steps = next(steps for steps in range(40, 400, 10) if with_eigenthings(steps))
    sides = {OURS: ours, CURVLINOPS: with_curvlinops, EIGENTHINGS: partial(with_eigenthings, steps)}
    run.show(f"Ten largest eigenvalues, {case.name}", sides)
    for name, (A, values, vectors) in pairs.items():
        taken = counts[name]
        residual = float(np.linalg.norm(A.matmat(vectors) - vectors * values, axis=0).max())
        found[name], counts[name] = (found[name][0], residual), taken
    expected, bound = found[OURS][0], TOLERANCE * float(found[OURS][0].max())
    for name, (values, residual) in found.items():
        apart = float((values - expected).abs().max())
        verdict = "agree" if apart <= bound + residual else "DIFFER"
        print(
            f"  {name:22} {counts[name]} products, largest residual {residual:.1e}, eigenvalues {verdict} "
            f"(apart {apart:.1e}, asked {bound:.1e})"
        )


def densities(case: Case, run: Run) -> None:
    means: dict[str, float] = {}

    def mean(name: str, grid: Tensor, density: Tensor) -> None:
        grid, density = grid.double(), density.double()
        means[name] = float(torch.trapezoid(grid * density, grid) / torch.trapezoid(density, grid))

    def ours() -> None:
        found = hessian_density(case.model, case.loss, case.data, probes=PROBES, steps=STEPS)
        mean(OURS, found.grid, found.density)
        means["standard error"] = found.mean_standard_error

    def with_curvlinops() -> None:
        A = case.curvlinops()
        grid, density = curvlinops.lanczos_approximate_spectrum(A, STEPS, num_repeats=PROBES)
        mean(CURVLINOPS, grid, density)

    def with_eigenthings() -> None:
        found = hessian_eigenthings.spectral_density(case.eigenthings(), num_runs=PROBES, lanczos_steps=STEPS, seed=0)
        mean(EIGENTHINGS, found.grid, found.density)

    sides = {OURS: ours, CURVLINOPS: with_curvlinops, EIGENTHINGS: with_eigenthings}
    run.show(f"Density, {PROBES} probes of {STEPS} steps, {case.name}", sides)
    print("  mean eigenvalue:", ", ".join(f"{name} {value:.3g}" for name, value in means.items()))


def traces(case: Case, run: Run) -> None:
    """The peers by Hutch++, ours by what it takes without being told, to no larger a standard error.

    With as many products curvlinops' estimate has the standard error of hessian-eigenthings', but for chance.
    """
    found: dict[str, str] = {}
    wanted = hessian_eigenthings.trace(case.eigenthings(), num_matvecs=PRODUCTS, method="hutch++", seed=0)
    enough = next(
        products
        for products in (*range(6, PRODUCTS, 6), PRODUCTS, 2 * PRODUCTS)
        if hessian_trace(case.model, case.loss, case.data, products=products).standard_error <= wanted.stderr
    )

    def ours() -> None:
        trace = hessian_trace(case.model, case.loss, case.data, products=enough)
        found[OURS] = f"{trace.value:.4g} ± {trace.standard_error:.2g} ({trace.method}, {enough} products or draws)"

    def with_curvlinops() -> None:
        found[CURVLINOPS] = f"{float(curvlinops.hutchpp_trace(case.curvlinops(), PRODUCTS)):.4g} (gives no error)"

    def with_eigenthings() -> None:
        trace = hessian_eigenthings.trace(case.eigenthings(), num_matvecs=PRODUCTS, method="hutch++", seed=0)
        found[EIGENTHINGS] = f"{trace.estimate:.4g} ± {trace.stderr:.2g}"

    sides = {OURS: ours, CURVLINOPS: with_curvlinops, EIGENTHINGS: with_eigenthings}
    run.show(f"Trace, to the standard error of Hutch++ with {PRODUCTS} products, {case.name}", sides)
    print("  ", ", ".join(f"{name} {value}" for name, value in found.items()))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--quick", action="store_true", help="but for the MLP one repeat, no warm-up, at most 8 s a side"
    )
    arguments.add_argument("--limit", type=float, help="processor seconds a side; 60 by default, 8 with --quick")
    arguments.add_argument("--only", default="", help="cases whose name holds this")
    arguments.add_argument(
        "--task", choices=["products", "eigenvalues", "densities", "traces"], help="one task, in place of all"
    )
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    ratios: dict[str, tuple[float, bool]] = {}
    # The first call of anything is slower, which matters where all takes 0.3 s.
    often = Run(7, True, chosen.limit or 60.0, ratios)
    run = Run(1, False, chosen.limit or 8.0, ratios) if chosen.quick else often
    for case in cases():
        if chosen.only in case.name:
            H = HessianOperator(case.model, case.loss, case.data)
            print(f"\n== {case.name}: {H.shape[0]:,} parameters, path {H.path}, check {H.check:.1e}")
            elementary = sdpa_kernel(SDPBackend.MATH) if "GPT" in case.name or "ViT" in case.name else nullcontext()
            with elementary:
                for measure in (products, eigenvalues, densities, traces):
                    wanted = chosen.task or (products.__name__ if chosen.quick and case.large else measure.__name__)
                    if measure.__name__ == wanted:
                        measure(case, often if "MLP" in case.name else run)
    print("\nTimes faster than the best peer:")
    for title, (ratio, more) in ratios.items():
        print(f"  {'more than' if more else '':9} {ratio:6.2f}  {title}")


if __name__ == "__main__":
    main()
