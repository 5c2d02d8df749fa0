import hashlib

import datasets
import numpy as np
import pytest

from theodolite.data import cifar10, mnist
from theodolite.data.published import checked
from theodolite.data.table import arrays
from theodolite.errors import DataCorrupt, DataUnavailable

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 5), dtype=np.uint8)


def splits(columns, test=None):
    return {"train": datasets.Dataset.from_dict(columns), "test": datasets.Dataset.from_dict(test or columns)}


def test_grey_images_have_one_channel_and_keep_their_pixels(table):
    made = table("anything", IMAGES, np.arange(6) % 2)
    found = arrays({"train": made, "validation": made}, "here")
    assert found.train_inputs.dtype == np.uint8
    assert np.array_equal(found.train_inputs, IMAGES[:, None])
    assert np.array_equal(found.test_targets, np.arange(6) % 2)
    assert (found.classes, found.peak) == (2, 255)


def test_columns_of_numbers_stand_side_by_side():
    found = arrays(
        splits({"a": [1.0, 2.0], "label": [5, 3], "b": [[3, 4], [5, 6]], "c": [7, 8], "word": ["x", "y"]}), ""
    )
    assert found.train_inputs.tolist() == [[1, 7], [2, 8]]
    assert found.train_inputs.dtype == np.float32


def test_a_column_named_features_is_taken_alone_and_flattened():
    found = arrays(splits({"features": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]], "y": [0, 1], "other": [9, 9]}), "")
    assert found.train_inputs.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("values", "expected", "classes"),
    [
        ([30, 10, 20], [2, 0, 1], 3),
        (["no", "yes", "no"], [0, 1, 0], 2),
        ([0.5, 1.5, 2.5], [[0.5], [1.5], [2.5]], None),
    ],
)
def test_targets_become_classes_in_order_or_stay_fractions(values, expected, classes):
    found = arrays(splits({"x": [1.0, 2.0, 3.0], "target": values}), "")
    assert found.train_targets.tolist() == expected
    assert found.classes == classes
    assert found.train_targets.dtype == (np.int64 if classes else np.float64)


def test_classes_are_numbered_over_both_splits():
    found = arrays(splits({"x": [1.0], "y": [7]}, {"x": [1.0], "y": [4]}), "")
    assert (found.train_targets.tolist(), found.test_targets.tolist(), found.classes) == ([1], [0], 2)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": [1.0], "kind": [0]}, "got x, kind. Rename the target"),
        ({"words": ["a"], "label": [0]}, "columns of numbers in here, got words"),
        ({"x": [1.0], "label": [[0, 1]]}, "one target for each sample in column 'label'"),
    ],
)
def test_a_table_without_fitting_columns_is_refused(columns, words):
    with pytest.raises(DataUnavailable, match=words):
        arrays(splits(columns), "here")


def test_a_table_without_a_test_split_is_refused():
    table = datasets.Dataset.from_dict({"x": [1.0], "y": [0]})
    with pytest.raises(DataUnavailable, match=r"expected a split named test or .*got train, extra"):
        arrays({"train": table, "extra": table}, "here")


@pytest.mark.parametrize("x", [[[1.0], [1.0, 2.0]], [1.0, float("nan")]])
def test_ragged_or_missing_numbers_are_corrupt(x):
    with pytest.raises(DataCorrupt, match="in column 'x' of here"):
        arrays(splits({"x": x, "y": [0, 1]}), "here")


def test_labels_that_are_missing_are_refused(table):
    made = table("image", IMAGES, np.array([0, 1, 0, 1, 0, 1])).map(lambda row: {"label": -1})
    with pytest.raises(DataUnavailable, match="classes 0 to 1"):
        arrays({"train": made, "test": made}, "here")


def test_images_of_two_sizes_are_refused(table):
    made = datasets.concatenate_datasets(
        [table("image", part, np.array([0, 1])) for part in (IMAGES[:2], IMAGES[:2, :3])]
    )
    with pytest.raises(DataCorrupt, match=r"\(1, 4, 5\), got \(1, 3, 5\) in row 2"):
        arrays({"train": made, "test": made}, "here")


def test_an_image_that_was_cut_is_named_by_its_row(table):
    made = table("image", IMAGES, np.arange(6) % 2)
    plain = made.cast_column("image", datasets.Image(decode=False)).to_dict()
    plain["image"][3]["bytes"] = plain["image"][3]["bytes"][:40]
    cut = datasets.Dataset.from_dict(plain, features=made.features)
    with pytest.raises(DataCorrupt, match="in row 3 of column 'image'"):
        arrays({"train": cut, "test": cut}, "here")


def test_the_hubs_form_of_mnist_becomes_the_published_files_again(table, mnist_set):
    made = table("image", mnist_set.test_inputs[:, 0], mnist_set.test_targets)
    parts = mnist.parts_of_table({"train": made.select(range(100)), "test": made})
    for part in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        assert f"sha256:{hashlib.sha256(parts[part]).hexdigest()}" == mnist.MNIST.checksums[part]
    with pytest.raises(DataCorrupt, match="train-images-idx3-ubyte"):
        checked(mnist.MNIST, parts)


def test_the_hubs_form_of_cifar_becomes_the_published_batches_again(table, cifar10_set):
    test = table("img", cifar10_set.test_inputs.transpose(0, 2, 3, 1), cifar10_set.test_targets)
    train = table("img", cifar10_set.train_inputs[:50].transpose(0, 2, 3, 1), cifar10_set.train_targets[:50])
    parts = cifar10.parts_of_table({"train": train, "test": test})
    digest = hashlib.md5(parts["test_batch"]).hexdigest()
    assert f"md5:{digest}" == cifar10.CIFAR10.checksums["test_batch"]
    second = [cifar10_set.train_targets[10], *cifar10_set.train_inputs[10].ravel()]
    assert list(parts["data_batch_2"][:3073]) == second
    assert len(parts["data_batch_5"]) == 10 * 3073
