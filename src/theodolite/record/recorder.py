"""Instruments inside the user's own training loop."""

import logging
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor, nn

from theodolite.errors import BadModel, SettingError
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.objective import Loss
from theodolite.measure.problem.typed import is_instance
from theodolite.measure.problem.validation import check_module, checked
from theodolite.record.flatten import flatten
from theodolite.record.instruments import WEIGHTS, Instruments, resolve
from theodolite.record.log import LEDGER, TABLES, Log, Measurement, Sink
from theodolite.record.model_state import Mode, device_of, measuring, synchronize, unwrap
from theodolite.record.probe import fixed
from theodolite.record.schedule import Every, Ledger, Schedule, parse

FLUSH_SHARE = 0.01  # of the time, at most, for writing
WRITING = 0.1  # of a budget, for writing; the rest is for measuring

_log = logging.getLogger("theodolite")


class RecorderWarning(UserWarning):
    """Something about a recording that the training does not stop for; each is said once."""


class Recorder:
    """Measure a network while it trains, and change nothing about its training.

    Gradients, parameters, buffers, the optimizer and the random state are those of a training without a recorder, bit
    for bit, and no hook is left on the model. What goes wrong within an instrument is recorded, said once as a
    :class:`RecorderWarning`, and does not end the training; Ctrl-C does.

    The record has the form of a study's: ``theodolite report DIR`` makes figures and tables of it, also while the
    training runs and after it was killed. Trainings recorded into one folder are compared there, and those that
    differ in nothing but their seed make the bands.

    Args:
        instruments: names (``"gradient_norm"``, ``"hessian_eigenvalues"``, …), functions ``(model, loss, data)``, or
            a mapping from names of your own to either, or to a pair of either and its options.
        every: when to measure: a number of steps, ``"2 epochs"``, ``"10 per decade"`` (of steps, logarithmically), or
            a function ``(steps, epochs) -> marks passed``; a mapping gives each instrument its own. Schedules in
            steps begin with the first.
        data: what to measure on: one ``(inputs, targets)`` pair or re-iterable batches, read once (see ``samples``).
            None: the batch given with each step.
        samples: of a loader, keep the first so many; None: all.
        budget: at most this share of the training time, 0.05 for 5 %: a tenth of it to write, the rest in equal parts
            for all instruments. One that takes longer than its part is measured less often than ``every`` asks. The
            first measurement of each is always made, for only then it is known what one takes; training earns it
            afterwards, and until it has, none is measured again.
        mode: in which the model is measured: ``"evaluation"``, since instruments refuse what is not deterministic
            (Dropout in training mode); ``"training"``; ``"as it is"``.
        weights: a pattern such as ``"*"`` or ``"0.*"`` of parameters to keep a copy of, under the name ``weights`` in
            ``every``; None: keep none.
        out: the results folder; None: keep all in memory.
        seed: what tells this training from others with the same labels; an earlier recording of the same two is
            replaced. None: the next that is free.
        labels: factors by which trainings are to be compared: ``{"optimizer": "Adam"}``.
        sinks: where else measurements go, such as :class:`theodolite.adapters.tensorboard.TensorBoardSink`.
        flush: seconds between two writings, at least; more where writing takes over 1 % of the time.
        clock: seconds; for tests.

    Raises:
        SettingError: an argument out of its range or of the wrong kind.
        UnknownName: there is no such instrument.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1)
        >>> optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss()
        >>> batch = torch.eye(2), torch.ones(2, 1)
        >>> with Recorder(["gradient_norm"], every=10, out=None) as recorder:
        ...     for _ in range(30):
        ...         optimizer.zero_grad()
        ...         loss(model(batch[0]), batch[1]).backward()
        ...         optimizer.step()
        ...         recorder.step(model, loss, batch)
        >>> norms = recorder.table("numbers").query("quantity == 'value'")
        >>> norms["step"].tolist(), bool(norms["value"].is_monotonic_decreasing)
        ([1, 10, 20, 30], True)
    """

    @checked
    def __init__(
        self,
        instruments: Instruments = (),
        *,
        every: Every | Mapping[str, Every] = 100,
        data: Data | None = None,
        samples: int | None = None,
        budget: float | None = None,
        mode: Mode = "evaluation",
        weights: str | None = None,
        out: str | Path | None = "results/own",
        seed: int | None = None,
        labels: Mapping[str, str | int | float] | None = None,
        sinks: Sequence[Sink] = (),
        flush: float = 30.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if budget is not None and not 0 < budget <= 1:
            raise SettingError(f"expected budget as a share of the training time, 0 < budget ≤ 1, got {budget}.")
        if flush < 0 or (samples is not None and samples < 1):
            raise SettingError(f"expected flush ≥ 0 and samples ≥ 1, got flush={flush}, samples={samples}.")
        if not is_instance(labels or {}, Mapping[str, str | int | float]):
            raise SettingError(
                f"expected labels as {{name: text or number}}, got {labels!r:.80}. Leave out the others."
            )
        self._instruments = resolve(instruments)
        names = [*self._instruments, *([WEIGHTS] if weights is not None else [])]
        if not names:
            raise SettingError("expected at least one instrument, or weights='*'; got neither.")
        self._schedules = _schedules(every, names)
        self._data = None if data is None else fixed(data, samples)
        self._share = None if budget is None else (1 - WRITING) * budget
        self._flush_share = FLUSH_SHARE if budget is None else WRITING * budget
        self._mode: Mode = mode
        self._weights = weights
        self._sinks = list(sinks)
        self._flush_seconds = flush
        self._clock = clock
        self._settings = {
            "instruments": ", ".join(names),
            "every": str(every) if not isinstance(every, Mapping) else ", ".join(f"{k}: {v}" for k, v in every.items()),
            "budget": budget,
            "mode": mode,
            "measured on": "the batch of the step" if data is None else "a fixed set",
        }
        self._steps = self._epochs = 0
        self._started: float | None = None
        self._own = 0.0  # seconds spent here, not on training
        self._flushed, self._flush_cost = 0.0, 0.0
        self._said: set[str] = set()
        self._log = Log(Path(out) if out is not None else None, seed, labels or {})
        self._log.ledgers = {name: Ledger() for name in names}
        self._finish = weakref.finalize(self, self._log.finish)  # also when the program ends without close()

    def step(self, model: nn.Module, loss: Loss, batch: Data | None = None, *, number: int | None = None) -> None:
        """Count one step of training, and measure if it is time. Put it after ``optimizer.step()``.

        Args:
            model: what is trained; compiled or spread over processes, the module inside is measured.
            loss: maps (outputs, targets) to a scalar mean over samples.
            batch: what to measure on, unless the recorder has its own data.
            number: of this step, where the caller counts; None: one more than the last.
        """
        if not (number is None or (is_instance(number, int) and number >= 0)):
            raise SettingError(f"expected number as that of a step, 0 or more, got {number!r}. Leave it out to count.")
        self._steps = self._steps + 1 if number is None else number
        self._observe(model, loss, batch)

    def epoch(self, model: nn.Module, loss: Loss, batch: Data | None = None) -> None:
        """Count one finished epoch, and measure if a schedule in epochs says so. Put it at the end of an epoch."""
        self._epochs += 1
        self._observe(model, loss, batch)

    def measure(self, model: nn.Module, loss: Loss, batch: Data | None = None) -> None:
        """Measure now, whatever schedule and budget say: before the first step, or after the last."""
        self._observe(model, loss, batch, always=True)

    def table(self, name: str) -> pd.DataFrame:
        """What is recorded: ``numbers``, ``vectors``, ``costs``, ``failures``, or ``ledger``, a row an instrument."""
        if name not in (*TABLES, LEDGER):
            raise SettingError(f"expected one of {', '.join((*TABLES, LEDGER))}, got {name!r}.")
        return self._log.table(name)

    def snapshots(self) -> dict[int, dict[str, Tensor]]:
        """The weights kept, by step; ``th.measure.trajectory(list(recorder.snapshots().values()))``."""
        return self._log.snapshots()

    @property
    def folder(self) -> Path | None:
        """Where the record lies, once the first step was taken; None: nowhere."""
        log = self._log
        if log.directory is None or log.spec is None:
            return None
        return log.directory / log.spec.study / log.spec.FOLDER / log.spec.fingerprint()

    def close(self) -> None:
        """Write the record whole. Also done at the end of a ``with`` block, and at the end of the program."""
        if self._log.finished:
            return
        self._facts()
        for sink in self._sinks:
            tables = {name: self._labelled(table) for name, table in self._log.tables().items()}
            self._guard(type(sink).__name__, sink.close, tables)
        self._guard("writing the record", self._finish)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.facts["ended_by"] = kind.__name__ if kind else ""
        self.close()

    def __repr__(self) -> str:
        trained = self._trained(self._clock())
        lines = [f"Recorder: {self._steps} steps, {trained:.3g} s of training, {self._own:.3g} s of recording"]
        for name, ledger in self._log.ledgers.items():
            parts = [f"measured {ledger.measured} of {ledger.asked} times asked, {ledger.spent:.3g} s"]
            parts += [f"{ledger.skipped} left out to keep the budget"] if ledger.skipped else []
            parts += [f"{ledger.failed} failed"] if ledger.failed else []
            lines.append(f"{name}: {', '.join(parts)}")
        return "\n".join(lines)

    def _observe(self, model: nn.Module, loss: Loss, batch: Data | None, *, always: bool = False) -> None:
        if self._log.finished:
            self._say_once("closed", "This recorder is closed, and measures no more. Make another one.")
            return
        now = self._clock()
        check_module("model", model)
        if self._started is None:
            self._begin(model, now)
        data = batch if self._data is None else self._data
        if data is None and self._instruments:
            raise SettingError("expected data to measure on: pass it to Recorder(data=…), or the batch to each step.")
        trained = self._trained(now)
        due = [name for name in self._schedules if self._asks(name, trained) or always]
        if due:
            self._take(due, unwrap(model), loss, data)

    def _begin(self, model: nn.Module, now: float) -> None:
        self._log.open(self._settings)
        own = [p for p in unwrap(model).parameters() if p.requires_grad]
        self._log.facts |= {
            **self._settings,
            "model": type(unwrap(model)).__name__,
            "parameters": sum(p.numel() for p in own),
            "device": str(device_of(model)),
        }
        self._started = now
        self._own = self._clock() - now

    def _trained(self, now: float) -> float:
        return now - self._started - self._own if self._started is not None else 0.0

    def _asks(self, name: str, trained: float) -> bool:
        """Whether it is time for an instrument; what the budget forbids is counted as asked and left out."""
        marks = self._schedules[name](self._steps, self._epochs)
        ledger, every = self._log.ledgers[name], self._log.ledgers.values()
        if not ledger.asks(marks):
            return False
        if self._share is None:
            return True
        whole = self._share * trained
        if ledger.affords(whole / len(every), whole - sum(other.spent for other in every)):
            return True
        self._log.ledgers[name] = ledger.skip(marks)
        self._say_once(
            f"thinned {name}",
            f"{name} takes {ledger.last:.2g} s. To stay within the budget, {self._share:.2g} of the training time for "
            "all instruments, it is measured less often than asked; print the recorder to see how often.",
        )
        return False

    def _take(self, due: Sequence[str], model: nn.Module, loss: Loss, data: Data | None) -> None:
        device = device_of(model)
        synchronize(device)
        before = self._clock()
        trained = self._trained(before)
        for name in due:
            started = self._clock()
            failed = not self._measure(name, model, loss, data, started, trained)
            synchronize(device)
            marks = self._schedules[name](self._steps, self._epochs)
            self._log.ledgers[name] = self._log.ledgers[name].take(marks, self._clock() - started, failed=failed)
        self._facts()
        if (
            before - self._flushed >= max(self._flush_seconds, self._flush_cost / self._flush_share)
            or not self._flush_cost
        ):
            started = self._clock()
            self._guard("writing the record", self._log.flush)
            self._flushed, self._flush_cost = self._clock(), max(self._clock() - started, 1e-9)
        self._own += self._clock() - before

    def _measure(
        self, name: str, model: nn.Module, loss: Loss, data: Data | None, started: float, trained: float
    ) -> bool:
        """One instrument; False where it failed."""
        try:
            result = self._one(name, model, loss, data)
            numbers, vectors = flatten(result) if name != WEIGHTS else ({}, {})
            seconds = self._clock() - started
            found = Measurement(self._steps, self._epochs, name, numbers, vectors, result, seconds)
            self._log.take(found, trained)
        except Exception as error:  # whatever it is: the training is worth more than the measurement
            self._fail(name, error)
            return False
        for sink in self._sinks if name != WEIGHTS else ():
            self._guard(type(sink).__name__, sink.write, found)
        return True

    def _one(self, name: str, model: nn.Module, loss: Loss, data: Data | None) -> Any:
        if name == WEIGHTS:
            return self._log.keep(self._steps, _parameters(model, self._weights or "*"))
        with measuring(model, self._mode):
            result = self._instruments[name](model, loss, data)
        if getattr(
            result, "interrupted", False
        ):  # a long instrument takes Ctrl-C for itself; here it is the training's
            raise KeyboardInterrupt
        return result

    def _guard(self, what: str, call: Callable[..., Any], *given: Any) -> None:
        try:
            call(*given)
        except Exception as error:  # a full disk or a tracker that is away must not end a training either
            self._fail(what, error)

    def _fail(self, name: str, error: Exception) -> None:
        kind = type(error).__name__
        self._log.add("failures", self._steps, self._epochs, name, kind, str(error))
        self._say_once(
            f"failed {name}",
            f"{name} failed at step {self._steps}, and the training goes on. Further failures of it are recorded, and "
            f"not said. {kind}: {error}",
        )

    def _say_once(self, key: str, message: str) -> None:
        if key in self._said:
            return
        self._said.add(key)
        try:
            warnings.warn(message, RecorderWarning, stacklevel=_outside())
        except RecorderWarning:  # where warnings are errors: the training goes on all the same
            _log.warning(message)

    def _facts(self) -> None:
        now = self._clock()
        self._log.facts |= {
            "wall_seconds": now - (self._started if self._started is not None else now),
            "training_seconds": self._trained(now),
            "steps": self._steps,
            "epochs": self._epochs,
        }

    def _labelled(self, table: pd.DataFrame) -> pd.DataFrame:
        """With the columns that the records put in front when they join recordings."""
        spec = self._log.spec
        seed = spec.seed if spec else self._log.seed or 0
        front = {"fingerprint": spec.fingerprint() if spec else "", "seed": seed, **self._log.labels}
        return pd.concat([pd.DataFrame([front] * len(table)), table.reset_index(drop=True)], axis=1)


def _schedules(every: Every | Mapping[str, Every], names: Sequence[str]) -> dict[str, Schedule]:
    if not isinstance(every, Mapping):
        return dict.fromkeys(names, parse(every))
    if set(every) != set(names):
        raise SettingError(
            f"expected every for each of {', '.join(names)}, got it for {', '.join(every) or 'none'}. Name all of "
            "them, or give one schedule for all."
        )
    return {name: parse(every[name]) for name in names}


def _outside() -> int:
    """How far up the stack the user's own line is, for a warning that points there."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and Path(frame.f_code.co_filename).parent == Path(__file__).parent:
        level, frame = level + 1, frame.f_back
    return level


def _parameters(model: nn.Module, pattern: str) -> dict[str, Tensor]:
    chosen = {
        name: p.detach().to("cpu", torch.float32 if p.dtype == torch.bfloat16 else p.dtype, copy=True)  # as exact
        for name, p in model.named_parameters()
        if fnmatchcase(name, pattern)
    }
    if not chosen:
        some = ", ".join(name for name, _ in list(model.named_parameters())[:8]) or "none at all"
        raise BadModel(f"expected weights as a pattern that a parameter matches, got {pattern!r}; there are: {some}.")
    return chosen
