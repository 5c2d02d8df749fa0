"""Sensitivity: both comparisons are what they say, what is measured is its definition, and the claims can fail."""

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy, one_hot

from theodolite import data, models, train
from theodolite.studies.sensitivity.findings import EPOCHS, LOSS, STEPS, compared
from theodolite.studies.sensitivity.study import PRESETS, STUDY, Sensitivity
from theodolite.study import Training

SIZES = (32, 64, 128)


def settings(seeds=8, **changes):
    dials = {
        "data": "digits",
        "train": 256,
        "test": 64,
        "hidden": (),
        "batch_sizes": SIZES,
        "middle": 64,
        "epochs": 4,
        "loss": 1 / 6,
    }
    return Sensitivity(**{"seeds": seeds, "sharpness_samples": 64, **dials, **changes})


def made(sensitivity, gap, sharpness, old=False):
    """Records in which each quantity is this function of the steps and epochs trained, with a little noise.

    The training loss is 2 over the steps, so that it is 1 / 6 after 12.
    """

    def tables(spec):
        size, every = spec.labels["batch_size"], spec.training.snapshot_every
        draw = np.random.default_rng([spec.seed, size])
        epochs = np.arange(every, spec.training.epochs + 1, every)
        steps = epochs * -(-spec.data.train // size)
        s = sensitivity(steps, epochs, size) * np.exp(0.01 * draw.normal(size=len(epochs)))
        g = gap(steps, epochs, size)
        metrics = {"epoch": epochs, "step": steps, "train_loss": 2 / steps, "test_loss": 2 / steps + g}
        metrics |= {"train_accuracy": 1.0, "test_accuracy": 1 - g}
        both = [
            pd.DataFrame({"epoch": epochs, "set": name, "sensitivity": value, "standard_error": 0.0})
            for name, value in (("training", 0.1 / s), ("test", s))
        ]
        sharp = sharpness(steps, epochs, size) * np.exp(0.01 * draw.normal(size=len(epochs)))
        sharp = {"epoch": epochs, "keskar": sharp, "sam": sharp}
        measured = pd.concat(both)
        if old:
            return {"metrics": pd.DataFrame(metrics), "sensitivity": measured, "sharpness": pd.DataFrame(sharp)}
        return {
            "metrics": pd.DataFrame(metrics),
            "sensitivity": measured.assign(samples=100, of_mean_loss=measured["sensitivity"] / 10),
            "jumps": pd.DataFrame({"epoch": epochs, "jumps": g}),
            "sharpness": pd.DataFrame(sharp),
        }

    return tables


def by_steps(steps, epochs, size):
    return 0.1 * steps**0.5


def by_size(steps, epochs, size):
    return 0.1 * size**0.5 + 0 * steps


def small(quantity):
    return lambda *at: 0.01 * quantity(*at)


AS_CLAIMED = made(by_steps, small(by_steps), by_size)
AGAINST = made(by_size, lambda *at: 0.5 - small(by_size)(*at), lambda *at: 1 / by_size(*at))


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_batch_sizes_are_the_reports_and_both_comparisons_are_equal_in_what_they_say(preset):
    chosen = PRESETS[preset]
    specs = [spec for spec in STUDY.expand(chosen) if spec.seed == 0]
    assert [spec.training.batch_size for spec in specs] == [32, 64, 256, 512, 1024]
    assert {spec.measure["epochs"] for spec in specs} == {chosen.epochs}
    steps = [spec.measure["steps"] * -(-spec.data.train // spec.training.batch_size) for spec in specs]
    assert max(steps) <= (1.0 if preset == "quick" else 1.01) * min(steps)  # 60,000 is no multiple of 1,024
    for spec in specs:
        kept = range(0, spec.training.epochs + 1, spec.training.snapshot_every)
        assert {spec.measure["epochs"], spec.measure["steps"], spec.training.epochs} <= set(kept)
        assert spec.training.schedule == "constant"  # or the shorter training would not lie within the longer one


def test_each_seed_draws_its_own_images():
    assert len({spec.data.seed for spec in STUDY.expand(settings())}) == 8


def test_a_seed_keeps_its_weights_data_and_rate_over_the_batch_sizes():
    specs = [spec for spec in STUDY.expand(PRESETS["full"]) if spec.seed == 1]
    assert len({(s.seeds, s.data, s.model, s.training.learning_rate) for s in specs}) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"epochs": 3}, "to be whole"), ({"middle": 100}, "the one in the middle"), ({"batch_sizes": (64,)}, "three")],
)
def test_a_comparison_that_cannot_be_equal_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        settings(**changes)


@pytest.fixture(scope="module")
def trained():
    """A softmax regression on digits, where all that is measured has a closed form."""
    spec = next(spec for spec in STUDY.expand(settings()) if spec.labels["batch_size"] == 32)
    module = models.build(spec.model, seed=0)
    sets = train.tensors(data.load(spec.data))
    flat = train.TrainingData(*(train.Split(part.inputs.flatten(1), part.targets) for part in (sets.train, sets.test)))
    return spec, train.train(module, flat, spec.training, order_seed=0), flat


def test_sensitivity_of_softmax_regression_is_its_closed_form(trained):
    spec, outcome, flat = trained
    found = STUDY.measure(spec, outcome)["sensitivity"]
    assert found["epoch"].unique().tolist() == [1, 2, 3, 4]
    for row in found.itertuples():
        weights = outcome.snapshots[row.epoch]
        part = flat.train if row.set == "training" else flat.test
        wrong = (part.inputs @ weights["0.weight"].T + weights["0.bias"]).softmax(1) - one_hot(part.targets, 10)
        norms = (wrong @ weights["0.weight"]).norm(dim=1)  # d loss / d x = Wᵀ (p - y)
        assert row.of_mean_loss == pytest.approx(float(norms.square().sum() ** 0.5 / len(norms)), rel=1e-5)
        assert row.samples == len(norms)
        assert row.sensitivity == pytest.approx(float(norms.mean()), rel=1e-5)
        assert row.standard_error == pytest.approx(float(norms.std() / len(norms) ** 0.5), rel=1e-5)


def test_sams_sharpness_is_the_rise_after_one_step_up_the_gradient(trained):
    spec, outcome, flat = trained
    found = STUDY.measure(spec, outcome)["sharpness"].set_index("epoch")
    assert {spec.measure["steps"], spec.measure["epochs"]} <= set(found.index)
    weights = {name: tensor.double().requires_grad_() for name, tensor in outcome.snapshots[4].items()}
    x, y = flat.train.inputs[:64].double(), flat.train.targets[:64]

    def loss(w, b):
        return cross_entropy(x @ w.T + b, y)

    before = loss(*weights.values())
    slope = torch.autograd.grad(before, list(weights.values()))
    length = sum(g.pow(2).sum() for g in slope).sqrt()
    after = loss(*(w + 0.05 * g / length for w, g in zip(weights.values(), slope, strict=True)))
    assert found.loc[4, "sam"] == pytest.approx((after - before).item(), rel=1e-3)
    assert found.loc[4, "keskar"] > 0


def test_a_diverged_training_is_measured_as_far_as_it_went(trained):
    spec, _, flat = trained
    wild = Training(**{**spec.training.model_dump(), "optimizer": "sgd", "learning_rate": 1e38})
    outcome = train.train(models.build(spec.model, seed=0), flat, wild, order_seed=0)
    assert outcome.diverged_epoch == 1
    assert STUDY.measure(spec, outcome)["sensitivity"].empty


def test_all_claims_hold_where_steps_alone_raise_the_sensitivity(made_survey, verdicts):
    found = verdicts(STUDY, made_survey(STUDY, settings(), AS_CLAIMED))
    assert set(found.values()) == {"holds"}
    assert set(found) == {
        "falls-with-batch-size",
        "more-robust-for-training-data",
        "steps-explain-it",
        "loss-explains-it",
        "goes-with-overfitting",
        "sensitive-ones-jump-classes",
        "sharpness-grows",
    }


def test_all_claims_fail_where_the_batch_size_alone_raises_it(made_survey, verdicts):
    assert set(verdicts(STUDY, made_survey(STUDY, settings(), AGAINST)).values()) == {"fails"}


def test_two_seeds_decide_nothing(made_survey, verdicts):
    assert set(verdicts(STUDY, made_survey(STUDY, settings(seeds=2), AS_CLAIMED)).values()) == {"undecided"}


def test_the_share_left_is_one_over_minus_one_where_only_epochs_count(made_survey):
    def both(steps, epochs, size):  # at equal epochs it falls as size^-1/2; at equal steps it rises as fast
        return epochs / size**0.5

    records = made_survey(STUDY, settings(), made(both, small(by_steps), by_size))
    claim = next(claim for claim in STUDY.claims if claim.id == "steps-explain-it")
    assert claim.evidence(records).low.to_numpy() == pytest.approx(-np.ones(8), abs=0.2)


def test_a_diverged_run_is_compared_as_unknown_and_a_missing_one_holds_its_seed_back(made_survey):
    def tables(spec):
        tables = AS_CLAIMED(spec)
        if spec.labels["batch_size"] == 32 and spec.seed == 2:
            return {name: table.iloc[:0] if name != "metrics" else table for name, table in tables.items()}
        return None if spec.labels["batch_size"] == 32 and spec.seed == 5 else tables

    records = made_survey(STUDY, settings(), tables)
    rows = compared(records)
    assert sorted(rows["seed"].unique()) == [0, 1, 2, 3, 4, 6, 7]
    assert rows[rows["seed"] == 2]["test"].isna().sum() == 3
    for claim in STUDY.claims:
        found = claim.evidence(records)
        assert np.isnan(found.low[2])
        assert len(found.low) == 7


def test_each_comparison_reads_the_epoch_it_names(made_survey):
    rows = compared(made_survey(STUDY, settings(seeds=2), AS_CLAIMED))
    assert rows.loc[rows["comparison"] == EPOCHS, "epoch"].unique().tolist() == [4]
    assert rows.loc[rows["comparison"] == STEPS, "step"].unique().tolist() == [16]
    assert len(rows) == 3 * 2 * len(SIZES)


def test_at_equal_loss_what_follows_the_loss_is_the_same_for_all(made_survey):
    """Sensitivity is a power of the steps, and so of the loss: between two measurements the logarithms are straight."""
    rows = compared(made_survey(STUDY, settings(), made(by_steps, small(by_steps), by_size)))
    there = rows[rows["comparison"] == LOSS]
    assert there["test"].to_numpy() == pytest.approx(0.1 * 12**0.5, rel=0.04)
    assert there["train_loss"].to_numpy() == pytest.approx(1 / 6)
    assert there["keskar"].to_numpy() == pytest.approx(0.1 * there["batch_size"].to_numpy() ** 0.5, rel=0.04)


def test_a_run_that_never_has_the_loss_gives_no_number(made_survey):
    records = made_survey(STUDY, settings(loss=0.01), AS_CLAIMED)
    claim = next(claim for claim in STUDY.claims if claim.id == "loss-explains-it")
    assert claim.evidence(records).low.isna().all()


def test_of_one_network_the_derivative_of_a_batch_s_mean_falls_as_the_root_of_the_batch(made_survey):
    trends = STUDY.tables(made_survey(STUDY, settings(), AS_CLAIMED))[1].frame.set_index(["comparison", "quantity"])
    factor = trends["factor per doubling"]
    assert factor[EPOCHS, "the same, one network for all batch sizes"] == pytest.approx(2**-0.5)
    own = factor[EPOCHS, "sensitivity, test"] * 2**-0.5
    assert factor[EPOCHS, "sensitivity of a batch's mean loss"] == pytest.approx(own)


def test_jumps_are_the_classes_that_change_after_a_step_up_each_image_s_own_gradient(trained):
    spec, outcome, flat = trained
    found = STUDY.measure(spec, outcome)["jumps"].set_index("epoch")["jumps"]
    weights, x, y = outcome.snapshots[4], flat.test.inputs, flat.test.targets
    scores = x @ weights["0.weight"].T + weights["0.bias"]
    slope = (scores.softmax(1) - one_hot(y, 10)) @ weights["0.weight"]
    moved = (x + slope / slope.norm(dim=1, keepdim=True)) @ weights["0.weight"].T + weights["0.bias"]
    assert found[4] == pytest.approx(float((moved.argmax(1) != scores.argmax(1)).double().mean()))


def test_a_folder_of_an_earlier_version_still_makes_a_page_and_says_what_to_do(made_survey, verdicts):
    records = made_survey(STUDY, settings(), made(by_steps, small(by_steps), by_size, old=True))
    assert len(STUDY.tables(records)) == 2
    assert len(STUDY.figures(records)) == 6
    assert verdicts(STUDY, records)["falls-with-batch-size"] == "holds"
    for claim in STUDY.claims:
        if claim.id in ("loss-explains-it", "sensitive-ones-jump-classes", "sharpness-grows"):
            assert "Run the study again" in claim.evidence(records).note


def test_tables_and_figures_show_both_comparisons_and_both_sharpnesses(made_survey):
    records = made_survey(STUDY, settings(), AS_CLAIMED)
    sizes, trends = (table.frame for table in STUDY.tables(records))
    assert len(sizes) == 3 * len(SIZES)
    assert {"Keskar's sharpness", "SAM's sharpness"} <= set(trends["quantity"])
    falls = trends[(trends["comparison"] == EPOCHS) & (trends["quantity"] == "sensitivity, test")].iloc[0]
    assert falls["factor per doubling"] == pytest.approx(2**-0.5, rel=0.01)
    names = [figure.name for figure in STUDY.figures(records)]
    assert names == [
        "figure-12",
        "figure-12-training",
        "figure-12-batches",
        "steps",
        "overfitting",
        "jumps",
        "sharpness-keskar",
        "sharpness-sam",
    ]


def test_what_the_training_set_says_stands_beside_the_verdict_on_the_test_set(made_survey):
    claim = next(claim for claim in STUDY.claims if claim.id == "falls-with-batch-size")
    assert "On the training set the factor is 1.41" in claim.evidence(made_survey(STUDY, settings(), AS_CLAIMED)).note
