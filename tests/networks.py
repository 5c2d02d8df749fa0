"""Small networks as people write them, and their hidden units shuffled."""

import copy

import numpy as np
import torch
from torch import nn

from theodolite.measure.units.axes import groups_of, permute, tensors_of


class BasicBlock(nn.Module):
    """torchvision's."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(inner + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """torchvision's, with the groups of ResNeXt."""

    def __init__(self, inputs, width, outputs, groups):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, groups=groups), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1)) if inputs != outputs else None

    def forward(self, x):
        inner = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        return self.relu(self.bn3(self.conv3(inner)) + (x if self.downsample is None else self.downsample(x)))


class PreActivation(nn.Module):
    """The common one for CIFAR: BatchNorm first, and an empty Sequential where nothing lies on the way around."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Sequential(*[nn.Conv2d(inputs, outputs, 1, bias=False)] * (inputs != outputs))

    def forward(self, x):
        before = torch.relu(self.bn1(x))
        around = self.shortcut(before) if len(self.shortcut) else x
        return self.conv2(torch.relu(self.bn2(self.conv1(before)))) + around


class ResNet(nn.Module):
    def __init__(self, *stages, width=4):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width)
        self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(2)
        self.layer1, self.layer2 = (nn.Sequential(*stage) for stage in stages)
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(4 * 6, 5)

    def forward(self, x):
        x = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet18():
    return ResNet([BasicBlock(4, 4), BasicBlock(4, 4)], [BasicBlock(4, 6, 2), BasicBlock(6, 6)])


def resnext():
    return ResNet([Bottleneck(4, 8, 4, 4)], [Bottleneck(4, 6, 6, 3), Bottleneck(6, 4, 6, 2)])


def preactivation():
    return ResNet([PreActivation(4, 4)], [PreActivation(4, 6), PreActivation(6, 6)])


class Attention(nn.Module):
    """nanoGPT's."""

    def __init__(self, width, heads):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.n_head = heads

    def forward(self, x):
        queries, keys, values = (
            part.unflatten(-1, (self.n_head, -1)).transpose(1, 2) for part in self.c_attn(x).chunk(3, -1)
        )
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).flatten(2))


class Norm(nn.Module):
    """nanoGPT has a LayerNorm of its own."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return nn.functional.layer_norm(x, self.weight.shape, self.weight, self.bias)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = Norm(width), Attention(width, heads), Norm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp["c_proj"](nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


class GPT(nn.Module):
    """nanoGPT's layers and names; the head's weights are those of the embedding."""

    def __init__(self, width=8, heads=2, vocabulary=11, length=6):
        super().__init__()
        parts = {"wte": nn.Embedding(vocabulary, width), "wpe": nn.Embedding(length, width)}
        parts |= {"h": nn.ModuleList(Block(width, heads) for _ in range(2)), "ln_f": Norm(width)}
        self.transformer = nn.ModuleDict(parts)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight

    def forward(self, tokens):
        x = self.transformer["wte"](tokens) + self.transformer["wpe"](torch.arange(tokens.shape[1]))
        for block in self.transformer["h"]:
            x = block(x)
        return self.lm_head(self.transformer["ln_f"](x))


def drawn(make, seed, inputs=None):
    """A network in evaluation mode, in float64, with statistics, slopes and gains that differ from unit to unit."""
    torch.manual_seed(seed)
    model = make().double()
    if inputs is not None:
        model(inputs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def shuffled(model, units, seed=0):
    """A copy with units in a random order wherever they are said to lie."""
    other, random = copy.deepcopy(model), np.random.default_rng(seed)
    for group in groups_of(model, units):
        width = group.size // group.blocks
        order = [width * block + random.permutation(width) for block in random.permutation(group.blocks)]
        permute(tensors_of(other), group, np.concatenate(order))
    return other


def same(model, other):
    """Bit by bit, in all parameters and buffers."""
    state = other.state_dict()
    return all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
