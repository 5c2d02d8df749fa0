"""Where walks start: random weights, recorded ones, and weights with tied or dead units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.errors import BadModel, SettingError
from theodolite.measure.critical.mlp_hessian import Perceptron
from theodolite.measure.critical.newton import PLAIN, Inside
from theodolite.measure.critical.points import Start
from theodolite.measure.critical.symmetry import symmetric_subspaces
from theodolite.measure.problem.objective import Objective

SCALES = 0.5, 1.0, 1.5, 2.5  # of random weights, in units of 1 / sqrt(fan in)

Recorded = Tensor | Sequence[Tensor] | Sequence[Mapping[str, Tensor]] | Sequence[Sequence[Mapping[str, Tensor]]]


@dataclass(frozen=True, slots=True)
class Starts:
    """S starts."""

    kinds: tuple[Start, ...]  # S
    vectors: Tensor  # (S, P)
    inside: Inside | None = None  # the subspaces of symmetric ones

    def part(self, rows: slice) -> "Starts":
        """Some of them."""
        inside = None if self.inside is None else self.inside.of(rows)
        return Starts(self.kinds[rows], self.vectors[rows], inside)


def random_starts(objective: Objective, number: int, generator: torch.Generator) -> Starts:
    """Weights N(0, scale² / fan in) and all else N(0, scale² / 4), an equal share of the starts at each scale."""
    scale = torch.tensor(SCALES, dtype=torch.float64)[torch.arange(number) % len(SCALES)]
    parts = []
    for shape in objective.shapes:
        deviation = (shape.numel() // shape[0]) ** -0.5 if len(shape) > 1 else 0.5
        noise = torch.randn(number, shape.numel(), generator=generator, dtype=torch.float64)
        parts.append(scale[:, None] * deviation * noise)
    return Starts(_all("random-index-k", number), torch.cat(parts, 1).to(objective.vector.device))


def symmetric_starts(objective: Objective, net: Perceptron | None, number: int, generator: torch.Generator) -> Starts:
    """Random weights projected onto random subspaces of tied and dead units, where their walks stay."""
    subspaces = symmetric_subspaces(net, number, generator).to(objective.vector.device)
    loose = random_starts(objective, number, generator).vectors
    inside = Inside(torch.arange(number, device=subspaces.device), subspaces)
    return Starts(_all("symmetric", number), (subspaces @ loose[..., None])[..., 0], inside)


def recorded_starts(objective: Objective, recorded: Recorded) -> Starts:
    """Flat vectors ``(S, P)``, trajectories ``(S, T, P)``, or snapshots (vectors or state dicts), all as one list.

    Raises:
        SettingError: there is none.
        BadModel: they do not fit the model, or are not finite.
    """
    vectors = recorded if isinstance(recorded, Tensor) else _stacked(objective, _listed(recorded))
    if vectors.numel() == 0:
        raise SettingError("expected at least one start, got none. Pass a number of random starts, or vectors (S, P).")
    if vectors.ndim not in (2, 3) or vectors.shape[-1] != objective.size:
        raise BadModel(
            f"expected starts of shape (S, {objective.size}) or (S, T, {objective.size}) for {objective.size} "
            f"parameters, got {tuple(vectors.shape)}. Flatten weights in the order of named_parameters()."
        )
    if not torch.isfinite(vectors).all():
        raise BadModel("expected finite starts, but one holds NaN or infinity. Leave out diverged runs.")
    vectors = vectors.detach().reshape(-1, objective.size).to(objective.vector)
    return Starts(_all("snapshot", len(vectors)), vectors)


def _all(kind: Start, number: int) -> tuple[Start, ...]:
    return (kind,) * number


def joined(sets: Sequence[Starts]) -> Starts:
    """All of them as one, so that they walk together; at most one has subspaces."""
    kinds = tuple(kind for some in sets for kind in some.kinds)
    vectors = torch.cat([some.vectors for some in sets])
    inside = None
    for number, some in enumerate(sets):
        if some.inside is not None:
            place = torch.full((len(vectors),), -1, device=vectors.device)
            at = sum(len(before.vectors) for before in sets[:number])
            place[at : at + len(some.vectors)] = some.inside.place
            inside = Inside(place, some.inside.subspaces)
    return Starts(kinds, vectors, inside)


def indices(index: int | Sequence[int] | Tensor | None, drawn: Tensor, size: int) -> Tensor:
    """The index ``(S,)`` to impose on each start: the one asked for, or else the one ``drawn``."""
    if index is None:
        return drawn
    imposed = torch.as_tensor(index, dtype=torch.int64)
    imposed = imposed.expand(len(drawn)) if imposed.ndim == 0 else imposed
    if len(imposed) != len(drawn) or not ((imposed >= 0) & (imposed <= size)).all():
        raise SettingError(
            f"expected an index from 0 to {size}, one for all or one for each of {len(drawn)} starts, got {index}."
        )
    return imposed.to(drawn.device)


def drawn_indices(negative: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform from 0 to the number of negative eigenvalues ``(S,)`` at each start."""
    uniform = torch.rand(len(negative), generator=generator, dtype=torch.float64).to(negative.device)
    return (uniform * (negative + 1)).long()


def no_index(vectors: Tensor) -> Tensor:
    """Newton's own steps for each of ``(S, P)``."""
    return torch.full((len(vectors),), PLAIN, device=vectors.device)


def _listed(recorded: object) -> Sequence[object]:
    if isinstance(recorded, str) or not isinstance(recorded, Sequence):
        raise SettingError(
            f"expected starts as a number, vectors (S, P) or a list of state dicts, got {type(recorded).__name__}. "
            "Pass for example 20."
        )
    return recorded


def _stacked(objective: Objective, recorded: Sequence[object]) -> Tensor:
    rows: list[Tensor] = []
    for entry in recorded:
        if isinstance(entry, Mapping):
            missing = [name for name in objective.names if name not in entry]
            if missing:
                raise BadModel(f"expected snapshots of this model, but one lacks '{missing[0]}'. Pass its state dicts.")
            rows.append(torch.cat([entry[name].detach().double().flatten() for name in objective.names])[None])
        elif isinstance(entry, Tensor):
            rows.append(entry.detach().double().reshape(-1, entry.shape[-1] if entry.ndim else 1))
        elif isinstance(entry, Sequence) and not isinstance(entry, str):
            rows.append(_stacked(objective, entry))
        else:
            raise BadModel(
                f"expected starts as a number, vectors (S, P) or state dicts, got {type(entry).__name__} among them. "
                "Pass those."
            )
    if len({row.shape[1] for row in rows}) > 1:
        raise BadModel("expected starts of one model, got vectors of several lengths. Pass those of this model.")
    return torch.cat(rows) if rows else torch.empty(0, objective.size)
