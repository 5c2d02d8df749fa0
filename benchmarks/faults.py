"""What befalls a survey in `soak.py`: signals while it runs, and machines that refuse it something from the start."""

import os
import pty
import random
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

STOPPED = 3.0  # seconds that a process is stopped, at most
SMALL = 6000  # bytes of a file on a machine that allows no larger ones: a plan does not fit


def family(parent: int) -> Iterator[int]:
    """A process and all that come from it."""
    yield parent
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from family(int(child))


@dataclass
class Running:
    """A survey under way; its terminal, if it has one."""

    process: subprocess.Popen[bytes]
    said: list[bytes] = field(default_factory=list)  # on standard error
    refused: str = ""  # what the machine refuses it from the start
    terminal: int | None = None

    def read(self) -> None:
        """Take what it says, so that it never waits for a reader."""
        assert self.process.stderr is not None
        self.said += iter(lambda: self.process.stderr.read(65536), b"")  # type: ignore[union-attr]

    def words(self) -> str:
        """All that it said."""
        return b"".join(self.said).decode(errors="replace")


def start(command: list[str], environment: Mapping[str, str], refused: str) -> Running:
    """The survey on a machine that refuses it this; nothing where it is empty."""
    environment, limits, output, terminal = dict(environment), [], subprocess.DEVNULL, None
    reader = None
    if refused == "home":
        for name in ("HOME", "TMPDIR", "USER", "LOGNAME", "XDG_CACHE_HOME"):
            environment.pop(name, None)
        environment["TMPDIR"] = "/nowhere"
    elif refused == "large files":
        limits = [(resource.RLIMIT_FSIZE, SMALL)]
    elif refused == "files":
        limits = [(resource.RLIMIT_NOFILE, 16)]
    elif refused == "processes":  # heeded where it is not root's
        limits = [(resource.RLIMIT_NPROC, 1)]
    elif refused == "output":
        reader, output = os.pipe()
    elif refused == "terminal":
        terminal, output = pty.openpty()

    def prepare() -> None:
        for number, most in limits:
            resource.setrlimit(number, (most, most))

    process = subprocess.Popen(
        command, env=environment, stdout=output, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=prepare
    )
    if output != subprocess.DEVNULL:
        os.close(output)
    if reader is not None:
        os.close(reader)  # nobody reads what it shows
    running = Running(process, refused=refused, terminal=terminal)
    threading.Thread(target=running.read, daemon=True).start()
    return running


REFUSED = ("", "home", "large files", "files", "processes", "output", "terminal")


def send(running: Running, chance: random.Random, number: signal.Signals, *, group: bool = False) -> str:
    """A signal to any process of the survey, the program itself included, or to all of them."""
    victims = list(family(running.process.pid))
    chosen = victims if group else [chance.choice(victims)]
    for victim in chosen:
        try:
            os.kill(victim, number)
        except ProcessLookupError:
            continue
    return "group" if group else "program" if chosen == [running.process.pid] else "worker"


def stop(running: Running, chance: random.Random) -> str:
    """A process that is stopped, and goes on after a while; or dies, or sees its parent die, while it is."""
    victim = chance.choice(list(family(running.process.pid)))
    try:
        os.kill(victim, signal.SIGSTOP)
        time.sleep(chance.uniform(0.1, STOPPED))
        if chance.random() < 0.3:
            os.kill(running.process.pid, signal.SIGKILL)
            return "program" if victim == running.process.pid else "program, a worker stopped"
        os.kill(victim, signal.SIGCONT)
    except ProcessLookupError:
        pass
    return "program" if victim == running.process.pid else "worker"


def second(running: Running, chance: random.Random) -> str:
    """The same command beside it, which must be refused while it runs."""
    done = subprocess.run(running.process.args, capture_output=True, timeout=900, check=False)  # type: ignore[call-overload]
    both = done.returncode == 2 and b"another survey is writing" in done.stderr
    if running.process.poll() is None and not both:
        running.said.append(b"Traceback: a second survey was not refused: " + done.stderr[-300:])
    return "beside it"


def close(running: Running, chance: random.Random) -> str:
    """Its terminal closes."""
    if running.terminal is None:
        return send(running, chance, signal.SIGHUP)
    os.close(running.terminal)
    running.terminal = None
    return "terminal"


Fault = Callable[[Running, random.Random], str]
KILL: Mapping[str, Fault] = {"kill": lambda running, chance: send(running, chance, signal.SIGKILL)}
ALL: Mapping[str, Fault] = {
    **KILL,
    "kill all": lambda running, chance: send(running, chance, signal.SIGKILL, group=True),
    "term": lambda running, chance: send(running, chance, signal.SIGTERM),
    "term all": lambda running, chance: send(running, chance, signal.SIGTERM, group=True),
    "hup": lambda running, chance: send(running, chance, signal.SIGHUP, group=True),
    "int": lambda running, chance: send(running, chance, signal.SIGINT, group=True),
    "segv": lambda running, chance: send(running, chance, signal.SIGSEGV),
    "pipe": lambda running, chance: send(running, chance, signal.SIGPIPE),
    "stop": stop,
    "close": close,
    "second": second,
}
