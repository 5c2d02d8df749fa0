"""What a batch counts for and what a loss is over it, said on the command line: the number of one's own loop."""

import json

import pytest
import torch
from torch.nn.functional import cross_entropy

from commands import called
from theodolite.checkpoint.advice import in_shell

OWN = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy

def make():
    torch.manual_seed(1)
    return Last().double()

class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(4, 3), nn.Linear(3, 3)
    def forward(self, x):
        return self.out(self.rnn(x)[0][-1])

def data():
    torch.manual_seed(0)
    x, y = torch.randn(6, 10, 4).double(), torch.randint(0, 3, (10,))
    return [(x[:, :7], y[:7]), (x[:, 7:], y[7:])]

def size(batch):
    return len(batch[1])

def summed(outputs, targets):
    return cross_entropy(outputs, targets, reduction="sum")
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    space: dict = {}
    exec(OWN, space)  # noqa: S102 - the same text, as a script of its own
    return file, space


def norm(space, reduction):
    model = space["make"]()
    value = sum(cross_entropy(model(x), y, reduction="sum") for x, y in space["data"]())
    value = value / (10 if reduction == "mean" else 1)
    parts = torch.autograd.grad(value, list(model.parameters()))
    return float(sum(part.pow(2).sum() for part in parts) ** 0.5)


def test_a_function_of_the_users_says_for_how_many_samples_a_batch_counts(own):
    file, space = own
    command = ["measure", "gradient_norm", "--model", f"{file}:make", "--data", f"{file}:data", "--json"]
    said = called(*command, "--samples", f"{file}:size")
    assert json.loads(said.stdout)["result"]["value"] == pytest.approx(norm(space, "mean"), rel=1e-9)
    refused = called(*command)
    assert refused.returncode == 2
    assert "--samples FILE.py:NAME, a function of a batch: len(batch[1])." in " ".join(refused.stderr.split())


def test_a_sum_is_said_to_be_one(own):
    file, space = own
    command = ["measure", "gradient_norm", "--model", f"{file}:make", "--data", f"{file}:data", "--json"]
    said = called(*command, "--loss", f"{file}:summed", "--reduction", "sum", "--samples", f"{file}:size")
    assert json.loads(said.stdout)["result"]["value"] == pytest.approx(norm(space, "sum"), rel=1e-9)


def test_advice_is_in_the_words_of_the_shell_and_helps(own):
    file, space = own
    command = ["measure", "gradient_norm", "--model", f"{file}:make", "--data", f"{file}:data", "--json"]
    file.write_text(
        OWN.replace("[0][-1]", "[0][:, -1]")
        .replace("nn.GRU(4, 3)", "nn.GRU(4, 3, batch_first=True)")
        .replace(
            "return [(x[:, :7], y[:7]), (x[:, 7:], y[7:])]",
            "x = x.transpose(0, 1)\n    return [(x[:7], y[:7]), (x[7:], y[7:])]",
        )
    )
    command += ["--loss", f"{file}:summed"]
    refused = " ".join(called(*command).stderr.split())
    assert "Pass --reduction sum, or divide" in refused
    assert "reduction='sum'" not in refused
    said = called(*command, "--reduction", "sum")
    assert json.loads(said.stdout)["result"]["value"] == pytest.approx(norm(space, "sum"), rel=1e-9)


@pytest.mark.parametrize(
    ("python", "shell"),
    [
        ("Take model.double() and inputs.double().", "Take --dtype float64."),
        ("Use method='sam', which needs none.", "Use --set method=sam, which needs none."),
        ("Pass more, or products=60.", "Pass more, or --set products=60."),
        ("For example: --set method=sam", "For example: --set method=sam"),
        ("Pass use_reentrant=False to checkpoint.", "Pass use_reentrant=False to checkpoint."),
        ("Pass model=, the network that they are of.", "Pass --model FILE.py:NAME, the network that they are of."),
        ("Call model.eval() (Dropout is off then).", "Take --mode eval (Dropout is off then)."),
    ],
)
def test_what_is_said_for_python_is_said_for_the_shell(python, shell):
    assert in_shell(python, ["method", "products"]) == shell


@pytest.mark.parametrize("given", ["0", "-3", "many", "1.5"])
def test_samples_that_are_none_are_refused(own, given):
    file, _ = own
    command = ["measure", "gradient_norm", "--model", f"{file}:make", "--data", f"{file}:data"]
    refused = called(*command, f"--samples={given}")
    assert refused.returncode == 2
    assert "FILE.py:NAME" in refused.stderr


def test_instruments_of_weights_alone_count_no_samples(own):
    file, _ = own
    refused = called("measure", "trajectory", "--samples", f"{file}:size", "--weights", str(file))
    assert refused.returncode == 2
