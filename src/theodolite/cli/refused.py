"""What the machine refuses, as a sentence; and how the program ends when it is told to."""

import errno
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

MEMORY = "there is not enough memory. Close other programs, or take fewer --jobs. Finished runs are kept."
FILES = (
    "no more files may be open at a time (ulimit -n). Raise that limit, or take fewer --jobs. Finished runs are kept."
)
PROCESSES = (
    "no more processes may be started (ulimit -u). Raise that limit, or take fewer --jobs. Finished runs are kept."
)
SENTENCES = {
    errno.EMFILE: FILES,
    errno.ENFILE: FILES,
    errno.EAGAIN: PROCESSES,
    errno.ENOMEM: MEMORY,
    errno.ENOSPC: "the answer cannot be written: the disk that it goes to is full.",
    errno.EDQUOT: "the answer cannot be written: the disk quota is used up.",
    errno.EFBIG: "the answer cannot be written: its file would be larger than files may be here (ulimit -f).",
    errno.EIO: "the answer cannot be written: its terminal is gone. Finished runs are kept.",
    errno.EBADF: "the answer cannot be written: its file is closed.",
}


def sentence(error: BaseException) -> str | None:
    """What is refused, and what to do; None where the error is a fault of the program."""
    if isinstance(error, MemoryError):
        return MEMORY
    if isinstance(error, RuntimeError):
        return PROCESSES if "can't start new thread" in str(error) else None
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        return "there is no folder for temporary files that may be written. Name one in TMPDIR."
    return SENTENCES.get(error.errno or 0) if isinstance(error, OSError) else None


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """TERM, and HUP of a terminal that closes, end what runs inside as Ctrl-C does: workers stop, temporary files go.

    The exit code then says which it was, as shells have it. A signal that is ignored (``nohup``) stays so.
    """
    ended: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        ended.append(number)
        signal.signal(number, signal.SIG_DFL)  # the second one ends it whatever it does
        raise KeyboardInterrupt

    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    here = threading.current_thread() is threading.main_thread()  # the only one that may listen
    before = {number: signal.signal(number, end) for number in known if here and _by_default(number)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if ended:
            raise SystemExit(128 + ended[0])


def _by_default(number: int) -> bool:
    return signal.getsignal(number) == signal.SIG_DFL
