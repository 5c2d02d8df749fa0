"""A study of one's own as a reader knows it: made of its description alone, so that no file is needed and none runs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from theodolite.own import findings
from theodolite.own.claimed import claim
from theodolite.own.described import Description, names, read_description
from theodolite.store.records import Records
from theodolite.study import Settings, Study

FEW = 3  # seeds of the preset ``smoke``


class OwnSettings(Settings):
    """All that can be set from outside: the factors are in the file."""

    seeds: PositiveInt = 8


def study_of(
    description: Description, *, seeds: int = 8, functions: Mapping[str, Callable[[Records[Any]], Any]] | None = None
) -> Study[OwnSettings]:
    """The study that is described.

    Args:
        description: of it.
        seeds: that its file asks for.
        functions: by claim what its evidence is made by, where the file is at hand.
    """
    at = functions or {}
    return Study(
        name=description.name,
        title=description.title,
        question=description.question,
        source=f"a study of one's own, {description.file}",
        settings_type=OwnSettings,
        presets={
            "smoke": OwnSettings(seeds=min(FEW, seeds)),
            "quick": OwnSettings(seeds=seeds),
            "full": OwnSettings(seeds=seeds),
        },
        expand=lambda settings: (),
        tables=lambda records: findings.tables(description, records),
        figures=lambda records: findings.figures(description, records),
        claims=[claim(description, one, at.get(one.id)) for one in description.claims],
        not_shown=description.not_shown,
        seconds={},
        texts=description.texts,
    )


def in_folder(directory: Path) -> list[Study[OwnSettings]]:
    """The studies of one's own that a results folder describes.

    Raises:
        RecordCorrupt: a description is not what was written.
    """
    found = (read_description(directory, name) for name in names(directory))
    return [study_of(description) for description in found if description is not None]
