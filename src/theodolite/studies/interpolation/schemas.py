"""What the tables of the interpolation hold."""

import math

from theodolite.studies.interpolation.findings import MATCHINGS, RENAMED
from theodolite.study import METRICS, TableSchema, number, text, whole

MATCHING = text(*MATCHINGS, *RENAMED["matching"])
SET = text("training", "test")
LOSS = number(0, math.inf, null=True)  # far from both ends a network may overflow
SHARE = number(0, 1, null=True)
SCHEMAS = {
    "metrics": METRICS,
    "line": TableSchema(
        {"matching": MATCHING, "set": SET, "alpha": number(), "loss": LOSS, "accuracy": SHARE},
        key=("matching", "set", "alpha"),
    ),
    "barriers": TableSchema(
        {"matching": MATCHING, "set": SET, "barrier": LOSS, "error_barrier": SHARE}, key=("matching", "set")
    ),
    "halves": TableSchema({"half": whole(), "alpha": number(), "accuracy": SHARE}, key=("half", "alpha")),
}
