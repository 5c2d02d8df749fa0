"""docs/your-own-claims.md: each block as it stands there, run as a reader would."""

import re
from pathlib import Path

import pytest

from commands import called
from theodolite import survey
from theodolite.store import records

PAGE = (Path(__file__).parents[2] / "docs/your-own-claims.md").read_text()


def block(heading: str) -> str:
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", part, re.DOTALL)[0]


def test_numbers_that_one_has(capsys):
    exec(block("Numbers that you have"), {})  # noqa: S102 — our own documentation
    assert re.search(r"verdict +holds", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("heading", "name", "claims"),
    [
        ("A function of a seed that returns numbers", "forest", {"more-is-better", "good"}),
        ("One that returns a trained network", "weight-decay", {"flatter", "smaller"}),
        ("Networks that our engine trains", "widths", {"wider-is-better"}),
    ],
)
def test_a_study_in_a_file(write, run, tmp_path, heading, name, claims):
    path = write("", head=block(heading))
    done = run(path, "--preset", "smoke")
    assert done.returncode == 0, done.stderr
    path.unlink()
    found = {verdict.id: verdict for verdict in survey.verdicts(tmp_path / "r")}
    assert set(found) == claims
    assert {verdict.seeds for verdict in found.values()} == {3}
    assert all(verdict.estimate is not None for verdict in found.values())
    assert called("report", str(tmp_path / "r")).returncode == 0
    assert (tmp_path / "r" / name / "tables/numbers.csv").exists()


def test_a_whole_study_asks_where_its_code_has_changed_and_is_set_as_ours(write, run, tmp_path):
    code = block("Networks that our engine trains")
    few = ("--preset", "smoke", "--set", "epochs=20")
    assert run(write("", head=code), *few, "--seeds", "1").returncode == 0
    changed = write("", head=code.replace(".abs().max()", ".abs().min()"))
    assert "has changed since 2 runs finished" in " ".join(run(changed, *few, "--seeds", "2").stderr.split())
    kept = run(changed, *few, "--seeds", "2", "--keep")
    assert kept.returncode == 0, kept.stderr
    assert len(records.read(tmp_path / "r", "widths").done) == 4
    assert records.read(tmp_path / "r", "widths").plan.settings["epochs"] == 20
