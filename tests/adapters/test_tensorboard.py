"""Read back by TensorBoard's own reader."""

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import theodolite as th
from theodolite.adapters.tensorboard import TensorBoardSink
from theodolite.record import RecorderWarning

LOSS = nn.MSELoss()


ALL = {"gradient_norm": "gradient_norm", "all": "hessian_spectrum", "density": "hessian_density"}


def record(sink, steps=3, instruments=ALL):
    torch.manual_seed(0)
    model, data = nn.Linear(3, 1), (torch.randn(9, 3), torch.randn(9, 1))
    with th.Recorder(instruments, every=1, data=data, sinks=[sink], out=None) as recorder:
        for _ in range(steps):
            recorder.step(model, LOSS)
            with torch.no_grad():
                model.weight.mul_(0.5)
    return recorder


def read(folder):
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "images": 0})
    found.Reload()
    return found


def test_numbers_spectra_and_figures_arrive(tmp_path):
    recorder = record(TensorBoardSink(tmp_path / "log"))
    found = read(tmp_path / "log")
    numbers = recorder.table("numbers")
    for instrument, quantity in (("gradient_norm", "value"), ("gradient_norm", "norms.weight"), ("all", "tolerance")):
        own = numbers[(numbers["instrument"] == instrument) & (numbers["quantity"] == quantity)]
        scalars = found.Scalars(f"{instrument}/{quantity}")
        assert [event.step for event in scalars] == [1, 2, 3]
        np.testing.assert_allclose([event.value for event in scalars], own["value"], rtol=1e-6)
    vectors = recorder.table("vectors").query("instrument == 'all' and quantity == 'eigenvalues' and step == 2")[
        "value"
    ]
    histogram = found.Histograms("all/eigenvalues")[1].histogram_value
    assert histogram.num == len(vectors) == 4
    assert (histogram.min, histogram.max) == pytest.approx((vectors.min(), vectors.max()))
    assert sum(histogram.bucket) == 4
    density = found.Histograms("density/density")[0].histogram_value
    mean = numbers.query("instrument == 'density' and quantity == 'mean' and step == 1")["value"].iloc[0]
    assert density.num == pytest.approx(1.0, abs=0.01)
    assert density.sum == pytest.approx(mean, rel=0.05)
    images = found.Tags()["images"]
    assert {"figures/gradient-norm", "figures/density", "figures/all-eigenvalues-lines"} <= set(images)
    picture = found.Images("figures/gradient-norm")[0]
    assert (picture.step, picture.encoded_image_string[:4]) == (3, b"\x89PNG")


def test_a_writer_of_the_users_own_stays_open(tmp_path):
    writer = SummaryWriter(str(tmp_path / "log"))
    record(TensorBoardSink(writer), steps=1, instruments={"one": lambda model, loss, data: 1.0})
    writer.add_scalar("mine", 2.0, 5)
    writer.close()
    assert read(tmp_path / "log").Scalars("mine")[0].value == 2.0


def test_a_sink_that_fails_does_not_end_the_training():
    class Away:
        def write(self, measurement):
            raise ConnectionError("the server is away")

        def close(self, tables):
            raise ConnectionError("the server is still away")

    with pytest.warns(RecorderWarning, match="Away failed at step 1, and the training goes on.*the server is away"):
        recorder = record(Away())
    assert len(recorder.table("costs")) == 9
    assert set(recorder.table("failures")["instrument"]) == {"Away"}
