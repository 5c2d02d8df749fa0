"""Surveys with made numbers: the study's own design, recorded as a real survey records it."""

import re

import pytest

from theodolite.claims import judge
from theodolite.store import records
from theodolite.store.records import Plan, Planned


@pytest.fixture
def made_survey(tmp_path):
    """``made_survey(study, settings, tables)``: records whose tables ``tables(spec)`` makes; None: not done yet."""

    def make(study, settings, tables):
        specs = list(study.expand(settings))
        records.claim_folder(tmp_path / "results")
        for spec in specs:
            made = tables(spec)
            if made is not None:
                records.write(tmp_path / "results", spec, tables=made, environment={"wall_seconds": 1.0})
        plan = Plan(
            study=study.name,
            preset="quick",
            settings=settings.model_dump(mode="json"),
            command="",
            runs=tuple(Planned.of(spec) for spec in specs),
        )
        records.write_plan(tmp_path / "results", plan)
        return study.records(tmp_path / "results", plan)

    return make


@pytest.fixture
def verdicts():
    """``verdicts(study, records)``: what becomes of each claim, by its id."""

    def judged(study, found):
        return {c.id: judge(c, found, study=study.name, preset="quick").verdict.verdict for c in study.claims}

    return judged


@pytest.fixture
def words_in():
    """``words_in(tables)``: the columns and texts of tables that are no identifiers; files that people read aside."""

    def found(tables):
        tables = {name: table for name, table in tables.items() if not name.endswith(".csv")}
        texts = {str(column) for table in tables.values() for column in table.columns}
        for table in tables.values():
            for column in table.select_dtypes(["object", "str", "category"]):
                texts |= set(table[column].dropna())
        return {text for text in texts if not re.fullmatch("[a-z0-9_-]*", text)}

    return found
