"""A disk that is full, a folder that may not be written, two surveys at once, a clock that goes backwards."""

import errno
import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

import tiny as survey_of
from theodolite import report, survey
from theodolite.errors import StoreError, VersionMismatch
from theodolite.store import files, lock, records


def everything(directory: Path) -> None:
    """A survey from the start to the page."""
    survey_of.run(directory)
    report.build(directory, survey.findings(directory))


def complaint(action, directory: Path) -> str:
    """What an action says that cannot be done; nothing where it can."""
    try:
        action(directory)
    except StoreError as error:
        return str(error)
    return ""


@pytest.mark.thorough
def test_a_disk_that_is_full_at_any_write_is_said_and_costs_nothing_that_was_finished(
    whole, tiny, tmp_path, monkeypatch
):
    right, write = whole[1], Path.write_bytes
    for fatal in itertools.count():
        directory, count = tmp_path / str(fatal), itertools.count()

        def failing(self: Path, content: bytes, count=count, fatal=fatal) -> int:
            if next(count) >= fatal:
                write(self, content[: len(content) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(self, content)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", failing)
            said = complaint(everything, directory)
        if not said:
            break
        assert "the disk is full. Free some space" in said
        assert not list(directory.rglob("*.part"))
        kept = survey.status(directory)[0]["done"] if (directory / "tiny" / "plan.json").exists() else 0
        survey_of.run(directory)
        assert survey.status(directory)[0]["done"] == 6 >= kept
        assert survey_of.seen(directory) == right
    assert fatal > 40  # mark, plan, six records of four or five files and a start each, then the report


def test_a_real_disk_that_is_full_is_said(whole, tiny, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:  # not root: the kernel refuses larger files all the same
        with pytest.raises(StoreError, match="ulimit -f"), limited_files(3000):
            survey_of.run(disk / "results")
    try:
        if not mounted.returncode:
            with pytest.raises(StoreError, match=r"the disk is full\. Free some space"):
                survey_of.run(disk / "results")
            subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        survey_of.run(disk / "results")
        assert survey_of.seen(disk / "results") == whole[1]
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", disk], check=True)


class limited_files:  # noqa: N801 - a context manager, named like one
    """No file of this process may be larger than this."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
        signal.signal(signal.SIGXFSZ, self.handler)


def test_a_file_larger_than_the_kernel_allows_is_said_and_the_old_one_stays(tmp_path):
    files.write(tmp_path / "table", b"old")
    with limited_files(1000), pytest.raises(StoreError, match=r"table: it would be larger.*ulimit -f"):
        files.write(tmp_path / "table", bytes(2000))
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("table", b"old")]


def as_nobody(action, directory: Path) -> str:
    """What an action says in a process that may not write here, whoever runs the tests."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            said = repr(action(directory))
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        theirs.send(said)
        os._exit(0)
    said = ours.recv()
    os.waitpid(child, 0)
    return said


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # a fork beside torch's idle threads
def test_a_folder_that_may_only_be_read_is_read_and_not_written(whole, tiny):
    source, right = whole
    directory = Path(os.path.realpath("/tmp")) / f"theodolite-{os.getpid()}"  # where others may look
    shutil.copytree(source, directory)
    try:
        shutil.rmtree(min((directory / "tiny" / "runs").iterdir()))
        for path in [directory, *directory.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        assert "NotWritable: cannot write" in as_nobody(survey_of.run, directory)
        assert "--out" in as_nobody(survey_of.run, directory)
        assert "'running': 0" in as_nobody(survey.status, directory)
        assert "'left': 1" in as_nobody(survey.status, directory)
        seen = as_nobody(lambda d: survey_of.seen(d)["moved"], directory)
        assert seen == repr(right["moved"])
        assert "cannot write" in as_nobody(lambda d: report.build(d, survey.findings(d)), directory)
    finally:
        for path in [directory, *directory.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(directory)


def test_of_surveys_that_start_at_the_same_moment_one_runs_and_the_others_say_why_not(whole, tiny, tmp_path):
    said, start = [], threading.Barrier(4)

    def one() -> None:
        start.wait()
        try:
            survey_of.run(tmp_path / "results")
            said.append("done")
        except StoreError as error:
            said.append(str(error))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "done" in said
    assert all(words == "done" or "another survey is writing" in words for words in said)
    assert survey_of.seen(tmp_path / "results") == whole[1]


def test_a_survey_starts_while_others_ask_whether_the_folder_is_held(tiny, tmp_path):
    directory = tmp_path / "results"
    survey_of.run(directory)
    stop = threading.Event()
    asked = []

    def ask() -> None:
        while not stop.is_set():
            asked.append(lock.is_held(directory))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            with lock.hold(directory):
                assert lock.is_held(directory)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert asked
    assert not lock.is_held(directory)


def test_a_part_that_another_process_swept_away_is_written_again(tmp_path, monkeypatch):
    replace, swept = Path.replace, []

    def swept_once(self: Path, target: Path) -> Path:
        if not swept:
            swept.append(self)
            files.sweep(tmp_path)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", swept_once)
    files.write(tmp_path / "table", b"new")
    assert swept
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("table", b"new")]


def test_a_clock_that_goes_backwards_changes_nothing(whole, tiny, tmp_path, monkeypatch):
    directory = tmp_path / "results"
    survey_of.run(directory)
    shutil.rmtree(min((directory / "tiny" / "runs").iterdir()))
    for path in directory.rglob("*"):
        os.utime(path, (2**32, 2**32))  # written in the year 2106, as it seems
    kept = {path: path.stat().st_mtime for path in directory.rglob("metrics.parquet")}
    back = itertools.count(10**9, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(back)))
    survey_of.run(directory)
    assert survey_of.seen(directory) == whole[1]
    assert all(path.stat().st_mtime == changed for path, changed in kept.items())


@pytest.mark.parametrize("found", ["1", "0", '"2"', "3", "null", "[2]", "1e400"])
def test_results_of_another_format_are_refused_by_every_reader_and_left_alone(whole, tiny, tmp_path, found):
    directory = tmp_path / "results"
    shutil.copytree(whole[0], directory)
    (directory / "theodolite.json").write_text(f'{{"format": {found}}}')
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    for act in (survey_of.run, survey.findings, survey.verdicts, survey.status, lambda d: records.read(d, "tiny")):
        with pytest.raises(VersionMismatch, match=r"expected a results folder of format 2.*theodolite\.json"):
            act(directory)
    assert before == {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_records_as_the_first_format_had_them_are_not_taken_for_finished(whole, tiny, tmp_path):
    directory = tmp_path / "results"
    shutil.copytree(whole[0], directory)
    status = next((directory / "tiny" / "runs").glob("*/status.json"))
    lines = [line for line in status.read_text().splitlines() if '"seal"' not in line and '"fingerprint"' not in line]
    status.write_text("\n".join(lines))
    assert survey.status(directory)[0]["left"] == 1
    survey_of.run(directory)
    assert survey_of.seen(directory) == whole[1]
