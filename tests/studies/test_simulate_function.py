"""Function fits: the three networks of the report, and claims that hold, fail and stay open where they should."""

import numpy as np
import pandas as pd
import pytest

from theodolite import data
from theodolite.studies.simulate_function.findings import SCALED
from theodolite.studies.simulate_function.learning import FULL, NAMED, curves_apart, losses_at_start
from theodolite.studies.simulate_function.study import MODELS, PRESETS, STUDY, SimulateFunction, expand

EPOCHS = np.arange(0, 1001, 2)
CLAIMS = {claim.id: claim for claim in STUDY.claims}


def settings(seeds=8, **changes):
    return SimulateFunction(seeds=seeds, batch_size=None, epochs=1000, **changes)


def fitted(*, deep=0.3, hard=3.0, start=2.0, inside=1e-3, outside=1.0, wild=0.05, own=None, chance=False):
    """Runs whose loss falls to convergence after some epochs.

    Args:
        deep: epochs and error of model 2 over those of the others.
        hard: epochs on exp over those on cos.
        start: loss of model 2 in its first half, over that of all at the very beginning.
        inside: error of models 1 and 3 inside the domain.
        outside: error of all outside.
        wild: how far logarithms lie off; of even and odd seeds to either side.
        own: epochs to convergence on cos by model, in place of 300.
        chance: to either side by chance, in every run by itself.
    """

    def tables(spec):
        model, function = spec.labels["model"], spec.labels["function"]
        draw = np.random.default_rng([spec.seed, NAMED.index(model), len(function)])
        two = model == NAMED[1]
        off = draw.normal() if chance else (1 - 2 * (spec.seed % 2)) * (1 + 0.3 * draw.normal())
        epochs = (own or {}).get(model, 300) * np.exp(wild * off)
        epochs *= (deep if two else 1) * (1 if function == "cos" else hard)
        power = -np.log10(spec.training.convergence) + 1  # from ten at the start to convergence
        loss = 10 ** (1 - power * EPOCHS / epochs)
        loss = np.where(two & (epochs / 2 > EPOCHS), 10 * start, loss)
        loss = np.maximum(loss, spec.training.convergence * (0.01 if two else 0.1) * np.exp(wild * off))
        error = inside * (deep if two else 1) * np.exp(wild * off)
        frame = pd.DataFrame({"epoch": EPOCHS, "step": EPOCHS, "train_loss": loss, "test_loss": 1.0})
        frame[["train_accuracy", "test_accuracy"]] = np.nan
        errors = {"inside": error, "outside": outside, "r2_inside": 1 - error**2}
        fit = pd.DataFrame({"x": [0.0, 4.0], "target": 1.0, "fit": [1.0, 2.0]})
        return {"metrics": frame, "errors": pd.DataFrame([errors]), "fit": fit}

    return tables


@pytest.fixture
def surveyed(made_survey):
    """``surveyed(settings, tables)``: records of runs that converged where their loss says so."""

    def make(chosen, tables):
        from theodolite.store import records

        made = made_survey(STUDY, chosen, lambda spec: None)
        for spec in expand(chosen):
            found = tables(spec)
            below = found["metrics"].loc[found["metrics"]["train_loss"] <= spec.training.convergence, "epoch"]
            first = int(below.iloc[0]) if len(below) else None
            records.write(made.directory, spec, tables=found, environment={"wall_seconds": 1.0}, converged_epoch=first)
        return STUDY.records(made.directory, made.plan)

    return make


def test_the_three_networks_have_the_parameters_and_layers_of_the_reports_table():
    found = {spec.labels["model"]: (spec.model.parameters, spec.model.layers) for spec in expand(settings(1))}
    assert found == {"Model 1": (671, 4), "Model 2": (675, 6), "Model 3": (740, 4)}


def test_exp_is_learned_with_the_spread_of_cos_too_and_converges_at_the_same_share_of_it():
    runs = {spec.labels["function"]: spec for spec in expand(settings(1))}
    assert list(runs) == ["cos", "exp", SCALED]
    cos, exp, scaled = (data.load(runs[name].data).train_targets for name in runs)
    assert scaled.std() == pytest.approx(cos.std(), rel=1e-5)
    assert np.corrcoef(exp.ravel(), scaled.ravel())[0, 1] == pytest.approx(1)
    assert runs[SCALED].training.convergence == pytest.approx(runs["cos"].training.convergence, rel=1e-4)
    assert {spec.labels["function"] for spec in expand(settings(1, functions=("sinc",)))} == {"sinc"}


def test_full_keeps_the_reports_functions_and_models_and_sweeps_over_depth():
    runs = list(expand(PRESETS["full"]))
    assert {run.labels["model"] for run in runs} == {*MODELS, *(f"{n} layers" for n in range(2, 9))}
    assert {run.training.batch_size for run in runs} == {None, 64}


def test_claims_hold_where_the_deeper_network_is_slow_to_start_and_fast_to_end(surveyed, verdicts):
    found = verdicts(STUDY, surveyed(settings(24), fitted()))
    assert found == dict.fromkeys(CLAIMS, "holds")
    assert len(found) == 11


def test_claims_fail_where_the_numbers_are_against_them(surveyed, verdicts):
    made = fitted(deep=1.6, hard=0.8, start=0.01, inside=0.5, outside=1.0, own={"Model 3": 900})
    found = verdicts(STUDY, surveyed(settings(), made))
    assert {claim for claim, verdict in found.items() if verdict != "fails"} <= {
        "same-depth-performs-alike", "deeper-ends-lower"
    }  # fmt: skip


def test_two_seeds_decide_nothing(surveyed, verdicts):
    assert set(verdicts(STUDY, surveyed(settings(2), fitted())).values()) == {"undecided"}


def test_an_error_of_one_model_is_not_hidden_by_the_two_others(surveyed, verdicts):
    def one_fails(spec):
        found = fitted()(spec)
        if spec.labels["model"] == "Model 3":
            found["errors"]["r2_inside"] = 0.9 + 0.001 * spec.seed
        return found

    made = surveyed(settings(), one_fails)
    assert verdicts(STUDY, made)["fits-inside"] == "fails"
    assert set(CLAIMS["fits-inside"].evidence(made)) == set(NAMED)


def test_exp_that_is_hard_for_its_large_numbers_alone_is_not_harder(surveyed, verdicts):
    def alike_in_shape(spec):
        return fitted(hard=1.0 if spec.labels["function"] == SCALED else 3.0)(spec)

    assert verdicts(STUDY, surveyed(settings(), alike_in_shape))["exponential-is-harder"] == "fails"


def test_the_start_ends_at_a_tenth_of_the_shallow_networks_own_time(surveyed):
    made = surveyed(settings(3), fitted(wild=0.0, hard=2.0))
    losses = losses_at_start(made, "exp")
    metrics = made.table("metrics", lambda labels: (labels["function"], labels["batch"]) == ("exp", FULL))
    then = metrics[(metrics["epoch"] == 60) & (metrics["seed"] == 1)]  # a tenth of 600
    own = dict(zip(then["model"].astype(str), then["train_loss"], strict=True))
    assert losses.loc[1].to_dict() == pytest.approx(own)


def test_a_seed_whose_shallow_networks_do_not_converge_has_no_start_and_stays(surveyed):
    made = surveyed(settings(3), fitted(hard=20.0))
    found = CLAIMS["deeper-starts-slower"].evidence(made)
    assert found.low.index.tolist() == [0, 1, 2]
    assert found.low.isna().all() or np.isneginf(found.low).all()


def test_a_folder_of_an_earlier_version_makes_its_page_and_leaves_open_what_it_lacks(made_survey, verdicts):
    made = made_survey(STUDY, settings(3), lambda spec: None if spec.labels["function"] == SCALED else fitted()(spec))
    assert verdicts(STUDY, made)["exponential-is-harder"] == "undecided"
    assert "run the study again" in CLAIMS["exponential-is-harder"].evidence(made)[SCALED].note
    assert len(STUDY.tables(made)) == 2
    assert len(STUDY.figures(made)) == 5


def test_two_models_that_are_one_are_as_far_apart_as_two_trainings_of_it(surveyed):
    made = surveyed(settings(200, functions=("cos",)), fitted(wild=0.3, deep=1.0, start=1.0, chance=True))
    logs = np.log(curves_apart(made)["ratio"])
    assert len(logs) == 100
    assert abs(logs.mean()) < 4 * logs.std() / len(logs) ** 0.5


def test_curves_that_keep_a_distance_are_apart_by_it(surveyed):
    def shifted(spec):
        found = fitted(wild=0.0)(spec)
        draw = np.random.default_rng([spec.seed, NAMED.index(spec.labels["model"])])
        power = {"Model 1": 0.0, "Model 3": 1.0}.get(spec.labels["model"], 0.0) + 0.01 * draw.normal()
        found["metrics"]["train_loss"] = 10.0**power / (1 + EPOCHS)
        return found

    found = curves_apart(surveyed(settings(8, functions=("cos",)), shifted))
    assert found["seed"].tolist() == [0, 2, 4, 6]
    assert found["of both"].to_numpy() == pytest.approx(1.0, abs=0.05)
    assert (found["ratio"] > 20).all()


def test_tables_and_figures_are_made(surveyed):
    made = surveyed(settings(4), fitted())
    assert [table.name for table in STUDY.tables(made)] == ["table-1", "learning-curves"]
    names = {figure.name for figure in STUDY.figures(made)}
    assert names == {
        "figure-1-cos-fit", "figure-1-cos-learning-full-batch", "figure-2-exp-fit", "figure-2-exp-learning-full-batch",
        "learning-curves-apart",
    }  # fmt: skip
