"""Studies of one's own in files of a few lines, run in this process; a run that raises fails, as in a worker."""

import textwrap
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from commands import called
from theodolite import execute
from theodolite.execute.local import explain
from theodolite.execute.schedule import Event, Work
from tiny import Here

HEAD = "import theodolite as th\nstudy = th.study('own', question='Is it so?', seeds=4)\n"


class Forgiving(Here):
    """An engine without processes, whose jobs fail as those of workers do."""

    def run(self, work: Work, jobs: list[object], **_: object) -> Iterator[Event]:
        for number, job in enumerate(jobs):
            yield Event("started", number)
            try:
                yield Event("done", number, work(job, lambda value: None))
            except Exception as error:
                yield Event("failed", number, explain(error))


Write = Callable[..., Path]
Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of a study: its head, and what the test says."""

    def written(body: str, name: str = "file.py", head: str = HEAD) -> Path:
        path = tmp_path / name
        path.write_text(head + textwrap.dedent(body))
        return path

    return written


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``theodolite run`` of a file into the folder ``r``."""
    monkeypatch.setattr(execute, "engine", lambda *_, **__: nullcontext(Forgiving()))

    def ran(path: object, *arguments: str, pictures: bool = False) -> CompletedProcess[str]:
        return called("run", str(path), "--out", str(tmp_path / "r"), *arguments, pictures=pictures)

    return ran
