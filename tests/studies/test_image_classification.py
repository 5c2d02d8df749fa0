"""Image classification: the networks of Table 2, and claims that hold, fail and stay open where they should."""

from itertools import pairwise

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
    return ImageClassification(**{"seeds": seeds, "cnn_seeds": 3, "epochs": EPOCHS, **changes})


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
                "train_accuracy": np.clip(test_accuracy + apart / 2, 0, 1), "test_accuracy": test_accuracy,
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


ALL = [
    "overfits-after-15-epochs", "dnn-overfits-after-15-epochs", "train-loss-continues-to-fall",
    "train-accuracy-continues-to-rise", "test-accuracy-falls-after-15-epochs", "train-loss-below-test",
    "train-accuracy-above-test", "cnn-beats-dnn", "deeper-at-equal-size",
]  # fmt: skip
OF_EPOCHS = {"overfits-after-15-epochs", "dnn-overfits-after-15-epochs", "test-accuracy-falls-after-15-epochs"}
CLAIMS = {claim.id: claim for claim in STUDY.claims}


def whole(seeds=8):
    return settings(seeds, train=None, test=None, cnn_seeds=8)


def as_reported(spec):
    frame = learning(11 - spec.seed + spec.seed % 3)(spec)["metrics"]
    off, epoch = 1 + 0.001 * spec.seed, frame["epoch"]
    falls, rises = 0.9 * off * 0.95**epoch, frame["test_accuracy"] + off * (0.05 + 0.01 * epoch)
    return {"metrics": frame.assign(train_loss=falls, train_accuracy=rises)}


def against(spec):
    frame = learning(3, cnn=0.4, dnn_0=0.6, dnn_2=0.5)(spec)["metrics"]
    off, epoch = 1 + 0.001 * spec.seed, frame["epoch"]
    rises, falls = frame["test_loss"] + off * (0.5 + 0.01 * epoch), frame["test_accuracy"] - off * (0.1 + 0.002 * epoch)
    up = frame["test_accuracy"] + 0.01 * off * epoch
    return {"metrics": frame.assign(train_loss=rises, train_accuracy=falls, test_accuracy=up)}


def test_claims_hold_where_the_numbers_are_the_reports(made_survey, verdicts):
    found = verdicts(STUDY, made_survey(STUDY, whole(), as_reported))
    assert list(found) == ALL
    assert set(found.values()) == {"holds"}


def test_claims_fail_where_the_numbers_are_against_them(made_survey, verdicts):
    assert set(verdicts(STUDY, made_survey(STUDY, whole(), against)).values()) == {"fails"}


def test_a_subset_says_nothing_against_a_claim_about_epochs(made_survey, verdicts):
    few = whole().model_copy(update={"train": 2000})
    found = verdicts(STUDY, made_survey(STUDY, few, against))
    assert {claim: found[claim] for claim in OF_EPOCHS} == dict.fromkeys(OF_EPOCHS, "undecided")
    assert {verdict for claim, verdict in found.items() if claim not in OF_EPOCHS} == {"fails"}


def test_two_seeds_decide_nothing(made_survey, verdicts):
    found = verdicts(STUDY, made_survey(STUDY, settings(seeds=2), learning(14)))
    assert set(found.values()) == {"undecided"}


def test_a_subset_says_so_and_a_later_epoch_than_the_window_still_counts_against(made_survey):
    made = made_survey(STUDY, settings(seeds=8), learning(14))
    found = CLAIMS["overfits-after-15-epochs"].evidence(made)["cnn_0"]
    assert found.low.to_list() == [14, 15, 16]
    assert np.isinf(found.high).all()
    assert "Undecided at this size: 2,000 training images" in found.note


@pytest.mark.parametrize(("above", "counts"), [(0.005, 1.0), (0.1, 0.0)])
def test_always_is_a_share_of_trainings_and_allows_for_the_error_of_the_test_set(made_survey, above, counts):
    def once(spec):
        made = learning(14)(spec)["metrics"]
        if spec.labels["model"] == "dnn_1" and spec.seed != 1:
            made.loc[7, "train_loss"] = made.loc[7, "test_loss"] + above  # 1,000 images leave an error of 0.02
        return {"metrics": made}

    found = CLAIMS["train-loss-below-test"].evidence(made_survey(STUDY, settings(seeds=4), once))
    assert found["dnn_1"].low.to_list() == [counts, 1.0, counts, counts]
    assert found["dnn_0"].low.to_list() == [1.0] * 4


@pytest.mark.parametrize(("errors", "counts"), [(1.9, 1.0), (2.1, 0.0)])
def test_the_error_of_a_test_accuracy_is_that_of_a_binomial_share(made_survey, errors, counts):
    def below(spec):
        frame = learning(14)(spec)["metrics"].assign(test_accuracy=0.5)
        return {"metrics": frame.assign(train_accuracy=0.5 - errors * (0.25 / 1000) ** 0.5)}

    found = CLAIMS["train-accuracy-above-test"].evidence(made_survey(STUDY, settings(), below))
    assert found["dnn_0"].low.to_list() == [counts] * 3


def test_a_test_loss_that_hardly_rises_is_not_yet_overfitting(made_survey):
    records = made_survey(STUDY, settings(), learning(14, last_rise=0.04))
    for found in CLAIMS["dnn-overfits-after-15-epochs"].evidence(records).values():
        assert (found.low == EPOCHS).all()
        assert np.isinf(found.high).all()
    (table,) = STUDY.tables(records)
    assert table.frame["rise"].to_numpy() == pytest.approx(1.04)


def test_each_network_has_its_own_epoch(made_survey):
    def apart(spec):
        return learning(2 + 3 * list(MODELS).index(spec.labels["model"]))(spec)

    made = made_survey(STUDY, settings(), apart)
    cnns, dnns = (CLAIMS[f"{kind}overfits-after-15-epochs"].evidence(made) for kind in ("", "dnn-"))
    lows = {name: found.low.to_list() for name, found in {**cnns, **dnns}.items()}
    assert list(cnns) == ["cnn_0", "cnn_1", "cnn_2"]
    assert lows == {name: [2 + 3 * n, 3 + 3 * n, 4 + 3 * n] for n, name in enumerate(MODELS)}


def test_what_continues_is_measured_between_the_last_two_fifths(made_survey):
    def steps(spec):
        frame = learning(14)(spec)["metrics"]
        fifth = np.ceil(frame["epoch"] / 4)  # of 20 epochs
        return {"metrics": frame.assign(train_loss=2.0**-fifth, train_accuracy=fifth / 10)}

    made = made_survey(STUDY, settings(), steps)
    assert CLAIMS["train-loss-continues-to-fall"].evidence(made)["cnn_1"].low.to_list() == pytest.approx([0.5] * 3)
    assert CLAIMS["train-accuracy-continues-to-rise"].evidence(made)["cnn_1"].low.to_list() == pytest.approx([0.1] * 3)


def test_seeds_without_all_six_networks_count_only_where_networks_stand_by_themselves(made_survey):
    records = made_survey(STUDY, settings(seeds=8), learning(5))
    assert len(CLAIMS["cnn-beats-dnn"].evidence(records).low) == 3
    assert len(CLAIMS["deeper-at-equal-size"].evidence(records).low) == 8
    found = CLAIMS["train-loss-below-test"].evidence(records)
    assert {name: len(part.low) for name, part in found.items()} == {
        **dict.fromkeys(["cnn_0", "cnn_1", "cnn_2"], 3), **dict.fromkeys(["dnn_0", "dnn_1", "dnn_2"], 8)
    }  # fmt: skip


def test_a_kind_of_network_that_is_not_done_yet_leaves_its_claims_open(made_survey, verdicts):
    def dnns(spec):
        return as_reported(spec) if spec.labels["kind"] == "dnn" else None

    records = made_survey(STUDY, whole(), dnns)
    found = verdicts(STUDY, records)
    held = {claim for claim, verdict in found.items() if verdict == "holds"}
    assert held == {"deeper-at-equal-size", "dnn-overfits-after-15-epochs"}
    assert len(STUDY.figures(records)) == 6


def test_each_seed_draws_its_own_images_the_same_for_every_network():
    few, whole_set = (list(expand(chosen)) for chosen in (settings(), whole()))
    assert {(spec.seed, spec.data.seed) for spec in few} == {(0, 0), (1, 1), (2, 2)}
    assert {spec.data.seed for spec in whole_set} == {0}


def test_depth_alone_sets_dnn_2_apart_from_dnn_0():
    for name in ("dnn_0", "dnn_2"):
        widths = MODELS[name].hidden
        assert all(0.45 <= b / a <= 0.56 for a, b in pairwise(widths))
    assert len(MODELS["dnn_2"].hidden) == len(MODELS["dnn_0"].hidden) + 1


def test_the_tables_rows_and_the_figures_are_those_of_the_report(made_survey):
    records = made_survey(STUDY, settings(), learning(14))
    (table,) = STUDY.tables(records)
    named = {name.upper().replace("_", " "): parameters for name, parameters in TABLE_2.items()}
    assert dict(zip(table.frame["network"], table.frame["parameters"], strict=True)) == named
    row = table.frame.set_index("network").loc["CNN 0"]
    assert row["best test accuracy"] == pytest.approx(0.701)  # 0.7, 0.701, 0.702
    assert (row["epoch of lowest test loss"], row["its epoch"]) == (15, 15)  # 14, 15, 16
    names = [figure.name for figure in STUDY.figures(records)]
    assert names == [
        *(f"figure-{n}-{which}-{q}" for n in (3, 4) for which in ("single", "all") for q in ("loss", "accuracy")),
        "overfitting",
        "best-accuracy",
    ]
