"""Instruments inside the user's own training loop."""

import sys
import time
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
from theodolite.measure.problem.validation import check_module, check_shaped, checked
from theodolite.record import asked
from theodolite.record.flatten import flatten
from theodolite.record.identity import described, of_beginning, of_model
from theodolite.record.instruments import Instruments
from theodolite.record.log import LEDGER, TABLES, Log, Measurement, Sink
from theodolite.record.model_state import Mode, device_of
from theodolite.record.once import Once, RecorderWarning
from theodolite.record.place import Asked
from theodolite.record.schedule import Every, Ledger
from theodolite.record.stopwatch import Stopwatch
from theodolite.record.taking import Taker
from theodolite.record.words import resumed, summary

__all__ = ["Recorder", "RecorderWarning"]


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
            a mapping from names of your own to either. Each may be a pair of itself and its options.
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
        if isinstance(samples, int):
            first, samples = samples if first is None else first, None
        asked.check(budget=budget, first=first, flush=flush, labels=labels, resume=resume, replace=replace, out=out)
        self._wanted = asked.resolved(
            instruments, every, data, first=first, samples=samples, reduction=reduction, budget=budget, mode=mode,
            weights=weights, flush=flush,
        )  # fmt: skip
        place = Asked(seed, dict(labels or {}), resume=resume, replace=replace)
        self._log = Log(Path(out) if out is not None else None, place)
        self._log.ledgers = {name: Ledger() for name in self._wanted.names}
        self._once, self._watch = Once(), Stopwatch(clock)
        self._taker = Taker(self._wanted, self._log, sinks, self._watch, self._once)
        self._around = id(sys.exc_info()[1])  # an error that is being handled already ends no training of this one
        self._finish = weakref.finalize(self, self._log.finish)  # also when the program ends without close()

    def step(self, model: nn.Module, loss: Loss, batch: Data | None = None, *, number: int | None = None) -> None:
        """Count one step of training, and measure if it is time. Put it after ``optimizer.step()``.

        Args:
            model: what is trained; compiled or spread over processes, the module inside is measured.
            loss: maps (outputs, targets) to a scalar mean over samples.
            batch: what to measure on, unless the recorder has its own data.
            number: of this step, where the caller counts; None: one more than the last.

        Raises:
            SettingError: the number is below that of the last step.
        """
        asked.check_number(number, "a step")
        if self._ready(model, loss, batch, number=number):
            if number is not None and number < self._taker.steps:
                raise SettingError(
                    f"expected steps that go forward, got step {number} after step {self._taker.steps}. A training "
                    "that goes on from a checkpoint takes another Recorder(…, resume=True)."
                )
            self._taker.steps = self._taker.steps + 1 if number is None else number
            self._log.facts["steps"] = self._taker.steps  # so that a program that just ends leaves the right one
            self._taker.observe(unwrapped(model), loss, batch)

    def epoch(self, model: nn.Module, loss: Loss, batch: Data | None = None, *, number: int | None = None) -> None:
        """Count one finished epoch, and measure if a schedule in epochs says so. Put it at the end of an epoch.

        Args:
            model: as in :meth:`step`.
            loss: likewise.
            batch: likewise.
            number: of epochs finished, where the caller counts; None: one more than the last.
        """
        asked.check_number(number, "epochs")
        if self._ready(model, loss, batch, epoch=number):
            self._taker.epochs = self._taker.epochs + 1 if number is None else number
            self._log.facts.setdefault("epoch_ends", []).append([self._taker.steps, self._taker.epochs])
            self._taker.observe(unwrapped(model), loss, batch)

    def measure(self, model: nn.Module, loss: Loss, batch: Data | None = None) -> None:
        """Measure now, whatever schedule and budget say: before the first step, or after the last."""
        if self._ready(model, loss, batch):
            self._taker.observe(unwrapped(model), loss, batch, always=True)

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
                self._once.say("closed", "This recorder is closed, and records no more. Make another one.")
                return
            measurement = Measurement(self._taker.steps, self._taker.epochs, name, found, vectors, value, 0.0)
            self._log.take(measurement, None)
            self._taker.tell(measurement)

    def table(self, name: str) -> pd.DataFrame:
        """What is recorded: ``numbers``, ``vectors``, ``costs``, ``failures``, or ``ledger``, a row an instrument."""
        if name not in (*TABLES, LEDGER):
            raise SettingError(f"expected one of {', '.join((*TABLES, LEDGER))}, got {name!r}.")
        return self._log.table(name)

    def snapshots(self) -> dict[int, dict[str, Tensor]]:
        """The weights kept, by step; ``th.measure.trajectory(list(recorder.snapshots().values()))``."""
        return self._log.snapshots()

    def plot(self, *, theme: bool = True, color: str | None = None) -> dict[str, Any]:
        """A figure of each recorded series of this training, by name: Altair charts, as a report has them.

        ``th.recordings(DIR).plot()`` has all trainings of the folder, with bands over their seeds.

        Args:
            theme: the report's own style; False: that of Altair, or yours.
            color: of the first line of each, such as ``"crimson"``.
        """
        from theodolite.figures import dressed, recorded  # who does not draw needs no altair

        tables = {name: self._labelled(table).assign(training="") for name, table in self._log.tables().items()}
        found = recorded.draw(tables)
        return {figure.name: dressed.dressed(figure.chart, theme=theme, color=color) for figure in found}

    @property
    def folder(self) -> Path | None:
        """Where the record lies, once the first step was taken; None: nowhere."""
        log = self._log
        if log.place is None or log.spec is None:
            return None
        return log.place / log.spec.study / log.spec.FOLDER / log.spec.fingerprint()

    def close(self) -> None:
        """Measure once more, and write the record whole; put it right after the last step.

        Also done at the end of a ``with`` block. At the end of the program, and where an error is on its way (through a
        ``with`` block, or ``close()`` in a ``finally``), the record is written whole with what ended the training, and
        nothing is measured.
        """
        error = sys.exc_info()[1]
        self._end(None if error is None or id(error) == self._around else type(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(kind)

    def _end(self, kind: type[BaseException] | None) -> None:
        """The training ended, by an error of this kind or by itself."""
        if self._log.finished:
            return
        self._log.facts["ended_by"] = kind.__name__ if kind is not None else ""
        if kind is None:
            self._taker.measure_last()
        self._taker.end()
        for sink in self._taker.sinks:
            tables = {name: self._labelled(table) for name, table in self._log.tables().items()}
            self._taker.guard(type(sink).__name__, sink.close, tables)
        self._taker.guard("writing the record", self._finish)

    def __repr__(self) -> str:
        trained = self._watch.trained(self._watch.clock())
        log = self._log
        return summary(self._taker.steps, trained, self._watch.own, log.ledgers, log.place, self.folder)

    def _ready(
        self, model: nn.Module, loss: Loss, batch: Data | None, *, number: int | None = None, epoch: int | None = None
    ) -> bool:
        """Whether it still records; what is wrong in a call is said here, and the first one begins the recording."""
        if self._log.finished:
            self._once.say("closed", "This recorder is closed, and measures no more. Make another one.")
            return False
        check_module("model", model)
        if self._wanted.data is None and batch is None and self._wanted.instruments:
            raise SettingError("expected data to measure on: pass it to Recorder(data=…), or the batch to each step.")
        if not self._watch.runs:
            check_shaped("model", model)
            self._begin(unwrapped(model), loss, number, epoch)
        return True

    def _begin(self, model: nn.Module, loss: Loss, number: int | None, epoch: int | None) -> None:
        now = self._watch.clock()
        log, taker, wanted = self._log, self._taker, self._wanted
        log.facts |= {**wanted.settings, **wanted.compared, **of_model(model), "loss": described(loss)}
        log.facts |= {"device": str(device_of(model))} | (of_beginning(model) if log.directory is not None else {})
        place, kept = log.open(wanted.settings, number, epoch)
        if kept is not None:
            taker.steps, taker.epochs, self._watch.before = kept.step, kept.epoch, (kept.trained, kept.wall)
            for name, ledger in log.ledgers.items():
                log.ledgers[name] = ledger.at(taker.marks(name))
            said = resumed(place.former.steps if place.former else 0, kept.step, guessed=place.guessed)
            if said:
                self._once.say("resumed", said)
        self._watch.start(now)

    def _labelled(self, table: pd.DataFrame) -> pd.DataFrame:
        """With the columns that the records put in front when they join recordings."""
        spec = self._log.spec
        seed = spec.seed if spec else self._log.asked.seed or 0
        front = {"fingerprint": spec.fingerprint() if spec else "", "seed": seed, **self._log.asked.labels}
        return pd.concat([pd.DataFrame([front] * len(table)), table.reset_index(drop=True)], axis=1)
