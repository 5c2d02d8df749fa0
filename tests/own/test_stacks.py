"""A study of small convolutional networks: trained as stacks, with the same records whatever the workers."""

import hashlib
import json
from contextlib import nullcontext

import pytest

from commands import called
from theodolite import execute
from theodolite.data import DataSpec
from theodolite.figures import render
from theodolite.jobs import plan
from theodolite.models import CNN
from theodolite.study import RunSpec, Seeds, Training
from tiny import Here

STUDY = """
import theodolite as th
from theodolite.study import Seeds, Training

class Own(th.Settings):
    seeds: int = 3

def expand(settings):
    for seed in range(settings.seeds):
        for rate in (1e-3, 1e-2):
            yield th.RunSpec(
                study="pictures", labels={"rate": rate}, seed=seed,
                data=th.data.DataSpec(source="digits", train=96, test=32, seed=seed),
                model=th.models.CNN(image=(1, 8, 8), channels=(3, 5), outputs=10, activation="tanh"),
                seeds=Seeds(weights=seed, order=seed),
                training=Training(loss="cross_entropy", learning_rate=rate, batch_size=20, epochs=3),
            )

def learned(records):
    losses = records.table("metrics").query("rate == 0.01").groupby("seed")["train_loss"]
    return th.Evidence.exact(losses.last() / losses.first())

study = th.Study(
    name="pictures", title="Pictures", question="Does it learn?", source="own", settings_type=Own,
    presets={"smoke": Own(), "quick": Own()}, expand=expand,
    claims=[th.Claim(id="learns", sentence="It learns.", source="own", statistic="a quotient", kind="mean",
                     side="below", threshold=1.0, evidence=learned)],
    tables=lambda records: [], figures=lambda records: [], not_shown="Much.", seconds={},
)
"""


def digests(folder):
    files = [*folder.glob("pictures/runs/*/*.parquet"), *folder.glob("pictures/runs/*/*.safetensors")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.thorough
def test_records_are_the_same_bytes_whatever_the_workers_and_what_was_there_before(tmp_path, monkeypatch):
    monkeypatch.setattr(render, "save", lambda *_, **__: None)  # pictures take longest
    file = tmp_path / "file.py"
    file.write_text(STUDY)
    found, stacks = [], []

    def run(name, *options):
        done = called("run", str(file), "--preset", "smoke", "--out", str(tmp_path / name), *options)
        assert done.returncode == 0, done.stderr

    def look(name):
        found.append(digests(tmp_path / name))
        specs = [json.loads(path.read_text()) for path in (tmp_path / name).glob("pictures/runs/*/spec.json")]
        stacks.append(sorted(spec["stack"] for spec in specs))

    run("two", "--jobs", "2")
    look("two")
    monkeypatch.setattr(execute, "engine", lambda *_, **__: nullcontext(Here()))  # the same jobs, in this process
    run("one", "--jobs", "1")
    look("one")
    run("by parts", "--jobs", "1", "--seeds", "1", "--resume-every", "1")
    run("by parts", "--jobs", "1")
    look("by parts")
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 12
    assert stacks == [[2] * 6, [3] * 6, [1, 1, 2, 2, 2, 2]]


def spec(seed=0, **changes):
    model = CNN(image=(1, 8, 8), channels=(3, 5), outputs=10)
    fields = {"loss": "cross_entropy", "batch_size": 20, "epochs": 1}
    return RunSpec(
        study="pictures", labels={}, seed=seed, data=DataSpec(source="digits", train=96, test=32, seed=seed),
        model=changes.pop("model", model), training=Training(**fields | changes),
        seeds=Seeds(weights=seed, order=seed),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "device", "size"),
    [
        ({}, "cpu", 4),
        ({"augment": True}, "cpu", 4),
        ({"optimizer": "sam"}, "cpu", 1),
        ({"autocast": True}, "cpu", 1),
        ({"model": CNN(image=(1, 8, 8), channels=(64, 128), outputs=10)}, "cpu", 1),
        ({"model": CNN(image=(1, 8, 8), channels=(4,), outputs=10, batch_norm=True)}, "cpu", 1),
        (
            {"model": CNN(image=(1, 8, 8), channels=(4,), outputs=3)},
            "cpu",
            1,
        ),  # of ten classes: it fails, in its worker
        ({}, "cuda", 1),
    ],
)
def test_jobs_hold_several_where_networks_can_be_a_stack_and_it_pays(tmp_path, changes, device, size):
    specs = [spec(seed, **changes) for seed in range(8)]
    jobs = plan(tmp_path, specs, lambda *_: {}, device=device, workers=1)
    assert [len(job.specs) for job in jobs] == [size] * (8 // size)
