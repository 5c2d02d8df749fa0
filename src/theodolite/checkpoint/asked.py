"""A measurement as a shell asks for it: which part of a file is meant, how data are scaled; and what was left out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from theodolite.checkpoint import inputs, measuring
from theodolite.checkpoint.advice import in_shell
from theodolite.checkpoint.measuring import Measured
from theodolite.checkpoint.weights import Checkpoint
from theodolite.code import running as code
from theodolite.errors import MeasurementError, SettingError, UnknownName


def measure(
    name: str,
    *,
    checkpoints: Sequence[Path] = (),
    weights_key: str | None = None,
    strip_prefix: str | None = None,
    data: str | None = None,
    part: str = "train",
    scale: str | None = None,
    samples: str | int | None = None,
    reduction: str | None = None,
    options: Sequence[str] = (),
    **others: Any,
) -> Measured:
    """Measure a checkpoint; all that is not named here is as in :func:`theodolite.checkpoint.measuring.measure`.

    Args:
        name: of the instrument.
        checkpoints: files of weights, or folders.
        weights_key: where the weights lie in each file, "a.b" for b in a; None: where the model's names are.
        strip_prefix: what comes before the model's names there; None: whatever does; "": nothing.
        data: a data set's name or ``FILE.py:NAME``.
        part: of a named data set: ``"train"`` or ``"test"``.
        scale: of the pixels of a named data set: ``"standard"``, ``"unit"`` or ``"none"``; None: standard.
        samples: how many to use, or ``FILE.py:NAME``, a function that says for how many samples a batch counts.
        reduction: what the loss is over a batch: ``"mean"`` or ``"sum"``.
        options: as there.
        others: as there.

    Raises:
        UnknownName, SettingError: no such scale, or one for data of the user's own.
        UsageError, StoreError, DataError, MeasurementError: as there.
    """
    named = None if data is None or code.is_code(data) else inputs.Scaled(data, scale or "standard")
    if scale is not None:
        if scale not in inputs.SCALES:
            raise UnknownName("scale", scale, inputs.SCALES)
        if named is None:
            raise SettingError(
                "expected --scale with a named data set alone, since data of your own are taken as given."
            )
    number, weigh = _samples(samples)
    if reduction is not None:
        options = [*options, f"reduction={reduction}"]
    left_out: dict[str, None] = {}  # of a path of checkpoints, all the same
    files: list[Any] = [  # each stands for its path until it is read
        Checkpoint(path, weights_key, strip_prefix, left_out.setdefault) for path in checkpoints
    ]
    try:
        found = measuring.measure(
            name,
            checkpoints=files,
            data=named or data,
            part=part,
            samples=number,
            options=options,
            functions=weigh,
            **others,
        )
    except (MeasurementError, SettingError) as error:
        error.args = (in_shell(str(error), [row["option"] for row in measuring.options(name)]),)
        raise
    facts = found.facts
    if named is not None and "data" in facts:
        facts = facts | {"data": f"{facts['data']}, {inputs.scaling(named)}"}
    if left_out:
        facts = facts | {"left out": " / ".join(left_out)}
    return replace(found, facts=facts)


def _samples(given: str | int | None) -> tuple[int | None, dict[str, Any]]:
    """How many samples to use, or the option that says what a batch counts for."""
    if isinstance(given, str) and code.is_code(given):
        return None, {"samples": code.named(given, "--samples")}
    if given is None or (str(given).isdecimal() and int(given) > 0):
        return None if given is None else int(given), {}
    raise SettingError(
        f"expected --samples as a number of at least 1, or FILE.py:NAME, a function of a batch, got '{given}'. For "
        "example: --samples 1000"
    )
