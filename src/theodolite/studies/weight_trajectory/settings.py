"""The dials of the study of weight trajectories, and their values at each preset. Imports no torch."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from theodolite.study import Settings


class WeightTrajectory(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8  # groups
    trainings: Annotated[int, Field(ge=2, le=1000)] = 8  # the report's, independent of each other
    crossed: Annotated[int, Field(ge=2, le=100)] = (
        3  # initial weights and orders of the crossed design, its square trainings:
    )
    # few enough for minutes, and so too few to tell a share from 0.14 unless it lies far from it (docs/studies)
    source: str = "mnist"  # the data set of the report's other networks of this part
    train: PositiveInt | None = 2_000  # a subset, each group its own; its full size costs thirty times as much
    test: PositiveInt | None = 2_000
    hidden: tuple[PositiveInt, ...] = (16, 16)  # small, since every snapshot of every training is kept
    learning_rate: PositiveFloat = 1e-3  # Adam's default
    batch_size: PositiveInt = 32  # the smallest of the report's
    epochs: PositiveInt = 51  # the report's
    every: PositiveInt = 3  # epochs between snapshots; the report's

    @model_validator(mode="after")
    def _check(self) -> "WeightTrajectory":
        if self.crossed > self.trainings:
            raise ValueError(f"the crossed design takes {self.crossed} of only {self.trainings} trainings")
        if self.epochs <= self.every:
            raise ValueError("expected at least two steps between snapshots")
        return self


PRESETS = {
    "smoke": WeightTrajectory(seeds=3, crossed=2, source="digits", train=None, test=None, epochs=15),
    "quick": WeightTrajectory(),
    "full": WeightTrajectory(
        seeds=10, crossed=6, train=None, test=None, hidden=(32, 32), batch_size=128
    ),  # 6: a third of the standard error of 3, for three times the trainings; 128: four times as fast
}
