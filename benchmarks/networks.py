"""Networks that are no plain chain, with data: a residual one and transformers."""

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

Problem = tuple[nn.Module, tuple[Tensor, Tensor]]


class Logits(nn.Module):
    """GPT-2 as a model from tokens to logits, as all libraries take them."""

    def __init__(self, vocabulary: int, length: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        config = GPT2Config(
            vocab_size=vocabulary,
            n_positions=length,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            use_cache=False,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.gpt = GPT2LMHeadModel(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(n, tokens, vocabulary)``."""
        return self.gpt(tokens).logits


class NextToken(nn.CrossEntropyLoss):
    """Cross entropy over all tokens; curvlinops asks a loss for its ``reduction``."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over samples and tokens."""
        return super().forward(logits.flatten(0, 1), targets.flatten())


def gpt(
    *, vocabulary: int = 65, width: int = 64, layers: int = 2, heads: int = 4, samples: int = 16, length: int = 64
) -> Problem:
    """GPT-2 with random weights on random tokens."""
    torch.manual_seed(0)
    tokens = torch.randint(0, vocabulary, (samples, length + 1))
    model = Logits(vocabulary, length, width, layers, heads).eval()
    return model, (tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


class Block(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Twice normalised, and added to what came in."""
        h = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.norms[1](self.second(h)) + self.shortcut(x))


def resnet20(count: int) -> Problem:
    """Of He et al. 2016 for CIFAR-10, in evaluation mode, on random images of that size."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    width = 16
    for outputs in (16, 32, 64):
        for _ in range(3):
            layers.append(Block(width, outputs, 1 if width == outputs else 2))
            width = outputs
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    images = torch.randn(count, 3, 32, 32)
    model(images)  # running statistics of its own
    return model.eval(), (images, torch.randint(0, 10, (count,)))


class VisionTransformer(nn.Module):
    """ViT of Dosovitskiy et al. 2021, on patches of 4 × 4 pixels."""

    def __init__(self, width: int = 192, layers: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 65, width))
        options = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, **options) for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, from the first token."""
        x = self.patches(images).flatten(2).mT
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def vit_tiny(count: int) -> Problem:
    """On random images of CIFAR's size; in training mode, whose dropout is none, as evaluation fuses its layers."""
    torch.manual_seed(0)
    return VisionTransformer(), (torch.randn(count, 3, 32, 32), torch.randint(0, 10, (count,)))
