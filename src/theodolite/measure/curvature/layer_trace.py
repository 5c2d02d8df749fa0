r"""The trace of the curvature of a plain chain of layers, without one product in weight space.

A layer's output :math:`a_n = A_n \theta + \dots` is linear in its own weights θ, sample by sample, so its block of the
Hessian is :math:`\sum_n A_n^\top B_n A_n` with :math:`B_n = \partial^2 L / \partial a_n^2`, and

.. math:: \mathrm{tr}\, H = \sum_{\text{layers}} \sum_n \mathrm{tr}(A_n^\top B_n A_n)
          = \sum_{\text{layers}} \sum_n \mathbb{E}\, \dot a_n^\top B_n\, \dot a_n, \qquad
          \mathbb{E}\, \dot a_n \dot a_n^\top = A_n A_n^\top .

The signs that :math:`\dot a_n` is made of are drawn for each sample anew, so the error falls with the number of samples
as well as with that of the draws; and where a layer has no more directions than draws, all are taken and nothing is
left to chance. A linear layer's :math:`A_n A_n^\top` is :math:`(|x_n|^2 + 1) I`: as many directions as units, not as
weights. The quadratic form is the second derivative of the loss along a path whose outputs of this layer move straight,

.. math:: \dot a^\top B\, \dot a = \dot z^\top (\nabla_z^2 L)\, \dot z
          + \sum_{a = \phi(u)} \sum \frac{\partial L}{\partial a}\, \phi''(u)\, \dot u^2

over the pointwise layers that follow: tangents go forwards once, nothing goes backwards. Without the sum it is
that of the generalised Gauss-Newton matrix.

Samples must not meet in the loss, which is seen on its Hessian by the outputs, and not in the layers, of which a
:class:`~theodolite.measure.curvature.sequential.product.Chain` has none where they do.

Source: Becker and LeCun 1988, "Improving the convergence of back-propagation learning with second order methods", for
the diagonal by layers with its diagonal approximation, which is not made here; Hutchinson 1990 for the signs.
"""

import torch
from torch import Tensor

from theodolite.measure.curvature.operator import HessianOperator
from theodolite.measure.curvature.sequential.layers import LayerRule
from theodolite.measure.curvature.sequential.product import Chain
from theodolite.measure.linalg.operator import Progress

SIGN_BYTES = 2**26  # of one draw's signs: filters for each sample, which layers of many weights have no room for


def by_layers(
    H: HessianOperator, draws: int, random: torch.Generator, progress: Progress
) -> tuple[float, Tensor] | None:
    """The part of the trace that is exact, and of the rest ``(draws,)`` independent estimates; fewer if interrupted.

    None where the operator is no chain or not the sum of its batches, samples meet in the loss, or a layer has too many
    weights.
    """
    if H.shards is not None or not H.is_sum:
        return None
    exact, samples = 0.0, torch.zeros(draws, dtype=torch.float64, device=H.device)
    group, done = max(2, H.together), 0
    while done < draws:
        here = slice(done, min(done + group, draws))
        for chain, share in H.of_batches():
            if not isinstance(chain, Chain) or (not done and not _suits(chain, draws)):
                return None
            for at, each in enumerate(chain.layers):
                if each.output_directions() > draws:
                    samples[here] += share * _sampled(chain, at, here.stop - done, H.together, random)
                elif each.output_directions() and not done:
                    exact += share * _every(chain, at, H.together)
        progress.advance(here.stop - done)
        done = here.stop
        if progress.interrupted or not samples.any():
            break
    return exact, samples[:done] if samples.any() else samples[:0]


def _suits(chain: Chain, draws: int) -> bool:
    largest = max((each.output_directions() for each in chain.layers if each.output_directions() > draws), default=0)
    delta = chain.loss.delta
    return chain.loss.samples_independent and largest * len(delta) * delta.element_size() <= SIGN_BYTES


def _every(chain: Chain, at: int, together: int) -> float:
    """The trace of one layer's block."""
    directions = torch.eye(chain.layers[at].output_directions()).to(chain.loss.delta)
    return sum(float(_second_derivative(chain, at, some[None]).sum()) for some in directions.split(together))


def _sampled(chain: Chain, at: int, draws: int, together: int, random: torch.Generator) -> Tensor:
    """Estimates ``(draws,)`` of the same."""
    found = []
    for begin in range(0, draws, together):
        size = len(chain.loss.delta), min(together, draws - begin), chain.layers[at].output_directions()
        signs = torch.randint(0, 2, size, generator=random, dtype=torch.int8).to(chain.loss.delta).mul_(2).sub_(1)
        found.append(_second_derivative(chain, at, signs))
    return torch.cat(found)


@torch.no_grad()
def _second_derivative(chain: Chain, at: int, signs: Tensor) -> Tensor:
    """Of the loss ``(k,)``, float64, along straight paths of the outputs of the layer ``at``."""
    tangent = chain.layers[at].output_tangent(signs)
    curved = torch.zeros(tangent.shape[1], dtype=torch.float64, device=tangent.device)
    for layer in chain.layers[at + 1 :]:
        if chain.exact:
            curved += layer.second_derivative(tangent)
        tangent = _jvp(layer, tangent)
    return curved + (tangent * chain.loss.rows(tangent)).transpose(0, 1).flatten(1).sum(1).double()


def _jvp(layer: LayerRule, tangent: Tensor) -> Tensor:
    moved = layer.jvp(tangent, {})
    assert moved is not None  # noqa: S101 - a tangent goes in
    return moved
