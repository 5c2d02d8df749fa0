r"""Every curvature instrument of a float32 model, against the dense float64 matrix at the same rounded weights.

The bounds, with ε that of float32 and u = ε / 2. A sum of n rounded terms is off by at most n u of the sum of their
sizes (Higham 2002, "Accuracy and Stability of Numerical Algorithms", equation 3.5). The cases chain at most ten sums of
at most 64 terms, once forward and twice in reverse, so that

.. math:: \lVert \hat H - H \rVert_F \le \gamma \lVert H \rVert_F, \qquad \gamma = 3 \cdot 10 \cdot 64\, u = 960\, ε

where nothing cancels. What follows from that for each instrument stands beside its line.
"""

from functools import cache

import pytest
import torch

import cases
import oracles
from theodolite import measure

EPSILON = torch.finfo(torch.float32).eps
FORWARD = 10 * 64 * EPSILON / 2  # of a loss, relative
GAMMA = 3 * FORWARD
EXACT = 1e-8  # where float32 models are measured in float64
LAYERS = ["tanh", "layer_norm", "attention", "conv2d", "batch_norm_eval"]


@cache
def problems(layer):
    """The case in float32, and the same rounded numbers in float64."""
    single, double = (cases.make(layer, "cross_entropy") for _ in range(2))
    single.model.float()
    double.model.load_state_dict(single.model.state_dict())
    rounded = [(x.float(), y) for x, y in single.batches]
    return (single.model, single.loss, rounded), (double.model, double.loss, [(x.double(), y) for x, y in rounded])


@cache
def matrix(layer, operator):
    dense = (oracles.hessian if operator == "hessian" else oracles.gauss_newton)(*problems(layer)[1])
    return dense, torch.linalg.eigvalsh((dense + dense.T) / 2)


both = pytest.mark.parametrize("operator", ["hessian", "ggn"])
every_layer = pytest.mark.parametrize("layer", LAYERS)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("layer", "operator"),
    [(layer, "hessian") for layer in (*cases.LAYERS, *cases.ONE_BATCH) if layer != "weight_norm"]
    + [(layer, "ggn") for layer in LAYERS],
)
def test_the_product(layer, operator):
    dense, _ = matrix(layer, operator)
    H = measure.HessianOperator(*problems(layer)[0], operator=operator)
    found = H @ torch.eye(len(dense))
    assert H.dtype == found.dtype == torch.float32
    assert float((found.double() - dense).norm()) < GAMMA * float(dense.norm())


@both
@every_layer
def test_eigenvalues(layer, operator):
    """Weyl: they move by at most the norm of the difference; and by the residual that the instrument says."""
    dense, every = matrix(layer, operator)
    found = measure.hessian_eigenvalues(*problems(layer)[0], k=2, which="both", operator=operator)
    bound = found.residuals + GAMMA * float(dense.norm())
    assert bool(((found.eigenvalues - torch.cat([every[:2], every[-2:]])).abs() <= bound).all())
    assert found.converged.all()


@pytest.mark.sampled(2)
@both
@every_layer
def test_spectrum_and_minimal_ratio_are_those_of_float64(layer, operator):
    """A float32 weight is a float64 number too: the matrix is computed in float64, and zero is told as sharply.

    The tolerance is P ε ‖H‖ + √P (max|H - Hᵀ| + √N ε max|H|), with ε that of float64, and asymmetry of some hundred ε.
    """
    dense, every = matrix(layer, operator)
    spectrum = measure.hessian_spectrum(*problems(layer)[0], operator=operator)
    ratio = measure.minimal_ratio(*problems(layer)[0], operator=operator)
    assert float((spectrum.eigenvalues - every).abs().max()) < EXACT * float(every.abs().max())
    size, samples, narrow = len(every), sum(cases.BATCHES), torch.finfo(torch.float64).eps
    least = narrow * (size * float(every.abs().max()) + (size * samples) ** 0.5 * float(dense.abs().max()))
    assert 0.999 * least <= ratio.tolerance <= least + size**0.5 * 1000 * narrow * float(dense.abs().max())
    assert ratio.positive == int((every > ratio.tolerance).sum())
    assert ratio.negative == int((every < -ratio.tolerance).sum())
    assert operator == "hessian" or ratio.negative == 0


@both
@every_layer
def test_the_trace(layer, operator):
    """Cauchy and Schwarz: the trace of a difference is at most √P times its Frobenius norm."""
    dense, every = matrix(layer, operator)
    found = measure.hessian_trace(*problems(layer)[0], products=3 * len(every), operator=operator)
    assert found.standard_error == 0
    assert abs(found.value - float(every.sum())) <= len(every) ** 0.5 * GAMMA * float(dense.norm())


@both
@every_layer
def test_the_density(layer, operator):
    """Its first two moments, vᵀHv and ‖Hv‖² for unit v, which the nodes and weights of two steps give exactly.

    They move by at most ‖D‖ and 2 ‖H‖ ‖D‖ + ‖D‖² for a difference D, here γ ‖H‖_F and as much again for the steps'
    own sums, over P terms. Nodes are Rayleigh quotients, and lie within that of the spectrum.
    """
    dense, every = matrix(layer, operator)
    single, double = (
        measure.hessian_density(*problem, probes=2, steps=10, operator=operator) for problem in problems(layer)
    )
    off = (GAMMA + len(every) * EPSILON) * float(dense.norm())
    assert abs(single.mean - double.mean) <= off
    first, second = ((d.weights * d.nodes.square()).nan_to_num().sum(1) for d in (single, double))
    assert float((first - second).abs().max()) <= 2 * off * float(every.abs().max()) + off**2
    nodes = single.nodes[~single.nodes.isnan()]
    assert float(every[0]) - off <= float(nodes.min())
    assert float(nodes.max()) <= float(every[-1]) + off


@every_layer
def test_the_sharpness_of_a_step(layer):
    """Two losses, each off by ten sums; and the direction, by γ of a step's rise."""
    single, double = problems(layer)
    found = measure.sharpness(*single, method="sam", radius=0.5)
    value = float(oracles.total_loss(*double).detach())
    rise = oracles.rise(*double, 0.5)
    assert abs(found.value - rise) <= FORWARD * (2 * value + rise) + GAMMA * rise
    assert rise > 100 * FORWARD * value  # so that the bound says something
