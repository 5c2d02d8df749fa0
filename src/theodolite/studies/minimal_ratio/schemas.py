"""What the tables of the minimal ratio hold."""

import math

from theodolite.studies.minimal_ratio.findings import (
    KINDS,
    OUTCOMES,
    PHASES,
    RENAMED,
    SELECTED,
    STARTS,
    VARIANTS,
)  # fmt: skip
from theodolite.study import TableSchema, number, text, truth, whole

SHARE = number(0, 1)
SIZE = number(0, math.inf, null=True)  # of a point that is not certified: none, or without an end
OUTCOME = text(*OUTCOMES, *RENAMED["outcome"])
POINT = {
    "start": text(*STARTS),
    "loss": number(-math.inf, math.inf, null=True),
    "gradient_norm": SIZE,
    "largest": SIZE,
    "positive": SHARE,
    "negative": SHARE,
    "zero": SHARE,
    "index": whole(),
    "flat": whole(),
    "parameters": whole(1),
    "kantorovich": SIZE,
    "radius": SIZE,
    "live": text(),
    "free": truth(),
}
PLACE = {**POINT, "certified": truth(), "above_zero": SHARE, "product_norm": SIZE}
SCHEMAS = {
    "points": TableSchema(
        {
            **POINT,
            "counted": truth(optional=True),
            "predicted": number(0, 1, null=True, optional=True),
            "found": whole(1, optional=True),
            "orbit": whole(1, optional=True),
        },
        empty=True,
    ),
    "outcomes": TableSchema(
        {"start": text(*STARTS), "outcome": OUTCOME, "starts": whole(1)}, key=("start", "outcome"), empty=True
    ),
    "initial": TableSchema(PLACE),
    "approach": TableSchema({"positive": SHARE, "index": whole(), "outcome": OUTCOME}, empty=True),
    "field": TableSchema({"loss": number(), "positive": SHARE, "index": whole(), "parameters": whole(1)}, empty=True),
    "protocol": TableSchema(
        {
            **PLACE,
            "variant": text(*VARIANTS, *RENAMED["variant"]),
            "phase": text(*PHASES, *RENAMED["phase"]),
            "epoch": whole(),
        },
        key=("variant", "epoch"),
    ),
    "dial": TableSchema(
        {"point": whole(), "decay": number(0), "outcome": OUTCOME, "soft": SHARE, "weights": number(0), **POINT},
        key=("point", "decay"),
        empty=True,
    ),
    "spectra": TableSchema(
        {
            "point": text(*SELECTED, *RENAMED["point"]),
            "loss": number(),
            "index": whole(),
            "parameters": whole(1),
            "kind": text(*KINDS, *RENAMED["kind"]),
            "eigenvalue": number(),
            "density": number(0, null=True),
        },
        empty=True,
    ),
}
