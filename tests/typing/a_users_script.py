"""What a user's own script may look like: checked by mypy --strict against the package as installed, never run."""

from dataclasses import dataclass
from pathlib import Path
from typing import assert_type

import pandas as pd
import torch
from torch import Tensor, nn

import theodolite as th
from theodolite.measure.critical.points import CriticalPoint, CriticalPoints
from theodolite.measure.gradient_norm import GradientNorm
from theodolite.measure.hessian_density import Density
from theodolite.measure.hessian_eigenvalues import Eigenpairs
from theodolite.measure.hessian_spectrum import Spectrum
from theodolite.measure.hessian_trace import Trace
from theodolite.measure.interpolate import Interpolation
from theodolite.measure.minimal_ratio import MinimalRatio
from theodolite.measure.results.base import Result
from theodolite.measure.sensitivity import Sensitivity
from theodolite.measure.sharpness import Sharpness
from theodolite.measure.surface import Surface
from theodolite.measure.trajectory import Trajectory


def main() -> None:
    model = nn.Linear(2, 1)
    data = (torch.zeros(3, 2), torch.zeros(3, 1))
    loss = nn.functional.mse_loss

    assert_type(th.measure.gradient_norm(model, loss, data), GradientNorm)
    assert_type(th.measure.hessian_eigenvalues(model, nn.MSELoss(), [data], k=3, which="both"), Eigenpairs)
    assert_type(th.measure.hessian_spectrum(model, loss, data), Spectrum)
    assert_type(th.measure.hessian_density(model, loss, data), Density)
    assert_type(th.measure.hessian_trace(model, loss, data), Trace)
    assert_type(th.measure.minimal_ratio(model, loss, data), MinimalRatio)
    assert_type(th.measure.interpolate(model, model, loss, data, [0, 0.5, 1]), Interpolation)
    assert_type(th.measure.surface(model, loss, data), Surface)
    assert_type(th.measure.sensitivity(model, loss, data), Sensitivity)
    assert_type(th.measure.sharpness(model, loss, data, method="sam"), Sharpness)
    assert_type(th.measure.trajectory([model.state_dict()]), Trajectory)

    points = th.measure.find_critical_points(model, loss, data, 5)
    assert_type(points, CriticalPoints)
    assert_type(points[0], CriticalPoint)
    assert_type(points.distinct(), CriticalPoints)
    assert_type([point.loss for point in points], list[float])

    steep = th.measure.gradient_norm(model, loss, data)
    assert_type(steep.value, float)
    steep.to_frame().describe()
    steep.save(Path("steep.safetensors"))
    steep.plot().save("steep.png")
    again = th.measure.load("steep.safetensors")
    assert_type(again, Result)
    if isinstance(again, Spectrum):
        assert_type(again.eigenvalues, Tensor)

    th.measure.sharpness(model, loss, data, method="sma")  # type: ignore[arg-type]
    th.measure.hessian_trace(model, loss, data, product=3)  # type: ignore[call-arg]
    th.measure.gradient_nrm(model, loss, data)  # type: ignore[attr-defined]
    steep.value = 2.0  # type: ignore[misc]

    @dataclass(frozen=True, slots=True)
    class Norm(th.Result, kind="norm_of_weights"):
        value: float

    @th.instrument(asks="How long are the weights?", cost="weights alone")
    def norm_of_weights(model: nn.Module, loss: nn.Module, data: object, *, power: float = 2.0) -> Norm:
        return Norm(sum(float(p.abs().pow(power).sum()) for p in model.parameters()))

    assert_type(norm_of_weights(model, nn.MSELoss(), data, power=1.0), Norm)
    th.Recorder([norm_of_weights, "sharpness"], samples=lambda batch: 1.0, reduction="sum", resume=True)
    assert_type(th.recordings("results/own").over_seeds("sharpness"), pd.DataFrame)
    th.Recorder("sharpness", reduction="max")  # type: ignore[arg-type]
    th.instrument(asks="?", cost="cheap")  # type: ignore[arg-type]

    study = th.study("own", question="Is it so?", seeds=3)

    @study.run(a=[1, 2])
    def go(seed: int, a: int) -> th.Trained:
        return th.Trained(model, loss=loss, data=data, metrics={"x": float(seed * a)})

    assert_type(go(1, 2), th.Trained)
    study.measure("top", th.measure.hessian_eigenvalues, k=1)
    study.claim("c", "So.", value="metrics.x", compare={"a": (1, 2)}, how="ratio", below=1.0)
    study.claim("c", "So.", value="metrics.x", how="quotient", below=1.0)  # type: ignore[arg-type]
    study.claim("c", "So.", evidence=lambda records: th.Evidence.exact(pd.Series([1.0])), within=(0, 2))
