"""Actors on a Ray cluster: objects that each hold a part of something in a process of its own, and are asked together.

What they hold is put into Ray's object store once and taken from there, also by an actor that is made anew: one whose
process dies starts again from the same parts, once, and is asked again. Actors end with their crew.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.machinery import PathFinder
from typing import Any

from theodolite.errors import CodeFailed, TheodoliteError, UsageError, WorkerDied
from theodolite.execute.ray import Ray, start, wrong_version  # before ray itself: it says what to install
from theodolite.machine import describe

import ray  # isort: skip

LIVES = 2  # of an actor


class Crew:
    """Actors of one kind."""

    def __init__(self, cluster: Ray) -> None:
        self.size = cluster.workers  # as many as may be started
        self._needs = {"num_cpus": 1, "num_gpus": 1} if cluster.kind == "GPU" else {"num_cpus": 1}
        self._parts: list[Any] = []  # what each actor holds, as the store has it
        self._members: list[Any] = []

    def put(self, what: str, value: Any, *, modules: Collection[str] = ()) -> Any:
        """Put a value where each actor can take it.

        Args:
            what: it is, for messages.
            value: it.
            modules: that its classes come from; those that only this process knows go with it.

        Raises:
            UsageError: it cannot be sent to another process.
        """
        with ExitStack() as stack:
            for name in modules:
                module = sys.modules.get(name)
                if module is not None and name != "__main__" and not _importable(name):
                    ray.cloudpickle.register_pickle_by_value(module)
                    stack.callback(ray.cloudpickle.unregister_pickle_by_value, module)
            try:
                return ray.put(value)
            except Exception as error:  # a value's own way to be sent may raise anything
                reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
                raise UsageError(
                    f"expected {what} that can be sent to other processes, got one that cannot: {reason} Leave out "
                    "what belongs to one process alone, as locks, open files and generators do, or use engine='local'."
                ) from error

    def start(self, make: Callable[..., Any], shared: Any, parts: Sequence[Sequence[Any]]) -> None:
        """Start an actor for each part, which will hold ``make(shared, part)``; both are given as what ``put`` gave."""
        self._parts = [ray.put([shared, *part]) for part in parts]
        member = ray.remote(max_restarts=LIVES - 1, max_task_retries=LIVES - 1, **self._needs)(_Member)
        version = describe()["versions"]["theodolite"]
        for _ in parts:  # one by one, so that those there are end if the next cannot be started
            self._members.append(member.remote(make, version, list(sys.path)))

    def ask(self, question: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
        """What a function gives of what each actor holds, all asked at once; the answers in the order of the parts.

        An exception raised there is raised here, with a note that says where it came from.

        Raises:
            WorkerDied: an actor's process ended, again after it had been started anew.
        """
        sent = [ray.put(argument) for argument in arguments]
        both = zip(self._members, self._parts, strict=True)
        answers = [member.ask.remote([part], question, *sent) for member, part in both]
        for number in range(len(answers)):
            try:
                answer = ray.get(answers[number])
            except ray.exceptions.RayTaskError as error:
                raise _cause(error, f"in part {number + 1} of {len(answers)}") from None
            except ray.exceptions.RayError as error:
                first = str(error).strip().splitlines()[0]
                raise WorkerDied(
                    f"expected the process of part {number + 1} of {len(answers)} to stay alive, but it ended {LIVES} "
                    f"times ({type(error).__name__}: {first}). That is often lack of memory: pass memory=, smaller "
                    "batches or fewer workers."
                ) from None
            answers[number] = None  # or all would stay in the store until the last is here
            yield answer

    def close(self) -> None:
        """End all actors."""
        with suppress(Exception):  # the cluster may be gone before them
            for member in self._members:
                ray.kill(member)
        self._members, self._parts = [], []


@contextmanager
def crew(*, workers: int | None, device: str, address: str | None) -> Iterator[Crew]:
    """Actors on the cluster at the address, on the one this program is on, or on one of this machine; they end with it.

    Raises:
        UsageError: no cluster answers at the address, or the program is on another one.
    """
    with ExitStack() as stack:
        if ray.is_initialized():
            here = ray.get_runtime_context().gcs_address
            if address not in (None, "auto", here):
                raise UsageError(
                    f"expected the Ray cluster at '{address}', but this program is on that at '{here}'. Call "
                    "ray.shutdown() first, or leave the address out."
                )
            cluster = Ray(workers=workers, device=device)
        else:
            cluster = stack.enter_context(start(workers=workers, device=device, address=address))
        own = Crew(cluster)
        stack.callback(own.close)
        yield own


class _Member:
    """What runs in an actor's process; made when first asked, so that it is made again in a second life."""

    def __init__(self, make: Callable[..., Any], version: str, path: Sequence[str]) -> None:
        sys.path += [folder for folder in path if folder not in sys.path]  # where the driver found the model's classes
        self._make, self._version = make, version
        self._held: Any = None

    def ask(self, given: Sequence[Any], question: Callable[..., Any], *arguments: Any) -> Any:
        if self._held is None:
            if (why := wrong_version(self._version)) is not None:
                raise UsageError(why)
            shared, *part = (ray.get(reference) for reference in ray.get(given[0]))
            self._held = self._make(shared, part)
        return question(self._held, *arguments)


def _importable(name: str) -> bool:
    top = name.partition(".")[0]
    return top in sys.builtin_module_names or PathFinder.find_spec(top) is not None


def _cause(error: Any, where: str) -> BaseException:
    """What an actor's own code raised."""
    cause = error.cause
    if isinstance(cause, TheodoliteError):
        return cause
    if not isinstance(cause, Exception) or isinstance(cause, ray.exceptions.RayError):
        return CodeFailed(f"expected what an actor holds to answer, but {where}: {str(error).strip().splitlines()[-1]}")
    cause.add_note(f"Raised {where} of the data, in another process:\n{str(error).strip()}")
    return cause
