"""Loss and accuracy of one network over a whole set."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from theodolite import recipes
from theodolite.specs import Training
from theodolite.train.data import Split
from theodolite.train.losses import takes_classes
from theodolite.train.outcome import DTYPES, Score

Loss = Callable[[Tensor, Tensor], Tensor]
Network = Callable[[Tensor], Tensor]


def _of_classes(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy; of sequences ``(N, tokens, classes)`` the mean over all tokens."""
    if outputs.ndim > 2:
        outputs, targets = outputs.flatten(0, -2), targets.flatten()
    return cross_entropy(outputs, targets)


LOSSES: dict[str, Loss] = {"mse": mse_loss, "cross_entropy": _of_classes}
EVAL_SAMPLES = 1024  # evaluated at once, so that memory stays bounded
EVAL_IMAGES = 128  # the same for images: what a layer leaves is still in the cache for the next (benchmarks/images.py)


def mean_of(loss: str | recipes.Loss) -> Loss:
    """The mean over samples of what a training names."""
    if isinstance(loss, str):
        return LOSSES[loss]
    return lambda outputs, targets: loss.per_sample(outputs, targets).mean()


@torch.inference_mode()
def evaluate(model: nn.Module, data: Split, training: Training, *, flatten: bool = False) -> Score:
    """Mean loss and accuracy over a whole set, in evaluation mode, in the precision of the training."""
    model.eval()
    network = model if flatten or data.inputs.ndim != 4 else of_images(model)
    loss_of, classes = mean_of(training.loss), takes_classes(training.loss)
    loss, right = 0.0, 0
    for inputs, targets in zip(data.inputs.split(EVAL_SAMPLES), data.targets.split(EVAL_SAMPLES), strict=True):
        outputs = outputs_of(network, inputs, training, flatten=flatten)
        loss += loss_of(outputs, targets).item() * len(inputs)
        if classes:
            right += int((outputs.argmax(-1) == targets).sum())
    accuracy = right / data.targets.numel() if classes else float("nan")
    return Score(loss / len(data), accuracy)


def outputs_of(network: Network, inputs: Tensor, training: Training, *, flatten: bool = False) -> Tensor:
    """What a network says, in the training's dtype whatever it was computed in."""
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=training.autocast):
        outputs: Tensor = network(inputs.flatten(1) if flatten else inputs)
    return outputs.to(DTYPES[training.dtype])


def of_images(model: nn.Module) -> Network:
    """The same function of images, a few at once up to where they become rows of numbers, and then all together."""
    layers = list(model) if type(model) is nn.Sequential and not _has_hooks(model) else [model]
    flat = next((at for at, layer in enumerate(layers, 1) if isinstance(layer, nn.Flatten)), len(layers))
    body, head = nn.Sequential(*layers[:flat]), nn.Sequential(*layers[flat:])
    return lambda images: head(torch.cat([body(part) for part in images.split(EVAL_IMAGES)]))


def _has_hooks(module: nn.Module) -> bool:
    """Whether somebody wants to be called when the module is: it must then be called itself, and once."""
    return bool(module._forward_hooks or module._forward_pre_hooks)
