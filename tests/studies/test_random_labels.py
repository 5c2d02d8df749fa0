"""Random labels: the design is the report's, and its claims hold, fail and stay open where they should."""

import numpy as np
import pandas as pd
import pytest

from theodolite import data
from theodolite.studies.random_labels.study import PRESETS, STUDY, RandomLabels

EPOCHS = np.arange(0, 21, 2)


def settings(seeds=8, **changes):
    return RandomLabels(seeds=seeds, data="digits", train=64, test=None, epochs=20, **changes)


def curves(spec, *, fits=True, learns=False, memorised_at=10):
    """Metrics of a network that fits its labels from an epoch on or never, and learns the truth or does not."""
    jitter = 1 + 0.001 * np.random.default_rng([spec.seed, round(100 * spec.data.random_labels)]).normal()
    done = EPOCHS / EPOCHS[-1]
    accuracy = np.where(memorised_at <= EPOCHS, 0.998, 0.1 + 0.8 * done) if fits else np.full(len(EPOCHS), 0.15)
    metrics = {
        "epoch": EPOCHS,
        "step": EPOCHS * 2,
        "train_loss": 2.3 * np.exp(-5 * done if fits else 0.1 * done) * jitter,
        "test_loss": 2.3 * np.exp(-done if learns else done) * jitter,
        "train_accuracy": accuracy * jitter,
        "test_accuracy": (0.9 if learns else 0.1) * jitter,
    }
    return {"metrics": pd.DataFrame(metrics)}


def test_full_is_the_reports_experiment_on_all_of_mnist():
    specs = list(STUDY.expand(PRESETS["full"]))
    reports = [spec for spec in specs if spec.data.random_labels == 1]
    assert len({spec.seed for spec in reports}) >= 10
    assert all(spec.data.source == "mnist" and spec.data.train is None and spec.data.test is None for spec in reports)
    assert {spec.data.random_labels for spec in specs} == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_a_seed_keeps_its_weights_and_order_over_the_dial_and_seeds_differ_in_labels():
    specs = list(STUDY.expand(settings(seeds=2)))
    for seed in (0, 1):
        assert len({(s.seeds, s.model, s.training) for s in specs if s.seed == seed}) == 1
    random = [data.load(spec.data) for spec in specs if spec.data.random_labels == 1]
    true = data.load(next(spec.data for spec in specs if not spec.data.random_labels))
    assert (random[0].train_targets != random[1].train_targets).any()
    for drawn in random:
        np.testing.assert_array_equal(drawn.test_targets, true.test_targets)
        np.testing.assert_array_equal(drawn.train_inputs, true.train_inputs)
        assert 0.75 < (drawn.train_targets != true.train_targets).mean() < 1  # nine in ten, give or take


def test_all_shares_and_seeds_train_as_one_stack():
    assert len({spec.stack_key() for spec in STUDY.expand(settings())}) == 1


def test_all_claims_hold_where_random_labels_are_memorised_and_nothing_is_learnt(made_survey, verdicts):
    # Rank correlations at exactly -1 in all of 75 seeds, not in 70, say that their mean is below -0.9.
    found = verdicts(STUDY, made_survey(STUDY, settings(seeds=75), curves))
    assert set(found.values()) == {"holds"}
    assert set(found) == {"train-loss-falls", "test-loss-rises", "memorises", "test-at-chance"}


def test_all_claims_fail_where_nothing_is_memorised_and_the_truth_is_learnt(made_survey, verdicts):
    found = verdicts(STUDY, made_survey(STUDY, settings(), lambda s: curves(s, fits=False, learns=True)))
    assert set(found.values()) == {"fails"}


def test_two_seeds_decide_nothing(made_survey, verdicts):
    assert set(verdicts(STUDY, made_survey(STUDY, settings(seeds=2), curves)).values()) == {"undecided"}


def test_only_fully_random_labels_count_for_the_claims(made_survey, verdicts):
    made = made_survey(STUDY, settings(), lambda s: curves(s, fits=s.data.random_labels == 1, learns=False))
    assert verdicts(STUDY, made)["memorises"] == "holds"


def test_without_the_reports_share_its_claims_stay_undecided(made_survey, verdicts):
    made = made_survey(STUDY, settings(shares=(0.0, 0.5)), curves)
    assert set(verdicts(STUDY, made).values()) == {"undecided"}
    assert {figure.name for figure in STUDY.figures(made)} == {"dial-learning", "dial-epochs", "dial-test-error"}


def test_the_dial_shows_the_first_epoch_at_99_percent_and_counts_who_never_gets_there(made_survey):
    made = made_survey(
        STUDY,
        settings(),
        lambda s: curves(s, fits=s.seed > 0 or s.data.random_labels < 1, memorised_at=4 + 8 * s.data.random_labels),
    )
    dial = STUDY.tables(made)[0].frame.set_index("random labels")
    assert dial["memorised"].tolist() == ["8 of 8"] * 4 + ["7 of 8"]
    assert dial["epochs to memorise"].tolist() == [4, 6, 8, 10, 12]  # evaluated every other epoch
    late = dial.loc["100 %"]  # seed 0: later than 20
    assert late["epochs to memorise high"] > late["epochs to memorise"]
    assert dial.loc["0 %", "test error"] == pytest.approx(0.9, abs=0.01)


def test_every_figure_names_its_seeds_and_what_its_marks_are(made_survey):
    figures = STUDY.figures(made_survey(STUDY, settings(), curves))
    assert [f.name for f in figures][:2] == ["figure-9-loss", "figure-9-accuracy"]
    assert all("8 seeds" in f.caption and f.alt for f in figures)
    assert figures[0].report.startswith("The loss for the training set goes down consistently")
