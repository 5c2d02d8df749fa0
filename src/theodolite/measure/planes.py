"""Planes through weight space: random directions, the plane of a training path, the plane through three minima."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from theodolite.errors import BadModel
from theodolite.measure.linalg import principal
from theodolite.measure.problem.evaluate import StackedStates
from theodolite.measure.problem.state_dicts import alike, stacked_states, state_of
from theodolite.measure.problem.validation import checked
from theodolite.streams import named_seed

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Plane:
    """The points origin + x u + y v, with those points that it was laid through, or near."""

    kind: str  # how it was laid, in words
    origin: Mapping[str, Tensor]  # parameters, and buffers, by name
    directions: tuple[Mapping[str, Tensor], Mapping[str, Tensor]]  # u and v; what is not named does not move
    extent: tuple[Range, Range] = ((-1.0, 1.0), (-1.0, 1.0))  # of x and y, that a surface covers if not told
    points: StackedStates = field(default_factory=dict)  # (M, ...) by name: checkpoints or minima
    coordinates: Tensor = field(default_factory=lambda: torch.zeros(0, 2))  # (M, 2) float64, their projections
    distances: Tensor = field(default_factory=lambda: torch.zeros(0))  # (M,) float64, from point to plane
    explained_variance: tuple[float, float] | None = None  # shares of a path's variance along u and v


@checked
def random_plane(model: nn.Module, *, seed: int = 0) -> Plane:
    r"""Lay a plane through the model along two filter-normalised random directions.

    .. math:: d_{ij} \leftarrow \frac{d_{ij}}{\lVert d_{ij} \rVert} \lVert \theta_{ij} \rVert

    for filter j of layer i: what makes one output channel of a convolution (of a transposed one as well, where it is
    not a row of the stored tensor), or one neuron of a linear layer. As in the paper's own code, biases and the
    parameters of normalisation layers (all tensors with fewer than two dimensions) do not move: their directions are
    zero. Frozen parameters do not move either. The numbers are drawn on the CPU from ``seed`` alone, so that the
    plane is the same on every device.

    Source: Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", section 4.

    Example:
        >>> model = nn.Linear(3, 2)
        >>> u = random_plane(model).directions[0]
        >>> bool(torch.allclose(u["weight"].norm(dim=1), model.weight.norm(dim=1))), u["bias"].tolist()
        (True, [0.0, 0.0])
    """
    generator = torch.Generator().manual_seed(named_seed(seed, "directions of a plane"))
    moving = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    if all(p.ndim < 2 for p in moving.values()):
        raise BadModel(
            "expected a trainable weight matrix or filter, got parameters with fewer than two dimensions only, which "
            "filter-normalised directions leave where they are. Pass a plane with directions of your own."
        )
    u, v = ({n: _filter_normalised(model, n, p, generator) for n, p in moving.items()} for _ in range(2))
    return Plane("filter-normalised random directions; biases and normalisation fixed", state_of(model), (u, v))


@checked
def path_plane(model: nn.Module, checkpoints: Sequence[Mapping[str, Tensor]]) -> Plane:
    r"""Lay the plane of the two largest principal components of a training path through its last point.

    Args:
        model: the architecture; its own weights play no part.
        checkpoints: state dicts in the order of training, the last one the origin. Buffers count as belonging to a
            checkpoint (its true loss takes them), not to the space: components are those of trainable parameters.

    Returns:
        The plane, with each checkpoint's coordinates and its distance from the plane, which a picture hides.

    Source: Li et al. 2018, section 7.1, with their choice of origin.
    """
    points = stacked_states(model, checkpoints)
    if len(checkpoints) < 3:
        raise BadModel(f"expected at least three checkpoints to lay a plane, got {len(checkpoints)}. Save more often.")
    flat = _flat(points, _moving(model))
    path = flat - flat[-1]
    spread = path.any() and path.shape[1] > 1
    axes, shares = principal.components(path.numpy(), 2) if spread else (np.zeros((2, 0)), np.zeros(2))
    if shares[1] < 1e-12:  # what float32 leaves of a straight line
        raise BadModel(
            "expected a path that spans a plane, but its checkpoints are one point or lie on a line. Take interpolate "
            "between its ends."
        )
    kind = "principal components of a training path"
    return _through(kind, model, points, -1, torch.from_numpy(axes), (float(shares[0]), float(shares[1])))


@checked
def three_point_plane(model_a: nn.Module, model_b: nn.Module, model_c: nn.Module) -> Plane:
    r"""Lay the plane through three models, with orthonormal axes by Gram and Schmidt.

    .. math:: u = \frac{b - a}{\lVert b - a \rVert}, \qquad
              v = \frac{(c - a) - \langle c - a, u \rangle u}{\lVert (c - a) - \langle c - a, u \rangle u \rVert}

    The first model is the origin; x and y are distances in weight space. Buffers keep the first model's values, so
    use models in which BatchNorm is absent, or read the three true losses beside the plane's.

    Source: Garipov et al. 2018, "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", appendix A.1.
    """
    models = (model_a, model_b, model_c)
    points = stacked_states(model_a, [state_of(m) for m in models])
    alike(*models)
    flat = _flat(points, _moving(model_a))
    first = flat[1] - flat[0]
    u = first / first.norm()
    second = flat[2] - flat[0]
    across = second - (second @ u) * u
    if not float(first.norm()) or not float(across.norm()) > 1e-9 * float(second.norm()):
        raise BadModel(
            "expected three models that span a plane, but they lie on one line (or two are the same). Take interpolate "
            "between two of them."
        )
    return _through("plane through three models", model_a, points, 0, torch.stack([u, across / across.norm()]))


def _through(
    kind: str,
    model: nn.Module,
    points: StackedStates,
    origin: int,
    axes: Tensor,
    shares: tuple[float, float] | None = None,
) -> Plane:
    """The plane along orthonormal axes ``(2, P)`` through one of the points, covering all of them with a margin."""
    own = {n: p for n, p in model.named_parameters() if p.requires_grad}
    flat = _flat(points, list(own))
    offsets = flat - flat[origin]
    at = offsets @ axes.T
    sides = [(float(c.min()), float(c.max())) for c in at.T]
    margins = [0.25 * max(high - low for low, high in sides)] * 2
    parts = axes.split([p.numel() for p in own.values()], dim=1)
    u, v = ({n: part[i].view_as(p).to(p) for (n, p), part in zip(own.items(), parts, strict=True)} for i in range(2))
    return Plane(
        kind=kind,
        origin={name: tensor[origin] for name, tensor in points.items()},
        directions=(u, v),
        extent=tuple((low - m, high + m) for (low, high), m in zip(sides, margins, strict=True)),  # type: ignore[arg-type]
        points=points,
        coordinates=at,
        distances=(offsets - at @ axes).norm(dim=1),
        explained_variance=shares,
    )


def _moving(model: nn.Module) -> list[str]:
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    if not names:
        raise BadModel(
            "expected a trainable parameter, got none, so that there is no space to lay a plane through. Set "
            "requires_grad."
        )
    return names


def _flat(points: StackedStates, names: Sequence[str]) -> Tensor:
    flat: Tensor = torch.cat([points[n].double().cpu().flatten(1) for n in names], 1)
    return flat


def _filter_normalised(model: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    if parameter.ndim < 2:
        return torch.zeros_like(parameter)
    owner = dict(model.named_modules())[name.rpartition(".")[0]]  # scripted ones have no get_submodule
    weight = parameter.double().cpu()
    if isinstance(owner, _ConvTransposeNd):  # stored (in, out / groups, ...): a filter is one column of one group
        shape, across = (owner.groups, -1, *parameter.shape[1:]), (1, *range(3, parameter.ndim + 1))
        weight, drawn = weight.reshape(shape), drawn.reshape(shape)
    else:
        across = tuple(range(1, parameter.ndim))
    scale = (weight.pow(2).sum(across, keepdim=True) / drawn.pow(2).sum(across, keepdim=True)).sqrt()
    direction: Tensor = (drawn * scale).reshape(parameter.shape)
    return direction.to(parameter)
