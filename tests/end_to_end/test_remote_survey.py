"""Results at an address through the command line: its driver killed, its server away, and nodes without its folder."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from commands import start
from s3 import BUCKET, SECRET, Server, content, server
from theodolite import execute, survey
from theodolite.report import text
from theodolite.store.remote.objects import connect
from tiny import Here

__all__ = ["server"]

SETTINGS = ["epochs=600", "batch_size=null"]
STUDY = ["simulate-function", "--preset", "smoke", *(word for text in SETTINGS for word in ("--set", text))]

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own: open sockets and files of the cluster


@pytest.fixture
def cluster(server: Server) -> Iterator[Cluster]:
    """A node whose working folder is not the driver's, and which has the environment that names the server."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield nodes
    nodes.shutdown()


def state(status: bytes | None) -> str | None:
    """What a status says, or none: a server over a folder shows half a file while it is written."""
    try:
        return json.loads(status or b"{}").get("state")
    except ValueError:
        return None


def done(place: str) -> dict[str, bytes]:
    """All files of the runs that are done there."""
    found = connect(place)
    names = [key for key in found.list() if key.endswith("/status.json")]
    folders = tuple(key[: -len("status.json")] for key in names if state(found.get(key)) == "done")
    return {key: found.get(key) or b"" for key in found.list() if key.startswith(folders)} if folders else {}


def wait_until(action: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not action():
        assert time.monotonic() < deadline, "the survey does not get that far"
        time.sleep(0.05)


def in_a_folder(directory: Path) -> dict[str, bytes]:
    """Tables and verdicts of the same survey, undisturbed, in this process, with its results in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "engine", lambda *_, **__: nullcontext(Here()))
        for _ in survey.run(survey.prepare(["simulate-function"], "smoke", overrides=SETTINGS), directory):
            pass
    (found,) = survey.findings(directory)
    shown = {f"{found.name}/tables/{table.name}.csv": text.csv(table) for table in found.tables}
    verdicts = json.dumps([verdict.model_dump(mode="json") for verdict in found.verdicts], indent=1, ensure_ascii=False)
    return {**shown, f"{found.name}/claims.json": f"{verdicts}\n".encode()}


def test_a_survey_goes_on_after_its_driver_was_killed_on_nodes_that_do_not_see_its_copy_and_waits_for_its_server(
    server: Server, cluster: Cluster, tmp_path: Path
):
    expected = in_a_folder(tmp_path / "folder")
    place = f"s3://{BUCKET}/survey"
    for name in ("first", "second", "cache"):
        (tmp_path / name).mkdir()
    # Below the driver's working folder, as each process sees its own: the driver's copy is nowhere for the nodes.
    environment = {**os.environ, "THEODOLITE_CACHE": "/proc/self/cwd/../cache"}

    first = start("run", *STUDY, "--jobs", "1", "--out", place, cwd=tmp_path / "first", env=environment)
    wait_until(lambda: bool(done(place)))
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate(timeout=60)
    kept = done(place)

    on_nodes = ["--engine", "ray", "--address", cluster.address, "--out", place]
    second = start("run", *STUDY, *on_nodes, cwd=tmp_path / "second", env=environment)
    wait_until(lambda: b"--engine ray" in (connect(place).get("simulate-function/plan.json") or b""))
    with server.overloaded():
        time.sleep(1)
    output, _ = second.communicate(timeout=200)
    assert second.returncode == 0, output
    assert f"Report: {place}/report.html" in output
    found = content(place)
    runs = {key.rpartition("/")[0] for key in found if "/runs/" in key}
    assert 0 < len({key.rpartition("/")[0] for key in kept}) < len(runs)
    assert {key: found[key] for key in kept} == kept
    assert {key: found[key] for key in expected} == expected
    assert len([key for key in found if "/figures/" in key]) > 5
    assert not list((tmp_path / "cache").glob("remote/*/results"))
    assert not any(SECRET.encode() in value for value in found.values())
    assert place.encode() in found["simulate-function/plan.json"]  # the command that makes it again
