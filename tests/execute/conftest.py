"""One real Ray cluster of two nodes on this machine, for the tests of one file here that ask for it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    shared = str(Path(__file__).parents[1])  # what tests share, which workers import by name
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", shared + os.pathsep + os.environ.get("PYTHONPATH", ""))
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        nodes.add_node(num_cpus=1)
        yield nodes
        nodes.shutdown()
