"""One table of layers and losses that all curvature tests run over. Anyone can add a row.

A layer's row makes a small model from 8 features to 3 outputs; a loss's row makes a loss, targets for n samples, and
what the outputs pass through before it. Everything is float64 and seeded by the test.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

BATCHES = (5, 1, 4)  # unequal on purpose


@dataclass(frozen=True)
class Case:
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    batches: list[tuple[Tensor, Tensor]]


class Lambda(nn.Module):
    """A function of the features, and maybe of parts of its own."""

    def __init__(self, function, **parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **self.parts)


class Attention(nn.Module):
    """scaled_dot_product_attention over two tokens of four features."""

    def __init__(self, mask: str = "none") -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.reshape(-1, 1, 2, 4)).chunk(3, -1)  # one head: fused kernels take four dimensions
        mask = torch.tensor([[True, False], [True, True]]) if self.mask == "mask" else None
        return functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=self.mask == "causal"
        ).flatten(1)


class Tied(nn.Module):
    """An embedding whose weights also give the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(3, 4)
        self.mix = nn.Linear(4, 4)
        self.out = nn.Linear(4, 3, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        tokens = (x[:, :2].abs() * 10).long() % 3
        return self.out(torch.tanh(self.mix(self.embed(tokens).sum(1))))


class Scalar(nn.Module):
    """One parameter without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.linear = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.scale * self.linear(x)) / self.scale


def around(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), *middle, nn.Linear(8, 3))


def image(*middle: nn.Module, features: int) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (2, 2, 2)), *middle, nn.Flatten(), nn.Linear(features, 3))


def signal(*middle: nn.Module, features: int) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (2, 4)), *middle, nn.Flatten(), nn.Linear(features, 3))


def recurrent(layer: nn.Module) -> nn.Module:
    return Lambda(lambda x, layer, out: out(layer(x.view(-1, 2, 4))[0][:, -1]), layer=layer, out=nn.Linear(3, 3))


def frozen(model: nn.Module) -> nn.Module:
    next(model.parameters()).requires_grad_(False)
    return model


def settled(model: nn.Module) -> nn.Module:
    """Running statistics that are not the defaults, in evaluation mode."""
    for _ in range(3):
        model(torch.randn(10, 8, dtype=next(model.parameters()).dtype))
    return model.eval()


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(8, 3),
    "tanh": lambda: around(nn.Tanh()),
    "relu": lambda: around(nn.ReLU()),
    "gelu": lambda: around(nn.GELU()),
    "silu": lambda: around(nn.SiLU()),
    "elu": lambda: around(nn.ELU()),
    "softplus": lambda: around(nn.Softplus()),
    "softmax": lambda: around(nn.Softmax(-1)),
    "conv1d": lambda: signal(nn.Conv1d(2, 3, 3, padding=1), nn.Tanh(), features=12),
    "conv2d": lambda: image(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), features=12),
    "conv_transpose2d": lambda: image(nn.ConvTranspose2d(2, 2, 2, stride=2), nn.Tanh(), features=32),
    "max_pool": lambda: image(nn.Conv2d(2, 3, 3, padding=1), nn.MaxPool2d(2), nn.Tanh(), features=3),
    "average_pool": lambda: image(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), features=3),
    "adaptive_pool": lambda: image(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), features=3),
    "embedding": lambda: nn.Sequential(
        Lambda(lambda x: (x[:, :3].abs() * 10).long() % 5),
        nn.Embedding(5, 4), nn.Flatten(), nn.Tanh(), nn.Linear(12, 3),
    ),
    "tied_embedding": Tied,
    "layer_norm": lambda: around(nn.LayerNorm(8)),
    "group_norm": lambda: around(nn.GroupNorm(2, 8)),
    "rms_norm": lambda: around(nn.RMSNorm(8)),
    "instance_norm": lambda: signal(
        nn.Conv1d(2, 3, 3, padding=1), nn.InstanceNorm1d(3, affine=True), nn.Tanh(), features=12
    ),
    "batch_norm_eval": lambda: settled(around(nn.BatchNorm1d(8), nn.Tanh())),
    "multihead_attention": lambda: Lambda(
        lambda x, attention, out: out(attention(*[x.view(-1, 2, 4)] * 3, need_weights=False)[0].flatten(1)),
        attention=nn.MultiheadAttention(4, 2, batch_first=True), out=nn.Linear(8, 3),
    ),
    "attention": lambda: around(Attention()),
    "attention_mask": lambda: around(Attention("mask")),
    "attention_causal": lambda: around(Attention("causal")),
    "gru": lambda: recurrent(nn.GRU(4, 3, batch_first=True)),
    "lstm": lambda: recurrent(nn.LSTM(4, 3, batch_first=True)),
    "residual": lambda: around(Lambda(lambda x, inner: x + torch.tanh(inner(x)), inner=nn.Linear(8, 8))),
    "einsum": lambda: around(
        Lambda(
            lambda x, a: torch.einsum("nij,nkj->nik", *[a(x).view(-1, 2, 4)] * 2).flatten(1).repeat(1, 2),
            a=nn.Linear(8, 8),
        )
    ),
    "weight_norm": lambda: nn.Sequential(weight_norm(nn.Linear(8, 5)), nn.Tanh(), nn.Linear(5, 3)),
    "spectral_norm_eval": lambda: settled(nn.Sequential(spectral_norm(nn.Linear(8, 5)), nn.Tanh(), nn.Linear(5, 3))),
    "frozen": lambda: frozen(around(nn.Tanh())),
    "scalar": Scalar,
}  # fmt: skip

ONE_BATCH: dict[str, Callable[[], nn.Module]] = {  # statistics of the batch: one sample has none
    "batch_norm_train": lambda: around(nn.BatchNorm1d(8), nn.Tanh()),
    "batch_norm_no_statistics": lambda: around(nn.BatchNorm1d(8, track_running_stats=False), nn.Tanh()),
}


def classes(n: int) -> Tensor:
    return torch.randint(0, 3, (n,))


def numbers(n: int) -> Tensor:
    return torch.randn(n, 3)


LOSSES: dict[str, tuple[Callable[[], Callable[[Tensor, Tensor], Tensor]], Callable[[int], Tensor]]] = {
    "cross_entropy": (nn.CrossEntropyLoss, classes),
    "label_smoothing": (lambda: nn.CrossEntropyLoss(label_smoothing=0.1), classes),
    "class_weights": (lambda: nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.0, 3.0])), classes),
    "ignore_index": (lambda: nn.CrossEntropyLoss(ignore_index=0), lambda n: classes(n).clamp(min=n == 1)),
    "mse": (nn.MSELoss, numbers),
    "huber": (nn.HuberLoss, numbers),
    "smooth_l1": (nn.SmoothL1Loss, numbers),
    "bce_with_logits": (nn.BCEWithLogitsLoss, lambda n: torch.rand(n, 3)),
    "nll": (lambda: lambda o, t: functional.nll_loss(functional.log_softmax(o, -1), t), classes),
    "kl_divergence": (
        lambda: lambda o, t: functional.kl_div(functional.log_softmax(o, -1), t, reduction="batchmean"),
        lambda n: torch.softmax(torch.randn(n, 3), -1),
    ),
    "gaussian_nll": (
        lambda: lambda o, t: functional.gaussian_nll_loss(o[:, :1], t, functional.softplus(o[:, 1:2]) + 0.1),
        lambda n: torch.randn(n, 1),
    ),
    "own": (lambda: lambda o, t: torch.log1p((o - t) ** 2).mean(), numbers),
}  # fmt: skip

EACH = [(layer, "cross_entropy") for layer in (*LAYERS, *ONE_BATCH)] + [
    ("tanh", loss) for loss in LOSSES if loss != "cross_entropy"
]  # every layer and every loss once
CASES = EACH + [(layer, loss) for layer in ("layer_norm", "attention") for loss in LOSSES if loss != "cross_entropy"]


def make(layer: str, loss: str, dtype: torch.dtype = torch.float64) -> Case:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        torch.manual_seed(0)
        model = {**LAYERS, **ONE_BATCH}[layer]()
        make_loss, targets = LOSSES[loss]
        sizes = BATCHES if layer in LAYERS else (10,)
        return Case(model, make_loss(), [(torch.randn(n, 8), targets(n)) for n in sizes])
    finally:
        torch.set_default_dtype(before)
