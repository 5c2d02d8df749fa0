"""What a training leaves behind."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from theodolite.specs import Training

DTYPES = {"float32": torch.float32, "float64": torch.float64}
Weights = dict[str, Tensor]  # a state dict, on the CPU
Row = tuple[int, int, float, float, float, float]  # epoch, step, train_loss, test_loss, train_accuracy, test_accuracy
OnRows = Callable[[Mapping[int, Sequence[Row]]], None]  # by number of the replica: its evaluations so far


def computed_in(training: Training) -> torch.dtype:
    """The type of inputs and both passes; weights, their updates and losses are in the training's own."""
    return torch.bfloat16 if training.autocast else DTYPES[training.dtype]


@dataclass(frozen=True, slots=True)
class Score:
    """Mean loss and share of right answers over a whole set, in evaluation mode."""

    loss: float
    accuracy: float  # NaN for regression


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of one run. Time and memory are not in it: two equal runs have equal outcomes."""

    metrics: pd.DataFrame  # a row per evaluation: epoch, step, train_loss, test_loss, train_accuracy, test_accuracy
    converged_epoch: int | None  # first evaluated epoch with training loss <= convergence; None: not within the epochs
    diverged_epoch: int | None  # first evaluated epoch whose training loss is NaN or infinite; the run ends there
    weights: Weights  # of the last epoch trained
    snapshots: Mapping[int, Weights]  # by epoch, where the training asked for them
    samples: int  # trained on, each counted once an epoch
    template: nn.Module  # of the right shape, whatever its weights; never changed

    def module(self) -> nn.Module:
        """The trained network: a new copy, on the CPU, in evaluation mode."""
        model = copy.deepcopy(self.template).cpu()
        model.load_state_dict(self.weights)
        return model.eval()

    @torch.no_grad()
    def predict(self, inputs: NDArray[np.floating]) -> NDArray[np.floating]:
        """Outputs ``(N, outputs)`` of the trained network at inputs ``(N, ...)`` as it takes them: flat for an MLP."""
        model = self.module()
        outputs: NDArray[np.floating] = model(torch.as_tensor(inputs).to(next(model.parameters()).dtype)).numpy()
        return outputs


@dataclass(slots=True)
class Record:
    """One run's outcome while it grows; the loop and the replicas keep the same one."""

    training: Training
    rows: list[Row] = field(default_factory=list)
    snapshots: dict[int, Weights] = field(default_factory=dict)
    converged_epoch: int | None = None
    diverged_epoch: int | None = None

    def add(self, epoch: int, step: int, train: Score, test: Score) -> None:
        """Take an evaluation."""
        self.rows.append((epoch, step, train.loss, test.loss, train.accuracy, test.accuracy))
        if not math.isfinite(train.loss):
            self.diverged_epoch = epoch
        elif self.converged_epoch is None and train.loss <= (self.training.convergence or -math.inf):
            self.converged_epoch = epoch

    @property
    def ended(self) -> bool:
        """No further epoch is to be trained."""
        converged = self.converged_epoch is not None and self.training.stop_at_convergence
        return converged or self.diverged_epoch is not None

    def state(self) -> dict[str, Any]:
        """All of it, to be gone on from."""
        return {
            "rows": self.rows, "snapshots": self.snapshots,
            "converged_epoch": self.converged_epoch, "diverged_epoch": self.diverged_epoch,
        }  # fmt: skip

    @classmethod
    def going_on(cls, training: Training, state: Mapping[str, Any]) -> Self:
        """What :meth:`state` gave."""
        return cls(training, **state)

    def outcome(self, weights: Weights, samples: int, template: nn.Module) -> Outcome:
        """Close the record."""
        columns = ["epoch", "step", "train_loss", "test_loss", "train_accuracy", "test_accuracy"]
        metrics = pd.DataFrame(self.rows, columns=columns)
        return Outcome(metrics, self.converged_epoch, self.diverged_epoch, weights, self.snapshots, samples, template)


def weights_of(model: nn.Module) -> Weights:
    """A copy of what a network has learned, on the CPU."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}


def evaluates(training: Training, epoch: int) -> bool:
    """The whole sets are evaluated after this epoch: 0, every so many, and the last."""
    return epoch % training.evaluate_every == 0 or epoch == training.epochs


def snaps(training: Training, epoch: int) -> bool:
    """The weights after this epoch are kept: 0, every so many, and the last; none unless asked for."""
    every = training.snapshot_every
    return every is not None and (epoch % every == 0 or epoch == training.epochs)
