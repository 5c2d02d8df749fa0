"""Instruments inside the user's own training loop."""

import logging
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
from torch import Tensor, nn

from theodolite.errors import SettingError
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.isolation import unwrapped
from theodolite.measure.problem.objective import Loss
from theodolite.measure.problem.reduction import Reduction, Samples
from theodolite.measure.problem.typed import is_instance
from theodolite.measure.problem.validation import check_module, checked
from theodolite.record.flatten import flatten
from theodolite.record.identity import described, of_beginning, of_model
from theodolite.record.instruments import WEIGHTS, Instruments, resolve
from theodolite.record.last import Last
from theodolite.record.log import LEDGER, TABLES, Log, Measurement, Sink
from theodolite.record.model_state import Mode, device_of, guarded, measuring, synchronize
from theodolite.record.place import Asked
from theodolite.record.probe import fixed, samples_in
from theodolite.record.schedule import Every, Ledger, parse_all
from theodolite.record.snapshot import parameters_of
from theodolite.record.words import outside, reason, summary

FLUSH_SHARE = 0.01  # of the time, at most, for writing
WRITING = 0.1  # of a budget, for writing; the rest is for measuring

_log = logging.getLogger("theodolite")


class RecorderWarning(UserWarning):
    """Something about a recording that the training does not stop for; each is said once."""


class Recorder:
    """Measure a network while it trains, and change nothing about its training.

    Gradients, parameters, buffers, the optimizer and the random state are those of a training without a recorder, bit
    for bit, and no hook is left on the model. No autocast, ``no_grad`` or inference mode of the caller's changes a
    number. What goes wrong within an instrument is recorded, said once as a :class:`RecorderWarning`, and does not end
    the training; Ctrl-C does.

    The record has the form of a study's: ``theodolite report DIR`` makes figures and tables of it, also while the
    training runs and after it was killed. Trainings recorded into one folder are compared there, and those that
    differ in nothing but their seed make the bands: the same labels ask for the same model and settings, and another
    beginning. When the training ends, everything is measured once more.

    Args:
        instruments: names (``"gradient_norm"``, ``"hessian_eigenvalues"``, …), functions ``(model, loss, data)``, or
            a mapping from names of your own to either, or to a pair of either and its options.
        every: when to measure: a number of steps, ``"2 epochs"``, ``"10 per decade"`` (of steps, logarithmically), or
            a function ``(steps, epochs) -> marks passed``; a mapping gives each instrument its own. Schedules in
            steps begin with the first.
        data: what to measure on: one ``(inputs, targets)`` pair or re-iterable batches, read or copied once.
            None: the batch given with each step.
        first: of a loader, keep the first so many samples; None: all.
        samples: for how many samples a batch counts: a function of ``(inputs, targets)``, handed to every instrument;
            None: by the first dimension of the inputs. An integer is read as ``first``, which it was called before.
        reduction: what the loss is over a batch, ``"mean"`` or ``"sum"``, likewise; None: what a loss of PyTorch says
            of itself, else a mean.
        budget: at most this share of the training time, 0.05 for 5 %: a tenth of it to write, the rest in equal parts
            for all instruments. One that takes longer than its part is measured less often than ``every`` asks. The
            first measurement of each is always made, for only then it is known what one takes; training earns it
            afterwards, and until it has, none is measured again.
        mode: in which the model is measured: ``"evaluation"``, since instruments refuse what is not deterministic
            (Dropout in training mode); ``"training"``; ``"as it is"``.
        weights: a pattern such as ``"*"`` or ``"0.*"`` of parameters to keep a copy of, under the name ``weights`` in
            ``every``; None: keep none.
        out: the results folder; None: keep all in memory.
        seed: what tells this training from others with the same labels. None: the next that is free.
        labels: factors by which trainings are to be compared: ``{"optimizer": "Adam"}``.
        resume: go on with the recording of this seed and these labels, or without a seed with the one that was
            interrupted; begin it where there is none. An integer is the step of the checkpoint that was loaded: what
            was recorded after it is measured again. True: the step before the first ``number`` given, or the last one
            recorded.
        replace: record in place of an earlier recording of this seed and these labels, which is refused otherwise.
        sinks: where else measurements go, such as :class:`theodolite.adapters.tensorboard.TensorBoardSink`.
        flush: seconds between two writings, at least; more where writing takes over 1 % of the time.
        clock: seconds; for tests.

    Raises:
        SettingError: an argument out of its range or of the wrong kind.
        UnknownName: there is no such instrument.
        StoreError: at the first step: the folder holds the same training already, or another with the same labels.

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
        first: int | None = None,
        samples: Samples | int | None = None,
        reduction: Reduction | None = None,
        budget: float | None = None,
        mode: Mode = "evaluation",
        weights: str | None = None,
        out: str | Path | None = "results/own",
        seed: int | None = None,
        labels: Mapping[str, str | int | float] | None = None,
        resume: bool | int = False,
        replace: bool = False,
        sinks: Sequence[Sink] = (),
        flush: float = 30.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if budget is not None and not 0 < budget <= 1:
            raise SettingError(f"expected budget as a share of the training time, 0 < budget ≤ 1, got {budget}.")
        if isinstance(samples, int):
            first, samples = samples if first is None else first, None
        if flush < 0 or (first is not None and first < 1):
            raise SettingError(f"expected flush ≥ 0 and first ≥ 1, got flush={flush}, first={first}.")
        if not is_instance(labels or {}, Mapping[str, str | int | float]):
            raise SettingError(
                f"expected labels as {{name: text or number}}, got {labels!r:.80}. Leave out the others."
            )
        if resume < 0 or (resume is not False and (replace or out is None)):
            raise SettingError(
                f"expected resume as True or the step of a checkpoint, with a folder and without replace, got "
                f"resume={resume}, replace={replace}, out={out!r}. Pass one of the two, and out=…."
            )
        shared = {"samples": samples, "reduction": reduction}
        self._instruments = resolve(instruments, {name: value for name, value in shared.items() if value is not None})
        names = [*self._instruments, *([WEIGHTS] if weights is not None else [])]
        if not names:
            raise SettingError("expected at least one instrument, or weights='*'; got neither.")
        self._schedules = parse_all(every, names)
        self._data = None if data is None else fixed(data, first)
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
            "measured on": "the batch of the step" if self._data is None else "a fixed set",
        }
        self._compared = {
            "options": "; ".join(one.words for one in self._instruments.values()),
            "schedule": described(every),
            "probe_samples": None if self._data is None else samples_in(self._data),
            **{name: described(value) for name, value in shared.items()},
        }
        self._steps = self._epochs = 0
        self._started: float | None = None
        self._own = 0.0  # seconds spent here, not on training
        self._before = 0.0, 0.0  # seconds trained, and passed, in an earlier part of this recording
        self._flushed, self._flush_cost = 0.0, 0.0
        self._said: set[str] = set()
        self._last = Last()
        self._log = Log(
            Path(out) if out is not None else None, Asked(seed, dict(labels or {}), resume=resume, replace=replace)
        )
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
        if self._ready(model, loss, batch, number=number):
            self._steps = self._steps + 1 if number is None else number
            self._log.facts["steps"] = self._steps  # so that a program that just ends leaves the right one
            self._observe(model, loss, batch)

    def epoch(self, model: nn.Module, loss: Loss, batch: Data | None = None, *, number: int | None = None) -> None:
        """Count one finished epoch, and measure if a schedule in epochs says so. Put it at the end of an epoch.

        Args:
            model: as in :meth:`step`.
            loss: likewise.
            batch: likewise.
            number: of epochs finished, where the caller counts; None: one more than the last.
        """
        if not (number is None or (is_instance(number, int) and number >= 0)):
            raise SettingError(f"expected number as that of epochs, 0 or more, got {number!r}. Leave it out to count.")
        if self._ready(model, loss, batch, epoch=number):
            self._epochs = self._epochs + 1 if number is None else number
            self._log.facts.setdefault("epoch_ends", []).append([self._steps, self._epochs])
            self._observe(model, loss, batch)

    def measure(self, model: nn.Module, loss: Loss, batch: Data | None = None) -> None:
        """Measure now, whatever schedule and budget say: before the first step, or after the last."""
        if self._ready(model, loss, batch):
            self._observe(model, loss, batch, always=True)

    def log(self, **numbers: Any) -> None:
        """Record numbers of your own at this step: ``recorder.log(val_accuracy=0.93)``.

        Args:
            numbers: numbers or vectors by name; tensors and arrays too.

        Raises:
            SettingError: a name is that of an instrument, or a value is no number.
        """
        for name, value in numbers.items():
            if name in self._log.ledgers:
                raise SettingError(f"expected a number by a name of its own, got '{name}', an instrument. Rename it.")
            found, vectors = flatten({"value": value})
            if self._log.finished:
                self._say_once("closed", "This recorder is closed, and records no more. Make another one.")
                return
            measurement = Measurement(self._steps, self._epochs, name, found, vectors, value, 0.0)
            self._log.take(measurement, None)
            self._tell(measurement)

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
        if log.place is None or log.spec is None:
            return None
        return log.place / log.spec.study / log.spec.FOLDER / log.spec.fingerprint()

    def close(self) -> None:
        """Measure once more, and write the record whole; put it right after the last step.

        Also done at the end of a ``with`` block. At the end of the program, and where a ``with`` block ends by an
        error, the record is written whole and nothing is measured.
        """
        if not self._log.finished:
            self._log.facts["ended_by"] = ""
            self._measure_last()
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif not self._log.finished:
            self._log.facts["ended_by"] = kind.__name__
            self._end()

    def __repr__(self) -> str:
        return summary(
            self._steps, self._trained(self._clock()), self._own, self._log.ledgers, self._log.place, self.folder
        )

    def _ready(
        self, model: nn.Module, loss: Loss, batch: Data | None, *, number: int | None = None, epoch: int | None = None
    ) -> bool:
        """Whether it still records; what is wrong in a call is said here, and the first one begins the recording."""
        if self._log.finished:
            self._say_once("closed", "This recorder is closed, and measures no more. Make another one.")
            return False
        check_module("model", model)
        if self._data is None and batch is None and self._instruments:
            raise SettingError("expected data to measure on: pass it to Recorder(data=…), or the batch to each step.")
        if self._started is None:
            self._begin(unwrapped(model), loss, number, epoch)
        return True

    def _begin(self, model: nn.Module, loss: Loss, number: int | None, epoch: int | None) -> None:
        now = self._clock()
        log = self._log
        log.facts |= {**self._settings, **self._compared, **of_model(model), "loss": described(loss)}
        log.facts |= {"device": str(device_of(model))} | (of_beginning(model) if log.directory is not None else {})
        place, kept = log.open(self._settings, number, epoch)
        if kept is not None:
            self._steps, self._epochs, self._before = kept.step, kept.epoch, (kept.trained, kept.wall)
            for name, ledger in log.ledgers.items():
                log.ledgers[name] = ledger.at(self._schedules[name](kept.step, kept.epoch))
            self._say_where(place.former.steps if place.former else 0, kept.step, guessed=place.guessed)
        self._started = now
        self._own = self._clock() - now

    def _say_where(self, recorded: int, step: int, *, guessed: bool) -> None:
        if guessed and recorded:
            self._say_once(
                "resumed",
                f"The recording goes on after step {step}, the last one recorded. If the checkpoint that you loaded is "
                "of another step, pass resume=STEP, or number= with each step.",
            )
        elif step < recorded:
            self._say_once(
                "resumed",
                f"The recording goes on after step {step}: what was recorded of steps {step + 1} to {recorded} is "
                "measured again.",
            )

    def _observe(self, model: nn.Module, loss: Loss, batch: Data | None, *, always: bool = False) -> None:
        now = self._clock()
        model = unwrapped(model)
        data = batch if self._data is None else self._data
        trained = self._trained(now)
        due = [name for name in self._schedules if self._asks(name, trained) or always]
        if due:
            self._take(due, model, loss, data)
        self._last.see(model, loss, data, self._steps, due)

    def _measure_last(self) -> None:
        """All that was not measured after the last step, which the budget may forbid."""
        last = self._last
        due = last.due(self._log.ledgers, self._steps)
        if last.model is None or not due:
            return
        if not last.unchanged:
            self._say_once(
                "changed",
                "The model was changed after the last step, so nothing was measured at the end. Close the recorder "
                "right after the training.",
            )
            return
        trained = self._trained(self._clock())
        due = [name for name in due if self._affords(name, trained)]
        if due:
            self._take(due, last.model, last.loss, last.data)

    def _end(self) -> None:
        self._last = Last()  # so that it keeps neither model nor data
        self._facts()
        for sink in self._sinks:
            tables = {name: self._labelled(table) for name, table in self._log.tables().items()}
            self._guard(type(sink).__name__, sink.close, tables)
        self._guard("writing the record", self._finish)

    def _trained(self, now: float) -> float:
        return self._before[0] + (now - self._started - self._own if self._started is not None else 0.0)

    def _asks(self, name: str, trained: float) -> bool:
        """Whether it is time for an instrument; what the budget forbids is counted as asked and left out."""
        marks = self._schedules[name](self._steps, self._epochs)
        return self._log.ledgers[name].asks(marks) and self._affords(name, trained)

    def _affords(self, name: str, trained: float) -> bool:
        if self._share is None:
            return True
        marks = self._schedules[name](self._steps, self._epochs)
        ledger, every = self._log.ledgers[name], self._log.ledgers.values()
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
        self._tell(found)
        return True

    def _tell(self, found: Measurement) -> None:
        for sink in self._sinks if found.instrument != WEIGHTS else ():
            self._guard(type(sink).__name__, sink.write, found)

    def _one(self, name: str, model: nn.Module, loss: Loss, data: Data | None) -> Any:
        if name == WEIGHTS:
            return self._log.keep(self._steps, parameters_of(model, self._weights or "*"))
        chosen = self._instruments[name]
        with measuring(model, self._mode):
            if chosen.ours:
                result = chosen.function(model, loss, data)
            else:
                with guarded(model, loss, data) as own:
                    result = chosen.function(model, loss, own)
        # A long instrument takes Ctrl-C for itself; here it is the training's.
        if getattr(result, "interrupted", False):
            raise KeyboardInterrupt
        return result

    def _guard(self, what: str, call: Callable[..., Any], *given: Any) -> None:
        try:
            call(*given)
        except Exception as error:  # a full disk or a tracker that is away must not end a training either
            self._fail(what, error)

    def _fail(self, name: str, error: Exception) -> None:
        kind, why = type(error).__name__, reason(error)
        self._log.add("failures", self._steps, self._epochs, name, kind, why)
        self._say_once(
            f"failed {name}",
            f"{name} failed at step {self._steps}, and the training goes on. Further failures of it are recorded, and "
            f"not said. {kind}: {why}",
        )

    def _say_once(self, key: str, message: str) -> None:
        if key in self._said:
            return
        self._said.add(key)
        try:
            warnings.warn(message, RecorderWarning, stacklevel=outside())
        except RecorderWarning:  # where warnings are errors: the training goes on all the same
            _log.warning(message)

    def _facts(self) -> None:
        now = self._clock()
        self._log.facts |= {
            "wall_seconds": self._before[1] + (now - self._started if self._started is not None else 0.0),
            "training_seconds": self._trained(now),
            "steps": self._steps,
            "epochs": self._epochs,
        }

    def _labelled(self, table: pd.DataFrame) -> pd.DataFrame:
        """With the columns that the records put in front when they join recordings."""
        spec = self._log.spec
        seed = spec.seed if spec else self._log.asked.seed or 0
        front = {"fingerprint": spec.fingerprint() if spec else "", "seed": seed, **self._log.asked.labels}
        return pd.concat([pd.DataFrame([front] * len(table)), table.reset_index(drop=True)], axis=1)
