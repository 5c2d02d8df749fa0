"""Records from others: whatever they hold ends in a clear error, in little memory, and never runs anything."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import hostile
import tiny as survey_of
from theodolite import machine, survey
from theodolite.errors import RecordCorrupt, StoreError
from theodolite.store import files, records, tables, weights
from theodolite.store import schema as forms

TESTS = Path(__file__).parents[1]


@pytest.fixture
def directory(tiny, tmp_path):
    survey_of.run(tmp_path / "results")
    return tmp_path / "results"


def run_folder(directory: Path) -> Path:
    return min((directory / "tiny" / "runs").iterdir())


def test_ten_thousand_hostile_files_are_read_or_refused_in_bounded_memory(directory):
    done = subprocess.run(
        [sys.executable, TESTS / "hostile.py", directory, "7", "10500"], capture_output=True, text=True, timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    for kind in ("spec", "status", "planned", "parquet", "safetensors"):
        assert found[f"{kind} refused"] > 500, found
    assert found["grown"] < 300e6, found


def parquet(table: pa.Table, **options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def repeated(text: str, rows: int) -> pa.Table:
    return pa.table({"text": pa.DictionaryArray.from_arrays(np.zeros(rows, "int32"), pa.array([text]))})


BOMBS = {
    "sixty million rows of one number": (lambda: hostile.bomb(60_000_000), "at most 50000000 cells"),
    "a text of a megabyte in each of a million rows": (lambda: parquet(repeated("x" * 10**6, 10**6)), "repeats a text"),
    "lists in a column": (lambda: parquet(pa.table({"list": [[1], [2, 3]]})), "nested"),
    "columns in a column": (lambda: parquet(pa.table({"both": [{"a": 1}]})), "nested"),
    "no table at all": (lambda: b"PAR1" + bytes(100) + b"PAR1", "cannot be read as a table"),
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_table_that_unfolds_to_gigabytes_is_refused_before_it_does(what, tmp_path):
    make, words = BOMBS[what]
    content = make()
    machine.forget_peak_memory()
    before = machine.peak_memory()
    with pytest.raises(RecordCorrupt, match=rf"metrics\.parquet cannot be read as a table.*{words}|{words}"):
        tables.from_bytes(content, tmp_path / "metrics.parquet", "Redo it.")
    assert machine.peak_memory() - before < 100e6


def test_a_table_never_unpickles_what_its_schema_says(tmp_path):
    mark = tmp_path / "it ran"
    evil = f"cposix\nsystem\n(S'touch \"{mark}\"'\ntR.".encode()
    field = pa.field("x", pa.int64(), metadata={
        "ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": evil,
    })  # fmt: skip
    content = parquet(pa.table([pa.array([1])], schema=pa.schema([field])))
    tables.from_bytes(content, tmp_path / "metrics.parquet", "Redo it.").to_pandas(ignore_metadata=True)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"spec":' * 100_000,
        b"9" * 5000,
        b'{"wall_seconds": NaN, "spec": {}}',
        b'{"wall_seconds": 1e999, "spec": {}}',
        b'{"spec": {}}',
        b'{"wall_seconds": 1, "spec": {"training": {}, "model": {"kind": "mlp"}}}',
        b"\xff\xfe",
        b"",
        b"null",
    ],
)
def test_a_spec_that_is_none_names_its_file(directory, content):
    folder = run_folder(directory)
    hostile.forge(folder, "spec.json", content)
    with pytest.raises(RecordCorrupt) as caught:
        survey.findings(directory)
    assert str(folder / "spec.json") in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_mark_that_is_nested_too_deeply_names_its_file(directory):
    (directory / "theodolite.json").write_bytes(b"[" * 100_000)
    with pytest.raises(RecordCorrupt, match=r"theodolite\.json cannot be read"):
        records.check_folder(directory)


@pytest.mark.parametrize("name", ["../../../plan.json", "/etc/passwd", "..", ".hidden", "a/b", "a\\b", ""])
def test_a_status_may_name_no_file_outside_its_record(directory, name):
    folder = run_folder(directory)
    status = records.read_status(folder)
    (folder / "status.json").write_bytes(hostile.sealed(status.model_copy(update={"files": {name: "0" * 64}})))
    assert records.read_status(folder) is None
    assert survey.status(directory)[0]["left"] == 1


@pytest.mark.parametrize("fingerprint", ["../../../../../etc", "/etc", "0123456789ABCDEF", ""])
def test_a_plan_may_name_no_folder_outside_its_study(directory, fingerprint):
    plan = records.read_plan(directory, "tiny")
    first = plan.runs[0].model_copy(update={"fingerprint": fingerprint})
    (directory / "tiny" / "plan.json").write_bytes(hostile.sealed(plan.model_copy(update={"runs": (first,)})))
    with pytest.raises(RecordCorrupt, match=r"plan\.json cannot be read"):
        records.read_plan(directory, "tiny")


def test_a_failure_told_in_a_hundred_megabytes_is_none_and_one_of_ours_is_cut(directory):
    folder = run_folder(directory)
    spec = records.read_spec(folder)
    status = records.read_status(folder).model_copy(update={"state": "failed", "error": "x" * 10**8})
    (folder / "status.json").write_bytes(hostile.sealed(status))
    assert survey.status(directory)[0]["left"] == 1
    records.write_failure(directory, spec, "y" * 10**6)
    assert survey.status(directory)[0]["errors"] == {folder.name: "y" * 10**5}


def test_a_plan_with_a_wrong_value_is_named_with_the_place_of_the_value(directory):
    path = directory / "tiny/plan.json"
    plan = json.loads(path.read_bytes())
    path.write_text(json.dumps({**plan, "runs": [{**plan["runs"][0], "seed": -1}]}))
    with pytest.raises(RecordCorrupt, match=r"plan\.json cannot be read \(runs\.0\.seed: Input should be greater than"):
        records.read_plan(directory, "tiny")
    path.write_text(json.dumps({**plan, "\x1b[2J": 1}))
    with pytest.raises(RecordCorrupt, match=r"\(.x1b\[2J: Extra inputs"):
        records.read_plan(directory, "tiny")


def test_a_file_of_a_terabyte_is_refused_and_not_read(directory):
    folder = run_folder(directory)
    os.truncate(folder / "metrics.parquet", 10**12)  # a hole, which takes no disk
    with pytest.raises(RecordCorrupt, match=r"metrics\.parquet cannot be read.*1000000000000 bytes"):
        survey.findings(directory)
    os.truncate(folder / "status.json", 10**12)
    assert records.read_status(folder) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        (2**40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        *(
            len(header).to_bytes(8, "little") + header
            for header in (
                b'{"x":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}',
                b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"__metadata__":{"order":"[\\"y\\"]"}}',
                b'{"__metadata__":{"order":"[["}}',
                b'{"__metadata__":{"order":"[1, 2]"}}',
            )
        ),
    ],
)
def test_weights_whose_header_lies_name_their_file(content):
    with pytest.raises(RecordCorrupt, match=r"expected weights in the safetensors format, but w\.safetensors"):
        weights.from_bytes(content, "w.safetensors")


def test_snapshots_without_an_epoch_name_their_file():
    content = weights.to_bytes({"weight": torch.ones(1)})
    with pytest.raises(RecordCorrupt, match=r"s\.safetensors holds 'weight'"):
        weights.snapshots_from_bytes(content, "s.safetensors")


def test_a_column_of_another_kind_is_an_error_that_says_where(directory):
    folder = run_folder(directory)
    table = pa.table({"epoch": pa.array(["a", "b"])})
    hostile.forge(folder, "metrics.parquet", parquet(table))
    with pytest.raises(StoreError, match=r"metrics\.parquet: column 'epoch': expected a whole number .*, got string"):
        survey.findings(directory)


def test_what_is_sealed_is_read_back_and_a_changed_digit_is_not():
    plan = forms.Plan(study="s", preset="smoke", settings={"rate": 0.1, "pair": [1, None]}, command="", runs=())
    content = plan.sealed()
    assert forms.Plan.unsealed(content) == plan
    with pytest.raises(ValueError, match="seal"):
        forms.Plan.unsealed(content.replace(b"0.1", b"0.2"))
    assert files.checksum(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
