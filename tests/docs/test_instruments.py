"""Every page of an instrument works with the files that are shown on it, from the shell and in Python."""

import re
import sys
from pathlib import Path

import pytest

import theodolite as th
from commands import called
from pasted import ROOT, page, steps

sys.path.insert(0, str(ROOT / "docs/_build"))

import pages

PAGES = sorted((ROOT / "docs/instruments").glob("*.md"))
BY_NAME = {path.stem: path for path in PAGES}


def made(path: Path) -> str:
    """A page as the site has it."""
    return pages.on_page_markdown(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [name for name in BY_NAME if name != "align"])
def test_what_a_page_shows_works(name, tmp_path, capsys):
    markdown = made(BY_NAME[name])
    session = page(markdown, tmp_path)
    assert capsys.readouterr().out.strip()  # it printed its result
    shown = re.search(r"\| shell \| `theodolite (.*)` \|", markdown)
    if shown is None:
        assert name == "edge-of-stability"  # which takes an optimizer
        return
    done = called(*shown[1].split(), "--out", "there.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = th.measure.load(tmp_path / "there.safetensors")
    if name == "gradient-norm":
        given = session["model"], session["loss"], session["data"]
        assert result.value == pytest.approx(th.measure.gradient_norm(*given).value)


def test_every_alignment_that_is_shown_computes_what_it_did(tmp_path):
    found = [
        session["matched"].check_error for session in steps(made(BY_NAME["align"]), tmp_path) if "matched" in session
    ]
    assert len(found) == 5
    assert max(found) < 1e-12


def test_every_instrument_has_such_a_page():
    assert {name.replace("-", "_") for name in BY_NAME} == set(th.measure.catalogue.INSTRUMENTS)


def test_the_critical_points_of_the_example_are_certified(tmp_path):
    session = page(made(BY_NAME["find-critical-points"]), tmp_path)
    assert len(session["found"].certified()) > 0
