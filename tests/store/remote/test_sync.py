"""Which side of a record counts when a folder and an address are made the same."""

import pytest

from theodolite.store.remote.sync import Side, winner
from theodolite.store.schema import Status

DONE, RUNNING, FAILED = (Status(fingerprint="0" * 16, state=state) for state in ("done", "running", "failed"))


@pytest.mark.parametrize(
    ("local", "remote", "in_survey", "in_reader"),
    [
        (DONE, RUNNING, Side.LOCAL, Side.REMOTE),
        (DONE, FAILED, Side.LOCAL, Side.REMOTE),
        (DONE, None, Side.LOCAL, Side.NEITHER),
        (DONE, DONE, Side.REMOTE, Side.REMOTE),
        (RUNNING, DONE, Side.REMOTE, Side.REMOTE),
        (RUNNING, FAILED, Side.REMOTE, Side.REMOTE),
        (RUNNING, None, Side.NEITHER, Side.NEITHER),
        (None, RUNNING, Side.REMOTE, Side.REMOTE),
        (None, None, Side.NEITHER, Side.NEITHER),
    ],
)
def test_what_is_finished_on_one_side_alone_wins_and_a_reader_never_uploads(local, remote, in_survey, in_reader):
    assert winner(local, remote, survey=True) is in_survey
    assert winner(local, remote, survey=False) is in_reader
