"""Tables of wrong content under checksums that fit: a clear error, or read right; and the run is redone."""

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import nn

import fuzzed_folders
import hostile
import theodolite as th
import tiny as survey_of
from mutated import mutated, outcome, tables_of
from theodolite import studies, survey
from theodolite.errors import RecordCorrupt, SettingError, StoreError
from theodolite.own import described
from theodolite.store import content, records, weights
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


def test_a_table_of_one_row_has_no_other():
    schema = TableSchema({"at": whole()}, single=True)
    assert content.checked(pa.table({"at": [1]}), schema, Path("a"), "").num_rows == 1
    with pytest.raises(RecordCorrupt, match="row 2: expected one row, got 300"):
        content.checked(pa.table({"at": [1] * 300}), schema, Path("a"), "")


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


def recorded(place: Path) -> Path:
    """The folder of a recording."""
    torch.manual_seed(0)
    model, loss, data = nn.Linear(2, 1), nn.MSELoss(), (torch.eye(2), torch.ones(2, 1))
    with th.Recorder(["gradient_norm"], every=1, out=place, labels={"rate": 0.1}) as recorder:
        recorder.step(model, loss, data)
        recorder.log(both=[1.0, 2.0])
    (folder,) = place.glob("recorder/runs/*")
    return folder


@pytest.mark.parametrize("table", ["numbers", "vectors", "costs", "ledger"])
def test_a_recording_of_wrong_content_is_named_by_every_reader(table, tmp_path):
    path = recorded(tmp_path / "r") / f"{table}.parquet"
    text_of = lambda frame, draw: frame.assign(instrument=1.5)  # noqa: E731
    words = rf"{table}.parquet: column 'instrument': expected text, got double"
    with mutated(path, random.Random(0), text_of):
        with pytest.raises(RecordCorrupt, match=words):
            th.recordings(tmp_path / "r").table(table)
        with pytest.raises(RecordCorrupt, match=words):
            survey.findings(tmp_path / "r")
        torch.manual_seed(1)
        labels = {"rate": 0.1}
        resumed = th.Recorder(["gradient_norm"], every=1, out=tmp_path / "r", labels=labels, seed=0, resume=1)
        model, data = nn.Linear(2, 1), (torch.eye(2), torch.ones(2, 1))
        with pytest.raises(StoreError, match=f"cannot go on.*{words}"):
            resumed.step(model, nn.MSELoss(), data)
    assert len(th.recordings(tmp_path / "r").table(table))


def test_a_label_that_is_called_like_a_column_of_every_record_is_refused(tmp_path):
    recorded(tmp_path / "r")
    path = tmp_path / "r/recorder/plan.json"
    plan = json.loads(path.read_text())
    plan["runs"][0]["labels"] = {"fingerprint": "a"}
    path.write_text(json.dumps(plan))
    with pytest.raises(RecordCorrupt, match=r"plan.json cannot be read"):
        th.recordings(tmp_path / "r")
    with pytest.raises(SettingError, match="finite number"):
        th.Recorder(["gradient_norm"], out=tmp_path / "s", labels={"rate": float("nan")})


def test_a_table_of_ones_own_holds_numbers_texts_and_truths_as_they_are():
    table = pa.table({"at": [1, 2], "x": [0.5, None], "word": ["a", None], "right": [True, False]})
    found = content.checked(table, content.OWN, Path("a"), "")
    assert found.to_pydict() == table.to_pydict()
    assert found.schema.field("at").type == pa.int64()
    with pytest.raises(RecordCorrupt, match="a: column 'x': expected numbers, texts or truths, got list"):
        content.checked(pa.table({"x": [[1]]}), content.OWN, Path("a"), "")
    with pytest.raises(RecordCorrupt, match="column 'at' is there 2 times"):
        content.checked(table.append_column("at", table["at"]), content.OWN, Path("a"), "")


def test_snapshots_of_another_shape_name_their_file(tmp_path):
    fuzzed_folders.recorded(tmp_path / "r")
    folder = sorted(tmp_path.glob("r/recorder/runs/*"))[0]
    last = sorted(folder.glob("snapshot-*"))[-1]
    held = weights.from_bytes(last.read_bytes(), last)
    hostile.forge(folder, last.name, weights.to_bytes({name: torch.zeros(7) for name in held}))
    with pytest.raises(RecordCorrupt, match=f"{last.name} cannot be read as weights .*of shape"):
        survey.findings(tmp_path / "r")


def test_a_study_of_ones_own_whose_plan_and_description_do_not_fit_is_named(tmp_path):
    place = fuzzed_folders.MADE["own"](tmp_path / "own")
    right, plan = described.read_description(place, "own"), records.read_plan(place, "own")
    described.write_description(place, right.model_copy(update={"factors": {"stride": right.factors["stride"]}}))
    with pytest.raises(RecordCorrupt, match=r"study.json and plan.json beside it name other factors"):
        survey.findings(place)
    described.write_description(place, right)
    twice = [plan.runs[0].model_copy(update={"fingerprint": item.fingerprint}) for item in plan.runs[:2]]
    records.write_plan(place, plan.model_copy(update={"runs": (*twice, *plan.runs[2:])}))
    with pytest.raises(RecordCorrupt, match=r"plan.json holds two runs of seed 0 with the same factors"):
        survey.verdicts(place)
