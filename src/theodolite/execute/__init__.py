"""Engines that carry jobs to worker processes and bring their outcome back: of this machine, or of a Ray cluster."""

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from theodolite.errors import UnknownName, UsageError
from theodolite.execute.local import check_workers
from theodolite.execute.schedule import Event, Split, Work

ENGINES = ("local", "ray")


class Engine(Protocol):
    """Who carries jobs."""

    @property
    def workers(self) -> int:
        """Jobs at a time."""
        ...

    def equip(self, folder: Path | None, sources: Collection[str]) -> None:
        """Give every worker what its jobs will need: a folder that it must see, if any, and these data sets."""
        ...

    def run(
        self,
        work: Work,
        jobs: Sequence[Any],
        *,
        after: Mapping[int, Collection[int]] | None = None,
        split: Split | None = None,
    ) -> Generator[Event]:
        """Do all jobs, in order of the sequence as workers fall free, and tell what happens.

        Closing the iterator, or an exception thrown into it (Ctrl-C), stops the workers at once: every file they
        write is written whole, so nothing half done remains.

        Args:
            work: called in a worker as ``work(job, emit)``; must be importable. ``emit(value)`` reports progress.
            jobs: picklable; the longest first keeps the workers busy to the end.
            after: jobs that a job waits for, by index; where one of them fails, so does the job.
            split: smaller jobs in place of one whose worker died; the job alone where it cannot be smaller.

        Raises:
            StoreError: a worker could not write; the same would befall every other.
        """
        ...


def engine(
    name: str, *, workers: int | None = None, device: str = "cpu", address: str | None = None
) -> AbstractContextManager[Engine]:
    """Start an engine; leaving its context stops whatever it started.

    Args:
        name: ``local`` or ``ray``.
        workers: jobs at a time; None: one a processor of the machine, or of the cluster. On ``cuda``: one, or one a GPU
            of the cluster.
        device: where jobs compute.
        address: of a running Ray cluster (``auto``, ``HOST:PORT``); None: one of this machine, for this survey alone.

    Raises:
        UnknownName: there is no such engine.
        MissingExtra: Ray is not installed.
        UsageError: no cluster answers at the address.
        SettingError: the cluster has no such device.
    """
    if name not in ENGINES:
        raise UnknownName("engine", name, ENGINES)
    check(workers, address)
    start: Any = import_module(f"theodolite.execute.{name}").start
    opened: AbstractContextManager[Engine] = start(workers=workers, device=device, address=address)
    return opened


def check(workers: int | None, address: str | None) -> None:
    """Refuse what no engine can start with, before anything is planned or written.

    Raises:
        UsageError: no worker, more than this machine has any use for, or an address with credentials.
    """
    if address is not None and "@" in address:  # not repeated: it may be a secret
        raise UsageError(
            "expected the address of a Ray cluster without credentials, got one with some. Leave them out."
        )
    check_workers(workers, here=address is None)
