"""All instruments on all rows of all tables: a result, or an error of our tree that keeps its cause, and no other.

So do matrices as objects, and the recorder, which keeps the error of an instrument and lets none through.

Whether numbers are right is asked elsewhere, of some instruments; here each meets what was written for another.
"""

import copy
import dataclasses
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from torch import nn

import cases
import random_models
import theodolite as th
from peer_suites.table import ROWS
from theodolite import measure
from theodolite.errors import TheodoliteError
from theodolite.measure import catalogue
from theodolite.measure.problem import join
from theodolite.measure.problem.objective import Objective

sys.path.insert(0, str(Path(__file__).parent))
import test_bad_input as bad
import test_callers_state as states
import test_ways_of_use as ways

MEMORY = "300 KB"  # for matrices of up to 60 parameters; what has more is refused as too large, at once


def _other(model: nn.Module) -> nn.Module:
    """A second network of the same architecture, a step away; what is no network with numbers stands for itself."""
    if not _is_network(model):
        return model
    try:
        found = copy.deepcopy(model)
    except RuntimeError:  # pruned: its weight is a tensor made of others
        return model
    with torch.no_grad():
        for tensor in found.parameters():
            tensor *= 1.01
    return found


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Of the model's parameters; of what has none, of another tensor."""
    own = list(model.parameters()) if isinstance(model, nn.Module) else []
    return torch.optim.SGD(own or [torch.zeros(1, requires_grad=True)], lr=0.1)


def _path(model: nn.Module) -> list[dict[str, Any]]:
    return [m.state_dict() if isinstance(m, nn.Module) else m for m in (model, _other(model))]


def _critical_points(model: nn.Module, *rest: Any, **options: Any) -> Any:
    """Of the smallest tensor of parameters: an exact Hessian of all would be most of the time here."""
    own = [p for p in model.parameters() if p.requires_grad] if _is_network(model) else []
    others = sorted(own, key=torch.Tensor.numel)[1:]
    for p in others:
        p.requires_grad_(False)
    try:
        return measure.find_critical_points(model, *rest, 1, steps=0, force=True, **options)
    finally:
        for p in others:
            p.requires_grad_()


def _is_network(model: Any) -> bool:
    return isinstance(model, nn.Module) and not any(t.is_meta or nn.parameter.is_lazy(t) for t in model.parameters())


def _operator(model: nn.Module, *rest: Any, **options: Any) -> None:
    H = measure.HessianOperator(model, *rest, **options)
    _ = H @ torch.ones(H.size)


def _jacobian(model: nn.Module, _: Any, data: Any, **options: Any) -> None:
    """As the tangent kernel has it, with a product of each: (J Jᵀ) w, J v and Jᵀ w."""
    options = {name: value for name, value in options.items() if name in ("parameters", "memory")}
    kernel = measure.TangentKernel(model, data, **options)
    outputs, parameters = kernel.jacobian.shape
    _ = kernel @ torch.ones(outputs)
    _ = kernel.jacobian @ torch.ones(parameters)
    _ = kernel.jacobian.T @ torch.ones(outputs)


def _recorder(model: nn.Module, loss: Any, data: Any, **options: Any) -> None:
    """A step of a training that measures a gradient, and what the record says of an error."""
    shared = {name: value for name, value in options.items() if name in ("samples", "reduction")}
    recorder = th.Recorder("gradient_norm", every=1, data=data, mode="as it is", out=None, **shared)
    recorder.step(model, loss)
    kinds = set(recorder.table("failures")["error"])
    assert kinds <= OURS, f"the recorder keeps {kinds - OURS}"


def _tree(kind: type[Exception]) -> set[str]:
    return {kind.__name__}.union(*map(_tree, kind.__subclasses__()))


OURS = _tree(TheodoliteError)
Call = Callable[..., Any]
CALLS: dict[str, Call] = {  # by the name in the catalogue, with the least work
    "gradient_norm": measure.gradient_norm,
    "sensitivity": measure.sensitivity,
    "sharpness": partial(measure.sharpness, starts=1, iterations=1),
    "hessian_eigenvalues": partial(measure.hessian_eigenvalues, k=1, max_products=3),
    "hessian_trace": partial(measure.hessian_trace, products=6),
    "hessian_density": partial(measure.hessian_density, probes=2, steps=2),
    "hessian_diagonal": partial(measure.hessian_diagonal, products=3, memory=MEMORY),
    "hessian_blocks": partial(measure.hessian_blocks, k=1, probes=1, steps=2),
    "edge_of_stability": lambda model, *rest, **options: measure.edge_of_stability(
        model, *rest, _optimizer(model), max_products=3, **options
    ),
    "gradient_noise_scale": measure.gradient_noise_scale,
    "hessian_spectrum": partial(measure.hessian_spectrum, memory=MEMORY),
    "minimal_ratio": partial(measure.minimal_ratio, operator="ggn", memory=MEMORY),
    "find_critical_points": _critical_points,
    "surface": partial(measure.surface, x=[0.1], y=[0.0]),
    "interpolate": lambda model, *rest, **options: measure.interpolate(model, _other(model), *rest, [0.5], **options),
    "connect": lambda model, *rest, **options: measure.connect(
        model, _other(model), *rest, epochs=1, points=2, **options
    ),
    "trajectory": lambda model, *_, **options: measure.trajectory(_path(model), model=model, components=1),
    "align": lambda model, loss, data, **options: measure.align(model, _other(model), data=data),
}

OBJECTS: dict[str, Call] = {"HessianOperator": _operator, "Jacobian": _jacobian, "recorder": _recorder}

# Tables whose own tests multiply with every unit vector, which shows more.
MULTIPLIED = ("layer ", "use ", "random ", *{row.suite for row in ROWS})

# Of cases.py each layer and each loss once: to all instruments here the other pairs are the same over again.
Row = Callable[[], tuple[Any, Any, Any, dict[str, Any]]]  # model, loss, data, and options


def _case(layer: str, loss: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    case = cases.make(layer, loss)
    return case.model, case.loss, case.batches, {}


def _use(name: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    use = ways.made(name)
    return use.model, use.loss, use.data, use.options or {}


def _bad(name: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    model, loss, data, *_ = bad.given(name)
    return model, loss, data, {}


def _random(recipe: random_models.Recipe) -> tuple[Any, Any, Any, dict[str, Any]]:
    made = random_models.build(recipe)
    return made.model, made.loss, made.data, made.options


def _recipes() -> Iterator[random_models.Recipe]:
    """One with each loss, the same every time."""
    for loss in random_models.LOSSES:
        drawn: list[random_models.Recipe] = []

        @seed(4)
        @settings(
            max_examples=2, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(random_models.recipes(loss))
        def draw(recipe: random_models.Recipe) -> None:
            drawn.append(recipe)  # noqa: B023

        draw()
        yield drawn[-1]


TABLES: dict[str, Row] = {
    **{f"layer {layer}, {loss}": partial(_case, layer, loss) for layer, loss in cases.EACH},
    **{f"use {name}": partial(_use, name) for name in ways.USES},
    **{f"refused {name}": lambda make=make: (*make()[:3], {}) for name, make in ways.REFUSED.items()},
    **{f"bad {name}": partial(_bad, name) for name in bad.BAD},
    **{row.name: lambda row=row: (*row.made(), {}) for row in ROWS},
    **{f"random {recipe.trunk}, {recipe.loss}": partial(_random, recipe) for recipe in _recipes()},
}
STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    f"within {name}": s for name, s in states.STATES.items()
}
WRAPPED = {f"as {name}": wrap for name, wrap in states.WRAPPED.items()}


# An exact Hessian by rows, twice, of what has no batched form takes half a minute.
SLOW = {name: ("find_critical_points",) for name in TABLES if "GPT-2" in name}


def _once(inspected: Callable[..., Objective]) -> Callable[..., Objective]:
    """What is seen of a row's first batch, which is the same for all instruments and takes much of their time."""
    known: dict[Any, tuple[Objective, Objective]] = {}

    def seen(whole: Objective, batch: Any, room: float = math.inf) -> Objective:
        key = id(whole.model), id(whole.loss), whole.names, whole.reduction
        if key not in known:
            known[key] = whole, inspected(whole, batch, room)
        found = known[key][1]
        flags = {name: getattr(found, name) for name in ("grad_in_loss", "fused", "writes_inputs", "caught")}
        return dataclasses.replace(whole, **flags)

    return seen


def _faults(
    row: Row, around: Callable[[], AbstractContextManager[Any]] = nullcontext, without: Iterable[str] = ()
) -> list[str]:
    """What instruments do on a row that they must not."""
    torch.manual_seed(0)
    model, loss, data, options = row()
    before = [t.clone() for t in _tensors(model)]
    found = []
    shared = patch.object(join, "inspected", _once(join.inspected))
    for name, call in {**CALLS, **OBJECTS}.items():
        if name in without:
            continue
        try:
            with around(), shared:
                call(model, loss, data, **options)
        except TheodoliteError as error:
            if "an error" in str(error) and error.__cause__ is None:
                found.append(f"{name} loses the cause of {error!r}")
        except Exception as error:
            found.append(f"{name} lets {error!r} through")
        if any(not torch.equal(a, b) for a, b in zip(_tensors(model), before, strict=True)):
            found.append(f"{name} changes the model")
    return found


def _tensors(model: Any) -> list[torch.Tensor]:
    if not isinstance(model, nn.Module):
        return []
    own = (*model.parameters(), *model.buffers())
    return [t.detach() for t in own if not (t.is_meta or nn.parameter.is_lazy(t) or bool(t.isnan().any()))]


def test_the_calls_are_those_of_the_catalogue():
    assert {one.name for one in catalogue.BUILT_IN} == set(CALLS)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.filterwarnings("ignore")
def test_every_instrument_gives_a_result_or_an_error_of_our_tree(name):
    seen = ("HessianOperator",) if name.startswith(MULTIPLIED) else ()
    assert _faults(TABLES[name], without=(*SLOW.get(name, ()), *seen)) == []


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", [*STATES, *WRAPPED])
@pytest.mark.filterwarnings("ignore")
def test_so_it_does_whatever_the_caller_has_set_or_put_around(name):
    model = WRAPPED.get(name, lambda model: model)(states.network())
    assert _faults(lambda: (model, nn.functional.cross_entropy, states.DATA, {}), STATES.get(name, nullcontext)) == []
