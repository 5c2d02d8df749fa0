"""What a table of a record holds: declared beside what writes it, checked here when written and when read.

A checksum tells that a file is what its author wrote; this tells that it is what a study writes. Imports no torch.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from theodolite.errors import RecordCorrupt
from theodolite.wording import shown

LARGEST = sys.float_info.max  # the largest finite number; a column that may hold infinity says so by its bounds
WHOLE = 10**15  # what a float holds exactly


@dataclass(frozen=True, slots=True)
class Column:
    """One column. Made by :func:`number`, :func:`whole`, :func:`text`, :func:`truth` and :func:`anything`."""

    kind: Literal["number", "whole number", "text", "truth", "anything"]
    low: float = -LARGEST
    high: float = LARGEST
    null: bool = False  # a cell may be empty, or NaN
    values: tuple[str, ...] = ()  # texts that are known; none: any text
    optional: bool = False  # older versions write tables without it


@dataclass(frozen=True, slots=True)
class TableSchema:
    """The columns of a table by name, and what its rows keep to."""

    columns: Mapping[str, Column]
    key: tuple[str, ...] = ()  # no two rows are alike in these columns
    ascending: bool = False  # its one key grows from row to row
    single: bool = False  # it has one row
    empty: bool = False  # it may have no row, and then no column
    always: bool = False  # every finished run has it
    rest: Column | None = None  # what every column is that it does not name; None: such are not read


def number(low: float = -LARGEST, high: float = LARGEST, *, null: bool = False, optional: bool = False) -> Column:
    """Real numbers within these bounds, finite unless a bound is infinite."""
    return Column("number", low, high, null, optional=optional)


def whole(low: int = 0, high: int = WHOLE, *, null: bool = False, optional: bool = False) -> Column:
    """Whole numbers within these bounds."""
    return Column("whole number", low, high, null, optional=optional)


def text(*values: str, optional: bool = False) -> Column:
    """One of these texts, or any."""
    return Column("text", values=values, optional=optional)


def truth(*, optional: bool = False) -> Column:
    """True or false."""
    return Column("truth", optional=optional)


def anything() -> Column:
    """Numbers, texts or truths, some missing: of a table that is the user's own, and stays of the types it has."""
    return Column("anything", null=True)


REST = "*"  # in place of a table's name: every table that has no schema of its own
OWN = TableSchema({}, empty=True, rest=anything())  # of a user who declared none


def schema_of(schemas: Mapping[str, TableSchema], name: str) -> TableSchema | None:
    """What a table of this name is; None: nothing is known of it.

    >>> schema_of({REST: OWN}, "curve") is OWN, schema_of({}, "curve") is None
    (True, True)
    """
    return schemas.get(name, schemas.get(REST))


def checked(table: pa.Table, schema: TableSchema, path: Path, advice: str) -> pa.Table:
    """The columns that the schema names, each of its kind, and those that it lets stand beside them.

    Args:
        table: as it was read, or is to be written.
        schema: what it is to be.
        path: for the message.
        advice: what to do, for the message.

    Raises:
        RecordCorrupt: it is not; the message names file, column and row, counted from 1.

    Example:
        >>> ratios = TableSchema({"ratio": number(0, 1)})
        >>> checked(pa.table({"ratio": [0.5, -1.0]}), ratios, Path("a.parquet"), "Redo it.")
        Traceback (most recent call last):
        theodolite.errors.RecordCorrupt: a.parquet: column 'ratio', row 2: expected a number from 0 to 1, got -1.0. Redo
        it.
    """
    columns = _columns(table, schema)
    fault = next(_faults(table, schema, columns), None)
    if fault is not None:
        raise RecordCorrupt(f"{path}: {shown(fault)}. {advice}")
    names = [name for name in columns if name in table.column_names]
    try:
        return pa.table({name: _cast(table.column(name), columns[name]) for name in names})
    except pa.ArrowException as error:
        raise RecordCorrupt(f"{path}: {shown(str(error).splitlines()[0])}. {advice}") from None


def _columns(table: pa.Table, schema: TableSchema) -> Mapping[str, Column]:
    """What each column is to be, those of the table in their order where any may stand in it."""
    if schema.rest is None:
        return schema.columns
    return {**{name: schema.columns.get(name, schema.rest) for name in table.column_names}, **schema.columns}


def _faults(table: pa.Table, schema: TableSchema, columns: Mapping[str, Column]) -> Iterator[str]:
    """What is wrong with a table, the first first."""
    if not table.num_rows and not schema.empty:
        yield "expected rows, got none"
    for name, column in columns.items():
        times = table.column_names.count(name)
        if times > 1:
            yield f"column '{name}' is there {times} times"
        elif times:
            yield from _in_column(table.column(name), name, column)
        elif table.num_rows and not column.optional:
            yield f"expected a column '{name}', got {', '.join(map(repr, table.column_names[:20])) or 'none'}"
    yield from _in_rows(table, schema)


def _in_column(cells: pa.ChunkedArray, name: str, column: Column) -> Iterator[str]:
    if pa.types.is_null(cells.type) and (column.null or not len(cells)):
        return
    if not _is_of(cells.type, column.kind):
        yield f"column '{name}': expected {_expected(column)}, got {cells.type}"
        return
    if column.kind == "anything":
        return
    if cells.null_count and not column.null:
        yield f"column '{name}', row {_first(cells.is_null().to_numpy())}: expected {_expected(column)}, got nothing"
    if column.kind == "text":
        if column.values:
            known = pc.is_in(cells.cast(pa.large_string()), pa.array(column.values, pa.large_string())).to_numpy()
            if not known.all():
                row = _first(~known)
                yield f"column '{name}', row {row}: expected {_expected(column)}, got '{cells[row - 1].as_py()[:50]}'"
    elif column.kind != "truth":
        values = cells.to_numpy()
        right = (values >= column.low) & (values <= column.high)  # NaN is neither
        if column.null:
            right |= np.isnan(values)
        if not right.all():
            row = _first(~right)
            yield f"column '{name}', row {row}: expected {_expected(column)}, got {values[row - 1]}"


def _in_rows(table: pa.Table, schema: TableSchema) -> Iterator[str]:
    """Rows that are one too many, there twice, or in another order."""
    if schema.single and table.num_rows > 1:
        yield f"row 2: expected one row, got {table.num_rows}"
    key = [name for name in schema.key if name in table.column_names]
    if not key or table.num_rows < 2:
        return
    if schema.ascending:
        cells = table.column(key[0]).to_numpy()
        wrong, how = cells[1:] <= cells[:-1], "expected more than in the row before"
    else:
        wrong, how = table.select(key).to_pandas().duplicated().to_numpy()[1:], "it is as in a row before"
    if wrong.any():
        row = 1 + _first(wrong)
        yield f"column '{', '.join(key)}', row {row}: {how}"


def _is_of(kind: pa.DataType, wanted: str) -> bool:
    if wanted == "anything":
        return pa.types.is_float16(kind) or any(_is_of(kind, one) for one in ("number", "text", "truth"))
    if wanted == "text":
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    if wanted == "truth":
        return bool(pa.types.is_boolean(kind))
    real = pa.types.is_float32(kind) or pa.types.is_float64(kind)
    return bool(pa.types.is_integer(kind) or (real and wanted == "number"))


def _cast(cells: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    """In the type that it has in every file, so that the rows of all fit together; single precision stays."""
    if column.kind == "number":
        return cells if pa.types.is_floating(cells.type) else cells.cast(pa.float64())
    if column.kind == "anything":
        return cells.cast(pa.large_string()) if _is_of(cells.type, "text") else cells
    types = {"whole number": pa.int64(), "text": pa.large_string(), "truth": pa.bool_()}
    return cells.cast(types[column.kind])


def _expected(column: Column) -> str:
    if column.kind == "text":
        return f"one of {', '.join(column.values)}" if column.values else "text"
    if column.kind == "truth":
        return "true or false"
    if column.kind == "anything":
        return "numbers, texts or truths"
    low, high = (f"{bound:g}" if abs(bound) < LARGEST else "" for bound in (column.low, column.high))
    bounds = f" from {low} to {high}" if low and high else f" of at least {low}" if low else ""
    return f"a {column.kind}{bounds}"


def _first(wrong: Any) -> int:
    """The row of the first, counted from 1."""
    return int(np.argmax(wrong)) + 1


def of_frame(table: pd.DataFrame) -> pa.Table:
    """A table as it will be read back."""
    return pa.Table.from_pandas(table, preserve_index=False)
