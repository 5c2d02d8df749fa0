"""The first screen: rules that docs/report.md writes down, on made verdicts."""

import math

import pytest

from made_verdicts import made_verdict
from theodolite.report import forest, overview


def named(name, decision, **changes):
    return made_verdict(id=name, verdict=decision, verdict_holm=decision, **changes)


def test_counts_are_those_after_the_correction_and_the_report_is_apart_from_what_goes_beyond_it():
    given = [
        named("a", "holds", source="report, Figure 1"),
        made_verdict(id="b", source="report, Table 1", verdict="fails", verdict_holm="undecided"),
        named("c", "fails", source="beyond"),
    ]
    report, beyond = overview.tallies(given)
    assert (report.counts, report.total) == ({"holds": 1, "fails": 0, "undecided": 1}, 2)
    assert (beyond.counts, beyond.total) == ({"holds": 0, "fails": 1, "undecided": 0}, 1)
    assert overview.tally(given) == (
        "The report’s claims: 2, of which 1 holds, 0 fail, 1 is undecided; "
        "Ours, beyond the report: 1, of which 0 hold, 1 fails, 0 are undecided (after Holm's correction over all 3)."
    )
    (alone,) = overview.tallies(given[2:])
    assert alone.name == "Claims"


def test_the_cards_are_the_surest_of_either_kind_and_the_most_open_of_the_reports_own():
    given = [
        named("late", "holds", source="report", p_value=1e-3),
        named("near", "holds", source="report", p_value=1e-12, estimate=0.45, interval=(0.42, 0.48)),  # 2/6 away
        named("far", "holds", source="report", p_value=1e-12, estimate=0.2, interval=(0.19, 0.21)),  # 29/2 away
        named("rough", "holds", source="report", p_value=1e-12, estimate=0.01, interval=(0.009, 0.011), rough=True),
        named("ours", "holds", source="beyond", p_value=1e-12, estimate=0.1, interval=(0.099, 0.101)),
        named("our own failure", "fails", source="beyond", p_value=1e-4, estimate=0.7, interval=(0.6, 0.8)),
        named("leaning", "undecided", source="report", p_value=0.2, estimate=0.4, interval=(0.1, 0.7)),
        named("open", "undecided", source="report", p_value=0.9, estimate=0.49, interval=(0.2, 0.8)),
        named("nothing", "undecided", source="report", p_value=1.0, estimate=None, interval=(None, None)),
    ]
    assert [(card.kind, card.verdict.id) for card in overview.cards(given)] == [
        ("Surest hold", "far"),
        ("Most surprising failure", "our own failure"),  # the report has none
        ("Most open question", "open"),
    ]
    assert overview.cards([]) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"claimed": "above 10", "threshold": 10.0, "estimate": 13.0, "interval": (12.0, 14.0)}, (2, 3, 4)),
        ({"claimed": "below 10", "threshold": 10.0, "estimate": 13.0, "interval": (12.0, 14.0)}, (-4, -3, -2)),
        # in a margin from 0.5 to 2, on the logarithm: from the nearer limit
        (
            {"claimed": "between 0.5 and 2", "threshold": (0.5, 2.0), "estimate": 1.0, "interval": (0.8, 1.6),
             "kind": "ratio"},
            (math.log(2 / 1.6), math.log(2), math.log(2)),
        ),
        (
            {"claimed": "between 0.5 and 2", "threshold": (0.5, 2.0), "estimate": 4.0, "interval": (3.0, 8.0),
             "kind": "ratio"},
            (-math.log(4), -math.log(2), -math.log(1.5)),
        ),
        ({"claimed": "above 1", "threshold": 1.0, "estimate": 2.0, "interval": (0.0, None), "kind": "ratio"},
         (-math.inf, math.log(2), math.inf)),
    ],
)  # fmt: skip
def test_distances_from_the_threshold_are_positive_on_the_claimed_side(changes, expected):
    assert forest.distances(made_verdict(**changes)) == pytest.approx(expected)


def test_a_row_has_its_threshold_in_the_middle_its_farthest_end_at_the_rim_and_open_ends_at_the_very_edge():
    found = forest.strip(
        made_verdict(claimed="above 10", threshold=10.0, estimate=13.0, interval=(12.0, 14.0), kind="mean")
    )
    assert (found.low, found.middle, found.high) == pytest.approx((0.47, 0.705, 0.94))
    open_ended = forest.strip(made_verdict(claimed="above 10", threshold=10.0, estimate=None, interval=(9.0, None)))
    assert (open_ended.low, open_ended.middle, open_ended.high) == (-0.94, None, 1.0)
    assert (open_ended.open_low, open_ended.open_high) == (False, True)
    assert forest.strip(made_verdict(estimate=None, interval=(None, None))) is None


def test_where_a_verdict_holds_its_row_lies_right_of_the_threshold_and_where_it_fails_left():
    import made

    for verdict in made.findings()[0].verdicts:
        row = forest.strip(verdict)
        assert (row.low > 0) == (verdict.verdict == "holds")
        assert (row.high < 0) == (verdict.verdict == "fails")
