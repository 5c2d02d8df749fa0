"""Seeds until the claims are decided: on the tiny study, with its clock and its engine in hand."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from commands import called
from theodolite import studies, survey
from theodolite.claims import Claim, Evidence
from theodolite.errors import SettingError
from theodolite.store import records
from theodolite.store.plan import gone_on
from theodolite.store.remote import workspace
from theodolite.store.schema import Plan, Planned
from tiny import Here, alone, last_loss


def claim(name, side, threshold, evidence=last_loss, kind="median"):
    return Claim(name, "It is.", "beyond", "training loss", kind, side, threshold, evidence)


def number(seed):
    return 1.0 + (seed * 7919 % 13) / 13  # spread evenly, and known without a training


def made(found):
    seeds = sorted(found.done["seed"].unique())
    return Evidence.exact(pd.Series({seed: number(seed) for seed in seeds}))


CLEAR, FALSE, OPEN = (
    claim("clear", "above", 0.5, made),
    claim("false", "below", 0.5, made),
    claim("open", "above", 1.46, made),
)


@pytest.fixture
def study():
    """Gives the tiny study, the only one there is, these claims."""

    def with_claims(*claims):
        studies.INDEX["tiny"] = replace(studies.INDEX["tiny"], claims=claims)

    with alone():
        yield with_claims


def decided(directory, said=None, **options):
    options = {"most": 60, "workers": 1, "say": print if said is None else said.append, **options}
    with workspace.working(directory) as copy:
        for _ in survey.until_decided(survey.prepare(["tiny"], "smoke"), copy, **options):
            pass
    return {v.id: v for v in survey.verdicts(directory)}, records.read_plan(directory, "tiny")


def test_seeds_are_added_until_all_claims_are_decided(tmp_path, study):
    study(CLEAR, FALSE)
    said = []
    verdicts, plan = decided(tmp_path / "results", said)
    assert {name: v.verdict for name, v in verdicts.items()} == {"clear": "holds", "false": "fails"}
    assert plan.until_decided
    assert plan.looks[0] == 2  # as the preset has it
    assert list(plan.looks) == sorted(set(plan.looks))
    assert plan.looks[-1] == plan.settings["seeds"] < 20  # ten numbers on one side decide a median
    assert {v.looks for v in verdicts.values()} == {len(plan.looks)}
    assert said == [f"tiny: all 2 claims are decided, after {plan.looks[-1]} seeds."]
    before = plan.looks
    assert decided(tmp_path / "results")[1].looks == before  # decided: nothing is added


def test_a_claim_that_cannot_be_decided_is_left_and_says_what_could_have_been_seen(tmp_path, study):
    study(CLEAR, OPEN)
    said = []
    verdicts, plan = decided(tmp_path / "results", said, most=24)
    assert (verdicts["clear"].verdict, verdicts["open"].verdict) == ("holds", "undecided")
    assert plan.settings["seeds"] <= 24
    assert "1 of 2 claims decided" in said[-1]
    assert "open (not within 24 seeds; " in said[-1]
    assert "sd = " in said[-1]


def test_a_budget_ends_it_between_two_runs_and_the_same_call_goes_on(tmp_path, study):
    study(CLEAR)
    ticks = iter(range(10_000))
    said = []
    verdicts, _ = decided(tmp_path / "results", said, budget=12.0, clock=lambda: next(ticks))
    assert verdicts["clear"].verdict == "undecided"
    assert "no time left" in said[-1]
    assert decided(tmp_path / "results")[0]["clear"].verdict == "holds"


class Interrupted(Here):
    """As a person pressing Ctrl-C after so many jobs."""

    jobs = 7

    def run(self, work, jobs, **options):
        for event in super().run(work, jobs, **options):
            Interrupted.jobs -= 1
            if not Interrupted.jobs:
                raise KeyboardInterrupt
            yield event


def test_what_was_interrupted_goes_on_to_the_same_verdicts(tmp_path, study, monkeypatch):
    from contextlib import nullcontext

    from theodolite import execute

    study(CLEAR, FALSE)
    calm = execute.engine
    monkeypatch.setattr(execute, "engine", lambda *_, **__: nullcontext(Interrupted()))
    with pytest.raises(KeyboardInterrupt):
        decided(tmp_path / "results")
    monkeypatch.setattr(execute, "engine", calm)
    resumed, plan = decided(tmp_path / "results")
    undisturbed, other = decided(tmp_path / "other")
    assert plan.until_decided
    assert {n: (v.verdict, v.estimate, v.interval) for n, v in resumed.items()} == {
        n: (v.verdict, v.estimate, v.interval) for n, v in undisturbed.items()
    }
    assert plan.settings == other.settings


def test_claims_whose_evidence_raises_hold_nothing_up(tmp_path, study):
    def raising(found):
        raise ZeroDivisionError("no epochs")

    study(CLEAR, claim("bad", "above", 0.0, raising))
    said = []
    verdicts, _ = decided(tmp_path / "results", said)
    assert verdicts["clear"].verdict == "holds"
    assert "ZeroDivisionError: no epochs" in verdicts["bad"].note


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--until-decided", "--budget", "0s"], "a budget above zero"),
        (["--until-decided", "--budget", "soon"], "a time such as 90s, 30min"),
        (["--until-decided", "--max-seeds", "2"], "--max-seeds of 3 or more, got 2"),
        (["--budget", "30min"], "expected --until-decided with --budget"),
    ],
)
def test_bad_bounds_are_refused_before_anything_is_written(tmp_path, options, said):
    done = called("run", "random-labels", "--preset", "smoke", *options, "--out", str(tmp_path / "results"))
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "results").exists()


def test_bounds_are_checked_in_the_library_too(tmp_path, study):
    study(CLEAR)
    for options in ({"budget": 0.0}, {"budget": float("nan")}, {"most": 2}):
        with pytest.raises(SettingError):
            decided(tmp_path / "results", **options)


def run(directory, seeds, **options):
    for _ in survey.run(survey.prepare(["tiny"], "smoke", seeds=seeds), directory, workers=1, **options):
        pass
    (found,) = [v for v in survey.verdicts(directory) if v.id == "clear"]
    return found, records.read_plan(directory, "tiny")


def test_a_survey_extended_by_hand_keeps_what_was_fixed_before_its_first_run(tmp_path, study):
    study(claim("clear", "above", 0.9, made))
    first, plan = run(tmp_path, 3)
    assert (plan.opening, plan.looks, [c.id for c in plan.claims]) == (None, (), ["clear"])
    extended, plan = run(tmp_path, 5)
    assert plan.opening.settings == {"seeds": 3}
    assert (extended.seeds, extended.looks, plan.looks) == (5, 2, (3, 5))
    assert extended.verdict == first.verdict == "undecided"
    again, plan = run(tmp_path, 3)  # back to what was planned: the first look stands as it was
    assert (again.verdict, again.interval, again.p_value) == (first.verdict, first.interval, first.p_value)
    fewer, plan = run(tmp_path, 2)
    assert "Not all planned seeds are there" in fewer.note
    assert plan.opening is not None


def test_a_claim_that_was_changed_since_the_first_run_is_marked(tmp_path, study):
    study(CLEAR, FALSE)
    run(tmp_path, 3)
    study(replace(CLEAR, threshold=0.4), FALSE, OPEN)
    changed, plan = run(tmp_path, 4)
    assert changed.changed
    assert [c.threshold for c in plan.claims] == [0.5, 0.5]  # as they were
    marks = {v.id: v.changed for v in survey.verdicts(tmp_path)}
    assert marks == {"clear": True, "false": False, "open": True}  # one that is new was not fixed beforehand either
    from theodolite.report import page

    shown = page.html(survey.findings(tmp_path))
    assert "changed since the first run" in shown
    assert "2 of them were changed since the first run" in shown


RUNS = tuple(Planned(fingerprint=f"{seed:016x}", seed=seed, labels={}) for seed in range(4))


def test_other_settings_are_another_survey_and_a_plan_before_the_first_run_is_free(tmp_path):
    plan = Plan(study="s", preset="smoke", settings={"seeds": 3, "epochs": 5}, command="", runs=RUNS[:3])
    longer = plan.model_copy(update={"settings": {"seeds": 4, "epochs": 6}, "runs": RUNS, "until_decided": True})
    more = plan.model_copy(update={"settings": {"seeds": 4, "epochs": 5}, "runs": RUNS, "until_decided": True})
    assert gone_on(longer, plan, started=True) == longer
    assert gone_on(more, plan, started=False) == more
    assert gone_on(more, None, started=False) == more
    gone = gone_on(more, plan, started=True)
    assert (gone.until_decided, gone.looks, gone.opening.settings) == (False, (3, 4), {"seeds": 3})


def test_a_plan_of_an_older_version_is_read_and_says_nothing_of_its_claims(tmp_path, study):
    study(CLEAR)
    run(tmp_path, 3)
    path = tmp_path / "tiny" / "plan.json"
    content = json.loads(path.read_text())
    new = {"claims", "until_decided", "opening", "looks", "seal"}
    old = Plan.model_validate({name: value for name, value in content.items() if name not in new})
    path.write_bytes(old.sealed())
    assert survey.verdicts(tmp_path)[0].changed is False
    extended, plan = run(tmp_path, 5)
    assert (plan.claims, plan.looks, extended.looks) == ((), (3, 5), 2)


def test_a_dry_run_says_the_smallest_effect_of_each_claim_in_sd_and_in_its_own_unit(tmp_path, study):
    study(CLEAR)
    (item,) = survey.prepare(["tiny"], "smoke", seeds=10)
    (row,) = survey.smallest_effects(item, tmp_path / "nothing")
    assert (row["seeds"], row["finds"].endswith(" sd")) == (10, True)
    run(tmp_path / "results", 3)
    (row,) = survey.smallest_effects(item, tmp_path / "results")
    effect = float(row["finds"].split(" sd")[0])
    spread = pd.Series([number(seed) for seed in range(3)]).std()
    assert float(row["finds"].partition(" = ")[2]) == pytest.approx(effect * spread, rel=0.01)


def test_a_dry_run_counts_only_the_seeds_that_give_a_claim_a_number(tmp_path):
    def counted(directory, preset, **changes):
        (item,) = survey.prepare(["image-classification"], preset, **changes)
        return {row["claim"]: (row["seeds"], row["finds"]) for row in survey.smallest_effects(item, directory)}

    found = counted(tmp_path, "full")
    assert found["train-loss-below-test"] == (5, "none")  # of five trainings all may be so by chance
    assert (found["cnn-beats-dnn"][0], found["deeper-at-equal-size"][0]) == (5, 10)
    assert counted(tmp_path, "full", seeds=4)["cnn-beats-dnn"][0] <= 4
