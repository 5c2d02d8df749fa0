import pytest
import torch
from torch import nn

import cases
import oracles
from theodolite.measure.curvature.dense import dense_hessians
from theodolite.measure.curvature.dense_linear import NotLayered, layers
from theodolite.measure.problem.join import objective


def at(case, vector):
    """The dense truth with the model's own weights set to a vector, and put back."""
    before = nn.utils.parameters_to_vector(case.model.parameters()).detach()
    nn.utils.vector_to_parameters(vector, case.model.parameters())
    values = (
        oracles.total_loss(case.model, case.loss, case.batches).detach(),
        oracles.gradient(case.model, case.loss, case.batches),
        oracles.hessian(case.model, case.loss, case.batches),
    )
    nn.utils.vector_to_parameters(before, case.model.parameters())
    return values


@pytest.mark.sampled(2)
@pytest.mark.parametrize("layer", ["tanh", "residual", "layer_norm", "conv2d", "gru", "group_norm"])
def test_replicas_are_each_their_own_dense_hessian_in_chunks_of_any_size(layer):
    case = cases.make(layer, "cross_entropy")
    whole = objective(case.model, case.loss, case.batches)
    vectors = whole.vector + 0.3 * torch.randn(3, whole.size, dtype=torch.float64)
    loss, gradient, hessian = (torch.stack(parts) for parts in zip(*(at(case, v) for v in vectors), strict=True))
    for chunk in (None, 1, 2):
        found = dense_hessians(whole, vectors, chunk=chunk)
        assert torch.allclose(found.loss, loss, rtol=1e-10, atol=0)
        assert torch.allclose(found.gradient, gradient, rtol=1e-8, atol=1e-12)
        assert torch.allclose(found.hessian, hessian, rtol=1e-8, atol=1e-10)
        assert torch.equal(found.hessian, found.hessian.mT)


@pytest.mark.parametrize("loss", list(cases.LOSSES))
def test_linear_layers_take_the_layerwise_path_for_every_loss_vmap_can_run(loss):
    case = cases.make("tanh", loss)
    whole = objective(case.model, case.loss, case.batches)
    expected = "kept graph" if loss == "gaussian_nll" else "layerwise"  # which asks whether a variance is negative
    assert dense_hessians(whole, whole.vector[None]).backend == expected


class Together(nn.Module):
    """Samples that reach each other, which the layerwise blocks do not know."""

    def forward(self, x):
        return x - x.mean(0)


def test_samples_that_reach_each_other_are_noticed():
    case = cases.make("tanh", "mse")
    model = nn.Sequential(nn.Linear(8, 5), Together(), nn.Tanh(), nn.Linear(5, 3)).double()
    whole = objective(model, case.loss, case.batches)
    found = dense_hessians(whole, whole.vector[None])
    expected = oracles.hessian(model, case.loss, case.batches)
    assert found.backend == "kept graph"
    assert torch.allclose(found.hessian[0], expected, rtol=1e-8, atol=1e-12)


def test_a_loss_that_is_no_sum_over_samples_is_noticed():
    case = cases.make("tanh", "mse")

    def root(outputs, targets):
        return ((outputs - targets) ** 2).mean().sqrt()

    whole = objective(case.model, root, case.batches)
    found = dense_hessians(whole, whole.vector[None])
    assert found.backend == "kept graph"
    assert torch.allclose(found.hessian[0], oracles.hessian(case.model, root, case.batches), rtol=1e-8, atol=1e-12)


def test_a_layer_called_twice_and_tied_weights_are_noticed():
    linear = nn.Linear(3, 3).double()
    twice = nn.Sequential(linear, nn.Tanh(), linear)
    data = torch.randn(6, 3).double(), torch.randn(6, 3).double()
    tied = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    tied[2].weight = tied[0].weight
    for model in (twice, tied):
        whole = objective(model, nn.MSELoss(), data)
        found = dense_hessians(whole, whole.vector[None])
        assert found.backend == "kept graph"
        assert torch.allclose(found.hessian[0], oracles.hessian(model, nn.MSELoss(), [data]), rtol=1e-8, atol=1e-12)
    with pytest.raises(NotLayered):
        layers(objective(tied, nn.MSELoss(), data))


def test_the_model_keeps_no_hooks():
    case = cases.make("tanh", "mse")
    whole = objective(case.model, case.loss, case.batches)
    dense_hessians(whole, whole.vector[None])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in case.model.modules())
