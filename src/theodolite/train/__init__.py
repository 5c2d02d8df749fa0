"""Training: one network at a time in a loop that everyone can read, or many stacked as replicas."""

from theodolite.train.batches import measured_batches
from theodolite.train.data import Split, TrainingData, tensors
from theodolite.train.evaluation import LOSSES, mean_of
from theodolite.train.loop import train
from theodolite.train.outcome import Outcome, Weights
from theodolite.train.replica import Replica
from theodolite.train.replicas import train_replicas

__all__ = [
    "LOSSES", "Outcome", "Replica", "Split", "TrainingData", "Weights", "mean_of", "measured_batches", "tensors",
    "train", "train_replicas",
]  # fmt: skip
