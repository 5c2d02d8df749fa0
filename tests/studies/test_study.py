"""Specs: what enters a fingerprint, and what can share a stack."""

import os
import subprocess
import sys

import pytest
from pydantic import Field, ValidationError

from theodolite.data.spec import DataSpec
from theodolite.models.description import CNN, MLP
from theodolite.specs import ADDED
from theodolite.studies import INDEX
from theodolite.study import RunSpec, Seeds, Training

SPEC = RunSpec(
    study="made",
    labels={"model": "Model 1", "rate": 0.1},
    seed=3,
    data=DataSpec(source="function:cos", domain=(-1.5, 1 / 3)),
    model=MLP(inputs=1, hidden=(15, 19, 16), outputs=1),
    training=Training(loss="mse", epochs=10, learning_rate=1e-3),
    seeds=Seeds(weights=3, order=4),
)


def changed(**changes: object) -> RunSpec:
    return SPEC.model_copy(update=changes)


def test_the_fingerprint_is_what_it_was_when_this_format_was_fixed():
    # Worked out once by sha256sum over the canonical JSON; a change here means that FORMAT must be raised.
    assert SPEC.fingerprint() == "228ae6beb59a986d"


def test_the_fingerprint_is_the_same_in_another_process_with_other_hashes():
    spec = f"RunSpec.model_validate_json({SPEC.model_dump_json()!r})"
    script = f"from theodolite.study import RunSpec; print({spec}.fingerprint())"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        found = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
        )
        assert found.stdout.strip() == SPEC.fingerprint()


@pytest.mark.parametrize(
    "other",
    [
        changed(study="other"),
        changed(labels={"model": "Model 2", "rate": 0.1}),
        changed(seed=4),
        changed(data=DataSpec(source="function:exp", domain=(-1.5, 1 / 3))),
        changed(model=MLP(inputs=1, hidden=(15, 16, 19), outputs=1)),
        changed(model=CNN(image=(1, 8, 8), channels=(4,), outputs=1)),
        changed(training=Training(loss="mse", epochs=10, learning_rate=1.0000000000000002e-3)),
        changed(seeds=Seeds(weights=4, order=3)),
        changed(measure={"points": 5}),
    ],
)
def test_everything_that_decides_the_result_enters_the_fingerprint(other):
    assert other.fingerprint() != SPEC.fingerprint()


def test_replicas_may_differ_in_seeds_learning_rate_subset_and_labels_only():
    rate = Training(loss="mse", epochs=10, learning_rate=0.1)
    longer = Training(loss="mse", epochs=11, learning_rate=1e-3)
    noisy = DataSpec(source="function:cos", domain=(-1.5, 1 / 3), random_labels=0.5, label_seed=2)
    subset = DataSpec(source="function:cos", domain=(-1.5, 1 / 3), seed=2)
    for same in (
        changed(seeds=Seeds(weights=9, order=9), seed=9),
        changed(training=rate),
        changed(data=noisy),
        changed(data=subset),
    ):
        assert same.stack_key() == SPEC.stack_key()
    fewer = changed(data=DataSpec(source="function:cos", domain=(-1.5, 1 / 3), train=7))
    for other in (changed(training=longer), fewer, changed(model=MLP(inputs=1, outputs=1))):
        assert other.stack_key() != SPEC.stack_key()


def test_a_spec_is_frozen_and_refuses_what_it_does_not_know():
    with pytest.raises(ValidationError):
        SPEC.seed = 5
    with pytest.raises(ValidationError):
        Training(loss="mse", epochs=1, learning_rat=0.1)
    with pytest.raises(ValidationError):
        Training(loss="mse", epochs=-1)


class Wider(Training):
    """The same settings, and one that a later version has."""

    warm_up: int = Field(default=0, json_schema_extra=ADDED)


def test_a_field_added_at_its_default_leaves_every_name_as_it_was():
    given = {"loss": "mse", "epochs": 10, "learning_rate": 1e-3}
    before, after, used = (
        RunSpec.model_construct(**{**SPEC.__dict__, "training": training})
        for training in (Training(**given), Wider(**given), Wider(**given, warm_up=3))
    )
    assert after.fingerprint() == before.fingerprint() != used.fingerprint()


@pytest.mark.parametrize(
    ("study", "first"),  # names that results folders hold since what they measure last changed
    [
        ("simulate-function", "0a2b734f5675215c"),
        ("image-classification", "ac4fd3a97b63a258"),
        ("weight-trajectory", "47cf37dbc3c7072c"),
        ("gradient-norm", "07c3198fa2db6fd6"),
        ("minimal-ratio", "85a47022bd5f38b8"),
        ("random-labels", "9fbb825547d539fa"),
        ("capacity", "f27cdbc858cbf690"),
        ("interpolation", "f8d690b1e4579fba"),
        ("sensitivity", "fd52e21d221aec04"),
        ("error-surface", "c23396fb1ba418e1"),
    ],
)
def test_runs_of_the_studies_keep_their_names(study, first):
    settings = INDEX[study].presets["smoke"]
    specs = [*INDEX[study].expand(settings), *INDEX[study].analyses(settings)]
    assert specs[0].fingerprint() == first


def test_settings_that_a_network_or_its_data_have_no_use_for_make_no_other_name():
    line = changed(model=MLP(inputs=1, outputs=1))
    curve = SPEC.data.model_copy(update={"scale": "unit", "domain": (-0.0, 1.0)})
    digits = changed(data=DataSpec(source="digits"))
    for one, same in (
        (line, changed(model=MLP(inputs=1, outputs=1, activation="tanh"))),
        (changed(data=DataSpec(source="function:cos", domain=(0.0, 1.0))), changed(data=curve)),
        (digits, changed(data=DataSpec(source="digits", domain=(0.0, 1.0)))),
        (digits, changed(data=DataSpec(source="digits", seed=5))),
        (SPEC, changed(data=SPEC.data.model_copy(update={"seed": 5}))),
        (changed(training=training(10)), changed(training=training(11))),
    ):
        assert one.fingerprint() == same.fingerprint()
    for one, other in (
        (SPEC, changed(model=MLP(inputs=1, hidden=(15, 19, 16), outputs=1, activation="tanh"))),
        (digits, changed(data=DataSpec(source="digits", scale="unit"))),
        tuple(changed(data=DataSpec(source="digits", test=50, seed=seed)) for seed in (0, 5)),
        (changed(training=training(10)), changed(training=training(9))),
    ):
        assert one.fingerprint() != other.fingerprint()


def training(every: int) -> Training:
    return Training(loss="mse", epochs=10, evaluate_every=every, snapshot_every=every)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Training(loss="mse", epochs=1, momentum=0.9), "momentum 0 with adam"),
        (lambda: Training(loss="mse", epochs=1, stop_at_convergence=True), "a convergence to stop at"),
        (lambda: DataSpec(source="digits", label_seed=7), "label_seed 0 where no label is random"),
    ],
)
def test_settings_that_change_no_number_cannot_make_another_name(make, said):
    with pytest.raises(ValidationError, match=said):
        make()


@pytest.mark.parametrize("name", ["seed", "epoch", "parameters", "fingerprint", "status"])
def test_labels_that_are_columns_of_records_are_refused(name):
    with pytest.raises(ValidationError, match=f"got '{name}'"):
        RunSpec.model_validate({**SPEC.model_dump(), "labels": {name: 3}})
