"""Which recording of a folder a training is: a new one, the same that goes on, one in place of another, or refused.

A second seed is evidence only where the model and the settings are the same and chance is not. So what is of another
model or other settings needs other labels, and what begins with the same weights and random state is no second seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from theodolite.errors import SettingError, StoreError
from theodolite.record.former import Former, Labels, find
from theodolite.specs import RecordingSpec

# What must be the same in all seeds, as it is called in spec.json and in words. What a recording of an earlier version
# does not say is not compared.
COMPARED = {
    "model": "class of the model", "parameters": "number of trained parameters", "shapes": "shapes of the parameters",
    "instruments": "instruments", "options": "options of the instruments", "schedule": "every", "mode": "mode",
    "loss": "loss", "measured on": "data to measure on", "probe_samples": "number of samples to measure on",
    "samples": "samples", "reduction": "reduction",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user said of the place of a recording."""

    seed: int | None
    labels: Labels
    resume: bool | int  # an integer: the step of the checkpoint
    replace: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a recording goes."""

    spec: RecordingSpec
    former: Former | None = None  # the recording that goes on; None: it is a new one
    step: int = 0  # that the training goes on from
    guessed: bool = False  # nobody said which step that is


def choose(directory: Path, study: str, asked: Asked, facts: Mapping[str, Any], number: int | None) -> Place:
    """The place of a training that begins now.

    Args:
        directory: the results folder.
        study: below it.
        asked: what the user said.
        facts: what the training is known by: :data:`COMPARED`, and its beginning.
        number: of its first step, where the user counts.

    Raises:
        StoreError: it would mix with what is there, or take the place of it unasked.
        SettingError: ``resume`` does not say which recording goes on.
    """
    formers = find(directory, study, asked.labels)
    seed = _seed(formers, asked, facts)
    former = next((one for one in formers if one.seed == seed), None)
    if former is not None and former.held:
        raise StoreError(
            f"another recorder is writing seed {seed} with these labels into {directory}. Pass another seed, other "
            "labels, or none: then the next free seed is taken."
        )
    goes_on = former is not None and asked.resume is not False
    others = [one for one in formers if one is not former]
    for one in [*others, former] if goes_on and former is not None else others:
        _check_same(one, facts, directory)
    if former is not None and goes_on:
        return _continued(former, asked, facts, number)
    for one in others:
        _check_another_seed(one, asked, facts, directory)
    if former is not None and not asked.replace:
        raise StoreError(
            f"seed {seed} with these labels is recorded already in {former.folder} ({_end(former)}). Pass "
            "resume=True to continue it from a checkpoint, replace=True to record it anew, or another seed or labels."
        )
    return Place(RecordingSpec(study=study, labels=dict(asked.labels), seed=seed))


def _seed(formers: Sequence[Former], asked: Asked, facts: Mapping[str, Any]) -> int:
    if asked.seed is not None:
        return asked.seed
    taken = [one.seed for one in formers]
    free = next(number for number in count() if number not in taken)
    if asked.replace:  # the same training again, where there is one
        return next((one.seed for one in formers if _alike(one, facts, "chance_at_start")), free)
    if asked.resume is False or not formers:
        return free
    ended = [one.seed for one in formers if one.interrupted]
    if len(ended) == 1:
        return ended[0]
    which = f"several were interrupted, seeds {', '.join(map(str, ended))}" if ended else "none was interrupted"
    raise SettingError(
        f"expected one interrupted recording with these labels to resume; {which}, and there are seeds "
        f"{', '.join(map(str, taken))}. Say which this training is: seed={(ended or taken)[0]}, or a seed that is free."
    )


def _continued(former: Former, asked: Asked, facts: Mapping[str, Any], number: int | None) -> Place:
    guessed = False
    if not isinstance(asked.resume, bool):
        step = asked.resume
    elif number is not None:
        step = max(number - 1, 0)
    elif _alike(former, facts, "chance_at_start") and _alike(former, facts, "weights_at_start"):
        step = 0  # it is where the recording began: no checkpoint was loaded
    else:
        step, guessed = former.steps, True
    if step == 0 and former.steps and not former.interrupted:
        raise StoreError(
            f"the recording of seed {former.seed} ended after {former.steps} steps, and this training begins anew. "
            "Load the checkpoint that it goes on from, pass replace=True to record it anew, or take another seed."
        )
    return Place(former.spec, former, step, guessed)


def _check_same(former: Former, facts: Mapping[str, Any], directory: Path) -> None:
    for key, words in COMPARED.items():
        if key in former.facts and key in facts and former.facts[key] != facts[key]:
            before, now = (f"{known[key]!s:.60}" for known in (former.facts, facts))
            values = "" if key == "shapes" else f": {before} there, {now} here"
            raise StoreError(
                f"{directory} holds a recording with the same labels, seed {former.seed}, and another {words}{values}. "
                "Two seeds differ in nothing but chance: pass labels={'model': …}, or another folder, out=…."
            )


def _check_another_seed(former: Former, asked: Asked, facts: Mapping[str, Any], directory: Path) -> None:
    if not _alike(former, facts, "chance_at_start"):
        return
    if former.held and _alike(former, facts, "weights_at_start"):
        raise StoreError(
            f"the same training is being recorded as seed {former.seed} in {directory} just now. Where several "
            "processes train one model, call the recorder in one of them. Where an error left its recorder open, pass "
            "resume=True to go on from a checkpoint, or replace=True. Else seed the training otherwise."
        )
    if _alike(former, facts, "weights_at_start"):
        raise StoreError(
            f"this training begins with the weights and the random state of seed {former.seed} in {directory} "
            f"({_end(former)}): the same again is no second seed. Pass seed={former.seed} with replace=True to record "
            "it anew or resume=True to continue it, or seed the training otherwise: torch.manual_seed(…)."
        )
    if asked.seed is None:
        raise StoreError(
            f"this training begins with the random state of seed {former.seed} in {directory} and with other weights: "
            "the same seed, and another setting. Pass labels={'learning_rate': …} to compare the two, or seed=… if "
            "they differ in nothing but chance."
        )


def _alike(former: Former, facts: Mapping[str, Any], key: str) -> bool:
    return former.facts.get(key) is not None and former.facts.get(key) == facts.get(key)


def _end(former: Former) -> str:
    if former.held:
        return f"{former.steps} steps so far"
    return f"interrupted after {former.steps} steps" if former.interrupted else f"{former.steps} steps, ended"
