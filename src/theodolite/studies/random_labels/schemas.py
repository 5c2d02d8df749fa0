"""What the tables of the random labels hold."""

from theodolite.study import METRICS, TableSchema, number

SCHEMAS = {
    "metrics": METRICS,
    "copies": TableSchema({"share": number(0, 1), "test_accuracy": number(0, 1)}, key=("share",)),
}
