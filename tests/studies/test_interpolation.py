"""The line between two networks: what is trained, what is measured on it, and when each claim holds."""

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from theodolite import data, models
from theodolite.claims import judge
from theodolite.errors import SettingError
from theodolite.models.description import CNN
from theodolite.runs import Trained
from theodolite.store import records
from theodolite.store.records import Plan, Planned
from theodolite.studies.interpolation import study as interpolation
from theodolite.studies.interpolation.findings import (
    AS_TRAINED,
    BY_ACTIVATIONS,
    BY_WEIGHTS,
    DNN,
    ITSELF,
    ITSELF_MATCHED,
    OWN,
    TEST,
    TRAIN,
    gain,
)
from theodolite.studies.interpolation.study import PRESETS, STUDY
from theodolite.survey import prepare

CLAIMS = {claim.id: claim for claim in STUDY.claims}
MATCHED = (BY_WEIGHTS, BY_ACTIVATIONS)
ALPHAS = np.arange(-10, 21) / 10


def peaks(alpha, height=0.97, depth=0.5):
    """Accuracy with a peak at 0 and at 1, and far less between and beyond."""
    return height - depth * np.minimum(np.abs(alpha), np.abs(alpha - 1)) ** 2


def dips(alpha):
    return 0.05 + 3 * np.minimum(np.abs(alpha), np.abs(alpha - 1)) ** 2


def made(
    directory: Path, seeds: int, accuracy=peaks, loss=dips, barriers=(0.4, 0.03), failed: int = 0, luck=0.0, old=False
):
    """Records of a finished survey whose lines and barriers are these functions, a little different for each seed."""
    settings = PRESETS["smoke"].model_copy(update={"seeds": seeds, "cnn_seeds": 0, "shared_start": False})
    runs, analyses = list(STUDY.expand(settings)), list(STUDY.analyses(settings))
    records.claim_folder(directory)
    for spec in runs:
        metrics = pd.DataFrame({"epoch": [0], "train_loss": [1.0]})
        records.write(directory, spec, tables={"metrics": metrics}, environment={"wall_seconds": 1.0})
    for number, spec in enumerate(analyses):
        if number < failed:
            records.write_failure(directory, spec, "a network diverged")
            continue
        jitter = 1 + 0.01 * number
        lines = [
            pd.DataFrame(
                {
                    "matching": m,
                    "set": s,
                    "alpha": ALPHAS,
                    "accuracy": accuracy(ALPHAS) / jitter,
                    "loss": loss(ALPHAS) ** jitter,
                }
            )
            for m in (AS_TRAINED, BY_WEIGHTS, BY_ACTIVATIONS)
            for s in (TRAIN, TEST)
        ]
        rows = [
            {"matching": m, "set": s, "barrier": b, "error_barrier": b / 2}
            for m, b in ((AS_TRAINED, barriers[0] * jitter**2), *((m, barriers[1] * jitter) for m in MATCHED))
            for s in (TRAIN, TEST)
        ]
        draw = np.random.default_rng(number)
        halves = [
            pd.DataFrame({"half": half, "alpha": ALPHAS, "accuracy": accuracy(ALPHAS) / jitter + luck * noise})
            for half, noise in enumerate(draw.normal(size=(2, len(ALPHAS))))
        ]
        tables = {"line": pd.concat(lines), "barriers": pd.DataFrame(rows), "halves": pd.concat(halves)}
        if old:
            del tables["halves"]
        records.write(directory, spec, tables=tables, environment={"wall_seconds": 1.0})
    plan = Plan(
        study=STUDY.name,
        preset="smoke",
        settings=settings.model_dump(mode="json"),
        command="",
        runs=tuple(map(Planned.of, runs)),
        analyses=tuple(map(Planned.of, analyses)),
    )
    return STUDY.records(directory, plan)


def verdict(found, claim: str) -> str:
    return judge(CLAIMS[claim], found, study=STUDY.name, preset="smoke").verdict.verdict


def shifted(function, by):
    return lambda alpha: function(alpha - by)


def level(alpha):
    return np.full_like(alpha, 0.9)


def rising_between(alpha):
    return 0.9 + 0.05 * np.exp(-(((alpha - 0.5) / 0.2) ** 2))


def rising_a_little(alpha):
    return 0.9 + 0.005 * np.exp(-(((alpha - 0.5) / 0.2) ** 2))


@pytest.mark.parametrize(
    ("claim", "holds", "fails"),
    [
        ("ends-are-best-accuracy", {}, {"accuracy": shifted(peaks, 0.3)}),
        ("ends-are-lowest-loss", {}, {"loss": shifted(dips, 0.3)}),
        ("barrier", {}, {"barriers": (0.02, 0.01)}),
        ("mixing-never-helps", {}, {"accuracy": rising_between}),
        ("alignment-lowers-barrier", {}, {"barriers": (0.4, 0.6)}),
        ("alignment-removes-barrier", {}, {"barriers": (0.4, 0.1)}),
    ],
)
def test_each_claim_holds_and_fails_where_it_should_and_two_seeds_decide_nothing(tmp_path, claim, holds, fails):
    assert verdict(made(tmp_path / "a", 4, **holds), claim) == "holds"
    assert verdict(made(tmp_path / "b", 4, **fails), claim) == "fails"
    assert verdict(made(tmp_path / "c", 2, **holds), claim) == "undecided"


def test_a_best_alpha_that_a_figure_of_31_values_cannot_tell_from_an_end_counts_as_that_end(tmp_path):
    found = made(tmp_path, 4, accuracy=shifted(peaks, 0.04), loss=shifted(dips, 0.04))
    assert verdict(found, "ends-are-best-accuracy") == "holds"
    assert verdict(found, "ends-are-lowest-loss") == "holds"


def test_one_end_that_is_no_peak_is_enough_for_the_claim_to_fail(tmp_path):
    def one_peak(alpha):
        return 0.97 - 0.3 * np.abs(alpha)

    assert verdict(made(tmp_path, 4, accuracy=one_peak), "ends-are-best-accuracy") == "fails"


def test_one_place_that_says_otherwise_is_named(tmp_path):
    found = made(tmp_path, 4, loss=shifted(dips, 0.3))
    judged = judge(CLAIMS["ends-are-lowest-loss"], found, study=STUDY.name, preset="smoke").verdict
    assert {part.name for part in judged.parts} == {
        f"batch size {size}, {name} set" for size in (32, 256) for name in (TRAIN, TEST)
    }


def test_a_gain_at_the_margin_leaves_the_claim_undecided(tmp_path):
    assert verdict(made(tmp_path, 6, accuracy=rising_a_little, luck=0.001), "mixing-never-helps") == "undecided"


def test_a_best_alpha_picked_among_many_by_luck_gains_nothing_on_other_images():
    """All alphas alike, with noise: the best of nine leads by 1.5 deviations where it is picked."""
    draw, gains = np.random.default_rng(0), []
    for _ in range(400):
        parts = [
            pd.DataFrame({"seed": 0, "half": half, "alpha": ALPHAS, "accuracy": 0.9 + 0.01 * noise})
            for half, noise in enumerate(draw.normal(size=(2, len(ALPHAS))))
        ]
        gains.append(gain(pd.concat(parts)).low[0])
    assert abs(np.mean(gains)) < 3 * np.std(gains) / 20


def test_a_network_of_its_own_is_no_mixture():
    """At 0.05 and 0.95 accuracy is higher than anywhere: too near to a network to count."""
    alphas = np.array([0.0, 0.05, 0.1, 0.5, 0.9, 0.95, 1.0])
    accuracy = np.array([0.9, 0.99, 0.99, 0.8, 0.99, 0.99, 0.85])
    halves = pd.concat([pd.DataFrame({"seed": 0, "half": h, "alpha": alphas, "accuracy": accuracy}) for h in (0, 1)])
    assert gain(halves).low[0] == pytest.approx(0.8 - 0.9)


def test_a_folder_of_an_earlier_version_still_makes_a_page_and_says_what_to_do(tmp_path):
    found = made(tmp_path, 4, old=True)
    assert STUDY.tables(found)
    judged = judge(CLAIMS["mixing-never-helps"], found, study=STUDY.name, preset="smoke").verdict
    assert "Run the study again" in judged.note


@pytest.mark.parametrize("claim", list(CLAIMS))
def test_a_pair_that_could_not_be_measured_counts_at_its_worst_and_is_not_dropped(tmp_path, claim):
    found = made(tmp_path, 8, failed=1)
    judged = judge(CLAIMS[claim], found, study=STUDY.name, preset="smoke").verdict
    assert (judged.seeds, judged.verdict) == (8, "undecided")


def test_tables_and_figures_are_made_of_every_seed(tmp_path):
    found = made(tmp_path, 3)
    barriers = STUDY.tables(found)[0].frame.set_index("line")
    assert barriers["seeds"].tolist() == [3, 3, 3]
    assert barriers.loc[f"{DNN}, matched by weights", "loss barrier, test"] == pytest.approx(
        0.03 * 1.01
    )  # the mean of 1, 1.01 and 1.02
    assert [figure.name for figure in STUDY.figures(found)] == ["figure-11", "aligned", "barriers"]


def test_a_survey_whose_networks_are_trained_and_not_yet_measured_shows_nothing_and_decides_nothing(tmp_path):
    found = made(tmp_path, 3, failed=3)
    assert (STUDY.tables(found), STUDY.figures(found)) == ([], [])
    assert {verdict(found, claim) for claim in CLAIMS} == {"undecided"}


def test_full_is_the_report_s_figure_to_the_letter():
    specs = [spec for spec in STUDY.expand(PRESETS["full"]) if spec.labels["model"] == DNN]
    assert {spec.training.batch_size for spec in specs} == {32, 1024}
    assert {(spec.training.epochs, spec.data.source, spec.data.train) for spec in specs} == {(25, "mnist", None)}
    alphas = interpolation._alphas(PRESETS["full"].alphas)
    assert (alphas[0], alphas[-1]) == (-1.0, 2.0)
    assert {0.0, 1.0} <= set(alphas)
    assert len(alphas) >= 31
    np.testing.assert_allclose([b - a for a, b in pairwise(alphas)], 3 / (len(alphas) - 1), atol=1e-12)


def test_a_number_of_alphas_that_would_miss_the_networks_is_refused():
    with pytest.raises(SettingError, match="0 and 1 are among the alphas"):
        prepare(["interpolation"], "quick", overrides=["alphas=32"])


def test_the_two_networks_of_a_seed_share_their_data_only_unless_they_are_to_share_their_start():
    specs = [s for s in STUDY.expand(PRESETS["full"]) if s.labels["model"] == DNN and s.seed == 3]
    (first,) = (s for s in specs if s.labels["batch_size"] == 32)
    own, shared = (s for s in specs if s.labels["batch_size"] == 1024)
    assert own.labels["start"] == OWN
    assert first.seeds.weights == shared.seeds.weights != own.seeds.weights
    assert len({first.seeds.order, own.seeds.order, first.seeds.weights + 1}) == 3
    assert first.data == own.data == shared.data


def trained(spec) -> Trained:
    """A network as it stands before training: as good as any for the definition of a line."""
    return Trained(spec, models.build(spec.model, seed=spec.seeds.weights).state_dict(), {})


def small(**changes):
    settings = PRESETS["smoke"].model_copy(update={"seeds": 1, "images": 200, "cnn_images": 192, **changes})
    specs = {spec.fingerprint(): spec for spec in STUDY.expand(settings)}
    return [(a, [trained(specs[name]) for name in a.inputs]) for a in STUDY.analyses(settings)]


@cache
def of_first_pair(model: str):
    """The analysis of the first pair with this model, its networks, and what it finds: once for all that look."""
    spec, pair = next((a, pair) for a, pair in small() if a.labels["model"] == model)
    return pair, STUDY.analyse(spec, pair)


def plain(network: torch.nn.Module, images: data.Dataset, flat: bool) -> tuple[float, float]:
    inputs = torch.from_numpy(images.inputs_as(np.float32, "test"))
    targets = torch.tensor(images.test_targets)
    with torch.no_grad():
        outputs = network(inputs.flatten(1) if flat else inputs)
    return float(cross_entropy(outputs, targets)), float((outputs.argmax(1) == targets).double().mean())


def test_the_line_is_that_of_mixed_weights_and_its_barrier_is_frankle_s():
    spec, (a, b) = small()[0]
    found = STUDY.analyse(spec, [a, b])
    line = found["line"]
    line = line[(line["matching"] == AS_TRAINED) & (line["set"] == TEST)].set_index("alpha")
    images = data.load(a.spec.data)
    mixed = models.build(a.spec.model)
    expected = {}
    for alpha in line.index:
        mixed.load_state_dict({n: (1 - alpha) * a.weights[n] + alpha * b.weights[n] for n in a.weights})
        expected[alpha] = plain(mixed, images, flat=True)
    np.testing.assert_allclose(line["loss"], [loss for loss, _ in expected.values()], rtol=1e-4)
    np.testing.assert_allclose(line["accuracy"], [share for _, share in expected.values()], atol=1 / 360 + 1e-9)
    halves = found["halves"].groupby("alpha")["accuracy"].mean()  # 360 images: two halves of 180
    np.testing.assert_allclose(halves, line["accuracy"], atol=1e-6)
    assert found["halves"].groupby("half")["accuracy"].mean().nunique() == 2
    barriers = found["barriers"].set_index(["matching", "set"])
    height = max(loss for alpha, (loss, _) in expected.items() if 0 <= alpha <= 1)
    ends = (expected[0.0][0] + expected[1.0][0]) / 2
    assert barriers.loc[(AS_TRAINED, TEST), "barrier"] == pytest.approx(height - ends, abs=1e-4)


@pytest.mark.parametrize("model", ["DNN", "CNN"])
def test_matching_moves_the_line_but_neither_network_at_its_ends(model, words_in):
    _, found = of_first_pair(model)
    line = found["line"]
    assert words_in(found) == set()
    assert set(line["matching"]) == {AS_TRAINED, BY_WEIGHTS, BY_ACTIVATIONS, ITSELF, ITSELF_MATCHED}
    at = line[line["set"] == TRAIN].pivot_table(index="alpha", columns="matching", values="loss")
    for end in (0.0, 1.0):
        others = at.loc[end, [BY_WEIGHTS, BY_ACTIVATIONS]]
        np.testing.assert_allclose(others, at.loc[end, AS_TRAINED], rtol=1e-5)
    assert abs(at.loc[0.5, BY_WEIGHTS] / at.loc[0.5, AS_TRAINED] - 1) > 1e-4


@pytest.mark.parametrize("model", ["DNN", "CNN"])
def test_matching_a_network_with_itself_in_another_order_leaves_no_barrier(model):
    line = of_first_pair(model)[1]["line"]
    at = line[line["set"] == TRAIN].pivot_table(index="alpha", columns="matching", values="loss")
    np.testing.assert_allclose(at.loc[1.0, [ITSELF, ITSELF_MATCHED]], at.loc[0.0, AS_TRAINED], rtol=1e-5)
    np.testing.assert_allclose(at[ITSELF_MATCHED], at.loc[0.0, AS_TRAINED], rtol=1e-4)  # the same network all along
    assert abs(at.loc[0.5, ITSELF] / at.loc[0.0, AS_TRAINED] - 1) > 1e-4


def test_a_convolutional_network_is_measured_with_the_statistics_of_the_training_set():
    pair, found = of_first_pair("CNN")
    assert isinstance(pair[0].spec.model, CNN)
    assert pair[0].spec.model.batch_norm
    line = found["line"]
    at_start = line[(line["matching"] == AS_TRAINED) & (line["set"] == TEST) & (line["alpha"] == 0.0)]
    network = pair[0].module()
    images = data.load(pair[0].spec.data)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # plain mean over batches, which are of one size
            layer.reset_running_stats()
    network.train()
    with torch.no_grad():
        for batch in torch.from_numpy(images.inputs_as()).split(64):
            network(batch)
    loss, _ = plain(network.eval(), images, flat=False)
    assert float(at_start["loss"].iloc[0]) == pytest.approx(loss, rel=1e-3)
