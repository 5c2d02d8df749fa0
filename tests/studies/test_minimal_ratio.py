"""The minimal ratio: what is measured at certified points and by the report's protocol, and when each claim holds."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from theodolite.claims import judge
from theodolite.figures.theme import specification
from theodolite.measure.critical.landscape import landscape
from theodolite.store import records
from theodolite.store.records import Plan, Planned
from theodolite.studies.minimal_ratio import field, findings, measurements, places, reported, spectra, tasks
from theodolite.studies.minimal_ratio.findings import AGAIN, DIGITS, FIELD, FIRST, LETTER, NORM, POINTS, PROTOCOL, TASKS
from theodolite.studies.minimal_ratio.study import NAME, PRESETS, STUDY, analyses

CLAIMS = {claim.id: claim for claim in STUDY.claims}
TINY = PRESETS["smoke"].model_copy(
    update={"seeds": 1, "random": 12, "symmetric": 6, "trainings": 2, "snapshots": 2, "epochs": 10, "initial": 6,
            "targets": (2, 3, 1), "deep": (2, 2, 2, 1), "cos": (1, 3, 1), "digits": (2, 3, 3), "images": 30,
            "first": 4, "norm": 4, "after": 3, "steps": 80}
)  # fmt: skip


def cloud(seed, slope, spread=0.05, count=24):
    """Points whose minimal ratio changes with the loss by a slope; half of them found in each of two ways."""
    chance = np.random.default_rng(seed)
    loss = np.linspace(0.1, 1.0, count)
    positive = 0.5 + slope * (loss - 0.55) + spread * abs(slope) * chance.normal(size=count)
    return pd.DataFrame(
        {
            "start": np.where(np.arange(count) % 2, "random-index-k", "symmetric"), "counted": True, "loss": loss,
            "gradient_norm": 1e-15, "largest": 2.0, "positive": positive, "negative": 1 - positive, "zero": 0.0,
            "index": np.rint(100 * (1 - positive)).astype(int), "flat": 0, "parameters": 100, "kantorovich": 1e-9,
            "radius": 1e-12, "live": "3", "free": True, "predicted": 0.4,
            "found": 1 + np.arange(count) % 3, "orbit": 2,
        }
    )  # fmt: skip


def epochs(norm):
    """The gradient norm at the end of each epoch; it rises tenfold in the last phase."""
    phases = [FIRST, FIRST, NORM, AGAIN, AGAIN]
    made = cloud(0, 0.1, count=5).drop(columns="counted").assign(start="snapshot")
    norms = norm * np.array([1.0, 1.0, 1.0, *[10 + 100 * norm] * 2])
    rows = made.assign(phase=phases, epoch=range(5), gradient_norm=norms, certified=norm < 1e-9, product_norm=norm / 2)
    rows["above_zero"] = rows["positive"]
    return pd.concat([rows.assign(variant=v) for v in (LETTER, findings.WITH_DECAY)], ignore_index=True)


def approached(seed, slope, count=20):
    """Snapshots of a training whose minimal ratio rises by a slope as the index at the end of the walk falls."""
    index = np.arange(count) % 5
    positive = 0.7 + 0.05 * slope * index + 0.01 * np.random.default_rng(seed).normal(size=count)
    return pd.DataFrame({"positive": positive, "index": index, "outcome": "certified"})


def written(
    directory: Path, seeds: int, *, slopes=None, norm=1e-2, failed=0, field=2.0, nearer=-1.0, old=False
) -> records.Records:
    """A finished survey with made numbers; the first so many seeds have failed."""
    settings = PRESETS["smoke"].model_copy(update={"seeds": seeds})
    specs = [spec for spec in analyses(settings) if not (old and spec.labels["measured"] == FIELD)]
    records.claim_folder(directory)
    for spec in specs:
        slope = (slopes or {}).get(spec.labels["task"], -0.6)
        tables = {
            "points": cloud(spec.seed, slope),
            "initial": cloud(1 + spec.seed, -0.5).assign(certified=False, above_zero=0.5, product_norm=1.0),
            "approach": approached(spec.seed, nearer),
        }
        if spec.labels["measured"] == FIELD:
            points = cloud(spec.seed, -0.6, field)
            share = 1 / (1 + np.exp(-points["positive"]))  # in the same order, between 0 and 1
            kept = points.assign(positive=share, index=np.rint(100 * (1 - share)).astype(int))
            tables = {"field": kept[["loss", "positive", "index", "parameters"]]}
        elif old:
            tables = {"points": tables["points"].drop(columns=["found", "orbit"]), "initial": tables["initial"]}
        if spec.labels["measured"] == PROTOCOL:
            tables = {"protocol": epochs(norm * (1 + 0.1 * spec.seed))}
        if spec.seed < failed:
            records.write_failure(directory, spec, "no memory left")
        else:
            records.write(directory, spec, tables=tables, environment={"wall_seconds": 1.0})
    planned = tuple(map(Planned.of, specs))
    dumped = settings.model_dump(mode="json")
    plan = Plan(study=NAME, preset="smoke", settings=dumped, command="", runs=(), analyses=planned)
    return STUDY.records(directory, plan)


def judged(found, claim):
    return judge(CLAIMS[claim], found, study=NAME, preset="smoke").verdict


@pytest.mark.parametrize(
    ("claim", "holds", "fails"),
    [
        ("inverse-correlation", {}, {"slopes": dict.fromkeys(TASKS, 0.6)}),
        ("stronger-than-a-random-field", {}, {"slopes": dict.fromkeys(TASKS, 0.6)}),
        ("larger-ratio-nearer-a-minimum", {}, {"nearer": 1.0}),
        ("report-protocol-is-critical", {"norm": 1e-9}, {}),
        ("higher-loss-more-negative", {}, {"slopes": dict.fromkeys(TASKS, 0.6)}),
    ],
)
def test_each_claim_holds_and_fails_where_it_should_and_two_seeds_decide_nothing(tmp_path, claim, holds, fails):
    assert judged(written(tmp_path / "a", 8, **holds), claim).verdict == "holds"
    assert judged(written(tmp_path / "b", 8, **fails), claim).verdict == "fails"
    assert judged(written(tmp_path / "c", 2, **holds), claim).verdict == "undecided"


@pytest.mark.parametrize("claim", ["inverse-correlation", "higher-loss-more-negative"])
def test_one_task_that_says_otherwise_is_enough(tmp_path, claim):
    found = judged(written(tmp_path, 8, slopes={TASKS[1]: 0.6}), claim)
    assert (found.verdict, len(found.parts)) == ("fails", len(TASKS))
    assert TASKS[1] in found.note


def test_a_folder_of_a_version_without_fields_and_copies_still_makes_a_page_and_says_what_to_do(tmp_path):
    found = written(tmp_path, 8, old=True)
    assert judged(found, "inverse-correlation").verdict == "holds"
    for claim in ("stronger-than-a-random-field", "larger-ratio-nearer-a-minimum"):
        assert "Run the study again" in judged(found, claim).note
    assert STUDY.tables(found)
    assert STUDY.figures(found)


def test_coverage_is_good_and_turing_s_and_chao_s_and_signs_are_summed_over_copies(tmp_path):
    frame = next(t.frame for t in STUDY.tables(written(tmp_path, 3)) if t.name == "coverage")
    first = frame.iloc[0]  # 24 points, found 1, 2 and 3 times in turn: 8 of each in 48 walks
    assert (first["points"], first["certified walks"], first["found once"]) == (24, 48, 8)
    assert first["Good-Turing coverage"] == pytest.approx(1 - 8 / 48)
    assert first["Chao1"] == pytest.approx(24 + 8 * 7 / (2 * 9))
    low, high = (int(end.replace("−", "-")) for end in first["sum of signs"].split(" to "))
    assert low % 2 == high % 2 == 0  # every orbit has two copies


@pytest.mark.parametrize("claim", list(CLAIMS))
def test_a_seed_that_could_not_be_measured_counts_at_its_worst_and_is_not_dropped(tmp_path, claim):
    found = judged(written(tmp_path, 4, norm=1e-12, failed=1), claim)
    assert (found.seeds, found.verdict) == (4, "undecided")


def test_a_sampler_that_mixes_two_strata_makes_no_correlation_within_them(tmp_path):
    """Two clouds one above the other: over all points a correlation, within each none."""
    low, high = cloud(0, 0.0), cloud(0, 0.0)
    rows = pd.concat([low.assign(live="3", index=1), high.assign(live="1", index=9, loss=high["loss"] + 2)])
    assert findings._within(rows.assign(seed=0)).tolist() == [0.0]
    assert findings.rank_correlation(rows.assign(seed=0), "loss", "index").low[0] > 0.8


def test_tables_and_figures_of_a_study_without_runs_can_be_drawn(tmp_path):
    found = written(tmp_path, 3)
    assert {t.name for t in STUDY.tables(found)} >= {
        "figure-8-numbers",
        "strata",
        "report-steps",
        "random-field",
        "coverage",
        "approach",
        "report-verdicts",
        "random-matrices",
    }
    figures = STUDY.figures(found)
    assert sum(f.name.startswith("figure-8-") for f in figures) == 5  # four tasks and the null
    assert all(specification(f.chart, dark=True) for f in figures)


def test_each_step_of_the_report_gets_the_verdict_that_its_numbers_give(tmp_path):
    found = {table.name: table.frame for table in STUDY.tables(written(tmp_path, 5))}["report-verdicts"]
    definition, optimiser, after, control = found["verdict"]
    assert definition == "undecided"  # no eigenvalue of the made weights is zero
    assert optimiser.endswith("no weights certified")
    assert after == "it rises: they lead away"
    assert control.startswith("negative there too")


@pytest.fixture(scope="module")
def measured():
    """Every measurement of one seed, for real."""
    found = {}
    for spec in analyses(TINY):
        found[spec.labels["measured"], spec.labels["task"]] = measurements.measured(spec)
    return found


def test_every_task_finds_certified_points_of_several_indices_from_several_starts(measured):
    for task in TASKS:
        points = measured[POINTS, task]["points"]
        assert (points["gradient_norm"] < 1e-9).all()
        assert (points["kantorovich"] < 0.5).all()
        assert points["index"].nunique() >= 2
        assert points["start"].nunique() >= 2
        assert not points["zero"].any()  # weight decay
        np.testing.assert_allclose(points["positive"] + points["negative"], 1)
    assert measured[POINTS, DIGITS]["points"]["predicted"].isna().all()
    assert measured[POINTS, TASKS[0]]["points"]["predicted"].between(0, 0.5).all()


def test_tables_of_measurements_hold_no_words(measured, words_in):
    assert {name for tables in measured.values() for name in words_in(tables)} == set()
    outcomes = pd.concat([tables["outcomes"] for (kind, _), tables in measured.items() if kind == POINTS])
    assert set(outcomes["outcome"]) <= set(findings.OUTCOMES)


def test_every_reason_of_the_finder_has_a_key_and_words(measured):
    for reason in ("", "gradient-flat", "not converged", "degenerate", "ran away", "not finite"):  # of CriticalPoint
        key = places.outcome_of(SimpleNamespace(reason=reason))
        assert findings.OUTCOMES[key] == (reason or "certified")


def test_a_point_found_in_two_ways_is_counted_once(measured):
    points = pd.concat([measured[POINTS, task]["points"].assign(task=task) for task in TASKS])
    once = points[points["counted"]]
    assert not once.assign(loss=once["loss"].round(7)).duplicated(["task", "loss", "index", "largest"]).any()
    assert len(points) > len(once)


def test_all_points_of_a_task_are_counted_as_often_as_walks_found_them(measured):
    for task in TASKS:
        tables = measured[POINTS, task]
        once = tables["points"][tables["points"]["counted"]]
        outcomes = tables["outcomes"].set_index("outcome")["starts"]
        assert once["found"].sum() == outcomes[outcomes.index == "certified"].sum()


def test_a_random_field_has_the_moments_it_is_said_to_have():
    """Variance 1 and covariance exp(-d² / 2), over many fields."""
    origin, away = torch.zeros(5).double(), torch.tensor([0.6, 0.8, 0, 0, 0]).double()
    values = []
    for seed in range(2000):
        model = field._Field(5, 64, torch.Generator().manual_seed(seed))
        pair = []
        for place in (origin, away):
            model.theta.data = place
            pair.append(float(model(None).detach()))
        values.append(pair)
    found = np.cov(np.transpose(values))
    np.testing.assert_allclose(found, [[1, np.exp(-0.5)], [np.exp(-0.5), 1]], atol=0.1)


def test_the_field_beside_a_task_has_as_many_dimensions_as_its_network_has_parameters(measured):
    for task in TASKS:
        assert set(measured[FIELD, task]["field"]["parameters"]) == set(measured[POINTS, task]["points"]["parameters"])
        assert len(measured[FIELD, task]["field"]) > 1


def test_on_the_dial_points_get_flat_directions_only_at_zero(measured):
    dial = measured[POINTS, TASKS[0]]["dial"]
    kept = dial[dial["outcome"] == "certified"]
    assert (kept.loc[kept["decay"] > 0, "flat"] == 0).all()
    assert set(kept["decay"]) >= {TINY.weight_decay}
    assert (dial.groupby("decay")["point"].nunique().diff().dropna() >= 0).all()  # fewer and fewer are left


def test_the_protocol_goes_through_its_three_phases_and_the_second_minimises_the_norm():
    task = tasks.problem(DIGITS, (2, 3, 3), 30, 0)
    settings = {"learning_rate": 1e-2, "first": 5, "norm": 60, "after": 2, "batch_size": 30}
    vectors, phases = reported._by_the_report(task, settings, 0.0, 0)
    assert phases == [FIRST] * 6 + [NORM] * 60 + [AGAIN] * 2
    found = places.places(task, vectors, 0.0)
    norms = found["gradient_norm"]
    assert norms[65] < 0.5 * norms[5]
    assert not found["certified"].any()


def test_the_same_seed_draws_the_same_data_and_another_seed_other_data():
    for name in TASKS:
        widths = {DIGITS: (4, 6, 3), "cos": (1, 6, 1)}.get(name, (3, 6, 1))
        one, two, other = (tasks.problem(name, widths, 40, seed) for seed in (0, 0, 1))
        assert torch.equal(one.inputs, two.inputs)
        assert torch.equal(one.targets, two.targets)
        assert not torch.equal(one.inputs, other.inputs)
        assert one.inputs.shape == (40, widths[0])


def test_gauss_newton_and_the_rest_add_up_to_the_hessian_at_a_perfect_fit():
    """Without residuals the Hessian of a squared error is its Gauss-Newton matrix."""
    task = tasks.problem(TASKS[0], (2, 3, 1), 20, 0)
    vector = torch.nn.utils.parameters_to_vector(task.module(3).parameters()).detach()
    fitted = tasks.Problem(task.architecture, "mse", task.inputs, task.module(3)(task.inputs).detach())
    _, _, H = landscape(fitted.objective(), 0.0)(vector[None])
    assert torch.allclose(spectra._gauss_newton(fitted, vector[None]), H, atol=1e-12)
