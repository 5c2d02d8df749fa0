"""One result of every kind, made by the instruments themselves on small models."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from theodolite import measure


def network(seed: int, hidden: int = 4) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, 2)).double()


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    return inputs, (inputs[:, 0] * inputs[:, 1] > 0).long()


def _path(seed: int, steps: int = 12) -> list[dict[str, torch.Tensor]]:
    model, data = network(seed), _data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    states = []
    for _ in range(steps):
        states.append({n: t.clone() for n, t in model.state_dict().items()})
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
    return states


def _on(instrument: str, **options: Any) -> Callable[[], Any]:
    return lambda: getattr(measure, instrument)(network(0), nn.CrossEntropyLoss(), _data(), **options)


def _between(instrument: str, **options: Any) -> Callable[[], Any]:
    return lambda: getattr(measure, instrument)(network(0), network(1), nn.CrossEntropyLoss(), _data(), **options)


def _at_the_edge() -> Any:
    model = network(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    return measure.edge_of_stability(model, nn.CrossEntropyLoss(), _data(), optimizer)


EACH: dict[str, Callable[[], Any]] = {
    "GradientNorm": _on("gradient_norm"),
    "GradientNoiseScale": lambda: measure.gradient_noise_scale(
        network(0), nn.CrossEntropyLoss(), (_data()[0], torch.ones(40, dtype=torch.int64))
    ),
    "Eigenpairs": _on("hessian_eigenvalues", k=5),
    "Spectrum": _on("hessian_spectrum"),
    "EdgeOfStability": lambda: _at_the_edge(),
    "Diagonal": _on("hessian_diagonal"),
    "HessianBlocks": _on("hessian_blocks", k=2),
    "Density": _on("hessian_density"),
    "Trace": _on("hessian_trace"),
    "MinimalRatio": _on("minimal_ratio"),
    "CriticalPoints": _on("find_critical_points", starts=8, symmetric=4, weight_decay=0.01),
    "CriticalPoint": lambda: EACH["CriticalPoints"]()[0],
    "CriticalPoints, none": lambda: EACH["CriticalPoints"]()[:0],
    "Surface": _on("surface", x=[-1, 0, 1, 2], y=[-1, 0, 1]),
    "Surface of a path": lambda: measure.surface(
        network(0), nn.CrossEntropyLoss(), _data(), measure.path_plane(network(0), _path(0))
    ),
    "Sensitivity": _on("sensitivity"),
    "Sensitivity as a whole": _on("sensitivity", per_sample=False),
    "Sharpness": _on("sharpness"),
    "Interpolation": _between("interpolate"),
    "Curve": _between("connect", epochs=20),
    "Alignment": lambda: measure.align(network(0), network(1)),
    "Trajectory": lambda: measure.trajectory([_path(0), _path(1)]),
    "Trajectory along a line": lambda: measure.trajectory(_path(0), components=1),
}
