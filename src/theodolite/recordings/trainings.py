"""What each recording is of, how far its training came, and what ended it."""

from typing import Any

import pandas as pd

from theodolite.store import lock
from theodolite.store.record import read_metadata, read_status
from theodolite.store.recorded import SCHEMAS
from theodolite.store.records import Records

NAME = "recorder"  # of the recordings in a results folder, where a study has its own
TABLES = tuple(SCHEMAS)
FACTS = ("model", "parameters", "steps", "epochs", "training_seconds", "ended_by")


def trainings(records: Records[Any]) -> pd.DataFrame:
    """A row a training: fingerprint, seed, labels, status, and what its recorder noted beside.

    ``status`` is ``running`` while somebody records; ``interrupted`` where the training was killed, or ended by an
    error or with its program, so that ``Recorder(resume=True)`` goes on with it; else ``done``.
    """
    labels = list(dict.fromkeys(name for item in records.plan.runs for name in item.labels))
    rows = []
    for item in records.plan.runs:
        folder = records.directory / records.plan.study / "runs" / item.fingerprint
        status, facts = read_status(folder), {}
        if status is not None and status.readable:
            facts = read_metadata(folder, status).model_dump()
        running, whole = lock.is_held(folder), status is not None and status.state == "done"
        ended_by = facts.get("ended_by", "") if whole else "a kill"  # nobody was left to write more
        done = whole and not ended_by
        rows.append(
            {"fingerprint": item.fingerprint, "seed": item.seed}
            | {label: item.labels.get(label) for label in labels}
            | {"status": "running" if running else "done" if done else "interrupted"}
            | {name: facts.get(name) for name in FACTS}
            | {"ended_by": "" if running else ended_by}
        )
    return pd.DataFrame(rows)
