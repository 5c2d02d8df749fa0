"""Loss on a plane through weight space."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import torch
from torch import Tensor, nn

from theodolite.errors import BadModel
from theodolite.measure.planes import Plane, random_plane
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.evaluate import evaluate
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.objective import Loss
from theodolite.measure.problem.options import ProblemOptions, with_options
from theodolite.measure.problem.state_dicts import stacked_states, state_of
from theodolite.measure.problem.validation import checked, coordinates
from theodolite.measure.results.base import Result

if TYPE_CHECKING:
    import pandas as pd

GRID = 51  # points along each axis


@dataclass(frozen=True, slots=True)
class Surface(Result, kind="surface"):
    """A loss surface, and the points its plane was laid through or near."""

    x: Tensor  # (X,) float64, coordinates along the first direction
    y: Tensor  # (Y,) float64, along the second
    loss: Tensor  # (Y, X) float64, mean over samples: a row for each y, as contour plots take it
    accuracy: Tensor  # (Y, X) float64; NaN where targets are not classes
    kind: str  # how the plane was laid
    points: Tensor  # (M, 2) float64, checkpoints or minima projected on the plane
    points_distance: Tensor  # (M,) float64, how far off the plane each lies, in weight space
    points_loss: Tensor  # (M,) float64, its true loss
    points_plane_loss: Tensor  # (M,) float64, the plane's loss at its projection
    explained_variance: tuple[float, float] | None  # of a training path along x and y

    def to_frame(self) -> "pd.DataFrame":
        """A row for each point of the grid: x, y, loss, accuracy."""
        import pandas as pd

        y, x = torch.meshgrid(self.y, self.x, indexing="ij")
        columns = {"x": x, "y": y, "loss": self.loss, "accuracy": self.accuracy}
        return pd.DataFrame({name: values.flatten().numpy() for name, values in columns.items()})


@checked
@with_options(ProblemOptions)
def surface(
    model: nn.Module,
    loss: Loss,
    data: Data,
    directions: Plane | Tensor | None = None,
    *,
    x: Sequence[float] | Tensor | None = None,
    y: Sequence[float] | Tensor | None = None,
    seed: int = 0,
    **options: Unpack[ProblemOptions],
) -> Surface:
    r"""Measure :math:`L(\theta + x u + y v)` on a grid.

    Args:
        model: any module, measured in the mode it is in.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        directions: None for two filter-normalised random ones (Li et al. 2018) drawn from ``seed``; or flat ones
            ``(2, P)`` over the trainable parameters, through the model; or a plane laid by
            :func:`~theodolite.measure.planes.path_plane` or
            :func:`~theodolite.measure.planes.three_point_plane`, which brings its own origin.
        x: ``(X,)`` coordinates; None for 51 over the plane's extent.
        y: ``(Y,)`` likewise.
        seed: of the random directions; the same seed gives the same surface again.

    Raises:
        BadModel: the directions are not of this model.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> data = torch.eye(2), torch.zeros(2, 1)
        >>> bowl = surface(model, nn.MSELoss(), data, torch.eye(2), x=[0, 1], y=[0, 1, 2])
        >>> bowl.loss.tolist()  # (x² + y²) / 2
        [[0.0, 0.5], [0.5, 1.0], [2.0, 2.5]]
    """
    whole = objective(model, loss, data, **options)
    plane = directions if isinstance(directions, Plane) else _plane(model, directions, seed)
    across, up = (_axis(c, e, n) for c, e, n in zip((x, y), plane.extent, "xy", strict=True))
    origin = stacked_states(model, [plane.origin])
    zero = {name: torch.zeros_like(tensor[0]) for name, tensor in origin.items()}
    basis = {
        name: torch.cat([tensor, *(d.get(name, zero[name]).to(tensor)[None] for d in plane.directions)])
        for name, tensor in origin.items()
    }
    grid = torch.cartesian_prod(up, across).flip(1)
    places = torch.cat([grid, plane.coordinates])
    weights = torch.cat([torch.ones(len(places), 1, dtype=torch.float64), places], 1)
    values = evaluate(whole, basis, weights).checked()
    shape, cells = (len(up), len(across)), len(grid)
    true = torch.zeros(0, dtype=torch.float64)
    if plane.points:
        true = evaluate(whole, plane.points, torch.eye(len(plane.coordinates))).loss
    return Surface(
        x=across,
        y=up,
        loss=values.loss[:cells].view(shape),
        accuracy=values.accuracy[:cells].view(shape),
        kind=plane.kind,
        points=plane.coordinates,
        points_distance=plane.distances,
        points_loss=true,
        points_plane_loss=values.loss[cells:],
        explained_variance=plane.explained_variance,
    )


def _plane(model: nn.Module, directions: Tensor | None, seed: int) -> Plane:
    if directions is None:
        return random_plane(model, seed=seed)
    own = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    size = sum(p.numel() for p in own.values())
    if tuple(directions.shape) != (2, size) or not torch.isfinite(directions).all():
        raise BadModel(
            f"expected two finite directions over the {size} trainable parameters, shape (2, {size}), got "
            f"{tuple(directions.shape)}. Flatten them in the order of named_parameters()."
        )
    parts = directions.split([p.numel() for p in own.values()], 1)
    u, v = ({n: part[i].view(p.shape) for (n, p), part in zip(own.items(), parts, strict=True)} for i in range(2))
    return Plane("directions as given", state_of(model), (u, v))


def _axis(values: Sequence[float] | Tensor | None, extent: tuple[float, float], name: str) -> Tensor:
    if values is None:
        return torch.linspace(*extent, GRID, dtype=torch.float64)
    return coordinates(name, values)
