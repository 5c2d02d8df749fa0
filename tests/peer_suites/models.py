"""Models that several suites have in one form or another, and targets for them."""

import torch
from torch import Tensor, nn

from cases import Lambda


def classes(count: int, *shape: int) -> Tensor:
    return torch.randint(0, count, shape)


def binary(*shape: int) -> Tensor:
    return torch.randint(0, 2, shape).to(torch.get_default_dtype())


def numbers(*shape: int) -> Tensor:
    return torch.rand(*shape)


def perceptron(inputs: int, outputs: int, activation: type[nn.Module] = nn.ReLU, hidden: int = 5) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), activation(), nn.Linear(hidden, outputs))


def then(function, **parts: nn.Module) -> Lambda:
    """A step without a module of PyTorch's own."""
    return Lambda(function, **parts)


def classifier(*front: nn.Module, size: tuple[int, ...], outputs: int = 3) -> nn.Sequential:
    """Layers, flattened, and a linear one of as many features as come."""
    features = nn.Sequential(*front).eval()(torch.zeros(1, *size)).numel()
    return nn.Sequential(*(layer.train() for layer in front), nn.Flatten(), nn.Linear(features, outputs))


def parallel(*branches: nn.Module) -> Lambda:
    """The sum of branches: a skip connection where one is the identity."""
    named = {f"branch_{i}": branch for i, branch in enumerate(branches)}
    return Lambda(lambda x, **parts: sum(part(x) for part in parts.values()), **named)


def evaluated(model: nn.Module, *size: int) -> nn.Module:
    """In evaluation mode, with running statistics and scales that are not those of a fresh layer."""
    for _ in range(3):
        model(torch.rand(4, *size))
    with torch.no_grad():
        for layer in model.modules():
            if hasattr(layer, "running_mean"):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.uniform_(-0.5, 0.5)
    return model.eval()


class Block(nn.Module):
    """Two convolutions and what goes past them, with in-place activations."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: bool, residual: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) if norm else nn.Identity() for _ in range(2))
        self.past: nn.Module | None = None
        if residual:
            narrow = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.past = narrow if stride > 1 or inputs != outputs else nn.Identity()
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[1](self.second(self.activation(self.norms[0](self.first(x)))))
        if self.past is not None:
            y += self.past(x)
        return self.activation(y)


def resnet(norm: bool = True, residual: bool = True, outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1) if norm else nn.Identity(), nn.ReLU(inplace=True),
        Block(1, 1, 1, norm, residual), Block(1, 2, 2, norm, residual),
        nn.AvgPool2d(3), nn.Flatten(), nn.Linear(2, outputs),
    )  # fmt: skip


class AttentionOnly(nn.Module):
    """One causal head over tokens with positions, added to what comes in, and logits: no perceptron, no norm."""

    def __init__(self, vocabulary: int = 5, width: int = 4, length: int = 6) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.attention = nn.MultiheadAttention(width, 1, batch_first=True)
        self.logits = nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1)
        return self.logits(x + self.attention(x, x, x, attn_mask=mask, need_weights=False)[0])
