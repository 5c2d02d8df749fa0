"""What is handed back: critical points, frozen, and the sequence of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Tensor

from theodolite.measure.critical.structure import Structure
from theodolite.measure.results.base import Result

if TYPE_CHECKING:
    import pandas as pd

Start = Literal["snapshot", "random-index-k", "symmetric"]
SAME_LOSS, SAME_SPECTRUM = 1e-9, 1e-6  # relative: rounding stays far below


@dataclass(frozen=True, slots=True)
class CriticalPoint(Result, kind="critical_point"):
    """One point and how sure it is that it is critical. Only ``certified`` ones may be counted as critical points."""

    parameters: Tensor = field(repr=False)  # (P,) flat, float64, in the order of named_parameters()
    loss: float  # weight decay included
    gradient_norm: float
    certified: bool
    reason: str  # why not: gradient-flat, not converged, degenerate, ran away, not finite; "" if it is certified
    index: int  # directions in which the loss falls: eigenvalues below -tolerance
    flat: int  # eigenvalues within the tolerance: dimensions of the manifold of critical points it lies on
    eigenvalues: Tensor  # (P,) ascending
    tolerance: float  # |λ| at or below this counts as zero
    kantorovich: float  # h < 1/2 proves a critical point nearby, if K (an estimate) is right
    radius: float  # and that it lies within this distance
    inertia: tuple[int, int, int]  # negative, zero and positive eigenvalues counted by LDLᵀ
    start: Start
    aimed: int | None  # the index imposed on the walk; None: none
    steps: int
    structure: Structure | None  # live, dead and tied units; None: not a perceptron

    @property
    def minimal_ratio(self) -> float:
        """Share of positive eigenvalues."""
        return float((self.eigenvalues > self.tolerance).double().mean())


@dataclass(frozen=True, slots=True)
class CriticalPoints(Result, Sequence[CriticalPoint], kind="critical_points"):
    """All points that were walked to, in the order of the starts."""

    points: tuple[CriticalPoint, ...]
    weight_decay: float
    path: str  # how Hessians were computed

    def __len__(self) -> int:
        return len(self.points)

    @overload
    def __getitem__(self, place: int) -> CriticalPoint: ...
    @overload
    def __getitem__(self, place: slice) -> "CriticalPoints": ...
    def __getitem__(self, place: int | slice) -> "CriticalPoint | CriticalPoints":
        return self._only(self.points[place]) if isinstance(place, slice) else self.points[place]

    def __iter__(self) -> Iterator[CriticalPoint]:
        return iter(self.points)

    def certified(self) -> "CriticalPoints":
        """Those that are critical points."""
        return self._only(tuple(p for p in self.points if p.certified))

    def distinct(self) -> "CriticalPoints":
        """The certified ones, copies left out: by permutation or sign of units, or elsewhere on the same manifold.

        Two points are one if loss and spectrum are equal to rounding; on manifolds, along which the spectrum changes,
        if loss, index and number of flat directions are. So points may be counted too low, hardly too high.
        """
        return self._only(tuple(copies[0] for copies in self.copies()))

    def copies(self) -> "tuple[CriticalPoints, ...]":
        """The certified ones, those that :meth:`distinct` takes for one together; ascending in their loss."""
        found: list[list[CriticalPoint]] = []
        for point in sorted(self.certified(), key=lambda p: p.loss):
            near = _while_close(reversed(found), point)
            own = next((copies for copies in near if _same(point, copies[0])), None)
            if own is None:
                found.append([point])
            else:
                own.append(point)
        return tuple(self._only(tuple(own)) for own in found)

    def to_frame(self) -> "pd.DataFrame":
        """A row for each point; parameters and eigenvalues are left out."""
        import pandas as pd

        rows = []
        for p in self.points:
            names = ("start", "aimed", "certified", "reason", "loss", "gradient_norm", "index", "flat")
            rest = ("tolerance", "kantorovich", "radius", "steps")
            live = {"live": "-".join(map(str, p.structure.live)), "free": p.structure.free} if p.structure else {}
            shares = {
                "minimal_ratio": p.minimal_ratio,
                "lowest": float(p.eigenvalues[0]),
                "highest": float(p.eigenvalues[-1]),
            }
            rows.append({name: getattr(p, name) for name in names} | shares | {n: getattr(p, n) for n in rest} | live)
        return pd.DataFrame(rows).astype({"aimed": "Int64"}) if rows else pd.DataFrame()

    def rows(self) -> list[tuple[str, str]]:
        """The short table that they print as."""
        certified, distinct = self.certified(), self.distinct()
        rows = [("starts", str(len(self))), ("certified", str(len(certified))), ("distinct", str(len(distinct)))]
        reasons = sorted({p.reason for p in self.points if p.reason})
        rows += [(reason, str(sum(p.reason == reason for p in self.points))) for reason in reasons]
        if len(distinct):
            losses, indices = [p.loss for p in distinct], [p.index for p in distinct]
            rows.append(("loss", f"{min(losses):.6g} to {max(losses):.6g}"))
            rows.append(("index", f"{min(indices)} to {max(indices)} of {len(distinct[0].parameters)}"))
        return [*rows, ("path", self.path)]

    def _only(self, points: tuple[CriticalPoint, ...]) -> "CriticalPoints":
        return CriticalPoints(points, self.weight_decay, self.path)


def _while_close(others: Iterator[list[CriticalPoint]], point: CriticalPoint) -> Iterator[list[CriticalPoint]]:
    for copies in others:
        if point.loss - copies[0].loss > SAME_LOSS * max(1.0, abs(point.loss)):
            return
        yield copies


def _same(a: CriticalPoint, b: CriticalPoint) -> bool:
    if a.flat or b.flat:
        return (a.index, a.flat) == (b.index, b.flat)
    scale = float(torch.maximum(a.eigenvalues.abs(), b.eigenvalues.abs()).max())
    return float((a.eigenvalues - b.eigenvalues).abs().max()) <= SAME_SPECTRUM * scale
