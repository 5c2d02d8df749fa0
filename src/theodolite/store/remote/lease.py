"""One survey at a time at an address: a lease, which its holder renews; no clock of any machine is compared.

Whoever wants the address writes a claim of its own below ``.surveys/`` and then lists all claims. Of two that come at
the same moment at least one sees the other, since a listing shows every object written before it (S3, Google's and
Azure's stores promise that). Who sees a claim that is held, or asked for under a lower name, goes away. A holder that
died is known by its claim, which no longer changes while the newcomer looks on.
"""

import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from theodolite.errors import StoreError
from theodolite.store.remote.objects import Objects
from theodolite.store.schema import as_json

FOLDER = ".surveys/"
BEAT = 5.0  # seconds between two signs of life
EXPIRY = 30.0  # seconds without one, after which a claim is dead
POLL = 0.5  # seconds between two looks at another's claim


HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{0,64}$")]  # it is shown


class Claim(BaseModel):
    """What is written: it differs from one sign of life to the next."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: Literal["asking", "holding"]
    beat: int
    machine: str  # whose lock the claimant holds: while we hold that lock ourselves, it is dead
    host: HostName = ""


class Lease:
    """The right to write at an address, as long as it is renewed."""

    def __init__(self, objects: Objects, machine: str) -> None:
        self.name, self.machine = secrets.token_hex(8), machine
        self.lost = ""  # why it is no longer ours
        self._objects, self._count = objects, 0
        self._dead: set[str] = set()
        self._stop = threading.Event()

    def take(self, said: Callable[[str], None]) -> None:
        """Wait until it is clear that no other holds it.

        Raises:
            StoreError: another survey holds it, or the address does not answer.
        """
        seen: dict[str, tuple[int, float]] = {}
        began, waiting = time.monotonic(), False
        while True:
            self._write("asking")
            rivals = self._rivals()
            if not rivals:
                self._write("holding")
                return
            for name, claim in rivals.items():
                beat, since = seen.setdefault(name, (claim.beat, time.monotonic()))
                if claim.beat != beat and (claim.state == "holding" or name < self.name):
                    raise StoreError(
                        f"another survey{f' (on {claim.host})' if claim.host else ''} is writing into "
                        f"{self._objects.address}. Wait for it, stop it, or choose another address with --out."
                    )
                if claim.beat != beat:
                    seen[name] = (claim.beat, time.monotonic())
                elif time.monotonic() - since > EXPIRY:
                    self._bury(name)
            if not waiting and time.monotonic() - began > BEAT:
                waiting = True
                said(f"{self._objects.address} was left by another survey, it seems; {EXPIRY:.0f} seconds will tell.")
            time.sleep(POLL)

    def renew(self) -> None:
        """Give signs of life until :meth:`release`; run in a thread of its own."""
        while not self._stop.wait(BEAT):
            with suppress(StoreError):  # out of reach for us; nobody else can have overthrown us unseen
                others = _claims(self._objects)
                mine = others.pop(self.name, None)
                holders = [
                    claim for name, claim in others.items() if claim.state == "holding" and name not in self._dead
                ]
                if mine is None or holders:
                    self.lost = (
                        f"another survey took {self._objects.address} over, after {EXPIRY:.0f} s in which this one did "
                        "not reach it. Once that has ended, run the same command again: finished runs are kept."
                    )
                    return
                self._write("holding")

    def check(self) -> None:
        """Raise StoreError where it is no longer ours."""
        if self.lost:
            raise StoreError(self.lost)

    def release(self) -> None:
        """Let others in."""
        self._stop.set()
        with suppress(StoreError):
            self._objects.delete(f"{FOLDER}{self.name}.json")

    def _rivals(self) -> dict[str, Claim]:
        others = _claims(self._objects)
        others.pop(self.name, None)
        for name in [name for name, claim in others.items() if claim.machine == self.machine]:
            self._bury(name)  # of a process that died on this machine: we hold the lock that it held
            del others[name]
        return {name: claim for name, claim in others.items() if name not in self._dead}

    def _bury(self, name: str) -> None:
        self._dead.add(name)
        self._objects.delete(f"{FOLDER}{name}.json")

    def _write(self, state: Literal["asking", "holding"]) -> None:
        self._count += 1
        claim = Claim(
            state=state,
            beat=self._count,
            machine=self.machine,
            host=re.sub(r"[^A-Za-z0-9_.-]", "", socket.gethostname())[:64],
        )
        self._objects.put(f"{FOLDER}{self.name}.json", as_json(claim.model_dump()))


@contextmanager
def hold(objects: Objects, machine: str, said: Callable[[str], None]) -> Iterator[Lease]:
    """Hold the address while the block runs.

    Args:
        objects: at the address.
        machine: a random name of this machine's copy, whose lock the caller holds.
        said: told in words when a survey that seems dead is waited for.

    Raises:
        StoreError: another survey holds it, or the address does not answer.
    """
    lease = Lease(objects, machine)
    try:
        lease.take(said)
        thread = threading.Thread(target=lease.renew, daemon=True)
        thread.start()
        yield lease
    finally:
        lease.release()


def beats(objects: Objects) -> dict[str, int]:
    """The last sign of life of each survey that holds the address."""
    return {name: claim.beat for name, claim in _claims(objects).items() if claim.state == "holding"}


def lives(objects: Objects, before: dict[str, int], since: float) -> bool:
    """Whether one of them gave another sign of life since that time of ``time.monotonic``; waits until one was due."""
    while True:
        now = beats(objects)
        if any(before.get(name, beat) != beat for name, beat in now.items()):
            return True
        if not before.keys() & now.keys() or time.monotonic() - since > 1.5 * BEAT:
            return False
        time.sleep(POLL)


def _claims(objects: Objects) -> dict[str, Claim]:
    found = {}
    for key in objects.list(FOLDER):
        content = objects.get(key)
        with suppress(ValidationError):  # what is no claim of ours claims nothing
            if content is not None:
                found[key.removeprefix(FOLDER).removesuffix(".json")] = Claim.model_validate_json(content)
    return found
