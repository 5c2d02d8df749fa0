import json
import os
import time

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from theodolite.data import DataSpec, folder, load
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


ODD = ["a[1].png", "a1.png", "b?.png", "c*.png", "with space.png", "new\nline.png", "100%.png", "d::e.png",
       "\U0001f989.png", "#&=.png", "\\udcff.png", "README.md.png", "~.png", "x" * 251 + ".png"]  # fmt: skip


def test_each_file_is_taken_once_by_its_name_however_it_is_called(tmp_path, cache_folder):
    folder = tmp_path / "data [1-9] *?%20"
    for part in ("train", "test"):
        for kind, level in (("owl[s]", 100), ("owls", 0)):
            (folder / part / kind).mkdir(parents=True)
            for number, name in enumerate(ODD):
                Image.fromarray(np.full((2, 2), level + number, np.uint8)).save(folder / part / kind / name)
    data = load(DataSpec(source=f"dir:{folder}"))
    for inputs, targets in ((data.train_inputs, data.train_targets), (data.test_inputs, data.test_targets)):
        levels = inputs[:, 0, 0, 0]
        assert sorted(levels) == [*range(len(ODD)), *range(100, 100 + len(ODD))]
        assert np.array_equal(targets, levels < 100)  # "owl[s]" comes before "owls"


def test_a_table_is_taken_by_its_name(tmp_path, parquet, cache_folder):
    folder = tmp_path / "tables [ab]"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 5), dtype=np.uint8)
    for name in ("train-[0]", "train-0", "test"):
        (folder / f"{name}.parquet").write_bytes(parquet("image", images, np.arange(6) % 3))
    data = load(DataSpec(source=f"dir:{folder}"))
    assert np.array_equal(data.train_inputs[:, 0], np.concatenate([images, images]))
    assert np.array_equal(data.test_inputs[:, 0], images)


def link_to_nothing(path):
    path.symlink_to(path.parent / "nowhere")


@pytest.mark.parametrize(
    ("place", "make", "said"),
    [
        ("train/owl/notes.txt", lambda path: path.write_text("x"), r"pictures alone in .*owl, got .*notes\.txt"),
        ("train/owl/more.png", lambda path: path.mkdir(), r"pictures alone in .*owl, got .*more\.png"),
        ("test/owl/pipe.png", os.mkfifo, r"pictures alone in .*owl, got .*pipe\.png"),
        ("test/owl/gone.png", link_to_nothing, r"pictures alone in .*owl, got .*gone\.png"),
        ("train/loose.png", lambda path: path.write_bytes(b""), r"loose\.png, which is in no folder of a class"),
        ("train/owl/empty.png", lambda path: path.write_bytes(b""), r"expected an image in row .*empty\.png"),
        ("train/owl/\udcff.png", lambda path: path.write_bytes(b""), r"names of files in UTF-8, got .*udcff\.png"),
    ],
)
def test_what_is_no_picture_is_named_and_not_left_out(image_folder, cache_folder, place, make, said):
    make(image_folder / place)
    with pytest.raises((DataUnavailable, DataCorrupt), match=said) as caught:
        load(DataSpec(source=f"dir:{image_folder}"))
    assert len(str(caught.value).encode().splitlines()) == 1


def test_what_a_system_leaves_behind_is_no_picture(image_folder, cache_folder):
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (image_folder / "train" / "owl" / name).write_bytes(b"x")
    assert len(load(DataSpec(source=f"dir:{image_folder}")).train_inputs) == 12


def test_a_table_takes_no_picture_from_elsewhere(tmp_path, cache_folder):
    Image.new("L", (2, 2)).save(tmp_path / "elsewhere.png")
    cells = {"image": [{"bytes": None, "path": str(tmp_path / "elsewhere.png")}], "label": [0]}
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("int64")})
    named = datasets.Dataset.from_dict(cells, features=features).cast_column("image", datasets.Image())
    (tmp_path / "set").mkdir()
    for part in ("train", "test"):
        named.to_parquet(tmp_path / "set" / f"{part}.parquet")
    with pytest.raises(DataCorrupt, match=r"image in row 0 .* got none"):
        load(DataSpec(source=f"dir:{tmp_path / 'set'}"))


def test_a_small_file_that_claims_more_numbers_than_there_is_room_for_is_refused(tmp_path, cache_folder, monkeypatch):
    monkeypatch.setattr(folder, "VALUES", 1000)
    zeros = pa.table({name: pa.array(np.zeros(501, np.int8)) for name in ("x", "label")})
    for part in ("train", "test"):
        pq.write_table(zeros, tmp_path / f"{part}.parquet")
    with pytest.raises(DataCorrupt, match=r"at most 1,000 numbers in .*train.parquet, and it claims 1,002"):
        load(DataSpec(source=f"dir:{tmp_path}"))
