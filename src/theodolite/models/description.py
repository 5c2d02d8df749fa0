"""Architectures as frozen, serialisable descriptions: what a RunSpec holds and a fingerprint covers. No torch."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from theodolite.code.reference import Reference

Activation = Literal["relu", "tanh", "gelu", "silu", "sigmoid", "softplus", "identity"]


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MLP(_Description):
    """A multilayer perceptron: linear layers with an activation between them.

    ``layers`` counts the layers that hold weights, the output layer included; the input is not a layer.
    So ``MLP(inputs=1, hidden=(15, 19, 16), outputs=1)`` has four.

    >>> MLP(inputs=1, hidden=(15, 19, 16), outputs=1).parameters
    671
    """

    kind: Literal["mlp"] = "mlp"
    inputs: PositiveInt
    hidden: tuple[PositiveInt, ...] = ()
    outputs: PositiveInt
    activation: Activation = "relu"
    bias: bool = True

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of every layer from the input to the output."""
        return (self.inputs, *self.hidden, self.outputs)

    @property
    def layers(self) -> int:
        """Linear layers."""
        return len(self.hidden) + 1

    @property
    def parameters(self) -> int:
        """Trainable numbers, biases counted."""
        return sum((i + self.bias) * o for i, o in pairwise(self.widths))

    @property
    def multiplications(self) -> int:
        """Of one forward pass of one sample."""
        return sum(i * o for i, o in pairwise(self.widths))

    @property
    def shape(self) -> str:
        """For a table: ``1-15-19-16-1``."""
        return "-".join(map(str, self.widths))


class CNN(_Description):
    """3x3 convolutions with padding 1, each followed by its activation and a 2x2 max pool, then linear layers.

    ``layers`` counts convolutions and linear layers, the output layer included; pools hold no weights.

    >>> CNN(image=(3, 32, 32), channels=(12, 64, 96), hidden=(100, 84), outputs=10).parameters
    225738
    """

    kind: Literal["cnn"] = "cnn"
    image: tuple[PositiveInt, PositiveInt, PositiveInt]  # channels, height, width
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    hidden: tuple[PositiveInt, ...] = ()
    outputs: PositiveInt
    activation: Activation = "relu"
    batch_norm: bool = False

    @property
    def flat(self) -> int:
        """Numbers that reach the first linear layer."""
        shrink = 1 << len(self.channels)
        return self.channels[-1] * (self.image[1] // shrink) * (self.image[2] // shrink)

    @property
    def layers(self) -> int:
        """Convolutions and linear layers."""
        return len(self.channels) + len(self.hidden) + 1

    @property
    def parameters(self) -> int:
        """Trainable numbers, biases counted."""
        planes = (self.image[0], *self.channels)
        convolutions = sum((9 * i + 1) * o for i, o in pairwise(planes))
        norms = 2 * sum(self.channels) if self.batch_norm else 0
        widths = (self.flat, *self.hidden, self.outputs)
        return convolutions + norms + sum((i + 1) * o for i, o in pairwise(widths))

    @property
    def multiplications(self) -> int:
        """Of one forward pass of one sample; an image halves its sides behind each convolution."""
        planes = (self.image[0], *self.channels)
        area = [(self.image[1] >> depth) * (self.image[2] >> depth) for depth in range(len(self.channels))]
        convolutions = sum(9 * i * o * pixels for (i, o), pixels in zip(pairwise(planes), area, strict=True))
        return convolutions + sum(i * o for i, o in pairwise((self.flat, *self.hidden, self.outputs)))

    @property
    def shape(self) -> str:
        """For a table: ``3x32x32 | 30-12-15 | 512-10``."""
        image = "x".join(map(str, self.image))
        return f"{image} | {'-'.join(map(str, self.channels))} | {'-'.join(map(str, (*self.hidden, self.outputs)))}"


class CodeModel(_Description):
    """A network that a function in a file makes (:func:`theodolite.models.code`)."""

    kind: Literal["code"] = "code"
    made: Reference
    parameters: int  # trainable numbers
    layers: int  # modules with weights of their own

    @property
    def multiplications(self) -> int:
        """Of one forward pass of one sample, roughly: each weight once."""
        return self.parameters

    @property
    def shape(self) -> str:
        """For a table: ``net.py:make``, with its arguments."""
        arguments = ", ".join(f"{name}={value}" for name, value in self.made.arguments.items())
        return f"{self.made.anywhere().file}:{self.made.name}({arguments})"


Architecture = Annotated[MLP | CNN | CodeModel, Field(discriminator="kind")]
