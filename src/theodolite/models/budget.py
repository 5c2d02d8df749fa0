"""Architectures that have exactly a given number of parameters. Imports no torch.

There is an ideal shape, which few counts hit: all hidden layers equally wide; in a convolutional network, channels that
double from layer to layer and hidden layers as wide as the last of them. The most balanced architecture is the one
whose farthest layer is nearest to the ideal, then the one with the smaller squared distance.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count as numbers
from itertools import islice, pairwise

from theodolite.errors import BudgetError, SettingError
from theodolite.models.description import CNN, MLP

Image = tuple[int, int, int]
Shape = tuple[int, ...]  # channels, then hidden widths
MOST = {  # of each argument: beyond, the search has no end that anybody waits for
    "parameters": 10**12, "layers": 200, "inputs": 10**9, "outputs": 10**9, "limit": 10_000, "tolerance": 100_000,
    "image": 100_000,
}  # fmt: skip
EFFORT = 100_000  # shapes tried for more once one is found: well under a second
MANY = 2_000  # shapes put in order at once; only very deep networks have more so near to the ideal


def architectures(
    parameters: int,
    layers: int,
    *,
    inputs: int = 1,
    outputs: int = 1,
    kind: str = "mlp",
    image: Image | None = None,
    tolerance: int = 0,
    limit: int = 20,
) -> list[MLP | CNN]:
    """Find architectures with a parameter count, the most balanced first.

    Args:
        parameters: trainable numbers, biases counted.
        layers: layers that hold weights, the output layer included; neither the input nor pools are layers.
        inputs: of a multilayer perceptron.
        outputs: of either.
        kind: ``"mlp"`` or ``"cnn"``.
        image: channels, height and width of a convolutional network's input; 3 x 32 x 32 unless given. There are as
            many convolutions as leave one hidden layer and an image of 4 x 4; the other layers are linear.
        tolerance: how far from ``parameters`` is near enough; nearer counts come first.
        limit: the most architectures to return; fewer where the search would take longer than a second or two.

    Raises:
        BudgetError: there is none; the message has the nearest counts that exist.
        SettingError: an argument is out of its range.

    Example:
        >>> [found.shape for found in architectures(671, 4, limit=3)]
        ['1-15-19-16-1', '1-16-19-15-1', '1-14-19-17-1']
    """
    if min(parameters, layers, inputs, outputs, limit) < 1 or tolerance < 0:
        raise SettingError(
            "expected parameters, layers, inputs, outputs and limit of at least 1 and a tolerance of at least 0, got "
            f"{parameters}, {layers}, {inputs}, {outputs}, {limit} and {tolerance}."
        )
    asked = {"parameters": parameters, "layers": layers, "inputs": inputs, "outputs": outputs, "limit": limit}
    for name, value in {**asked, "tolerance": tolerance, "image": max(image or (1,))}.items():
        if value > MOST[name]:
            raise SettingError(f"expected {name} of at most {MOST[name]:,}, got {value:.3g}.")
    family = _cnns(layers, image or (3, 32, 32), outputs) if kind == "cnn" else _mlps(layers, inputs, outputs)
    if kind not in {"mlp", "cnn"}:
        raise SettingError(f"expected the kind 'mlp' or 'cnn', got '{kind}'.")
    found: list[MLP | CNN] = []
    for distance in range(tolerance + 1):
        if len(found) >= limit:
            break
        for number in sorted({parameters - distance, parameters + distance}):
            found += islice(map(family.build, _shapes(number, family)), limit - len(found))
    if not found:
        raise BudgetError(_none(parameters, tolerance, family))
    return found


def parse_image(text: str) -> Image:
    """Read ``channels x height x width``.

    Example:
        >>> parse_image("3x32x32")
        (3, 32, 32)
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text.replace(" ", ""))
    if not match:
        raise SettingError(f"expected an image as channels x height x width, such as 3x32x32, got '{text}'.")
    channels, height, width = map(int, match.groups())
    return channels, height, width


@dataclass(frozen=True)
class _Family:
    """Architectures of one kind and depth. Their count is linear in the last width, so it need not be searched for."""

    name: str
    ideal: Callable[[int], Shape]  # scale -> shape
    count: Callable[[Shape], int]
    build: Callable[[Shape], MLP | CNN]


def _mlps(layers: int, inputs: int, outputs: int) -> _Family:
    some = ["" if number == 1 else "s" for number in (inputs, outputs, layers)]
    return _Family(
        f"multilayer perceptron with {layers} layer{some[2]} from {inputs} input{some[0]} to {outputs} output{some[1]}",
        lambda scale: (scale,) * (layers - 1),
        lambda shape: _linear((inputs, *shape, outputs)),
        lambda shape: MLP(inputs=inputs, hidden=shape, outputs=outputs),
    )


def _cnns(layers: int, image: Image, outputs: int) -> _Family:
    if layers < 2 or min(image[1:]) < 2:
        raise SettingError(
            "expected a convolutional network of at least 2 layers, a convolution and the output layer, and an image "
            f"of at least 2 x 2 pixels, got {layers} layers and {image[1]} x {image[2]} pixels."
        )
    n = max(1, min(layers - 2, int(math.log2(min(image[1:]))) - 2))
    pixels = (image[1] >> n) * (image[2] >> n)  # that reach the linear layers

    def count(shape: Shape) -> int:
        planes = (image[0], *shape[:n])
        convolutions = sum((9 * before + 1) * after for before, after in pairwise(planes))
        return convolutions + _linear((pixels * shape[n - 1], *shape[n:], outputs))

    return _Family(
        f"convolutional network with {layers} layers from {'x'.join(map(str, image))} to {outputs} outputs",
        lambda scale: (*(scale << i for i in range(n)), *(scale << (n - 1),) * (layers - 1 - n)),
        count,
        lambda shape: CNN(image=image, channels=shape[:n], hidden=shape[n:], outputs=outputs),
    )


def _linear(widths: Shape) -> int:
    """Parameters of linear layers with biases from the first width to the last."""
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))


def _shapes(parameters: int, family: _Family) -> Iterator[Shape]:
    """Shapes with the count, the most balanced first: the reach around the ideal doubles until the effort is spent."""
    if not family.ideal(1):  # no hidden layer, no choice
        yield from [()] if family.count(()) == parameters else []
        return
    ideal = family.ideal(
        max(1, bisect_right(range(parameters + 1), parameters, key=lambda scale: family.count(family.ideal(scale))) - 1)
    )

    def distance(shape: Shape) -> tuple[int, ...]:
        apart = [abs(a - b) for a, b in zip(shape, ideal, strict=True)]
        return (max(apart), sum(a * a for a in apart), *reversed(apart))

    seen: set[Shape] = set()
    reach = 1
    while True:
        new = set(islice(_within(parameters, (), ideal, reach, family.count), MANY)) - seen
        yield from sorted(new, key=distance)
        seen |= new
        alone = ((*(1,) * i, width + reach, *(1,) * (len(ideal) - 1 - i)) for i, width in enumerate(ideal))
        everything = all(family.count(shape) > parameters for shape in alone)  # lies within reach
        if everything or (seen and (4 * reach + 1) ** (len(ideal) - 1) > EFFORT):
            return
        reach *= 2


def _within(parameters: int, chosen: Shape, ideal: Shape, reach: int, count: Callable[[Shape], int]) -> Iterator[Shape]:
    """Shapes that begin as chosen, have the count and lie nowhere farther than ``reach`` from the ideal."""
    rest = ideal[len(chosen) :]
    low, high = max(1, rest[0] - reach), rest[0] + reach
    if len(rest) == 1:
        start = count((*chosen, 0))
        last, over = divmod(parameters - start, count((*chosen, 1)) - start)
        if over == 0 and low <= last <= high:
            yield (*chosen, last)
        return
    least, most = tuple(max(1, width - reach) for width in rest[1:]), tuple(width + reach for width in rest[1:])
    for width in range(low, high + 1):
        if count((*chosen, width, *least)) > parameters:
            return
        if count((*chosen, width, *most)) >= parameters:
            yield from _within(parameters, (*chosen, width), ideal, reach, count)


def _none(parameters: int, tolerance: int, family: _Family) -> str:
    """The message that there is none, with the nearest counts that exist."""

    def exists(number: int) -> bool:
        return next(_shapes(number, family), None) is not None

    least = family.count(family.ideal(1))
    known = [least]
    if family.ideal(1):  # else there is but one
        below = (number for number in range(parameters - tolerance - 1, least - 1, -1) if exists(number))
        above = (number for number in numbers(max(parameters + tolerance + 1, least)) if exists(number))
        known = [*islice(below, 1), next(above)]
    closest = f"the closest have {known[0]:,} and {known[1]:,}" if len(known) == 2 else f"the closest has {known[0]:,}"
    exactly = f"within {tolerance:,} of" if tolerance else "exactly"
    return (
        f"no {family.name} has {exactly} {parameters:,} parameters; {closest}. "
        f"Pass tolerance={min(abs(number - parameters) for number in known):d}, or another number of layers."
    )
