"""Where a loss whose value is a number has a derivative that is none: PyTorch's own search for it, in a sentence."""

import re
import warnings
from pathlib import Path

import torch

from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.isolation import preserve_rng
from theodolite.measure.problem.objective import Objective

OPERATION = re.compile(r"Function '(\w+?)(?:Double)?Backward\w*' returned nan")
CALL = re.compile(r'File "([^"]+)", line (\d+), in \S+\n +(.+)')
NOT_THEIRS = tuple(str(folder) for folder in (Path(torch.__file__).parent, Path(__file__).parents[2]))


def where(whole: Objective, order: int) -> str:
    """In which operation of which batch the derivative of this order is NaN, as a sentence; "" where in none."""
    with preserve_rng(), torch.enable_grad():
        for number, (batch, _) in enumerate(whole.batches()):
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                try:
                    _differentiate(whole, batch, order)
                except RuntimeError as error:
                    if found := OPERATION.search(str(error)):
                        line = _line("".join(str(warning.message) for warning in said))
                        return f"It is NaN first in the derivative of {found[1].lower()}{line}, in batch {number}. "
                    return ""
    return ""


def _differentiate(whole: Objective, batch: Batch, order: int) -> None:
    point = whole.vector.requires_grad_()
    with (
        torch.autograd.detect_anomaly(check_nan=True),
        whole.at(whole.unflatten(point)),
        whole.twice_differentiable(),
    ):
        slope = whole.loss_of(batch)
        for _ in range(order):
            (slope,) = torch.autograd.grad(slope.sum(), point, create_graph=True, materialize_grads=True)


def _line(said: str) -> str:
    """The last line of the user's own in what PyTorch says of the forward pass."""
    calls = [call for call in CALL.findall(said) if not call[0].startswith(NOT_THEIRS)]
    return f" at {Path(calls[-1][0]).name}:{calls[-1][1]}, `{calls[-1][2].strip():.80}`" if calls else ""
