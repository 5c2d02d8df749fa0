"""Random labels: the design is the report's, and its claims hold, fail and stay open where they should."""

import numpy as np
import pandas as pd
import pytest

from theodolite import data
from theodolite.data import DataSpec
from theodolite.store import records
from theodolite.store.records import Planned
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
        "train_accuracy": np.minimum(accuracy * jitter, 1),
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
    random, true = ([data.load(spec.data) for spec in specs if spec.data.random_labels == share] for share in (1, 0))
    assert (random[0].train_targets != random[1].train_targets).any()
    assert (random[0].train_inputs != random[1].train_inputs).any()  # each seed has its own images
    for drawn, own in zip(random, true, strict=True):
        np.testing.assert_array_equal(drawn.train_inputs, own.train_inputs)
        np.testing.assert_array_equal(drawn.test_targets, own.test_targets)  # the whole test set
        assert 0.75 < (drawn.train_targets != own.train_targets).mean() < 1  # nine in ten, give or take


def test_all_shares_and_seeds_train_as_one_stack():
    assert len({spec.stack_key() for spec in STUDY.expand(settings())}) == 1


CLAIMS = {claim.id: claim for claim in STUDY.claims}
OVER_COPYING = "better-than-copying"


def undecided(found):
    """Verdicts without that which needs the null as well."""
    return {claim: verdict for claim, verdict in found.items() if claim != OVER_COPYING}


def test_claims_hold_where_random_labels_are_memorised_and_nothing_is_learnt(made_survey, verdicts):
    found = verdicts(STUDY, made_survey(STUDY, settings(), curves))
    assert found.pop(OVER_COPYING) == "undecided"  # no null was measured, as in folders of earlier versions
    assert found.pop("test-accuracy-falls") == "undecided"  # it never changes, so it has no correlation
    assert set(found.values()) == {"holds"}
    assert set(found) == {"train-loss-falls", "test-loss-rises", "train-accuracy-rises", "memorises", "test-at-chance"}


def test_claims_fail_where_nothing_is_memorised_and_the_truth_is_learnt(made_survey, verdicts):
    def learns(spec):
        made = curves(spec, fits=False, learns=True)
        off = 0.5 + 0.001 * spec.seed
        return {"metrics": made["metrics"].assign(train_accuracy=off - EPOCHS / 100, test_accuracy=off + EPOCHS / 100)}

    assert set(undecided(verdicts(STUDY, made_survey(STUDY, settings(), learns))).values()) == {"fails"}


def test_an_accuracy_that_goes_up_and_down_is_no_consistent_fall(made_survey):
    def waves(spec):
        return {"metrics": curves(spec)["metrics"].assign(test_accuracy=0.1 + 0.01 * np.sin(EPOCHS + spec.seed))}

    found = CLAIMS["test-accuracy-falls"].evidence(made_survey(STUDY, settings(), waves))
    assert found.low.tolist() == [0.0] * 8


@pytest.fixture
def with_null(made_survey):
    """Records in which the nearest image's label knows so much at each share."""

    def make(knows, seeds=8):
        made = made_survey(STUDY, settings(seeds), lambda s: curves(s))
        specs = list(STUDY.analyses(settings(seeds)))
        for spec in specs:
            jitter = 0.001 * np.random.default_rng(spec.seed).normal()
            null = pd.DataFrame([{"share": s, "test_accuracy": knows[s] + jitter} for s in settings().shares])
            records.write(made.directory, spec, tables={"copies": null}, environment={"wall_seconds": 1.0})
        plan = made.plan.model_copy(update={"analyses": tuple(map(Planned.of, specs))})
        return STUDY.records(made.directory, plan)

    return make


@pytest.mark.parametrize(("knows", "verdict"), [(0.05, "holds"), (0.15, "fails")])
def test_a_network_is_judged_against_who_copies_labels_at_each_share_between(with_null, verdicts, knows, verdict):
    shares = dict.fromkeys(settings().shares, knows)  # where the networks are right in 0.1
    made = with_null(shares | {0.0: 0.5, 1.0: 0.5})
    assert verdicts(STUDY, made)[OVER_COPYING] == verdict
    assert set(CLAIMS[OVER_COPYING].evidence(made)) == {"25 % random", "50 % random", "75 % random"}
    dial = STUDY.tables(made)[0].frame
    assert dial["of the nearest training image"].iloc[1] == pytest.approx(1 - knows, abs=0.002)


def test_the_null_is_the_label_of_the_nearest_training_image():
    spec = next(iter(STUDY.analyses(settings(shares=(0.0, 1.0)))))
    found = STUDY.analyse(spec, [])["copies"].set_index("share")["test_accuracy"]
    own = data.load(DataSpec(**spec.settings["sources"]["0.0"]))
    train, test = (own.inputs_as(part=part).reshape(-1, 64).astype(np.float64) for part in ("train", "test"))
    nearest = [int(((train - image) ** 2).sum(1).argmin()) for image in test]  # one by one
    assert found[0.0] == pytest.approx((own.train_targets[nearest] == own.test_targets).mean(), abs=0.01)
    assert found[1.0] < 0.3


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
