"""The local engine: jobs in worker processes of this machine, one thread each. Imports no torch itself.

A worker lives for many jobs (importing torch takes seconds). One that dies takes only its own job with it, and that job
is started again; a parent that dies takes its workers with it.
"""

import ctypes
import os
import signal
import threading
import time
import traceback
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from theodolite.errors import StoreError, TheodoliteError, UsageError
from theodolite.execute.schedule import ENDS, Event, Schedule, Split, Work

MOST = 16  # workers a processor: more only take memory and turns
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl
SAFE_PATH = "PYTHONSAFEPATH"  # a Python that starts takes no module of the working folder, such as a user's random.py
TICK = 0.2  # seconds: at least so often the caller hears, and a worker speaks at most so often


@dataclass(frozen=True)
class Local:
    """An :class:`~theodolite.execute.Engine` of worker processes."""

    workers: int
    preload: tuple[str, ...] = ()  # modules that work needs, imported once for all workers; none that starts threads

    def equip(self, folder: Path | None, sources: Collection[str]) -> None:
        """Workers of this machine see what it sees."""

    def run(
        self,
        work: Work,
        jobs: Sequence[Any],
        *,
        after: Mapping[int, Collection[int]] | None = None,
        split: Split | None = None,
    ) -> Generator[Event]:
        """Do all jobs and tell what happens; see :class:`~theodolite.execute.Engine`."""
        plan = Schedule(jobs, after=after, split=split)
        context = self._context()
        pool = [_Worker(work, context) for _ in range(min(self.workers, len(jobs)))]
        try:
            while plan.left:
                for number, worker in enumerate(pool):
                    if worker.job is None and (index := plan.take()) is not None:
                        if not worker.process.is_alive():
                            pool[number] = worker = _Worker(work, context)
                        worker.give(index, plan.jobs[index])
                        yield Event("started", index)
                heard = False
                for worker in _ready(pool):
                    for event in worker.hear():
                        heard = True
                        yield from _end(plan, event)
                if not heard:
                    yield Event("tick", -1)
        finally:
            for worker in pool:
                worker.kill()

    def _context(self) -> BaseContext:
        """Where there are modules to preload, workers are forks of a process that did nothing but import them."""
        if not self.preload or "forkserver" not in get_all_start_methods():
            return get_context("spawn")
        context = get_context("forkserver")
        context.set_forkserver_preload(list(self.preload))
        return context


@contextmanager
def start(*, workers: int | None, device: str, address: str | None) -> Iterator[Local]:
    """Workers of this machine: one a processor unless told otherwise; on a GPU, which they would share, one alone."""
    if address is not None:
        raise UsageError(f"expected no address with the local engine, got '{address}'. Use --engine ray.")
    yield Local(workers or (1 if device.startswith("cuda") else os.cpu_count()) or 1)


def check_workers(workers: int | None, *, here: bool = True) -> None:
    """Refuse none, and where they are ``here``, more processes than this machine has any use for."""
    most = MOST * (os.cpu_count() or 1)
    if workers is not None and workers < 1:
        raise UsageError(f"expected at least one job at a time, got {workers}. Leave it out for one a processor.")
    if here and workers is not None and workers > most:
        raise UsageError(
            f"expected at most {most} jobs at a time, {MOST} a processor, got {workers}: each is a process with some "
            "300 MB. Leave --jobs out for one a processor."
        )


def _end(plan: Schedule, event: Event) -> Iterator[Event]:
    if event.kind == "stop":
        raise StoreError(event.value)
    yield from plan.ended(event.kind, event.job, event.value) if event.kind in ENDS else [event]


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, work: Work, context: BaseContext) -> None:
        self.connection, theirs = context.Pipe()
        before = os.environ.get(SAFE_PATH)
        args = (work, theirs, before)
        self.process: BaseProcess = context.Process(target=_serve, args=args, daemon=True)  # type: ignore[attr-defined]
        os.environ[SAFE_PATH] = "1"  # until it knows the path of this process
        try:
            self.process.start()
        finally:
            _set_safe_path(before)
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
                if kind in ENDS:
                    self.job = None
                yield Event(kind, job, value)
        except (EOFError, OSError):
            self.process.join(5)
            self.job = None
            yield Event("died", job, f"exit code {self.process.exitcode}")

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _ready(pool: Sequence[_Worker]) -> list[_Worker]:
    """Workers at work that have something to say, or died; waits for one, but not for long."""
    busy = [worker for worker in pool if worker.job is not None]
    ready = wait([worker.connection for worker in busy], timeout=TICK)  # of a class of its own on Windows
    return [worker for worker in busy if worker.connection in ready]


def _set_safe_path(value: str | None) -> None:
    if value is None:
        os.environ.pop(SAFE_PATH, None)
    else:
        os.environ[SAFE_PATH] = value


def _serve(work: Work, connection: Connection, safe_path: str | None) -> None:
    """A worker's life: take a job, do it, tell; until the pipe closes."""
    _set_safe_path(safe_path)  # for programs that the user's own code starts
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    with suppress(AttributeError, OSError, TypeError):  # Linux alone; for a worker that is stopped, and so sees nothing
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            job = connection.recv()
            try:
                connection.send(("done", work(job, _Progress(connection))))
            except StoreError as error:
                connection.send(("stop", str(error)))
            except MemoryError as error:
                connection.send(("died", explain(error)))
            except Exception as error:
                connection.send(("failed", explain(error)))


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


def explain(error: Exception) -> str:
    """An exception in one line: its kind, what it says, and where it came from; one of ours says all itself."""
    if isinstance(error, TheodoliteError):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}, line {where.lineno})"
