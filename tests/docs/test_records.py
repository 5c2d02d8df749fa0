"""docs/records.md: each block as it stands there, on a survey of another name, against what the report itself reads."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

import tiny as survey_of
from theodolite.store import records

PAGE = (Path(__file__).parents[2] / "docs/records.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four runs that are done, and one that was interrupted, whose table is there already."""
    folder = tmp_path_factory.mktemp("docs")
    with survey_of.alone():
        survey_of.run(folder / "results/quick")
    done = min((folder / "results/quick/tiny/runs").iterdir())
    left = shutil.copytree(done, done.with_name("0" * 16))
    status = json.loads((left / "status.json").read_text())
    (left / "status.json").write_text(json.dumps({**status, "state": "running"}))
    return folder


@pytest.fixture(scope="module")
def last(folder):
    """The last row of each run's metrics."""
    metrics = records.read(folder / "results/quick", "tiny").table("metrics")
    return metrics[metrics["epoch"] == metrics.groupby("fingerprint")["epoch"].transform("max")]


def block(heading, language):
    """The first block of code below a heading."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", part, re.DOTALL)


def run(code, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    exec(code.replace("capacity", "tiny"), names)  # noqa: S102 — our own documentation
    return names


def test_pandas_reads_the_runs_that_are_done(folder, last, monkeypatch, capsys):
    by_hand, checked = block("pandas", "python")
    found = run(by_hand, folder, monkeypatch)["last"]
    expected = last.groupby("seed")["train_loss"].median()
    pd.testing.assert_series_equal(found.groupby("seed")["train_loss"].median(), expected)
    assert str(expected.iloc[-1].round(6))[:6] in capsys.readouterr().out
    assert len(run(checked, folder, monkeypatch)["metrics"]) == len(found) * 10  # nine epochs and the one before


def test_duckdb_gives_the_same_medians(folder, last, monkeypatch):
    duckdb = pytest.importorskip("duckdb", reason="pip install duckdb, to run docs/records.md with it")
    monkeypatch.chdir(folder)
    (query,) = block("DuckDB", "sql")
    found = duckdb.sql(query.replace("capacity", "tiny")).fetchall()
    assert dict(found) == pytest.approx(last.groupby("seed")["train_loss"].median().to_dict())


def test_polars_gives_the_same_last_losses(folder, last, monkeypatch):
    pytest.importorskip("polars", reason="pip install polars, to run docs/records.md with it")
    (code,) = block("Polars", "python")
    found = run(code, folder, monkeypatch)["last"]
    assert dict(found.iter_rows()) == pytest.approx(last.set_index("fingerprint")["train_loss"].to_dict())
