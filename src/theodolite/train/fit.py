"""Whether data and loss fit a network: asked before the first step, where the answer can still be a clear one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from theodolite.errors import SettingError
from theodolite.recipes import Loss
from theodolite.train.data import Split
from theodolite.train.losses import takes_classes


def check(
    name: str,
    split: Split,
    loss: str | Loss,
    outputs: int,
    more_targets: Sequence[Tensor] = (),
    *,
    positions: Sequence[int] = (),
) -> None:
    """Raise unless a set can be learned or judged by; a class out of range would end the process on a GPU.

    Args:
        name: of the set, "training" or "test".
        split: inputs and targets.
        loss: of the training.
        outputs: of the network.
        more_targets: in place of the set's own, for some replicas.
        positions: of a sample that have outputs of their own: ``(tokens,)`` of a language model.

    Raises:
        SettingError: no sample, NaN or infinity in it, or targets that are not what the loss takes.
    """
    if len(split) == 0:
        raise SettingError(f"expected at least one {name} sample, got none. Pass more data.")
    _check_finite(f"{name} inputs", split.inputs)
    for targets in (split.targets, *more_targets):
        _check_targets(name, targets, (len(split), *positions), outputs, loss)


def _check_finite(what: str, numbers: Tensor) -> None:
    if numbers.is_floating_point() and not all(torch.isfinite(end) for end in torch.aminmax(numbers)):
        raise SettingError(f"expected finite {what}, got NaN or infinity. Clean the data first.")


def _check_targets(name: str, targets: Tensor, places: tuple[int, ...], outputs: int, loss: str | Loss) -> None:
    shape, said = tuple(targets.shape), loss if isinstance(loss, str) else loss.model_dump()["kind"]
    if not takes_classes(loss):
        if not targets.is_floating_point() or shape != (*places, outputs):
            raise SettingError(
                f"expected {name} targets of shape {(*places, outputs)} for the loss '{said}', got {targets.dtype} of "
                f"shape {shape}. Use 'cross_entropy' for classes, or a network with as many outputs."
            )
        _check_finite(f"{name} targets", targets)
    elif targets.is_floating_point() or shape != places:
        raise SettingError(
            f"expected {name} targets of shape {places} with a class each for the loss '{said}', got "
            f"{targets.dtype} of shape {shape}. Use 'mse' for numbers."
        )
    elif not 0 <= int(targets.min()) <= int(targets.max()) < outputs:
        raise SettingError(
            f"expected {name} classes from 0 to {outputs - 1}, one an output, got {int(targets.min())} to "
            f"{int(targets.max())}. Use a network with more outputs."
        )
