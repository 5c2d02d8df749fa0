"""Modules built from descriptions: plain ``nn.Sequential``, with the initial weights of PyTorch's own layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import nn

from theodolite.errors import SettingError
from theodolite.models.description import CNN, MLP, Activation, CodeModel
from theodolite.models.own import built
from theodolite.models.pool import HalvingPool
from theodolite.streams import named_seed

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}

# The largest of f(a), f(b), ... is f of the largest: the pool comes first, and leaves f a quarter of the work.
RISING: tuple[Activation, ...] = ("relu", "tanh", "sigmoid", "softplus", "identity")

Description = TypeVar("Description", MLP, CNN)


def mlp(
    description: MLP | None = None, /, *, seed: int | None = None, dtype: torch.dtype = torch.float32, **fields: Any
) -> nn.Sequential:
    """Build a multilayer perceptron, from a description or from its fields.

    Args:
        description: what to build; or else its fields as keywords.
        seed: of the initial weights; the random state is then left as it was. None: PyTorch's random state goes on.
        dtype: of the parameters. Initial weights are drawn in float32, so they start the same in every type.
        fields: of :class:`MLP`.

    Raises:
        SettingError: the fields describe no multilayer perceptron.

    Example:
        >>> mlp(inputs=2, hidden=(3,), outputs=1, seed=0)
        Sequential(
          (0): Linear(in_features=2, out_features=3, bias=True)
          (1): ReLU()
          (2): Linear(in_features=3, out_features=1, bias=True)
        )
    """
    chosen = _description(MLP, description, fields)
    with _drawn_from(seed):
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(chosen.widths):
            layers += [nn.Linear(inputs, outputs, bias=chosen.bias), ACTIVATIONS[chosen.activation]()]
        return nn.Sequential(*layers[:-1]).to(dtype)


def cnn(
    description: CNN | None = None, /, *, seed: int | None = None, dtype: torch.dtype = torch.float32, **fields: Any
) -> nn.Sequential:
    """Build a convolutional network, from a description or from its fields; arguments as :func:`mlp`.

    Example:
        >>> model = cnn(image=(1, 8, 8), channels=(4, 8), outputs=10, seed=0)
        >>> model(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """
    chosen = _description(CNN, description, fields)
    if chosen.flat == 0:
        raise SettingError(
            f"expected an image that {len(chosen.channels)} pools can halve, "
            f"got {chosen.image[1]} x {chosen.image[2]} pixels. Pass fewer channels."
        )
    with _drawn_from(seed):
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((chosen.image[0], *chosen.channels)):
            layers.append(nn.Conv2d(inputs, outputs, kernel_size=3, padding=1))
            if chosen.batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            activation, pool = ACTIVATIONS[chosen.activation](), HalvingPool(2)
            layers += [pool, activation] if chosen.activation in RISING else [activation, pool]
        layers.append(nn.Flatten())
        for inputs, outputs in pairwise((chosen.flat, *chosen.hidden, chosen.outputs)):
            layers += [nn.Linear(inputs, outputs), ACTIVATIONS[chosen.activation]()]
        return nn.Sequential(*layers[:-1]).to(dtype)


def build(
    architecture: MLP | CNN | CodeModel, *, seed: int | None = None, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """Build the module of any description; arguments as :func:`mlp`."""
    if isinstance(architecture, CodeModel):
        with _drawn_from(seed):
            return built(architecture).to(dtype)
    if isinstance(architecture, MLP):
        return mlp(architecture, seed=seed, dtype=dtype)
    return cnn(architecture, seed=seed, dtype=dtype)


@contextmanager
def _drawn_from(seed: int | None) -> Iterator[None]:
    """Draw on the CPU from this seed, then put the random state back; the same weights on every device."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(named_seed(seed, "weights"))
        yield


def _description(kind: type[Description], description: Description | None, fields: dict[str, Any]) -> Description:
    if description is not None:
        return description.model_copy(update=fields) if fields else description
    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        known = ", ".join(kind.model_fields)
        raise SettingError(f"{kind.__name__.lower()}: '{where}': {first['msg']}. Its fields: {known}.") from None
