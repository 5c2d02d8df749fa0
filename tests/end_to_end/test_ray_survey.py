"""A survey over a Ray cluster of three nodes on this machine, with its driver and then a node killed midway."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from commands import LONG, alone, finished, start, tables, wait_for_runs

pytestmark = [
    pytest.mark.thorough,  # over an address, test_remote_survey.py does the same and more
    pytest.mark.filterwarnings("ignore"),  # Ray's own: open sockets and files of the cluster
]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


def test_a_survey_whose_driver_and_then_a_node_are_killed_ends_byte_for_byte_like_an_undisturbed_local_one(
    cluster: Cluster, tmp_path: Path
):
    undisturbed, directory = tmp_path / "undisturbed", tmp_path / "disturbed"
    local = alone("run", "simulate-function", *LONG, "--out", str(undisturbed), pictures=False)
    assert local.returncode == 0, local.stderr
    on_cluster = [
        "run", "simulate-function", *LONG, "--engine", "ray", "--address", cluster.address, "--out", str(directory),
    ]  # fmt: skip

    first = start(*on_cluster)
    wait_for_runs(directory, "done", 2)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=60)
    kept = finished(directory)
    assert 2 <= len(kept) < 24

    second = start(*on_cluster)
    wait_for_runs(directory, "done", len(kept) + 1)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    output, _ = second.communicate(timeout=200)
    assert second.returncode == 0, output
    assert {name: finished(directory)[name] for name in kept} == kept
    assert tables(directory) == tables(undisturbed)
