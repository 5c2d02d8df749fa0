"""One look for every figure: axes, fonts, and colours that stay with a thing wherever it is drawn."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart: a column of the table and how it is shown."""

    column: str
    title: str  # with the unit: "loss (mean squared error)"
    log: bool = False
    domain: tuple[float, float] | None = None  # None: from the data
    format: str | None = None  # d3: ".0%", "~s"


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight line across a chart: a convergence, the limits of a domain, a threshold."""

    value: float
    label: str
    axis: Literal["x", "y"] = "y"
