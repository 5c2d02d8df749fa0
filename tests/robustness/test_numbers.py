"""Numbers under attack: each row of the table in docs/robustness.md, in both ways to train and in every instrument."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import theodolite
from theodolite import measure
from theodolite.errors import BadData, BadLoss, BadModel, MeasurementError, SettingError
from theodolite.models import MLP, mlp
from theodolite.study import Training
from theodolite.train import Outcome, Replica, Split, TrainingData, train, train_replicas

DRAW = torch.Generator().manual_seed(0)
X, Y = torch.randn(12, 4, generator=DRAW), torch.arange(12) % 3
LINE = torch.linspace(-1, 1, 12)[:, None]


def spoilt(tensor: torch.Tensor, value: float) -> torch.Tensor:
    return tensor.index_fill(0, torch.tensor([5]), value)


def classes(inputs: torch.Tensor = X, targets: torch.Tensor = Y, **fields: object) -> tuple[TrainingData, Training]:
    fields = {"loss": "cross_entropy", "epochs": 4, "batch_size": 4, **fields}
    return TrainingData(Split(inputs, targets), Split(inputs, targets)), Training(**fields)


def numbers(targets: torch.Tensor = LINE**2, **fields: object) -> tuple[TrainingData, Training]:
    return classes(LINE, targets, loss="mse", **fields)


REFUSED = {  # row of the table -> what is trained on, and what is said
    "NaN in inputs": (classes(spoilt(X, math.nan)), "expected finite training inputs"),
    "infinity in inputs": (classes(spoilt(X, -math.inf)), "expected finite training inputs"),
    "NaN in targets": (numbers(spoilt(LINE, math.nan)), "expected finite training targets"),
    "no sample": (classes(X[:0], Y[:0]), "at least one training sample"),
    "labels out of range": (classes(targets=Y + 1), "expected training classes from 0 to 2"),
    "labels below zero": (classes(targets=Y - 1), "expected training classes from 0 to 2"),
    "classes that are no whole numbers": (classes(targets=Y.float()), "with a class each"),
}
DIVERGES = {
    "learning rate 1e6, SGD": numbers(optimizer="sgd", learning_rate=1e6, epochs=9),
    "a loss that overflows": numbers(LINE * 1e25),
}
TRAINS = {
    "learning rate 1e6, Adam": numbers(learning_rate=1e6),
    "one class only": classes(targets=torch.zeros(12, dtype=torch.int64)),
    "one sample": classes(X[:1], Y[:1]),
    "duplicate samples": classes(X[:1].expand(12, 4), Y[:1].expand(12)),
    "batch larger than the data": classes(batch_size=1000),
    "0 epochs": classes(epochs=0),
}


def one_by_one(data: TrainingData, training: Training) -> Outcome:
    inputs, outputs = data.train.inputs.shape[1], 3 if training.loss == "cross_entropy" else 1
    return train(mlp(inputs=inputs, hidden=(5,), outputs=outputs, seed=0), data, training, order_seed=0)


def as_replica(data: TrainingData, training: Training) -> Outcome:
    inputs, outputs = data.train.inputs.shape[1], 3 if training.loss == "cross_entropy" else 1
    replicas = [Replica(weights_seed=0, order_seed=0, learning_rate=training.learning_rate)]
    return train_replicas(MLP(inputs=inputs, hidden=(5,), outputs=outputs), data, training, replicas)[0]


WAYS = pytest.mark.parametrize("way", [one_by_one, as_replica])


@WAYS
@pytest.mark.parametrize("row", REFUSED)
def test_training_refuses_what_cannot_be_learned_before_the_first_step(way, row):
    (data, training), words = REFUSED[row]
    with pytest.raises(SettingError, match=words):
        way(data, training)
    swapped = TrainingData(classes()[0].train if training.loss != "mse" else numbers()[0].train, data.train)
    with pytest.raises(SettingError, match=words.replace("training", "test")):
        way(swapped, training)


@WAYS
@pytest.mark.parametrize("row", DIVERGES)
def test_a_training_that_overflows_ends_there_and_is_recorded_as_diverged(way, row):
    outcome = way(*DIVERGES[row])
    assert outcome.diverged_epoch == outcome.metrics["epoch"].iloc[-1] < 9
    assert not math.isfinite(outcome.metrics["train_loss"].iloc[-1])
    assert outcome.converged_epoch is None


@WAYS
@pytest.mark.parametrize("row", TRAINS)
def test_a_training_of_little_goes_through_with_finite_numbers(way, row):
    data, training = TRAINS[row]
    outcome = way(data, training)
    assert outcome.diverged_epoch is None
    assert outcome.metrics["epoch"].tolist() == list(range(training.epochs + 1))
    assert outcome.metrics[["train_loss", "test_loss"]].map(math.isfinite).all(axis=None)
    assert all(torch.isfinite(tensor).all() for tensor in outcome.weights.values())


def test_a_batch_larger_than_the_data_is_the_full_batch():
    whole, larger = one_by_one(*classes(batch_size=None)), one_by_one(*TRAINS["batch larger than the data"])
    assert whole.metrics.equals(larger.metrics)


def test_duplicate_samples_train_like_one_of_them_with_the_full_batch():
    one = one_by_one(*classes(X[:1], Y[:1], batch_size=None, dtype="float64"))
    many = one_by_one(*classes(X[:1].expand(12, 4), Y[:1].expand(12), batch_size=None, dtype="float64"))
    for name, expected in one.weights.items():
        assert torch.allclose(many.weights[name], expected, rtol=1e-12)


def test_without_epochs_the_weights_are_the_initial_ones():
    outcome = one_by_one(*TRAINS["0 epochs"])
    for name, expected in mlp(inputs=4, hidden=(5,), outputs=3, seed=0).state_dict().items():
        assert torch.equal(outcome.weights[name], expected)


CROSS_ENTROPY = nn.CrossEntropyLoss()


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype).eval()


def broken() -> nn.Sequential:
    model = network()
    nn.init.constant_(model[2].bias, math.nan)
    return model


def overflowing() -> nn.Sequential:
    """Half precision ends at 65504: its logits are infinite, and so the loss is NaN."""
    model = network(torch.float16)
    nn.init.constant_(model[0].bias, 9.0)
    nn.init.constant_(model[2].weight, 3e4)
    return model


def late(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """NaN, but not in the first batch."""
    return CROSS_ENTROPY(outputs, targets) * (math.nan if len(targets) == 5 else 1.0)


INSTRUMENTS = {
    "gradient_norm": measure.gradient_norm,
    "hessian_eigenvalues": lambda m, loss, d: measure.hessian_eigenvalues(m, loss, d, k=2),
    "hessian_spectrum": measure.hessian_spectrum,
    "hessian_density": measure.hessian_density,
    "hessian_trace": measure.hessian_trace,
    "minimal_ratio": measure.minimal_ratio,
    "interpolate": lambda m, loss, d: measure.interpolate(m, m, loss, d, [0.0, 0.5, 1.0]),
    "connect": lambda m, loss, d: measure.connect(m, m, loss, d, epochs=1, points=5),
    "surface": lambda m, loss, d: measure.surface(m, loss, d, torch.ones(2, 43), x=[0, 1], y=[0]),
    "sensitivity": measure.sensitivity,
    "sharpness": measure.sharpness,
    "sharpness, sam": lambda m, loss, d: measure.sharpness(m, loss, d, method="sam"),
}
TWO = [(X[:7], Y[:7]), (X[7:], Y[7:])]
UNMEASURABLE = {
    "NaN in inputs": (network, CROSS_ENTROPY, [TWO[0], (spoilt(X, math.nan)[5:], Y[5:])], BadData, "finite data"),
    "infinity in inputs": (network, CROSS_ENTROPY, (spoilt(X, math.inf), Y), BadData, "finite data"),
    "NaN in targets": (network, nn.MSELoss(), (X, torch.full((12, 3), math.nan)), BadData, "finite data"),
    "no sample": (network, CROSS_ENTROPY, (X[:0], Y[:0]), BadData, "at least one sample"),
    "labels out of range": (network, CROSS_ENTROPY, (X, Y + 1), BadData, "shapes and types"),
    "labels below zero": (network, CROSS_ENTROPY, (X, Y - 1), BadData, "shapes and types"),
    "every label ignored": (network, CROSS_ENTROPY, (X, torch.full((12,), -100)), BadLoss, "finite loss"),
    "NaN in the loss of a later batch": (network, late, TWO, BadLoss, "finite over all batches"),
    "NaN in weights": (broken, CROSS_ENTROPY, (X, Y), BadModel, "2.bias"),
    "half-precision overflow": (overflowing, CROSS_ENTROPY, (X.half(), Y), BadLoss, "finite"),
}
MEASURABLE = {
    "one class only": (X, torch.zeros(12, dtype=torch.int64)),
    "one sample": (X[:1], Y[:1]),
    "duplicate samples": (X[:1].expand(12, 4), Y[:1].expand(12)),
}


@pytest.mark.parametrize("row", UNMEASURABLE)
@pytest.mark.parametrize("name", INSTRUMENTS)
def test_an_instrument_gives_an_error_and_no_number(name, row):
    make, loss, data, error, words = UNMEASURABLE[row]
    with pytest.raises(error, match=words):
        INSTRUMENTS[name](make(), loss, data)


@pytest.mark.parametrize("row", MEASURABLE)
@pytest.mark.parametrize("name", INSTRUMENTS)
def test_an_instrument_measures_little_data_as_it_measures_much(name, row):
    found = INSTRUMENTS[name](network(), CROSS_ENTROPY, MEASURABLE[row])
    value = getattr(found, "value", None)
    if value is None:
        value = getattr(found, "loss", getattr(found, "eigenvalues", getattr(found, "density", None)))
    assert bool(torch.isfinite(torch.as_tensor(value)).all())


@pytest.mark.parametrize("row", MEASURABLE)
def test_the_gradient_of_little_data_is_that_of_plain_autograd(row):
    inputs, targets = MEASURABLE[row]
    model = network()
    loss = CROSS_ENTROPY(model(inputs), targets)
    expected = sum(float(g.pow(2).sum()) for g in torch.autograd.grad(loss, list(model.parameters()))) ** 0.5
    assert measure.gradient_norm(model, CROSS_ENTROPY, (inputs, targets)).value == pytest.approx(expected, rel=1e-5)


def test_a_gradient_that_overflows_half_precision_where_the_loss_does_not_is_an_error():
    model = nn.Linear(1, 1, bias=False, dtype=torch.float16)
    nn.init.constant_(model.weight, 0.5)
    data = torch.full((1, 1), 300.0, dtype=torch.float16), torch.zeros(1)
    with pytest.raises(BadLoss, match=r"the gradient of 'weight' to be finite.*model\.double\(\)"):
        measure.gradient_norm(model, lambda z, _: 220 * z.mean(), data)  # 33,000, and its slope would be 66,000


def test_the_finder_says_that_it_found_nothing_where_the_loss_is_nan():
    found = measure.find_critical_points(network(), late, TWO, 2)
    assert not any(point.certified for point in found)
    assert "not finite" in repr(found)


def test_every_row_of_the_table_in_the_docs_is_tested_here_and_every_test_is_in_the_table():
    page = Path(theodolite.__file__).parents[2] / "docs" / "robustness.md"
    section = page.read_text().split("## Numbers")[1].split("\n## ")[0]
    rows = {line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")} - {"what", "---"}
    assert rows == {*REFUSED, *DIVERGES, *TRAINS, *UNMEASURABLE, *MEASURABLE}
    assert issubclass(BadLoss, MeasurementError)
