"""Resuming inside a run: all that a training goes on from, kept beside its record until the run ends.

A state is kept between two epochs, and begins the next one: weights, optimizer, orders of the data and generators are
what they were, so what follows is the same bit for bit (tests/train/test_resume.py).
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from theodolite import machine
from theodolite.errors import RecordCorrupt, SettingError
from theodolite.store import states
from theodolite.store.record import STATE
from theodolite.store.states import State
from theodolite.train import chance, hidden

UNITS = {"h": 3600.0, "min": 60.0, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Every:
    """How often states are kept: after so many epochs, or so many seconds."""

    epochs: int | None = None
    seconds: float | None = None

    @classmethod
    def parsed(cls, text: str) -> Self:
        """From what a user writes.

        Raises:
            SettingError: it is neither.

        Example:
            >>> Every.parsed("10"), Every.parsed("5min")
            (Every(epochs=10, seconds=None), Every(epochs=None, seconds=300.0))
        """
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(h|min|s|epochs?)?", text.strip())
        number, unit = (float(found[1]), found[2]) if found else (0.0, None)
        if number <= 0 or (unit not in UNITS and not number.is_integer()):
            raise SettingError(f"expected --resume-every as a number of epochs or a time: 10, 90s, 5min, got '{text}'.")
        return cls(seconds=number * UNITS[unit]) if unit in UNITS else cls(epochs=int(number))


class Keeper:
    """Keeps the state of one run."""

    def __init__(
        self,
        folder: Path,
        every: Every | None,
        device: torch.device | str = "cpu",
        *,
        share: float = 1.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Of the run with this record. A state is read whatever ``every`` says; None: none is kept.

        ``share`` is that of the run in the time of its process.
        """
        self.path, self.every, self.device = folder / STATE, every, str(device)
        self.share, self.clock = share, clock
        self.started = self.last = clock()
        self.seconds = 0.0  # that the run took before this process
        self.resumed = 0  # the epoch after which it goes on

    def read(self) -> State | None:
        """What the run goes on from; None where nothing was kept, or nothing that this process may go on from."""
        try:
            state = states.read(self.path)
        except RecordCorrupt:  # whoever began the survey has said so
            return None
        if state is None or unusable(state, self.path, self.device):
            return None
        self.seconds, self.resumed = state["seconds"], state["epoch"]
        return state

    def due(self, epoch: int) -> bool:
        """Whether the state is to be kept after this epoch; to be asked once after each."""
        if self.every is None or epoch == 0:
            return False
        if self.every.epochs is not None:
            return epoch % self.every.epochs == 0
        due = self.every.seconds is not None and self.clock() - self.last >= self.every.seconds
        self.last = self.clock() if due else self.last
        return due

    def write(self, state: Mapping[str, Any]) -> None:
        """Keep a state, in place of the last."""
        seconds = self.seconds + self.share * (self.clock() - self.started)
        states.write(self.path, {"made_by": made_by(self.path, self.device), "seconds": seconds, **state})

    def remove(self) -> None:
        """The run has ended, and its record is whole."""
        self.path.unlink(missing_ok=True)


def made_by(path: Path, device: str) -> dict[str, str]:
    """What must be the same for a state to be gone on from: other versions and devices round otherwise."""
    versions = machine.describe()["versions"]
    return {"run": path.parent.name, "device": device, **{name: versions[name] for name in ("theodolite", "torch")}}


def unusable(state: State, path: Path, device: str) -> str:
    """Why a state cannot be gone on from, in words; empty where it can."""
    here, there = made_by(path, device), state.get("made_by", {})
    apart = [
        f"{name} {there.get(name)} there, {value} here" for name, value in here.items() if there.get(name) != value
    ]
    return ", ".join(apart)


class Network:
    """All of one training in the loop that goes on from epoch to epoch, beside its record."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        make: Callable[[list[Any]], Optimizer],
        generators: Mapping[str, torch.Generator],
    ) -> None:
        self.model, self.optimizer, self.make, self.generators = model, optimizer, make, generators
        self.attributes = hidden.attributes(model)

    def check(self) -> None:
        """Refuse what could not be resumed; raises as :mod:`theodolite.train.hidden` says."""
        hidden.check_module(self.model, self.attributes)
        hidden.check_optimizer(self.optimizer, self.make)

    def state(self) -> State:
        """As it is now."""
        self.check()
        return {
            "tensors": self._tensors(),
            "optimizer": self.optimizer.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "chance": chance.state(self._device()),
        }

    @torch.no_grad()
    def put(self, state: State) -> None:
        """Be as it was then."""
        for name, tensor in self._tensors().items():
            tensor.copy_(state["tensors"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        chance.put(state["chance"], self._device())

    def _tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers, also those that no state dict has."""
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}

    def _device(self) -> torch.device:
        return next((tensor.device for tensor in self._tensors().values()), torch.device("cpu"))
