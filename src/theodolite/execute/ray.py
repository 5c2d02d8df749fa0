"""The Ray engine: the same jobs on a cluster, or on one of this machine alone. With actors.py, all that imports ray.

A job is one task with one thread (on ``cuda``: one GPU). What a job leaves is in the results folder, so every node must
see that folder; a job on one that does not says so. Data sets lie in Ray's object store, which copies each once to a
node; there they enter the node's own cache, checked. A worker or a node that dies takes only its jobs with it, and
these are started again, elsewhere and smaller. When the driver dies its tasks die too; what is finished is finished.
"""

import logging
import os
import socket
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from theodolite.data import cache
from theodolite.data.folder import PREFIX as FOLDER
from theodolite.data.sources import open_source
from theodolite.data.spec import FUNCTION
from theodolite.errors import MissingExtra, SettingError, StoreError, UsageError
from theodolite.execute.local import TICK, explain
from theodolite.execute.schedule import Emit, Event, Schedule, Split, Work
from theodolite.machine import describe

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a survey calls nobody
try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError:
    raise MissingExtra("ray", "ray", "the engine 'ray'") from None

PATIENCE = 120.0  # seconds a results folder may refuse to be written, with nothing done in between
PAUSE = 2.0  # seconds before a refused job is tried again, and between two looks at the size of the cluster


class Ray:
    """An :class:`~theodolite.execute.Engine` of Ray tasks."""

    def __init__(self, *, workers: int | None, device: str) -> None:
        self._limit = workers
        self.kind = "GPU" if device.startswith("cuda") else "CPU"  # what a job takes one of
        self._folder: Path | None = None
        self._sets: dict[str, Any] = {}

    @property
    def workers(self) -> int:
        """Jobs at a time: what the cluster has now, or fewer where that was asked for."""
        there = max(1, int(ray.cluster_resources().get(self.kind, 0)))
        return there if self._limit is None else min(self._limit, there)

    def equip(self, folder: Path | None, sources: Collection[str]) -> None:
        """Put the data sets that are stored into the object store, once."""
        self._folder = folder and folder.resolve()
        for name in sources:
            if not name.startswith((FUNCTION, FOLDER)):  # computed anywhere; of a folder that all nodes share
                entry = open_source(name)
                plain: Any = {array: np.asarray(getattr(entry.arrays, array)) for array in cache.NAMES}
                self._sets[entry.folder.name] = ray.put((replace(entry.arrays, **plain), entry.origin))

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
        board = ray.remote(num_cpus=0, max_restarts=-1)(_Board).remote()
        resources = {"num_cpus": 1, "num_gpus": 1} if self.kind == "GPU" else {"num_cpus": 1}
        task = ray.remote(max_retries=0, **resources)(_carry)
        common = ray.put((work, self._folder, self._sets, describe()["versions"]["theodolite"]))
        flying: dict[Any, int] = {}
        refused: float | None = None  # when the folder first refused, with nothing done since
        looked, slots, hold = 0.0, 0, 0.0
        try:
            while plan.left:
                now = time.monotonic()
                if now - looked > PAUSE:
                    looked, slots = now, self.workers
                while now >= hold and len(flying) < slots and (index := plan.take()) is not None:
                    flying[task.remote(common, plan.jobs[index], index, board)] = index
                    yield Event("started", index)
                ready = _ready(list(flying))
                for reference in ready:
                    job, (kind, value) = flying.pop(reference), _outcome(reference)
                    if kind == "refused":
                        refused = refused or now
                        if now - refused > PATIENCE:
                            raise StoreError(value)
                        plan.back(job)
                        hold = time.monotonic() + PAUSE
                        continue
                    refused = None if kind == "done" else refused
                    yield from plan.ended(kind, job, value)
                yield from _said(board, set(flying.values()))
                if not ready:
                    yield Event("tick", -1)
        finally:
            with suppress(RayError):
                for reference in flying:
                    ray.cancel(reference, force=True)
                ray.kill(board)


@contextmanager
def start(*, workers: int | None, device: str, address: str | None) -> Iterator[Ray]:
    """Join a cluster, or start one of this machine alone; leave it, or stop it.

    Raises:
        UsageError: no cluster answers.
        SettingError: a GPU is asked for by number, or the cluster has none.
    """
    if device.startswith("cuda:"):
        raise SettingError(f"expected --device cuda with Ray, which gives each job a GPU of its own, got '{device}'.")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"address": "local", "num_cpus": workers, "include_dashboard": False}
    else:
        options |= {"address": address}
    try:
        if address is not None and ":" in address:  # Ray itself would wait five minutes for an answer
            host, _, port = address.rpartition(":")
            socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=5).close()
        ray.init(**options)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"expected a Ray cluster at '{address or 'local'}', got: {str(error).splitlines()[0]}. "
            "Start one with `ray start --head`, or leave --address out."
        ) from None
    try:
        own = Ray(workers=workers, device=device)
        if own.kind == "GPU" and not ray.cluster_resources().get("GPU"):  # jobs would wait for one for ever
            raise SettingError(f"expected a Ray cluster with a GPU for device '{device}', got one with none.")
        yield own
    finally:
        ray.shutdown()


class _Board:
    """Where tasks leave how far they are, for the driver to take."""

    def __init__(self) -> None:
        self.said: dict[int, Any] = {}

    def say(self, job: int, value: Any) -> None:
        self.said[job] = value

    def take(self) -> dict[int, Any]:
        said, self.said = self.said, {}
        return said


def _carry(common: tuple[Work, Path | None, dict[str, Any], str], job: Any, index: int, board: Any) -> tuple[str, Any]:
    """One job on some node: how it ended, in a word, and what it returned, or why it did not."""
    work, folder, sets, version = common
    if (why := wrong_version(version)) is not None:
        return "failed", why
    try:
        if folder is not None and not folder.is_dir():
            node = ray.util.get_node_ip_address()
            raise StoreError(f"node {node} does not see {folder}. Use a folder that all nodes share, with --out.")
        for name, reference in sets.items():
            if not cache.holds(name):
                cache.keep(name, partial(ray.get, reference))
        return "done", work(job, _emit(board, index))
    except StoreError as error:
        return "refused", str(error)
    except MemoryError as error:
        return "died", explain(error)
    except Exception as error:  # whatever a job raises is its own failure, not the survey's
        return "failed", explain(error)


def wrong_version(expected: str) -> str | None:
    """What is wrong with the Theodolite of this node, if it is not the driver's."""
    if describe()["versions"]["theodolite"] == expected:
        return None
    return f"node {ray.util.get_node_ip_address()} has another Theodolite than {expected}; install it on every node"


def _emit(board: Any, index: int) -> Emit:
    last = time.monotonic()

    def emit(value: Any) -> None:
        nonlocal last
        if time.monotonic() - last >= 5 * TICK:
            last = time.monotonic()
            board.say.remote(index, value)

    return emit


def _ready(flying: list[Any]) -> list[Any]:
    """What has ended; waits for one, but not for long."""
    if not flying:
        time.sleep(TICK)
        return []
    if not (first := ray.wait(flying, num_returns=1, timeout=TICK)[0]):
        return []
    ended: list[Any] = ray.wait(flying, num_returns=len(flying), timeout=0)[0]
    return ended or first


def _outcome(reference: Any) -> tuple[str, Any]:
    try:
        kind, value = ray.get(reference)
        return kind, value
    except RayTaskError as error:  # before the job began: it could not be sent, or imported
        return "failed", str(error).strip().splitlines()[-1]
    except RayError as error:  # the worker, its node or its object store is gone
        return "died", f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


def _said(board: Any, under_way: set[int]) -> Iterator[Event]:
    """What tasks said of their progress; nothing while the board itself is being started again."""
    with suppress(RayError):
        for job, value in ray.get(board.take.remote(), timeout=10 * TICK).items():
            if job in under_way:
                yield Event("progress", job, value)
