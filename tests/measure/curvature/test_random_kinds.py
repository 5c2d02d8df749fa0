"""Squares of gradients and the tangent kernel of random models: right by samples taken one by one, or refused."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch.nn.attention import SDPBackend, sdpa_kernel

import oracles
import random_models
from theodolite import measure
from theodolite.errors import TheodoliteError

SEPARATE = [  # losses in which a sample has a part of its own
    name
    for name, loss in random_models.LOSSES.items()
    if not loss.options.get("samples")
    and name not in ("penalty", "penalty_of_a_module", "calls_the_model_again", "physics")
]
ANSWERED = 0.5  # of the models, at least: the others mix samples in training mode


def parts(problem: random_models.Problem) -> torch.Tensor:
    """Each sample's part of the gradient, a row each."""
    total = sum(map(problem.divisor, (t for _, t in problem.batches if len(t)))) if problem.divisor else 1.0
    rows = []
    for x, t in [(xs[i : i + 1], ts[i : i + 1]) for xs, ts in problem.batches for i in range(len(ts))]:
        share = problem.divisor(t) / total if problem.divisor else 1.0
        rows.append(torch.zeros(sum(p.numel() for p in problem.parameters), dtype=torch.float64))
        if share:
            with sdpa_kernel(SDPBackend.MATH):
                value = share * problem.loss(problem.model(x), t)
            slopes = torch.autograd.grad(value, problem.parameters, materialize_grads=True)
            rows[-1] = torch.cat([slope.flatten() for slope in slopes])
    return torch.stack(rows)


def differ(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return float((found - expected).norm()) > 1e-7 * float(expected.norm()) + 1e-12


@pytest.mark.sampled(2)
@pytest.mark.parametrize("loss", SEPARATE)
def test_squares_of_gradients_and_the_kernel_are_right_or_refused(loss):
    said = []

    @settings(max_examples=4, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(random_models.recipes(loss))
    def each(recipe):
        problem = random_models.build(recipe, double=True)
        given = problem.model, problem.loss, problem.data
        part = {"parameters": problem.pattern, **problem.options}
        try:
            C = measure.HessianOperator(*given, operator="gradient_covariance", **part).to_dense()
            noise = measure.gradient_noise_scale(*given, **part)
            kernel = measure.TangentKernel(problem.model, problem.data).to_dense()
        except TheodoliteError:
            said.append(False)
            return
        rows = parts(problem)
        centred = (rows - rows.mean(0)) * (len(rows) if problem.divisor else 1.0)
        expected = centred.mT @ centred / (len(rows) if problem.divisor else 1.0)
        J = oracles.jacobian(problem.model, [batch for batch in problem.batches if len(batch[0])])
        assert not differ(C, expected)
        assert not differ(torch.tensor(noise.variance), centred.square().sum() / (len(rows) - 1))
        assert not differ(kernel, J @ J.mT)
        said.append(True)

    each()
    assert sum(said) >= ANSWERED * len(said)
