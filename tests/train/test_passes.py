"""The passes written by hand, against autograd and against finite differences."""

from itertools import product

import pytest
import torch
from torch.func import functional_call

from theodolite.models import MLP, build
from theodolite.study import Training
from theodolite.train.aligned import ALIGNMENT_BYTES, AlignedStack, layers
from theodolite.train.losses import gradient, gradient_weights, values
from theodolite.train.optimizers import StackOptimizer
from theodolite.train.passes import Passes

ACTIVATIONS = ["relu", "tanh", "gelu", "silu", "sigmoid", "softplus", "identity"]
REPLICAS, SAMPLES = 3, 21


def by_hand(architecture: MLP, loss: str):
    """Outputs and gradients of three replicas with inputs of their own, as state dicts."""
    draw = torch.Generator().manual_seed(0)
    dtype = torch.float64
    weights = AlignedStack.zeros(layers(architecture, dtype), REPLICAS, dtype, "cpu")
    models = [build(architecture, seed=seed, dtype=dtype) for seed in range(REPLICAS)]
    for replica, model in enumerate(models):
        weights.write(replica, model.state_dict())
    passes = Passes(weights, architecture.activation, SAMPLES)
    x = torch.randn(REPLICAS, SAMPLES, architecture.inputs, generator=draw, dtype=dtype)
    if loss == "mse":
        y = torch.randn(REPLICAS, SAMPLES, architecture.outputs, generator=draw, dtype=dtype)
    else:
        y = torch.randint(architecture.outputs, (REPLICAS, SAMPLES), generator=draw)
    inputs = torch.zeros(REPLICAS, passes.batch, weights.layers[0].columns, dtype=dtype)
    inputs[:, :SAMPLES, : architecture.inputs] = x
    if architecture.bias:
        inputs[..., architecture.inputs] = 1
    targets = torch.zeros(REPLICAS, *((architecture.outputs,) if loss == "mse" else (1,)), passes.batch, dtype=y.dtype)
    targets[..., :SAMPLES] = y.transpose(1, 2) if loss == "mse" else y[:, None]
    outputs = passes.forward(inputs)
    losses = values(loss, outputs, targets)[:, :SAMPLES].mean(1)
    counts = gradient_weights(loss, architecture.outputs, SAMPLES, inputs.new_zeros(passes.batch))
    gradient(loss, outputs, targets, counts, passes.output_gradient)
    gradients = weights.zeros_like()
    gradients.buffer.fill_(torch.nan)  # every number must be written
    passes.backward(inputs, gradients.matrices)
    return models, x, y, losses, gradients


def loss_by_torch(model, parameters, x, y, loss):
    outputs = functional_call(model, parameters, (x,))
    return getattr(torch.nn.functional, {"mse": "mse_loss"}.get(loss, loss))(outputs, y)


@pytest.mark.parametrize(
    ("activation", "loss", "bias"), list(product(ACTIVATIONS, ["mse", "cross_entropy"], [True, False]))
)
def test_gradients_are_autograds(activation, loss, bias):
    architecture = MLP(inputs=3, hidden=(7, 5), outputs=4, activation=activation, bias=bias)
    models, x, y, losses, gradients = by_hand(architecture, loss)
    for replica, model in enumerate(models):
        value = loss_by_torch(model, dict(model.named_parameters()), x[replica], y[replica], loss)
        value.backward()
        assert torch.allclose(losses[replica], value, rtol=1e-13)
        for name, got in gradients.read(replica).items():
            assert torch.allclose(got, model.get_parameter(name).grad, rtol=1e-11, atol=1e-14), name


@pytest.mark.parametrize(("activation", "loss"), list(product(ACTIVATIONS, ["mse", "cross_entropy"])))
def test_gradients_are_finite_differences(activation, loss):
    models, x, y, _, gradients = by_hand(MLP(inputs=2, hidden=(4,), outputs=3, activation=activation), loss)
    own, step = {name: p.detach() for name, p in models[1].named_parameters()}, 1e-6
    for name, got in gradients.read(1).items():
        for place in range(got.numel()):
            ends = []
            for sign in (1, -1):
                moved = own[name].clone()
                moved.view(-1)[place] += sign * step
                ends.append(loss_by_torch(models[1], {**own, name: moved}, x[1], y[1], loss).item())
            assert got.view(-1)[place].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_the_gradient_of_the_padding_is_zero(loss):
    *_, gradients = by_hand(MLP(inputs=3, hidden=(7, 5), outputs=4), loss)
    for matrix, layer in zip(gradients.matrices, gradients.layers, strict=True):
        assert not matrix[:, layer.outputs :].any()
        assert not matrix[:, :, layer.inputs + 1 :].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("widths", [(1, 15, 19, 16, 1), (784, 32, 32, 10), (64, 7), (3, 100, 3)])
def test_every_matrix_of_every_replica_fills_whole_alignment_units(widths, dtype):
    architecture = MLP(inputs=widths[0], hidden=widths[1:-1], outputs=widths[-1])
    stack = AlignedStack.zeros(layers(architecture, dtype), 3, dtype, "cpu")
    for matrix, layer in zip(stack.matrices, stack.layers, strict=True):
        assert all(part.data_ptr() % ALIGNMENT_BYTES == stack.buffer.data_ptr() % ALIGNMENT_BYTES for part in matrix)
        assert layer.rows >= layer.outputs
        assert layer.columns >= layer.inputs + 1


@pytest.mark.parametrize("bias", [True, False])
def test_weights_come_back_as_they_were_written(bias):
    architecture = MLP(inputs=3, hidden=(7, 5), outputs=4, bias=bias)
    states = [build(architecture, seed=seed).state_dict() for seed in range(4)]
    stack = AlignedStack.zeros(layers(architecture, torch.float32), 4, torch.float32, "cpu")
    for replica, state in enumerate(states):
        stack.write(replica, state)
    kept = stack.select([3, 1])
    for replica, state in zip((0, 1), (states[3], states[1]), strict=True):
        back = kept.read(replica)
        assert back.keys() == state.keys()
        assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("optimizer", "momentum"), [("adam", 0.0), ("sgd", 0.0), ("sgd", 0.9)])
def test_the_optimizer_of_a_stack_is_torchs_for_each_replica(optimizer, momentum, decay):
    architecture, rates, dtype = MLP(inputs=3, hidden=(5,), outputs=2), [0.01, 0.01, 0.3], torch.float64
    training = Training(loss="mse", optimizer=optimizer, momentum=momentum, weight_decay=decay, epochs=1)
    weights = AlignedStack.zeros(layers(architecture, dtype), 3, dtype, "cpu")
    models = [build(architecture, seed=seed, dtype=dtype) for seed in range(3)]
    for replica, model in enumerate(models):
        weights.write(replica, model.state_dict())
    mine = StackOptimizer(training, weights, rates)
    plain = [
        torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay) if optimizer == "adam"
        else torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum, weight_decay=decay)
        for model, rate in zip(models, rates, strict=True)
    ]  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    here = [0, 1, 2]
    for step in range(6):
        if step == 3:  # one leaves
            mine, here = mine.select([0, 2]), [0, 2]
        for row, replica in enumerate(here):
            model = models[replica]
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=draw, dtype=dtype)
            mine.gradient.write(row, {name: p.grad for name, p in model.named_parameters()})
            for group in plain[replica].param_groups:
                group["lr"] = rates[replica] * 0.9**step
            plain[replica].step()
        mine.step(0.9**step)
    for row, replica in enumerate(here):
        for name, got in mine.weights.read(row).items():
            assert torch.allclose(got, models[replica].get_parameter(name), rtol=1e-12, atol=1e-14)
