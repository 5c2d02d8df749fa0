"""Records on disk: whole, checked, and refused where they are not ours."""

import errno
import json
from pathlib import Path

import pandas as pd
import pytest
from pydantic import PositiveInt

from theodolite.data.spec import DataSpec
from theodolite.errors import RecordCorrupt, SettingError, StoreError, VersionMismatch
from theodolite.models.description import MLP
from theodolite.store import files, records
from theodolite.store.records import Plan, Planned
from theodolite.study import RunSpec, Seeds, Settings, Training

METRICS = pd.DataFrame({"epoch": [0, 1], "train_loss": [0.1 + 0.2, float("nan")]})


def made_spec(seed: int = 0) -> RunSpec:
    return RunSpec(
        study="made",
        labels={"model": "Model 1"},
        seed=seed,
        data=DataSpec(source="function:cos"),
        model=MLP(inputs=1, hidden=(4,), outputs=1),
        training=Training(loss="mse", epochs=1),
        seeds=Seeds(weights=seed, order=seed),
    )


def write(directory: Path, spec: RunSpec, **changes: object) -> None:
    content = {
        "tables": {"metrics": METRICS},
        "blobs": {"weights.safetensors": b"weights"},
        "environment": {"wall_seconds": 1.5},
        "converged_epoch": 1,
        "diverged_epoch": None,
    }
    records.write(directory, spec, **{**content, **changes})


def planned(*specs: RunSpec) -> Plan:
    runs = tuple(Planned.of(s) for s in specs)
    return Plan(study="made", preset="smoke", settings={}, command="", runs=runs)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    records.claim_folder(tmp_path / "results")
    return tmp_path / "results"


def test_what_is_written_is_read_back_bit_for_bit(directory):
    spec = made_spec()
    write(directory, spec)
    records.write_plan(directory, planned(spec))
    found = records.read(directory, "made")
    assert found is not None
    pd.testing.assert_frame_equal(found.table("metrics")[["epoch", "train_loss"]], METRICS, check_exact=True)
    assert list(found.table("metrics").columns[:3]) == ["fingerprint", "seed", "model"]
    assert list(found.specs()) == [spec]
    assert records.read_file(records.folder_of(directory, spec) / "weights.safetensors") == b"weights"


class Grown(Settings):
    """A study's settings, one of them younger than the plan that is read."""

    batch_sizes: tuple[PositiveInt, PositiveInt]
    younger: float = 0.5


def test_settings_come_typed_from_plans_of_other_versions(directory):
    settings = {"seeds": 3, "batch_sizes": [32, 1024], "gone": True}
    plan = planned(made_spec()).model_copy(update={"settings": settings})
    records.write_plan(directory, plan)
    read_back = records.read_plan(directory, "made")
    assert read_back.settings == settings  # as the page shows them
    found = records.Records(directory, read_back, Grown).settings
    assert found == Grown(seeds=3, batch_sizes=(32, 1024), younger=0.5)


def test_a_plan_whose_settings_are_of_another_kind_is_refused_by_name_and_its_runs_are_still_counted(directory):
    plan = planned(made_spec()).model_copy(update={"settings": {"seeds": 3, "batch_sizes": "many"}})
    found = records.Records(directory, plan, Grown)
    assert len(found.runs) == 1
    with pytest.raises(
        RecordCorrupt, match=r"made/plan\.json holds no settings of made \(batch_sizes: .*Run the study"
    ):
        _ = found.settings


def test_rows_of_an_older_version_are_read_under_the_names_of_today_beside_those_of_this_one(directory):
    old, new = made_spec(0), made_spec(1)
    for spec, names in ((old, ["as trained", "by weights"]), (new, ["as_trained", "other"])):
        write(directory, spec, tables={"line": pd.DataFrame({"matching": names, "loss": [1.0, 2.0]})})
    renamed = {"matching": {"as trained": "as_trained", "by weights": "weights"}, "loss": {"1.0": "one"}, "no": {}}
    found = records.Records(directory, planned(old, new), Settings, renamed).table("line")
    assert found["matching"].tolist() == ["as_trained", "weights", "as_trained", "other"]
    assert found["loss"].tolist() == [1.0, 2.0, 1.0, 2.0]


def test_runs_keep_the_order_of_the_plan_and_say_how_far_each_is(directory):
    specs = [made_spec(seed) for seed in range(4)]
    write(directory, specs[2])
    records.write_failure(directory, specs[1], "no luck")
    records.write_start(directory, specs[3])
    records.write_plan(directory, planned(*specs))
    runs = records.Records(directory, planned(*specs)).runs
    assert runs["seed"].tolist() == [0, 1, 2, 3]
    assert runs["status"].tolist() == ["missing", "failed", "done", "running"]
    assert runs.loc[1, "error"] == "no luck"


@pytest.mark.parametrize("name", ["spec.json", "metrics.parquet", "weights.safetensors", "status.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "remove"])
def test_a_damaged_file_makes_the_run_unfinished_and_is_never_read_as_right(directory, name, damage):
    spec = made_spec()
    write(directory, spec)
    path = records.folder_of(directory, spec) / name
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        flipped = bytes([content[0] ^ 1]) + content[1:]
        path.write_bytes({"cut": content[:-1], "flip": flipped, "empty": b""}[damage])
    if name == "status.json" and damage == "cut":
        assert path.read_bytes().strip() == content.strip()  # the newline at the end carries nothing
    else:
        assert not records.finished(directory, spec)
    found = records.Records(directory, planned(spec))
    if name == "metrics.parquet":
        with pytest.raises(RecordCorrupt, match=r"metrics\.parquet.*that run is redone"):
            found.table("metrics")


def test_a_run_without_status_is_not_finished(directory):
    spec = made_spec()
    write(directory, spec)
    (records.folder_of(directory, spec) / "status.json").unlink()
    assert not records.finished(directory, spec)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="holds other files"):
        records.claim_folder(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_of_another_format_is_refused(directory):
    (directory / "theodolite.json").write_text('{"format": 999}')
    with pytest.raises(VersionMismatch, match="has format 999"):
        records.check_folder(directory)


def test_a_mark_that_cannot_be_read_names_the_file(directory):
    (directory / "theodolite.json").write_text("{")
    with pytest.raises(RecordCorrupt, match=r"theodolite\.json"):
        records.check_folder(directory)


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(StoreError, match="a part of its path is a file"):
        records.claim_folder(tmp_path / "results")


def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    files.write(path, b"old")

    def full(self: Path, content: bytes) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match="the disk is full"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_parts_that_a_killed_process_left_are_swept(directory):
    part = directory / "made" / ".metrics.parquet.123.part"
    part.parent.mkdir()
    part.write_bytes(b"half")
    files.sweep(directory)
    assert not part.exists()


def test_status_holds_a_checksum_of_every_other_file(directory):
    spec = made_spec()
    write(directory, spec)
    folder = records.folder_of(directory, spec)
    named = json.loads((folder / "status.json").read_text())["files"]
    assert set(named) == {p.name for p in folder.iterdir()} - {"status.json"}


def test_a_table_named_csv_is_written_as_csv_with_every_digit(directory):
    spec = made_spec()
    numbers = pd.DataFrame({"unit": [0, 1], "epoch 0": pd.Series([0.1, -1 / 3], dtype="float32")})
    write(directory, spec, tables={"metrics": METRICS, "first_layer.csv": numbers})
    path = records.folder_of(directory, spec) / "first_layer.csv"
    found = pd.read_csv(path).astype({"epoch 0": "float32"})
    pd.testing.assert_frame_equal(found, numbers, check_exact=True)
    assert records.finished(directory, spec)
    path.write_text("unit\n0\n")
    assert not records.finished(directory, spec)


@pytest.mark.parametrize("column", ["seed", "fingerprint", "model"])
def test_a_table_with_a_column_of_its_run_is_refused_before_anything_is_written(directory, column):
    spec = made_spec()
    with pytest.raises(SettingError, match=f"got '{column}'"):
        write(directory, spec, tables={"metrics": pd.DataFrame({column: [0]})})
    assert not records.finished(directory, spec)
