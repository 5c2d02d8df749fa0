"""What the tables of the gradient norms hold."""

from theodolite.study import METRICS, TableSchema, number, whole

NORM = number(0)
SCHEMAS = {
    "metrics": METRICS,
    "norms": TableSchema(
        {
            "epoch": whole(),
            "loss": NORM,
            "norm": NORM,
            "batch_norm": NORM,
            "batch_square": NORM,
        },
        key=("epoch",),
        ascending=True,
        empty=True,  # of a run that diverged at once
    ),
}
