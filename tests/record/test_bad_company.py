"""The recorder in bad company: whatever an instrument, a thread, a rank or a disk does, the training goes on alike."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import theodolite as th
from theodolite.errors import SettingError
from theodolite.record import RecorderWarning
from theodolite.store import records

LOSS = nn.CrossEntropyLoss()


def network():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))


def trained(recorder=None, before_step=lambda step: None):
    """All that a training of six steps leaves behind, and the state of the process after it."""
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    inputs, targets = torch.randn(24, 6), torch.arange(24) % 3
    for step in range(6):
        batch = torch.randint(0, 24, (8,))
        optimizer.zero_grad()
        LOSS(model(inputs[batch]), targets[batch]).backward()
        optimizer.step()
        before_step(step)
        if recorder is not None:
            with contextlib.suppress(KeyboardInterrupt):  # a user who goes on after Ctrl-C
                recorder.step(model, LOSS, (inputs[batch], targets[batch]))
    left = [*model.state_dict().values(), *(p.grad for p in model.parameters()), torch.get_rng_state()]
    left += [tensor for state in optimizer.state.values() for tensor in state.values()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()]
    return left, [hooks, [type(m) for m in model.modules()], *process()]


def process():
    strict = torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        *strict,
        torch.get_num_threads(),
        os.getcwd(),
        np.geterr(),
    )


def assert_untouched(recorder, before_step=lambda step: None):
    (left, state), (right, right_state) = trained(recorder, before_step), trained()
    assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
    assert state == right_state


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("not even that")


def raises(error):
    def instrument(model, loss, data):
        torch.manual_seed(9)
        with torch.no_grad():
            model[0].weight.zero_()
        raise error

    return instrument


def for_ever(model, loss, data):
    return for_ever(model, loss, data)


def meddles(change):
    def instrument(model, loss, data):
        change(model, loss, data)
        return 1.0

    return instrument


def new_module(model, loss, data):
    model.add_module("more", nn.Linear(3, 3))


def without_weight(model, loss, data):
    del model[0].weight


def another_weight(model, loss, data):
    model[0].weight = nn.Parameter(torch.zeros(8, 6))


def another_shape(model, loss, data):
    model[0].weight.data = torch.zeros(1)


def resized(model, loss, data):
    model[0].weight.data.resize_(3, 2)


def another_precision(model, loss, data):
    model.double()


def hook(model, loss, data):
    model[0].register_forward_hook(lambda module, given, found: found * 0)


def another_forward(model, loss, data):
    model.forward = lambda inputs: inputs


def other_buffers(model, loss, data):
    model[1].running_mean = torch.full((8,), 9.0)


def backward(model, loss, data):
    loss(model(data[0]), data[1]).backward()


def no_gradients(model, loss, data):
    model.zero_grad(set_to_none=True)
    model.requires_grad_(False)


def other_data(model, loss, data):
    data[0].zero_()


def switches(model, loss, data):
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_float32_matmul_precision("medium")
    np.seterr(divide="raise")
    os.chdir("/")


def another_recorder(model, loss, data):
    with th.Recorder({"own": meddles(resized), "norm": "gradient_norm"}, every=1, out=None) as inner:
        inner.step(model, loss, data)


CHANGES = [
    new_module, without_weight, another_weight, another_shape, resized, another_precision, hook, another_forward,
    other_buffers, backward, no_gradients, other_data, switches, another_recorder,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_instrument_that_changes_the_model_or_the_process_leaves_both_as_they_were(change):
    recorder = th.Recorder({"bad": meddles(change), "good": "gradient_norm"}, every=1, out=None)
    assert_untouched(recorder)
    assert len(recorder.table("numbers").query("instrument == 'good'"))
    assert not len(recorder.table("failures"))


ERRORS = [
    (Speechless(), "(it cannot say what)"),
    (ValueError("\ud800 \x1b[31mred"), r"\ud800 \x1b[31mred"),
    (MemoryError(), ""),
]


@pytest.mark.parametrize(("error", "said"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_error_is_kept_whatever_it_says_and_so_is_the_rest_of_the_record(error, said, tmp_path):
    recorder = th.Recorder({"bad": raises(error), "good": "gradient_norm"}, every=1, out=tmp_path / "o", flush=0.0)
    with pytest.warns(RecorderWarning):
        assert_untouched(recorder)
    recorder.close()
    found = records.read(tmp_path / "o", "recorder")
    assert set(found.table("failures")["message"]) == {said}
    assert len(found.table("numbers").query("instrument == 'good'")) == 6 * found.table("numbers")["quantity"].nunique()


def test_an_error_of_ten_million_letters_and_one_of_endless_recursion_are_kept_short():
    instruments = {"long": raises(ValueError("x" * 10**7)), "deep": for_ever}
    recorder = th.Recorder(instruments, every=1, out=None)
    with pytest.warns(RecorderWarning):
        assert_untouched(recorder)
    assert recorder.table("failures")["message"].str.len().max() < 3000


def test_ctrl_c_within_an_instrument_leaves_a_training_that_goes_on_as_it_was():
    assert_untouched(th.Recorder({"stopped": raises(KeyboardInterrupt())}, every=2, out=None))


@pytest.mark.parametrize("when", [1, 4])
def test_a_folder_that_is_removed_under_the_training_is_there_again_at_its_end(when, tmp_path):
    def remove(step):
        if step == when:
            shutil.rmtree(tmp_path / "o")

    recorder = th.Recorder("gradient_norm", every=1, out=tmp_path / "o", flush=0.0, weights="*")
    assert_untouched(recorder, remove)
    recorder.close()
    found = records.read(tmp_path / "o", "recorder")
    assert found.runs["status"].tolist() == ["done"]
    assert sorted(set(found.table("numbers")["step"])) == [1, 2, 3, 4, 5, 6]
    assert sorted(recorder.snapshots()) == list(range(when + 1, 7))


def test_a_folder_in_whose_place_a_file_lies_is_said_once_and_left(tmp_path):
    def replace(step):
        if step == 2:
            shutil.rmtree(tmp_path / "o")
            (tmp_path / "o").write_text("mine")

    recorder = th.Recorder("gradient_norm", every=1, out=tmp_path / "o", flush=0.0)
    assert_untouched(recorder, replace)
    with pytest.warns(RecorderWarning, match="writing the record failed at step 6.*a part of its path is a file"):
        recorder.close()
    assert (tmp_path / "o").read_text() == "mine"


def test_a_training_that_changes_its_folder_is_recorded_in_one_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    recorder = th.Recorder("gradient_norm", every=1, out="o", flush=0.0)
    trained(recorder, lambda step: os.chdir(tmp_path / "elsewhere") if step == 2 else None)
    recorder.close()
    assert not list((tmp_path / "elsewhere").iterdir())
    assert records.read(tmp_path / "o", "recorder").runs["status"].tolist() == ["done"]


@pytest.mark.parametrize("bad", ["\ud800", "\x1b[31m"])
def test_names_that_no_table_or_terminal_takes_are_refused_before_the_training(bad, tmp_path):
    for options in ({"labels": {"l": bad}}, {"labels": {bad: 1}}):
        with pytest.raises(SettingError, match="labels of plain text"):
            th.Recorder("gradient_norm", out=tmp_path, **options)
    with pytest.raises(SettingError, match="a name of plain text"):
        th.Recorder({bad: "gradient_norm"}, out=tmp_path)


def test_names_that_an_instrument_gives_are_kept_as_far_as_they_can_be():
    recorder = th.Recorder({"odd": lambda model, loss, data: {"a\ud800": 1.0, "[/b] 😀": 2.0}}, every=6, out=None)
    trained(recorder)
    assert set(recorder.table("numbers")["quantity"]) == {r"a\ud800", "[/b] 😀"}


def alone(generator, recorder):
    """A training whose chance is its own, as one of several threads must have it."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    inputs, targets = torch.randn(24, 6, generator=generator), torch.arange(24) % 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(12):
        optimizer.zero_grad()
        LOSS(model(inputs), targets).backward()
        optimizer.step()
        if recorder is not None:
            recorder.step(model, LOSS, (inputs, targets))
    return [p.detach().clone() for p in model.parameters()]


def test_trainings_in_several_threads_each_with_a_recorder_go_on_as_without():
    made = {}

    def one(seed):
        with th.Recorder({"norm": "gradient_norm", "own": meddles(resized)}, every=1, out=None) as recorder:
            made[seed] = alone(torch.Generator().manual_seed(seed), recorder)
            assert not len(recorder.table("failures"))

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(4)]
    with warnings.catch_warnings():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for seed in range(4):
        right = alone(torch.Generator().manual_seed(seed), None)
        assert all(torch.equal(a, b) for a, b in zip(made[seed], right, strict=True))


RANKS = """
import sys, torch, torch.distributed as dist, theodolite as th
from torch import nn
rank, port, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
loss = nn.CrossEntropyLoss()
for watched in ("none", "first", "both"):
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(rank)
    inputs, targets = torch.randn(24, 6, generator=generator), torch.arange(24) % 3
    mine = watched == "both" or (watched == "first" and rank == 0)
    recorder = th.Recorder("gradient_norm", every=1, out=f"{out}/{watched}-{rank}") if mine else None
    for _ in range(4):
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()
        if recorder is not None:
            recorder.step(model, loss, (inputs, targets))
    if recorder is not None:
        recorder.close()
        assert not len(recorder.table("failures"))
        assert len(recorder.table("costs")) == 4
    torch.save(model.module.state_dict(), f"{out}/{watched}-{rank}.pt")
dist.destroy_process_group()
"""


def test_two_ranks_train_alike_whether_none_one_or_both_record(tmp_path):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    words = [[sys.executable, "-c", RANKS, str(rank), port, str(tmp_path)] for rank in range(2)]
    started = [subprocess.Popen(one, env={**os.environ, "OMP_NUM_THREADS": "1"}) for one in words]
    try:
        assert [process.wait(200) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
            process.wait()
    for rank in range(2):
        plain, *others = (torch.load(tmp_path / f"{watched}-{rank}.pt") for watched in ("none", "first", "both"))
        for other in others:
            assert all(torch.equal(other[name], plain[name]) for name in plain)
