"""What was trained last, for the measurement at the end of a training."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.objective import Loss


class Last:
    """Model, loss and data of the last step, and at which step each instrument measured last."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.loss: Loss
        self.data: Data | None = None
        self._measured: dict[str, int] = {}
        self._parameters = [p for p in model.parameters() if not p.is_inference()]  # which count nothing
        self._versions: list[Any] = []

    def see(self, loss: Loss, data: Data | None, step: int, measured: Iterable[str]) -> None:
        """One more step, or epoch."""
        self.loss, self.data = loss, data
        self._measured |= dict.fromkeys(measured, step)
        self._versions = self._now()

    def due(self, names: Iterable[str], step: int) -> list[str]:
        """Instruments that did not measure at this step."""
        return [name for name in names if self._measured.get(name) != step] if step else []

    @property
    def unchanged(self) -> bool:
        """Whether the model is as it was after the last step; tensors count whatever writes into them."""
        return self._versions == self._now()

    def _now(self) -> list[Any]:
        return [(p._version, p.data_ptr()) for p in self._parameters]
