"""What a long instrument shows while it runs, and how it is stopped: one place for both."""

import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from rich.console import Console
from rich.errors import LiveError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

PATIENCE = 1.0  # seconds before a bar appears: what is quicker needs none


class ProgressBar:
    """Counts products. ``interrupted`` says that the user wants what there is by now."""

    def __init__(self, title: str, total: int | None, show: bool | None) -> None:
        self.interrupted = False
        self._title, self._total = title, total
        self._wanted = sys.stderr.isatty() and multiprocessing.parent_process() is None if show is None else show
        self._begin = time.monotonic() + (PATIENCE if show is None else 0.0)
        self._done = 0
        self._bar: Progress | None = None
        self._stack = ExitStack()

    def advance(self, count: int = 1) -> None:
        """Say that so many more products are done."""
        self._done += count
        if self._wanted and self._bar is None and time.monotonic() >= self._begin:
            self._open()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)

    def close(self) -> None:
        """Take the bar away."""
        self._stack.close()

    def _open(self) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("products")
        console = Console(stderr=True)
        bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=console.is_terminal)
        bar.add_task(self._title, total=self._total)
        try:
            self._bar = self._stack.enter_context(bar)
        except LiveError:  # a bar of the caller's is there already
            self._wanted = False


@contextmanager
def watch(title: str, total: int | None, show: bool | None) -> Iterator[ProgressBar]:
    """Show products as they are done, and turn the first Ctrl-C into ``interrupted``; a second one ends the program.

    The loop inside looks at ``interrupted`` between two steps, so that what it hands back is whole. Only the first
    thread of a program that has no SIGINT handler of its own is watched: a survey's workers are stopped by the survey.

    Args:
        title: what is measured.
        total: products it will take; None: not known.
        show: a bar, or none; None: on a terminal, after a second.
    """
    watched = ProgressBar(title, total, show)
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        and multiprocessing.parent_process() is None
    )

    def note(number: int, frame: FrameType | None) -> None:
        watched.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield watched
    finally:
        watched.close()
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
