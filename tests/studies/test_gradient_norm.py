"""Gradient norms: measured on the whole training set, beside mini-batches; the claims follow the records."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch.nn.functional import cross_entropy

from theodolite import data, train
from theodolite.claims import judge
from theodolite.store import records
from theodolite.store.records import Plan, Planned
from theodolite.studies.gradient_norm import study
from theodolite.studies.gradient_norm.findings import correlation_of_logs, power_of_loss
from theodolite.train import Replica

CLAIMS = {claim.id: claim for claim in study.CLAIMS}
EPOCHS = np.arange(0, 21, 2)


def made_norms(draw, power, factor):
    """Losses that fall every epoch; norms that go with a power of the loss, times a factor at the end."""
    loss = 2.0 * np.exp(-0.2 * EPOCHS)
    norm = loss**power * np.exp(0.5 * draw.normal(size=len(EPOCHS)))
    norm[-2:] = norm[0] * factor * np.exp(0.02 * draw.normal())  # the last tenth of the epochs
    return pd.DataFrame(
        {"epoch": EPOCHS, "loss": loss, "norm": norm, "batch_norm": 2 * norm, "batch_square": 4 * norm**2}
    )


def made_records(directory, seeds, *, power=1.0, factor=0.1, diverged=()):
    settings = study.GradientNorm(seeds=seeds, source="digits", train=None, test=None)
    specs = list(study.expand(settings))
    records.claim_folder(directory)
    draw = np.random.default_rng(4)
    for spec in specs:
        lost = (spec.labels["task"], spec.seed) in diverged
        norms = made_norms(draw, power, factor)
        records.write(
            directory,
            spec,
            tables={"metrics": pd.DataFrame({"epoch": [0]}), "norms": norms[norms["epoch"] < 12] if lost else norms},
            environment={"wall_seconds": 1.0},
            diverged_epoch=12 if lost else None,
        )
    plan = Plan(
        study=study.NAME,
        preset="smoke",
        settings=settings.model_dump(mode="json"),
        command="",
        runs=tuple(map(Planned.of, specs)),
    )
    return study.STUDY.records(directory, plan)


def verdict(claim, found):
    return judge(CLAIMS[claim], found, study=study.NAME, preset="smoke").verdict


def test_full_trains_on_all_of_mnist_and_on_the_function_with_ten_seeds_each():
    runs = list(study.expand(study.PRESETS["full"]))
    assert {(run.data.source, run.data.train) for run in runs} == {("function:cos", 512), ("mnist", None)}
    for source in ("function:cos", "mnist"):
        assert len({run.seeds.weights for run in runs if run.data.source == source}) >= 10
    assert {run.model.parameters for run in runs if run.data.source == "function:cos"} == {671}


@pytest.mark.parametrize("preset", study.PRESETS)
def test_every_run_keeps_the_snapshots_that_the_setting_says(preset):
    settings = study.PRESETS[preset]
    for run in study.expand(settings):
        assert run.training.epochs / run.training.snapshot_every == pytest.approx(settings.snapshots, rel=0.1)
        assert run.training.batch_size < (run.data.train or 1000)  # else a mini-batch is the whole set


@pytest.mark.parametrize(
    ("claim", "holds", "fails"),
    [
        ("falls-with-loss", {"power": 1.0}, {"power": -1.0}),
        ("smaller-at-the-end", {"factor": 0.1}, {"factor": 3.0}),
    ],
)
def test_a_claim_holds_fails_and_is_undecided_where_the_records_say_so(tmp_path, claim, holds, fails):
    # Rank correlations at exactly 1 in all of 13 seeds, not in fewer, say that their mean is above 0.5.
    assert verdict(claim, made_records(tmp_path / "holds", 13, **holds)).verdict == "holds"
    assert verdict(claim, made_records(tmp_path / "fails", 5, **fails)).verdict == "fails"
    few = verdict(claim, made_records(tmp_path / "few", 2, **holds))
    assert (few.verdict, few.seeds) == ("undecided", 2)


def test_each_task_has_the_correlation_of_the_logarithms_of_its_own_runs(tmp_path):
    found = made_records(tmp_path, 3)
    evidence = CLAIMS["falls-with-loss"].evidence(found)
    for task, part in found.table("norms").astype({"task": str}).groupby("task"):
        own = {
            seed: stats.pearsonr(np.log(rows["loss"]), np.log(rows["norm"])).statistic
            for seed, rows in part.groupby("seed")
        }
        assert evidence[task].low.to_dict() == pytest.approx(own)


def test_snapshots_on_a_plateau_do_not_hide_that_norm_and_loss_fell_together_before():
    fall = np.geomspace(1, 1e-4, 6)
    loss = np.r_[fall, 1e-4 * (1 - 0.01 * np.arange(1, 31))]  # goes on falling, by a third
    norm = np.r_[fall, 1e-4 * (1 + 0.01 * np.arange(1, 31))]  # and the norm rises
    norms = pd.DataFrame({"seed": 0, "loss": loss, "norm": norm})
    assert stats.spearmanr(loss, norm).statistic < 0
    assert correlation_of_logs(norms)[0] > 0.95


def test_near_the_bottom_of_a_parabola_the_norm_goes_with_the_root_of_the_loss():
    x = np.geomspace(1, 1e-3, 9)
    norms = pd.DataFrame({"seed": 0, "loss": 3 * x**2 / 2, "norm": 3 * x})
    assert power_of_loss(norms)[0] == pytest.approx(0.5)
    assert correlation_of_logs(norms)[0] == pytest.approx(1)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_diverged_run_is_taken_at_its_worst_and_never_left_out(tmp_path, claim):
    found = verdict(claim, made_records(tmp_path, 6, diverged={("cos", 2)}))
    assert (found.verdict, found.seeds) == ("undecided", 6)
    assert "1 of 6 seeds gave no number" in found.note


def test_the_table_knows_the_share_of_noise_that_was_made(tmp_path):
    table = study.tables(made_records(tmp_path, 3))[0].frame
    assert table["task"].tolist() == ["cos", "digits"]
    assert table["noise in a mini-batch"].tolist() == pytest.approx(
        [0.75, 0.75]
    )  # a norm of 2 where 1 is the gradient's


def test_figures_show_both_norms_for_each_task(tmp_path):
    names = [figure.name for figure in study.figures(made_records(tmp_path, 3, diverged={("digits", 0)}))]
    assert names == ["figure-6-cos", "norm-over-epochs-cos", "figure-6-digits", "norm-over-epochs-digits"]


@pytest.fixture(scope="module")
def trained():
    settings = study.PRESETS["smoke"].model_copy(update={"hidden": (6,), "epochs": 4, "snapshots": 2, "batches": 40})
    spec = next(spec for spec in study.expand(settings) if spec.data.source == "digits")
    sets = train.tensors(data.load(spec.data))
    replica = Replica(spec.seeds.weights, spec.seeds.order, spec.training.learning_rate)
    return spec, train.train_replicas(spec.model, sets, spec.training, [replica])[0], sets.train


def test_the_norm_is_that_of_the_gradient_of_the_whole_training_loss(trained):
    spec, outcome, split = trained
    found = study.measure(spec, outcome)["norms"]
    assert found["epoch"].tolist() == [0, 2, 4]
    model = outcome.module()
    for row in found.itertuples():
        model.load_state_dict(outcome.snapshots[row.epoch])
        model.zero_grad()
        loss = cross_entropy(model(split.inputs.flatten(1)), split.targets)
        loss.backward()
        squares = sum(float((p.grad**2).sum()) for p in model.parameters())
        assert (row.loss, row.norm) == pytest.approx((loss.item(), squares**0.5), rel=1e-4)


def test_mini_batches_have_the_whole_gradient_and_the_noise_of_sampling(trained):
    spec, outcome, split = trained
    found = study.measure(spec, outcome)["norms"].iloc[-1]
    model, size = outcome.module(), spec.training.batch_size
    each = []
    for x, y in zip(split.inputs.flatten(1), split.targets, strict=True):
        model.zero_grad()
        cross_entropy(model(x[None]), y[None]).backward()
        each.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    gradients = torch.stack(each)
    n = len(gradients)
    noise = float(gradients.var(0).sum()) / size * (1 - size / n)  # sampling without replacement
    assert found["batch_square"] == pytest.approx(found["norm"] ** 2 + noise, rel=0.15)


def test_a_diverged_run_is_measured_up_to_where_its_loss_ended(trained):
    spec, outcome, _ = trained
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in outcome.weights.items()}
    snapshots = {**outcome.snapshots, 4: broken}
    fields = {name: getattr(outcome, name) for name in outcome.__slots__}
    lost = type(outcome)(**{**fields, "snapshots": snapshots, "diverged_epoch": 4})
    assert study.measure(spec, lost)["norms"]["epoch"].tolist() == [0, 2]
