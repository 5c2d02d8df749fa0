"""Recordings as data frames, all trainings of a folder together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from theodolite.errors import SettingError, StoreError, UnknownName
from theodolite.recordings.trainings import NAME, TABLES, trainings
from theodolite.store import records
from theodolite.store.recorded import SCHEMAS
from theodolite.store.records import Records


@dataclass(frozen=True)
class Recordings:
    """What recorders wrote into one folder. Every frame has a column for the seed and for each label."""

    directory: Path
    _records: Records[BaseModel] = field(repr=False, compare=False)

    @property
    def trainings(self) -> pd.DataFrame:
        """A row a training: seed, labels, status, model, steps, and what ended it, nothing where it was closed.

        ``status`` is ``running`` while somebody records; ``interrupted`` where the training was killed, or ended by an
        error or with its program, so that ``Recorder(resume=True)`` goes on with it; else ``done``.
        """
        return trainings(self._records).drop(columns="fingerprint")

    def table(self, name: str) -> pd.DataFrame:
        """One table of all trainings: ``numbers``, ``vectors``, ``costs``, ``failures``, ``ledger``.

        Raises:
            UnknownName: there is no such table.
        """
        if name not in TABLES:
            raise UnknownName("table of a recording", name, TABLES)
        return self._records.table(name)

    @property
    def numbers(self) -> pd.DataFrame:
        """Every number: a row a step, instrument and quantity."""
        return self.table("numbers")

    @property
    def vectors(self) -> pd.DataFrame:
        """Every vector: a row a step, instrument, quantity and place in the vector."""
        return self.table("vectors")

    def over_seeds(self, instrument: str, quantity: str = "value", *, rank: int | None = None) -> pd.DataFrame:
        """One number over training: a row a step (within the labels, where there are any), a column a seed.

        ``over_seeds("gradient_norm").iloc[-1]`` is the last one of every seed, as ``th.claims.test`` takes it. A seed
        that was not measured at a step has NaN there; of two numbers at one step the last one counts. Of a vector it is
        an entry: ``over_seeds("hessian_eigenvalues", "eigenvalues", rank=2)`` is the second largest of those recorded.

        Args:
            instrument: or the name of a number of your own.
            quantity: a field of what it returned.
            rank: of a vector's entry, 1 the largest; None: the largest.

        Raises:
            UnknownName: nothing of this name was recorded.
            SettingError: a rank of a number, or one that no vector has.
        """
        numbers, vectors = self.numbers, self.vectors
        both = pd.concat([numbers, vectors]) if len(vectors) else numbers
        if not len(both):
            raise StoreError(f"{self.directory} holds no number yet. Wait for the first, or look at .trainings.")
        for column, name in (("instrument", instrument), ("quantity", quantity)):
            if name not in set(both[column]):
                raise UnknownName(f"{column} in {self.directory}", name, set(both[column]))
            both = both[both[column] == name]
        if "place" in both and both["place"].notna().any():
            both = self._ranked(both, rank or 1)
        elif rank is not None:
            raise SettingError(f"expected rank with a vector alone, but '{quantity}' of {instrument} is a number.")
        at = "step" if both["step"].max() > 0 else "epoch"
        labels = self._labels()
        index = [*labels, at]
        return both.drop_duplicates([*index, "seed"], keep="last").pivot(
            index=index if labels else at, columns="seed", values="value"
        )

    def plot(self, *, theme: bool = True, color: str | None = None) -> dict[str, Any]:
        """Figures of all that was recorded, by name, as a report has them: Altair charts, with bands over seeds.

        Args:
            theme: the report's own style; False: that of Altair, or yours.
            color: of the first line of each, such as ``"crimson"``.
        """
        from theodolite.figures.dressed import dressed  # who does not draw needs no altair
        from theodolite.recordings.findings import figures

        return {figure.name: dressed(figure.chart, theme=theme, color=color) for figure in figures(self._records)}

    def __str__(self) -> str:
        table = self.trainings.to_string(index=False)
        return f"Recordings in {self.directory}\n{table}\nnext: .numbers, .vectors, .over_seeds('gradient_norm')"

    def _ranked(self, vectors: pd.DataFrame, rank: int) -> pd.DataFrame:
        """Of each vector the entry of this rank."""
        falling = vectors.sort_values("value", ascending=False, kind="stable")
        ranks = falling.groupby(["fingerprint", "step", "epoch"], sort=False).cumcount() + 1
        if not 1 <= rank <= ranks.max():
            raise SettingError(f"expected rank from 1 to {ranks.max()}, as many entries as were recorded, got {rank}.")
        return falling[ranks == rank].sort_index()

    def _labels(self) -> Sequence[str]:
        return list(dict.fromkeys(name for item in self._records.plan.runs for name in item.labels))


def recordings(directory: str | Path) -> Recordings:
    """Everything that recorders wrote into a results folder, also while they write.

    Args:
        directory: the results folder, ``out`` of :class:`~theodolite.record.recorder.Recorder`.

    Raises:
        StoreError: there is no such folder, or it holds no recording.
        RecordCorrupt: a file is not what was written; the message names it.
    """
    if not isinstance(directory, (str, Path)):
        raise SettingError(f"expected a results folder as text or a path, got {type(directory).__name__}.")
    found = records.read(Path(directory), NAME, SCHEMAS)
    if found is None:
        raise StoreError(f"{directory} holds no recording. Record one: th.Recorder(…, out={str(directory)!r}).")
    return Recordings(Path(directory), found)
