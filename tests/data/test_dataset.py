import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from theodolite.data import DataSpec, load
from theodolite.errors import SettingError, UnknownName

DIGEST = """
import hashlib, sys
from theodolite.data import DataSpec, load
for spec in sys.argv[1:]:
    data = load(DataSpec.model_validate_json(spec))
    arrays = (data.inputs_as(), data.train_targets, data.inputs_as(part="test"), data.test_targets)
    print(hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest())
"""


@pytest.mark.thorough
def test_two_processes_load_the_same_bits_even_from_caches_of_their_own(tmp_path, monkeypatch):
    specs = (
        DataSpec(source="function:sin(3*x)/x"),
        DataSpec(source="digits", train=100, test=50, seed=4, random_labels=0.3, label_seed=2),
        DataSpec(source="mnist1d", train=300),
    )
    printed = set()
    for folder in ("a", "b"):
        monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / folder))
        command = [sys.executable, "-c", DIGEST, *(spec.model_dump_json() for spec in specs)]
        printed.add(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(printed) == 1
    assert [len(line) for line in printed.pop().splitlines()] == [64, 64, 64]


def test_the_standard_scale_gives_the_training_set_mean_0_and_deviation_1(cache_folder):
    data = load(DataSpec(source="digits"))
    inputs = data.inputs_as(np.float64)
    assert inputs.shape == (1437, 1, 8, 8)
    assert inputs.mean() == pytest.approx(0, abs=1e-6)
    assert inputs.std() == pytest.approx(1, abs=1e-6)


def test_the_unit_scale_runs_from_0_to_1(cache_folder):
    data = load(DataSpec(source="digits", scale="unit"))
    inputs = data.inputs_as(part="test")
    assert (float(inputs.min()), float(inputs.max())) == (0.0, 1.0)
    assert np.array_equal(inputs, data.test_inputs.astype(np.float32) / 16)


def test_the_scale_is_applied_per_channel(cifar10_set):
    first = cifar10_set.train_inputs[:3].astype(np.float64)
    expected = (first / 255 - np.reshape([0.49140, 0.48216, 0.44653], (3, 1, 1))) / np.reshape(
        [0.24703, 0.24349, 0.26159], (3, 1, 1)
    )
    scaled = load(DataSpec(source="cifar10", train=50_000)).inputs_as()[:3]
    assert np.abs(scaled - expected).max() < 2e-4  # the published values have five digits


def test_a_subset_keeps_inputs_with_their_labels_and_the_scale_of_the_whole(cache_folder):
    whole, part = load(DataSpec(source="digits")), load(DataSpec(source="digits", train=200, test=30, seed=9))
    label_of = {image.tobytes(): label for image, label in zip(whole.train_inputs, whole.train_targets, strict=True)}
    assert len(part.train_inputs) == 200
    for image, label in zip(part.train_inputs, part.train_targets, strict=True):
        assert label_of[image.tobytes()] == label
    assert len(part.test_inputs) == len(part.test_targets) == 30
    assert np.array_equal(part.offset, whole.offset)
    assert np.array_equal(part.factor, whole.factor)


def test_random_labels_change_training_labels_only(cache_folder):
    true = load(DataSpec(source="digits"))
    random = load(DataSpec(source="digits", random_labels=1.0))
    again = load(DataSpec(source="digits", random_labels=1.0, seed=5))
    other = load(DataSpec(source="digits", random_labels=1.0, label_seed=5))
    assert 0.05 < (random.train_targets == true.train_targets).mean() < 0.15
    assert np.array_equal(random.test_targets, true.test_targets)
    assert np.array_equal(random.train_inputs, true.train_inputs)
    assert np.array_equal(random.train_targets, again.train_targets)  # the seed draws subsets only
    assert (random.train_targets != other.train_targets).any()


def test_whole_sets_are_read_only_views_of_the_cache_and_specs_share_it(cache_folder):
    data = load(DataSpec(source="digits"))
    assert isinstance(data.train_inputs, np.memmap)
    assert not data.train_inputs.flags.writeable
    load(DataSpec(source="digits", seed=3, train=10))
    assert [path.name for path in cache_folder.iterdir() if path.is_dir()] == ["digits"]


def test_floats_are_taken_as_they_are(cache_folder):
    data = load(DataSpec(source="mnist1d"))
    assert data.train_inputs.dtype == np.float32
    assert (data.offset, data.factor, data.classes) == (None, None, 10)
    assert data.inputs_as("float64").dtype == np.float64


def test_more_samples_than_there_are_is_an_error(cache_folder):
    with pytest.raises(SettingError, match="at most 1437"):
        load(DataSpec(source="digits", train=1438))


@pytest.mark.parametrize(("name", "closest"), [("minst", "mnist"), ("cifar", "cifar10"), ("digit", "digits")])
def test_an_unknown_source_names_the_closest(name, closest):
    with pytest.raises(UnknownName, match=f"Did you mean '{closest}'"):
        load(DataSpec(source=name))


def test_importing_the_package_is_quick_and_loads_no_heavy_library():
    code = """
import sys, time
start = time.perf_counter()
import theodolite.data
seconds = time.perf_counter() - start
import json
from theodolite.data import load, fetch, known
heavy = [name for name in ("torch", "datasets", "PIL", "sklearn", "mnist1d", "pandas") if name in sys.modules]
print(json.dumps([seconds, heavy]))
"""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    seconds, heavy = min(json.loads(run.stdout) for run in runs)  # the quickest: others may be using the machine
    assert seconds < 0.1
    assert heavy == []


def test_the_bits_of_a_subset_are_those_of_the_first_release(cache_folder):
    """A change here changes what every recorded fingerprint means: raise the format of specs with it."""
    data = load(DataSpec(source="digits", train=64, seed=1, random_labels=0.5, label_seed=1))
    digest = hashlib.sha256(data.train_inputs.tobytes() + data.train_targets.tobytes()).hexdigest()
    assert digest[:16] == "efc7aad773423371"
