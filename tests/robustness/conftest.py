"""The tiny study, for every test here that asks for it."""

import pytest

import tiny as survey_of
from tiny import tiny

__all__ = ["tiny"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished survey of the tiny study, and what a reader sees of it."""
    directory = tmp_path_factory.mktemp("whole") / "results"
    with survey_of.alone():
        survey_of.run(directory)
        return directory, survey_of.seen(directory)
