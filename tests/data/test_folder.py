import json
import time

import numpy as np
import pytest
from PIL import Image

from theodolite.data import DataSpec, load
from theodolite.errors import DataCorrupt, DataUnavailable


def inventory(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def image_folder(tmp_path):
    """Classes owl, cat, ant: by grey level 30, 20, 10 plus the image's number."""
    folder = tmp_path / "my pictures"
    for part, samples in (("train", 4), ("test", 2)):
        for name, level in (("owl", 30), ("cat", 20), ("ant", 10)):
            (folder / part / name).mkdir(parents=True)
            for number in range(samples):
                Image.fromarray(np.full((3, 5), level + number, np.uint8)).save(folder / part / name / f"{number}.png")
    return folder


def test_an_image_folder_gives_its_classes_in_the_order_of_their_names(image_folder, cache_folder):
    before = inventory(image_folder)
    data = load(DataSpec(source=f"dir:{image_folder}"))
    assert data.train_inputs.shape == (12, 1, 3, 5)
    levels = data.train_inputs[:, 0, 0, 0]
    assert np.array_equal(data.train_targets, levels // 10 - 1)  # ant, cat, owl
    assert sorted(levels) == [10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 33]
    assert np.array_equal(data.test_targets, data.test_inputs[:, 0, 0, 0] // 10 - 1)
    assert data.classes == 3
    assert inventory(image_folder) == before


def test_a_changed_folder_is_read_again(image_folder, cache_folder):
    spec = DataSpec(source=f"dir:{image_folder}")
    assert load(spec).train_inputs.max() == 33
    Image.fromarray(np.full((3, 5), 39, np.uint8)).save(image_folder / "train" / "owl" / "9.png")
    data = load(spec)
    assert data.train_inputs.max() == 39
    assert len(data.train_inputs) == 13


@pytest.mark.parametrize("layout", ["{}.parquet", "{}-00000-of-00001.parquet", "{}/part.parquet"])
def test_parquet_files_are_read_without_a_network_and_without_writing_beside_them(tmp_path, parquet, python, layout):
    folder = tmp_path / "tables"
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 5), dtype=np.uint8)
    for part in ("train", "test"):
        path = folder / layout.format(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(parquet("image", images, np.arange(6) % 3))
    before = inventory(folder)
    code = "import json; from theodolite.data import DataSpec, load\n"
    code += f"data = load(DataSpec(source='dir:{folder}'))\n"
    code += "print(json.dumps([data.train_inputs.tolist(), data.test_targets.tolist(), data.classes]))"
    start = time.monotonic()
    got = json.loads(python(code, HF_ENDPOINT="http://127.0.0.1:9", PATH="/nowhere"))
    assert got == [images[:, None].tolist(), [0, 1, 2, 0, 1, 2], 3]
    assert time.monotonic() - start < 20
    assert inventory(folder) == before


def test_a_missing_folder_says_what_it_should_hold(tmp_path, cache_folder):
    with pytest.raises(DataUnavailable, match=r"there is none at .*nowhere.*train.parquet"):
        load(DataSpec(source=f"dir:{tmp_path / 'nowhere'}"))


def test_a_folder_without_a_test_set_says_what_is_missing(tmp_path, cache_folder):
    (tmp_path / "train.parquet").write_bytes(b"")
    with pytest.raises(DataUnavailable, match="holds no test files"):
        load(DataSpec(source=f"dir:{tmp_path}"))


def test_a_file_that_is_not_parquet_is_corrupt(tmp_path, cache_folder):
    for part in ("train", "test"):
        (tmp_path / f"{part}.parquet").write_bytes(b"not a table at all")
    with pytest.raises(DataCorrupt, match="cannot be read"):
        load(DataSpec(source=f"dir:{tmp_path}"))
