"""What depends on the machine is settled before the plan, and stays as the plan of a folder has it."""

import pytest

from theodolite import machine, studies, survey
from theodolite.store import records
from theodolite.store.schema import Plan
from theodolite.survey.prepared import as_planned, outdated

NAME = "image-classification"


def at(monkeypatch, *, bfloat16):
    monkeypatch.setattr(machine, "has_bfloat16", lambda: bfloat16)


def names(prepared):
    return [spec.fingerprint() for item in prepared for spec in item.runs]


@pytest.mark.parametrize("study", studies.INDEX.values(), ids=lambda study: study.name)
def test_expanding_a_study_asks_nothing_of_the_machine(study, monkeypatch):
    found = []
    for answer in (False, True):
        for name, value in vars(machine).items():
            if callable(value) and getattr(value, "__module__", "") == machine.__name__:
                monkeypatch.setattr(machine, name, lambda answer=answer: answer)
        settings = study.presets["smoke"]
        found.append([spec.fingerprint() for make in (study.expand, study.analyses) for spec in make(settings)])
    assert found[0] == found[1]


def test_the_same_command_on_another_processor_finds_the_same_runs(tmp_path, monkeypatch):
    at(monkeypatch, bfloat16=True)
    first = survey.prepare([NAME], "smoke")
    assert first[0].plan("").settings["precision"] == "bfloat16"
    records.claim_folder(tmp_path)
    records.write_plan(tmp_path, first[0].plan(""))
    at(monkeypatch, bfloat16=False)
    other, said = survey.prepare([NAME], "smoke"), []
    assert names(other) != names(first)
    assert names(as_planned(other, tmp_path, said.append)) == names(first)
    assert len(said) == 1
    assert "precision=bfloat16 (this machine would take float32)" in said[0]


def test_what_the_user_has_said_is_stronger_than_an_earlier_plan(tmp_path, monkeypatch):
    at(monkeypatch, bfloat16=True)
    records.claim_folder(tmp_path)
    records.write_plan(tmp_path, survey.prepare([NAME], "smoke")[0].plan(""))
    asked, said = survey.prepare([NAME], "smoke", overrides=["precision=float32"]), []
    assert names(as_planned(asked, tmp_path, said.append)) == names(asked)
    assert said == []


def test_a_folder_of_an_earlier_format_is_named_and_its_runs_are_others(tmp_path):
    (item,) = survey.prepare([NAME], "smoke")
    plan = item.plan("")
    records.claim_folder(tmp_path)
    assert outdated([item], tmp_path) == ""
    records.write_plan(tmp_path, plan)
    assert plan.format == 2
    assert outdated([item], tmp_path) == ""
    before = Plan.model_validate(plan.model_dump(exclude={"format"}))  # as the first format wrote it
    assert b'"seal"' in before.sealed()
    records.write_plan(tmp_path, before)
    found = records.read_plan(tmp_path, NAME)
    assert (found, found.format) == (before, 1)
    assert outdated([item], tmp_path).startswith(f"{NAME}: an earlier version trained what this folder holds")


def test_a_plan_that_leaves_it_to_the_machine_or_none_at_all_settles_nothing(tmp_path, monkeypatch):
    at(monkeypatch, bfloat16=True)
    (item,) = survey.prepare([NAME], "smoke")
    assert as_planned([item], tmp_path) == [item]
    plan = item.plan("")
    records.claim_folder(tmp_path)
    records.write_plan(tmp_path, plan.model_copy(update={"settings": {**plan.settings, "precision": "auto"}}))
    assert as_planned([item], tmp_path) == [item]
