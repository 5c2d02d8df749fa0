"""What a run trains on, as a frozen description: what a RunSpec holds and a fingerprint covers. Imports no torch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from theodolite.code.reference import Reference

FUNCTION = "function:"  # before what a source of one variable computes
CODE = "code:"  # before the name of a function in a file of the user's own


class DataSpec(BaseModel):
    """A named source and what is made of it.

    The data of a spec depend on nothing else: the same spec gives the same arrays, bit for bit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str  # function:cos, function:sin(3*x)/x, digits, mnist1d, mnist, cifar10, hub:OWNER/NAME, dir:FOLDER
    train: PositiveInt | None = None  # training samples kept (functions: points drawn); None: all (functions: 512)
    test: PositiveInt | None = None  # the same for the test set (functions: points outside the domain)
    seed: NonNegativeInt = 0  # draws the subset
    label_seed: NonNegativeInt = 0  # draws which labels are random, and what they become
    random_labels: float = Field(default=0.0, ge=0.0, le=1.0)  # share of training labels drawn; test labels stay true
    domain: tuple[float, float] = (-1.0, 1.0)  # functions only: training inputs lie in it, evenly spaced
    scale: Literal["standard", "unit"] = "standard"  # images: per-channel mean 0 and deviation 1, or pixel / 255

    code: Reference | None = Field(None, json_schema_extra={"added": True})  # code:NAME: where the function is

    @model_validator(mode="after")
    def _check(self) -> "DataSpec":
        if self.label_seed and not self.random_labels:  # it would change the name of a run and no number
            raise ValueError("expected label_seed 0 where no label is random; leave it out, or give random_labels")
        if self.source.startswith(CODE) != (self.code is not None):
            raise ValueError("expected data of a file as th.data.code gives them; write th.data.code('data.py:make')")
        return self
