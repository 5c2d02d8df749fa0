"""The core without what only POSIX has, and with processes that start afresh, as on Windows and macOS."""

import ast
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from theodolite import machine
from theodolite.store import lock
from without import CORE, python

POSIX = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline"}
SOURCE = Path(machine.__file__).parent

SPAWNED = """
import multiprocessing, os
from pathlib import Path

from theodolite.execute.local import Local
from theodolite.store import lock


def double(job, progress):
    return 2 * job


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    assert not hasattr(os, "fork")
    ends = [event.value for event in Local(2).run(double, [1, 2, 3]) if event.kind == "done"]
    assert sorted(ends) == [2, 4, 6], ends
    folder = Path("held")
    folder.mkdir()
    assert not lock.is_held(folder)
    with lock.hold(folder):
        assert lock.is_held(folder)
    assert not lock.is_held(folder)
"""


def test_no_file_imports_what_only_posix_has_where_it_is_loaded():
    for path in SOURCE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in getattr(node, "names", [])] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not POSIX & {name.partition(".")[0] for name in names}, path


def test_the_core_runs_without_what_only_posix_has(tmp_path):
    done = python(CORE, hidden=[*POSIX, "os"], here=tmp_path)
    assert done.returncode == 0, done.stderr


def test_workers_and_locks_do_without_it_too(tmp_path):
    done = python(SPAWNED, hidden=[*POSIX, "os"], here=tmp_path)
    assert done.returncode == 0, done.stderr


def test_without_the_systems_own_count_peak_memory_is_the_one_that_psutil_tells(monkeypatch):
    told = ModuleType("psutil")
    told.Process = lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123))  # as on Windows
    monkeypatch.setitem(sys.modules, "psutil", told)
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(machine, "Path", lambda _: Path("/nowhere"))
    assert machine.peak_memory() == 123


def test_a_lock_is_seen_where_the_system_has_no_flock(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert not lock.is_held(tmp_path)
    with lock.hold(tmp_path):
        assert lock.is_held(tmp_path)
    assert not lock.is_held(tmp_path)
