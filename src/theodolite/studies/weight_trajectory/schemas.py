"""What the tables of the weight trajectories hold."""

import math

from theodolite.studies.weight_trajectory.ends import KINDS
from theodolite.studies.weight_trajectory.findings import LAYERS, RENAMED
from theodolite.study import METRICS, TableSchema, number, text, whole

LAYER = text(*LAYERS, *RENAMED["layer"])
PAIR = {"first": whole(), "second": whole()}
LENGTH = number(0)
LOSS = number(0, math.inf, null=True)
SHARE = number(0, 1 + 1e-6)  # rounding
SCHEMAS = {
    "metrics": METRICS,
    "first_layer": TableSchema(
        {
            "unit": whole(),
            "input": whole(null=True),
            "epoch": whole(),
            "weight": number(-math.inf, math.inf, null=True),
        },
        key=("unit", "input", "epoch"),
    ),
    "paths": TableSchema(
        {
            "layer": LAYER,
            "training": whole(),
            "component_1": number(),
            "component_2": number(),
            "step_length": number(0, null=True),  # before the first step
            "distance_from_start": LENGTH,
            "epoch": whole(),
        },
        key=("layer", "training", "epoch"),
    ),
    "apart": TableSchema(
        {"layer": LAYER, **PAIR, "epoch": whole(), "distance": LENGTH}, key=("layer", "first", "second", "epoch")
    ),
    "shares": TableSchema(
        {
            "layer": LAYER,
            "component": whole(1),
            "together": SHARE,
            "alone": SHARE,
            "random_walk": SHARE,
            "parameters": whole(1),
            "undirected": number(0, optional=True),
        },
        key=("layer", "component"),
    ),
    "lines": TableSchema(
        {
            "kind": text(*KINDS, optional=True),
            **PAIR,
            "alpha": number(0, 1),
            "barrier": LOSS,
            "error_barrier": number(-1, 1, null=True, optional=True),
            "training": LOSS,
            "test": LOSS,
        },
        key=("kind", "first", "second", "alpha"),
    ),
    "tested": TableSchema({**PAIR, "only_first": whole(), "only_second": whole()}, key=("first", "second")),
    "stationary": TableSchema(
        {"training": whole(), "gradient_norm": LENGTH, "curvature": LENGTH, "weights": LENGTH}, key=("training",)
    ),
}
