"""A recorder inside Hugging Face's ``Trainer``, as a callback."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from theodolite.errors import BadData, MissingExtra
from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.objective import Loss
from theodolite.record import Recorder

try:
    from transformers import TrainerCallback
except ImportError:
    raise MissingExtra("transformers", "huggingface", "Recording a training by Hugging Face's Trainer") from None


def own_loss(outputs: Any, targets: Any) -> Tensor:
    """The loss that the model itself computed from the labels among its inputs."""
    loss: Tensor = outputs["loss"]
    return loss


def pairs(batches: Iterable[Mapping[str, Any]], labels: str = "labels") -> list[Batch]:
    """Batches as ``Trainer`` has them, as pairs of all inputs (labels among them) and the labels.

    Args:
        batches: dicts of tensors, such as a DataLoader with one of the library's collators gives.
        labels: the key of the labels, whose length says how many samples a batch has.

    Raises:
        BadData: a batch has no labels, so that the model would compute no loss.

    >>> import torch
    >>> [(sorted(inputs), len(labels)) for inputs, labels in pairs([{"x": torch.ones(3, 2), "labels": torch.ones(3)}])]
    [(['labels', 'x'], 3)]
    """
    found = []
    for batch in batches:
        if labels not in batch:
            raise BadData(f"expected batches with '{labels}', got one with {', '.join(batch)}. Name the key: labels=…")
        found.append((dict(batch), batch[labels]))
    return found


class RecorderCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not asked for its types
    """Takes the trainer's count of steps and epochs to a recorder, and closes it with the training.

    A training that goes on from a checkpoint, ``train(resume_from_checkpoint=…)``, goes on in its recording with
    ``Recorder(resume=True)``.

    ``Trainer`` does not show its batches to callbacks, so the recorder has its own data: see :func:`pairs`. Where
    several processes train, the first one measures.

    Args:
        recorder: what to measure, on which data, and when.
        loss: maps (outputs, targets) to a scalar mean over samples; the model's own by default.
    """

    def __init__(self, recorder: Recorder, loss: Loss = own_loss) -> None:
        self.recorder, self._loss = recorder, loss

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """One step of the optimizer."""
        if state.is_world_process_zero:
            self.recorder.step(given["model"], self._loss, number=state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """One epoch."""
        if state.is_world_process_zero:
            self.recorder.epoch(given["model"], self._loss, number=round(state.epoch))

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Measure once more, and write the record whole."""
        self.recorder.close()
