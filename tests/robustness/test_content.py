"""Tables of wrong content under checksums that fit: a clear error, or read right; and the run is redone."""

import random
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

import tiny as survey_of
from mutated import mutated, outcome, tables_of
from theodolite import studies, survey
from theodolite.errors import RecordCorrupt
from theodolite.store import content, records
from theodolite.study import METRICS, TableSchema, number, text, truth, whole
from theodolite.survey import reading

GOOD = {"at": [1, 2], "share": [0.0, 1.0], "word": ["one", "two"], "right": [True, False]}
SCHEMA = TableSchema(
    {"at": whole(), "share": number(0, 1), "word": text("one", "two"), "right": truth()}, key=("at",), ascending=True
)
WRONG = {
    "column 'share', row 2: expected a number from 0 to 1, got -1.0": {"share": [0.5, -1.0]},
    "column 'share', row 1: expected a number from 0 to 1, got inf": {"share": [float("inf"), 0.5]},
    "column 'share', row 1: expected a number from 0 to 1, got nan": {"share": [float("nan"), 0.5]},
    "column 'share', row 2: expected a number from 0 to 1, got nothing": {"share": [0.5, None]},
    "column 'share': expected a number from 0 to 1, got string": {"share": ["a", "b"]},
    "column 'at': expected a whole number from 0 to 1e.15, got double": {"at": [0.5, 1.0]},
    "column 'at', row 2: expected more than in the row before": {"at": [2, 2]},
    "column 'word', row 2: expected one of one, two, got 'three'": {"word": ["one", "three"]},
    "column 'right': expected true or false, got int64": {"right": [0, 1]},
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_named_with_its_column_and_row(said):
    with pytest.raises(RecordCorrupt, match=f"^a.parquet: {said}. Redo it.$"):
        content.checked(pa.table(GOOD | WRONG[said]), SCHEMA, Path("a.parquet"), "Redo it.")


def test_a_column_that_is_missing_there_twice_or_unknown():
    table = pa.table(GOOD)
    with pytest.raises(RecordCorrupt, match="expected a column 'word', got 'at', 'share', 'right'"):
        content.checked(table.drop_columns("word"), SCHEMA, Path("a"), "")
    with pytest.raises(RecordCorrupt, match="column 'at' is there 2 times"):
        content.checked(table.append_column("at", table["at"]), SCHEMA, Path("a"), "")
    with pytest.raises(RecordCorrupt, match="expected rows, got none"):
        content.checked(table.slice(0, 0), SCHEMA, Path("a"), "")
    assert content.checked(table.append_column("seed", table["at"]), SCHEMA, Path("a"), "").column_names == [*GOOD]


def test_rows_that_are_there_twice_are_found_by_all_columns_of_the_key():
    table = pa.table({"set": ["a", "b", "a"], "at": [1, 1, 1]})
    with pytest.raises(RecordCorrupt, match="column 'set, at', row 3: it is as in a row before"):
        content.checked(table, TableSchema({"set": text(), "at": whole()}, key=("set", "at")), Path("a"), "")


def test_what_no_reader_would_take_is_not_written(tmp_path):
    spec = next(survey_of.expand(survey_of.STUDY.presets["smoke"]))
    metrics = pd.DataFrame({name: [0.5] for name in METRICS.columns}).astype({"epoch": int, "step": int})
    wrong = {"metrics": metrics.assign(test_accuracy=1.5)}
    with pytest.raises(RecordCorrupt, match="column 'test_accuracy', row 1"):
        records.write(tmp_path, spec, tables=wrong, environment={}, schemas=survey_of.STUDY.schemas)
    assert not records.folder_of(tmp_path, spec).exists()


@pytest.mark.parametrize("name", sorted(studies.INDEX))
def test_each_study_says_what_its_tables_hold(name):
    study = studies.INDEX[name]
    assert study.schemas
    assert all(set(schema.key) <= set(schema.columns) for schema in study.schemas.values())


def test_a_run_of_wrong_content_is_named_and_redone(whole, tiny, tmp_path):
    source, right = whole
    for name, column in (("metrics", "train_loss"), ("size", "parameters"), ("moved", "distance")):
        directory = shutil.copytree(source, tmp_path / name)
        path = sorted(directory.glob(f"tiny/*/*/{name}.parquet"))[0]
        negative = lambda table, draw, column=column: table.assign(**{column: -table[column] - 1})  # noqa: E731
        with mutated(path, random.Random(0), negative):
            with pytest.raises(RecordCorrupt, match=f"{path.parent.name}/{name}.parquet: column '{column}', row 1"):
                survey.findings(directory)
            assert survey.estimate(survey.prepare(["tiny"], "smoke"), directory, workers=1)[0]["left"] == 1
            survey_of.run(directory)
            assert survey_of.seen(directory) == right


def test_of_two_hundred_mutations_each_is_said_or_read(whole, tiny):
    directory, _ = whole
    ends, chance = Counter(), random.Random()
    for _ in range(200):
        seed = chance.randrange(10**9)  # another each time; a failure says which
        draw = random.Random(seed)
        path = draw.choice(tables_of(directory, "tiny"))
        with mutated(path, draw) as what:
            print(seed, what)
            ends[outcome(lambda: survey.findings(directory), path)] += 1
    assert set(ends) == {"said", "read"}
    assert min(ends["said"], ends["read"]) > 20
    reading.status(directory)
