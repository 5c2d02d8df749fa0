"""A recorder inside Lightning's trainer, as a callback. Works with ``lightning`` and with ``pytorch-lightning``."""

from collections.abc import Callable
from typing import Any

from torch import nn

from theodolite.errors import MissingExtra
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.objective import Loss
from theodolite.record import Recorder

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError:
        raise MissingExtra("lightning", "lightning", "Recording a Lightning training") from None


class RecorderCallback(Callback):  # type: ignore[misc]  # Lightning is not asked for its types
    """Takes the trainer's count of steps and epochs to a recorder, and closes it with the training.

    A training that goes on from a checkpoint, ``fit(ckpt_path=…)``, goes on in its recording with
    ``Recorder(resume=True)``.

    The loss is given, and not taken from ``training_step``, which logs and counts whenever it is called. Where several
    processes train, the first one measures.

    Args:
        recorder: what to measure, and when.
        loss: maps (outputs, targets) to a scalar mean over samples.
        model: what to measure of the LightningModule; the module itself by default, or a part: ``lambda m: m.net``.
        pair: turns the trainer's batch into ``(inputs, targets)``, where the recorder has no data of its own.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> recorder = Recorder(["gradient_norm", "hessian_eigenvalues"], every="10 per decade")
        >>> trainer = Trainer(callbacks=[RecorderCallback(recorder, nn.CrossEntropyLoss())])  # doctest: +SKIP
    """

    def __init__(
        self,
        recorder: Recorder,
        loss: Loss,
        *,
        model: Callable[[Any], nn.Module] = lambda module: module,
        pair: Callable[[Any], Data] = lambda batch: batch,
    ) -> None:
        self.recorder = recorder
        self._loss, self._model, self._pair = loss, model, pair
        self._batch: Data | None = None  # the last, for schedules in epochs
        self._steps = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """One batch; a step only where the optimizer took one (gradients may be accumulated over several)."""
        if trainer.is_global_zero and trainer.global_step != self._steps:
            self._steps, self._batch = trainer.global_step, self._pair(batch)
            self.recorder.step(self._model(pl_module), self._loss, self._batch, number=self._steps)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """One epoch."""
        if trainer.is_global_zero:
            number = trainer.current_epoch + 1
            self.recorder.epoch(self._model(pl_module), self._loss, self._batch, number=number)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure once more, and write the record whole."""
        self.recorder.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Write down what there is, and what ended it."""
        self.recorder.__exit__(type(exception), exception, exception.__traceback__)
