"""Image classification: the networks of Table 2, and claims that hold, fail and stay open where they should."""

import numpy as np
import pandas as pd
import pytest

from theodolite.models import build
from theodolite.studies.image_classification.study import MODELS, PRESETS, STUDY, ImageClassification, expand

TABLE_2 = {  # the report's, word for word
    "dnn_0": 640_815, "dnn_1": 2_932_360, "dnn_2": 626_085, "cnn_0": 134_249, "cnn_1": 225_738, "cnn_2": 259_234,
}  # fmt: skip
EPOCHS = 20


def settings(seeds=3, **changes):
    return ImageClassification(seeds=seeds, cnn_seeds=3, epochs=EPOCHS, **changes)


def learning(lowest, *, gap=0.1, last_rise=0.5, cnn=0.7, dnn_0=0.5, dnn_2=0.6):
    """Metrics with the lowest test loss after epoch ``lowest + seed`` and the training set better by ``gap``."""

    def tables(spec):
        epoch = np.arange(EPOCHS + 1)
        at = lowest + spec.seed
        away = np.where(epoch < at, (at - epoch) / at, last_rise * (epoch - at) / max(EPOCHS - at, 1))
        best = {"cnn": cnn}.get(spec.labels["kind"], {"dnn_0": dnn_0, "dnn_2": dnn_2}.get(spec.labels["model"], 0.55))
        test_accuracy = best - 0.1 * away + 0.001 * spec.seed * (1 + list(MODELS).index(spec.labels["model"]))
        apart = np.where(epoch == 0, -1.0, gap + 0.001 * spec.seed + 0.01 * epoch)  # the start does not count
        frame = pd.DataFrame(
            {
                "epoch": epoch, "step": 10 * epoch, "train_loss": 1 + away - apart, "test_loss": 1 + away,
                "train_accuracy": test_accuracy + apart / 2, "test_accuracy": test_accuracy,
            }
        )  # fmt: skip
        return {"metrics": frame}

    return tables


def test_the_six_networks_have_the_parameters_of_the_reports_table():
    assert {name: model.parameters for name, model in MODELS.items()} == TABLE_2
    for name, model in MODELS.items():
        assert sum(p.numel() for p in build(model, seed=0).parameters()) == TABLE_2[name]


def test_full_trains_them_on_all_of_cifar_10_as_the_report_leaves_it():
    specs = list(expand(PRESETS["full"]))
    assert {spec.labels["model"]: spec.model.parameters for spec in specs} == TABLE_2
    assert {(spec.data.source, spec.data.train, spec.data.test) for spec in specs} == {("cifar10", None, None)}
    assert not any(spec.training.augment for spec in specs)
    assert all(spec.training.evaluate_every == 1 for spec in specs)
    counts = pd.Series([spec.labels["kind"] for spec in specs]).value_counts()
    assert counts.to_dict() == {"dnn": 30, "cnn": 15}
    assert all(len(list(expand(preset))) > 0 for preset in PRESETS.values())


@pytest.mark.parametrize(("preset", "dnns", "cnns"), [("smoke", 3, 3), ("quick", 8, 3), ("full", 10, 5)])
def test_every_preset_has_the_seeds_that_its_claims_need(preset, dnns, cnns):
    seeds = pd.DataFrame([{**spec.labels, "seed": spec.seed} for spec in expand(PRESETS[preset])])
    assert (seeds[seeds["kind"] == "dnn"].groupby("model")["seed"].nunique() == dnns).all()
    assert (seeds[seeds["kind"] == "cnn"].groupby("model")["seed"].nunique() == cnns).all()


@pytest.mark.parametrize(("has", "asked", "used"), [
    (True, "auto", True), (False, "auto", False), (False, "bfloat16", True), (True, "float32", False),
])  # fmt: skip
def test_the_spec_says_which_precision_is_used(has, asked, used, monkeypatch):
    monkeypatch.setattr("theodolite.machine.has_bfloat16", lambda: has)
    assert {spec.training.autocast for spec in expand(settings(precision=asked).settled())} == {used}


def test_fewer_seeds_than_convolutional_networks_have_are_fewer_for_all():
    assert len(list(expand(ImageClassification(seeds=2)))) == 6 * 2


def test_claims_hold_where_the_numbers_are_the_reports(made_survey, verdicts):
    found = verdicts(STUDY, made_survey(STUDY, settings(), learning(14)))
    assert set(found.values()) == {"holds"}
    assert list(found) == [
        "overfits-after-15-epochs", "train-loss-below-test", "train-accuracy-above-test", "cnn-beats-dnn",
        "deeper-at-equal-size",
    ]  # fmt: skip


def test_claims_fail_where_the_numbers_are_against_them(made_survey, verdicts):
    against = learning(3, gap=-0.1, cnn=0.4, dnn_0=0.6, dnn_2=0.5)
    assert set(verdicts(STUDY, made_survey(STUDY, settings(), against)).values()) == {"fails"}


def test_two_seeds_decide_nothing(made_survey, verdicts):
    found = verdicts(STUDY, made_survey(STUDY, settings(seeds=2), learning(14)))
    assert set(found.values()) == {"undecided"}


def test_one_epoch_with_the_training_loss_above_is_not_always(made_survey, verdicts):
    def once(spec):
        made = learning(14)(spec)["metrics"]
        if spec.labels["model"] == "dnn_1":
            made.loc[7, "train_loss"] = made.loc[7, "test_loss"] + 0.05 + 0.001 * spec.seed
        return {"metrics": made}

    found = verdicts(STUDY, made_survey(STUDY, settings(), once))
    assert found["train-loss-below-test"] == "fails"
    assert found["train-accuracy-above-test"] == "holds"


def test_a_test_loss_that_hardly_rises_is_not_yet_overfitting(made_survey):
    records = made_survey(STUDY, settings(), learning(14, last_rise=0.04))
    evidence = STUDY.claims[0].evidence(records)
    assert (evidence.low == EPOCHS).all()
    assert np.isinf(evidence.high).all()
    (table,) = STUDY.tables(records)
    assert table.frame["rise"].to_numpy() == pytest.approx(1.04)


def test_the_epoch_is_the_middle_one_of_the_six_networks(made_survey):
    def apart(spec):
        return learning(2 + 3 * list(MODELS).index(spec.labels["model"]))(spec)

    evidence = STUDY.claims[0].evidence(made_survey(STUDY, settings(), apart))
    assert evidence.low.to_list() == evidence.high.to_list() == [9.5, 10.5, 11.5]  # of 2, 5, 8, 11, 14, 17


def test_seeds_without_all_six_networks_count_only_where_two_are_compared(made_survey):
    records = made_survey(STUDY, settings(seeds=8), learning(5))
    counts = {claim.id: len(claim.evidence(records).low) for claim in STUDY.claims}
    assert counts == {
        "overfits-after-15-epochs": 3, "train-loss-below-test": 3, "train-accuracy-above-test": 3, "cnn-beats-dnn": 3,
        "deeper-at-equal-size": 8,
    }  # fmt: skip


def test_a_kind_of_network_that_is_not_done_yet_leaves_its_claims_open(made_survey, verdicts):
    def dnns(spec):
        return learning(14)(spec) if spec.labels["kind"] == "dnn" else None

    records = made_survey(STUDY, settings(), dnns)
    found = verdicts(STUDY, records)
    assert found.pop("deeper-at-equal-size") == "holds"
    assert set(found.values()) == {"undecided"}
    assert len(STUDY.figures(records)) == 6


def test_the_tables_rows_and_the_figures_are_those_of_the_report(made_survey):
    records = made_survey(STUDY, settings(), learning(14))
    (table,) = STUDY.tables(records)
    assert dict(zip(table.frame["network"], table.frame["parameters"], strict=True)) == TABLE_2
    row = table.frame.set_index("network").loc["cnn_0"]
    assert row["best test accuracy"] == pytest.approx(0.701)  # 0.7, 0.701, 0.702
    assert (row["epoch of lowest test loss"], row["its epoch"]) == (15, 15)  # 14, 15, 16
    names = [figure.name for figure in STUDY.figures(records)]
    assert names == [
        *(f"figure-{n}-{which}-{q}" for n in (3, 4) for which in ("single", "all") for q in ("loss", "accuracy")),
        "overfitting",
        "best-accuracy",
    ]
