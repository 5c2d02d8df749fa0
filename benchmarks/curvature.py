"""Curvature: this package beside its peers, one thread, one run. `python benchmarks/curvature.py [--cnn] [--quick]`.

Sides alternate within each repeat, times are processor time, and ratios are medians over repeats, so that what else
the machine does falls on all alike. Every product is checked to be the same vector, and eigenvalues are computed to
the same residual. Transformers, for which peers need attention in an elementary form, are in `peers.py`.
"""

import argparse
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from math import inf
from statistics import median

import curvlinops
import hessian_eigenthings
import pyhessian
import torch
from scipy.sparse.linalg import eigsh
from torch import nn
from torch.func import functional_call, hessian

from networks import resnet20
from theodolite.measure import HessianOperator, hessian_density, hessian_eigenvalues, hessian_spectrum
from theodolite.measure.critical.mlp_hessian import derivatives, perceptron
from theodolite.measure.curvature.dense import dense_hessians
from theodolite.measure.problem.join import objective

OURS = "theodolite"
Side = Callable[[], object]


class OverTime(Exception):
    """A side took more processor time than it was given."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Stop what runs inside after so many seconds of processor time."""
    stopped = []

    def stop(number: int, frame: object) -> None:
        stopped.append(number)
        raise OverTime

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    except RuntimeError as error:  # TorchScript makes one of whatever is raised below it
        if stopped:
            raise OverTime from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def alternate(sides: dict[str, Side], repeats: int, *, warm: bool = True, limit: float = inf) -> dict[str, list[float]]:
    """Seconds of each side in each repeat; those of one that ran over its limit are the limit, once and for all."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + warm):
        for name, side in sides.items():
            start = time.process_time()
            try:
                with at_most(limit) if limit < inf else nullcontext():
                    if limit not in times[name]:
                        side()
                taken = time.process_time() - start if limit not in times[name] else limit
            except OverTime:
                taken = limit
            if repeat >= warm or taken == limit:  # the first warms up
                times[name].append(taken)
    return {name: each[-repeats:] + each[-1:] * (repeats - len(each)) for name, each in times.items()}


def report(title: str, times: dict[str, list[float]], per: int = 1, limit: float = inf) -> None:
    peers = {name for name in times if not name.startswith(OURS)}
    print(f"\n{title}")
    for name, seconds in times.items():
        more = "more than " if limit in seconds else ""
        line = f"  {name:34}{more:>10}{1e3 * median(seconds) / per:10.2f} ms"
        if name in peers:
            ours = {n: t for n, t in times.items() if n not in peers}
            ratios = {n: median(a / b for a, b in zip(seconds, t, strict=True)) for n, t in ours.items()}
            line += "   " + ", ".join(f"{more}{ratio:.2f} × {n}" for n, ratio in ratios.items())
        print(line, flush=True)


def mlp() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    return model, (torch.randn(1000, 784), torch.randint(0, 10, (1000,)))


def cnn() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 30), (30, 12), (12, 15)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(240, 512), nn.ReLU(), nn.Linear(512, 10))
    return model, (torch.randn(500, 3, 32, 32), torch.randint(0, 10, (500,)))


def products(name: str, make: Callable, repeats: int, block: int) -> None:
    model, data = make()
    loss = nn.CrossEntropyLoss()
    parameters = list(model.parameters())
    H = HessianOperator(model, loss, data)
    C = curvlinops.HessianLinearOperator(model, loss, parameters, [data], check_deterministic=False)
    E = hessian_eigenthings.HessianOperator(model, [data], hessian_eigenthings.supervised_loss(loss))
    Y = pyhessian.hessian(model, loss, data=data, cuda=False)
    V = torch.randn(H.shape[0], block)
    v = V[:, 0].contiguous()
    shaped = [part.view_as(p) for part, p in zip(v.split([p.numel() for p in parameters]), parameters, strict=True)]
    kept = lambda: pyhessian.utils.hessian_vector_product(Y.gradsH, Y.params, shaped)  # noqa: E731
    expected = H @ v
    for other in (C @ v, E.matvec(v), torch.cat([t.flatten() for t in kept()])):
        assert torch.allclose(other, expected, rtol=1e-2, atol=1e-4 * float(expected.norm()))
    times = alternate(
        {
            OURS: lambda: H @ v,
            f"{OURS}, blocks of {block}": lambda: H @ V,
            "one gradient (no product costs less)": lambda: torch.autograd.grad(
                loss(model(data[0]), data[1]), parameters
            ),
            "curvlinops": lambda: C @ v,
            "hessian-eigenthings": lambda: E.matvec(v),
            "PyHessian": kept,
        },
        repeats,
    )
    times[f"{OURS}, blocks of {block}"] = [t / block for t in times[f"{OURS}, blocks of {block}"]]
    report(f"Hessian-vector product, {name}, {H.shape[0]:,} parameters", times)


def extremes(name: str, make: Callable, repeats: int) -> None:
    model, data = make()
    loss = nn.CrossEntropyLoss()
    parameters = list(model.parameters())
    found: dict[str, float] = {}
    top = hessian_eigenvalues(model, loss, data, k=10, tolerance=1e-3)
    bound = top.tolerance

    def ours() -> None:
        found[OURS] = float(hessian_eigenvalues(model, loss, data, k=10, tolerance=1e-3).residuals.max())

    def with_curvlinops() -> None:
        C = curvlinops.HessianLinearOperator(model, loss, parameters, [data], check_deterministic=False)
        values, vectors = eigsh(C.to_scipy(), k=10, which="LA", tol=1e-3)
        found["curvlinops and ARPACK"] = abs(C.to_scipy() @ vectors - vectors * values).max(0).max()

    def with_eigenthings() -> None:
        E = hessian_eigenthings.HessianOperator(model, [data], hessian_eigenthings.supervised_loss(loss))
        # Without reorthogonalisation, its default from 51 steps on, the ten are copies of four. 80 steps are enough.
        result = hessian_eigenthings.lanczos(E, k=10, which="LA", max_iter=80, tol=1e-3, seed=0, reorthogonalize=True)
        found["hessian-eigenthings"] = float(torch.as_tensor(result.residuals).max())

    sides = {OURS: ours, "curvlinops and ARPACK": with_curvlinops, "hessian-eigenthings": with_eigenthings}
    report(f"Ten largest eigenvalues, {name}, residual ≤ {bound:.1e}", alternate(sides, repeats))
    print(
        "  largest residuals:",
        ", ".join(f"{n} {r:.1e}" for n, r in found.items()),
        f"; ours took {top.products} products",
    )


def densities(name: str, make: Callable, repeats: int) -> None:
    """PyHessian 0.1 is not here: its density calls ``torch.eig``, which PyTorch has removed."""
    model, data = make()
    loss = nn.CrossEntropyLoss()

    def with_eigenthings() -> None:
        E = hessian_eigenthings.HessianOperator(model, [data], hessian_eigenthings.supervised_loss(loss))
        hessian_eigenthings.spectral_density(E, num_runs=4, lanczos_steps=40, seed=0)

    sides = {
        OURS: lambda: hessian_density(model, loss, data, probes=4, steps=40),
        "hessian-eigenthings": with_eigenthings,
    }
    report(f"Spectral density, 4 probes of 40 steps, {name}", alternate(sides, repeats))


def spectra(widths: tuple[int, ...], samples: int, repeats: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[
        layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.Tanh())
    ][:-1])  # fmt: skip
    x, y = torch.randn(samples, widths[0]), torch.randint(0, widths[-1], (samples,))
    loss = nn.CrossEntropyLoss()
    own = [(n, p.detach()) for n, p in model.named_parameters()]
    vector = torch.cat([p.flatten() for _, p in own])

    def value(v: torch.Tensor) -> torch.Tensor:
        parts = v.split([p.numel() for _, p in own])
        return loss(functional_call(model, {n: q.view_as(p) for (n, p), q in zip(own, parts, strict=True)}, (x,)), y)

    found = hessian_spectrum(model, loss, (x, y))
    other = torch.linalg.eigvalsh(hessian(value)(vector))
    assert torch.allclose(found.eigenvalues.float(), other, atol=1e-4 * float(other.max()))
    whole = HessianOperator(model, loss, (x, y)).objective
    sides = {
        f"{OURS} (float64, checked)": lambda: hessian_spectrum(model, loss, (x, y)),
        f"{OURS}, the float32 matrix alone": lambda: dense_hessians(whole, vector[None]),
        "torch.func.hessian and eigvalsh": lambda: torch.linalg.eigvalsh(hessian(value)(vector)),
    }
    report(f"Exact spectrum, P = {len(vector)}, {samples} samples, path {found.path}", alternate(sides, repeats))


def closed_forms(widths: tuple[int, ...], samples: int, replicas: int, repeats: int) -> None:
    """The two ways to whole Hessians of many replicas, neither of which is a peer."""
    torch.manual_seed(0)
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.Tanh())]
    model = nn.Sequential(*layers[:-1]).double()
    data = torch.randn(samples, widths[0]).double(), torch.randint(0, widths[-1], (samples,))
    whole = objective(model, nn.CrossEntropyLoss(), data)
    net, batch = perceptron(whole), next(whole.batches())[0]
    vectors = whole.vector + 0.1 * torch.randn(replicas, whole.size).double()
    sides = {
        f"{OURS}, layerwise": lambda: dense_hessians(whole, vectors),
        "perceptron": lambda: derivatives(net, vectors, batch),
    }
    report(f"{replicas} replicas of {widths}, {samples} samples: whole Hessians", alternate(sides, repeats))


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--cnn", action="store_true", help="also eigenvalues and density of the CNN: minutes")
    arguments.add_argument("--quick", action="store_true", help="fewer repeats")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    few, many = (3, 9) if chosen.quick else (5, 25)
    spectra((64, 8, 10), 1797, few)
    spectra((64, 16, 10), 1797, few)
    closed_forms((3, 6, 2), 40, 240, few)
    closed_forms((64, 8, 10), 1797, 1, few)
    products("MLP, 1,000 samples", mlp, many, 8)
    extremes("MLP", mlp, few)
    densities("MLP", mlp, few)
    products("CNN, 500 images", cnn, few, 2)
    products("ResNet-20, 50 images", partial(resnet20, 50), few, 2)
    if chosen.cnn:
        extremes("CNN", cnn, 1)
        densities("CNN", cnn, 1)


if __name__ == "__main__":
    main()
