"""The dials of the study of random labels, and their values at each preset. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from theodolite.study import Settings

ALL = 1.0  # the share in the report's experiment


class RandomLabels(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8
    data: str = "mnist"
    train: PositiveInt | None = 2000  # a subset: epochs to memorise grow with the samples, and so does each epoch
    test: PositiveInt | None = 2000  # enough to know an accuracy of 0.1 to 0.007
    shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.0, 0.25, 0.5, 0.75, ALL)  # 1 is the report's
    hidden: tuple[PositiveInt, ...] = (128, 128)  # 118,282 parameters, 59 a label: enough to memorise
    optimizer: Literal["adam", "muon"] = "adam"
    learning_rate: PositiveFloat = 1e-3  # Adam's default
    schedule: Literal["constant", "cosine"] = "constant"  # of the learning rate
    batch_size: PositiveInt = 64
    epochs: PositiveInt = 200  # at most; three times what random labels took in a trial with four other networks
    evaluate_every: PositiveInt = 2  # and so "epochs to memorise" are known to two
    convergence: PositiveFloat = 0.02  # training loss at which a run ends: a mean probability of 0.98 for its labels


PRESETS = {
    "smoke": RandomLabels(seeds=3, data="digits", train=256, test=None, hidden=(64, 64), batch_size=32, epochs=150),
    "quick": RandomLabels(),
    # Muon memorises sixty thousand labels in a tenth of Adam's time: docs/decisions/0074
    "full": RandomLabels(
        seeds=10,
        train=None,
        test=None,
        hidden=(512, 512),
        optimizer="muon",
        learning_rate=4e-3,
        batch_size=1024,
        schedule="cosine",
        epochs=30,
        evaluate_every=1,
    ),
}
