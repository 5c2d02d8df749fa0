"""Every curvature instrument on every layer and loss, against the dense kept-graph matrix, to 1e-8 in float64."""

import pytest
import torch

import cases
import oracles
from theodolite import measure
from theodolite.errors import NotDifferentiable

ROWS = [row for row in cases.EACH if row[0] != "weight_norm"]  # whose kept graph is wrong upstream: in test_operator
GAUSS_NEWTON = ["layer_norm", "attention", "batch_norm_train", "tied_embedding", "gru"]
EVERY_STEP = {  # where a density takes as many steps as there are parameters, the dearest of all
    ("layer_norm", "hessian"), ("attention", "ggn"), ("batch_norm_train", "hessian"), ("tied_embedding", "hessian"),
    ("batch_norm_train", "ggn"),
}  # fmt: skip
KINKED = {"relu", "elu", "max_pool", "huber", "smooth_l1"}  # their second derivative jumps
SMOOTH = [row for row in ROWS if not KINKED & set(row)] + [("layer_norm", "kl_divergence")]  # looped over by PyTorch


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("layer", "loss", "operator"),
    [(*row, "hessian") for row in ROWS] + [(layer, "cross_entropy", "ggn") for layer in GAUSS_NEWTON],
)
def test_instruments_agree_with_the_dense_matrix(layer, loss, operator):
    case = cases.make(layer, loss)
    problem = case.model, case.loss, case.batches
    dense = oracles.of_case(layer, loss, operator)
    every = torch.linalg.eigvalsh((dense + dense.T) / 2)
    size, bound = len(every), 1e-8 * float(every.abs().max())

    spectrum = measure.hessian_spectrum(*problem, operator=operator)
    assert float((spectrum.eigenvalues - every).abs().max()) < bound

    ends = measure.hessian_eigenvalues(*problem, k=2, which="both", operator=operator, tolerance=1e-9)
    assert float((ends.eigenvalues - torch.cat([every[:2], every[-2:]])).abs().max()) < bound

    ratio = measure.minimal_ratio(*problem, operator=operator)
    assert (ratio.positive, ratio.negative) == (
        int((every > ratio.tolerance).sum()), int((every < -ratio.tolerance).sum())
    )  # fmt: skip

    trace = measure.hessian_trace(*problem, products=3 * size, operator=operator)
    assert abs(trace.value - float(every.sum())) < size * bound

    results = [spectrum, ends, ratio, trace]
    if (layer, operator) in EVERY_STEP:
        density = measure.hessian_density(*problem, probes=2, steps=size, operator=operator)
        seen = density.nodes[density.weights > 1e-12]  # each is an eigenvalue once all directions have been seen
        assert float((seen[:, None] - every).abs().min(1).values.max()) < bound
        results.append(density)

    for result in results:
        assert result.path
        assert result.check < 1e-4
        assert "backend" in repr(result)
        assert "check_error" in repr(result)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("layer", "loss"), SMOOTH)
def test_critical_points_are_judged_by_the_loss_gradient_and_hessian_of_the_dense_matrix(layer, loss):
    """At a start, which no step leaves: what is reported there is what walks and certificates go by."""
    case = cases.make(layer, loss)
    problem = case.model, case.loss, case.batches
    dense = oracles.of_case(layer, loss)
    every = torch.linalg.eigvalsh((dense + dense.T) / 2)
    gradient, value = oracles.gradient(*problem), float(oracles.total_loss(*problem).detach())
    start = torch.cat([p.detach().flatten() for p in oracles.trainable(case.model)])
    found = measure.find_critical_points(*problem, start[None], steps=0)
    assert torch.equal(found[0].parameters, start)
    assert found[0].loss == pytest.approx(value, rel=1e-10)
    assert found[0].gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-8)
    assert float((found[0].eigenvalues - every).abs().max()) < 1e-8 * float(every.abs().max())
    assert found.path


@pytest.mark.parametrize("name", sorted(KINKED))
def test_critical_points_of_a_loss_with_kinks_are_refused(name):
    case = cases.make(name, "cross_entropy") if name in cases.LAYERS else cases.make("tanh", name)
    with pytest.raises(NotDifferentiable):
        measure.find_critical_points(case.model, case.loss, case.batches, 1)


def test_a_certified_point_is_critical_by_the_dense_matrix_too():
    case = cases.make("linear", "mse")  # 27 parameters, ten samples: least squares have a manifold of minima
    problem = case.model, case.loss, case.batches
    (point,) = measure.find_critical_points(*problem, 1, index=0).certified()
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(point.parameters, case.model.parameters())
    every = torch.linalg.eigvalsh(oracles.hessian(*problem))
    assert float(oracles.gradient(*problem).norm()) < 1e-9
    assert point.loss == pytest.approx(float(oracles.total_loss(*problem).detach()), abs=1e-12)
    assert float((point.eigenvalues - every).abs().max()) < 1e-8 * float(every.max())
    assert (point.index, point.flat) == (0, int((every < 1e-12).sum()))


@pytest.mark.parametrize("layer", [row[0] for row in ROWS if row[1] == "cross_entropy"])
def test_sharpness_of_a_step_is_the_rise_of_the_loss_along_the_gradient(layer):
    case = cases.make(layer, "cross_entropy")
    found = measure.sharpness(case.model, case.loss, case.batches, method="sam", radius=0.01)
    rise = oracles.rise(case.model, case.loss, case.batches, 0.01)
    assert found.value == pytest.approx(rise, rel=1e-8, abs=1e-13)
