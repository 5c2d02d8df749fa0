"""docs/_build/surveys.py: what pages say was found comes out of a results folder, and out of nothing else."""

import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import tiny as survey_of
from theodolite import studies, survey
from theodolite.study import Settings
from theodolite.survey import report

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs/_build"))

import surveys  # noqa: E402


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A results folder with its page, and what was kept of it."""
    folder = tmp_path_factory.mktemp("docs")
    with survey_of.alone():
        survey_of.run(folder / "results")
        report.build(folder / "results")
    surveys.keep(folder / "results", "quick", into=folder / "kept")
    return folder / "results", folder / "kept"


def test_the_verdicts_shown_are_those_of_the_survey(folders):
    results, kept = folders
    claims = json.loads((results / "tiny/claims.json").read_text())
    shown = surveys.found("tiny", kept)
    rows = re.findall(r"^\| `(\S+)` \|.*\| (\S+)(?: \(rough\))? \| \S+ \|$", shown, re.MULTILINE)
    assert rows == [(claim["id"], claim["verdict"]) for claim in claims]


def test_the_picture_of_all_verdicts_is_the_surveys(folders):
    results, kept = folders
    assert (kept / "quick/summary.svg").read_bytes() == (results / "summary.svg").read_bytes()


def test_how_it_was_made_is_what_the_records_say(folders):
    results, kept = folders
    specs = [json.loads(path.read_text()) for path in (results / "tiny").glob("*/*/spec.json")]
    made = json.loads((kept / "quick/survey.json").read_text())["tiny"]
    assert made["runs"] == len(specs)
    assert made["torch"] == sorted({spec["versions"]["torch"] for spec in specs})
    assert made["processor"] == sorted({spec["processor"] for spec in specs})


def test_every_table_is_shown_as_the_survey_wrote_it(folders):
    results, kept = folders
    tables = list((results / "tiny/tables").glob("*.md"))
    assert tables
    assert all(table.read_text().strip() in surveys.found("tiny", kept) for table in tables)


def test_an_estimate_in_a_sentence_is_the_claims_own_and_a_claim_that_is_not_there_stops_the_build(folders):
    results, kept = folders
    claim = json.loads((results / "tiny/claims.json").read_text())[0]
    written = surveys.estimate(f"quick/tiny/{claim['id']}", kept).replace("−", "-")
    assert float(re.match(r"[-\d.e]+", written)[0]) == pytest.approx(claim["estimate"], rel=0.05)
    with pytest.raises(KeyError, match="no-such-claim"):
        surveys.estimate("quick/tiny/no-such-claim", kept)


def test_a_cell_in_a_sentence_is_that_of_the_table_and_one_that_is_not_there_stops_the_build(tmp_path):
    tables = tmp_path / "quick/made/tables"
    tables.mkdir(parents=True)
    (tables / "ends.md").write_text("| at | of | loss |\n| --- | --- | ---: |\n| a | x | 1.0 |\n| a | y | 2.0 |\n")
    assert surveys.cell("quick/made/ends | a + y | loss", tmp_path) == "2.0"
    for argument in ("quick/made/ends | a | loss", "quick/made/ends | b | loss", "quick/made/ends | a + y | gain"):
        with pytest.raises(KeyError, match="expected one row"):
            surveys.cell(argument, tmp_path)


SETTING = re.compile(r"Figure \d+|PCA 1|Chao1|batch(?: size)? \d+")  # names and settings


@pytest.mark.parametrize("page", sorted((ROOT / "docs/studies").glob("*.md")), ids=lambda page: page.stem)
def test_what_a_page_says_was_found_holds_no_number_typed_by_hand(page):
    found = page.read_text().partition("## What we found\n")[2].partition("\n## ")[0]
    assert f"{{{{ found {page.stem} }}}}" in found
    typed = SETTING.sub("", re.sub(r"\{\{.*?\}\}", "", found))
    assert re.findall(r".*\d.*", typed.replace("(−1)^index", "")) == []
    for kind, argument in re.findall(r"\{\{ (estimate|cell) ([^{}]+) \}\}", found):
        assert getattr(surveys, kind)(argument)


def test_a_study_that_was_kept_again_replaces_its_own_and_leaves_the_others(folders):
    results, kept = folders
    stored = kept / "quick/survey.json"
    stored.write_text(json.dumps(json.loads(stored.read_text()) | {"another": {"runs": 1}}))
    surveys.keep(results, "quick", into=kept)
    assert set(json.loads(stored.read_text())) == {"another", "tiny"}


@pytest.fixture
def surer(tmp_path):
    """A results folder whose one claim holds, after Holm's correction too, in an index with another study."""
    folder = tmp_path / "results"
    study = replace(survey_of.STUDY, presets=dict.fromkeys(survey.PRESETS, Settings(seeds=4)))
    with survey_of.alone(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "INDEX", {"tiny": study, "other": replace(study, name="other", title="Another study")})
        survey_of.run(folder)
        report.build(folder)
        (claim,) = json.loads((folder / "tiny/claims.json").read_text())
        assert (claim["verdict"], claim["verdict_holm"]) == ("holds", "holds")
        yield folder, claim


def store(kept, claims):
    for study in {claim["study"] for claim in claims}:
        (kept / "quick" / study).mkdir(parents=True)
        of_it = [claim for claim in claims if claim["study"] == study]
        (kept / "quick" / study / "claims.json").write_text(json.dumps(of_it))


@pytest.mark.parametrize("others", ["undecided", "holds"])
def test_holms_correction_is_over_stored_studies_that_are_not_in_the_folder_too(surer, tmp_path, others):
    (folder, claim), kept = surer, tmp_path / "kept"
    many = 4 * math.ceil(0.05 / claim["p_value"])
    stored = [claim | {"study": "other", "id": f"{i}", "verdict_holm": others} for i in range(many)]
    store(kept, [claim, *stored] if others == "holds" else [claim | {"verdict_holm": "undecided"}, *stored])
    surveys.keep(folder, "quick", into=kept)
    (again,) = json.loads((kept / "quick/tiny/claims.json").read_text())
    if others == "holds":  # the one claim that is left to test
        assert again == claim
    else:
        assert again["verdict_holm"] == "undecided"
        assert again | {"verdict_holm": "holds", "finding": claim["finding"]} == claim
    assert json.loads((kept / "quick/other/claims.json").read_text()) == stored
    picture = (kept / "quick/summary.svg").read_text()
    assert "A tiny study" in picture
    assert "Another study" in picture


def test_a_stored_study_that_is_replaced_may_not_take_away_what_let_others_survive(surer, tmp_path):
    folder, claim = surer
    store(tmp_path / "kept", [claim, claim | {"id": "gone"}, claim | {"study": "other"}])
    with pytest.raises(ValueError, match=r"lost: \['gone'\]"):
        surveys.keep(folder, "quick", into=tmp_path / "kept")


def test_every_claim_of_a_stored_survey_has_as_many_seeds_as_its_study_plans_for_it():
    for path in surveys.KEPT.glob("*/*/claims.json"):
        (item,) = survey.prepare([path.parent.name], path.parents[1].name)
        planned = {row["claim"]: row["seeds"] for row in survey.smallest_effects(item, path.parent)}
        assert {claim["id"]: claim["seeds"] for claim in json.loads(path.read_text())} == planned, path


def test_every_claim_of_a_stored_survey_is_one_that_its_study_still_makes():
    for path in surveys.KEPT.glob("*/*/claims.json"):
        ids = {claim["claim"] for claim in studies.details(studies.get(path.parent.name))["claims"]}
        assert {claim["id"] for claim in json.loads(path.read_text())} <= ids, path


@pytest.mark.parametrize("study", studies.INDEX)
def test_the_page_of_every_study_shows_one_of_its_figures(study):
    asked = re.findall(r"^\{\{ picture (\S+) \}\}$", (ROOT / f"docs/studies/{study}.md").read_text(), re.MULTILINE)
    assert asked == [study]
    ((said, file),) = re.findall(r"!\[(.+?)\]\((.+?)\)", surveys.picture(study))
    assert len(said) > 20  # for whoever does not see it
    assert (ROOT / "docs/studies" / file).read_bytes().startswith(b"<svg")
