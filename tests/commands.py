"""The command line as a user runs it, in a process of its own or in this one, and what a survey left behind."""

import io
import signal
import subprocess
import sys
import time
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from theodolite import cli, execute
from theodolite.figures import render
from tiny import Here

LONG = ["--preset", "smoke", "--set", "epochs=800", "--set", "batch_size=null", "--seeds", "4"]


def theodolite(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "theodolite", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, **options)


def called(*arguments: str, cwd: Path | None = None, pictures: bool = True) -> subprocess.CompletedProcess[str]:
    """The same in this process, which saves three seconds of imports: for what says or shows something, and ends.

    Without pictures where nobody looks at them: they take longer than the trainings.
    """
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["theodolite", *arguments])
        patch.delenv("THEODOLITE_DEBUG", raising=False)
        if not pictures:
            patch.setattr(render, "save", lambda *_, **__: None)
        if cwd is not None:
            patch.chdir(cwd)
        try:
            cli.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def alone(*arguments: str, pictures: bool = True) -> subprocess.CompletedProcess[str]:
    """The same with its jobs in this process as well, which saves each worker's imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "engine", lambda *_, **__: nullcontext(Here()))
        return called(*arguments, pictures=pictures)


def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "theodolite", *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where a shell runs us behind
    )


def wait_for_runs(directory: Path, state: str, count: int) -> None:
    deadline = time.monotonic() + 120
    while sum(f'"state": "{state}"' in p.read_text() for p in directory.glob("*/runs/*/status.json")) < count:
        assert time.monotonic() < deadline, "no run got that far"
        time.sleep(0.02)


def tables(directory: Path) -> dict[str, bytes]:
    """Every table and verdict of a survey, byte by byte."""
    found = [*directory.glob("*/tables/*"), *directory.glob("*/claims.json")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def finished(directory: Path) -> dict[str, int]:
    """Runs that are done, with the time their status was written."""
    done = [p for p in directory.glob("*/runs/*/status.json") if '"state": "done"' in p.read_text()]
    return {path.parent.name: path.stat().st_mtime_ns for path in done}
