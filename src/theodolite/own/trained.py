"""What a run may give back, beside a dict: a trained network, to be measured. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Trained:
    """A trained network with all that measures need.

    Args:
        model: a :class:`torch.nn.Module`, measured in the mode it is in. Its weights are kept with the run.
        loss: as instruments take it, ``(outputs, targets) -> scalar``.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        metrics: numbers by name, which claims know as ``metrics.NAME``.
        tables: DataFrames by name. One with a column ``epoch`` or ``step`` becomes learning curves.
    """

    model: Any
    loss: Any = None
    data: Any = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)
