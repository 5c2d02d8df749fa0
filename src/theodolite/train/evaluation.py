"""Loss and accuracy of one network over a whole set."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from theodolite.specs import Training
from theodolite.train.convolution import ConvolutionAndPool, fits, watched
from theodolite.train.data import Split
from theodolite.train.outcome import DTYPES, Score

Loss = Callable[[Tensor, Tensor], Tensor]
Network = Callable[[Tensor], Tensor]
LOSSES: dict[str, Loss] = {"mse": mse_loss, "cross_entropy": cross_entropy}
CHUNK = 1024  # samples evaluated at once, so that memory stays bounded
IMAGES = 128  # the same for images: what a layer leaves is still in the cache for the next (benchmarks/images.py)
FUSED = 32  # and where convolutions and pools are one step, which cost little to call


@torch.inference_mode()
def evaluate(model: nn.Module, data: Split, training: Training, *, flatten: bool = False) -> Score:
    """Mean loss and accuracy over a whole set, in evaluation mode, in the precision of the training."""
    model.eval()
    network = model if flatten or data.inputs.ndim != 4 else of_images(model, training)
    loss, right = 0.0, 0
    for inputs, targets in zip(data.inputs.split(CHUNK), data.targets.split(CHUNK), strict=True):
        outputs = outputs_of(network, inputs, training, flatten=flatten)
        loss += LOSSES[training.loss](outputs, targets).item() * len(inputs)
        if training.loss == "cross_entropy":
            right += int((outputs.argmax(1) == targets).sum())
    accuracy = right / len(data) if training.loss == "cross_entropy" else float("nan")
    return Score(loss / len(data), accuracy)


def outputs_of(network: Network, inputs: Tensor, training: Training, *, flatten: bool = False) -> Tensor:
    """What a network says, in the training's dtype whatever it was computed in."""
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=training.autocast):
        outputs: Tensor = network(inputs.flatten(1) if flatten else inputs)
    return outputs.to(DTYPES[training.dtype])


def of_images(model: nn.Module, training: Training) -> Network:
    """The same function of images, a few at once up to where they become rows of numbers, and then all together.

    In a chain of layers, a convolution and its pool become one step where :func:`~theodolite.train.convolution.fits`
    knows both; what it does not know does its own work.
    """
    if type(model) is not nn.Sequential or watched(model):
        body, head = [model], list[nn.Module]()
    else:
        body, head = in_steps(list(model), fuse=not training.autocast)
    few = FUSED if any(isinstance(step, ConvolutionAndPool) for step in body) else IMAGES
    first, then = nn.Sequential(*body), nn.Sequential(*head)
    return lambda images: then(torch.cat([first(part) for part in images.split(few)]))


def in_steps(layers: list[nn.Module], *, fuse: bool) -> tuple[list[nn.Module], list[nn.Module]]:
    """The layers up to the first ``Flatten``, fused where they fit, and those behind it."""
    steps, left = list[nn.Module](), layers
    while left and not (steps and isinstance(steps[-1], nn.Flatten)):
        match left:
            case [nn.Conv2d() as convolution, pool, *after] if fuse and fits(convolution, pool):
                steps, left = [*steps, ConvolutionAndPool(convolution)], after
            case [layer, *after]:
                steps, left = [*steps, layer], after
    return steps, left
