"""The dials of the study of the minimal ratio, and their values at each preset. Imports no torch."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from theodolite.study import Settings

Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=3)]


class MinimalRatio(Settings):
    """Dials of the study, at ``quick``. Networks are tanh perceptrons: a Hessian must exist everywhere."""

    seeds: PositiveInt = 10  # each draws its own data; points on the same data are not independent
    targets: Widths = (3, 6, 1)  # inputs and targets N(0, 1): nothing to learn, so that points of all indices are many
    deep: Widths = (3, 4, 4, 1)  # the same data, two hidden layers
    digits: Widths = (4, 6, 3)  # three classes drawn by the seed, on their first principal components
    cos: Widths = (1, 6, 1)  # one period of the cosine at points drawn by the seed
    samples: PositiveInt = 40  # of random targets and cos: about as many as the network has parameters
    images: PositiveInt = 120  # of digits: what one core walks through in seven seconds
    weight_decay: PositiveFloat = 3e-3  # so that no point lies at infinity or on a flat surface; the dial goes below it
    decays: tuple[NonNegativeFloat, ...] = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 0.0)  # the dial, on random targets
    random: PositiveInt = 120  # starts at random weights with an index to reach
    symmetric: PositiveInt = 60  # starts with tied or dead units
    field: PositiveInt = 40  # starts at random on a random field with as many dimensions: the null
    features: Annotated[int, Field(ge=1, le=1_000_000)] = (
        256  # cosines that a random field is the sum of: more of them change no correlation by 0.01
    )
    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = (
        None  # the most of a walk; null: what the finder thinks right
    )
    trainings: PositiveInt = 8  # whose snapshots are starts
    snapshots: PositiveInt = 5  # of each training, evenly spaced
    epochs: PositiveInt = 200  # of each: full batches, Adam at the rate below, by then near a minimum
    learning_rate: PositiveFloat = (
        1e-2  # ten times Adam's default: a network of 50 weights bears it, and epochs are few
    )
    initial: PositiveInt = 100  # initial weights measured as a control
    first: PositiveInt = 100  # epochs of cross entropy: the report's
    norm: PositiveInt = 100  # epochs with the gradient norm as loss: the report is silent, so as many as before
    after: PositiveInt = 40  # epochs of cross entropy after that: the report's
    batch_size: PositiveInt = 32  # of the protocol: the report's in Figure 11
    spectra: NonNegativeInt = 1  # seeds whose spectra are kept: they are to look at

    def evaluations(self) -> float:
        """Of each start a point at each weight decay; initial weights and phases of the protocol."""
        starts = self.random + self.symmetric + self.field + float(self.trainings) * self.snapshots
        return starts * (1 + len(self.decays)) + self.initial + self.first + self.norm + self.after


PRESETS = {
    "smoke": MinimalRatio(
        seeds=3, images=60, decays=(0.0,), random=16, symmetric=8, field=8, features=64, steps=40, trainings=2,
        snapshots=3, epochs=40, initial=30, first=20, norm=20, after=10,
    ),
    "quick": MinimalRatio(),
    "full": MinimalRatio(
        seeds=12, targets=(3, 10, 1), deep=(3, 6, 6, 1), digits=(4, 10, 3), cos=(1, 12, 1), samples=60, random=240,
        symmetric=80, initial=400,
    ),
}  # fmt: skip
