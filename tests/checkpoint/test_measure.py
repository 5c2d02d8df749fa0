"""`theodolite measure`: a model of the user's own, from the shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from commands import called
from theodolite import measure
from theodolite.checkpoint import settings, weights
from theodolite.code import running as code
from theodolite.data import DataSpec, load
from theodolite.errors import StoreError
from theodolite.measure.catalogue import COSTS, INSTRUMENTS, in_shell
from theodolite.measure.results import writer as written

NET = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10))

def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()

def norms():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 10))

ready = make()
number = 3

def pair():
    x = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(12, 2)
    return x, (x[:, :1] * x[:, 1:])

def batches():
    x, y = pair()
    return [(x[:5], y[:5]), (x[5:], y[5:])]

def dataset():
    return TensorDataset(*pair())

def generator():
    yield pair()

def nothing():
    return []

def singles():
    return [torch.zeros(3), torch.zeros(3), torch.zeros(3)]

def fails():
    raise ValueError("the disk of yesterday")

def leaves():
    import sys
    return sys.exit

def odd(outputs, targets):
    return {}[1]

def twice(outputs, targets):
    return 2 * nn.functional.mse_loss(outputs, targets)

class Half(nn.Module):
    def forward(self, outputs, targets):
        return nn.functional.mse_loss(outputs, targets) / 2
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with net.py in which the shell stands."""
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("THEODOLITE_DEBUG", raising=False)
    return tmp_path


@pytest.fixture
def shell(here):
    """Runs the command in this process: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        done = called("measure", *arguments)
        return done.returncode, done.stdout, done.stderr

    return run


def made(name: str = "make") -> nn.Module:
    return code.called(code.named(f"net.py:{name}", "--model"), name)


def trained(steps: int, name: str = "make") -> nn.Module:
    """A different network a step."""
    model = made(name)
    torch.manual_seed(steps)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * steps * torch.randn_like(p)
    return model


def near(a, b) -> bool:
    """The same but for rounding, which depends on where in memory numbers lie."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(near(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(near, a, b))
    return a == (pytest.approx(b, rel=1e-7, abs=1e-9) if isinstance(b, float) else b)


SMALL = ("--model", "net.py:small", "--data", "net.py:pair")
DIGITS = ("--model", "net.py:make", "--data", "digits", "--samples", "200")


def result(shell, *arguments: str) -> dict:
    status, output, error = shell(*arguments, "--json")
    assert status == 0, error
    return json.loads(output)


@pytest.mark.parametrize("name", [one.name for one in in_shell()])
def test_every_instrument_says_in_the_shell_what_it_says_in_python(name, shell, here):
    model, other = trained(1, "small"), trained(2, "small")
    for number, one in enumerate((model, other, trained(3, "small")), 1):
        safetensors.torch.save_file(one.state_dict(), here / f"w{number}.safetensors")
    one, two = ("--weights", "w1.safetensors"), ("--weights", "w1.safetensors", "--weights", "w2.safetensors")
    data, loss, call = code.called(code.named("net.py:pair", ""), ""), nn.functional.mse_loss, getattr(measure, name)
    chosen = {"find_critical_points": {"starts": 3}, "connect": {"epochs": 3}, "surface": {"x": [0, 1], "y": [0, 1]}}
    options = chosen.get(name, {})
    set_ = [part for key, value in options.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    if INSTRUMENTS[name].checkpoints == "path":
        found = result(shell, name, *two, "--weights", "w3.safetensors", *set_)
        expected = call([model.state_dict(), other.state_dict(), trained(3, "small").state_dict()])
    elif INSTRUMENTS[name].checkpoints == "two":
        found, expected = result(shell, name, *SMALL, *two, *set_), call(model, other, loss, data, **options)
    else:
        found, expected = result(shell, name, *SMALL, *one, *set_), call(model, loss, data, **options)
    assert found["instrument"] == name
    assert near(found["result"], json.loads(json.dumps(written.plain(expected))))


def test_gradient_norm_on_a_named_data_set_is_what_plain_pytorch_gives(shell):
    found = result(shell, "gradient-norm", *DIGITS, "--part", "test", "--batch-size", "7")
    data = load(DataSpec(source="digits", test=200))
    model = made()
    inputs, targets = torch.from_numpy(data.inputs_as(np.float32, "test")), torch.tensor(data.test_targets)
    nn.functional.cross_entropy(model(inputs), targets).backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert found["result"]["value"] == pytest.approx(float(norm), rel=1e-5)
    assert found["measured"]["samples used"] == 200
    assert found["measured"]["loss function"] == "cross_entropy"


def test_table_figures_and_saved_result_agree_with_the_json(shell, here):
    numbers = result(shell, "hessian_spectrum", *SMALL)["result"]["eigenvalues"]
    for ending, start in (("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF"), ("html", b"<!DOCTYPE html>")):
        status, output, error = shell(
            "hessian_spectrum", *SMALL, "--figure", f"to/s.{ending}", "--out", f"to/{ending}.safetensors"
        )
        assert status == 0, error
        assert (here / f"to/s.{ending}").read_bytes().startswith(start)
        assert measure.load(here / f"to/{ending}.safetensors").eigenvalues.tolist() == numbers
        assert f"13 values from {min(numbers):.6g} to {max(numbers):.6g}" in output
    page = (here / "to/s.html").read_text()
    assert 'src="http' not in page


def test_functions_may_give_pairs_batches_or_torch_data_sets(shell):
    values = [result(shell, "gradient_norm", "--model", "net.py:small", "--data", f"net.py:{name}")["result"]["value"]
              for name in ("pair", "batches", "dataset", "generator")]  # fmt: skip
    assert values == pytest.approx([values[0]] * 4, rel=1e-12)


def test_a_model_itself_serves_as_well_as_a_function(shell):
    a, b = (result(shell, "gradient_norm", "--model", f"net.py:{n}", "--data", "digits") for n in ("make", "ready"))
    assert a["result"] == b["result"]


def test_the_first_samples_are_taken_of_data_of_ones_own(shell):
    for name in ("pair", "batches", "dataset"):
        found = result(shell, "gradient_norm", "--model", "net.py:small", "--data", f"net.py:{name}", "--samples", "6")
        assert found["measured"]["samples used"] == 6
        model = made("small")
        x, y = code.named("net.py:pair", "")()
        nn.functional.mse_loss(model(x[:6]), y[:6]).backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        assert found["result"]["value"] == pytest.approx(float(norm), rel=1e-10)


def test_a_loss_may_be_named_a_function_or_a_class_of_ones_own(shell):
    losses = {
        name: result(shell, "gradient_norm", *SMALL, "--loss", name)["result"]["loss"]
        for name in ("mse", "net.py:twice", "net.py:Half", "l1")
    }
    assert losses["net.py:twice"] == pytest.approx(2 * losses["mse"])
    assert losses["net.py:Half"] == pytest.approx(losses["mse"] / 2)
    x, y = code.named("net.py:pair", "")()
    assert losses["l1"] == pytest.approx(float((made("small")(x) - y).abs().mean().detach()))


def test_evaluation_mode_is_the_default_and_training_mode_is_refused_with_dropout(shell):
    data = ("--data", "digits", "--samples", "50")
    assert shell("gradient_norm", "--model", "net.py:norms", *data)[0] == 0
    status, _, error = shell("gradient_norm", "--model", "net.py:norms", *data, "--mode", "train")
    assert status == 2
    assert "NotDeterministic" in error


def test_another_precision_is_the_models_and_the_datas(shell):
    found = result(shell, "gradient_norm", *DIGITS, "--dtype", "float64")
    assert found["measured"]["dtype"] == "float64"
    single = result(shell, "gradient_norm", *DIGITS)["result"]["value"]
    assert found["result"]["value"] == pytest.approx(single, rel=1e-5)
    assert found["result"]["value"] != single


def test_a_path_of_weights_lays_the_plane_of_a_surface_and_starts_walks(shell, here):
    (here / "path").mkdir()
    for step in (1, 2, 10):
        torch.save(trained(step, "small").state_dict(), here / f"path/epoch-{step}.pt")
    names = [path.name for path in weights.found([here / "path"])]
    assert names == ["epoch-1.pt", "epoch-2.pt", "epoch-10.pt"]
    grid = ("--set", "x=[0,1]", "--set", "y=[0,1]")
    plane = result(shell, "surface", *SMALL, "--weights", "path", *grid)["result"]
    assert plane["kind"] == "principal components of a training path"
    assert plane["points"][-1] == [0, 0]  # the last checkpoint is the origin
    walks = result(shell, "find_critical_points", *SMALL, "--weights", "path", "--set", "steps=0")["result"]
    x, y = code.named("net.py:pair", "")()
    expected = [nn.functional.mse_loss(trained(s, "small")(x), y).item() for s in (1, 2, 10)]
    assert [p["loss"] for p in walks["points"]] == pytest.approx(expected)


@pytest.mark.parametrize("wrap", [
    lambda s: {"state_dict": s, "epoch": 3},
    lambda s: {"model_state_dict": s, "optimizer": {"lr": 0.1}},
    lambda s: {f"module.{n}": t for n, t in s.items()},
    lambda s: {"model": {f"_orig_mod.{n}": t for n, t in s.items()}},
])  # fmt: skip
def test_weights_as_training_scripts_keep_them_are_found(wrap, shell, here):
    torch.save(wrap(trained(1).state_dict()), here / "w.pt")
    safetensors.torch.save_file(trained(1).state_dict(), here / "w.safetensors")
    plain, wrapped = (result(shell, "gradient_norm", *DIGITS, "--weights", f"w.{e}") for e in ("safetensors", "pt"))
    assert plain["result"] == wrapped["result"]


def test_tied_weights_may_be_stored_once(here):
    def tied() -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
        model[1].weight = model[0].weight
        return model

    model = tied()
    weights.put(model, {"0.weight": torch.eye(4)}, Path("w"))
    assert model[1].weight.tolist() == torch.eye(4).tolist()


class Whole(nn.Module):
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_file_that_would_run_code_is_refused_unopened_and_a_pickled_model_is_read(shell, here):
    torch.save(Whole(), here / "w.pt")
    status, _, error = shell("gradient_norm", *DIGITS, "--weights", "w.pt")
    assert status == 2
    assert "could run code, so it was not opened" in error
    with pytest.raises(StoreError):
        weights.read(here / "w.pt")
    assert not (here / "exploded").exists()
    torch.save(trained(1), here / "model.pt")
    safetensors.torch.save_file(trained(1).state_dict(), here / "w.safetensors")
    plain, whole = (result(shell, "gradient_norm", *DIGITS, "--weights", w) for w in ("w.safetensors", "model.pt"))
    assert plain["result"] == whole["result"]


def test_what_a_file_holds_beside_the_weights_is_said_and_options_choose_among_them(shell, here):
    both = {"net": trained(1).state_dict(), "ema": trained(2).state_dict(), "epoch": 3}
    torch.save(both, here / "w.pt")
    safetensors.torch.save_file(trained(2).state_dict(), here / "ema.safetensors")
    status, _, error = shell("gradient_norm", *DIGITS, "--weights", "w.pt")
    assert status == 2
    assert "--weights-key net, or --weights-key ema" in error
    chosen = result(shell, "gradient_norm", *DIGITS, "--weights", "w.pt", "--weights-key", "ema")
    assert chosen["result"] == result(shell, "gradient_norm", *DIGITS, "--weights", "ema.safetensors")["result"]
    assert chosen["measured"]["left out"] == "keys net, epoch"
    status, output, _ = shell("gradient_norm", *DIGITS, "--weights", "w.pt", "--weights-key", "ema")
    assert "left out" in output
    torch.save({f"net.{n}": t for n, t in both["ema"].items()} | {"loss.weight": torch.ones(10)}, here / "p.pt")
    bare = result(shell, "gradient_norm", *DIGITS, "--weights", "p.pt", "--strip-prefix", "net")
    assert bare["result"] == chosen["result"]
    assert bare["measured"]["left out"] == "1 tensor: loss.weight"


def test_pixels_are_scaled_as_asked_and_the_result_says_how(shell):
    images = load(DataSpec(source="digits"))
    raw = torch.from_numpy(images.train_inputs.astype(np.float32))
    mean, spread = raw.mean(), raw.std(unbiased=False)
    scaled = {"standard": (raw - mean) / spread, "unit": raw / 16, "none": raw}
    words = {
        "standard": f"standardised, (pixel − {mean:.4g}) / {spread:.4g}",
        "unit": "pixel / 16",
        "none": "published",
    }
    targets = torch.tensor(images.train_targets)
    for scale, inputs in scaled.items():
        model = made()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        asked = ("gradient_norm", "--model", "net.py:make", "--data", "digits", "--scale", scale)
        found = result(shell, *asked)
        assert found["result"]["value"] == pytest.approx(float(norm), rel=1e-4)
        assert words[scale] in found["measured"]["data"]
        if scale == "standard":
            assert result(shell, *asked[:-2])["measured"]["data"] == found["measured"]["data"]


WRONG = {
    "an instrument misspelt": (("gradient_nrm", *SMALL), "Did you mean 'gradient_norm'"),
    "no instrument": ((), "expected an instrument"),
    "no model": (("gradient_norm", "--data", "digits"), "got no --model FILE.py:NAME"),
    "no data": (("gradient_norm", "--model", "net.py:make"), "got no --data SOURCE"),
    "a file that is not there": (("gradient_norm", "--model", "nte.py:make", "--data", "digits"), "no file nte.py"),
    "no function named": (("gradient_norm", "--model", "net.py", "--data", "digits"), "expected --model FILE.py:NAME"),
    "a function that is not there": (
        ("gradient_norm", "--model", "net.py:maek", "--data", "digits"), "Did you mean 'make'",
    ),
    "a function that raises": (
        ("gradient_norm", "--model", "net.py:fails", "--data", "digits"),
        "raised ValueError in line 41 of net.py: the disk of yesterday",
    ),
    "something else than a model": (
        ("gradient_norm", "--model", "net.py:pair", "--data", "digits"), "to give a torch.nn.Module",
    ),
    "no function at all": (("gradient_norm", "--model", "net.py:number", "--data", "digits"), "got int"),
    "an unknown data set": (("gradient_norm", "--model", "net.py:make", "--data", "digit"), "Did you mean 'digits'"),
    "data that raise": (("gradient_norm", "--model", "net.py:make", "--data", "net.py:fails"), "the disk of yesterday"),
    "no data at all": (("gradient_norm", "--model", "net.py:make", "--data", "net.py:nothing"), "at least one batch"),
    "no pairs": (("gradient_norm", "--model", "net.py:make", "--data", "net.py:singles"), "batches of (inp"),
    "shapes that do not fit": (("gradient_norm", "--model", "net.py:small", "--data", "digits"), "Check the shapes"),
    "an unknown loss": (("gradient_norm", *SMALL, "--loss", "mes"), "Did you mean 'mse'"),
    "a loss that raises": (("gradient_norm", *SMALL, "--loss", "net.py:fails"), "BadData"),
    "a loss that raises something odd": (("gradient_norm", *SMALL, "--loss", "net.py:odd"), "KeyError in line 48"),
    "a batch size for own batches": (
        ("gradient_norm", "--model", "net.py:small", "--data", "net.py:batches", "--batch-size", "3"), "Leave it out",
    ),
    "an option misspelt": (("hessian_trace", *SMALL, "--set", "product=9"), "Did you mean 'products'"),
    "an option of another kind": (("hessian_trace", *SMALL, "--set", "products=many"), "products as whole number"),
    "an option out of its range": (("hessian_trace", *SMALL, "--set", "products=1"), "at least 6 products"),
    "an option without a value": (("hessian_trace", *SMALL, "--set", "products"), "--set key=value"),
    "an option below zero": (("hessian_trace", *SMALL, "--set", "seed=-1"), "seed as whole number from 0 on"),
    "an option of another name": (("hessian_trace", *SMALL, "--set", "operator=kfac"), "operator as hessian or ggn"),
    "an option that is null": (("sharpness", *SMALL, "--set", "starts=null"), "starts as whole number"),
    "an option that is endless": (("sharpness", *SMALL, "--set", "radius=Infinity"), "radius as number or"),
    "a pattern that matches nothing": (("gradient_norm", *SMALL, "--set", "parameters=9.*"), "matching '9.*'"),
    "a memory that is none": (("hessian_trace", *SMALL, "--set", "memory=much"), "memory as a number of bytes"),
    "an engine that is none": (("gradient_norm", *SMALL, "--set", "engine=cloud"), "no engine 'cloud'"),
    "an empty axis": (("surface", *SMALL, "--set", "x=[]"), "x as a non-empty list"),
    "one model for two": (("interpolate", *SMALL), "two --weights, of both models, for interpolate, got 0"),
    "no path": (("trajectory",), "at least two moments"),
    "no starts": (("find_critical_points", *SMALL), "Pass --set starts=20"),
    "weights that are not there": (("gradient_norm", *SMALL, "--weights", "w.pt"), "no such file"),
    "weights of another kind": (("gradient_norm", *SMALL, "--weights", "net.py"), "got net.py. Save them"),
    "weights of another model": (("gradient_norm", *DIGITS, "--weights", "other.pt"), "missing: 1.weight, 1.bias"),
    "weights of another size": (("gradient_norm", *DIGITS, "--weights", "size.pt"), "3.weight 10 x 7 for 10 x 6"),
    "weights that hold NaN": (("gradient_norm", *SMALL, "--weights", "nan.pt"), "'0.weight' holds NaN"),
    "weights cut off": (("gradient_norm", *SMALL, "--weights", "cut.pt"), "Save the weights again"),
    "no state dict": (("gradient_norm", *SMALL, "--weights", "list.pt"), "expected a state dict in list.pt, got list"),
    "an unknown scale": (("gradient_norm", *DIGITS, "--scale", "unti"), "Did you mean 'unit'"),
    "a scale for own data": (("gradient_norm", *SMALL, "--scale", "unit"), "--scale with a named data set alone"),
    "an unknown mode": (("gradient_norm", *SMALL, "--mode", "evla"), "Did you mean 'eval'"),
    "an unknown type": (("gradient_norm", *SMALL, "--dtype", "float63"), "Did you mean 'float64'"),
    "an unknown device": (("gradient_norm", *SMALL, "--device", "cudo"), "expected a device that PyTorch has"),
    "a figure of no kind": (("gradient_norm", *SMALL, "--figure", "a.gif"), "one of .png, .svg, .pdf, .html"),
    "an unknown flag": (("gradient_norm", *SMALL, "--wieghts", "w.pt"), "No such option"),
    "a number that is none": (("gradient_norm", *SMALL, "--samples", "few"), "--samples as a number of at least 1"),
}  # fmt: skip


@pytest.fixture
def spoilt(here):
    """Weights with something wrong."""
    small = trained(1, "small").state_dict()
    torch.save(small, here / "other.pt")
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.Tanh(), nn.Linear(7, 10))
    torch.save(wide.state_dict(), here / "size.pt")
    torch.save({n: t * float("nan") for n, t in small.items()}, here / "nan.pt")
    (here / "cut.pt").write_bytes((here / "other.pt").read_bytes()[:300])
    torch.save([1, 2], here / "list.pt")


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_one_paragraph_with_exit_code_2(name, shell, spoilt):
    arguments, told = WRONG[name]
    status, output, error = shell(*arguments)
    assert status == 2, output
    assert told in error
    assert "Traceback" not in error + output
    if "Usage:" not in error:
        assert len(error.strip().splitlines()) == 1


def test_a_file_that_cannot_be_read_as_python_is_named_with_its_line(shell, here):
    (here / "broken.py").write_text("x = 1\ndef make(:\n")
    (here / "missing.py").write_text("import telescope_of_nobody\n")
    (here / "stops.py").write_text("import sys\nsys.exit(3)\n")
    for file, told in (("broken", "line 2 is no Python"), ("missing", "telescope_of_nobody"), ("stops", "SystemExit")):
        status, _, error = shell("gradient_norm", "--model", f"{file}.py:make", "--data", "digits")
        assert status == 2
        assert told in error


def test_a_file_may_import_what_lies_beside_it(shell, here):
    (here / "beside_it.py").write_text("from net import make as build\n")
    (here / "main_part.py").write_text("from beside_it import build\n")
    found = result(shell, "gradient_norm", "--model", "main_part.py:build", "--data", "digits")
    assert found["result"] == result(shell, "gradient_norm", "--model", "net.py:make", "--data", "digits")["result"]


def test_the_list_shows_every_instrument_with_its_cost(shell):
    status, output, _ = shell("--list")
    assert status == 0
    for one in in_shell():
        line = next(line for line in output.splitlines() if line.startswith(f" {one.name} "))
        assert f" {one.cost} " in line
    assert {one.cost for one in in_shell()} == set(COSTS)
    rows = json.loads(shell("--list", "--json")[1])
    assert [row["instrument"] for row in rows] == [one.name for one in in_shell()]
    assert {tuple(row) for row in rows} == {("instrument", "asks", "cost", "k", "checkpoints")}


def test_the_options_of_an_instrument_are_listed_as_its_signature_has_them(shell):
    rows = json.loads(shell("sharpness", "--list", "--json")[1])
    assert {row["option"]: row["default"] for row in rows} == {
        "method": '"keskar"', "radius": "null", "starts": "3", "iterations": "10", "seed": "0", "reduction": "null",
    }  # fmt: skip
    assert rows[0]["values"] == "keskar or sam"


def test_every_option_listed_is_one_that_can_be_set():
    for one in in_shell():
        function = one.function
        for row in settings.described(function):
            if row["default"] not in ("", "61 values"):
                key, value = row["option"], row["default"]
                assert settings.read(function, [f"{key}={value}"]) == {key: json.loads(value)}


def test_the_help_says_that_the_file_is_run(shell):
    status, output, _ = shell("--help")
    assert status == 0
    assert "runs that file" in " ".join(output.split())


def test_listing_instruments_loads_no_torch():
    script = "import sys, theodolite.measure.catalogue, theodolite.cli; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
