"""Measurements taken inside a training: those that are due and affordable, timed, and none that ends the training."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.objective import Loss
from theodolite.record.asked import Wanted
from theodolite.record.flatten import flatten
from theodolite.record.instruments import WEIGHTS
from theodolite.record.last import Last
from theodolite.record.log import Log, Measurement, Sink
from theodolite.record.model_state import device_of, guarded, measuring, synchronize
from theodolite.record.once import Once
from theodolite.record.snapshot import parameters_of
from theodolite.record.stopwatch import Stopwatch
from theodolite.record.words import reason


class Taker:
    """Takes what is due after a step, or an epoch, and hands it to the log and the sinks."""

    def __init__(self, wanted: Wanted, log: Log, sinks: Sequence[Sink], watch: Stopwatch, once: Once) -> None:
        self.wanted, self.log, self.sinks, self.watch, self.once = wanted, log, list(sinks), watch, once
        self.steps = self.epochs = 0  # done
        self._last = Last()
        self._flushed, self._flush_cost = 0.0, 0.0

    def observe(self, model: nn.Module, loss: Loss, batch: Data | None, *, always: bool = False) -> None:
        """Measure what is due now; ``always``: everything."""
        now = self.watch.clock()
        data = batch if self.wanted.data is None else self.wanted.data
        trained = self.watch.trained(now)
        due = [name for name in self.wanted.names if self._asks(name, trained) or always]
        if due:
            self._take(due, model, loss, data)
        self._last.see(model, loss, data, self.steps, due)

    def measure_last(self) -> None:
        """All that was not measured after the last step, which the budget may forbid."""
        last = self._last
        due = last.due(self.log.ledgers, self.steps)
        if last.model is None or not due:
            return
        if not last.unchanged:
            self.once.say(
                "changed",
                "The model was changed after the last step, so nothing was measured at the end. Close the recorder "
                "right after the training.",
            )
            return
        trained = self.watch.trained(self.watch.clock())
        due = [name for name in due if self._affords(name, trained)]
        if due:
            self._take(due, last.model, last.loss, last.data)

    def end(self) -> None:
        """No more comes: it keeps neither model nor data."""
        self._last = Last()
        self.note()

    def tell(self, found: Measurement) -> None:
        """Hand a measurement to the sinks."""
        for sink in self.sinks if found.instrument != WEIGHTS else ():
            self.guard(type(sink).__name__, sink.write, found)

    def guard(self, what: str, call: Callable[..., Any], *given: Any) -> None:
        """Call what must not end a training either: a full disk, a tracker that is away."""
        try:
            call(*given)
        except Exception as error:
            self._fail(what, error)

    def note(self) -> None:
        """How far the training is, among the facts of the record."""
        now = self.watch.clock()
        self.log.facts |= {
            "wall_seconds": self.watch.passed(now),
            "training_seconds": self.watch.trained(now),
            "steps": self.steps,
            "epochs": self.epochs,
        }

    def marks(self, name: str) -> int:
        """Marks of its schedule that an instrument has passed."""
        return self.wanted.schedules[name](self.steps, self.epochs)

    def _asks(self, name: str, trained: float) -> bool:
        """Whether it is time for an instrument; what the budget forbids is counted as asked and left out."""
        return self.log.ledgers[name].asks(self.marks(name)) and self._affords(name, trained)

    def _affords(self, name: str, trained: float) -> bool:
        share = self.wanted.share
        if share is None:
            return True
        ledger, every = self.log.ledgers[name], self.log.ledgers.values()
        whole = share * trained
        if ledger.affords(whole / len(every), whole - sum(other.spent for other in every)):
            return True
        self.log.ledgers[name] = ledger.skip(self.marks(name))
        self.once.say(
            f"thinned {name}",
            f"{name} takes {ledger.last:.2g} s. To stay within the budget, {share:.2g} of the training time for "
            "all instruments, it is measured less often than asked; print the recorder to see how often.",
        )
        return False

    def _take(self, due: Sequence[str], model: nn.Module, loss: Loss, data: Data | None) -> None:
        device, clock = device_of(model), self.watch.clock
        synchronize(device)
        before = clock()
        trained = self.watch.trained(before)
        for name in due:
            started = clock()
            failed = not self._measure(name, model, loss, data, started, trained)
            synchronize(device)
            self.log.ledgers[name] = self.log.ledgers[name].take(self.marks(name), clock() - started, failed=failed)
        self.note()
        pause = max(self.wanted.flush, self._flush_cost / self.wanted.flush_share)
        if before - self._flushed >= pause or not self._flush_cost:
            started = clock()
            self.guard("writing the record", self.log.flush)
            self._flushed, self._flush_cost = clock(), max(clock() - started, 1e-9)
        self.watch.own += clock() - before

    def _measure(
        self, name: str, model: nn.Module, loss: Loss, data: Data | None, started: float, trained: float
    ) -> bool:
        """One instrument; False where it failed."""
        try:
            result = self._one(name, model, loss, data)
            numbers, vectors = flatten(result) if name != WEIGHTS else ({}, {})
            seconds = self.watch.clock() - started
            found = Measurement(self.steps, self.epochs, name, numbers, vectors, result, seconds)
            self.log.take(found, trained)
        except Exception as error:  # whatever it is: the training is worth more than the measurement
            self._fail(name, error)
            return False
        self.tell(found)
        return True

    def _one(self, name: str, model: nn.Module, loss: Loss, data: Data | None) -> Any:
        if name == WEIGHTS:
            return self.log.keep(self.steps, parameters_of(model, self.wanted.weights or "*"))
        chosen = self.wanted.instruments[name]
        with measuring(model, self.wanted.mode):
            if chosen.ours:
                result = chosen.function(model, loss, data)
            else:
                with guarded(model, loss, data) as own:
                    result = chosen.function(model, loss, own)
        # A long instrument takes Ctrl-C for itself; here it is the training's.
        if getattr(result, "interrupted", False):
            raise KeyboardInterrupt
        return result

    def _fail(self, name: str, error: Exception) -> None:
        kind, why = type(error).__name__, reason(error)
        self.log.add("failures", self.steps, self.epochs, name, kind, why)
        self.once.say(
            f"failed {name}",
            f"{name} failed at step {self.steps}, and the training goes on. Further failures of it are recorded, and "
            f"not said. {kind}: {why}",
        )
