"""What a recorder measures, against the instruments themselves; and what it does when something goes wrong."""

import logging
import math
import signal
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import theodolite as th
from theodolite.errors import BadData, BadModel, SettingError, UnknownName
from theodolite.measure.catalogue import in_recorder
from theodolite.record import RecorderWarning, log
from theodolite.record.flatten import flatten
from theodolite.record.probe import fixed

LOSS = nn.MSELoss()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 1))


def batch(seed=1, n=12):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator), torch.randn(n, 1, generator=generator)


def train(recorder, model, data, steps=6):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    states = []
    for _ in range(steps):
        optimizer.zero_grad()
        LOSS(model(data[0]), data[1]).backward()
        optimizer.step()
        recorder.step(model, LOSS, data)
        states.append({name: p.detach().clone() for name, p in model.named_parameters()})
    return states


def values(recorder, instrument, quantity="value"):
    numbers = recorder.table("numbers")
    own = numbers[(numbers["instrument"] == instrument) & (numbers["quantity"] == quantity)]
    return own.set_index("step")["value"].to_dict()


@pytest.mark.parametrize("name", in_recorder())
def test_what_is_recorded_is_what_the_instrument_says_of_the_same_weights(name):
    model, data = network(), batch()
    recorder = th.Recorder(name, every=4, out=None)
    states = train(recorder, model, data)
    for step in (1, 4):
        model.load_state_dict(states[step - 1])
        numbers, vectors = flatten(getattr(th.measure, name)(model.eval(), LOSS, data))
        recorded = recorder.table("numbers").query("step == @step")
        assert dict(zip(recorded["quantity"], recorded["value"], strict=True)) == pytest.approx(numbers, nan_ok=True)
        rows = recorder.table("vectors").query("step == @step")
        assert set(rows["quantity"]) == set(vectors)
        for quantity, entries in rows.groupby("quantity")["value"]:
            np.testing.assert_allclose(entries, vectors[quantity], rtol=1e-9)


def test_the_loss_recorded_is_that_of_evaluation_mode_by_default_and_dropout_is_back_afterwards():
    model, data = network(), batch()
    recorder = th.Recorder("gradient_norm", every=1, out=None)
    model.train()
    recorder.step(model, LOSS, data)
    assert [module.training for module in model.modules()] == [True] * 5
    with torch.no_grad():
        expected = LOSS(model.eval()(data[0]), data[1]).item()
    assert values(recorder, "gradient_norm", "loss")[1] == pytest.approx(expected)


def test_dropout_in_training_mode_is_recorded_as_a_failure_and_said_once():
    model, data = network(), batch()
    recorder = th.Recorder("gradient_norm", every=1, mode="training", out=None)
    with pytest.warns(RecorderWarning, match="gradient_norm failed at step 1, and the training goes on") as said:
        train(recorder, model, data)
    assert len(said) == 1
    assert said[0].filename == __file__  # points at the user's line
    failures = recorder.table("failures")
    assert failures["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert set(failures["error"]) == {"NotDeterministic"}
    assert recorder.table("ledger")["failed"].tolist() == [6]


def test_where_warnings_are_errors_the_training_goes_on_and_the_log_says_what_failed(caplog):
    recorder = th.Recorder({"bad": lambda model, loss, data: 1 / 0}, every=1, out=None)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING, "theodolite"):
        warnings.simplefilter("error")
        train(recorder, network(), batch())
    assert "ZeroDivisionError: division by zero" in caplog.text


def test_one_failing_instrument_does_not_keep_the_others_from_measuring():
    both = {"bad": lambda model, loss, data: [][0], "good": lambda model, loss, data: 2.0}
    recorder = th.Recorder(both, every=3, out=None)
    with pytest.warns(RecorderWarning, match="bad failed"):
        train(recorder, network(), batch())
    assert values(recorder, "good") == {1: 2.0, 3: 2.0, 6: 2.0}


def test_a_diverged_network_is_recorded_as_such():
    model, data = network(), batch()
    recorder = th.Recorder("gradient_norm", every=1, out=None)
    recorder.step(model, LOSS, data)
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    with pytest.warns(RecorderWarning, match="holds NaN or infinity"):
        recorder.step(model, LOSS, data)
    assert recorder.table("costs")["step"].tolist() == [1]
    assert recorder.table("failures")["error"].tolist() == ["BadModel"]


def test_an_interrupt_passes_and_leaves_the_model_in_its_mode():
    def interrupted(model, loss, data):
        raise KeyboardInterrupt

    model = network().train()
    recorder = th.Recorder({"stop": interrupted}, every=1, out=None)
    with pytest.raises(KeyboardInterrupt):
        recorder.step(model, LOSS, batch())
    assert all(module.training for module in model.modules())


def test_ctrl_c_within_a_long_instrument_ends_the_training_and_records_no_half_result(monkeypatch):
    original = th.measure.HessianOperator.rows

    def rows(self, vectors):
        if hasattr(self, "check"):  # a product of the instrument's, not of the check before it
            signal.raise_signal(signal.SIGINT)
        return original(self, vectors)

    monkeypatch.setattr(th.measure.HessianOperator, "rows", rows)
    recorder = th.Recorder(("hessian_density",), every=1, out=None)
    with pytest.raises(KeyboardInterrupt):
        recorder.step(network(), LOSS, batch())
    assert not len(recorder.table("numbers"))


def test_snapshots_are_the_weights_of_their_steps_and_make_a_trajectory():
    model, data = network(), batch()
    recorder = th.Recorder(weights="0.*", every=2, out=None)
    states = train(recorder, model, data)
    kept = recorder.snapshots()
    assert list(kept) == [1, 2, 4, 6]
    for step, state in kept.items():
        assert list(state) == ["0.weight", "0.bias"]
        assert all(torch.equal(state[name], states[step - 1][name]) for name in state)
    path = th.measure.trajectory(list(kept.values()))
    away = torch.cat([(kept[6][name] - kept[1][name]).flatten() for name in kept[1]])
    assert path.distance_from_start[0, -1] == pytest.approx(float(away.double().norm()), rel=1e-6)


def test_a_pattern_that_no_parameter_matches_is_said_with_those_there_are():
    recorder = th.Recorder(weights="7.*", every=1, out=None)
    with pytest.warns(RecorderWarning, match=r"got '7\.\*'; there are: 0.weight, 0.bias, 3.weight"):
        recorder.step(network(), LOSS, batch())


def test_measure_measures_whatever_the_schedule_says():
    model, data = network(), batch()
    recorder = th.Recorder("gradient_norm", every=100, data=data, out=None)
    recorder.measure(model, LOSS)
    train(recorder, model, data)
    recorder.measure(model, LOSS)
    assert list(values(recorder, "gradient_norm")) == [0, 1, 6]


def test_a_number_given_with_the_step_is_the_one_recorded():
    recorder = th.Recorder("gradient_norm", every=10, out=None)
    for number in (4_995, 5_001, 5_003):
        recorder.step(network(), LOSS, batch(), number=number)
    assert list(values(recorder, "gradient_norm")) == [4_995, 5_001]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: torch.compile(model, backend="eager"),
        lambda model: nn.DataParallel(model),
        lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
    ],
)
def test_a_wrapped_model_is_measured_without_its_wrapper(wrap):
    model, data = network(), batch()
    recorder = th.Recorder("hessian_trace", every=1, out=None)
    recorder.step(wrap(model), LOSS, data)
    assert values(recorder, "hessian_trace")[1] == pytest.approx(
        th.measure.hessian_trace(model.eval(), LOSS, data).value
    )


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_measures_where_gradients_are_off(context):
    model, data = network(), batch()
    recorder = th.Recorder("hessian_trace", every=1, data=data, out=None)
    with context():
        recorder.step(model, LOSS)
        assert not torch.is_grad_enabled()
    assert not len(recorder.table("failures"))


def test_bfloat16_weights_are_kept_as_the_numbers_they_are():
    model = network().to(torch.bfloat16)
    recorder = th.Recorder(weights="0.weight", every=1, out=None)
    recorder.step(model, LOSS, batch())
    kept = recorder.snapshots()[1]["0.weight"]
    assert kept.dtype == torch.float32
    assert torch.equal(kept, model[0].weight.detach().float())


def halves(model, loss, data, scale=1.0):
    return {"first": scale * 0.5, "second": torch.tensor([1.0, 2.0]), "name": "text", "more": {"a": np.float32(3)}}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (halves, "halves"),
        ([halves], "halves"),
        (partial(halves, scale=1.0), "halves"),
        ({"own": halves}, "own"),
        ({"own": (halves, {"scale": 1.0})}, "own"),
        ([(halves, {"scale": 1.0})], "halves"),
    ],
)
def test_instruments_are_given_in_any_of_these_forms(given, name):
    recorder = th.Recorder(given, every=1, out=None)
    recorder.step(network(), LOSS, batch())
    assert values(recorder, name, "first") == {1: 0.5}
    assert values(recorder, name, "more.a") == {1: 3.0}
    assert recorder.table("vectors")["value"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"instruments": "gradient_nrom"}, UnknownName, "Did you mean 'gradient_norm'"),
        ({"instruments": ["surface"]}, UnknownName, "Known: gradient_noise_scale, gradient_norm"),
        ({"instruments": lambda m, lo, d: 1.0}, SettingError, "got a lambda. Pass a mapping"),
        ({"instruments": ["sharpness", "sharpness"]}, SettingError, "a name of its own for each"),
        ({"instruments": {"weights": "sharpness"}}, SettingError, "a name that is taken"),
        ({"instruments": {"a": 3}}, SettingError, "got int"),
        ({"instruments": []}, SettingError, "at least one instrument"),
        ({"instruments": 3}, SettingError, "names, functions or a mapping to them, got int"),
        ({"instruments": None}, SettingError, "names, functions or a mapping to them, got NoneType"),
        ({"instruments": {"a": ("sharpness", 3)}}, SettingError, "options of an instrument as a mapping, got int"),
        ({"instruments": {"a": ("sharpness",)}}, SettingError, "a pair of one and its options, got tuple"),
        ({"instruments": {"a": ("sharpness", {"radios": 1})}}, UnknownName, "Did you mean 'radius'"),
        ({"instruments": "sharpness", "mode": "eval"}, SettingError, "evaluation or training or as it is, got str 'e"),
        ({"instruments": "sharpness", "mode": None}, SettingError, "mode as evaluation or training"),
        ({"instruments": "sharpness", "every": 0}, SettingError, "every as an integer"),
        ({"instruments": "sharpness", "every": None}, SettingError, "every as an integer"),
        ({"instruments": "sharpness", "every": "now and then"}, SettingError, "every as an integer"),
        ({"instruments": "sharpness", "every": {}}, SettingError, "every for each of sharpness"),
        ({"instruments": "sharpness", "budget": math.nan}, SettingError, "budget as"),
        ({"instruments": "sharpness", "budget": "a tenth"}, SettingError, "budget as number or None"),
        ({"instruments": "sharpness", "samples": 0}, SettingError, "first ≥ 1"),
        ({"instruments": "sharpness", "first": 0}, SettingError, "first ≥ 1"),
        ({"instruments": "sharpness", "resume": True, "replace": True}, SettingError, "and without replace"),
        ({"instruments": "sharpness", "resume": True}, SettingError, "with a folder"),
        ({"instruments": "sharpness", "resume": -3}, SettingError, "the step of a checkpoint"),
        ({"instruments": "sharpness", "samples": "all"}, SettingError, "samples as function or whole number or None"),
        ({"instruments": "sharpness", "weights": 3}, SettingError, "weights as text or None"),
        ({"instruments": "sharpness", "seed": -1}, SettingError, "seed as whole number or None from 0 on"),
        ({"instruments": "sharpness", "labels": {"a": [1]}}, SettingError, "labels as {name: text or finite number}"),
        ({"instruments": "sharpness", "labels": {3: "a"}}, SettingError, "labels as {name: text or finite number}"),
        ({"instruments": "sharpness", "labels": ["Adam"]}, SettingError, "labels as {name: text or finite number}"),
        ({"instruments": "sharpness", "sinks": None}, SettingError, "sinks as"),
        ({"instruments": "sharpness", "sinks": [print]}, SettingError, "sinks as"),
        ({"instruments": "sharpness", "flush": -1}, SettingError, "flush ≥ 0"),
        ({"instruments": "sharpness", "flush": math.nan}, SettingError, "flush as"),
        ({"instruments": "sharpness", "clock": 3}, SettingError, "clock as function"),
        ({"instruments": "sharpness", "data": 3}, BadData, "got int"),
        (
            {"instruments": "sharpness", "data": DataLoader(TensorDataset(torch.ones(0, 1)))},
            BadData,
            "at least one batch",
        ),
        ({"instruments": "sharpness", "budget": 5}, SettingError, "0 < budget ≤ 1, got 5"),
        ({"instruments": "sharpness", "data": iter([])}, BadData, "got an iterator"),
        ({"instruments": "sharpness", "data": batch(), "samples": 3}, SettingError, "got data in memory"),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_training_starts(arguments, error, message):
    with pytest.raises(error, match=message):
        th.Recorder(**arguments, out=None)


@pytest.mark.parametrize("out", [3, ["results"]])
def test_a_folder_that_is_none_is_refused_before_training_starts(out):
    with pytest.raises(SettingError, match="out as text or Path or None"):
        th.Recorder("sharpness", out=out)


@pytest.mark.parametrize("model", [None, nn.Linear, {"weight": torch.ones(1)}])
def test_a_step_of_something_else_than_a_model_is_refused_at_once(model):
    recorder = th.Recorder("gradient_norm", every=100, out=None)
    for count in (recorder.step, recorder.epoch, recorder.measure):
        with pytest.raises(BadModel, match=r"expected model as a torch\.nn\.Module"):
            count(model, LOSS, batch())


def test_a_model_that_waits_for_its_first_batch_is_refused_at_once():
    with pytest.raises(BadModel, match="Pass a batch through model"):
        th.Recorder("gradient_norm", out=None).step(nn.LazyLinear(1), LOSS, batch())


@pytest.mark.parametrize("number", [-1, 1.5, "first"])
def test_a_step_of_no_number_is_refused_at_once(number):
    recorder = th.Recorder("gradient_norm", every=100, out=None)
    with pytest.raises(SettingError, match="number as that of a step"):
        recorder.step(network(), LOSS, batch(), number=number)


def test_a_step_without_data_is_refused_at_once():
    recorder = th.Recorder("gradient_norm", every=100, out=None)
    with pytest.raises(SettingError, match="expected data to measure on"):
        recorder.step(network(), LOSS)


def test_vectors_beyond_what_can_be_read_back_are_left_out_and_said(monkeypatch):
    monkeypatch.setattr(log, "MAX_VECTOR_ENTRIES", 50)
    recorder = th.Recorder({"long": lambda model, loss, data: torch.arange(20.0)}, every=1, out=None)
    with pytest.warns(RecorderWarning, match="vectors of at most 50 entries"):
        train(recorder, network(), batch())
    assert recorder.table("vectors").groupby("step")["value"].count().to_dict() == {1: 20, 2: 20}


def test_an_instrument_that_returns_no_number_is_said():
    recorder = th.Recorder({"nothing": lambda model, loss, data: "text"}, every=1, out=None)
    with pytest.warns(RecorderWarning, match="a number, a vector, a mapping of them or a result, got str"):
        recorder.step(network(), LOSS, batch())


def test_a_loader_is_read_once_and_the_same_samples_are_measured_ever_after():
    inputs, targets = batch(n=40)
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=8, shuffle=True)
    probe = fixed(loader, samples=20)
    assert [len(part[1]) for part in probe] == [8, 8, 8]  # whole batches, until there are enough
    assert all(torch.equal(a[0], b[0]) for a, b in zip(probe, list(probe), strict=True))
    whole = fixed(loader)
    assert sorted(torch.cat([part[1] for part in whole]).flatten().tolist()) == sorted(targets.flatten().tolist())


def test_a_probe_set_that_would_fill_the_memory_is_refused():
    loader = DataLoader(TensorDataset(*batch(n=40)), batch_size=8)
    with pytest.raises(SettingError, match=r"probe set of at most .* Pass first="):
        fixed(loader, limit=500)
