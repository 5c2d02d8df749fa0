"""What each instrument answers and costs, for lists and for the shell. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from theodolite.errors import UnknownName

Cost = Literal["weights alone", "k losses", "one gradient", "k gradients", "k products", "P products"]
Checkpoints = Literal["one", "two", "path"]

COSTS: dict[Cost, str] = {
    "weights alone": "reads weights; neither model nor data",
    "k losses": "k forward passes over the data",
    "one gradient": "one forward and backward pass over the data",
    "k gradients": "k forward and backward passes over the data",
    "k products": "k products of the Hessian with a vector, each two to four times a gradient",
    "P products": "the whole P x P Hessian: for models of up to some thousand parameters P",
}


@dataclass(frozen=True, slots=True)
class Instrument:
    """One instrument, as somebody chooses it."""

    asks: str  # the question it answers
    cost: Cost
    k: str = ""  # how large, with the options that set it
    checkpoints: Checkpoints = "one"  # what it measures: a model, two models, or the path that several lie on


INSTRUMENTS: dict[str, Instrument] = {
    "gradient_norm": Instrument("How steep is the loss here: is training over?", "one gradient"),
    "sensitivity": Instrument("How strongly does the loss react to its input?", "one gradient"),
    "sharpness": Instrument(
        "How much does the loss rise close by?", "k gradients", "sam: 2; keskar: up to starts x (iterations + 1)"
    ),
    "hessian_eigenvalues": Instrument(
        "Which directions curve most, and how much?", "k products", "about 3 to 10 for each of k eigenvalues"
    ),
    "hessian_trace": Instrument("What is the mean curvature?", "k products", "products, 60"),
    "hessian_density": Instrument(
        "How are the eigenvalues of a large model spread?", "k products", "probes x steps, 8 x 60"
    ),
    "hessian_spectrum": Instrument("What are all eigenvalues of a small model, exactly?", "P products"),
    "minimal_ratio": Instrument("In what share of directions does the loss curve up?", "P products"),
    "find_critical_points": Instrument(
        "Where is the gradient zero, and is that a minimum or a saddle?", "P products", "P at each of up to steps steps"
    ),
    "surface": Instrument(
        "What does the loss look like on a plane around the model, or around the path to it?", "k losses",
        "grid points, 51 x 51",
    ),
    "interpolate": Instrument("Is there a barrier between two models?", "k losses", "alphas, 61", "two"),
    "connect": Instrument("Does a curve of low loss join two models?", "k gradients", "epochs, 100", "two"),
    "trajectory": Instrument("Which way did training go, and how far?", "weights alone", "", "path"),
}  # fmt: skip


def instrument(name: str) -> str:
    """The instrument's own name for a name as typed, with dashes or underscores.

    Raises:
        UnknownName: there is none; the message gives the closest.

    Example:
        >>> instrument("gradient-norm")
        'gradient_norm'
    """
    own = name.replace("-", "_")
    if own not in INSTRUMENTS:
        raise UnknownName("instrument", name, INSTRUMENTS)
    return own
