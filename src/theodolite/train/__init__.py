"""Training: one network at a time in a loop that everyone can read, or many stacked as replicas."""

from theodolite.train.data import Split, TrainingData, tensors
from theodolite.train.loop import train
from theodolite.train.outcome import Outcome
from theodolite.train.replicas import Replica, train_replicas

__all__ = ["Outcome", "Replica", "Split", "TrainingData", "tensors", "train", "train_replicas"]
