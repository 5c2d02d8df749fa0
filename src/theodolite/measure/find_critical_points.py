"""Critical points of the loss of a small network, found from many starts at once and certified one by one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import torch
from torch import Tensor, nn

from theodolite.errors import BadLoss, NotDifferentiable, SettingError, TooLarge
from theodolite.measure.critical.landscape import Landscape, landscape
from theodolite.measure.critical.points import CriticalPoints
from theodolite.measure.critical.search import search
from theodolite.measure.critical.smooth import kinks
from theodolite.measure.critical.starts import Recorded, random_starts, recorded_starts, symmetric_starts
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.objective import Loss, Objective
from theodolite.measure.problem.options import ProblemOptions, with_options
from theodolite.measure.problem.validation import checked
from theodolite.streams import named_seed

LARGEST = 2000  # parameters: a step takes a second there, and its time grows with the cube


@checked
@with_options(ProblemOptions)
def find_critical_points(
    model: nn.Module,
    loss: Loss,
    data: Data,
    starts: int | Recorded,
    *,
    index: int | Sequence[int] | Tensor | None = None,
    symmetric: int = 0,
    weight_decay: float = 0.0,
    steps: int | None = None,
    seed: int = 0,
    force: bool = False,
    **options: Unpack[ProblemOptions],
) -> CriticalPoints:
    r"""Find points where the gradient of the loss is zero, of every index, and certify each.

    The loss is that over all data plus :math:`\tfrac12` ``weight_decay`` :math:`\lVert \theta \rVert^2`. Walks take
    Newton's steps along the eigenvectors of the exact Hessian, with a trust radius and no merit function
    (:mod:`~theodolite.measure.critical.newton`); minimising the norm of the gradient would end where the gradient lies
    in the Hessian's kernel. Every end is certified or keeps the reason why not
    (:mod:`~theodolite.measure.critical.certify`): count ``.distinct()`` ones only.

    Args:
        model: a small network, twice differentiable, measured in the mode it is in; up to about 1,000 parameters.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        starts: a number of random weights at several scales, each with an index to reach (``random-index-k``); or flat
            parameters ``(S, P)``, trajectories ``(S, T, P)``, state dicts or lists of them (``snapshot``), from which
            60 plain steps go, and then more with the index frozen at the number of negative eigenvalues.
        index: directions to go up in, one for all starts or one for each. None: as above, for random starts drawn from
            0 to the number of negative eigenvalues there.
        symmetric: so many starts more, with tied or dead units (``symmetric``); the model must be a perceptron.
        weight_decay: of the term above, in units of loss per squared weight.
        steps: the most of each walk; 0 certifies the starts as they are. None: 150, from recorded starts 210,
            or three times the number of parameters if that is more.
        seed: of random starts, and of the directions in which certificates measure.
        force: walk although the loss has kinks.

    Returns:
        A sequence with a point for every start, in their order, random or recorded ones first.

    Raises:
        TooLarge: more than 2,000 parameters.
        NotDifferentiable: the loss has no second derivative somewhere (ReLU, max pooling, Huber), and ``force`` is off.
        BadLoss: the loss is constant.
        SettingError: no start, or a number out of its range.
        MeasurementError: model, loss or data cannot be measured; see
        :func:`~theodolite.measure.problem.join.objective`.

    Source: Yin, Zhang and Zhang 2019 for index-k dynamics; Frye et al. 2021 for why not the gradient norm; Fukumizu and
    Amari 2000 for symmetric points.

    Example:
        >>> class Wells(nn.Module):  # L(θ) = (θ² - 1)²: minima at -1 and 1, a maximum at 0
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.theta = nn.Parameter(torch.zeros(1).double())
        ...     def forward(self, inputs):
        ...         return (self.theta**2 - 1) ** 2
        >>> data = torch.zeros(1, 1), torch.zeros(1, 1)
        >>> found = find_critical_points(Wells(), lambda o, t: o.sum(), data, 20)
        >>> sorted((p.index, round(p.loss, 9)) for p in found.distinct())
        [(0, 0.0), (1, 1.0)]
    """
    whole = objective(model, loss, data, **options)
    _check(whole, weight_decay, steps, symmetric, force)
    surface = landscape(whole, weight_decay)
    generator = torch.Generator().manual_seed(named_seed(seed, "starts"))
    sets = []
    if not isinstance(starts, int):
        sets.append(recorded_starts(surface.objective, starts))
    elif starts > 0:
        sets.append(random_starts(surface.objective, starts, generator))
    elif starts < 0 or symmetric == 0:
        raise SettingError(f"expected at least one start, got {starts}. Pass a number, or vectors (S, P).")
    if symmetric:
        sets.append(symmetric_starts(surface.objective, surface.net, symmetric, generator))
    _check_varies(surface, sets[0].vectors)
    points = search(surface, sets, index, steps=steps, generator=generator, seed=seed)
    return CriticalPoints(tuple(points), weight_decay, surface.backend)


def _check(whole: Objective, weight_decay: float, steps: int | None, symmetric: int, force: bool) -> None:
    if not (0 <= weight_decay < float("inf")) or (steps is not None and steps < 0) or symmetric < 0:
        raise SettingError(
            f"expected weight_decay, steps and symmetric of at least 0, got weight_decay={weight_decay}, "
            f"steps={steps}, symmetric={symmetric}."
        )
    if whole.size > LARGEST:
        raise TooLarge(
            f"expected at most {LARGEST} parameters for exact Hessians at every step, got {whole.size}, which would "
            f"take {6 * 8 * whole.size**2 / 2**30:.1f} GiB and {(whole.size / LARGEST) ** 3:,.0f} seconds or more a "
            "step. Measure hessian_eigenvalues or hessian_density at trained weights instead, or take a narrower model."
        )
    if not force and (found := kinks(whole)):
        raise NotDifferentiable(
            f"expected a loss with second derivatives everywhere, got one with kinks: {', '.join(found)}. Its Hessian "
            "exists almost everywhere, but a certificate would speak of one smooth piece only, and minima on the kinks "
            "are never found. Use tanh, softplus or GELU, or pass force=True and read results so."
        )


def _check_varies(surface: Landscape, starts: Tensor) -> None:
    alone = replace(surface, weight_decay=0.0)  # whose own critical point at zero says nothing of the model
    _, gradient, hessian = alone(torch.cat([starts[:4], starts[:1] + 0.1]))
    if not gradient.any() and not hessian.any():
        raise BadLoss(
            "expected a loss that changes with the parameters, got one that is constant around the starts. Leave out "
            ".detach() and .item() on the way from model to loss, and thresholds such as argmax."
        )
