"""A server of a finished tiny survey."""

import shutil
import threading

import pytest

import tiny as survey_of
from theodolite.serve import Server
from tiny import tiny

__all__ = ["tiny"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "results"
    with survey_of.alone():
        survey_of.run(directory)
    return directory


@pytest.fixture
def directory(whole, tiny, tmp_path):
    """A copy of it for each test."""
    return shutil.copytree(whole, tmp_path / "results")


@pytest.fixture
def server(directory):
    with Server(directory) as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield started
        started.shutdown()
        thread.join()
