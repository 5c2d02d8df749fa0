"""Spectra at critical points beside those of random matrices with the same two moments."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from theodolite.measure.parts import CriticalPoint, landscape
from theodolite.studies.minimal_ratio.findings import MATRICES, MEASURED
from theodolite.studies.minimal_ratio.random_matrix import density, moments, negative_share
from theodolite.studies.minimal_ratio.tasks import Problem

QUANTILES = {"lowest_loss": 0.0, "median_loss": 0.5, "high_loss": 0.9}  # of the points whose spectra are kept


def _gauss_newton(task: Problem, vectors: Tensor) -> Tensor:
    r"""2 JᵀJ / N ``(S, P, P)`` for the mean squared error of one output, J its derivatives by the weights."""
    whole = task.objective()

    def outputs(vector: Tensor) -> Tensor:
        found: Tensor = functional_call(whole.model, whole.unflatten(vector), (task.inputs,))
        return found.flatten()

    J = vmap(jacrev(outputs))(vectors)
    G: Tensor = 2 * J.mT @ J / J.shape[1]
    return G


def _matched(task: Problem, points: Sequence[CriticalPoint], decay: float) -> list[tuple[float, float, float]]:
    """For each point the mean of the Gauss-Newton spectrum, and ε and φ of the random matrices that match it."""
    vectors = torch.stack([p.parameters for p in points])
    G = _gauss_newton(task, vectors)
    _, _, H = landscape(task.objective(), 0.0)(vectors)
    return [(float(g.trace()) / len(g), *moments(h.numpy(), g.numpy())) for h, g in zip(H, G, strict=True)]


def predicted(task: Problem, points: Sequence[CriticalPoint], decay: float) -> list[float]:
    """Shares of negative eigenvalues of random matrices; NaN for cross entropy, whose G depends on the residuals."""
    if task.loss != "mse" or not points:
        return [float("nan")] * len(points)
    return [negative_share(e, phi, below=-decay / mean) for mean, e, phi in _matched(task, points, decay)]


def spectra(task: Problem, points: Sequence[CriticalPoint], decay: float) -> pd.DataFrame:
    """Eigenvalues of selected points, and where it applies the density of random matrices on a grid beside them."""
    ordered = sorted(points, key=lambda p: p.loss)
    chosen = {name: ordered[round(q * (len(ordered) - 1))] for name, q in QUANTILES.items()} if ordered else {}
    matched = _matched(task, list(chosen.values()), decay) if task.loss == "mse" and chosen else [None] * len(chosen)
    rows = []
    for (name, p), match in zip(chosen.items(), matched, strict=True):
        about = {"point": name, "loss": p.loss, "index": p.index, "parameters": len(p.parameters)}
        rows += [{**about, "kind": MEASURED, "eigenvalue": v, "density": np.nan} for v in p.eigenvalues.tolist()]
        if match is None:
            continue
        mean, epsilon, ratio = match
        span = float(p.eigenvalues.abs().max())
        grid = np.sinh(np.linspace(-np.arcsinh(1e3), np.arcsinh(1e3), 801)) / 1e3 * span * 1.5
        predicted = density((grid - decay) / mean, max(epsilon, 1e-6), ratio) / mean
        rows += [
            {**about, "kind": MATRICES, "eigenvalue": v, "density": d} for v, d in zip(grid, predicted, strict=True)
        ]
    return pd.DataFrame(rows)
