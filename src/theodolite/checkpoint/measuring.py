"""One instrument on one checkpoint: everything a shell can say, made into the instrument's arguments."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from theodolite.checkpoint import inputs, settings, weights
from theodolite.code import running as code
from theodolite.errors import CodeFailed, SettingError, TheodoliteError, UnknownName, UsageError
from theodolite.measure import catalogue
from theodolite.measure.catalogue import Instrument
from theodolite.measure.planes import path_plane
from theodolite.measure.results import writer as written
from theodolite.measure.results.base import Result

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
MODES = ("eval", "train")
PARTS = ("train", "test")


@dataclass(frozen=True, slots=True)
class Measured:
    """A result, and what it was measured on."""

    instrument: str
    result: Result
    facts: dict[str, str | int]


def measure(
    name: str,
    *,
    model: str | None = None,
    checkpoints: Sequence[Path] = (),
    data: str | None = None,
    loss: str | None = None,
    options: Sequence[str] = (),
    functions: Mapping[str, Any] | None = None,
    part: str = "train",
    samples: int | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    mode: str = "eval",
) -> Measured:
    """Measure a checkpoint.

    Args:
        name: of the instrument, or ``FILE.py:NAME``, a function ``(model, loss, data)`` that returns a result.
        model: ``FILE.py:NAME``, a function that gives the model; the file is run.
        checkpoints: weights: none (as the function makes them), one, two for an instrument between two models, or
            those along a path; a folder stands for all weights in it.
        data: a data set's name or ``FILE.py:NAME``.
        loss: a loss's name or ``FILE.py:NAME``; None: by the targets.
        options: ``key=value`` for the instrument.
        functions: options of it that no text can say, by name.
        part: of a named data set: ``"train"`` or ``"test"``.
        samples: how many of the data; None: all.
        batch_size: at once; None: 1,000.
        device: of PyTorch.
        dtype: that model and data are cast to; None: the model's own.
        mode: ``"eval"`` or ``"train"``, which BatchNorm and Dropout follow.

    Raises:
        UsageError: the request cannot be met, or a file of the user's cannot be run.
        StoreError: weights that are not there or not weights.
        DataError, MeasurementError: as the data set and the instrument raise them.
    """
    one = _instrument(name)
    for what, value, known in (("mode", mode, MODES), ("part", part, PARTS), ("dtype", dtype or "float32", DTYPES)):
        if value not in known:
            raise UnknownName(what, value, known)
    chosen = settings.read(one.function, options) | dict(functions or {})
    for option in functions or {}:
        if option not in signature(one.function).parameters:
            raise UnknownName(f"option of {one.name}", option, settings.options(one.function))
    files = weights.found(checkpoints)
    if one.checkpoints == "path":
        return _of_path(one, files, chosen, None if model is None else weights.model_from(_made(model), model))
    if model is None or data is None:
        missing = " and ".join(o for o, v in (("--model FILE.py:NAME", model), ("--data SOURCE", data)) if v is None)
        raise UsageError(f"expected a model and data to measure with {one.name}, got no {missing}. Add it.")
    _check_number(one, files)
    base = _placed(weights.model_from(_made(model), model), device, dtype, mode)
    batches = inputs.batches(data, part=part, samples=samples, batch_size=batch_size, dtype=_dtype(base))
    title, function_of_loss = inputs.loss_named(loss, batches)
    facts: dict[str, str | int] = {
        "model": model,
        "weights": ", ".join(str(p) for p in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else ""),
        "data": data if code.is_code(data) else f"{data} ({part})",
        "samples used": inputs.count(batches),
        "loss function": title,
        "mode": mode,
        "dtype": str(_dtype(base)).removeprefix("torch."),
        "device": device,
        "trainable parameters": sum(p.numel() for p in base.parameters() if p.requires_grad),
    }
    models, more = _models(one, base, files, chosen)
    arguments = [*models, function_of_loss, batches]
    if one.own is not None:
        _check_arguments(one.own, name, arguments, chosen)
    result = _run(one.function, arguments, chosen | more, data)
    if not isinstance(result, Result):
        raise CodeFailed(
            f"expected {name} to return a theodolite.Result, got {type(result).__name__}. Return a frozen dataclass "
            "that inherits from it."
        )
    return Measured(one.name, result, facts)


def _instrument(name: str) -> Instrument:
    """What is in the catalogue, or a function in a file of the user's, whether it is registered or not."""
    if not code.is_code(name):
        return catalogue.named(name)
    function = code.named(name, "an instrument")
    if not callable(function) or isinstance(function, type) or not hasattr(function, "__name__"):
        raise CodeFailed(f"expected {name} to be a function, got {type(function).__name__}. Name one.")
    given = Instrument(function.__name__, asks="", cost="one gradient", own=function)
    return next((one for one in catalogue.INSTRUMENTS.values() if one.own is function), given)


def _check_arguments(
    function: Callable[..., Any], name: str, arguments: Sequence[Any], options: Mapping[str, Any]
) -> None:
    try:
        signature(function).bind(*arguments, **options)
    except TypeError as error:
        takes = "(model, loss, data)" if len(arguments) == 3 else "(model_a, model_b, loss, data)"
        raise CodeFailed(
            f"expected {name} to take {takes} and options with defaults, but there is: {error}. Correct it there."
        ) from error


def _of_path(one: Instrument, files: Sequence[Path], chosen: dict[str, Any], model: nn.Module | None) -> Measured:
    if len(files) < 2:
        raise UsageError(
            f"expected --weights of at least two moments of training for {one.name}, got {len(files)}. Give --weights "
            "several times, or a folder."
        )
    if model is None:
        states: list[Mapping[str, Tensor]] = [weights.read(path) for path in files]
    else:  # whose names they get
        states = [_loaded(model, path).state_dict() for path in files]
        chosen = chosen | {"model": model}
    result = one.function(states, **chosen)
    return Measured(one.name, result, {"weights": f"{files[0]} … {files[-1]}", "snapshots": len(files)})


def _check_number(one: Instrument, files: Sequence[Path]) -> None:
    fits = {"one": len(files) < 2, "two": len(files) == 2}
    if not fits.get(str(one.checkpoints), True):
        wanted = "two --weights, of both models," if one.checkpoints == "two" else "one --weights"
        raise UsageError(
            f"expected {wanted} for {one.name}, got {len(files)}. `theodolite measure --list` says which takes what."
        )


def _models(
    one: Instrument, base: nn.Module, files: Sequence[Path], chosen: dict[str, Any]
) -> tuple[list[nn.Module], dict[str, Any]]:
    """The models to measure, and what else the weights are for: a path to lay a plane by, walks to start."""
    device = next(base.parameters()).device
    models = [_loaded(base, path) for path in files]
    if one.checkpoints == "two":
        return models, {}
    more: dict[str, Any] = {}
    if one.checkpoints == "starts" and "starts" not in chosen:
        if not models:
            raise SettingError(f"expected starts for {one.name}, got neither. Pass --set starts=20, or --weights.")
        more["starts"] = [{n: t.to(device) for n, t in m.state_dict().items()} for m in models]
    if one.checkpoints == "one or path" and len(models) > 1:
        more["directions"] = path_plane(base, [m.state_dict() for m in models])
    return [models[-1] if models else base], more


def _loaded(base: nn.Module, path: Path) -> nn.Module:
    copy = deepcopy(base)
    weights.put(copy, weights.read(path), path)
    return copy


def _made(reference: str) -> Any:
    own = code.named(reference, "--model")
    return own if isinstance(own, nn.Module) else code.called(own, reference)


def _placed(model: nn.Module, device: str, dtype: str | None, mode: str) -> nn.Module:
    try:
        return model.to(device, DTYPES[dtype] if dtype else None).train(mode == "train")
    except (RuntimeError, AssertionError) as error:  # PyTorch asserts that it was built with CUDA
        reason = str(error).splitlines()[0].rstrip(".")
        raise SettingError(
            f"expected a device that PyTorch has, got '{device}': {reason}. Try --device cpu."
        ) from error


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _run(function: Callable[..., Any], arguments: Sequence[Any], options: dict[str, Any], data: str) -> Any:
    """The instrument, with errors of the user's own model and loss, and of memory, told as such."""
    try:
        return function(*arguments, **options)
    except TheodoliteError:
        raise
    except torch.OutOfMemoryError as error:
        raise SettingError(
            f"expected batches that fit the device's memory, but it ran out. {_smaller(data)}"
        ) from error
    except Exception as error:
        if not code.theirs(error):
            raise
        raise CodeFailed(f"expected model and loss to run, but {code.told(error)}. Correct it there.") from error


def _smaller(data: str) -> str:
    if not code.is_code(data):
        return "Pass a smaller --batch-size."
    return (
        f"Have {data} give smaller batches, or a torch data set, as TensorDataset(inputs, targets), of which "
        "--batch-size says how many samples go together."
    )


def options(name: str) -> list[Mapping[str, str]]:
    """What ``--set`` takes for an instrument: a row for each option, with its values and its default."""
    return settings.described(_instrument(name).function)


def plain(found: Measured) -> dict[str, Any]:
    """All of it as JSON for other programs."""
    return {"instrument": found.instrument, "measured": found.facts, "result": written.plain(found.result)}


def rows(found: Measured) -> list[dict[str, str]]:
    """All of it as a table: the result, then what it was measured on."""
    facts = {name: f"{fact:,}" if isinstance(fact, int) else fact for name, fact in found.facts.items() if fact != ""}
    return [{"measured": name, "value": value} for name, value in (*found.result.rows(), *facts.items())]
