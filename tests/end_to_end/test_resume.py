"""Surveys killed in the middle of their runs, with kill -9, against the same surveys undisturbed."""

import json
import os
import signal
import textwrap
import time
from pathlib import Path

import pytest

from commands import alone, called, start
from theodolite import survey
from theodolite.store import states
from theodolite.store.record import STATE

STUDY = """
import theodolite as th, torch
from theodolite.models import CNN, MLP
from theodolite.recipes import AdamW
from theodolite.study import Seeds, Training

class Own(th.Settings):
    seeds: int = 2
    epochs: int = 30

class Signs(th.Optimizer, kind="signs_by_hand"):
    elementwise = True
    def make(self, parameters, *, learning_rate, weight_decay):
        return Steps(parameters, learning_rate)

class Steps(torch.optim.Optimizer):
    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})
    @torch.no_grad()
    def step(self, closure=None):
        if closure:
            with torch.enable_grad():
                closure()
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                p.sub_(mean.lerp_(p.grad, 0.1).sign(), alpha=group["lr"])

KINDS = {
    "momentum": {"optimizer": "sgd", "momentum": 0.9, "schedule": "one_cycle"},
    "adam": {"optimizer": "adam", "schedule": "cosine", "warmup": 3},
    "own": {"optimizer": Signs(), "schedule": "step", "step_epochs": 12},
}

def expand(settings):
    digits = th.data.DataSpec(source="digits", train=100, test=50)
    wave = th.data.DataSpec(source="function:cos", train=100, test=50)
    for seed in range(settings.seeds):
        for kind, fields in KINDS.items():
            for model, data, loss in (
                (MLP(inputs=1, hidden=(9,), outputs=1, activation="tanh"), wave, "mse"),
                (CNN(image=(1, 8, 8), channels=(4,), outputs=10, batch_norm=True), digits, "cross_entropy"),
            ):
                training = Training(
                    loss=loss, learning_rate=0.003, batch_size=16, epochs=settings.epochs, snapshot_every=10, **fields
                )
                yield th.RunSpec(
                    study="long", labels={"kind": kind, "network": type(model).__name__}, seed=seed, data=data,
                    model=model, seeds=Seeds(weights=seed, order=seed), training=training,
                )

study = th.Study(
    name="long", title="Long", question="Does it go on?", source="own", settings_type=Own, presets={"quick": Own()},
    expand=expand, claims=[], tables=lambda records: [], figures=lambda records: [], not_shown="Much.", seconds={},
)
"""
FUNCTION = """
import theodolite as th
study = th.study("function", question="Is it so?", seeds=3)
@study.run()
def run(seed):
    return {"value": seed}
"""


def numbers(directory: Path) -> dict[str, bytes]:
    """All that training left, byte by byte."""
    found = [path for path in directory.glob("long/runs/*/*") if path.suffix in (".parquet", ".safetensors")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def resumed(directory: Path) -> dict[str, int]:
    """The epochs after which runs went on, as their records say."""
    found = {path.parent.name: json.loads(path.read_text()) for path in directory.glob("long/runs/*/spec.json")}
    return {name: facts["resumed_after_epoch"] for name, facts in found.items() if "resumed_after_epoch" in facts}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "long.py"
    path.write_text(textwrap.dedent(STUDY))
    return path


@pytest.fixture(scope="module")
def undisturbed(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "r"
    done = alone("run", str(file), "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


def test_a_survey_killed_inside_its_runs_goes_on_inside_them_and_ends_byte_for_byte_alike(
    file: Path, undisturbed: Path, tmp_path: Path
):
    out = tmp_path / "r"
    command = ("run", str(file), "--jobs", "2", "--out", str(out), "--resume-every", "1")
    begun = start(*command)
    while not list(out.glob(f"long/runs/*/{STATE}")):
        assert begun.poll() is None, begun.communicate()
        time.sleep(0.01)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.communicate(timeout=30)
    kept = list(out.glob(f"long/runs/*/{STATE}"))
    assert kept
    epochs = {path.parent.name: states.read(path)["epoch"] for path in kept}
    damaged = min(epochs)
    path = out / "long" / "runs" / damaged / STATE
    path.write_bytes(path.read_bytes()[:-1])
    again = alone("run", str(file), "--out", str(out))  # they are gone on from without the option too
    assert again.returncode == 0, again.stderr
    said = " ".join(again.stderr.split())
    assert "cannot be read (its checksum differs). Its run begins anew." in said
    assert len(epochs) == 1 or "in the middle, to go on after epoch" in said
    assert {name: epochs[name] for name in epochs if name != damaged}.items() <= resumed(out).items()
    assert damaged not in resumed(out)
    assert numbers(out) == numbers(undisturbed)
    assert not list(out.rglob(STATE))
    assert len(survey.status(out)) == 1


def test_what_the_users_own_function_does_inside_is_not_resumed(tmp_path: Path):
    file = tmp_path / "function.py"
    file.write_text(FUNCTION)
    done = called("run", str(file), "--out", str(tmp_path / "r"), "--resume-every", "5")
    assert done.returncode == 2
    assert "'function' calls a function of its file, which cannot be resumed inside" in " ".join(done.stderr.split())
    assert not (tmp_path / "r").exists()
    done = called("run", str(file), "--out", str(tmp_path / "r"), "--resume-every", "often")
    assert (done.returncode, "10, 90s, 5min" in done.stderr) == (2, True)
