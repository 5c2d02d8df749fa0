"""Data and loss for a measurement: a data set by its name, or what a function of the user's gives."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from theodolite import data as sets
from theodolite.checkpoint import given
from theodolite.code import running as code
from theodolite.errors import SettingError, UnknownName
from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.objective import Loss
from theodolite.train.data import tensors

SCALES = ("standard", "unit", "none")
LOSSES: dict[str, Loss] = {
    "cross_entropy": functional.cross_entropy,
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
    "huber": functional.huber_loss,
    "nll": functional.nll_loss,
    "bce_with_logits": functional.binary_cross_entropy_with_logits,
}


class Scaled(str):
    """A data set's name, and how the pixels of its images are scaled."""

    scale: str

    def __new__(cls, source: str, scale: str) -> "Scaled":
        """A name that carries one of SCALES."""
        made = super().__new__(cls, source)
        made.scale = scale
        return made


def batches(
    source: str, *, part: str = "train", samples: int | None = None, batch_size: int | None = None, dtype: torch.dtype
) -> list[Batch]:
    """The data, read once, as batches.

    Args:
        source: a data set's name, of which ``samples`` are drawn at random, the same each time; or ``FILE.py:NAME``,
            a function that gives a pair, batches, or a torch data set, of which the first ``samples`` are taken.
        part: ``"train"`` or ``"test"``, of a named data set.
        samples: how many to use; None: all.
        batch_size: of data sets; None: 1,000. It changes no number where the loss is a mean over samples.
        dtype: that floating-point inputs and targets get.

    Raises:
        UnknownName, DataUnavailable, DataCorrupt: there is no such data set, or it cannot be had.
        SettingError: a batch size where the function chose its own.
        BadData: the function gave something else, or nothing.
        CodeFailed: the file cannot be run.
    """
    if code.is_code(source):
        return given.batches(source, samples, batch_size, dtype)
    kept = {} if samples is None else {"train" if part == "train" else "test": samples}
    computed = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    both = tensors(_loaded(source, kept), computed).to("cpu", dtype)
    split = both.train if part == "train" else both.test
    size = batch_size or given.BATCH
    return list(zip(split.inputs.split(size), split.targets.split(size), strict=True))


def scaling(source: str) -> str:
    """How the inputs of a named data set are scaled, in words.

    Example:
        >>> scaling(Scaled("digits", "unit"))
        'pixel / 16'
    """
    data, scale = _loaded(source, {}), _scale(source)
    if scale == "none":
        return "pixels as published"
    if data.offset is None or data.factor is None:
        return "as published"
    if scale == "unit":
        return f"pixel / {1 / data.factor[0]:.4g}"
    shown = [
        f"(pixel − {offset:.4g}) / {1 / factor:.4g}" for offset, factor in zip(data.offset, data.factor, strict=True)
    ]
    return f"standardised, {', '.join(shown)}"


def loss_named(name: str | None, data: Sequence[Batch]) -> tuple[str, Loss]:
    """A loss by its name, or the user's own; None: cross entropy where targets are classes, else the mean square.

    Raises:
        UnknownName: there is none; the message gives the closest.
        SettingError: none is given, or one by name, where targets are no tensor.
        CodeFailed: the user's file cannot be run.
    """
    targets = data[0][1]
    if not isinstance(targets, Tensor) and (name is None or name in LOSSES):
        raise SettingError(
            f"expected --loss FILE.py:NAME for targets that are {type(targets).__name__}, got {name or 'none'}. Write "
            "a function of (outputs, targets); of batches that are dicts, it gets the batch as targets."
        )
    if name is None:
        name = "cross_entropy" if targets.dtype == torch.int64 else "mse"
    if not code.is_code(name):
        if name not in LOSSES:
            raise UnknownName("loss", name, [*LOSSES, "FILE.py:NAME"])
        return name, LOSSES[name]
    own = code.named(name, "--loss")
    own = code.called(own, name) if isinstance(own, type) and issubclass(own, nn.Module) else own
    if not callable(own):
        raise SettingError(f"expected {name} to be a function of (outputs, targets), got {type(own).__name__}.")
    return name, own


def count(data: Iterable[Batch]) -> int:
    """Samples in all batches."""
    return sum(given.rows(inputs) for inputs, _ in data)


def _scale(source: str) -> str:
    return source.scale if isinstance(source, Scaled) else "standard"


def _loaded(source: str, kept: dict[str, int]) -> sets.Dataset:
    scale: Literal["standard", "unit"] = "standard" if _scale(source) == "standard" else "unit"
    data = sets.load(sets.DataSpec(source=str(source), scale=scale, **kept))
    return replace(data, offset=None, factor=None) if _scale(source) == "none" else data
