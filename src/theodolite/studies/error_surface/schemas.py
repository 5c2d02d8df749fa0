"""What the tables of the error surface hold."""

import math

from theodolite.studies.error_surface.findings import CURVE, LARGE, LINE, OTHER, RENAMED, SMALL, STOPPED
from theodolite.study import METRICS, TableSchema, number, text, whole

LOSS = number(0, math.inf, null=True)  # far from what was trained a network may overflow
POINT = {"x": number(), "y": number()}
AT = {**POINT, "off_plane": number(0), "loss": LOSS, "plane_loss": LOSS}
SHARE = number(0, 1, null=True)  # NaN: of a path that does not move
SCHEMAS = {
    "metrics": METRICS,
    "curve": TableSchema(
        {"t": number(0, 1), "path": text(CURVE, LINE, *RENAMED.get("path", ())), "loss": LOSS}, key=("t", "path")
    ),
    "width": TableSchema(
        {
            "network": text(SMALL, LARGE, STOPPED, *RENAMED.get("network", ())),
            "direction": whole(),
            "radius": number(0),
            "loss": LOSS,
        }
    ),
    "path": TableSchema({**AT, "epoch": whole(), "share_x": SHARE, "share_y": SHARE}, key=("epoch",), ascending=True),
    "surface": TableSchema({**POINT, "loss": LOSS}, key=("x", "y")),
    "places": TableSchema({**AT, "label": text(SMALL, LARGE, OTHER, *RENAMED.get("label", ()))}, key=("label",)),
    "walk": TableSchema({"path": text(CURVE, LINE, *RENAMED.get("path", ())), **POINT}),
}
