"""The error surface: what is measured on finished networks, and when each claim holds."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from theodolite import data, models
from theodolite.claims import judge
from theodolite.runs import Trained
from theodolite.store import records
from theodolite.store.records import Plan, Planned
from theodolite.studies.error_surface.findings import (
    CURVE,
    LARGE,
    LINE,
    MINIMA,
    PATH,
    RANDOM,
    RISE,
    SMALL,
    STOPPED,
    WIDTH,
    radius,
)
from theodolite.studies.error_surface.study import LABELS, PRESETS, STUDY

CLAIMS = {claim.id: claim for claim in STUDY.claims}
TINY = PRESETS["smoke"].model_copy(
    update={"seeds": 2, "images": 100, "hidden": (6,), "grid": 5, "directions": 2, "radii": 4, "curve_epochs": 1}
)
RADII = np.linspace(0, 1, 21)


def bowls(steepness):
    """Loss along two directions of two bowls, whose mean rises as steepness times the squared radius."""
    parts = [
        pd.DataFrame({"direction": d, "radius": RADII, "loss": 0.01 + s * steepness * RADII**2})
        for d, s in ((0, 0.5), (1, 1.5))
    ]
    return pd.concat(parts, ignore_index=True)


def widths(small, large, jitter):
    networks = {SMALL: small * jitter, LARGE: large, STOPPED: small}
    return pd.concat([bowls(s).assign(network=name) for name, s in networks.items()], ignore_index=True)


def ways(curve, line, jitter):
    t = np.linspace(0, 1, 11)
    heights = {CURVE: curve * jitter, LINE: line}
    return pd.concat(
        [pd.DataFrame({"t": t, "path": name, "loss": 0.01 + h * t * (1 - t)}) for name, h in heights.items()],
        ignore_index=True,
    )


def written(directory: Path, settings, tables, failed: int = 0) -> records.Records:
    """A finished survey; ``tables(spec)`` are what its analyses found, and the first so many seeds have failed."""
    runs, analyses = list(STUDY.expand(settings)), list(STUDY.analyses(settings))
    records.claim_folder(directory)
    for spec in runs:
        metrics = pd.DataFrame({"epoch": [0], "train_loss": [1.0]})
        records.write(directory, spec, tables={"metrics": metrics}, environment={"wall_seconds": 1.0})
    for spec in analyses:
        if spec.seed < failed:
            records.write_failure(directory, spec, "a network diverged")
        else:
            records.write(directory, spec, tables=tables(spec), environment={"wall_seconds": 1.0})
    dumped, planned = settings.model_dump(mode="json"), [tuple(map(Planned.of, specs)) for specs in (runs, analyses)]
    plan = Plan(study=STUDY.name, preset="smoke", settings=dumped, command="", runs=planned[0], analyses=planned[1])
    return STUDY.records(directory, plan)


def made(directory: Path, seeds: int, *, small=1.0, large=4.0, curve=0.4, line=8.0, failed=0) -> records.Records:
    def tables(spec):
        jitter = 1 + 0.02 * spec.seed
        kinds = {WIDTH: {"width": widths(small, large, jitter)}, CURVE: {"curve": ways(curve, line, jitter)}}
        return kinds.get(spec.settings["kind"], {})

    return written(directory, PRESETS["smoke"].model_copy(update={"seeds": seeds}), tables, failed)


def judged(found, claim):
    return judge(CLAIMS[claim], found, study=STUDY.name, preset="smoke").verdict


@pytest.mark.parametrize(
    ("claim", "fails"), [("small-batch-is-wider", {"large": 0.5}), ("curve-connects", {"curve": 4.0})]
)
def test_each_claim_holds_and_fails_where_it_should_and_two_seeds_decide_nothing(tmp_path, claim, fails):
    assert judged(made(tmp_path / "a", 8), claim).verdict == "holds"
    assert judged(made(tmp_path / "b", 8, **fails), claim).verdict == "fails"
    assert judged(made(tmp_path / "c", 2), claim).verdict == "undecided"


@pytest.mark.parametrize("claim", list(CLAIMS))
def test_a_seed_that_could_not_be_measured_counts_at_its_worst_and_is_not_dropped(tmp_path, claim):
    found = judged(made(tmp_path, 4, failed=1), claim)
    assert (found.seeds, found.verdict) == (4, "undecided")


def test_four_times_as_steep_is_half_as_wide(tmp_path):
    assert judged(made(tmp_path, 3), "small-batch-is-wider").estimate == pytest.approx(2 / math.sqrt(1.02), rel=0.02)


def test_the_radius_is_where_the_mean_over_directions_has_risen_by_the_amount_fixed_beforehand():
    table = pd.concat([bowls(s).assign(seed=seed) for seed, s in enumerate((1.0, 2.0))])
    expected = [math.sqrt(RISE / s) for s in (1.0, 2.0)]
    np.testing.assert_allclose(radius(table).low, expected, rtol=0.01)
    assert radius(table).low.equals(radius(table).high)


def test_a_minimum_wider_than_the_farthest_radius_is_known_to_be_at_least_that_wide():
    found = radius(bowls(0.5 * RISE).assign(seed=0))
    assert (found.low[0], found.high[0]) == (1.0, math.inf)


def trained(spec) -> Trained:
    """Untrained networks serve: four of them as if they were checkpoints of one path."""
    states = [models.build(spec.model, seed=spec.seeds.weights + n).state_dict() for n in range(4)]
    return Trained(spec, states[-1], dict(zip((0, 2, 4, 6), states, strict=True)))


def analysed(spec):
    specs = {run.fingerprint(): run for run in STUDY.expand(TINY)}
    return STUDY.analyse(spec, [trained(specs[name]) for name in spec.inputs])


def found_for(kind, of=None):
    spec = next(s for s in STUDY.analyses(TINY) if s.labels["measured"] == kind and of in (None, s.labels["of"]))
    specs = {run.fingerprint(): run for run in STUDY.expand(TINY)}
    return analysed(spec), [trained(specs[name]) for name in spec.inputs]


def plain(network: torch.nn.Module, images: data.Dataset) -> float:
    with torch.no_grad():
        outputs = network(torch.from_numpy(images.inputs_as()).flatten(1))
    return float(cross_entropy(outputs, torch.tensor(images.train_targets)))


def test_a_random_plane_has_the_network_in_its_middle():
    found, (network,) = found_for(RANDOM, LABELS[LARGE])
    middle = found["surface"].query("x == 0 and y == 0")["loss"]
    assert float(middle.iloc[0]) == pytest.approx(plain(network.module(), data.load(network.spec.data)), rel=1e-5)
    assert len(found["surface"]) == 25


def test_a_path_has_the_true_loss_of_every_checkpoint_and_its_distance_from_the_plane():
    found, (network,) = found_for(PATH, LABELS[SMALL])
    path, images = found["path"].set_index("epoch"), data.load(network.spec.data)
    for epoch in (0, 2, 4, 6):
        assert path.loc[epoch, "loss"] == pytest.approx(plain(network.module(epoch), images), rel=1e-5)
    flat = {n: torch.cat([t.flatten() for t in s.values()]).double() for n, s in network.snapshots.items()}
    for epoch in (0, 2, 4, 6):  # Pythagoras, from the origin of the plane, which is the last checkpoint
        whole = float((flat[epoch] - flat[6]).norm())
        assert math.hypot(*path.loc[epoch, ["x", "y", "off_plane"]]) == pytest.approx(whole, rel=1e-5, abs=1e-6)
    assert path.loc[6, "plane_loss"] == pytest.approx(path.loc[6, "loss"], rel=1e-5)


def test_the_plane_of_three_minima_goes_through_all_three():
    found, networks = found_for(MINIMA)
    places = found["places"]
    assert places["off_plane"].max() < 1e-5
    expected = [plain(network.module(), data.load(network.spec.data)) for network in networks]
    np.testing.assert_allclose(places["plane_loss"], expected, rtol=1e-4)
    assert places["label"].tolist()[:2] == [SMALL, LARGE]


def test_curve_and_line_start_and_end_at_the_two_networks_and_the_curve_lies_in_its_plane():
    found, networks = found_for(CURVE)
    at = found["curve"].pivot_table(index="t", columns="path", values="loss")
    for t, network in zip((0.0, 1.0), networks, strict=True):
        loss = plain(network.module(), data.load(network.spec.data))
        np.testing.assert_allclose(at.loc[t, [CURVE, LINE]].astype(float), loss, rtol=1e-4)
    walk = found["walk"][found["walk"]["path"] == CURVE][["x", "y"]].to_numpy()
    np.testing.assert_allclose(walk[[0, -1]], found["places"][["x", "y"]], atol=1e-6)
    control = 2 * walk[20] - (walk[0] + walk[-1]) / 2  # phi(1/2) = a/4 + control/2 + b/4
    grid = found["surface"]
    assert grid["x"].min() < control[0] < grid["x"].max()
    assert grid["y"].min() < control[1] < grid["y"].max()


def test_width_starts_at_each_network_s_own_loss_and_the_stopped_one_is_nearest_to_the_large_batch_s():
    found, (small, large) = found_for(WIDTH)
    images = data.load(small.spec.data)
    at_zero = found["width"].query("radius == 0").groupby("network")["loss"].first()
    final = plain(large.module(), images)
    assert at_zero[SMALL] == pytest.approx(plain(small.module(), images), rel=1e-4)
    assert at_zero[LARGE] == pytest.approx(final, rel=1e-4)
    nearest = min((plain(small.module(e), images) for e in small.snapshots), key=lambda v: abs(math.log(v / final)))
    assert at_zero[STOPPED] == pytest.approx(nearest, rel=1e-4)
    assert found["width"].groupby(["network", "direction", "radius"]).size().loc[SMALL, 0].tolist() == [1, 2, 2, 2, 2]


def test_a_survey_of_tiny_networks_fills_every_table_and_draws_every_figure(tmp_path):
    found = written(tmp_path, TINY, analysed)
    assert [table.name for table in STUDY.tables(found)] == ["minima", "paths", "connection"]
    assert all(len(table.frame) and table.frame["seeds"].eq(2).all() for table in STUDY.tables(found))
    names = {figure.name for figure in STUDY.figures(found)}
    planes = {f"plane-{kind}" for kind in ("random-plane", "path", "three-minima", "curve")}
    assert names == planes | {"width", "off-plane", "connection"}


def test_tables_of_measurements_hold_no_words(words_in):
    assert [words_in(analysed(spec)) for spec in STUDY.analyses(TINY) if spec.seed == 0] == [set()] * 7


def test_the_three_minima_of_a_plane_were_trained_on_the_images_it_shows():
    runs = {run.fingerprint(): run for run in STUDY.expand(TINY)}
    (spec,) = (spec for spec in STUDY.analyses(TINY) if spec.labels["measured"] == MINIMA)
    trained_on = [runs[name] for name in spec.inputs]
    assert len({run.data for run in trained_on}) == 1
    assert len({run.seeds.weights for run in trained_on}) == 3


def test_each_seed_has_images_of_its_own():
    assert len({run.data.seed for run in STUDY.expand(TINY)}) == TINY.seeds


def test_a_curve_that_is_lower_than_the_line_and_still_leaves_the_minima_fails(tmp_path):
    found = judged(made(tmp_path, 8, curve=4.0, line=80.0), "curve-connects")  # 1 above its ends, the line 20
    assert (found.verdict, found.estimate) == ("fails", pytest.approx(1.0 * 1.07))


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_both_networks_of_a_seed_train_equally_long_on_the_same_images_and_share_nothing_else(preset):
    settings = PRESETS[preset]
    assert settings.grid >= 51
    small, large = (spec for spec in STUDY.expand(settings) if spec.seed == 1)
    assert small.data == large.data
    assert small.training.model_dump(exclude={"batch_size"}) == large.training.model_dump(exclude={"batch_size"})
    assert small.seeds.weights != large.seeds.weights
    assert small.seeds.order != large.seeds.order
    assert large.training.batch_size * 10 == (settings.images or 60_000)  # Keskar et al. 2017: a tenth of the data


def test_a_survey_whose_networks_are_trained_and_not_yet_measured_shows_nothing_and_decides_nothing(tmp_path):
    found = written(tmp_path, TINY, analysed, failed=2)
    assert (STUDY.tables(found), STUDY.figures(found)) == ([], [])
    assert {judged(found, claim).verdict for claim in CLAIMS} == {"undecided"}
