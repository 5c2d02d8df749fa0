"""Who may write at an address: several that come at once, one that died, one that slept and wakes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import fsspec
import pytest

from theodolite.errors import StoreError
from theodolite.store.remote import lease
from theodolite.store.remote.objects import Objects, connect

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


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    monkeypatch.setattr(lease, "BEAT", 0.05)
    monkeypatch.setattr(lease, "EXPIRY", 30.0)  # a busy machine may stop for a second: no death may follow from that
    monkeypatch.setattr(lease, "POLL", 0.01)
    yield connect("memory://lease")
    fsspec.filesystem("memory").rm("/lease", recursive=True)


def until(action: Callable[[], bool]) -> None:
    """Wait for what a thread does in its own time, on a machine that may be busy."""
    deadline = time.monotonic() + 30
    while not action():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def silent(words: str) -> None:
    pass


@pytest.mark.parametrize("spread", [0.0, 0.004, 0.02])
def test_of_many_that_come_at_once_never_two_hold_an_address_and_one_does(found: Objects, spread: float):
    for _ in range(4):
        inside, most, refused, start = [], [], [], threading.Barrier(5)

        def come(number: int, inside=inside, most=most, refused=refused, start=start) -> None:
            start.wait()
            try:
                with lease.hold(Slow(found.address, spread * number), f"machine {number}", silent):
                    inside.append(number)
                    most.append(len(inside))
                    time.sleep(0.03)
                    inside.remove(number)
            except StoreError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=come, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
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
        sleeper._write("holding")  # it had looked before it fell asleep, and writes when it wakes
        threading.Thread(target=sleeper.renew).start()
        until(lambda: bool(sleeper.lost))
        with pytest.raises(StoreError, match="another survey took memory://lease over, after 0 s"):
            sleeper.check()
        before = lease.beats(found)[second.name]
        until(lambda: lease.beats(found)[second.name] > before + 1)
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
