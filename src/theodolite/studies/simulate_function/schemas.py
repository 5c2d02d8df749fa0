"""What the tables of the simulated functions hold."""

import math

from theodolite.study import METRICS, TableSchema, number

NUMBER = number(-math.inf, math.inf, null=True)  # of a run that diverged
SCHEMAS = {
    "metrics": METRICS,
    "fit": TableSchema({"x": number(), "target": number(), "fit": NUMBER}, key=("x",), ascending=True),
    "errors": TableSchema(
        {
            "inside": number(0, math.inf, null=True),
            "outside": number(0, math.inf, null=True),
            "r2_inside": number(-math.inf, 1, null=True),
        },
        single=True,
    ),
}
