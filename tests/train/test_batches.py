"""Batches for instruments: the data of a spec, whole, in order, in the shape the network takes."""

import numpy as np
import pytest
import torch

from theodolite import data, models
from theodolite.data import DataSpec
from theodolite.models.description import CNN, MLP
from theodolite.train.batches import measured_batches

FLAT = MLP(inputs=64, outputs=10)
IMAGES = CNN(image=(1, 8, 8), channels=(2,), outputs=10)


@pytest.mark.parametrize("model", [FLAT, IMAGES])
@pytest.mark.parametrize("part", ["train", "test"])
def test_batches_hold_every_sample_once_in_order_and_the_network_takes_them(model, part):
    spec = DataSpec(source="digits", train=300)
    batches = measured_batches(model, spec, part, size=128)
    dataset = data.load(spec)
    inputs = torch.cat([x for x, _ in batches]).flatten(1).numpy()
    np.testing.assert_array_equal(inputs, dataset.inputs_as(np.float32, part).reshape(len(inputs), -1))
    np.testing.assert_array_equal(torch.cat([y for _, y in batches]), getattr(dataset, f"{part}_targets"))
    assert [len(y) for _, y in batches[:-1]] == [128] * (len(batches) - 1)
    assert models.build(model)(batches[0][0]).shape == (128, 10)


def test_random_labels_of_a_spec_are_the_ones_measured_on():
    spec = DataSpec(source="digits", train=200, random_labels=1.0, label_seed=3)
    (batch,) = measured_batches(FLAT, spec)
    np.testing.assert_array_equal(batch[1], data.load(spec).train_targets)
