"""What the index says of every study before anything runs."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from theodolite import studies, survey


@pytest.mark.parametrize("preset", survey.PRESETS)
def test_a_survey_that_has_not_begun_takes_on_two_cores_what_the_studies_say(preset, tmp_path):
    prepared = survey.prepare([], preset)
    for row in survey.estimate(prepared, tmp_path, workers=2):
        stated = studies.get(row["study"]).seconds
        if preset in stated or preset != "full":  # full is estimated, where its study gives an estimate
            assert row["seconds"] == pytest.approx(stated[preset], abs=0.5)
        assert row["left"] == row["runs"] + row["analyses"]


def test_half_the_seeds_on_half_the_cores_take_about_as_long():
    whole, half = (
        survey.estimate(survey.prepare(["capacity"], "quick", seeds=seeds), Path("nowhere"), workers=workers)[0]
        for seeds, workers in ((8, 2), (4, 1))
    )
    assert half["runs"] == whole["runs"] / 2
    assert half["seconds"] == whole["seconds"]


def test_studies_take_what_a_package_offers_and_nothing_else_of_it():
    """Which packages those are, import-linter holds."""
    taken = {
        (node.module, alias.name)
        for path in Path(studies.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("theodolite.")
        and not node.module.startswith("theodolite.studies")
        for alias in node.names
    }
    offered = {module: getattr(import_module(module), "__all__", None) for module, _ in taken}
    assert {"theodolite.claims", "theodolite.measure.parts", "theodolite.train"} <= {m for m in offered if offered[m]}
    assert not [(module, name) for module, name in taken if offered[module] and name not in offered[module]]
    assert not [(module, name) for module, name in taken if name.startswith("_")]


@pytest.mark.parametrize("name", list(studies.INDEX))
def test_presets_of_a_study_are_of_its_settings_type_and_come_back_from_a_plan(name):
    study = studies.INDEX[name]
    for preset in study.presets.values():
        assert type(preset) is study.settings_type
        assert study.settings_type.model_validate(preset.model_dump(mode="json")) == preset


@pytest.mark.parametrize("name", list(studies.INDEX))
def test_what_older_tables_hold_is_read_as_identifiers_and_reading_twice_changes_nothing(name):
    for texts in studies.INDEX[name].renamed.values():
        assert all(re.fullmatch("[a-z_]+", new) for new in texts.values())
        assert all(texts.get(new, new) == new for new in texts.values())
