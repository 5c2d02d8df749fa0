"""A server of a finished tiny survey."""

import threading

import pytest

import tiny as survey_of
from theodolite.serve import Server
from tiny import tiny

__all__ = ["tiny"]


@pytest.fixture
def directory(tiny, tmp_path):
    survey_of.run(tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def server(directory):
    with Server(directory) as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield started
        started.shutdown()
        thread.join()
