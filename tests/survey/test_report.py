"""The report made by several processes at once, from the records of two studies."""

import copy
import shutil
from contextlib import nullcontext

import pytest

import tiny
from commands import alone
from theodolite import execute, survey
from theodolite.errors import RecordCorrupt, StoreError
from theodolite.store import lock, records
from theodolite.survey import report as reporting

SMALL = ["epochs=20", "simulate-function.batch_epochs=20", "simulate-function.points=32"]


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("reporting") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "engine", lambda *_, **__: nullcontext(tiny.Here()))
        prepared = survey.prepare(["simulate-function", "gradient-norm"], "smoke", overrides=SMALL)
        for _ in survey.run(prepared, directory, workers=1):
            pass
    return directory


def test_two_processes_make_the_report_that_one_makes_byte_for_byte(surveyed, tmp_path):
    shutil.copytree(surveyed, tmp_path / "two")
    _, alone = reporting.build(surveyed, processes=1)
    page, findings = reporting.build(tmp_path / "two", processes=2)
    made = sorted(path.relative_to(surveyed) for path in surveyed.rglob("*") if path.is_file())
    assert (
        sorted(path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*") if path.is_file()) == made
    )
    assert len({path.parts[0] for path in made if path.suffix == ".svg" and len(path.parts) > 1}) == 2
    for path in made:
        if path.suffix != ".pdf":  # whose fonts are numbered in a new order each time
            assert (surveyed / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path
    assert page == tmp_path / "two" / "report.html"
    assert [study.verdicts for study in findings] == [study.verdicts for study in alone]


def test_a_report_that_is_to_lie_elsewhere_leaves_the_results_as_they_are(surveyed, tmp_path):
    shutil.copytree(surveyed, tmp_path / "results")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")}
    for processes in (1, 2):
        out = tmp_path / f"out-{processes}"
        page, _ = reporting.build(tmp_path / "results", out=out, processes=processes)
        assert page == out / "report.html"
        assert list(out.glob("gradient-norm/figures/*.svg"))
        assert page.read_bytes() == (surveyed / "report.html").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")} == before
    with pytest.raises(StoreError, match="holds some, whose report would be replaced"):
        reporting.build(surveyed, out=tmp_path / "results")


@pytest.fixture
def in_this_process(monkeypatch):
    """Work is split and put together as for several processes; the test above starts them."""
    monkeypatch.setattr(reporting, "Local", lambda *_, **__: tiny.Here())


def test_a_damaged_record_is_named_whichever_process_reads_it(surveyed, tmp_path, in_this_process):
    shutil.copytree(surveyed, tmp_path / "hurt")
    victim = min((tmp_path / "hurt" / "simulate-function").glob("runs/*/metrics.parquet"))
    victim.write_bytes(victim.read_bytes()[:-7])
    with pytest.raises(RecordCorrupt, match=str(victim)):
        reporting.build(tmp_path / "hurt", processes=2)
    one = reporting.one((tmp_path / "hurt", tmp_path / "hurt", "simulate-function", None))
    sent = copy.copy(one)  # taken apart as between processes
    assert str(victim) in str(sent)


def test_a_folder_without_a_finished_run_says_so(tmp_path, in_this_process):
    records.claim_folder(tmp_path)
    for item in survey.prepare(["simulate-function", "gradient-norm"], "smoke"):
        records.write_plan(tmp_path, item.plan("theodolite run"))
    with pytest.raises(StoreError, match="holds none"):
        reporting.build(tmp_path, processes=2)


def test_a_survey_holds_its_folder_until_its_report_is_made(tmp_path, monkeypatch):
    held, build = [], reporting.build

    def watched(directory, **options):
        held.append(lock.is_held(directory))
        return build(directory, **options)

    monkeypatch.setattr(reporting, "build", watched)
    settings = [part for setting in SMALL for part in ("--set", setting)]
    arguments = ["run", "simulate-function", "gradient-norm", "--preset", "smoke", *settings, "--out", str(tmp_path)]
    assert alone(*arguments).returncode == 0
    assert held == [True]
    assert not lock.is_held(tmp_path)
