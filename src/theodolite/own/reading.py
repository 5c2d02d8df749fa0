"""A study of one's own as a reader knows it: made of its description alone, so that no file is needed and none runs."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, PositiveInt, SerializerFunctionWrapHandler, create_model, model_serializer

from theodolite.own import findings
from theodolite.own.claimed import claim
from theodolite.own.described import Description, names, read_description
from theodolite.store.content import OWN, REST
from theodolite.store.plan import counts_seeds
from theodolite.store.records import Records
from theodolite.study import Settings, Study, TableSchema, number, text, whole

MEASURED = TableSchema(  # what was measured of a trained network: a row a number, with its place in its vector
    {"quantity": text(), "entry": whole(), "number": number(-math.inf, math.inf, null=True)},
    key=("quantity", "entry"),
)
FEW = 3  # seeds of the preset ``smoke``


class OwnSettings(Settings):
    """What can be set from outside of any study of one's own; the levels of its factors come to it."""

    model_config = ConfigDict(protected_namespaces=())  # a factor may be called model_size

    seeds: PositiveInt = 8

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Levels that were set alone: a plan says no more than it did before they could be."""
        return {name: value for name, value in handler(self).items() if value is not None}


def _settings_of(description: Description) -> type[OwnSettings]:
    """With a field a factor, None for the levels of the file; not for names that have another meaning here."""
    taken = [name for name in description.factors if hasattr(OwnSettings, name) or counts_seeds(name) or name[0] == "_"]
    fields: dict[str, Any] = {name: (Any, None) for name in description.factors if name not in taken}
    return create_model("OwnSettings", __base__=OwnSettings, **fields)


def study_of(
    description: Description, *, seeds: int = 8, functions: Mapping[str, Callable[[Records[Any]], Any]] | None = None
) -> Study[OwnSettings]:
    """The study that is described.

    Args:
        description: of it.
        seeds: that its file asks for.
        functions: by claim what its evidence is made by, where the file is at hand.
    """
    at, kind = functions or {}, _settings_of(description)
    return Study(
        name=description.name,
        title=description.title,
        question=description.question,
        source=f"a study of one's own, {description.file}",
        settings_type=kind,
        presets={"smoke": kind(seeds=min(FEW, seeds)), "quick": kind(seeds=seeds), "full": kind(seeds=seeds)},
        expand=lambda settings: (),
        tables=lambda records: findings.tables(description, records),
        figures=lambda records: findings.figures(description, records),
        claims=[claim(description, one, at.get(one.id)) for one in description.claims],
        not_shown=description.not_shown,
        seconds={},
        texts=description.texts,
        schemas={REST: OWN} | dict.fromkeys(description.measures, MEASURED),
    )


def in_folder(directory: Path) -> list[Study[OwnSettings]]:
    """The studies of one's own that a results folder describes.

    Raises:
        RecordCorrupt: a description is not what was written.
    """
    found = (read_description(directory, name) for name in names(directory))
    return [study_of(description) for description in found if description is not None]
