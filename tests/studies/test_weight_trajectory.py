"""Weight trajectories: the design is the report's, the measurements are right, the claims follow the records."""

from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from theodolite import data, train
from theodolite.claims import judge
from theodolite.runs import Trained
from theodolite.store import records
from theodolite.store.records import Plan, Planned
from theodolite.studies.weight_trajectory import measurements, study
from theodolite.studies.weight_trajectory.ends import AS_TRAINED, ITSELF, KINDS, MATCHED
from theodolite.studies.weight_trajectory.findings import LAYERS, spreads
from theodolite.train import Replica

CLAIMS = {claim.id: claim for claim in study.CLAIMS}
EPOCHS = (0, 3, 6, 9, 12)
TRAININGS = 4


def made_settings(groups):
    return study.WeightTrajectory(
        seeds=groups, trainings=TRAININGS, crossed=2, source="digits", train=None, test=None, epochs=EPOCHS[-1]
    )


def made_paths(draw, spread, growth, drift):
    """Trainings that start ``spread`` apart on both axes and end 1 apart; each step is ``growth`` times the last.

    All drift so far together, along a third axis.
    """
    end = np.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    steps = growth ** np.arange(len(EPOCHS) - 1) * np.exp(0.01 * draw.normal(size=(TRAININGS, len(EPOCHS) - 1)))
    way = np.hstack([np.zeros((TRAININGS, 1)), steps.cumsum(1) / steps.sum(1, keepdims=True)])
    at = end[:, None] * (spread + (1 - spread) * way)[:, :, None]
    return np.concatenate([at, drift * way[:, :, None]], 2), steps


def made_tables(group, spread, growth, barrier, jitter, still, differ, null, drift):
    draw = np.random.default_rng(group)
    at, steps = made_paths(draw, spread * np.exp(jitter * draw.normal()), growth, drift)
    training, epoch = (grid.ravel() for grid in np.meshgrid(range(TRAININGS), EPOCHS, indexing="ij"))
    pairs = [(i, j) for i in range(TRAININGS) for j in range(i + 1, TRAININGS)]
    walk = {
        "training": training,
        "epoch": epoch,
        "component_1": at[:, :, 0].ravel(),
        "component_2": at[:, :, 1].ravel(),
        "step_length": np.pad(steps, ((0, 0), (1, 0)), constant_values=np.nan).ravel(),
        "distance_from_start": np.linalg.norm(at - at[:, :1], axis=2).ravel(),
    }
    apart = [
        {"first": i, "second": j, "epoch": e, "distance": np.linalg.norm(at[i, n] - at[j, n])}
        for i, j in pairs
        for n, e in enumerate(EPOCHS)
    ]
    lines = [
        {
            "kind": kind,
            "error_barrier": b / 2,
            "first": first,
            "second": first + 1,
            "alpha": a,
            "barrier": b,
            "training": 0.1 + 4 * a * (1 - a) * b,
            "test": 0.3,
        }
        for first in (0, 2)
        for kind in KINDS
        for b in [barrier * np.exp(0.05 * draw.normal())]
        for a in (0.0, 0.5, 1.0)
    ]
    shares = {"component": [1, 2], "together": [0.5, 0.3], "alone": [0.8, 0.1], "random_walk": [0.608, 0.152]}
    shares |= {"undirected": null * np.exp(0.05 * draw.normal())}
    wrong = draw.integers(20, 30, size=2)
    tested = {
        "first": [0, 2],
        "second": [1, 3],
        "only_first": wrong * differ + draw.integers(0, 4, size=2),
        "only_second": wrong,
    }
    near = {"gradient_norm": still * np.exp(0.1 * draw.normal(size=2)), "curvature": 2.0, "weights": 4.0}
    layered = {
        "paths": pd.DataFrame(walk),
        "apart": pd.DataFrame(apart),
        "shares": pd.DataFrame(shares | {"parameters": 9}),
    }
    return {
        **{n: pd.concat([t.assign(layer=layer) for layer in LAYERS]) for n, t in layered.items()},
        "lines": pd.DataFrame(lines),
        "tested": pd.DataFrame(tested),
        "stationary": pd.DataFrame({"training": [0, 2], **near}),
    }


def made_records(
    directory, groups=8, *, spread=0.1, growth=0.7, barrier=1.0, luck=4.0, order=0.0, jitter=0.05, diverged=(),
    still=1e-9, differ=4, null=0.1, drift=0.0, old=False,
):  # fmt: skip
    """Records of made runs, whose test loss adds the effects of initial weights and order to noise of deviation 1."""
    settings = made_settings(groups)
    runs, analyses = list(study.expand(settings)), list(study.analyses(settings))
    records.claim_folder(directory)
    draw = np.random.default_rng(5)
    for spec in runs:
        lost = (spec.seed, spec.labels["weights"], spec.labels["order"]) in diverged
        loss = 50 + luck * spec.labels["weights"] + order * spec.labels["order"] + draw.normal()
        metrics = {
            "epoch": [0, 12],
            "step": [0, 9],
            "train_loss": [2.3, np.nan if lost else 0.1],
            "test_loss": [2.3, loss],
        }
        metrics |= {"train_accuracy": [0.1, 0.9], "test_accuracy": [0.1, 0.8 + 0.01 * draw.normal()]}
        records.write(
            directory,
            spec,
            tables={"metrics": pd.DataFrame(metrics)},
            environment={"wall_seconds": 1.0},
            diverged_epoch=12 if lost else None,
        )
    for spec in analyses:
        lost = any(group == spec.seed and weights == order for group, weights, order in diverged)
        tables = {} if lost else made_tables(spec.seed, spread, growth, barrier, jitter, still, differ, null, drift)
        if old and tables:  # as an earlier version measured
            del tables["tested"], tables["stationary"]
            tables["shares"] = tables["shares"].drop(columns="undirected")
            tables["lines"] = tables["lines"].query("kind == 'as_trained'").drop(columns=["kind", "error_barrier"])
        records.write(directory, spec, tables=tables, environment={"wall_seconds": 1.0})
    planned = [tuple(map(Planned.of, specs)) for specs in (runs, analyses)]
    plan = Plan(
        study=study.NAME,
        preset="smoke",
        settings=settings.model_dump(mode="json"),
        command="",
        runs=planned[0],
        analyses=planned[1],
    )
    return study.STUDY.records(directory, plan)


def verdict(claim, found):
    return judge(CLAIMS[claim], found, study=study.NAME, preset="smoke").verdict


def test_full_is_the_reports_experiment():
    settings = study.PRESETS["full"]
    runs = list(study.expand(settings))
    own = [run for run in runs if run.seed == 0 and run.labels["weights"] == run.labels["order"]]
    assert len(own) == 8
    for run in runs:
        assert (run.training.optimizer, run.training.loss, run.training.epochs) == ("adam", "cross_entropy", 51)
        assert (run.data.source, run.data.train, run.data.test) == ("mnist", None, None)
    assert {run.training.snapshot_every for run in own} == {3}
    assert settings.seeds >= 10


@pytest.mark.parametrize("preset", study.PRESETS)
def test_independent_trainings_share_no_seed_and_the_crossed_design_holds_every_pair_once(preset):
    settings = study.PRESETS[preset]
    runs = list(study.expand(settings))
    own = [run.seeds for run in runs if run.labels["weights"] == run.labels["order"]]
    numbers = [seed for seeds in own for seed in (seeds.weights, seeds.order)]
    assert len(set(numbers)) == len(numbers) == 2 * settings.seeds * settings.trainings
    for group in range(settings.seeds):
        crossed = [
            (run.seeds.weights, run.seeds.order)
            for run in runs
            if run.seed == group and max(run.labels["weights"], run.labels["order"]) < settings.crossed
        ]
        weights, orders = ({pair[k] for pair in crossed} for k in (0, 1))
        assert len(weights) == len(orders) == settings.crossed
        assert sorted(crossed) == sorted(product(weights, orders))


def test_an_analysis_reads_the_independent_trainings_of_its_group():
    settings = study.PRESETS["quick"]
    names = {run.fingerprint(): run for run in study.expand(settings)}
    for spec in study.analyses(settings):
        found = [names[name] for name in spec.inputs]
        assert [run.seed for run in found] == [spec.seed] * settings.trainings
        assert [run.labels["weights"] for run in found] == list(range(settings.trainings))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("claim", "holds", "fails"),
    [
        ("starts-close", {"spread": 0.1}, {"spread": 0.8}),
        ("starts-close-in-full-space", {"drift": 0.0}, {"drift": 5.0}),
        ("quickly-diverged", {"growth": 0.3}, {"growth": 1.6}),
        ("steps-shrink", {"growth": 0.7}, {"growth": 1.3}),
        ("converged", {"still": 1e-9}, {"still": 1e-3}),
        ("different-minima", {"barrier": 1.0}, {"barrier": 0.001}),
        ("performance-varies", {"differ": 4}, {"differ": 1}),
        ("initial-weights-matter", {"luck": 12.0}, {"luck": 0.0, "order": 8.0}),
    ],
)
def test_a_claim_holds_fails_and_is_undecided_where_the_records_say_so(tmp_path, claim, holds, fails):
    found = verdict(claim, made_records(tmp_path / "holds", 8, **holds))
    assert (found.verdict, found.seeds) == ("holds", 8)
    assert verdict(claim, made_records(tmp_path / "fails", 8, **fails)).verdict == "fails"


def test_few_groups_decide_nothing(tmp_path):
    found = made_records(tmp_path, 1)
    for claim in CLAIMS:
        assert verdict(claim, found).seeds == 1
        assert verdict(claim, found).verdict == "undecided"


def test_a_folder_of_an_earlier_version_still_makes_a_page_and_says_what_to_do(tmp_path):
    found = made_records(tmp_path, 8, old=True)
    assert study.tables(found)
    assert study.figures(found)
    assert verdict("steps-shrink", found).verdict == "holds"
    for claim in ("starts-close", "converged", "different-minima", "performance-varies"):
        assert "Run the study again" in verdict(claim, found).note


def test_by_how_much_a_design_can_decide_is_said_beforehand(tmp_path):
    """Two by two trainings in five groups: simulated, where initial weights decide nothing."""
    draw = np.random.default_rng(0)
    cells = draw.normal(size=(20_000, 5, 2, 2))
    left = cells - cells.mean(2, keepdims=True) - cells.mean(3, keepdims=True) + cells.mean((2, 3), keepdims=True)
    rows = 2 * ((cells.mean(3) - cells.mean((2, 3))[..., None]) ** 2).sum(2)
    shares = ((rows - (left**2).sum((2, 3))) / 2).mean(1)
    assert f"standard error of {shares.std():.1f}" in verdict("initial-weights-matter", made_records(tmp_path, 5)).note


def test_the_spread_is_the_variance_that_was_made(tmp_path):
    ratios = spreads(made_records(tmp_path, 3, spread=0.5, jitter=0.0)).set_index("layer").loc["first"]
    assert ratios["full_space"].tolist() == pytest.approx([0.25] * 3)
    # starts half as far out as ends, on one ray: distance² 0.25 d² before, and each went half of √2
    mean = np.mean([4.0, 4.0, 8.0, 8.0, 4.0, 4.0])
    assert ratios["right_angles"].tolist() == pytest.approx([0.25 * mean / (0.25 * mean + 2 * 0.5)] * 3)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_diverged_training_is_taken_at_its_worst_and_never_left_out(tmp_path, claim):
    whole = verdict(claim, made_records(tmp_path / "whole", 8, luck=40.0, growth=0.3))
    lost = verdict(claim, made_records(tmp_path / "lost", 8, luck=40.0, growth=0.3, diverged={(3, 0, 0)}))
    assert whole.verdict == "holds"
    assert lost.seeds == whole.seeds
    assert lost.verdict == "undecided"
    assert "gave no number" in lost.note


def test_tables_and_figures_say_what_the_records_hold(tmp_path):
    found = made_records(tmp_path, 3, jitter=0.0)
    tables = {table.name: table.frame for table in study.tables(found)}
    assert tables["figure-5-numbers"]["layer"].tolist() == ["first layer", "whole model"]
    assert tables["figure-5-numbers"]["ratio of start to end, full space"].tolist() == pytest.approx([0.01, 0.01])
    assert len(tables["figure-5-trainings"]) == TRAININGS
    names = [figure.name for figure in study.figures(found)]
    assert {"ends", "convergence", "variance"} <= set(tables)
    assert tables["ends"]["from a network to"].tolist() == list(KINDS.values())
    assert names == ["figure-5-first-layer", "figure-5-whole-model", "distances", "barriers", "variance"]


@pytest.fixture(scope="module")
def trained():
    """Two groups' worth of small networks, trained for real."""
    settings = made_settings(1).model_copy(update={"train": 200, "test": 100, "hidden": (5,)})
    specs = [spec for spec in study.expand(settings) if spec.labels["weights"] == spec.labels["order"]]
    sets = train.tensors(data.load(specs[0].data))
    replicas = [Replica(s.seeds.weights, s.seeds.order, s.training.learning_rate) for s in specs]
    outcomes = train.train_replicas(specs[0].model, sets, specs[0].training, replicas)
    return specs, outcomes, sets.train, next(iter(study.analyses(settings)))


def test_the_first_layer_is_kept_weight_by_weight_for_parquet_and_csv(trained, words_in):
    specs, outcomes, _, _ = trained
    found = study.measure(specs[0], outcomes[0])
    assert words_in(found) == set()
    table, report = found["first_layer"], found["first_layer.csv"]
    assert list(table.columns) == ["unit", "input", "epoch", "weight"]
    assert list(report.columns) == ["unit", "input", *(f"epoch {epoch}" for epoch in EPOCHS)]
    layer = next(m for m in outcomes[0].module() if isinstance(m, torch.nn.Linear))
    for last in (table[table["epoch"] == 12], report.assign(weight=report["epoch 12"])):
        weights = last[last["input"].notna()].pivot_table(index="unit", columns="input", values="weight").to_numpy()
        np.testing.assert_array_equal(weights.astype(np.float32), layer.weight.detach().numpy())
        np.testing.assert_array_equal(last.loc[last["input"].isna(), "weight"], layer.bias.detach().numpy())
    assert table["epoch"].unique().tolist() == list(EPOCHS)
    assert study.measure(specs[0].model_copy(update={"measure": {}}), outcomes[0]) == {}


def test_distances_and_barriers_are_those_of_the_networks(trained, words_in):
    specs, outcomes, split, analysis = trained
    runs = [Trained(s, o.weights, dict(o.snapshots)) for s, o in zip(specs, outcomes, strict=True)]
    found = study.analyse(analysis, runs)
    assert words_in(found) == set()
    first, second = ([torch.cat([s[n].flatten() for n in s]) for s in run.snapshots.values()] for run in runs[:2])
    apart = found["apart"].query("layer == 'all' and first == 0 and second == 1")["distance"]
    assert apart.tolist() == pytest.approx(
        [float((a - b).norm()) for a, b in zip(first, second, strict=True)], rel=1e-5
    )
    walk = found["paths"].query("layer == 'all' and training == 0")
    assert walk["epoch"].tolist() == list(EPOCHS)
    steps = [float((b - a).norm()) for a, b in pairwise(first)]
    assert walk["step_length"].tolist()[1:] == pytest.approx(steps, rel=1e-5)
    middle = runs[0].module()
    middle.load_state_dict({n: (w + runs[1].weights[n]) / 2 for n, w in runs[0].weights.items()})
    line = found["lines"].query("first == 0 and kind == 'as_trained'").set_index("alpha")["training"]
    with torch.no_grad():
        expected = [cross_entropy(m(split.inputs.flatten(1)), split.targets).item() for m in (runs[0].module(), middle)]
    assert [line[0.0], line[0.5]] == pytest.approx(expected, rel=1e-5)
    assert set(found["lines"]["first"]) == {0, 2}


def right(network, split):
    with torch.no_grad():
        return (network(split.inputs.flatten(1)).argmax(1) == split.targets).numpy()


def test_ends_are_compared_after_matching_and_with_themselves(trained):
    specs, outcomes, split, analysis = trained
    runs = [Trained(s, o.weights, dict(o.snapshots)) for s, o in zip(specs, outcomes, strict=True)]
    found = study.analyse(analysis, runs)
    lines = found["lines"].query("first == 0").set_index(["kind", "alpha"])
    assert set(found["lines"]["kind"]) == {AS_TRAINED, MATCHED, ITSELF}
    itself, matched, plain = (lines.loc[kind] for kind in (ITSELF, MATCHED, AS_TRAINED))
    assert itself.loc[1.0, "training"] == pytest.approx(itself.loc[0.0, "training"], rel=1e-5)  # the same function
    assert itself.loc[0.5, "training"] != pytest.approx(itself.loc[0.0, "training"], rel=1e-3)  # at another place
    assert matched.loc[[0.0, 1.0], "training"].tolist() == pytest.approx(plain.loc[[0.0, 1.0], "training"], rel=1e-5)
    one, two = (runs[number].module() for number in (0, 1))
    test = train.tensors(data.load(specs[0].data)).test
    a, b = right(one, test), right(two, test)
    tested = found["tested"].query("first == 0").iloc[0]
    assert (tested["only_first"], tested["only_second"]) == ((a & ~b).sum(), (b & ~a).sum())
    parameters = list(one.parameters())
    gradient = torch.autograd.grad(cross_entropy(one(split.inputs.flatten(1)), split.targets), parameters)
    norm = float(torch.cat([g.flatten() for g in gradient]).norm())
    assert found["stationary"].iloc[0]["gradient_norm"] == pytest.approx(norm, rel=1e-4)


def test_paths_in_random_directions_start_where_trainings_start_and_go_as_far():
    """In many dimensions n starts and n ways are at right angles, where PCA 1 of all snapshots has a closed form.

    A training is a e + d u at its distance d: the first component mixes contrasts of e and of u as the top eigenvector
    of the second moments of (a, d) does.
    """
    draw, size, runs, distances = np.random.default_rng(0), 4000, 6, np.array([0.0, 50.0, 100.0])
    starts = torch.tensor(draw.normal(size=(runs, size)))
    made = [Trained(None, {}, {0: {"0.weight": start.view(40, 100)}}) for start in starts]
    ratios = [measurements._undirected(made, "all", np.tile(distances, (runs, 1)), seed) for seed in range(5)]
    a = size**0.5
    p, q = np.linalg.eigh([[a**2, a * distances.mean()], [a * distances.mean(), (distances**2).mean()]])[1][:, 1]
    assert np.mean(ratios) == pytest.approx((a * p / (a * p + distances[-1] * q)) ** 2, rel=0.05)
