"""Capacity: the design covers three decades alike, and its claims hold, fail and stay open where they should."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from theodolite import data
from theodolite.studies.capacity.findings import CLEAN, NOISY, interpolation_threshold
from theodolite.studies.capacity.study import PRESETS, STUDY, Capacity

SIZES = (1, 2, 4, 8, 16, 32)


def settings(seeds=8, **changes):
    return Capacity(seeds=seeds, data="digits", train=64, test=None, hidden=SIZES, epochs=2, **changes)


def ends(train_error, test_error, test_loss):
    """Metrics whose ends follow these curves over the sizes, by labels, with a little noise for each run."""

    def tables(spec):
        at, labels = SIZES.index(spec.labels["hidden"]), spec.labels["labels"]
        jitter = 1 + 0.01 * np.random.default_rng([spec.seed, at, labels == NOISY]).normal()
        end = {
            "train_loss": 2 * train_error[at] * jitter,
            "test_loss": test_loss[labels][at] * jitter,
            "train_accuracy": 1 - min(1, train_error[at] * jitter),
            "test_accuracy": 1 - test_error[labels][at] * jitter,
        }
        start = {"train_loss": 2.3, "test_loss": 2.3, "train_accuracy": 0.1, "test_accuracy": 0.1}
        return {"metrics": pd.DataFrame([{"epoch": 0, "step": 0, **start}, {"epoch": 2, "step": 2, **end}])}

    return tables


FALLING, HUMP = [0.6, 0.4, 0.3, 0.2, 0.15, 0.1], [0.6, 0.3, 0.2, 0.4, 0.3, 0.1]
TURNING = [0.6, 0.4, 0.2, 0.25, 0.3, 0.4]
AS_CLAIMED = ends([0.5, 0.3, 0.1, 0.01, 0.001, 0.0001], {CLEAN: TURNING, NOISY: HUMP}, {CLEAN: TURNING, NOISY: HUMP})
STEADY = [0.5, 0.3, 0.1, 0, 0, 0]  # training errors: the last three sizes fit everything, and are ties
AGAINST = ends([0.0001] + [0.1] * 4 + [0.2], {CLEAN: FALLING, NOISY: FALLING}, {CLEAN: FALLING, NOISY: FALLING})


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_at_least_ten_sizes_span_three_decades_of_parameters(preset):
    sizes = sorted({spec.model.parameters for spec in STUDY.expand(PRESETS[preset])})
    assert len(sizes) >= 10
    assert sizes[0] <= 1e3 < 1e6 <= sizes[-1]


def test_all_sizes_train_by_the_same_criterion_on_the_same_images():
    specs = list(STUDY.expand(PRESETS["full"]))
    assert len({spec.training for spec in specs}) == 1
    assert {(spec.data.source, spec.data.train) for spec in specs} == {("mnist", 4000)}
    assert all(spec.data.seed == spec.seed for spec in specs)  # its own images, the same at every size and noise
    by_seed = {(s.seed, s.labels["labels"]): set() for s in specs}
    for s in specs:
        by_seed[s.seed, s.labels["labels"]].add((s.seeds, s.data))
    assert all(len(same) == 1 for same in by_seed.values())


def test_noise_is_the_share_of_labels_that_are_wrong():
    chosen = Capacity(seeds=10, data="digits", train=None, test=None, hidden=SIZES)
    noisy = [s for s in STUDY.expand(chosen) if s.labels == {"hidden": 1, "labels": NOISY}]
    true = data.load(noisy[0].data.model_copy(update={"random_labels": 0.0}))
    wrong = [(data.load(s.data).train_targets != true.train_targets).mean() for s in noisy]
    standard_error = (0.2 * 0.8 / (10 * 1437)) ** 0.5
    assert np.mean(wrong) == pytest.approx(0.2, abs=4 * standard_error)


def test_without_noise_only_true_labels_are_trained_on():
    assert {spec.labels["labels"] for spec in STUDY.expand(settings(noise=0.0))} == {CLEAN}


@pytest.mark.parametrize("hidden", [(1, 2), (1, 4, 2), (1, 2, 2)])
def test_sizes_out_of_order_or_too_few_are_refused(hidden):
    with pytest.raises(ValidationError, match="at least three hidden widths, each larger"):
        Capacity(hidden=hidden)


def test_all_claims_hold_where_the_test_set_turns_and_the_noise_makes_a_hump(made_survey, verdicts):
    found = verdicts(STUDY, made_survey(STUDY, settings(seeds=8), AS_CLAIMED))  # 0.5^8 < 0.025
    assert set(found.values()) == {"holds"}
    assert len(found) == 6


def test_all_claims_fail_where_size_only_helps_the_test_set(made_survey, verdicts):
    found = verdicts(STUDY, made_survey(STUDY, settings(), AGAINST))
    assert set(found.values()) == {"fails"}


def test_two_seeds_decide_nothing(made_survey, verdicts):
    assert set(verdicts(STUDY, made_survey(STUDY, settings(seeds=2), AS_CLAIMED)).values()) == {"undecided"}


def test_a_seed_waits_until_all_its_sizes_are_there(made_survey):
    def interrupted(spec):
        return None if spec.seed == 3 and spec.labels["hidden"] == SIZES[-1] else AS_CLAIMED(spec)

    made = made_survey(STUDY, settings(), interrupted)
    for claim in STUDY.claims:
        complete = [0, 1, 2, 4, 5, 6, 7]
        tested = complete if claim.kind == "share" else [0, 2, 4, 6]  # the others pick
        assert claim.evidence(made).low.index.tolist() == tested


def test_a_diverged_largest_network_leaves_its_seed_unknown_and_counted(made_survey):
    def diverged(spec):
        made = AS_CLAIMED(spec)
        if spec.seed == 2 and spec.labels["hidden"] == SIZES[-1]:
            made["metrics"].loc[1, ["train_loss", "test_loss"]] = np.nan
        return made

    claims = {claim.id: claim for claim in STUDY.claims}
    found = claims["test-loss-rises-past-a-size"].evidence(made_survey(STUDY, settings(), diverged))
    assert len(found.low) == 4
    assert np.isnan(found.low[2])


def test_the_interpolation_threshold_is_the_first_size_whose_median_fits_all_but_one_in_a_hundred():
    made = pd.DataFrame(
        {
            "parameters": np.repeat([10, 100, 1000], 3),
            "train_accuracy": [0.5, 0.6, 1.0, 0.98, 0.99, 1.0, 1.0, 1.0, 1.0],
        }
    )
    assert interpolation_threshold(made) == 100
    assert interpolation_threshold(made.assign(train_accuracy=0.98)) is None


def test_figures_mark_the_threshold_where_there_is_one_and_say_so_where_there_is_none(made_survey):
    fitted = {f.name: f for f in STUDY.figures(made_survey(STUDY, settings(), AS_CLAIMED))}
    assert set(fitted) == {"figure-10-accuracy", "figure-10-loss", "noise-accuracy", "noise-loss", "double-descent"}
    assert "Upright line: interpolation threshold" in fitted["figure-10-loss"].caption
    assert "best at 310 " in fitted["figure-10-accuracy"].alt  # 64-4-10, where TURNING is lowest
    assert "8 seeds" in fitted["double-descent"].caption


def test_the_table_has_a_row_for_each_size_and_kind_of_labels(made_survey):
    table = STUDY.tables(made_survey(STUDY, settings(), AGAINST))[0].frame
    assert len(table) == 2 * len(SIZES)
    first = table.iloc[0]
    assert first["parameters"] == (64 + 1) * 1 + (1 + 1) * 10
    assert first["test accuracy"] == pytest.approx(0.4, abs=0.02)
    assert first["test accuracy low"] < first["test accuracy"] < first["test accuracy high"]


def test_sizes_that_all_fit_everything_are_no_evidence_against_a_rise(made_survey):
    made = made_survey(STUDY, settings(), ends(STEADY, {CLEAN: FALLING, NOISY: HUMP}, {CLEAN: FALLING, NOISY: HUMP}))
    claim = next(claim for claim in STUDY.claims if claim.id == "train-accuracy-rises")
    assert claim.evidence(made).low.tolist() == [1.0] * 8


def test_whether_size_still_helps_is_asked_from_the_size_at_which_the_other_seeds_fit_their_labels(made_survey):
    claim = next(claim for claim in STUDY.claims if claim.id == "stops-helping-past-a-size")
    error = [0.6, 0.4, 0.3, 0.2, 0.15, 0.1]
    fitted = made_survey(STUDY, settings(), ends(STEADY, {CLEAN: error, NOISY: HUMP}, {CLEAN: error, NOISY: HUMP}))
    found = claim.evidence(fitted)
    assert found.low.index.tolist() == [0, 2, 4, 6]
    assert found.low.mean() == pytest.approx(0.2 - 0.1, abs=0.01)  # from the fourth size to the last


def test_where_no_size_fits_its_labels_there_is_no_threshold_to_ask_from(made_survey):
    claim = next(claim for claim in STUDY.claims if claim.id == "stops-helping-past-a-size")
    never = made_survey(
        STUDY, settings(), ends([0.5] * 6, {CLEAN: FALLING, NOISY: HUMP}, {CLEAN: FALLING, NOISY: HUMP})
    )
    found = claim.evidence(never)
    assert found.low.isna().all()
    assert "No size fits" in found.note
