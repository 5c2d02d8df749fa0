"""Results folders of every kind, small: one a study, recordings, and both kinds of studies of one's own."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn

import fuzzed
import theodolite as th
from theodolite import cli, execute
from theodolite.store.folder import MARK
from tiny import Here

OWN = """
import pandas as pd
import torch
from torch import nn
import theodolite as th

study = th.study("own", question="Is it so?", seeds=4)

@study.run(stride=[0.5, 2.0], how=["a", "b"])
def go(seed, stride, how):
    model = nn.Linear(2, 1)
    rows = pd.DataFrame({"epoch": [0, 1, 2], "loss": [2.0, seed + stride, 1.0], "word": ["x", None, "z"]})
    return th.Trained(model, nn.MSELoss(), (torch.eye(2), torch.ones(2, 1)), {"height": stride + seed}, {"curve": rows})

study.measure("slope", th.measure.gradient_norm)
study.claim("higher", "It is higher.", value="metrics.height", compare={"stride": (2.0, 0.5)}, how="ratio", above=1)
study.claim("low", "It stays low.", value="slope.value", below=3.0)
study.claim("last", "It ends at one.", value="curve.loss.-1", within=(0.5, 1.5))
study.claim("hand", "A function says so.", above=0.0, evidence=lambda records: (
    records.table("metrics").query("stride == 2 and how == 'a'").set_index("seed")["height"]))
"""
WHOLE = """
import pandas as pd
import theodolite as th
from theodolite.claims import Claim, Evidence
from theodolite.findings import Table
from theodolite.data.spec import DataSpec
from theodolite.models.description import MLP
from theodolite.study import RunSpec, Seeds, Settings, Study, Training, AnalysisSpec

def expand(settings):
    for seed in range(settings.seeds):
        for width in (2, 3):
            yield RunSpec(study="whole", labels={"width": width}, seed=seed,
                data=DataSpec(source="function:cos", train=16, test=16),
                model=MLP(inputs=1, hidden=(width,), outputs=1, activation="tanh"),
                training=Training(loss="mse", epochs=4), seeds=Seeds(weights=seed, order=seed))

def loss(records):
    return Evidence.exact(records.table("metrics").query("width == 3").groupby("seed")["train_loss"].last())

study = Study(name="whole", title="A whole study", question="Is it?", source="mine", settings_type=Settings,
    presets={"quick": Settings(seeds=4)}, expand=expand,
    measure=lambda spec, outcome: {"size": pd.DataFrame({"hidden": [3], "word": ["a"], "right": [True]})},
    analyses=lambda settings: [AnalysisSpec(study="whole", labels={"at": "end"}, seed=seed) for seed in range(2)],
    analyse=lambda spec, trained: {"found": pd.DataFrame({"x": [1.0, 2.0]})},
    tables=lambda records: [Table("sizes", "Sizes", records.table("size")[["seed", "hidden", "word"]])],
    figures=lambda records: [], seconds={}, not_shown="All else.",
    claims=[Claim(id="learns", sentence="It learns.", source="mine", statistic="loss", kind="mean", side="below",
                  threshold=1.0, evidence=loss)])
"""


def parts(survey: Path, root: Path) -> list[Path]:
    """A results folder for each study of a survey."""
    found = []
    for plan in sorted(survey.glob("*/plan.json")):
        place = root / plan.parent.name
        (place / plan.parent.name).mkdir(parents=True)
        for kind in ("runs", "analyses"):
            if (plan.parent / kind).is_dir():
                shutil.copytree(plan.parent / kind, place / plan.parent.name / kind)
        shutil.copy(plan, place / plan.parent.name)
        shutil.copy(survey / MARK, place)
        found.append(place)
    return found


def recorded(place: Path) -> Path:
    """Three trainings of two settings, with numbers, vectors, failures, weights and numbers of one's own."""

    def raising(model: nn.Module, loss: object, data: object) -> float:
        raise ValueError("it cannot be measured")

    for seed, rate in ((0, 0.1), (1, 0.1), (0, 0.2)):
        torch.manual_seed(10 * seed + int(100 * rate))
        model, loss = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), nn.MSELoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        data = torch.randn(8, 2), torch.randn(8, 1)
        chosen = {"gradient_norm": "gradient_norm", "top": ("hessian_eigenvalues", {"k": 3}), "bad": raising}
        with th.Recorder(chosen, every=2, out=place, labels={"rate": rate}, seed=seed, weights="*") as recorder:
            for _ in range(6):
                optimizer.zero_grad()
                loss(model(data[0]), data[1]).backward()
                optimizer.step()
                recorder.step(model, loss, data)
                recorder.log(accuracy=0.5, both=[1.0, 2.0])
            recorder.epoch(model, loss, data)
    return place


def own(place: Path, text: str) -> Path:
    """A study of one's own, run in this process."""
    file = place.parent / f"{place.name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    with patch.object(execute, "engine", lambda *_, **__: nullcontext(Here())), fuzzed.undrawn():
        cli.app(["run", str(file), "--out", str(place)], standalone_mode=False)
    for path in place.glob("*"):
        if path.is_file() and path.name != MARK:
            path.unlink()
    for name in ("tables", "figures"):
        shutil.rmtree(place / text.split('"')[1] / name, ignore_errors=True)
    return place


MADE: dict[str, Callable[[Path], Path]] = {
    "recorded": recorded,
    "own": lambda place: own(place, OWN),
    "whole": lambda place: own(place, WHOLE),
}


def made(root: Path) -> list[Path]:
    """Recordings and both kinds of studies of one's own."""
    return [make(root / name) for name, make in MADE.items()]
