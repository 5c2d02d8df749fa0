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
    assert SPEC.fingerprint() == "1bcd95cb70f042a3"


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


def test_replicas_may_differ_in_seeds_learning_rate_and_labels_only():
    rate = Training(loss="mse", epochs=10, learning_rate=0.1)
    longer = Training(loss="mse", epochs=11, learning_rate=1e-3)
    noisy = DataSpec(source="function:cos", domain=(-1.5, 1 / 3), random_labels=0.5, label_seed=2)
    subset = DataSpec(source="function:cos", domain=(-1.5, 1 / 3), seed=2)
    for same in (changed(seeds=Seeds(weights=9, order=9), seed=9), changed(training=rate), changed(data=noisy)):
        assert same.stack_key() == SPEC.stack_key()
    for other in (changed(training=longer), changed(data=subset), changed(model=MLP(inputs=1, outputs=1))):
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
    ("study", "first"),  # names that results folders hold since format 1
    [
        ("simulate-function", "8bb481dc9fb6fc86"),
        ("image-classification", "5b5d23c0fc44d974"),
        ("weight-trajectory", "b1bc31f72832baa1"),
        ("gradient-norm", "b1d84aff4686aed3"),
        ("minimal-ratio", "d4b6b9d3fe2fabf5"),
        ("random-labels", "6c395bf07cb4398a"),
        ("capacity", "651da26d9710d594"),
        ("interpolation", "4fc6c2c09397b1af"),
        ("sensitivity", "c1b81dfff1555f25"),
        ("error-surface", "e5510f9a32eedb72"),
    ],
)
def test_runs_of_the_studies_keep_their_names(study, first):
    settings = INDEX[study].presets["smoke"]
    specs = [*INDEX[study].expand(settings), *INDEX[study].analyses(settings)]
    assert specs[0].fingerprint() == first


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
