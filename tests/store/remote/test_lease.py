"""Who may write at an address: several that come at once, one that died, one that slept and wakes.

First at a place without conditional puts, then at one with them (``Conditional``), then at servers of S3's protocol.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any

import fsspec
import pytest

from s3 import address, conditional_address, server
from theodolite.errors import StoreError
from theodolite.store.remote import lease
from theodolite.store.remote.objects import ConditionalObjects, Objects, Version, connect

__all__ = ["address", "conditional_address", "server"]  # fixtures

HOSTILE = b'{"state": "holding", "beat": 1, "machine": "m", "host": "\\u001b[31m"}'


class Slow:
    """Objects at an address, each request with a delay of its own: what takes turns by luck does so no more."""

    def __init__(self, address: str, delay: float) -> None:
        self.address, self.delay, self._objects = address, delay, connect(address)

    def list(self, folder: str = "") -> dict[str, int]:
        time.sleep(self.delay)
        return self._objects.list(folder)

    def get(self, key: str) -> bytes | None:
        time.sleep(self.delay / 3)
        return self._objects.get(key)

    def put(self, key: str, content: bytes) -> None:
        time.sleep(self.delay)
        self._objects.put(key, content)

    def delete(self, key: str) -> None:
        self._objects.delete(key)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.05)
    monkeypatch.setattr(lease, "EXPIRY", 30.0)  # a busy machine may stop for a second: no death may follow from that
    monkeypatch.setattr(lease, "POLL", 0.01)


@pytest.fixture
def found() -> Iterator[Objects]:
    yield connect("memory://lease")
    with suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm("/lease", recursive=True)


def until(action: Callable[[], bool]) -> None:
    """Wait for what a thread does in its own time, on a machine that may be busy."""
    deadline = time.monotonic() + 30
    while not action():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def silent(words: str) -> None:
    pass


def at_once(
    hold: Callable[[int], AbstractContextManager[Any]], stay: float | None = None
) -> tuple[list[int], list[str]]:
    """Five claimants: how many were inside as each came in, and what the others were told.

    Who is inside stays for some seconds; None: until all others were told.
    """
    inside, most, refused, start = [], [], [], threading.Barrier(5)

    def come(number: int) -> None:
        start.wait()
        try:
            with hold(number):
                inside.append(number)
                most.append(len(inside))
                time.sleep(stay) if stay is not None else until(lambda: len(refused) == 4)
                inside.remove(number)
        except StoreError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=come, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return most, refused


@pytest.mark.parametrize("spread", [0.0, 0.004, 0.02])
def test_of_many_that_come_at_once_never_two_hold_an_address_and_one_does(found: Objects, spread: float):
    for _ in range(4):
        most, refused = at_once(
            lambda number: lease.hold(Slow(found.address, spread * number), f"machine {number}", silent),
            stay=0.03,
        )
        assert len(most) + len(refused) == 5
        assert set(most) == {1}
        assert all("another survey" in words and "is writing into memory://lease" in words for words in refused)
        assert found.list() == {}


def test_who_comes_while_it_is_held_is_refused_and_the_holder_keeps_it(found: Objects):
    with lease.hold(found, "one", silent) as first:
        for _ in range(3):
            with pytest.raises(StoreError, match=r"is writing into memory://lease\. Wait for it"), held(found, "other"):
                pass
        first.check()
        assert len(lease.beats(found)) == 1
    assert found.list() == {}


def test_who_died_is_followed_after_a_while_without_a_sign_and_at_once_on_its_own_machine(
    found: Objects, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lease, "EXPIRY", 1.0)
    said = []
    for machine in ("other", "one"):
        dead = lease.Lease(found, "one")
        dead.take(silent)
        started = time.monotonic()
        with lease.hold(found, machine, said.append):
            waited = time.monotonic() - started
            assert (waited >= lease.EXPIRY) == (machine == "other")
            assert len(lease.beats(found)) == 1
    assert said == ["memory://lease was left by another survey, it seems; 1 seconds will tell."]


def test_who_slept_while_another_took_over_is_told_when_it_wakes(found: Objects, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lease, "EXPIRY", 0.4)
    sleeper = lease.Lease(found, "one")
    sleeper.take(silent)
    with lease.hold(found, "other", silent) as second:
        sleeper._protocol._write("holding")  # it had looked before it fell asleep, and writes when it wakes
        threading.Thread(target=sleeper.renew).start()
        until(lambda: bool(sleeper.lost))
        with pytest.raises(StoreError, match="another survey took memory://lease over, after 0 s"):
            sleeper.check()
        name = second._protocol._self.name
        before = lease.beats(found)[name]
        until(lambda: lease.beats(found)[name] > before + 1)
        second.check()


def test_a_holder_that_cannot_reach_the_address_for_a_while_keeps_it_if_nobody_came(
    found: Objects, monkeypatch: pytest.MonkeyPatch
):
    def unreachable(*_: object) -> dict[str, int]:
        raise StoreError("it does not answer")

    with lease.hold(found, "one", silent) as first:
        with monkeypatch.context() as patch:
            patch.setattr(type(found), "list", unreachable)
            time.sleep(3 * lease.BEAT)
        before = lease.beats(found)
        until(lambda: lease.beats(found) != before)
        first.check()


def test_onlookers_tell_a_living_survey_from_a_dead_one(found: Objects):
    dead = lease.Lease(found, "one")
    dead.take(silent)  # and no thread renews it
    assert not lease.lives(found, lease.beats(found), time.monotonic())
    dead.release()
    assert not lease.lives(found, lease.beats(found), time.monotonic())
    with lease.hold(found, "one", silent):
        until(lambda: lease.lives(found, lease.beats(found), time.monotonic()))


def test_what_is_no_claim_among_the_claims_keeps_nobody_out(found: Objects):
    for name, content in (("a.json", b"{"), ("b.json", b'{"state": "dancing"}'), ("d.json", HOSTILE), ("c", b"\xff")):
        found.put(f"{lease.FOLDER}{name}", content)
    with held(found, "one"):
        assert len(lease.beats(found)) == 1


def held(found: Objects, machine: str):
    return lease.hold(found, machine, silent)


def test_an_address_that_cannot_be_written_is_said_and_leaves_no_thread(
    found: Objects, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise StoreError("the credentials do not allow it")

    before = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(type(found), "put", refuse)
        with pytest.raises(StoreError, match="do not allow"), held(found, "one"):
            pass
    assert threading.active_count() == before
    with suppress(StoreError), held(found, "one"):
        raise StoreError("what a survey says")


class Conditional:
    """Objects in memory whose puts heed a condition, each request with a delay of its own."""

    address = "memory://conditional"

    def __init__(self, delay: float = 0.0, shared: "Conditional | None" = None) -> None:
        self.delay = delay
        self.found: dict[str, tuple[bytes, int]] = {} if shared is None else shared.found
        self.lock = threading.Lock() if shared is None else shared.lock

    def list(self, folder: str = "") -> dict[str, int]:
        with self.lock:
            return {key: len(content) for key, (content, _) in self.found.items() if key.startswith(folder)}

    def get(self, key: str) -> bytes | None:
        return self.found[key][0] if key in self.found else None

    def put(self, key: str, content: bytes) -> None:
        with self.lock:
            self.found[key] = content, self.found.get(key, (b"", 0))[1] + 1

    def delete(self, key: str) -> None:
        with self.lock:
            self.found.pop(key, None)

    def version(self, key: str) -> Version | None:
        return {"e_tag": str(self.found[key][1])} if key in self.found else None

    def get_version(self, key: str) -> tuple[bytes, Version] | None:
        time.sleep(self.delay / 3)
        with self.lock:
            version = self.version(key)
            return None if version is None else (self.found[key][0], version)

    def put_if(self, key: str, content: bytes, version: Version | None) -> Version | None:
        time.sleep(self.delay)
        with self.lock:
            if self.version(key) != version:
                return None
            self.found[key] = content, self.found.get(key, (b"", 0))[1] + 1
            return self.version(key)


@pytest.fixture
def store() -> Conditional:
    return Conditional()


def come_at_once(place: Conditional, spread: float = 0.0) -> tuple[list[int], list[str]]:
    """Five claimants of a store with conditional puts."""
    return at_once(lambda number: held(Conditional(spread * number, place), f"machine {number}"))


@pytest.mark.parametrize("spread", [0.0, 0.01])
def test_of_many_at_once_exactly_one_gets_the_lock_of_a_store_with_conditional_puts(store: Conditional, spread: float):
    for _ in range(4):
        most, refused = come_at_once(store, spread)
        assert most == [1]
        assert len(refused) == 4
        assert all("another survey" in words for words in refused)
        assert list(store.list()) == [lease.LOCK]
        assert lease.beats(store) == {}  # it was let go


def test_a_stale_lock_is_taken_over_by_exactly_one(store: Conditional, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lease, "EXPIRY", 0.5)
    lease.Lease(store, "died").take(silent)
    most, refused = come_at_once(store, 0.01)
    assert most == [1]
    assert len(refused) == 4


def test_who_loses_the_lock_while_it_sleeps_is_told_and_does_not_let_go_what_is_anothers(
    store: Conditional, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lease, "EXPIRY", 0.4)
    sleeper = lease.Lease(store, "one")
    sleeper.take(silent)
    with held(store, "other") as second:
        sleeper.renew()
        with pytest.raises(StoreError, match="another survey took"):
            sleeper.check()
        sleeper.release()
        before = lease.beats(store)
        until(lambda: lease.beats(store) != before)
        second.check()
    assert lease.beats(store) == {}


def test_who_is_refused_leaves_the_lock_to_its_holder(store: Conditional):
    with held(store, "one") as first:
        for _ in range(3):
            with pytest.raises(StoreError, match="another survey"), held(store, "other"):
                pass
        time.sleep(3 * lease.BEAT)
        first.check()
        assert len(lease.beats(store)) == 1


def test_a_lock_of_this_machines_own_dead_process_and_one_that_is_no_lock_are_taken_at_once(store: Conditional):
    lease.Lease(store, "one").take(silent)
    with held(store, "one"):
        pass
    for content in (b"{", b"\xff", b'{"state": "dancing"}', HOSTILE):
        store.put(lease.LOCK, content)
        with held(store, "m"):
            assert len(lease.beats(store)) == 1


def test_a_sign_of_life_whose_answer_was_lost_is_known_as_ones_own(store: Conditional):
    with held(store, "one") as first:
        version = first._protocol._version
        until(lambda: first._protocol._version != version)
        first._protocol._version = version
        time.sleep(3 * lease.BEAT)
        first.check()


class Ignoring(Conditional):
    """A server that takes a condition and writes all the same: creates (1), replaces (2), or refuses to hear (3)."""

    def __init__(self, fault: int) -> None:
        super().__init__()
        self.fault = fault

    def put_if(self, key: str, content: bytes, version: Version | None) -> Version | None:
        if self.fault == 3:
            raise NotImplementedError
        if (version is None) == (self.fault == 1):
            version = self.version(key)
        return super().put_if(key, content, version)


@pytest.mark.parametrize("fault", [1, 2, 3])
def test_a_server_that_ignores_conditions_is_noticed_and_claims_are_listed_instead(fault: int):
    place = Ignoring(fault)
    assert not lease.heeds_conditions(place)
    with held(place, "one"):
        assert lease.LOCK not in place.list()
        with pytest.raises(StoreError, match="another survey"), held(place, "other"):
            pass
    assert place.list() == {}


def test_an_s3_server_that_ignores_conditions_is_noticed(address: str):
    place = connect(address)
    assert isinstance(place, ConditionalObjects)
    assert not lease.heeds_conditions(place)
    assert place.list() == {}


def test_an_s3_server_that_heeds_conditions_is_asked_for_a_lock(conditional_address: str):
    place = connect(conditional_address)
    assert lease.heeds_conditions(place)
    with held(place, "one"):
        assert list(place.list()) == [lease.LOCK]
        with pytest.raises(StoreError, match="another survey"), held(place, "other"):
            pass
        assert len(lease.beats(place)) == 1
    assert lease.beats(place) == {}
    with held(place, "other"):
        assert len(lease.beats(place)) == 1
