"""hessian-eigenthings: closed forms, parts of the parameters, language models on batches that are dicts, batch norm."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from peer_suites.models import AttentionOnly, binary, classes, evaluated, perceptron
from peer_suites.row import Refusal, Row
from theodolite.errors import BadData, BadLoss, BadModel

row = partial(Row, "hessian-eigenthings")
FLOAT32 = 1000 * torch.finfo(torch.float32).eps


def tanh(outputs: int = 2) -> nn.Sequential:
    return perceptron(3, outputs, nn.Tanh)


def pair(n: int = 8, outputs: int = 2) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 3), torch.randn(n, outputs)


def labelled(n: int = 8, count: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 3), classes(count, n)


def frozen(model: nn.Sequential, *names: str) -> nn.Sequential:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in names)
    return model


CLOSED = [
    row("closed forms", make, variant)
    for variant, make in (
        ("linear regression", lambda: (nn.Linear(5, 1, bias=False), functional.mse_loss,
                                       (torch.randn(16, 5), torch.randn(16, 1)))),
        ("logistic regression", lambda: (nn.Linear(5, 1, bias=False), functional.binary_cross_entropy_with_logits,
                                         (torch.randn(16, 5), binary(16, 1)))),
        ("softmax regression", lambda: (nn.Linear(4, 3, bias=False), functional.cross_entropy,
                                        (torch.randn(12, 4), classes(3, 12)))),
    )
]  # fmt: skip

PERCEPTRONS = [
    row("perceptron with tanh", make, variant)
    for variant, make in (
        ("squared error", lambda: (tanh(), functional.mse_loss, pair())),
        ("squared error, two batches", lambda: (tanh(), functional.mse_loss, [pair(4), pair(4)])),
        ("cross entropy", lambda: (tanh(4), functional.cross_entropy, [labelled(6)])),
        ("cross entropy, two batches", lambda: (tanh(4), functional.cross_entropy, [labelled(3), labelled(3)])),
        ("one logit far above the others", lambda: (
            nn.Sequential(tanh(4), Shifted(20.0)), functional.cross_entropy, labelled())),
    )
] + [
    row(
        "linear layer over a loader", lambda: (
            nn.Linear(10, 1), nn.MSELoss(), DataLoader(TensorDataset(torch.rand(20, 10), torch.rand(20, 1)), 10)),
    ),
]  # fmt: skip


class Shifted(nn.Module):
    """Logits of which one is raised."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, logits: Tensor) -> Tensor:
        return torch.cat([logits[:, :1] + self.by, logits[:, 1:]], 1)


PARTS = [
    row("a part of the parameters", lambda: (tanh(), nn.MSELoss(), pair()), "one tensor", parameters="2.weight"),
    row("a part of the parameters", lambda: (tanh(), nn.MSELoss(), pair()), "one layer", parameters="2.*"),
    row(
        "a part of the parameters", lambda: (frozen(tanh(), "0.weight", "0.bias"), nn.MSELoss(), pair()),
        "others frozen",
    ),
    row(
        "a part of the parameters", lambda: (tanh(), nn.MSELoss(), pair()), "none that matches",
        parameters="nonexistent.*", refused=Refusal(BadModel, "at least one trainable parameter matching"),
    ),
]  # fmt: skip

NORMS = [
    row("norms and batches", make, variant)
    for variant, make in (
        ("batch norm in training mode, one batch", lambda: (
            nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)), nn.MSELoss(),
            (torch.randn(8, 4), torch.randn(8, 2)))),
        ("batch norm in evaluation mode", lambda: (
            evaluated(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)), 4), nn.MSELoss(),
            (torch.randn(8, 4), torch.randn(8, 2)))),
        ("convolution and batch norm in training mode, one batch", lambda: (
            nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten()), nn.MSELoss(),
            (torch.randn(4, 3, 4, 4), torch.randn(4, 8)))),
        ("layer norm", lambda: (
            nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2)), nn.MSELoss(),
            [(torch.randn(n, 4), torch.randn(n, 2)) for n in (5, 3)])),
    )
]  # fmt: skip


class Named(nn.Module):
    """Takes the entries of a batch by name; one of them is text."""

    def __init__(self) -> None:
        super().__init__()
        self.net = tanh(4)

    def forward(self, x: Tensor, y: Tensor, label: str) -> Tensor:
        return self.net(x)


def next_token(logits: Tensor, ids: Tensor) -> Tensor:
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def gpt2() -> nn.Module:
    import transformers

    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=4, n_layer=1, n_head=2, n_inner=4, vocab_size=7, n_positions=5, bos_token_id=0)
    ).eval()


def tokens(n: int) -> dict[str, Tensor]:
    ids = torch.randint(0, 7, (n, 5))
    mask = torch.ones_like(ids)
    labels = ids.clone()
    labels[0, 3:], mask[0, 3:] = -100, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def of_logits(outputs: Any, batch: dict[str, Tensor]) -> Tensor:
    return functional.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())


def ids(n: int) -> tuple[Tensor, Tensor]:
    found = torch.randint(0, 5, (n, 6))
    return found, found


LANGUAGE = [
    row("an attention-only transformer, the next token's loss", lambda: (
        AttentionOnly(), next_token, [ids(3), ids(2)])),
    row(
        "a batch that is a dict, text among its entries",
        lambda: (
            Named(), lambda outputs, batch: functional.cross_entropy(outputs, batch["y"]),
            [{"x": x, "y": y, "label": "not read"} for x, y in (labelled(4), labelled(3))],
        ),
    ),
    row("GPT-2 on padded batches, some labels ignored", lambda: (gpt2(), of_logits, [tokens(2), tokens(3)]),
        "loss of the logits",
        logits=True),
    row(
        "GPT-2 on padded batches, some labels ignored",
        lambda: (gpt2(), lambda outputs, _: outputs.loss, [tokens(2), tokens(3)]), "loss of the model's own",
        ggn_refused=Refusal(BadLoss, "from outputs such as logits, got one that the model computes itself"),
        tolerance=FLOAT32, note="to the rounding of float32, in which that library sums it",
    ),
]  # fmt: skip


def fails(outputs: Tensor, targets: Tensor) -> Tensor:
    raise RuntimeError("no loss today")


REFUSED = [
    row(
        "a loss that raises an error", lambda: (tanh(), fails, pair()),
        refused=Refusal(BadData, "an error from the first batch: no loss today"), note="the weights are as before",
    ),
]  # fmt: skip

ROWS = [*CLOSED, *PERCEPTRONS, *PARTS, *NORMS, *LANGUAGE, *REFUSED]
