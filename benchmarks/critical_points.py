"""Critical points: Newton without a merit function against the two ways that minimise the norm of the gradient.

All from the same starts, with the same exact derivatives, certified by the same rules. Below, what our own way finds
and takes by the number of parameters.

Run: OMP_NUM_THREADS=1 python benchmarks/critical_points.py [--sizes]    (one core, about two minutes; sizes ten more)
"""

import sys
import time
from collections import Counter
from itertools import pairwise

import pandas as pd
import torch
from sklearn.datasets import load_digits
from torch import nn

from theodolite.measure import find_critical_points
from theodolite.measure.critical.landscape import landscape
from theodolite.measure.critical.starts import random_starts
from theodolite.measure.problem.join import objective

DECAY, STEPS = 3e-3, 150
SIZES = [(3, 6, 1), (3, 6, 6, 1), (5, 12, 5), (5, 12, 12, 5), (5, 40, 10), (10, 50, 10)]


def main():
    torch.set_num_threads(1)
    by_size() if "--sizes" in sys.argv else by_way()


def by_way():
    rows = []
    for name, (model, loss, data) in {
        "random targets, 3-6-1": random_targets((3, 6, 1), 0),
        "random targets, 3-6-1, again": random_targets((3, 6, 1), 1),
        "digits, 4-6-3, cross entropy": digits(),
    }.items():
        surface = landscape(objective(model, loss, data), DECAY)
        starts = random_starts(surface.objective, 240, torch.Generator().manual_seed(0)).vectors
        for way in (ours, levenberg_marquardt, newton_mr):
            at = time.process_time()
            found = way(model, loss, data, surface, starts)
            rows.append({"task": name, "way": way.__name__, "P": surface.size, **row(found, time.process_time() - at)})
    print(pd.DataFrame(rows).to_string(index=False))


def by_size():
    rows = []
    for widths in SIZES:
        model, loss, data = random_targets(widths, 0, samples=100)
        number = max(2, 3000 // sum(p.numel() for p in model.parameters()))
        at = time.process_time()
        found = find_critical_points(model, loss, data, number, weight_decay=DECAY)
        seconds = time.process_time() - at
        shape, size = "-".join(map(str, widths)), len(found[0].parameters)
        rows.append({"network": shape, "P": size, **row(found, seconds), "seconds a start": seconds / number})
    print(pd.DataFrame(rows).to_string(index=False))


def row(found, seconds):
    distinct = found.distinct()
    indices = [p.index for p in distinct]
    why = Counter(p.reason for p in found if p.reason)
    return {
        "starts": len(found),
        "certified": len(found.certified()),
        "distinct": len(distinct),
        "index": f"{min(indices)} to {max(indices)}" if indices else "-",
        "seconds": round(seconds, 1),
        "distinct a second": round(len(distinct) / seconds, 2),
        "gradient-flat": why["gradient-flat"],
        "not converged": why["not converged"],
        "degenerate": why["degenerate"],
    }


def random_targets(widths, seed, samples=40):
    generator = torch.Generator().manual_seed(seed)
    X, Y = (torch.randn(samples, n, generator=generator, dtype=torch.float64) for n in (widths[0], widths[-1]))
    return perceptron(widths), lambda o, t: 0.5 * (o - t).square().sum(1).mean(), (X, Y)


def digits(classes=3, components=4, samples=300):
    images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
    images = images - images.mean(0)
    X = images @ torch.linalg.svd(images, full_matrices=False)[2][:components].T
    kept = (labels < classes).nonzero()[:samples, 0]
    return perceptron((components, 6, classes)), nn.CrossEntropyLoss(), ((X / X.std())[kept], labels[kept])


def perceptron(widths):
    layers = [part for i, o in pairwise(widths) for part in (nn.Linear(i, o), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double()


def ours(model, loss, data, surface, starts):
    return find_critical_points(model, loss, data, len(starts), weight_decay=DECAY, steps=STEPS)


def levenberg_marquardt(model, loss, data, surface, starts):
    """Steps -(H² + μ λ_max²)⁻¹ H g; of five dampings around the last one, that with the least gradient norm."""

    def advance(x, g, H, mu):
        eigenvalues, V = torch.linalg.eigh(H)
        c, largest = (V.mT @ g[..., None])[..., 0], eigenvalues.abs().amax(1, keepdim=True)
        best, least, kept = x.clone(), g.norm(dim=1), 100 * mu
        for factor in (1e-3, 1e-1, 1.0, 10.0, 100.0):
            damping = (factor * mu).clamp(1e-20, 1e6)
            t = -eigenvalues / (eigenvalues**2 + damping[:, None] * largest**2) * c
            ahead = x + (V @ t[..., None])[..., 0]
            norm = gradient(ahead).norm(dim=1)
            better = norm < least
            best[better], least[better], kept[better] = ahead[better], norm[better], damping[better]
        return best, kept.clamp(1e-20, 1e6)

    gradient = gradient_of(surface, data)
    ends = descend(surface, starts, advance)
    return find_critical_points(model, loss, data, ends, weight_decay=DECAY, steps=0)


def newton_mr(model, loss, data, surface, starts):
    """Steps -H⁺ g, halved until the norm of the gradient falls enough (Roosta et al. 2018, with exact inverses)."""

    def advance(x, g, H, state):
        eigenvalues, V = torch.linalg.eigh(H)
        kept = eigenvalues.abs() > 1e-8 * eigenvalues.abs().amax(1, keepdim=True)
        c = (V.mT @ g[..., None])[..., 0]
        d = (V @ torch.where(kept, -c / eigenvalues, 0)[..., None])[..., 0]
        best, open_, length = x.clone(), torch.ones(len(x), dtype=torch.bool), 1.0
        for _ in range(14):
            ahead = x[open_] + length * d[open_]
            falls = gradient(ahead).norm(dim=1) < (1 - 1e-4 * length) * g[open_].norm(dim=1)
            here = open_.nonzero()[:, 0][falls]
            best[here], length = ahead[falls], length / 2
            open_[here] = False
            if not open_.any():
                break
        return best, state

    gradient = gradient_of(surface, data)
    ends = descend(surface, starts, advance)
    return find_critical_points(model, loss, data, ends, weight_decay=DECAY, steps=0)


def gradient_of(surface, data):
    whole = surface.objective

    def value(vector):
        return whole.batch_loss(whole.unflatten(vector), data) + 0.5 * DECAY * vector.square().sum()

    return torch.func.vmap(torch.func.grad(value))


def descend(surface, starts, advance):
    ends, active = starts.clone(), torch.arange(len(starts))
    state = torch.full((len(starts),), 1e-2, dtype=torch.float64)
    for _ in range(STEPS):
        _, g, H = surface(ends[active])
        on = g.norm(dim=1) > 1e-12
        active, g, H = active[on], g[on], H[on]
        if len(active) == 0:
            break
        before = ends[active]
        ends[active], state[active] = advance(before, g, H, state[active])
        active = active[(ends[active] != before).any(1) | (state[active] < 1e5)]
    return ends


if __name__ == "__main__":
    main()
