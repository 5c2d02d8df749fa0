import random

import numpy as np
import pytest
from sklearn.datasets import load_digits

from theodolite import data
from theodolite.data import DataSpec, fetch, known, load
from theodolite.errors import UnknownName


def test_every_public_name_is_there():
    for name in data.__all__:
        assert getattr(data, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        data.nothing  # noqa: B018


def test_the_list_says_what_is_here(cache_folder):
    before = {entry.name: entry.present for entry in known()}
    assert (before["mnist"], before["cifar10"], before["digits"], before["function:cos"]) == (False, False, True, True)
    listed = {entry.name: entry for entry in known()}
    for name in ("digits", "mnist1d", "function:sinc"):
        facts = fetch([name])[0]
        assert (facts.train, facts.test) == (listed[name].train, listed[name].test)
        assert "x".join(map(str, facts.inputs)) == listed[name].inputs


def test_the_list_is_right_about_the_sets_that_are_fetched(mnist_set, cifar10_set):
    listed = {entry.name: entry for entry in known()}
    for name, loaded in (("mnist", mnist_set), ("cifar10", cifar10_set)):
        assert listed[name].present
        assert (listed[name].train, listed[name].test) == (len(loaded.train_inputs), len(loaded.test_inputs))
        assert listed[name].inputs == "x".join(map(str, loaded.train_inputs.shape[1:]))


def test_one_unknown_name_stops_everything_before_it_begins(cache_folder):
    with pytest.raises(UnknownName, match="Did you mean 'cifar10'"):
        fetch(["digits", "cifar-10"])
    assert not cache_folder.exists()


def test_digits_are_those_of_scikit_learn_each_once(cache_folder):
    found, loaded = load_digits(), load(DataSpec(source="digits"))
    images = np.concatenate([loaded.train_inputs, loaded.test_inputs]).reshape(1797, 64)
    labels = np.concatenate([loaded.train_targets, loaded.test_targets])
    ours = sorted(zip(map(bytes, images), labels.tolist(), strict=True))
    theirs = sorted(zip(map(bytes, found.data.astype(np.uint8)), found.target.tolist(), strict=True))
    assert ours == theirs
    assert (len(loaded.train_inputs), len(loaded.test_inputs), loaded.classes) == (1437, 360, 10)
    assert np.bincount(loaded.test_targets, minlength=10).min() >= 20


def test_mnist1d_is_the_published_set_and_leaves_the_global_generators_alone(cache_folder):
    np.random.seed(0)
    random.seed(0)
    loaded = load(DataSpec(source="mnist1d"))
    after = np.random.random(), random.random()
    np.random.seed(0)
    random.seed(0)
    assert after == (np.random.random(), random.random())
    assert loaded.train_inputs.shape == (4000, 40)
    assert loaded.test_inputs.shape == (1000, 40)
    whole = np.concatenate([loaded.train_inputs, loaded.test_inputs])
    assert whole.mean() == pytest.approx(0, abs=1e-4)
    assert whole.std() == pytest.approx(1, abs=1e-4)
    assert np.bincount(np.concatenate([loaded.train_targets, loaded.test_targets])).tolist() == [500] * 10
