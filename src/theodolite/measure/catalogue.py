"""One record an instrument: all that the package, the shell, a recorder and a chart know of it. Imports no torch.

A file in this folder and a record here make an instrument; :func:`instrument` makes one of a user's own function.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, TypeVar

from theodolite.errors import SettingError, UnknownName

Cost = Literal["weights alone", "k losses", "one gradient", "k gradients", "k products", "P products"]
Checkpoints = Literal["one", "two", "path", "starts", "one or path"]
Function = Callable[..., Any]  # (model, loss, data, *, …) -> result, for most
F = TypeVar("F", bound=Function)

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
    """One instrument, known without being imported."""

    name: str
    asks: str  # the question it answers
    cost: Cost
    k: str = ""  # how large, with the options that set it
    # What it measures in a shell: one model; two; the path that several lie on; one, with several to start from; one,
    # or one and the path to it. None: it is for Python alone. A recorder takes those of one model.
    checkpoints: Checkpoints | None = "one"
    # The kinds of result that its file defines, each with the function of figures/measured.py that draws it.
    charts: Mapping[str, str] = field(default_factory=dict)
    own: Function | None = None  # a user's; None: the function of this name in the file of this name

    @property
    def function(self) -> Function:
        """What is called; an instrument of ours is imported now."""
        if self.own is not None:
            return self.own
        found: Function = getattr(self.load(), self.name)
        return found

    def load(self) -> Any:
        """Import the file of an instrument of ours, which makes its kinds of result known."""
        return import_module(f"theodolite.measure.{self.name}")


BUILT_IN = (
    Instrument(
        "gradient_norm", "How steep is the loss here: is training over?", "one gradient",
        charts={"gradient_norm": "gradient_norm"},
    ),
    Instrument(
        "gradient_noise_scale", "How large a batch is worth its samples?", "k gradients",
        "four passes over the data, two of them sample by sample",
        charts={"gradient_noise_scale": "gradient_noise_scale"},
    ),
    Instrument(
        "sensitivity", "How strongly does the loss react to its input?", "one gradient",
        charts={"sensitivity": "sensitivity"},
    ),
    Instrument(
        "sharpness", "How much does the loss rise close by?", "k gradients",
        "sam: 2; keskar: up to starts x (iterations + 1)", charts={"sharpness": "sharpness"},
    ),
    Instrument(
        "hessian_eigenvalues", "Which directions curve most, and how much?", "k products",
        "about 3 to 10 for each of k eigenvalues", charts={"eigenpairs": "eigenpairs"},
    ),
    Instrument(
        "edge_of_stability", "Is the step too long for the curvature, with this optimizer?", "k products",
        "about 10 to 40", None, {"edge_of_stability": "edge_of_stability"},
    ),
    Instrument(
        "hessian_trace", "What is the mean curvature?", "k products", "products, 60", charts={"trace": "trace"},
    ),
    Instrument(
        "hessian_diagonal", "How much does the loss curve along each parameter?", "k products", "products, 60",
        charts={"diagonal": "diagonal"},
    ),
    Instrument(
        "hessian_blocks", "How does the curvature differ between layers?", "k products",
        "for each block about 10, and probes x steps, 4 x 30", charts={"hessian_blocks": "hessian_blocks"},
    ),
    Instrument(
        "hessian_density", "How are the eigenvalues of a large model spread?", "k products", "probes x steps, 8 x 60",
        charts={"density": "density"},
    ),
    Instrument(
        "hessian_spectrum", "What are all eigenvalues of a small model, exactly?", "P products",
        charts={"spectrum": "spectrum"},
    ),
    Instrument(
        "minimal_ratio", "In what share of directions does the loss curve up?", "P products",
        charts={"minimal_ratio": "minimal_ratio"},
    ),
    Instrument(
        "find_critical_points", "Where is the gradient zero, and is that a minimum or a saddle?", "P products",
        "P at each of up to steps steps", "starts",
        {"critical_points": "critical_points", "critical_point": "spectrum"},
    ),
    Instrument(
        "surface", "What does the loss look like on a plane around the model, or around the path to it?", "k losses",
        "grid points, 51 x 51", "one or path", {"surface": "surface"},
    ),
    Instrument(
        "interpolate", "Is there a barrier between two models?", "k losses", "alphas, 61", "two",
        {"interpolation": "interpolation"},
    ),
    Instrument(
        "connect", "Does a curve of low loss join two models?", "k gradients", "epochs, 100", "two",
        {"curve": "curve"},
    ),
    Instrument(
        "trajectory", "Which way did training go, and how far?", "weights alone", checkpoints="path",
        charts={"trajectory": "trajectory"},
    ),
    Instrument(
        "align", "Are two models the same but for the order of their units?", "weights alone",
        'and with method "activations" a forward pass of each over the data', None, {"alignment": "alignment"},
    ),
)  # fmt: skip

INSTRUMENTS: dict[str, Instrument] = {one.name: one for one in BUILT_IN}  # and those that a user registers
OF_KIND: dict[str, Instrument] = {kind: one for one in BUILT_IN for kind in one.charts}  # kind of result -> whose it is


def instrument(*, asks: str, cost: Cost, k: str = "", checkpoints: Literal["one", "two"] = "one") -> Callable[[F], F]:
    """Make an instrument of a function of one's own, known by the function's name.

    A :class:`~theodolite.record.recorder.Recorder` then takes it by that name, and ``theodolite measure FILE.py:NAME``
    measures with it, if it returns a :class:`~theodolite.measure.results.base.Result`. The function stays what it is.

    Args:
        asks: the question it answers.
        cost: the class of its cost, one of those that ``theodolite measure --list`` explains.
        k: how large the k of its cost is.
        checkpoints: ``"one"`` where it takes ``(model, loss, data)``, ``"two"`` for ``(model_a, model_b, loss, data)``;
            further arguments are options and have defaults.

    Raises:
        SettingError: it has no name, or the name of another instrument.
        UnknownName: there is no such cost.

    Example:
        >>> @instrument(asks="How long is the vector of weights?", cost="weights alone")
        ... def length(model, loss, data):
        ...     return sum(float(p.square().sum()) for p in model.parameters()) ** 0.5
        >>> INSTRUMENTS["length"].function is length
        True
        >>> del INSTRUMENTS["length"]
    """
    for what, value, known in (("cost", cost, COSTS), ("number of checkpoints", checkpoints, ("one", "two"))):
        if value not in known:
            raise UnknownName(what, str(value), known)

    def register(function: F) -> F:
        name = str(getattr(function, "__name__", ""))
        if not callable(function) or not name.isidentifier():
            shown = name or type(function).__name__
            raise SettingError(f"expected a function with a name as an instrument, got {shown}. Write it with def.")
        before = INSTRUMENTS.get(name)
        if before is not None and (before.own is None or origin(before.own) != origin(function)):
            raise SettingError(
                f"expected a name of its own for each instrument, got '{name}' again. Give the function another name."
            )
        INSTRUMENTS[name] = Instrument(name, asks, cost, k, checkpoints, own=function)
        return function

    return register


def named(name: str) -> Instrument:
    """The instrument of a name as typed in a shell, with dashes or underscores.

    Raises:
        UnknownName: there is none; the message gives the closest.

    Example:
        >>> named("gradient-norm").name
        'gradient_norm'
    """
    known = {one.name: one for one in in_shell()}
    own = name.replace("-", "_")
    if own not in known:
        raise UnknownName("instrument", name, known)
    return known[own]


def in_shell() -> list[Instrument]:
    """Those that ``theodolite measure`` takes, in the order in which they are listed."""
    return [one for one in INSTRUMENTS.values() if one.checkpoints is not None]


def in_recorder() -> list[str]:
    """The names that a recorder takes: of instruments that look at one model, loss and data."""
    return sorted(one.name for one in INSTRUMENTS.values() if one.checkpoints == "one")


def chart_of(kind: str | None) -> str:
    """The function of ``figures/measured.py`` that draws a kind of result."""
    return OF_KIND[kind].charts[kind] if kind in OF_KIND else "general"


def origin(made: Any) -> tuple[str, str]:
    """File and name of a class or function: what is defined again in the same place takes the place of the former."""
    module = str(getattr(made, "__module__", ""))
    file = getattr(sys.modules.get(module), "__file__", None)
    return str(file or module), str(getattr(made, "__name__", ""))
