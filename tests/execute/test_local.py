"""The local engine, on work that sleeps, fails and dies for real."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs import die_first_time, fail_on_two, outcomes
from theodolite.errors import StoreError
from theodolite.execute import local
from theodolite.execute.schedule import Emit


def square(job: int, emit: Emit) -> int:
    emit(1)
    return job * job


def die_always(job: int, emit: Emit) -> int:
    if job == 0:
        os._exit(7)
    return job


def refuse(job: int, emit: Emit) -> None:
    raise StoreError("the disk is full")


def sleep(job: float, emit: Emit) -> None:
    time.sleep(job)


def begin(job: float, emit: Emit) -> None:
    emit(1)
    time.sleep(job)


def test_every_job_is_done_once_whatever_the_number_of_workers():
    for workers in (1, 3):
        events = list(local.Local(workers).run(square, range(7)))
        assert outcomes(events) == {n: n * n for n in range(7)}
        assert [e.kind for e in events].count("done") == 7


def test_a_job_that_raises_fails_with_its_reason_and_the_others_are_done():
    events = list(local.Local(2).run(fail_on_two, range(4)))
    found = outcomes(events)
    assert found[2] == "ValueError: two is not allowed (jobs.py, line 13)"
    assert {n: found[n] for n in (0, 1, 3)} == {0: 0, 1: 1, 3: 3}


def test_a_job_whose_worker_is_killed_is_started_again(tmp_path):
    ends = ["SIGKILL", "SIGSEGV", "SIGTERM"]
    events = list(local.Local(2).run(die_first_time, [str(tmp_path / f"mark.{end}") for end in ends]))
    assert outcomes(events) == dict.fromkeys(range(3), "survived")
    died = {event.job: event.value for event in events if event.kind == "died"}
    assert died == {n: f"exit code {-getattr(signal, end)}" for n, end in enumerate(ends)}


def test_a_job_that_kills_every_worker_fails_after_three_tries_and_the_rest_goes_on():
    events = list(local.Local(2).run(die_always, range(4)))
    found = outcomes(events)
    assert "died 3 times (exit code 7" in str(found[0])
    assert [found[n] for n in (1, 2, 3)] == [1, 2, 3]
    assert [e.kind for e in events if e.job == 0].count("started") == 3


def test_a_worker_that_cannot_write_stops_the_survey_with_the_reason():
    with pytest.raises(StoreError, match="the disk is full"):
        list(local.Local(2).run(refuse, range(3)))


def test_closing_the_iterator_kills_the_workers_at_once():
    took: list[float] = []
    while not took or (min(took) >= 2 and len(took) < 3):  # others may be using the machine
        events = local.Local(2).run(sleep, [60.0, 60.0])
        assert next(events).kind == "started"
        started = time.monotonic()
        events.close()
        took.append(time.monotonic() - started)
    assert min(took) < 2


def test_workers_of_a_killed_parent_end_too(tmp_path):
    script = (
        "import sys; from theodolite.execute import local; import test_local\n"
        "for event in local.Local(2).run(test_local.begin, [600.0, 600.0]):\n"
        "    print(event.kind, flush=True)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert parent.stdout is not None
    with parent.stdout:
        begun = 0
        while begun < 2:
            begun += "progress" in parent.stdout.readline()
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) >= 2
    os.kill(int(children[-1]), signal.SIGSTOP)  # that one sees nothing by itself
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while any(_runs(int(child)) for child in children):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_job_starts_when_those_it_waits_for_are_done_and_fails_with_them():
    after = {0: (3,), 1: (2, 3), 4: (1,)}
    events = list(local.Local(2).run(fail_on_two, range(5), after=after))
    order = [event.job for event in events if event.kind in ("done", "failed")]
    assert order.index(0) > order.index(3)
    found = outcomes(events)
    assert found[1] == found[4] == "what it needs failed"
    assert found[0] == 0
