"""The dials of the study of functions, and their values at each preset. Imports no torch."""

import math
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from theodolite.models import Activation
from theodolite.study import Settings


class SimulateFunction(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 16
    functions: tuple[str, ...] = ("cos", "exp")  # the report's; also sinc, sign and any expression of x
    domain: tuple[float, float] = (-math.pi, math.pi)  # one whole period of cos, the same for every function
    points: Annotated[int, Field(ge=8, le=10_000_000)] = 512  # training points, evenly spaced; drawn while planning
    activation: Activation = "relu"  # what a course's script uses unless told otherwise
    learning_rate: PositiveFloat = 1e-3  # Adam's default
    epochs: PositiveInt = 4000  # full batch: one step each
    batch_size: PositiveInt | None = 64  # the same with mini-batches; null leaves them out
    batch_epochs: PositiveInt = 500  # with mini-batches: eight steps each, so as many steps as above
    evaluate_every: PositiveInt = 10  # full batch; mini-batches in proportion
    convergence: Annotated[float, Field(gt=0, lt=1)] = 1e-3  # training loss as a share of the target's variance
    stop_at_convergence: bool = False  # off: `deeper-ends-lower` is about what comes after
    depths: tuple[PositiveInt, ...] = ()  # layers of the sweep at one budget, such as [2, 3, 4, 5, 6, 7, 8]

    @model_validator(mode="after")
    def _check(self) -> "SimulateFunction":
        if self.domain[0] >= self.domain[1]:
            raise ValueError("the domain's first end must lie below its second")
        return self


PRESETS = {
    "smoke": SimulateFunction(seeds=3, points=128, epochs=400, batch_epochs=50),
    "quick": SimulateFunction(),
    "full": SimulateFunction(seeds=32, epochs=20_000, batch_epochs=2_500, depths=(2, 3, 4, 5, 6, 7, 8)),
}
