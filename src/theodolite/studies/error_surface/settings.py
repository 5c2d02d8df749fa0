"""The dials of the study of the error surface, and their values at each preset. Imports no torch."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from theodolite.study import Settings


class ErrorSurface(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8
    source: str = "mnist"
    images: PositiveInt | None = 5120  # a seed its own, on which its planes show the loss; null: all
    hidden: tuple[PositiveInt, ...] = (32, 32)
    batch_sizes: tuple[PositiveInt, PositiveInt] = (
        32,
        512,
    )  # the large one a tenth of the images, as Keskar et al. 2017
    epochs: PositiveInt = 100  # equal for both, as Keskar et al. and Li et al. have it; 1000 steps of the large batch
    learning_rate: PositiveFloat = 1e-3  # Adam's default, for both
    snapshot_every: PositiveInt = 4  # epochs between the points of a path
    grid: Annotated[int, Field(ge=5)] = 51  # points along each axis of a plane
    directions: PositiveInt = 10  # random ones, each walked both ways, whose mean loss tells how wide a minimum is
    reach: PositiveFloat = 1.0  # the farthest they go, in filter norms: as far as the weights are long
    radii: Annotated[int, Field(ge=2)] = 20  # steps on the way
    curve_epochs: PositiveInt = 25  # passes over the images in which the curve is trained

    def evaluations(self) -> float:
        """Three planes, and directions walked both ways from three networks."""
        return 3.0 * self.grid**2 + 6.0 * self.directions * self.radii


PRESETS = {
    "smoke": ErrorSurface(
        seeds=3, source="digits", images=None, hidden=(16, 16), batch_sizes=(16, 144), epochs=20, snapshot_every=2,
        grid=21, directions=3, radii=10, curve_epochs=5,
    ),
    "quick": ErrorSurface(),
    "full": ErrorSurface(seeds=10, images=None, hidden=(64, 64), batch_sizes=(32, 6000), directions=20),
}  # fmt: skip
