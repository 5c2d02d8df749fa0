"""Losses of a description, against PyTorch's own or a formula by hand, in the loop and in stacks."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from theodolite.errors import SettingError
from theodolite.models import MLP, build
from theodolite.recipes import Loss
from theodolite.streams import named_seed
from theodolite.study import Training
from theodolite.train import Replica, Split, TrainingData, train, train_replicas

SHAPE = MLP(inputs=5, hidden=(11,), outputs=3, activation="tanh")


def smoothed(outputs, targets):
    wanted = 0.8 * functional.one_hot(targets, 3).double() + 0.2 / 3
    return -(wanted * outputs.log_softmax(1)).sum(1).mean()


def hinge(outputs, targets):
    right = outputs.gather(1, targets[:, None])
    return ((outputs - right + 1).clamp(min=0).sum(1) - 1).mean() / 3


def squared(outputs, targets):
    return functional.mse_loss(outputs, functional.one_hot(targets, 3).to(outputs.dtype))


CASES = {
    "smoothing": (Loss.named("label_smoothing", smoothing=0.2), smoothed),
    "hinge": ("hinge", hinge),
    "one-hot": ("mse_one_hot", squared),
    "of PyTorch": (Loss.named("HuberLoss", delta=0.5), nn.HuberLoss(delta=0.5)),
}


def made(name):
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 5, generator=draw, dtype=torch.float64)
    targets = torch.randint(3, (40,), generator=draw)
    numbers = torch.randn(40, 3, generator=draw, dtype=torch.float64)
    split = Split(inputs, numbers if name == "of PyTorch" else targets)
    return TrainingData(split, split)


def training(loss, **fields):
    return Training(loss=loss, **{"learning_rate": 1e-2, "batch_size": 15, "epochs": 6} | fields)


@pytest.mark.parametrize("name", CASES)
def test_the_loop_does_what_the_plain_script_does(name):
    loss, formula = CASES[name]
    data, model = made(name), build(SHAPE, seed=3, dtype=torch.float64)
    other = copy.deepcopy(model)
    outcome = train(model, data, training(loss, dtype="float64"), order_seed=1)
    order = torch.Generator().manual_seed(named_seed(1, "order"))
    optimizer = torch.optim.Adam(other.parameters(), lr=1e-2)
    for _ in range(6):
        for index in torch.randperm(40, generator=order).split(15):
            optimizer.zero_grad()
            formula(other(data.train.inputs[index]), data.train.targets[index]).backward()
            optimizer.step()
    for key, expected in other.state_dict().items():
        assert torch.allclose(outcome.weights[key], expected, rtol=1e-9, atol=1e-12), key
    outputs, last = other(data.test.inputs), outcome.metrics.iloc[-1]
    assert last.test_loss == pytest.approx(formula(outputs, data.test.targets).item(), rel=1e-9)
    if name == "of PyTorch":
        assert last.isna().test_accuracy
    else:
        assert last.test_accuracy == (outputs.argmax(1) == data.test.targets).double().mean()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("how", "tolerance"), [({"dtype": "float64"}, 1e-9), ({}, 2e-3), ({"autocast": True}, 0.05)])
def test_a_stack_ends_where_the_loop_ends_and_alone_is_the_same_bit_for_bit(name, how, tolerance):
    several = [Replica(weights_seed=n, order_seed=50 + n, learning_rate=0.1) for n in range(5)]
    # Adam would blow up the rounding of gradients that cancel to zero, as those of a hinge do
    own = training(CASES[name][0], optimizer="sgd", learning_rate=0.1, **how)
    for replica, fast in zip(several, train_replicas(SHAPE, made(name), own, several), strict=True):
        slow = train(build(SHAPE, seed=replica.weights_seed), made(name), own, order_seed=replica.order_seed)
        alone = train_replicas(SHAPE, made(name), own, [replica])[0]
        for key, expected in slow.weights.items():
            assert (fast.weights[key] - expected).abs().max() <= tolerance * expected.abs().max(), key
            if name == "of PyTorch":  # whose kernels may round the last few samples of a row otherwise
                assert (fast.weights[key] - alone.weights[key]).abs().max() <= tolerance * expected.abs().max(), key
            else:
                assert torch.equal(fast.weights[key], alone.weights[key]), key
        assert fast.metrics.test_loss.to_list() == pytest.approx(slow.metrics.test_loss.to_list(), rel=tolerance)


class Next(nn.Module):
    """A language model that knows one token back."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(6, 6)

    def forward(self, tokens):
        return self.table(tokens)


@pytest.mark.parametrize(("loss", "fields"), [("cross_entropy", {}), ("label_smoothing", {})])
def test_a_language_model_learns_its_tokens_which_stay_integers(loss, fields):
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(6, (40, 9), generator=draw)
    split = Split(tokens[:, :-1], (tokens[:, :-1] * 5 + 1) % 6)  # the next token follows from the last
    model = Next()
    outputs = model(split.inputs)
    smoothing = 0.1 if loss == "label_smoothing" else 0.0
    expected = functional.cross_entropy(outputs.transpose(1, 2), split.targets, label_smoothing=smoothing).item()
    outcome = train(
        model, TrainingData(split, split), training(loss, learning_rate=0.1, epochs=30, **fields), order_seed=0
    )
    assert outcome.metrics.train_loss[0] == pytest.approx(expected, rel=1e-6)
    assert outcome.metrics.train_accuracy[0] == pytest.approx((outputs.argmax(-1) == split.targets).double().mean())
    assert outcome.metrics.train_accuracy.iloc[-1] == 1


def test_targets_that_do_not_fit_are_refused_by_the_name_of_the_loss():
    numbers = made("of PyTorch")
    with pytest.raises(SettingError, match="for the loss 'hinge'"):
        train(build(SHAPE), numbers, training("hinge"), order_seed=0)
    tokens = Split(torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(SettingError, match=r"shape \(4, 3\) with a class each"):
        train(Next(), TrainingData(tokens, tokens), training("cross_entropy"), order_seed=0)
