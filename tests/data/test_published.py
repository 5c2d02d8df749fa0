import gzip

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from theodolite.data import DataSpec, cifar10, fetch, load
from theodolite.errors import DataCorrupt, DataUnavailable


@pytest.fixture
def nothing_else(monkeypatch, cache_folder):
    """No Hub and no npm: what comes, comes from the local folder or the cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def cifar_parts(cifar10_set):
    """The six files of the binary version, by its description: a label, then 3072 bytes, channel first."""
    images = np.concatenate([cifar10_set.train_inputs, cifar10_set.test_inputs]).reshape(6, 10_000, 3072)
    labels = np.concatenate([cifar10_set.train_targets, cifar10_set.test_targets]).reshape(6, 10_000, 1)
    records = np.concatenate([labels.astype(np.uint8), images], axis=2)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    return {name: record.tobytes() for name, record in zip(names, records, strict=True)}


@pytest.mark.parametrize(("place", "packed"), [("", False), ("mnist", True), ("MNIST/raw", False)])
def test_mnist_from_a_local_folder(place, packed, idx_files, mnist_set, nothing_else, tmp_path):
    folder = tmp_path / "data"
    (folder / place).mkdir(parents=True, exist_ok=True)
    for name, content in idx_files.items():
        path = folder / place / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content, 1) if packed else content)
    facts = fetch(["mnist"], data_dir=folder)[0]
    assert (facts.origin, facts.fresh) == (f"the local folder {folder}", True)
    assert not fetch(["mnist"], data_dir=folder)[0].fresh
    data = load(DataSpec(source="mnist"))  # no folder named: from the cache
    assert np.array_equal(data.train_inputs, mnist_set.train_inputs)
    assert np.array_equal(data.test_targets, mnist_set.test_targets)


def test_the_local_folder_comes_before_the_cache(idx_files, nothing_else, tmp_path, monkeypatch):
    for name, content in idx_files.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("THEODOLITE_DATA", str(tmp_path))
    load(DataSpec(source="mnist"))
    name = "t10k-labels-idx1-ubyte"
    (tmp_path / name).write_bytes(idx_files[name][:-1] + b"\x0b")
    with pytest.raises(DataCorrupt, match=f"expected '{name}' of mnist with sha256 ff7bcfd4"):
        load(DataSpec(source="mnist"))
    monkeypatch.delenv("THEODOLITE_DATA")
    assert len(load(DataSpec(source="mnist")).train_inputs) == 60_000


def test_a_folder_with_some_of_the_files_is_named_with_what_it_holds(idx_files, nothing_else, tmp_path):
    name = "train-images-idx3-ubyte"
    (tmp_path / name).write_bytes(idx_files[name])
    with pytest.raises(DataUnavailable, match=f"{tmp_path}: holds no whole set, only {name}"):
        fetch(["mnist"], data_dir=tmp_path)


def test_a_folder_that_does_not_exist_is_an_error_and_not_passed_over(nothing_else, tmp_path):
    with pytest.raises(DataUnavailable, match="there is none at"):
        fetch(["mnist"], data_dir=tmp_path / "nowhere")


def test_a_packed_file_that_was_cut_is_named(idx_files, nothing_else, tmp_path):
    for name, content in idx_files.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content, 1)[:-100])
    with pytest.raises(DataCorrupt, match=r"train-images-idx3-ubyte.gz cannot be read"):
        fetch(["mnist"], data_dir=tmp_path)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("form", ["files", "archive"])
def test_cifar10_from_a_local_folder(form, cifar_parts, cifar10_set, nothing_else, tmp_path, tarball):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    if form == "files":
        for name, content in cifar_parts.items():
            (folder / f"{name}.bin").write_bytes(content)
    else:
        packed = tarball({f"cifar-10-batches-bin/{name}.bin": content for name, content in cifar_parts.items()})
        (tmp_path / "cifar-10-binary.tar.gz").write_bytes(packed)
    assert fetch(["cifar10"], data_dir=tmp_path)[0].origin == f"the local folder {tmp_path}"
    data = load(DataSpec(source="cifar10"))
    assert np.array_equal(data.train_targets, cifar10_set.train_targets)
    assert np.array_equal(data.test_inputs, cifar10_set.test_inputs)


def test_a_sheet_of_another_size_is_refused_before_its_pixels_are_decoded(tmp_path):
    path = tmp_path / "data_batch_1.png"
    Image.new("RGB", (1024, 20)).save(path)
    with pytest.raises(DataCorrupt, match=r"1024 x 10000 RGB in data_batch_1.png, got \(1024, 20\)"):
        cifar10._sheet(path.read_bytes(), "data_batch_1")


def test_mnist_has_ten_classes_of_the_known_sizes(mnist_set):
    counts = np.bincount(mnist_set.train_targets).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # LeCun's own table
    assert mnist_set.train_inputs.mean() / 255 == pytest.approx(0.13066, abs=5e-6)
    assert mnist_set.train_inputs.std() / 255 == pytest.approx(0.30811, abs=5e-6)


def test_cifar10_has_5000_and_1000_images_of_each_class_and_the_known_colours(cifar10_set):
    assert np.bincount(cifar10_set.train_targets).tolist() == [5000] * 10
    assert np.bincount(cifar10_set.test_targets).tolist() == [1000] * 10
    means = cifar10_set.train_inputs.mean(axis=(0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.49140, 0.48216, 0.44653], abs=1e-5)


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize(
    ("name", "penalty", "steps", "low", "high"),
    [("mnist", 0.01, 30, 0.915, 0.93), pytest.param("cifar10", 1e-4, 15, 0.37, 0.42, marks=pytest.mark.thorough)],
)
def test_a_linear_classifier_is_as_accurate_as_it_is_known_to_be(name, penalty, steps, low, high):
    """Labels that were shuffled, or pixels in another order in one set than in the other, would give 10 %."""
    data = load(DataSpec(source=name))
    train, test = (data.inputs_as(part=part) for part in ("train", "test"))
    model = LogisticRegression(C=penalty, max_iter=steps)
    model.fit(train.reshape(len(train), -1), data.train_targets)
    assert low < model.score(test.reshape(len(test), -1), data.test_targets) < high
