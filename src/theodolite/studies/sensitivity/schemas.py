"""What the tables of the sensitivity hold."""

from theodolite.study import METRICS, TableSchema, number, text, whole

SCHEMAS = {
    "metrics": METRICS,
    "sensitivity": TableSchema(
        {
            "epoch": whole(),
            "set": text("training", "test"),
            "sensitivity": number(0),
            "standard_error": number(0, null=True),
            "of_mean_loss": number(0, optional=True),
            "samples": whole(1, optional=True),
        },
        key=("epoch", "set"),
        empty=True,
    ),
    "sharpness": TableSchema(
        {"epoch": whole(), "keskar": number(null=True), "sam": number(null=True)},
        key=("epoch",),
        empty=True,
    ),
    "jumps": TableSchema({"epoch": whole(), "jumps": number(0, 1)}, key=("epoch",), empty=True),
}
