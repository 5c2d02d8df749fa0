"""The local engine: jobs in worker processes of this machine, one thread each. Imports no torch itself.

A worker lives for many jobs (importing torch takes seconds). One that dies takes only its own job with it, and that job
is started again; a parent that dies takes its workers with it.
"""

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from theodolite.errors import StoreError

TRIES = 3  # a job whose worker dies is started this often
TICK = 0.2  # seconds: at least so often the caller hears, and a worker speaks at most so often

Emit = Callable[[Any], None]
Work = Callable[[Any, Emit], Any]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job, or a tick (``job`` is -1) when nothing did for a while.

    ``kind``: started | progress (``value``: what the work emitted) | done (``value``: what the work returned) |
    failed (``value``: why, in words) | died (``value``: exit code; it is started again) | tick
    """

    kind: str
    job: int
    value: Any = None


def run(
    work: Work, jobs: Sequence[Any], *, workers: int, after: Mapping[int, Collection[int]] | None = None
) -> Generator[Event]:
    """Do all jobs, in order of the sequence as workers fall free, and tell what happens.

    Closing the iterator, or an exception thrown into it (Ctrl-C), kills the workers at once: every file they
    write is written whole, so nothing half done remains.

    Args:
        work: called in a worker as ``work(job, emit)``; must be importable. ``emit(value)`` reports progress.
        jobs: picklable; the longest first keeps the workers busy to the end.
        workers: processes at a time.
        after: jobs that a job waits for, by index; where one of them fails, so does the job.

    Raises:
        StoreError: a worker could not write; the same would befall every other.
    """
    pool = [_Worker(work) for _ in range(min(workers, len(jobs)))]
    waiting = list(range(len(jobs)))
    after = after or {}
    tries = [0] * len(jobs)
    done: set[int] = set()
    try:
        while waiting or any(worker.job is not None for worker in pool):
            for number, worker in enumerate(pool):
                index = next((n for n in waiting if done.issuperset(after.get(n, ()))), None)
                if worker.job is None and index is not None:
                    if not worker.process.is_alive():
                        pool[number] = worker = _Worker(work)
                    waiting.remove(index)
                    tries[index] += 1
                    worker.give(index, jobs[index])
                    yield Event("started", index)
            heard = False
            for worker in _ready(pool):
                for event in worker.hear():
                    heard = True
                    if event.kind == "stop":
                        raise StoreError(event.value)
                    if event.kind == "died" and tries[event.job] < TRIES:
                        waiting.insert(0, event.job)
                    elif event.kind == "died":
                        why = f"its worker died {TRIES} times (exit code {event.value}; -9 is often lack of memory)"
                        event = Event("failed", event.job, why)
                    elif event.kind == "done":
                        done.add(event.job)
                    yield event
                    if event.kind == "failed":
                        yield from _abandon(event.job, waiting, after)
            if not heard:
                yield Event("tick", -1)
    finally:
        for worker in pool:
            worker.kill()


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, work: Work) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(work, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.job: int | None = None

    def give(self, index: int, job: Any) -> None:
        self.job = index
        with suppress(OSError):  # a worker that is dead already is heard as such
            self.connection.send(job)

    def hear(self) -> Iterator[Event]:
        """What the worker said since; that it died, if it did."""
        job = self.job
        if job is None:
            return
        try:
            while self.connection.poll():
                kind, value = self.connection.recv()
                if kind in ("done", "failed"):
                    self.job = None
                yield Event(kind, job, value)
        except (EOFError, OSError):
            self.process.join(5)
            self.job = None
            yield Event("died", job, self.process.exitcode)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _ready(pool: Sequence[_Worker]) -> list[_Worker]:
    """Workers at work that have something to say, or died; waits for one, but not for long."""
    busy = {worker.connection: worker for worker in pool if worker.job is not None}
    return [busy[connection] for connection in wait(list(busy), timeout=TICK) if isinstance(connection, Connection)]


def _abandon(failed: int, waiting: list[int], after: Mapping[int, Collection[int]]) -> Iterator[Event]:
    """Fail every job that waits for one that failed, and those that wait for them."""
    for index in [n for n in waiting if failed in after.get(n, ())]:
        if index in waiting:
            waiting.remove(index)
            yield Event("failed", index, "what it needs failed")
            yield from _abandon(index, waiting, after)


def _serve(work: Work, connection: Connection) -> None:
    """A worker's life: take a job, do it, tell; until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            job = connection.recv()
            try:
                connection.send(("done", work(job, _Progress(connection))))
            except StoreError as error:
                connection.send(("stop", str(error)))
            except Exception as error:
                connection.send(("failed", _explain(error)))


class _Progress:
    """Tells the parent how far a job is, but not more often than a person can read."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.last = 0.0

    def __call__(self, value: Any) -> None:
        now = time.monotonic()
        if now - self.last >= TICK:
            self.last = now
            self.connection.send(("progress", value))


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # no clean-up: whatever was being written is a part file, which the next survey sweeps


def _explain(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}, line {where.lineno})"
