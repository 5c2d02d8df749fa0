"""What a look at the statuses of a study finds, and how many files it touches for that."""

import os
import random
import shutil
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from theodolite.serve import statuses as module
from theodolite.serve.statuses import Statuses
from theodolite.store import files, records
from theodolite.store.records import Planned, Status

TURN = 50


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """A look's turn is half the usual one."""
    monkeypatch.setattr(module, "TURN", TURN)


def planned(number, first=0):
    return tuple(Planned(fingerprint=f"{n:016x}", seed=n, labels={"model": "small"}) for n in range(first, number))


def put(folder, item, **fields):
    status = Status(fingerprint=item.fingerprint, **fields)
    files.write(folder / item.fingerprint / records.STATUS, status.sealed())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def looked_at(folder, plan):
    statuses = Statuses(folder)
    statuses.follow(plan)
    statuses.look()
    return statuses


@dataclass
class Touched:
    asked: int = 0  # for the time of a file or folder
    opened: int = 0
    listed: int = 0


def counting(touched, field, real):
    def call(*arguments, **named):
        setattr(touched, field, getattr(touched, field) + 1)
        return real(*arguments, **named)

    return call


@pytest.fixture
def touching(monkeypatch):
    """Count what Python asks the system for while a block runs."""

    @contextmanager
    def counted():
        touched = Touched()
        with monkeypatch.context() as patch:
            for name, field in (("stat", "asked"), ("open", "opened"), ("listdir", "listed"), ("scandir", "listed")):
                patch.setattr(os, name, counting(touched, field, getattr(os, name)))
            yield touched

    return counted


def test_a_look_costs_what_changed_and_not_what_is_there(folder, touching):
    plan = planned(4 * TURN)
    for item in plan[: 3 * TURN]:
        put(folder, item, state="done")
    for item in plan[3 * TURN : 3 * TURN + 5]:
        put(folder, item, state="running")
    statuses = looked_at(folder, plan)
    assert (len(statuses.done), len(statuses.running)) == (3 * TURN, 5)
    with touching() as touched:
        statuses.look()
    assert (touched.opened, touched.listed) == (0, 0)
    assert touched.asked <= 1 + 5 + TURN
    put(folder, plan[3 * TURN], state="done")
    put(folder, plan[-1], state="running")
    with touching() as touched:
        statuses.look()
    assert (touched.opened, touched.listed) == (2, 1)
    assert touched.asked <= 1 + 6 + TURN
    assert (len(statuses.done), len(statuses.running)) == (3 * TURN + 1, 5)


def test_what_is_done_again_is_seen_in_its_turn_or_at_once_where_all_is_looked_at(folder):
    plan = planned(4 * TURN)
    for item in plan:
        put(folder, item, state="done")
    for whole, looks in ((False, 5), (True, 1)):
        statuses = looked_at(folder, plan)
        again = random.Random(0).sample(plan, 9)
        for item in again:
            put(folder, item, state="running")
        for _ in range(looks):
            statuses.look(whole=whole)
        assert statuses.running == {item.fingerprint for item in again}
        assert len(statuses.done) == len(plan) - 9
        for item in again:
            put(folder, item, state="done")
        statuses.look()  # what is not done is looked at whenever it is its turn or not
        assert len(statuses.done) == len(plan)


def test_a_failed_run_that_is_tried_again_is_seen_before_its_turn(folder):
    plan = planned(3 * TURN)
    for item in plan:
        put(folder, item, state="failed", error="the barometer fell")
    statuses = looked_at(folder, plan)
    assert set(statuses.failed.values()) == {"the barometer fell"}
    put(folder, plan[-1], state="done", diverged_epoch=3)
    statuses.look()
    assert statuses.done == statuses.diverged == {plan[-1].fingerprint}
    assert len(statuses.failed) == len(plan) - 1


def test_a_record_that_is_removed_is_gone_at_the_next_look(folder):
    plan = planned(3 * TURN)
    for item in plan:
        put(folder, item, state="done")
    statuses = looked_at(folder, plan)
    shutil.rmtree(folder / plan[-1].fingerprint)
    changes = statuses.changes
    statuses.look()
    assert len(statuses.done) == len(plan) - 1
    assert statuses.changes == changes + 1
    shutil.rmtree(folder)
    statuses.look()
    assert statuses.done == set()


def test_another_plan_reads_only_what_was_not_known(folder, touching):
    plan = planned(100)
    for item in plan:
        put(folder, item, state="done")
    statuses = looked_at(folder, plan[:60])
    changes = statuses.changes
    with touching() as touched:
        statuses.follow(plan[:60])
        statuses.look()
    assert (touched.opened, statuses.changes) == (0, changes)
    statuses.follow(plan[20:])
    with touching() as touched:
        statuses.look()
    assert touched.opened == 40
    assert statuses.changes > changes
    assert statuses.done == {item.fingerprint for item in plan[20:]}
    statuses.follow(tuple(Planned(**{**dict(item), "labels": {"model": "large"}}) for item in plan[20:]))
    assert {item.labels["model"] for item in statuses.planned.values()} == {"large"}


def test_changes_are_those_of_what_may_be_read(folder):
    plan = planned(3)
    statuses = looked_at(folder, plan)

    def changed(*arguments, **fields):
        before = statuses.changes
        put(folder, plan[0], **fields)
        statuses.look()
        return statuses.changes > before

    assert not changed(state="running")
    assert changed(state="done", files={"metrics.parquet": "1"})
    assert not changed(state="done", files={"metrics.parquet": "1"})
    assert changed(state="done", files={"metrics.parquet": "2"})
    assert changed(state="failed", error="it fell")
    assert not changed(state="running")
    assert changed(state="running", partial=True)
    assert changed(state="running", partial=True)  # its tables have grown, which no checksum says


def test_any_story_ends_with_what_a_reader_of_all_files_finds(folder):
    chance = random.Random(7)
    plan = planned(40)
    statuses = looked_at(folder, plan)
    for _ in range(150):
        for _ in range(chance.randrange(4)):
            item = chance.choice(planned(44))
            place = folder / item.fingerprint
            match chance.randrange(7):
                case 0:
                    shutil.rmtree(place, ignore_errors=True)
                case 1:
                    (place / records.STATUS).unlink(missing_ok=True)
                case 2:
                    files.write(place / records.STATUS, b"no")
                case 3:
                    place.mkdir(exist_ok=True)
                case 4:
                    put(folder, item, state="failed", error=chance.choice(["it fell", "it rose"]))
                case _:
                    state = chance.choice(["running", "done", "done"])
                    put(folder, item, state=state, diverged_epoch=chance.choice([None, 1]))
        if chance.random() < 0.1:
            first = chance.randrange(10)
            plan = planned(first + 30, first)
            statuses.follow(plan)
        statuses.look()
        found = {item.fingerprint: records.read_status(folder / item.fingerprint) for item in plan}
        found = {name: status for name, status in found.items() if status is not None}
        assert list(statuses.planned) == [item.fingerprint for item in plan]
        assert statuses.done == statuses.readable == {n for n, s in found.items() if s.state == "done"}
        assert statuses.running == {n for n, s in found.items() if s.state == "running"}
        assert statuses.failed == {n: s.error for n, s in found.items() if s.state == "failed"}
        assert statuses.diverged == {n for n, s in found.items() if s.diverged_epoch is not None}
