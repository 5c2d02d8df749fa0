"""What the tables of a recording hold, for the recorder that writes them and for all who read them."""

import math
import re
from pathlib import Path

from theodolite.store.content import TableSchema, number, text, whole

WHEN = {"step": whole(0, 2**63 - 1), "epoch": whole(0, 2**63 - 1), "instrument": text()}  # a user may count in his way
NUMBER = number(-math.inf, math.inf, null=True)  # whatever an instrument found
SCHEMAS = {
    "numbers": TableSchema({**WHEN, "quantity": text(), "value": NUMBER}),
    "vectors": TableSchema({**WHEN, "quantity": text(), "place": whole(), "value": NUMBER}),  # a row an entry
    # What it took; of training, without any measuring, until then. By the clock that was given.
    "costs": TableSchema({**WHEN, "seconds": number(), "training_seconds": number()}),
    "failures": TableSchema({**WHEN, "error": text(), "message": text()}),
    "ledger": TableSchema(  # a row an instrument: how often it was asked, did and failed
        {
            "instrument": text(),
            "marks": NUMBER,  # of its schedule, which may be the user's own
            "asked": whole(),
            "measured": whole(),
            "failed": whole(),
            "skipped": whole(),
            "spent": number(),
            "last": number(null=True),
        },
        key=("instrument",),
    ),
}
SNAPSHOT = "snapshot-{:010d}.safetensors"  # by step


def snapshots(folder: Path) -> dict[int, Path]:
    """The snapshots of one recording by step, in order; a file of another name is none."""
    named = (
        (re.fullmatch(r"snapshot-([0-9]{10,19})\.safetensors", path.name), path) for path in folder.glob("snapshot-*")
    )
    return dict(sorted((int(found[1]), path) for found, path in named if found))
