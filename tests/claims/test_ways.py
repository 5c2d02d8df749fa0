"""Looks at a survey that goes on: by simulation, and worked out by hand."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from theodolite.claims import Claim, Evidence, Looks, judge
from theodolite.claims.going_on import outlook, seeds_to_decide
from theodolite.claims.ways import EveryLook, Once
from theodolite.errors import RecordCorrupt


def made_claim(kind, threshold=0.0, side="above", evidence=lambda records: records.evidence):
    return Claim("made", "A sentence.", "beyond", "a number", kind, side, threshold, evidence)


def seen(*tasks):
    return {str(i): Evidence.exact(pd.Series(values)) for i, values in enumerate(tasks)}


def records(values):
    runs = pd.DataFrame({"seed": range(len(values)), "status": "done"})
    return SimpleNamespace(runs=runs, evidence=Evidence.exact(pd.Series(values)))


SEQUENCES, SEEDS = 400, 200
MADE = {
    ("mean", "normal"): (lambda g, s: g.normal(size=s), 0.0, 0.055),
    ("mean", "exponential"): (lambda g, s: g.exponential(size=s), 1.0, 0.07),
    ("mean", "lognormal(1)"): (lambda g, s: g.lognormal(size=s), math.exp(0.5), 0.07),
    ("mean", "two groups"): (lambda g, s: 6.0 * (g.random(s) < 0.2) + g.normal(size=s), 1.2, 0.07),
    ("median", "normal"): (lambda g, s: g.normal(size=s), 0.0, 0.055),
    ("share", "0 or 1"): (lambda g, s: (g.random(s) < 0.5) * 1.0, 0.5, 0.07),
}


@pytest.mark.parametrize("case", MADE)
def test_a_survey_planned_with_8_seeds_and_extended_by_hand_as_often_as_one_likes_holds_its_error(case):
    draw, truth, most = MADE[case]
    sequences = draw(np.random.default_rng([5, *case[1].encode()]), (SEQUENCES, SEEDS))
    claim = made_claim(case[0], truth)
    # A decision once reached stands, so that the last look counts all before.
    wrong = [EveryLook(claim, seen(v), seen(v[:8])).decide(0.05) != "undecided" for v in sequences]
    assert np.mean(wrong) <= most + 2 * math.sqrt(most * (1 - most) / SEQUENCES)


@pytest.mark.parametrize(("effect", "seeds", "power"), [(1.0, 40, 0.9), (0.5, 100, 0.8)])
def test_effects_are_found_in_a_survey_that_had_its_first_look_at_8_seeds(effect, seeds, power):
    sequences = np.random.default_rng(9).normal(effect, 1.0, (400, seeds))
    held = [EveryLook(made_claim("mean"), seen(v), seen(v[:8])).decide(0.05) == "holds" for v in sequences]
    assert np.mean(held) >= power - 0.02


def test_a_look_after_every_seed_says_what_the_last_one_says():
    values = np.random.default_rng(2).normal(0.7, 1.0, 60)
    claim = made_claim("mean")
    looks = [EveryLook(claim, seen(values[:n]), seen(values[:8])).decide(0.05) for n in range(8, 61)]
    turned = [a for a, b in itertools.pairwise(looks) if a != b]
    assert looks[-1] == "holds"
    assert turned == ["undecided"]  # once, and never back


def test_the_first_look_is_the_one_of_a_survey_that_ends_there():
    values = np.random.default_rng(3).normal(3.0, 1.0, 8)
    later = EveryLook(made_claim("mean"), seen([*values, *[-9.0] * 4]), seen(values))
    assert later.decide(0.05) == Once(made_claim("mean"), seen(values)).decide(0.05) == "holds"


def test_several_tasks_hold_when_the_last_of_them_does_and_fail_with_the_first():
    up, down = np.full((2, 40), [[1.0], [-1.0]]) + 0.3 * np.random.default_rng(4).normal(size=(2, 40))
    for tasks, decision in (((up, up + 1), "holds"), ((up, down), "fails"), ((up, up[:9]), "undecided")):
        assert EveryLook(made_claim("mean"), seen(*tasks), until_decided=True).decide(0.05) == decision


def test_what_is_known_only_within_bounds_counts_at_its_worst():
    low = pd.Series([10.0 + 0.1 * i for i in range(30)])
    claim = made_claim("median", 5.0)
    open_above = EveryLook(claim, {"": Evidence(low, low + math.inf)}, until_decided=True)
    assert open_above.decide(0.05) == "holds"  # they are above, however far
    assert EveryLook(made_claim("mean", 5.0), {"": Evidence(low, low + math.inf)}, until_decided=True).decide(
        0.05
    ) == EveryLook(made_claim("mean", 5.0), {"": Evidence.exact(low)}, until_decided=True).decide(0.05)
    unknown = Evidence(low.where(low.index != 3), low.where(low.index != 3))
    assert EveryLook(made_claim("mean", 5.0), {"": unknown}, until_decided=True).decide(0.05) == "undecided"


def test_verdicts_say_how_often_and_after_how_many_seeds_was_looked():
    values = np.random.default_rng(3).normal(0.1, 1.0, 20)
    looks = Looks(records(values[:8]), seeds=(8, 12, 20))
    found = judge(made_claim("mean"), records(values), study="s", preset="quick", looks=looks).verdict
    assert found.looks == 3
    assert (
        "Planned with 8 seeds: tested on these, and at every look since, so far after 8, 12 and 20 seeds." in found.note
    )
    alone = judge(made_claim("mean"), records(values[:8]), study="s", preset="quick").verdict
    low, high = alone.interval
    assert low <= found.interval[0] < found.interval[1] <= high  # what the first look has ruled out stays so


def test_a_folder_without_all_planned_seeds_has_had_no_first_look():
    values = [5.0, 5.1, 4.9, 5.2]
    found = judge(made_claim("mean"), records(values), study="s", preset="quick", looks=Looks(None)).verdict
    assert found.verdict == "undecided"
    assert "Not all planned seeds are there" in found.note


@pytest.mark.parametrize(("kind", "threshold"), [("mean", 0.0), ("median", 0.0), ("share", 0.6)])
def test_seeds_that_are_named_after_a_look_decide_with_a_chance_of_80_per_cent(kind, threshold):
    generator = np.random.default_rng(6)
    first = (np.arange(20) < 16) * 1.0 if kind == "share" else 0.9 + np.quantile(
        generator.normal(size=100_000), (np.arange(20) + 0.5) / 20
    )  # fmt: skip
    first = generator.permutation(first)
    claim = made_claim(kind, threshold)
    needed = seeds_to_decide(claim, seen(first)["0"], 0.005)
    shape = (200, needed - 20)
    later = (generator.random(shape) < 0.8) * 1.0 if kind == "share" else generator.normal(0.9, 1.0, shape)
    held = [EveryLook(claim, seen([*first, *v]), until_decided=True).decide(0.005) == "holds" for v in later]
    assert 0.68 <= np.mean(held) <= 0.92


def test_the_outlook_of_few_seeds_is_open_and_that_of_many_on_the_threshold_is_not():
    values = np.random.default_rng(7).normal(size=90)
    values -= values.mean()
    assert np.mean(outlook(made_claim("mean"), seen(values), 0.05, 100) <= 100) < 0.05
    assert np.mean(outlook(made_claim("mean", -0.2), seen(values[:8]), 0.05, 100) <= 100) > 0.1
    assert len(outlook(made_claim("mean"), seen([1.0, 2.0]), 0.05, 100)) == 0


def raising(found):
    raise KeyError("loss of layer 3")


def corrupt(found):
    raise RecordCorrupt("a file is cut")


@pytest.mark.parametrize(
    ("kind", "evidence", "said"),
    [
        ("mean", raising, "KeyError: 'loss of layer 3'"),
        ("mean", lambda found: "0.5", "expected Evidence, or a dict of it by task, got str"),
        ("mean", lambda found: {}, "at least one task"),
        ("mean", lambda found: Evidence.exact(pd.Series(range(9))), "one number a seed, got 9 of 5 seeds"),
        ("mean", lambda found: Evidence.exact(pd.Series([1.0, 2.0], index=[0, 0])), "repeated seeds"),
        ("mean", lambda found: Evidence(pd.Series([1.0]), pd.Series([2.0], index=[7])), "other or repeated seeds"),
        ("correlation", lambda found: Evidence.exact(pd.Series([0.5, 3.0, 0.1])), "between -1.0 and 1.0"),
        ("mean", lambda found: Evidence.exact(pd.Series(["a", "b", "c"])), "could not convert"),
        ("mean", lambda found: Evidence.exact(pd.Series([1j, 2.0])), "expected real numbers, got complex ones"),
    ],
)
def test_evidence_that_cannot_be_used_leaves_its_claim_undecided_and_says_why(kind, evidence, said):
    found = judge(made_claim(kind, evidence=evidence), records([1.0] * 5), study="s", preset="quick")
    assert (found.verdict.verdict, found.p_value) == ("undecided", 1.0)
    assert said in found.verdict.note
    assert "no run is lost" in found.verdict.note


def test_infinite_numbers_are_counted_and_a_file_that_is_cut_is_not_taken_for_bad_evidence():
    found = judge(made_claim("mean"), records([1.0, math.inf, 2.0]), study="s", preset="quick").verdict
    assert found.verdict == "undecided"
    assert "1 of 3 seeds gave an infinite number" in found.note
    with pytest.raises(RecordCorrupt):
        judge(made_claim("mean", evidence=corrupt), records([1.0] * 5), study="s", preset="quick")
