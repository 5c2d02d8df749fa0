"""What the study of the minimal ratio measures, in a worker: critical points from three kinds of starts, controls."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.utils import parameters_to_vector

from theodolite import data, train
from theodolite.data.spec import DataSpec
from theodolite.measure.critical.landscape import landscape
from theodolite.measure.critical.mlp_hessian import perceptron
from theodolite.measure.critical.orbit import orbit_size
from theodolite.measure.critical.points import CriticalPoint, CriticalPoints
from theodolite.measure.critical.random_matrix import density, moments, negative_share
from theodolite.measure.find_critical_points import find_critical_points
from theodolite.measure.problem.join import objective
from theodolite.models import MLP, build
from theodolite.streams import named_seed
from theodolite.studies.minimal_ratio.field import random_field
from theodolite.studies.minimal_ratio.findings import (
    AGAIN,
    CERTIFIED,
    COS,
    DIGITS,
    FIELD,
    FIRST,
    LETTER,
    MATRICES,
    MEASURED,
    NORM,
    POINTS,
    PROTOCOL,
    RENAMED,
    SOFT,
    WITH_DECAY,
)
from theodolite.study import AnalysisSpec, Training
from theodolite.train.evaluation import LOSSES

CLASSES = 3  # of digits
FOLLOW = 60  # steps of a walk that follows a point from one weight decay to the next, where it lies near
QUANTILES = {"lowest_loss": 0.0, "median_loss": 0.5, "high_loss": 0.9}  # of the points whose spectra are kept


@dataclass(frozen=True)
class Problem:
    """One seed's data and the network that is to fit them."""

    architecture: MLP
    loss: Literal["mse", "cross_entropy"]
    inputs: Tensor  # (N, features) float64
    targets: Tensor  # (N, outputs) float64, or (N,) classes

    @property
    def data(self) -> tuple[Tensor, Tensor]:
        """What instruments take."""
        return self.inputs, self.targets

    def module(self, seed: int = 0) -> nn.Module:
        """The network at its initial weights."""
        return build(self.architecture, seed=seed, dtype=torch.float64)

    def find(self, starts: int | Tensor, weight_decay: float, **how: Any) -> CriticalPoints:
        """The finder on this landscape."""
        return find_critical_points(
            self.module(), LOSSES[self.loss], self.data, starts, weight_decay=weight_decay, **how
        )


def measured(spec: AnalysisSpec) -> Mapping[str, pd.DataFrame]:
    """Tables by name of one measurement."""
    settings = spec.settings
    if spec.labels["measured"] == FIELD:
        return {FIELD: random_field(settings, spec.seed)}
    task = problem(str(spec.labels["task"]), settings["widths"], settings["samples"], spec.seed)
    kinds: dict[str, Callable[..., Mapping[str, pd.DataFrame]]] = {POINTS: _points, PROTOCOL: _protocol}
    return kinds[str(spec.labels["measured"])](task, settings, spec.seed)


def problem(task: str, widths: Sequence[int], samples: int, seed: int) -> Problem:
    """The data that a seed draws for a task: inputs of mean 0 and variance about 1."""
    net = MLP(inputs=widths[0], hidden=tuple(widths[1:-1]), outputs=widths[-1], activation="tanh")
    chance = torch.Generator().manual_seed(named_seed(seed, "data"))
    if task == DIGITS:
        return Problem(net, "cross_entropy", *_digits(widths[0], samples, chance))
    if task == COS:
        x = 2 * torch.rand(samples, 1, generator=chance, dtype=torch.float64) - 1
        return Problem(net, "mse", 3**0.5 * x, torch.cos(np.pi * x))
    inputs, targets = (torch.randn(samples, n, generator=chance, dtype=torch.float64) for n in (widths[0], widths[-1]))
    return Problem(net, "mse", inputs, targets)


def _digits(components: int, samples: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images of three classes on the first principal components of all images of these classes."""
    from sklearn.decomposition import PCA  # a quarter of a second, which other uses of this file need not wait for

    digits = data.load(DataSpec(source="digits"))
    images, labels = torch.tensor(digits.inputs_as(np.float64, "train")).flatten(1), torch.tensor(digits.train_targets)
    chosen = torch.randperm(10, generator=chance)[:CLASSES]
    kept = torch.isin(labels, chosen)
    images, labels = images[kept], (labels[kept, None] == chosen).nonzero()[:, 1]
    projected = torch.from_numpy(PCA(components, svd_solver="full").fit_transform(images.numpy()))
    rows = torch.randperm(len(labels), generator=chance)[:samples]
    return (projected / projected.std())[rows], labels[rows]


def _points(task: Problem, settings: Mapping[str, Any], seed: int) -> Mapping[str, pd.DataFrame]:
    decay, snapshots = settings["weight_decay"], _snapshots(task, settings, seed)
    random = task.find(settings["random"], decay, symmetric=settings["symmetric"], steps=settings["steps"], seed=seed)
    walks = task.find(snapshots, decay, steps=settings["steps"], seed=named_seed(seed, "snapshots"))
    found = [*random, *walks]
    groups = CriticalPoints(tuple(found), decay, "").copies()
    by_start = [list({p.start: p for p in reversed(group)}.values()) for group in groups]  # the first of each start
    together = [point for own in by_start for point in own]
    once = [own[0] for own in by_start]
    counted = set(map(id, once))
    times = {id(p): len(group) for group, own in zip(groups, by_start, strict=True) for p in own}
    copies = _orbits(task, together)
    predicted = _predicted(task, together, decay)
    rows = [
        _row(p, task) | {"counted": id(p) in counted, "predicted": q, "found": times[id(p)], "orbit": n}
        for p, q, n in zip(together, predicted, copies, strict=True)
    ]
    outcomes = Counter((p.start, _outcome(p)) for p in found)
    modules = [task.module(named_seed(seed, f"initial {i}")) for i in range(settings["initial"])]
    initial = [parameters_to_vector(module.parameters()) for module in modules]
    tables = {
        "points": pd.DataFrame(rows),
        "outcomes": pd.DataFrame([{"start": s, "outcome": o, "starts": n} for (s, o), n in outcomes.items()]),
        "initial": _places(task, torch.stack(initial).detach(), decay),
        "approach": pd.DataFrame(
            {
                "positive": _places(task, snapshots, decay)["positive"],
                "index": [p.index for p in walks],
                "outcome": list(map(_outcome, walks)),
            }
        ),
    }
    if settings["decays"]:
        tables["dial"] = _dial(task, once, (decay, *settings["decays"]), min(FOLLOW, settings["steps"] or FOLLOW))
    if settings["spectra"]:
        tables["spectra"] = _spectra(task, once, decay)
    return tables


def _outcome(point: CriticalPoint) -> str:
    """Certified, or the reason why not, as a key: the finder's reasons are words."""
    return RENAMED["outcome"].get(point.reason, point.reason) or CERTIFIED


def _orbits(task: Problem, points: Sequence[CriticalPoint]) -> list[int]:
    """How many copies each point has by permutation and sign of units, itself included."""
    net = perceptron(objective(task.module(), LOSSES[task.loss], task.data).to(torch.float64))
    if net is None:
        raise TypeError("expected a perceptron, which every network of this study is")
    return [orbit_size(net, p.parameters) for p in points]


def _snapshots(task: Problem, settings: Mapping[str, Any], seed: int) -> Tensor:
    """Weights ``(trainings · snapshots, P)`` on the way of ordinary trainings, before the first step included."""
    training = Training(
        loss=task.loss,
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        epochs=settings["epochs"],
        evaluate_every=settings["epochs"],
        snapshot_every=max(1, settings["epochs"] // settings["snapshots"]),
        dtype="float64",
    )
    split = train.Split(task.inputs, task.targets)
    seeds = [named_seed(seed, f"training {i}") for i in range(settings["trainings"])]
    replicas = [train.Replica(own, own, settings["learning_rate"]) for own in seeds]
    outcomes = train.train_replicas(task.architecture, train.TrainingData(split, split), training, replicas)
    rows = [
        torch.cat([outcome.snapshots[epoch][name].flatten() for name, _ in task.module().named_parameters()])
        for outcome in outcomes
        for epoch in sorted(outcome.snapshots)[: settings["snapshots"]]
    ]
    return torch.stack(rows)


def _row(point: CriticalPoint, task: Problem) -> dict[str, Any]:
    total = len(point.parameters)
    live, free = "", False
    if point.structure is not None:  # it never is here: every network of this study is a perceptron
        live, free = "-".join(map(str, point.structure.live)), point.structure.free
    return {
        "start": point.start,
        "loss": point.loss,
        "gradient_norm": point.gradient_norm,
        "largest": float(point.eigenvalues.abs().max()),
        "positive": point.minimal_ratio,
        "negative": point.index / total,
        "zero": point.flat / total,
        "index": point.index,
        "flat": point.flat,
        "parameters": total,
        "kantorovich": point.kantorovich,
        "radius": point.radius,
        "live": live,
        "free": free,
    }


def _places(task: Problem, vectors: Tensor, decay: float) -> pd.DataFrame:
    """Loss, gradient and signs at given weights, each put to the test of a critical point."""
    found = task.find(vectors, decay, steps=0)
    _, g, H = landscape(objective(task.module(), LOSSES[task.loss], task.data), decay)(vectors)
    product = (H @ g[..., None])[..., 0].norm(dim=1)
    rows = [
        {
            "certified": p.certified,
            "above_zero": float((p.eigenvalues > 0).double().mean()),  # as the report has it: no tolerance
            "product_norm": float(hg),  # ‖Hg‖: what stands in .grad after the backward pass of a squared norm
        }
        for p, hg in zip(found, product, strict=True)
    ]
    return pd.concat([pd.DataFrame([_row(p, task) for p in found]), pd.DataFrame(rows)], axis=1)


def _dial(task: Problem, points: Sequence[CriticalPoint], decays: Sequence[float], steps: int) -> pd.DataFrame:
    """Follow points as the weight decay goes down; one that is lost on the way is not looked for again."""
    vectors = torch.stack([p.parameters for p in points])
    origin, rows = torch.arange(len(points)), []
    for decay in decays:
        found = task.find(vectors, decay, steps=steps)
        for place, p in zip(origin.tolist(), found, strict=True):
            soft = float((p.eigenvalues.abs() <= max(p.tolerance, SOFT * decay)).double().mean())
            norm = float(p.parameters.norm())
            outcome = {
                "point": place,
                "decay": decay,
                "outcome": _outcome(p),
                "soft": soft,
                "weights": norm,
            }
            rows.append(outcome | _row(p, task))
        kept = torch.tensor([p.certified for p in found])
        vectors, origin = torch.stack([p.parameters for p in found])[kept], origin[kept]
        if not len(origin):
            break
    return pd.DataFrame(rows)


def _gauss_newton(task: Problem, vectors: Tensor) -> Tensor:
    r"""2 JᵀJ / N ``(S, P, P)`` for the mean squared error of one output, J its derivatives by the weights."""
    whole = objective(task.module(), LOSSES[task.loss], task.data)

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
    _, _, H = landscape(objective(task.module(), LOSSES[task.loss], task.data), 0.0)(vectors)
    return [(float(g.trace()) / len(g), *moments(h.numpy(), g.numpy())) for h, g in zip(H, G, strict=True)]


def _predicted(task: Problem, points: Sequence[CriticalPoint], decay: float) -> list[float]:
    """Shares of negative eigenvalues of random matrices; NaN for cross entropy, whose G depends on the residuals."""
    if task.loss != "mse" or not points:
        return [float("nan")] * len(points)
    return [negative_share(e, phi, below=-decay / mean) for mean, e, phi in _matched(task, points, decay)]


def _spectra(task: Problem, points: Sequence[CriticalPoint], decay: float) -> pd.DataFrame:
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


def _protocol(task: Problem, settings: Mapping[str, Any], seed: int) -> Mapping[str, pd.DataFrame]:
    """The report's protocol, to the letter and on the landscape with weight decay, measured after every epoch."""
    parts = []
    for variant, decay in ((LETTER, 0.0), (WITH_DECAY, settings["weight_decay"])):
        vectors, phases = _by_the_report(task, settings, decay, seed)
        places = _places(task, vectors, decay)
        parts.append(places.assign(variant=variant, phase=phases, epoch=range(len(phases))))
    return {"protocol": pd.concat(parts, ignore_index=True)}


def _by_the_report(task: Problem, settings: Mapping[str, Any], decay: float, seed: int) -> tuple[Tensor, list[str]]:
    """Weights before training and after each epoch ``(E, P)``, with the phase that each ends."""
    model, loss = task.module(named_seed(seed, "protocol")), LOSSES[task.loss]
    order = torch.Generator().manual_seed(named_seed(seed, "order of the protocol"))
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, settings["learning_rate"])
    vectors, phases = [parameters_to_vector(parameters).detach()], [FIRST]
    for phase in [FIRST] * settings["first"] + [NORM] * settings["norm"] + [AGAIN] * settings["after"]:
        for batch in torch.randperm(len(task.inputs), generator=order).split(settings["batch_size"]):
            optimizer.zero_grad()
            value = loss(model(task.inputs[batch]), task.targets[batch])
            value = value + 0.5 * decay * parameters_to_vector(parameters).square().sum()
            if phase == NORM:
                gradient = torch.autograd.grad(value, parameters, create_graph=True)
                value = parameters_to_vector(gradient).norm()
            value.backward()
            optimizer.step()
        vectors.append(parameters_to_vector(parameters).detach())
        phases.append(phase)
    return torch.stack(vectors), phases
