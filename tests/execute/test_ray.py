"""The Ray engine on a real cluster of two nodes on this machine, whose workers and nodes are killed for real."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from jobs import die_first_time, fail_on_two, outcomes
from theodolite import execute
from theodolite.data import DataSpec, load
from theodolite.errors import SettingError, StoreError, UsageError
from theodolite.execute import ray as engine
from theodolite.execute.schedule import Emit

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own: open sockets and files of the cluster


@pytest.fixture
def carrier(cluster: Cluster) -> Iterator[execute.Engine]:
    with execute.engine("ray", address=cluster.address) as opened:
        yield opened


def square(job: int, emit: Emit) -> int:
    time.sleep(0.2)
    return job * job


def speak(job: int, emit: Emit) -> int:
    for step in range(15):
        emit(step)
        time.sleep(0.2)
    return job


def node(job: int, emit: Emit) -> str:
    time.sleep(0.3)
    return str(ray.get_runtime_context().get_node_id())


def die_when_large(job: tuple[int, ...], emit: Emit) -> tuple[int, ...]:
    if len(job) > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def wait_for_other_node(job: tuple[str, str], emit: Emit) -> str:
    here, doomed = str(ray.get_runtime_context().get_node_id()), job[0]
    if here == doomed:
        Path(job[1]).write_text("started")
        time.sleep(600)
    return here


def images(job: int, emit: Emit) -> float:
    return float(load(DataSpec(source="digits")).train_inputs.sum())


def refuse_at_first(job: str, emit: Emit) -> str:
    if not Path(job).exists():
        Path(job).touch()
        raise StoreError("the disk is full")
    return "written"


def always_refuse(job: int, emit: Emit) -> None:
    raise StoreError("the disk is full")


def test_every_job_is_done_once_by_both_nodes(carrier: execute.Engine):
    assert carrier.workers == 2
    events = list(carrier.run(square, range(7)))
    assert outcomes(events) == {n: n * n for n in range(7)}
    assert len(set(outcomes(list(carrier.run(node, range(6)))).values())) == 2


def test_progress_reaches_the_driver_while_a_job_runs(carrier: execute.Engine):
    events = list(carrier.run(speak, [0]))
    said = [event.value for event in events if event.kind == "progress"]
    assert said == sorted(said)
    assert said


def test_a_job_that_raises_fails_with_its_reason_and_so_does_what_waits_for_it(carrier: execute.Engine):
    found = outcomes(list(carrier.run(fail_on_two, range(5), after={4: {2}})))
    assert found[2].startswith("ValueError: two is not allowed (jobs.py, line ")
    assert found[4] == "what it needs failed"
    assert {n: found[n] for n in (0, 1, 3)} == {0: 0, 1: 1, 3: 3}


def test_a_job_whose_worker_is_killed_is_started_again(carrier: execute.Engine, tmp_path: Path):
    events = list(carrier.run(die_first_time, [str(tmp_path / f"mark{n}") for n in range(2)]))
    assert outcomes(events) == dict.fromkeys(range(2), "survived")
    assert [event.kind for event in events].count("died") == 2


def test_a_job_too_large_for_its_worker_is_done_in_smaller_parts(carrier: execute.Engine):
    events = list(
        carrier.run(
            die_when_large, [(1, 2, 3, 4), (5,)], split=lambda job: [job[: len(job) // 2], job[len(job) // 2 :]]
        )
    )
    assert sorted(event.value for event in events if event.kind == "done") == [(1,), (2,), (3,), (4,), (5,)]


def test_what_ran_on_a_node_that_dies_is_done_by_another(cluster: Cluster, carrier: execute.Engine, tmp_path: Path):
    doomed = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    mark = tmp_path / "mark"
    events = []
    for event in carrier.run(wait_for_other_node, [(doomed.node_id, str(mark))] * 6):
        events.append(event)
        if mark.exists() and doomed in cluster.worker_nodes:
            cluster.remove_node(doomed, allow_graceful=False)
    assert len(outcomes(events)) == 6
    assert doomed.node_id not in outcomes(events).values()
    assert [event.kind for event in events].count("died") == 1


def test_data_sets_enter_the_cache_of_a_node_that_has_none(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = images(0, print)
    monkeypatch.setattr("theodolite.data.digits.digits", None)  # the driver's copy is in its cache by now
    empty = cluster.add_node(num_cpus=1, env_vars={"THEODOLITE_CACHE": str(tmp_path / "cache")}, resources={"empty": 1})
    with execute.engine("ray", address=cluster.address) as carrier:
        carrier.equip(tmp_path, ["digits", "function:cos"])
        task = ray.remote(engine._carry).options(resources={"empty": 1})
        common = (images, tmp_path, carrier._sets, engine.describe()["versions"]["theodolite"])
        board = ray.remote(num_cpus=0)(engine._Board).remote()
        assert ray.get(task.remote(common, 0, 0, board)) == ("done", expected)
    assert (tmp_path / "cache" / "digits" / "manifest.json").exists()
    cluster.remove_node(empty)


def test_a_folder_that_cannot_be_written_for_a_while_delays_the_jobs(
    carrier: execute.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "PAUSE", 0.1)
    events = list(carrier.run(refuse_at_first, [str(tmp_path / f"mark{n}") for n in range(3)]))
    assert outcomes(events) == dict.fromkeys(range(3), "written")
    monkeypatch.setattr(engine, "PATIENCE", 0.5)
    with pytest.raises(StoreError, match="the disk is full"):
        list(carrier.run(always_refuse, range(3)))


def test_a_node_that_does_not_see_the_results_folder_is_named(
    carrier: execute.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "PATIENCE", 0.0)
    monkeypatch.setattr(engine, "PAUSE", 0.1)
    carrier.equip(tmp_path / "absent", [])
    with pytest.raises(StoreError, match=r"node [\d.]+ does not see .*absent"):
        list(carrier.run(square, range(2)))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:port"])
def test_an_address_where_no_cluster_answers_is_refused_with_what_to_do(address: str):
    with pytest.raises(UsageError, match="ray start --head"), execute.engine("ray", address=address):
        pass


@pytest.mark.parametrize(
    ("device", "said"),
    [("cuda", "a Ray cluster with a GPU .* got one with none"), ("cuda:1", "expected --device cuda with Ray")],
)
def test_a_gpu_that_no_job_could_get_is_refused_before_any_job_waits_for_it(cluster: Cluster, device: str, said: str):
    with pytest.raises(SettingError, match=said), execute.engine("ray", address=cluster.address, device=device):
        pass
    assert not ray.is_initialized()
