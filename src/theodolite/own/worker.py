"""One run of a user's function, in a worker: seeds set, called, checked, measured."""

import random
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from theodolite.code import sources
from theodolite.errors import CodeFailed, TheodoliteError
from theodolite.own import loading
from theodolite.own.declared import NAME, OwnStudy
from theodolite.own.factors import named
from theodolite.own.trained import Trained
from theodolite.own.values import METRICS
from theodolite.record.flatten import flatten
from theodolite.specs import CodeSpec
from theodolite.store import weights
from theodolite.study import Produced, Study

_unpacked: dict[str, tuple[Any, Path]] = {}  # by hash of the code; the folder goes when its object does


@dataclass(frozen=True)
class Here:
    """Finds a file's study in a worker; small enough to be sent with each job."""

    file: Path
    name: str  # of the study
    code: str
    texts: Mapping[str, str]  # for a node that does not see the file

    def study(self) -> OwnStudy | Study[Any]:
        """The study, of the file if it is here and is what the survey began with; else of what came along.

        Raises:
            CodeFailed: the file has changed meanwhile.
        """
        found = loading.studies(loading.module(self._path()))
        return next(study for study in found.values() if study.name == self.name)

    def _path(self) -> Path:
        if self.file.is_file():
            if sources.code(sources.read(self.file)) != self.code:
                raise CodeFailed(
                    f"expected {self.file.name} as it was when the survey began, but it has changed since. Run the "
                    "same command again: it says what to do."
                )
            return self.file
        if self.code not in _unpacked:
            folder = tempfile.TemporaryDirectory(prefix="theodolite-")
            for name, text in self.texts.items():
                path = Path(folder.name, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            _unpacked[self.code] = folder, Path(folder.name, next(iter(self.texts)))
        return _unpacked[self.code][1]


@dataclass(frozen=True)
class Called:
    """A function of a whole ``th.Study``, in a worker: ``measure`` or ``analyse``."""

    here: Here
    name: str

    def __call__(self, *arguments: Any) -> Any:
        """What it gives."""
        return getattr(self.here.study(), self.name)(*arguments)


@dataclass(frozen=True)
class Trainer:
    """Carries out runs of a study that ``th.study`` made."""

    here: Here

    def __call__(self, spec: CodeSpec) -> Produced:
        """Do one run.

        Raises:
            CodeFailed: the user's code raised an error, returned something else, or has changed meanwhile.
        """
        study, texts = self.here.study(), self.here.texts
        assert isinstance(study, OwnStudy)  # noqa: S101 - only such a one has these specs
        assert study.function is not None  # noqa: S101 - or it would not have been prepared
        levels = {name: study.factors[name].get(value, value) for name, value in spec.labels.items()}
        call = f"{study.function.__name__}({named({'seed': spec.seed, **spec.labels})})"
        with _afresh(spec.seed):
            with _told(call, texts):
                returned = study.function(seed=spec.seed, **levels)
            produced = _produced(returned, call)
            if study.measures and not isinstance(returned, Trained):
                raise CodeFailed(
                    f"expected {call} to return th.Trained(model, …), since '{next(iter(study.measures))}' is "
                    "measured, "
                    f"got {type(returned).__name__}."
                )
            measured = {}
            for name, (function, options) in study.measures.items():
                with _told(f"the measurement '{name}' of {call}", texts):
                    measured[name] = _measured(function(returned.model, returned.loss, returned.data, **options))
        return replace(produced, tables={**produced.tables, **measured})


@contextmanager
def _afresh(seed: int) -> Iterator[None]:
    """The seeds of all that draws; and what a run sets for the whole process is put back, for the next run."""
    dtype, gradients = torch.get_default_dtype(), torch.is_grad_enabled()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_default_device(None)
        torch.set_grad_enabled(gradients)
        torch.use_deterministic_algorithms(deterministic)


@contextmanager
def _told(what: str, texts: Mapping[str, str]) -> Iterator[None]:
    """An error of the user's code in one sentence, with the innermost line of it."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, CodeFailed):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        names = {Path(name).name for name in texts}
        own = [frame for frame in frames if Path(frame.filename).name in names]
        place = f" in line {own[-1].lineno} of {Path(own[-1].filename).name}" if own else ""
        kind = "" if isinstance(error, TheodoliteError) else f"{type(error).__name__}: "
        raise CodeFailed(f"{what} failed{place}: {kind}{' '.join(str(error).split())}") from error


def _produced(returned: Any, call: str) -> Produced:
    """The tables of what a run returned."""
    if isinstance(returned, Trained):
        if not isinstance(returned.model, torch.nn.Module):
            raise CodeFailed(
                f"expected th.Trained of {call} with a torch.nn.Module, got {type(returned.model).__name__}."
            )
        tables = {**_tables(returned.metrics, call), **_tables(returned.tables, call)}
        state = returned.model.state_dict()
        tensors = {name: t.detach().cpu().clone() for name, t in state.items() if isinstance(t, torch.Tensor)}
        parameters = sum(p.numel() for p in returned.model.parameters() if p.requires_grad)
        blobs = {"weights.safetensors": weights.to_bytes(tensors)} if tensors else {}
        return Produced(tables, blobs, {"parameters": parameters})
    if not isinstance(returned, Mapping) or not returned:
        raise CodeFailed(
            f"expected {call} to return th.Trained(…), a dict of numbers or DataFrames by name, got "
            f"{'an empty dict' if isinstance(returned, Mapping) else _kind(returned)}. For example: return "
            f"{{'error': 0.03}}"
        )
    return Produced(_tables(returned, call))


def _tables(returned: Mapping[str, Any], call: str) -> dict[str, pd.DataFrame]:
    """Numbers as one row of the metrics, and DataFrames with all their numbers as floats."""
    numbers, tables = {}, {}
    for name, value in returned.items():
        if not isinstance(name, str) or not name:
            raise CodeFailed(f"expected names as text in what {call} returns, got {name!r:.40}.")
        if isinstance(value, pd.DataFrame):
            if name == METRICS or not NAME.fullmatch(name):
                raise CodeFailed(
                    f"expected a table's name of letters, digits, - and _, and not '{METRICS}', got '{name}'."
                )
            tables[name] = _floats(value, name, call)
        else:
            numbers[name] = _number(value, name, call)
    return {**({METRICS: pd.DataFrame([numbers])} if numbers else {}), **tables}


def _number(value: Any, name: str, call: str) -> float:
    if isinstance(value, torch.Tensor | np.ndarray) and value.size in (1, torch.Size([1])):
        value = value.item()
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, bool | int | float | np.generic) or isinstance(value, np.str_):
        raise CodeFailed(
            f"expected '{name}' of {call} as a number or a DataFrame, got {_kind(value)}. Several numbers are a "
            "DataFrame with a row each."
        )
    return float(value)


def _floats(table: pd.DataFrame, name: str, call: str) -> pd.DataFrame:
    if not all(isinstance(column, str) for column in table.columns) or table.columns.has_duplicates:
        raise CodeFailed(
            f"expected columns of '{name}' of {call} with names of their own, got {list(table.columns)!r:.80}."
        )
    columns: dict[str, pd.Series] = {}
    for column in map(str, table.columns):
        values = table[column]
        if pd.api.types.is_numeric_dtype(values):  # bools too
            columns[column] = values.astype("float64")
        elif values.dropna().map(lambda value: isinstance(value, str)).all():
            columns[column] = values.astype("string")
        else:
            raise CodeFailed(
                f"expected column '{column}' of '{name}' of {call} as numbers or text, got {values.dtype}."
            )
    return pd.DataFrame(columns).reset_index(drop=True)


def _measured(result: Any) -> pd.DataFrame:
    """A row a number: the quantity, its place in its vector, and itself."""
    numbers, vectors = flatten(result)
    rows = [(name, 0, value) for name, value in numbers.items()]
    rows += [(name, place, value) for name, vector in vectors.items() for place, value in enumerate(vector)]
    return pd.DataFrame(rows, columns=["quantity", "entry", "number"]).astype({"number": "float64"})


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__}"
