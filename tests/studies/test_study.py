"""Specs: what enters a fingerprint, and what can share a stack."""

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from theodolite.data.spec import DataSpec
from theodolite.models.description import CNN, MLP
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
