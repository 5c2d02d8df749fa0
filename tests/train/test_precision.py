"""Precision, layout, augmentation: what makes training faster or different, against training without it."""

import copy
from itertools import combinations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from theodolite import data, machine
from theodolite.data import DataSpec
from theodolite.errors import SettingError
from theodolite.models import CNN, MLP, build, cnn, mlp
from theodolite.models.pool import HalvingPool
from theodolite.streams import named_seed
from theodolite.study import Training
from theodolite.train import Replica, Split, TrainingData, tensors, train, train_replicas
from theodolite.train.augment import BORDER, augmented
from theodolite.train.evaluation import evaluate

NETWORKS = {
    "cnn": CNN(image=(1, 8, 8), channels=(6, 12), hidden=(48,), outputs=10),
    "dnn": MLP(inputs=64, hidden=(30, 20, 14), outputs=10),
}


@pytest.fixture(scope="module")
def digits():
    return tensors(data.load(DataSpec(source="digits", train=512, test=256)))


def curves(network, digits, *, autocast, seed):
    """Training and test loss after each of 15 epochs, on the logarithm."""
    training = Training(loss="cross_entropy", learning_rate=3e-3, batch_size=32, epochs=15, autocast=autocast)
    model = build(NETWORKS[network], seed=seed)
    outcome = train(model, digits, training, order_seed=seed, flatten=network == "dnn")
    return np.log(outcome.metrics[["train_loss", "test_loss"]].to_numpy())


@pytest.mark.parametrize("network", NETWORKS)
def test_bfloat16_moves_the_loss_curve_less_than_another_seed_does(network, digits):
    exact, rounded = (
        np.stack([curves(network, digits, autocast=autocast, seed=seed) for seed in range(4)])
        for autocast in (False, True)
    )
    between_seeds = np.mean([np.abs(exact[a] - exact[b]) for a, b in combinations(range(4), 2)], axis=0)
    moved = np.abs(rounded - exact).mean(0)
    assert moved.mean() < between_seeds.mean() / 2
    assert exact[:, -1, 0].max() < np.log(0.7), "nothing was learned, so nothing was compared"
    assert not np.array_equal(exact, rounded), "both were the same precision"


@pytest.mark.parametrize("before", [False, True])
def test_numbers_too_small_to_be_normal_are_zero_while_training_and_as_they_were_after_it(before):
    def counts():
        return float(torch.tensor(torch.finfo(torch.float32).tiny) / 2) > 0

    if not torch.set_flush_denormal(before):
        pytest.skip("this processor cannot leave them out")
    line = TrainingData(*(Split(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)) for _ in range(2)))
    training, seen = Training(loss="cross_entropy", epochs=1), []
    try:
        train(mlp(inputs=3, outputs=2), line, training, order_seed=0, on_epoch=lambda *_: seen.append(counts()))
        train_replicas(
            MLP(inputs=3, outputs=2), line, training, [Replica(weights_seed=0, order_seed=0, learning_rate=0.1)],
            on_epoch=lambda *_: seen.append(counts()),
        )  # fmt: skip
        assert seen == [False, False]
        assert counts() is not before
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("network", NETWORKS)
def test_autocast_is_pytorchs_own_step_by_step(network, digits):
    few = TrainingData(Split(digits.train.inputs[:96], digits.train.targets[:96]), digits.test)
    training = Training(loss="cross_entropy", batch_size=32, epochs=2, autocast=True)
    flat = network == "dnn"
    model = build(NETWORKS[network], seed=0)
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    outcome = train(model, few, training, order_seed=5, flatten=flat)
    optimizer = torch.optim.Adam(other.parameters(), lr=1e-3)
    order = torch.Generator().manual_seed(named_seed(5, "order"))
    inputs = few.train.inputs.flatten(1) if flat else few.train.inputs.to(memory_format=torch.channels_last)
    for _ in range(2):
        for index in torch.randperm(96, generator=order).split(32):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):  # float32 inputs: autocast itself rounds them
                outputs = other(inputs[index])
            assert outputs.dtype == torch.bfloat16
            nn.functional.cross_entropy(outputs.float(), few.train.targets[index]).backward()
            optimizer.step()
    for name, expected in other.state_dict().items():
        assert outcome.weights[name].dtype == torch.float32
        assert torch.allclose(outcome.weights[name], expected, rtol=1e-4, atol=1e-5)


def test_weights_come_out_as_every_other_program_lays_them_out(digits):
    training = Training(loss="cross_entropy", batch_size=128, epochs=1, snapshot_every=1)
    model = build(NETWORKS["cnn"], seed=0)
    outcome = train(model, digits, training, order_seed=0)
    kept = [*outcome.weights.values(), *outcome.snapshots[0].values(), *model.parameters()]
    assert all(tensor.is_contiguous() for tensor in kept)


def test_a_perceptron_of_flat_images_ends_where_its_replica_ends(digits):
    training = Training(loss="cross_entropy", batch_size=64, epochs=3, dtype="float64")
    exact = digits.to("cpu", torch.float64)
    outcome = train(build(NETWORKS["dnn"], seed=3), exact, training, order_seed=7, flatten=True)
    replica = Replica(weights_seed=3, order_seed=7, learning_rate=1e-3)
    (expected,) = train_replicas(NETWORKS["dnn"], exact, training, [replica])
    for name, weights in expected.weights.items():
        assert torch.allclose(outcome.weights[name], weights, rtol=1e-7, atol=1e-9)


def test_evaluation_in_chunks_is_the_mean_over_all_samples():
    draw = torch.Generator().manual_seed(0)
    images = Split(torch.randn(301, 3, 9, 9, generator=draw), torch.randint(4, (301,), generator=draw))
    model = cnn(image=(3, 9, 9), channels=(5, 7), outputs=4, seed=0)
    expected = nn.functional.cross_entropy(model(images.inputs), images.targets).item()
    right = (model(images.inputs).argmax(1) == images.targets).double().mean().item()
    for layout in (torch.contiguous_format, torch.channels_last):
        laid = Split(images.inputs.to(memory_format=layout), images.targets)
        score = evaluate(model.to(memory_format=layout), laid, Training(loss="cross_entropy", epochs=0))
        assert score.loss == pytest.approx(expected, rel=1e-5)
        assert score.accuracy == pytest.approx(right)


@pytest.mark.parametrize("size", [(2, 5, 8, 8), (3, 1, 7, 9), (1, 4, 2, 3), (2, 3, 28, 28)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_pool_gives_pytorchs_numbers_in_every_mode(size, dtype):
    images = torch.randn(size, generator=torch.Generator().manual_seed(1)).to(dtype)
    images[0, 0, 0, 0] = torch.nan
    images = images.to(memory_format=torch.channels_last)
    expected = nn.functional.max_pool2d(images, 2)
    with torch.inference_mode():
        found = HalvingPool(2)(images)
    assert torch.equal(torch.nan_to_num(found), torch.nan_to_num(expected))
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(torch.nan_to_num(HalvingPool(2)(images)), torch.nan_to_num(expected))


def test_an_augmented_image_is_a_crop_of_itself_in_a_frame_or_of_its_mirror_image():
    images = torch.arange(1.0, 1 + 90 * 2 * 5 * 6).view(90, 2, 5, 6)
    found = augmented(images, torch.Generator().manual_seed(0))
    seen = set()
    for image, crop in zip(images, found, strict=True):
        framed = nn.functional.pad(image, (BORDER,) * 4)
        crops = {
            (down, right, mirrored): framed[:, down : down + 5, right : right + 6].flip([-1] if mirrored else [])
            for down in range(9)
            for right in range(9)
            for mirrored in (False, True)
        }
        fits = [key for key, expected in crops.items() if torch.equal(expected, crop)]
        assert fits
        seen |= {fits[0]} if len(fits) == 1 else set()
    assert {key[2] for key in seen} == {False, True}
    assert {key[0] for key in seen} == {key[1] for key in seen} == set(range(9))


def test_augmentation_follows_the_order_seed_and_keeps_the_layout():
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    laid = images.to(memory_format=torch.channels_last)
    one, same, other = (
        augmented(x, torch.Generator().manual_seed(s)) for x, s in ((images, 0), (laid, 0), (images, 1))
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.is_contiguous()
    assert same.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("network", NETWORKS)
def test_augmentation_changes_training_and_leaves_evaluation_alone(network, digits):
    def run(augment):
        training = Training(loss="cross_entropy", batch_size=128, epochs=2, augment=augment)
        model = build(NETWORKS[network], seed=0)
        return train(model, digits, training, order_seed=1, flatten=network == "dnn").metrics

    plain, changed, again = run(False), run(True), run(True)
    assert plain.iloc[0].equals(changed.iloc[0])
    assert plain.iloc[2].train_loss != changed.iloc[2].train_loss
    assert changed.equals(again)


def test_what_cannot_be_is_refused():
    line = TrainingData(*(Split(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)) for _ in range(2)))
    training = Training(loss="cross_entropy", batch_size=2, epochs=1, augment=True)
    with pytest.raises(SettingError, match=r"got inputs of shape \(4, 3\)"):
        train(mlp(inputs=3, outputs=2, seed=0), line, training, order_seed=0)
    alone = [Replica(weights_seed=0, order_seed=0, learning_rate=0.1)]
    with pytest.raises(SettingError, match="got augment"):
        train_replicas(MLP(inputs=3, outputs=2), line, training, alone)
    with pytest.raises(ValidationError, match="float32 with autocast"):
        Training(loss="mse", epochs=1, autocast=True, dtype="float64")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("flags\t\t: fpu sse2 avx512f avx512_bf16 avx512vl\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu sse2 avx2 avx512f\n", False),
        ("model name\t: avx512_bf16 in the name only\nflags\t\t: fpu\n", False),
        ("processor\t: 0\n", False),
    ],
)
def test_the_processor_is_asked_for_bfloat16(said, expected, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("pathlib.Path.read_text", lambda self: said)
    assert machine.has_bfloat16() is expected


def test_a_machine_that_cannot_be_asked_has_no_bfloat16(monkeypatch):
    def silent(self):
        raise FileNotFoundError(self)

    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("pathlib.Path.read_text", silent)
    assert machine.has_bfloat16() is False
