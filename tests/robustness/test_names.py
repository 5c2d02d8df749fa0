"""Names as people give them, and texts that others wrote: taken as they are, obeyed by no terminal or spreadsheet."""

import os

import pandas as pd
import pytest

import tiny as survey_of
from commands import called
from theodolite.serve.folder import Folder
from theodolite.store import records, tables
from theodolite.store.records import Plan
from theodolite.wording import shown

NAMES = [
    "[/b] [red]x[1]?*", "two words\nand a line", "50 % %s {0} $HOME", "😀 :smile: é", b"\xff\xfe", "=1+1",
    "a\x1b]0;x\x07", "-x", "x" * 255, "C:", "\u202egnp",
]  # fmt: skip
HOSTILE = "[/b]\x1b]0;title\x07\x9b31m"


def clean(text: str) -> bool:
    """Whether a terminal shows a text and does nothing else."""
    return shown(text) == text and text.isprintable()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_results_folder_of_any_name_is_written_read_and_shown(name, tiny, whole, tmp_path):
    place = os.fsdecode(name)
    directory = tmp_path / place
    said = [called("run", "tiny", "--preset", "smoke", f"--out={place}", cwd=tmp_path)]
    (tmp_path / "link").symlink_to(directory)
    said += [called(word, place if place[0] != "-" else f"./{place}", cwd=tmp_path) for word in ("status", "claims")]
    said += [called("report", "link", cwd=tmp_path)]
    said += [called("run", "tiny", "--preset", "smoke", f"--out={place}", "--dry-run", cwd=tmp_path)]
    assert [done.returncode for done in said] == [0] * 5, [done.stderr for done in said]
    assert all(clean(line) for done in said for line in f"{done.stdout}{done.stderr}".splitlines())
    assert survey_of.seen(directory) == whole[1]
    assert [part.study.name for part in Folder(directory).look().parts] == ["tiny"]
    assert records.read_plan(directory, "tiny").command.startswith("theodolite run tiny")


def test_a_name_that_is_no_results_folder_is_said_in_text_that_a_terminal_only_shows(tmp_path):
    for name in NAMES:
        done = called("status", f"./{os.fsdecode(name)}", cwd=tmp_path)
        assert done.returncode == 2
        assert all(map(clean, done.stderr.splitlines()))


def test_texts_of_a_record_are_shown_by_every_command_and_obeyed_by_none(tiny, tmp_path):
    directory = tmp_path / "results"
    survey_of.run(directory)
    plan = records.read_plan(directory, "tiny")
    records.write_plan(directory, plan.model_copy(update={"preset": HOSTILE, "command": HOSTILE}))
    spec = next(survey_of.expand(survey_of.STUDY.presets["smoke"]))
    records.write_failure(directory, spec, HOSTILE)
    assert records.read_status(records.folder_of(directory, spec)).error == shown(HOSTILE)
    for word in ("status", "claims", "report"):
        done = called(word, str(directory))
        assert done.returncode == 0, done.stderr
        assert all(map(clean, f"{done.stdout}{done.stderr}".splitlines()))
    for path in (directory / "report.html", directory / "report.md"):
        assert "\x1b" not in path.read_text()


def test_a_failure_in_words_of_another_encoding_is_kept(tiny, tmp_path):
    spec = next(survey_of.expand(survey_of.STUDY.presets["smoke"]))
    records.claim_folder(tmp_path / "r")
    records.write_failure(tmp_path / "r", spec, "no file caf\udce9")
    assert records.read_status(records.folder_of(tmp_path / "r", spec)).error == r"no file caf\udce9"


def test_text_that_a_spreadsheet_would_run_begins_with_a_quote_and_numbers_stay_numbers():
    frame = pd.DataFrame(
        {"=name": ["=cmd|' /C calc'!A0", "-1+1", "@SUM(A1)", "plain", None], "value": [-1.5, 2, 3, 4, 5]}
    )
    frame["model"] = pd.Categorical(["+x", "\tx", "a=b", "＝x", "-"])
    assert tables.to_csv(frame).decode() == (
        "'=name,value,model\n'=cmd|' /C calc'!A0,-1.5,'+x\n'-1+1,2.0,'\tx\n'@SUM(A1),3.0,a=b\nplain,4.0,'＝x\n,5.0,'-\n"
    )


def test_the_plan_of_a_survey_holds_no_password(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path))
    done = called("run", "tiny", "--preset", "smoke", "--out", "r", "--data-dir", "s3://me:SECRET@host/x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plan: Plan = records.read_plan(tmp_path / "r", "tiny")
    assert "SECRET" not in plan.command
