"""Any signal at any write, a terminal that closes, no home, few files: the same command again ends complete and alike.

A survey of the tiny study by the command line, in a fork of this process; it does what befalls it to itself, at a write
that is counted, so that nothing depends on time. `benchmarks/soak.py --faults all` does the same by chance, for long.
"""

import contextlib
import faulthandler
import os
import pty
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny as survey_of
from commands import called
from theodolite import cli, survey
from theodolite.cli.refused import sentence
from theodolite.store import lock

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # a fork beside torch's idle threads
WRITE = Path.write_bytes


def ends(directory: Path, number: int, befalls: Callable[[], object], fork: Callable[[], int] = os.fork) -> int:
    """The process of a survey that something befalls at this write, when half of the file is there."""
    child = fork()
    if child:
        return child
    faulthandler.disable()  # pytest's, which would tell of SEGV at length
    left = number

    def write(self: Path, content: bytes) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            Path.write_bytes = WRITE
            WRITE(self, content[: len(content) // 2])
            befalls()
        return WRITE(self, content)

    code = 99
    try:
        if fork is os.fork:
            with open(f"{directory}.said", "wb") as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
        sys.argv = ["theodolite", "run", "tiny", "--preset", "smoke", "--out", str(directory)]
        Path.write_bytes = write
        with survey_of.alone():
            cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        __import__("traceback").print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def said(directory: Path) -> str:
    return Path(f"{directory}.said").read_text()


def goes_on(directory: Path, right: dict[str, str]) -> None:
    """The same command again, undisturbed, ends with what an undisturbed survey has, and leaves nothing else."""
    with lock.hold(directory):  # nobody does any more
        pass
    done = called("run", "tiny", "--preset", "smoke", "--out", str(directory))
    assert done.returncode == 0, done.stderr
    assert survey_of.seen(directory) == right
    assert survey.status(directory)[0]["done"] == 6
    assert not list(directory.rglob("*.part"))
    assert {path.name for path in directory.iterdir()} == {
        ".lock", "theodolite.json", "tiny", "report.html", "report.md", "summary.png", "summary.svg",
    }  # fmt: skip


def itself(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.sampled(2)
# Writes: the mark, the plan, six records of five files, tables and pages.
@pytest.mark.parametrize(
    ("number", "at"),
    [
        *((signal.SIGTERM, at) for at in (0, 2, 19, 33, 40)),
        (signal.SIGHUP, 7),
        (signal.SIGHUP, 43),
        (signal.SIGINT, 36),
    ],
)
def test_a_program_that_is_told_to_end_says_how_to_go_on_and_leaves_nothing_half_done(
    number, at, tiny, whole, tmp_path
):
    directory = tmp_path / "r"
    # A shell that runs us behind has Ctrl-C ignored, and Ray takes TERM for itself.
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)
    _, status = os.waitpid(ends(directory, at, itself(number)), 0)
    signal.signal(number, before)
    assert os.waitstatus_to_exitcode(status) == 128 + number, said(directory)
    assert "Traceback" not in said(directory)
    assert not list(directory.rglob("*.part"))
    goes_on(directory, whole[1])


@pytest.mark.parametrize(
    ("number", "at"), [(signal.SIGKILL, 1), (signal.SIGKILL, 19), (signal.SIGKILL, 40), (signal.SIGSEGV, 7)]
)
def test_a_program_that_just_dies_costs_nothing_that_was_finished(number, at, tiny, whole, tmp_path):
    directory = tmp_path / "r"
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))
    _, status = os.waitpid(ends(directory, at, itself(number)), 0)
    resource.setrlimit(resource.RLIMIT_CORE, limits)
    assert os.waitstatus_to_exitcode(status) == -number
    goes_on(directory, whole[1])


@pytest.mark.parametrize("at", [1, 40])
def test_a_program_that_is_stopped_goes_on_where_it_was(at, tiny, whole, tmp_path):
    child = ends(tmp_path / "r", at, itself(signal.SIGSTOP))
    assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
    assert lock.is_held(tmp_path / "r") or at < 1  # and nobody takes its folder meanwhile
    refused = called("run", "tiny", "--preset", "smoke", "--out", str(tmp_path / "r"))
    os.kill(child, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, said(tmp_path / "r")
    assert refused.returncode == 2
    assert "another survey is writing" in refused.stderr
    goes_on(tmp_path / "r", whole[1])


@pytest.mark.parametrize("heard", [True, False], ids=["HUP is heard", "HUP is ignored"])
def test_a_terminal_that_closes_costs_nothing_that_was_finished(heard, tiny, whole, tmp_path):
    there, go, master = os.pipe(), os.pipe(), []

    def in_terminal() -> int:
        child, own = pty.fork()
        master.append(own)
        return child

    def wait() -> None:
        os.write(there[1], b"x")
        os.read(go[0], 1)

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL if heard else signal.SIG_IGN)
    child = ends(tmp_path / "r", 19, wait, in_terminal)
    signal.signal(signal.SIGHUP, before)
    os.read(there[0], 1)
    os.close(master[0])
    os.write(go[1], b"x")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for descriptor in (*there, *go):
        os.close(descriptor)
    assert code == (129 if heard else 2)
    goes_on(tmp_path / "r", whole[1])


@pytest.mark.parametrize("spare", [0, 3])
def test_few_files_that_may_be_open_are_said(spare, tiny, whole, tmp_path):
    def few() -> None:
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + spare, 4096))

    _, status = os.waitpid(ends(tmp_path / "r", 7, few), 0)
    assert os.waitstatus_to_exitcode(status) in (0, 2), said(tmp_path / "r")
    assert "Traceback" not in said(tmp_path / "r")
    goes_on(tmp_path / "r", whole[1])


def test_without_a_home_or_a_folder_for_temporary_files_a_survey_runs(tiny, whole, tmp_path):
    def nothing() -> None:
        os.environ.clear()
        os.environ["TMPDIR"] = os.environ["TMP"] = "/nowhere"
        tempfile.tempdir = None

    _, status = os.waitpid(ends(tmp_path / "r", 0, nothing), 0)
    assert os.waitstatus_to_exitcode(status) == 0, said(tmp_path / "r")
    goes_on(tmp_path / "r", whole[1])


def test_what_the_machine_refuses_is_a_sentence_and_what_is_our_fault_is_not():
    refused = [OSError(24, ""), OSError(11, ""), OSError(28, ""), OSError(5, ""), MemoryError()]
    refused += [
        RuntimeError("can't start new thread"),
        FileNotFoundError(2, "No usable temporary directory found in ['/x']"),
    ]
    assert all(map(sentence, refused))
    assert not any(map(sentence, [OSError(2, ""), PermissionError(13, ""), RuntimeError("x"), ValueError("x")]))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_an_answer_that_cannot_be_written_is_said(tmp_path, capfd):
    child = os.fork()
    if not child:
        with open("/dev/full", "wb") as full:
            os.dup2(full.fileno(), 1)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
        sys.argv = ["theodolite", "list"]
        code = 99
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert "the answer cannot be written: the disk that it goes to is full" in capfd.readouterr().err
