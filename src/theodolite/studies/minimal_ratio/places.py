"""What the study of the minimal ratio says of a point, and of any weights put to the test of a critical point."""

from typing import Any

import pandas as pd
from torch import Tensor

from theodolite.measure.parts import CriticalPoint, landscape
from theodolite.studies.minimal_ratio.findings import CERTIFIED, RENAMED
from theodolite.studies.minimal_ratio.tasks import Problem


def outcome_of(point: CriticalPoint) -> str:
    """Certified, or the reason why not, as a key: the finder's reasons are words."""
    return RENAMED["outcome"].get(point.reason, point.reason) or CERTIFIED


def row(point: CriticalPoint) -> dict[str, Any]:
    """What a table says of a point, certified or not."""
    total = len(point.parameters)
    live, free = "", False
    if point.structure is not None:  # it never is here: every network of this study is a perceptron
        live, free = "-".join(map(str, point.structure.live)), point.structure.free
    return {
        "start": point.start,
        "loss": point.loss,
        "gradient_norm": point.gradient_norm,
        "largest": float(point.eigenvalues.abs().max()),
        "positive": point.minimal_ratio,
        "negative": point.index / total,
        "zero": point.flat / total,
        "index": point.index,
        "flat": point.flat,
        "parameters": total,
        "kantorovich": point.kantorovich,
        "radius": point.radius,
        "live": live,
        "free": free,
    }


def places(task: Problem, vectors: Tensor, decay: float) -> pd.DataFrame:
    """Loss, gradient and signs at given weights, each put to the test of a critical point."""
    found = task.find(vectors, decay, steps=0)
    _, g, H = landscape(task.objective(), decay)(vectors)
    product = (H @ g[..., None])[..., 0].norm(dim=1)
    rows = [
        {
            "certified": p.certified,
            "above_zero": float((p.eigenvalues > 0).double().mean()),  # as the report has it: no tolerance
            "product_norm": float(hg),  # ‖Hg‖: what stands in .grad after the backward pass of a squared norm
        }
        for p, hg in zip(found, product, strict=True)
    ]
    return pd.concat([pd.DataFrame([row(p) for p in found]), pd.DataFrame(rows)], axis=1)
