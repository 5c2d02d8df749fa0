"""Against an MLflow store in a local SQLite file, read back by MLflow's own client."""

import json
import re
import tomllib
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from torch import nn

import theodolite as th
from theodolite.adapters.mlflow import MLflowSink
from theodolite.errors import SettingError

LOSS = nn.MSELoss()
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, in MLflow's store


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    yield mlflow.MlflowClient(), (folder / "artifacts").as_uri()
    mlflow.set_tracking_uri(before)


def test_numbers_spectra_and_figures_arrive(client, tmp_path):
    client, place = client
    mlflow.set_experiment(experiment_id=client.create_experiment("own", artifact_location=place))
    torch.manual_seed(0)
    model, data = nn.Linear(3, 1), (torch.randn(9, 3), torch.randn(9, 1))
    instruments = {"gradient_norm": "gradient_norm", "all (λ)": "hessian_spectrum"}
    with (
        mlflow.start_run() as run,
        th.Recorder(instruments, every=1, data=data, sinks=[MLflowSink()], out=None) as recorder,
    ):
        for _ in range(3):
            recorder.step(model, LOSS)
            with torch.no_grad():
                model.weight.mul_(0.5)
    assert not len(recorder.table("failures"))
    numbers, name = recorder.table("numbers"), run.info.run_id
    own = numbers.query("instrument == 'gradient_norm' and quantity == 'value'")
    found = client.get_metric_history(name, "gradient_norm/value")
    assert [metric.step for metric in found] == [1, 2, 3]
    np.testing.assert_allclose([metric.value for metric in found], own["value"], rtol=1e-12)
    file = mlflow.artifacts.download_artifacts(
        run_id=name, artifact_path="spectra/all ___/eigenvalues/0000000002.json", dst_path=str(tmp_path)
    )
    histogram = json.loads(Path(file).read_text())
    vectors = recorder.table("vectors").query("quantity == 'eigenvalues' and step == 2")["value"]
    assert sum(histogram["counts"]) == len(vectors) == 4
    assert (histogram["edges"][0], histogram["edges"][-1]) == pytest.approx((vectors.min(), vectors.max()))
    figures = {item.path for item in client.list_artifacts(name, "figures")}
    assert {"figures/gradient-norm.png", "figures/gradient-norm.svg"} <= figures


def test_without_a_run_it_says_how_to_start_one(client):
    with pytest.raises(SettingError, match=r"Call mlflow\.start_run\(\) before"):
        MLflowSink()


def test_the_page_starts_a_run_in_a_local_store(client, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "recorder.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "MLflowSink()" in block)
    client, place = client
    mlflow.set_experiment(experiment_id=client.create_experiment("page", artifact_location=place))
    monkeypatch.chdir(tmp_path)
    session = {"probe": (torch.eye(2), torch.zeros(2, 1)), "nn": nn}
    loop = code.replace("...  # your loop", "recorder.step(nn.Linear(2, 1), nn.MSELoss())  #")
    exec(loop, session)  # noqa: S102 - our own documentation
    assert not len(session["recorder"].table("failures"))
    run = mlflow.last_active_run().info.run_id
    assert [metric.step for metric in client.get_metric_history(run, "gradient_norm/value")] == [1]


def test_the_extra_brings_what_a_local_store_needs():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    asked = {Requirement(one).name.lower() for one in project["optional-dependencies"]["mlflow"]}
    assert asked >= {"mlflow-skinny", "alembic", "sqlalchemy"}
