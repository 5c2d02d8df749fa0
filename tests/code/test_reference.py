"""Networks and data of a file, trained by our engine: against the plain script, and what is wrong said."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import theodolite as th
from theodolite import data, models, train
from theodolite.errors import CodeFailed, SettingError
from theodolite.specs import RunSpec, Seeds, Training
from theodolite.streams import named_seed

NET = """
from torch import nn
def make(width=4):
    return nn.Sequential(nn.Embedding(7, width), nn.Linear(width, 7))
def nothing():
    return 3
"""
DATA = """
import torch
def make(seed=0, samples=20):
    tokens = torch.randint(7, (samples, 6), generator=torch.Generator().manual_seed(seed))
    return (tokens[:, :-1], tokens[:, 1:]), (tokens[:5, :-1], tokens[:5, 1:])
def numbers():
    x = torch.linspace(0, 1, 8)
    return (x[:, None], x), (x[:, None], x)
def uneven():
    return (torch.zeros(3), torch.zeros(2)), (torch.zeros(3), torch.zeros(3))
def wrong():
    return 3
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "data.py").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spec(width=4, **fields):
    return RunSpec(
        study="s", labels={}, seed=0, data=th.data.code("data.py:make", seed=3),
        model=th.models.code("net.py:make", width=width), seeds=Seeds(weights=0, order=1),
        training=Training(loss="cross_entropy", batch_size=8, epochs=3), **fields,
    )  # fmt: skip


def test_a_network_and_data_of_a_file_train_as_a_plain_script_trains_them(files):
    one = spec()
    assert (one.model.parameters, one.model.layers) == (7 * 4 + 5 * 7, 2)
    module = models.build(one.model, seed=5)
    outcome = train.train(module, train.tensors(data.load(one.data)), one.training, order_seed=1)

    with torch.random.fork_rng():
        torch.manual_seed(named_seed(5, "weights"))
        plain = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7))
    tokens = torch.randint(7, (20, 6), generator=torch.Generator().manual_seed(3))
    optimizer, order = torch.optim.Adam(plain.parameters(), 1e-3), torch.Generator().manual_seed(named_seed(1, "order"))
    for _ in range(3):
        for index in torch.randperm(20, generator=order).split(8):
            optimizer.zero_grad()
            outputs = plain(tokens[index, :-1])
            nn.functional.cross_entropy(outputs.flatten(0, 1), tokens[index, 1:].flatten()).backward()
            optimizer.step()
    for name, expected in plain.state_dict().items():
        assert torch.allclose(outcome.weights[name], expected, rtol=1e-5, atol=1e-7)


def test_names_hold_arguments_and_code_and_not_the_folder(files, tmp_path_factory, monkeypatch):
    first = spec().fingerprint()
    assert spec(width=5).fingerprint() != first
    assert RunSpec.model_validate(json.loads(spec().model_dump_json())).fingerprint() == first
    other = tmp_path_factory.mktemp("elsewhere")
    for name in ("net.py", "data.py"):
        (other / name).write_text((files / name).read_text() + "# no code\n")
    monkeypatch.chdir(other)
    assert spec().fingerprint() == first
    (other / "net.py").write_text(NET.replace("nn.Linear(width, 7)", "nn.Linear(width, 7, bias=False)"))
    assert spec().fingerprint() != first


def test_a_spec_is_read_without_its_files_and_says_so_when_it_is_used(files):
    content = spec().model_dump_json()
    Path("net.py").unlink()
    Path("data.py").write_text("raise SystemExit('run by a reader')\n")
    read = RunSpec.model_validate_json(content)
    assert read.model.shape == "net.py:make(width=4)"
    with pytest.raises(CodeFailed, match="gone or has changed"):
        models.build(read.model)
    with pytest.raises(CodeFailed, match="gone or has changed"):
        data.load(read.data)


def test_numbers_become_a_column_and_a_subset_is_drawn(files):
    whole = data.load(th.data.code("data.py:numbers"))
    assert whole.train_targets.shape == (8, 1)
    assert whole.classes is None
    part = data.load(th.data.code("data.py:numbers").model_copy(update={"train": 3}))
    assert part.train_inputs.shape == (3, 1)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda: th.models.code("net.py:nothing"), CodeFailed, "expected a torch.nn.Module from nothing"),
        (lambda: th.models.code("net.py:mak"), Exception, "Did you mean 'make'"),
        (lambda: th.models.code("nets.py:make"), CodeFailed, "no file .*nets.py"),
        (lambda: th.models.code("net.py"), CodeFailed, "expected FILE.py:NAME"),
        (lambda: th.models.code("net.py:make", depth=3), CodeFailed, "unexpected keyword argument 'depth'"),
        (lambda: th.models.code("net.py:make", width=nn.ReLU), SettingError, "'width' as a number"),
        (lambda: data.load(th.data.code("data.py:wrong")), CodeFailed, "expected .inputs, targets."),
        (lambda: data.load(th.data.code("data.py:uneven")), CodeFailed, "as many targets as inputs"),
        (lambda: data.DataSpec(source="code:make"), ValueError, "th.data.code"),
    ],
)
def test_what_is_wrong_is_said(files, wrong, error, says):
    with pytest.raises(error, match=says):
        wrong()
