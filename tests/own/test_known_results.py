"""examples/known_results: each file short, of public names alone, run small; and the page's table is of these files."""

import ast
import json
import re
from pathlib import Path

import pytest

import theodolite as th
from theodolite import survey
from theodolite.store import records

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "examples/known_results").glob("*.py"))
KEPT = json.loads((ROOT / "docs/known-results.json").read_text())
SMALL = {  # settings with which a run takes a fraction of a second
    "catapult": ["width=32", "steps=20"],
    "deep_linear": [],
    "edge_of_stability": ["steps=20"],
    "gradient_subspace": ["epochs=6"],
    "grokking": ["modulus=5", "steps=300"],
    "lazy_training": ["width=[16,32]"],
    "linear_connectivity": ["source=digits", "steps=20"],
    "low_frequencies_first": ["frequency=[4,5]", "width=256"],
    "neural_collapse": ["epochs=6"],
    "winning_tickets": ["source=digits", "steps=10"],
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_short_says_its_source_and_has_public_names_alone(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    tree = ast.parse(text)
    assert re.search(r"Published: .+\s(19|20)\d\d", ast.get_docstring(tree), re.DOTALL)
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "theodolite" not in {str(getattr(node, "module", "")).partition(".")[0] for node in imported}
    named = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    ours = [n.attr for n in named if isinstance(n.value, ast.Name) and n.value.id == "th"]
    assert ours
    assert set(ours) <= set(th.__all__)
    deeper = [n for n in named if isinstance(n.value, ast.Attribute) and n.value.attr in ours]
    assert all(n.attr in getattr(th, n.value.attr).__all__ for n in deeper)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_runs_small(run, tmp_path, path):
    settings = [part for setting in SMALL[path.stem] for part in ("--set", setting)]
    done = run(path, "--seeds", "2", *settings)
    assert done.returncode == 0, done.stderr + done.stdout
    (name,) = {verdict.study for verdict in survey.verdicts(tmp_path / "r")}
    found = records.read(tmp_path / "r", name)
    assert len(found.done) == len(found.runs) > 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_the_page_shows_is_of_the_claims_as_the_file_states_them(path):
    (item,) = survey.prepare([str(path)], "quick")
    stated = {one.id: (one.sentence, one.side, one.threshold, one.statistic) for one in item.study.claims}
    shown = {
        one["id"]: (
            one["sentence"],
            one["claimed"].partition(" ")[0].replace("between", "within"),
            tuple(one["threshold"]) if isinstance(one["threshold"], list) else one["threshold"],
            one["statistic"],
        )
        for one in KEPT[path.name]["claims"]
    }
    assert shown == stated
    assert not any(one["changed"] for one in KEPT[path.name]["claims"])


def test_the_page_shows_every_file():
    page = (ROOT / "docs/known-results.md").read_text()
    assert {path.name for path in FILES} == set(KEPT) == set(re.findall(r"\{\{ known (\S+) \}\}", page))
