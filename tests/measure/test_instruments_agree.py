"""Every curvature instrument on every layer and loss, against the dense kept-graph matrix, to 1e-8 in float64."""

import pytest
import torch

import cases
import oracles
from theodolite import measure

ROWS = [(layer, "cross_entropy") for layer in (*cases.LAYERS, *cases.ONE_BATCH) if layer != "weight_norm"] + [
    ("tanh", loss) for loss in cases.LOSSES if loss != "cross_entropy"
]  # weight_norm's kept graph is wrong upstream: test_operator has it against differences


FEW = ["layer_norm", "attention", "batch_norm_train", "tied_embedding", "gru"]  # dear: a matrix's every direction


@pytest.mark.parametrize(
    ("layer", "loss", "operator"),
    [(*row, "hessian") for row in ROWS] + [(layer, "cross_entropy", "ggn") for layer in FEW],
)
def test_instruments_agree_with_the_dense_matrix(layer, loss, operator):
    case = cases.make(layer, loss)
    problem = case.model, case.loss, case.batches
    dense = (oracles.hessian if operator == "hessian" else oracles.gauss_newton)(*problem)
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
    if layer in FEW:
        density = measure.hessian_density(*problem, probes=2, steps=size, operator=operator)
        seen = density.nodes[density.weights > 1e-12]  # each is an eigenvalue once all directions have been seen
        assert float((seen[:, None] - every).abs().min(1).values.max()) < bound
        results.append(density)

    for result in results:
        assert result.path
        assert result.check < 1e-4
        assert "path" in repr(result)
        assert "check" in repr(result)


@pytest.mark.parametrize("layer", [row[0] for row in ROWS if row[1] == "cross_entropy"])
def test_sharpness_of_a_step_is_the_rise_of_the_loss_along_the_gradient(layer):
    case = cases.make(layer, "cross_entropy")
    parameters = oracles.trainable(case.model)
    gradient = oracles.gradient(case.model, case.loss, case.batches)
    before = float(oracles.total_loss(case.model, case.loss, case.batches).detach())
    found = measure.sharpness(case.model, case.loss, case.batches, method="sam", radius=0.01)
    step = 0.01 * gradient / gradient.norm()
    with torch.no_grad():
        for p, part in zip(parameters, step.split([p.numel() for p in parameters]), strict=True):
            p.add_(part.view_as(p))
    after = float(oracles.total_loss(case.model, case.loss, case.batches).detach())
    assert found.value == pytest.approx(after - before, rel=1e-8, abs=1e-13)
