"""One survey at a time at an address: a lease, which its holder renews; no clock of any machine is compared.

Where the store has a conditional put, and is seen to heed it, the lease is one object that only one of many can make or
replace (:class:`_Lock`). Everywhere else each survey writes an object of its own and lists those of others
(:class:`_Listing`). A holder that died is known by its sign of life, which no longer changes while a newcomer looks on.
"""

import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Literal, Protocol, TypeGuard

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from theodolite.errors import StoreError
from theodolite.store.remote.objects import ConditionalObjects, Objects, Version
from theodolite.store.schema import as_json

FOLDER = ".surveys/"
LOCK = f"{FOLDER}lock.json"
BEAT = 5.0  # seconds between two signs of life
EXPIRY = 30.0  # seconds without one, after which a holder is dead
POLL = 0.5  # seconds between two looks at another's sign of life

Said = Callable[[str], None]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{0,64}$")]  # it is shown


class SignOfLife(BaseModel):
    """What is written: it differs from one time to the next."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: Literal["asking", "holding", "released"]
    beat: int
    machine: str  # whose lock the survey holds: while we hold that lock ourselves, it is dead
    host: HostName = ""
    survey: str = ""  # its random name


class Lease:
    """The right to write at an address, as long as it is renewed."""

    def __init__(self, objects: Objects, machine: str) -> None:
        self.lost = ""  # why it is no longer ours
        self._address = objects.address
        self._protocol: _Protocol = _Lock(objects, machine) if heeds_conditions(objects) else _Listing(objects, machine)
        self._stop, self._turn = threading.Event(), threading.Lock()

    def take(self, said: Said) -> None:
        """Wait until it is clear that no other holds it.

        Raises:
            StoreError: another survey holds it, or the address does not answer.
        """
        self._protocol.take(said)

    def renew(self) -> None:
        """Give signs of life until :meth:`release`; run in a thread of its own."""
        while not self._stop.wait(BEAT):
            with suppress(StoreError), self._turn:  # out of reach for us; nobody else can have overthrown us unseen
                if not (self._stop.is_set() or self._protocol.renew()):
                    self.lost = (
                        f"another survey took {self._address} over, after {EXPIRY:.0f} s in which this one did "
                        "not reach it. Once that has ended, run the same command again: finished runs are kept."
                    )
                    return

    def check(self) -> None:
        """Raise StoreError where it is no longer ours."""
        if self.lost:
            raise StoreError(self.lost)

    def release(self) -> None:
        """Let others in."""
        self._stop.set()
        with suppress(StoreError), self._turn:  # no sign of life may follow
            self._protocol.release()


def heeds_conditions(objects: Objects) -> TypeGuard[ConditionalObjects]:
    """Whether conditional puts can be trusted; tried, since some servers take the condition and ignore it."""
    if not isinstance(objects, ConditionalObjects):
        return False
    key = f"{FOLDER}{secrets.token_hex(8)}.trial"
    try:
        first = objects.put_if(key, b"1", None)
        if first is None or objects.put_if(key, b"2", None) is not None:
            return False
        replaced = objects.put_if(key, b"3", first)
        return replaced is not None and objects.put_if(key, b"4", first) is None
    except NotImplementedError:
        return False
    finally:
        with suppress(StoreError):
            objects.delete(key)


class _Protocol(Protocol):
    def take(self, said: Said) -> None: ...

    def renew(self) -> bool:
        """Give a sign of life; whether it is still ours."""
        ...

    def release(self) -> None: ...


class _Self:
    """What a survey writes of itself."""

    def __init__(self, machine: str) -> None:
        self.name, self.machine, self._count = secrets.token_hex(8), machine, 0

    def sign(self, state: Literal["asking", "holding", "released"]) -> bytes:
        """The next sign of life."""
        self._count += 1
        host = re.sub(r"[^A-Za-z0-9_.-]", "", socket.gethostname())[:64]
        sign = SignOfLife(state=state, beat=self._count, machine=self.machine, host=host, survey=self.name)
        return as_json(sign.model_dump())


class _Others:
    """The signs of life of others, as they were when they last changed."""

    def __init__(self, address: str, said: Said) -> None:
        self.address, self._said = address, said
        self._seen: dict[str, tuple[int, float]] = {}
        self._began, self._waiting = time.monotonic(), False

    def changed(self, name: str, beat: int) -> bool:
        """Whether it gave another sign since the last look."""
        before, _ = self._seen.get(name, (beat, 0.0))
        if name not in self._seen or before != beat:
            self._seen[name] = (beat, time.monotonic())
        return before != beat

    def is_dead(self, name: str) -> bool:
        """Whether it gave none for long enough."""
        return time.monotonic() - self._seen[name][1] > EXPIRY

    def refuse(self, host: str) -> StoreError:
        """The error where one of them lives."""
        return StoreError(
            f"another survey{f' (on {host})' if host else ''} is writing into {self.address}. Wait for it, stop it, or "
            "choose another address with --out."
        )

    def wait(self) -> None:
        """Until the next look; says so once where that takes long."""
        if not self._waiting and time.monotonic() - self._began > BEAT:
            self._waiting = True
            self._said(f"{self.address} was left by another survey, it seems; {EXPIRY:.0f} seconds will tell.")
        time.sleep(POLL)


class _Lock:
    """One object, made and replaced on the condition that it is as it was last seen: of many, one succeeds."""

    def __init__(self, objects: ConditionalObjects, machine: str) -> None:
        self._objects, self._self = objects, _Self(machine)
        self._version: Version | None = None  # of the object while it is ours

    def take(self, said: Said) -> None:
        others = _Others(self._objects.address, said)
        replaced: Version | None = None  # what is nobody's any more; None: make it
        while not self._put("holding", replaced):
            found, replaced = self._objects.get_version(LOCK), None
            if found is None:
                continue
            sign, version = _parsed(found[0]), found[1]
            if sign is None or sign.state == "released" or sign.machine == self._self.machine:
                replaced = version  # nobody's, or of a process that died on this machine: we hold the lock that it held
            elif others.changed(sign.survey, sign.beat):
                raise others.refuse(sign.host)
            elif others.is_dead(sign.survey):
                replaced = version
            else:
                others.wait()

    def renew(self) -> bool:
        if self._put("holding", self._version):
            return True
        found = self._objects.get_version(LOCK)
        sign = None if found is None else _parsed(found[0])
        if found is None or sign is None or sign.survey != self._self.name:
            self._version = None
            return False
        self._version = found[1]  # our own, whose answer did not reach us
        return True

    def release(self) -> None:
        if self._version is not None:  # no store deletes on a condition: what is let go says so
            self._put("released", self._version)

    def _put(self, state: Literal["holding", "released"], version: Version | None) -> bool:
        made = self._objects.put_if(LOCK, self._self.sign(state), version)
        self._version = made or self._version
        return made is not None


class _Listing:
    """Claims: each survey writes one of its own below ``.surveys/`` and then lists all.

    Of two that come at the same moment at least one sees the other, since a listing shows every object written before
    it. Who sees a claim that is held, or asked for under a lower name, goes away.
    """

    def __init__(self, objects: Objects, machine: str) -> None:
        self._objects, self._self = objects, _Self(machine)
        self._dead: set[str] = set()

    def take(self, said: Said) -> None:
        others = _Others(self._objects.address, said)
        while True:
            self._write("asking")
            rivals = self._rivals()
            if not rivals:
                self._write("holding")
                return
            for name, sign in rivals.items():
                if others.changed(name, sign.beat):
                    if sign.state == "holding" or name < self._self.name:
                        raise others.refuse(sign.host)
                elif others.is_dead(name):
                    self._bury(name)
            others.wait()

    def renew(self) -> bool:
        others = _signs(self._objects)
        mine = others.pop(self._self.name, None)
        if mine is None or any(sign.state == "holding" and name not in self._dead for name, sign in others.items()):
            return False
        self._write("holding")
        return True

    def release(self) -> None:
        self._objects.delete(f"{FOLDER}{self._self.name}.json")

    def _rivals(self) -> dict[str, SignOfLife]:
        others = _signs(self._objects)
        others.pop(self._self.name, None)
        for name in [name for name, sign in others.items() if sign.machine == self._self.machine]:
            self._bury(name)  # of a process that died on this machine: we hold the lock that it held
            del others[name]
        return {name: sign for name, sign in others.items() if name not in self._dead and sign.state != "released"}

    def _bury(self, name: str) -> None:
        self._dead.add(name)
        self._objects.delete(f"{FOLDER}{name}.json")

    def _write(self, state: Literal["asking", "holding"]) -> None:
        self._objects.put(f"{FOLDER}{self._self.name}.json", self._self.sign(state))


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
    thread = threading.Thread(target=lease.renew, daemon=True)
    try:
        lease.take(said)
        thread.start()
        yield lease
    finally:
        lease.release()
        if thread.ident is not None:  # it was started
            thread.join()


def beats(objects: Objects) -> dict[str, int]:
    """The last sign of life of each survey that holds the address."""
    return {name: sign.beat for name, sign in _signs(objects).items() if sign.state == "holding"}


def lives(objects: Objects, before: dict[str, int], since: float) -> bool:
    """Whether one of them gave another sign of life since that time of ``time.monotonic``; waits until one was due."""
    while True:
        now = beats(objects)
        if any(before.get(name, beat) != beat for name, beat in now.items()):
            return True
        if not before.keys() & now.keys() or time.monotonic() - since > 1.5 * BEAT:
            return False
        time.sleep(POLL)


def _signs(objects: Objects) -> dict[str, SignOfLife]:
    found = {}
    for key in objects.list(FOLDER):
        content = objects.get(key)
        sign = None if content is None else _parsed(content)
        if sign is not None:
            found[key.removeprefix(FOLDER).removesuffix(".json")] = sign
    return found


def _parsed(content: bytes) -> SignOfLife | None:
    """What is none of ours claims nothing."""
    try:
        return SignOfLife.model_validate_json(content)
    except ValidationError:
        return None
