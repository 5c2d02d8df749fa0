"""The search itself: walks from every start with the index it is to reach, and a certificate for every end."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from theodolite.measure.critical.certify import certify
from theodolite.measure.critical.landscape import Landscape
from theodolite.measure.critical.newton import PLAIN, Inside, far, walk
from theodolite.measure.critical.points import CriticalPoint
from theodolite.measure.critical.starts import Starts, drawn_indices, indices, joined, no_index
from theodolite.measure.critical.structure import Structure, structures

STACK_ENTRIES = 2**23  # numbers in one of the half dozen stacks of matrices that walk together: 64 MiB each
FIRST_STEPS = 60  # before the index is frozen at the number of negative eigenvalues that a walk then sees
STEPS = {"snapshot": 210, "random-index-k": 150, "symmetric": 150}  # benchmarks/critical_points.py
STEPS_A_PARAMETER = 3  # or so many steps, if that is more: docs/critical-points.md has the yields


def search(
    surface: Landscape,
    sets: Sequence[Starts],
    index: int | Sequence[int] | Tensor | None,
    *,
    steps: int | None,
    generator: torch.Generator,
    seed: int,
) -> list[CriticalPoint]:
    """Walk from all starts, as many at once as memory is meant for, and certify where each ends.

    Args:
        surface: what they walk on.
        sets: starts, each set of one kind.
        index: to reach, one for all or one for each of a set; None: drawn for each random start.
        steps: the most of each walk; None: by its kind.
        generator: draws indices.
        seed: of the directions in which certificates measure.
    """
    imposed = torch.cat([_imposed(surface, starts, index, generator) for starts in sets])
    every = joined(sets)
    points: list[CriticalPoint] = []
    for rows in _stacks(surface, len(imposed)):
        points += _walk_and_certify(surface, every.part(rows), imposed[rows], steps, seed)
    return points


def _stacks(surface: Landscape, number: int) -> Iterator[slice]:
    """The rows of ``number`` vectors that go together, one stack after the other."""
    together = max(1, STACK_ENTRIES // surface.size**2)
    yield from (slice(first, first + together) for first in range(0, number, together))


def _imposed(
    surface: Landscape, starts: Starts, index: int | Sequence[int] | Tensor | None, generator: torch.Generator
) -> Tensor:
    """The index ``(S,)`` that each start is to reach."""
    if starts.kinds[0] == "snapshot" or index is not None:
        return indices(index, no_index(starts.vectors), surface.size)
    parts = [starts.part(rows) for rows in _stacks(surface, len(starts.vectors))]
    return drawn_indices(torch.cat([_negative(surface, part.vectors, part.inside) for part in parts]), generator)


def _negative(surface: Landscape, vectors: Tensor, inside: Inside | None) -> Tensor:
    """Negative eigenvalues of the Hessian ``(S,)``, in the subspaces if there are any."""
    _, gradient, hessian = surface(vectors)
    hessian = hessian.nan_to_num()
    if inside is not None:
        _, hessian = inside.confine(gradient, hessian)  # directions out are not negative
    eigenvalues = torch.linalg.eigvalsh(hessian)
    negative: Tensor = eigenvalues < -1e-12 * eigenvalues.abs().amax(1, keepdim=True)
    return negative.sum(1)


def _walk_and_certify(
    surface: Landscape, starts: Starts, imposed: Tensor, steps: int | None, seed: int
) -> list[CriticalPoint]:
    ends, index, taken = _walk(surface, starts, imposed, steps)
    found = certify(surface, ends, seed=seed)
    units: list[Structure | None] = [None] * len(ends) if surface.net is None else [*structures(surface.net, ends)]
    away = (ends.norm(dim=1) >= far(starts.vectors)).tolist()
    return [
        CriticalPoint(
            parameters=ends[i],
            loss=float(found.loss[i]),
            gradient_norm=float(found.gradient_norm[i]),
            certified=not reason,
            reason="ran away" if reason and away[i] else reason,
            index=int(found.index[i]),
            flat=int(found.flat[i]),
            eigenvalues=found.eigenvalues[i],
            tolerance=float(found.tolerance[i]),
            kantorovich=float(found.kantorovich[i]),
            radius=float(found.radius[i]),
            inertia=tuple(found.inertia[i].tolist()),
            start=starts.kinds[i],
            aimed=None if index[i] == PLAIN else int(index[i]),
            steps=int(taken[i]),
            structure=units[i],
        )
        for i, reason in enumerate(found.reason)
    ]


def _walk(surface: Landscape, starts: Starts, imposed: Tensor, steps: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Ends ``(S, P)``, the index each walk had at last and the steps it took ``(S,)``."""
    most = [max(STEPS[kind], STEPS_A_PARAMETER * surface.size) if steps is None else steps for kind in starts.kinds]
    allowed = torch.tensor(most, device=imposed.device)
    first = walk(surface, starts.vectors, imposed, allowed.clamp(max=FIRST_STEPS), inside=starts.inside)
    ends, taken, index = first.vectors, first.steps, imposed.clone()
    left = (~first.arrived & (allowed > FIRST_STEPS)).nonzero()[:, 0]
    if len(left):
        inside = None if starts.inside is None else starts.inside.of(left)
        index[left] = _negative(surface, ends[left], inside)
        second = walk(surface, ends[left], index[left], allowed[left] - FIRST_STEPS, inside=inside)
        ends[left], taken[left] = second.vectors, taken[left] + second.steps
    return ends, index, taken
