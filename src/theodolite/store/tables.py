"""Tables as Parquet. A file may come from anybody: what it claims is checked before memory is given to it."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from theodolite.errors import RecordCorrupt, require
from theodolite.wording import shown

require("A table", "pandas")

CELLS = 50_000_000  # of one table, 400 MB of numbers; the largest of our own has under a million
TEXT = ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # what such text begins with (OWASP)
NAMES = 10_000_000  # bytes of one string in the footer


def to_bytes(table: pd.DataFrame) -> bytes:
    """A table as a Parquet file."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, compression="snappy")
    return buffer.getvalue()


def to_csv(table: pd.DataFrame) -> bytes:
    """A table as CSV, for spreadsheets too: text that one would take for a formula, and run, begins with a quote."""
    safe = table.copy(deep=False)
    for name in [name for name, kind in table.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]:
        safe[name] = table[name].map(_no_formula)
    return str(safe.rename(columns=_no_formula).to_csv(index=False, lineterminator="\n")).encode()


def _no_formula(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    return f"'{shown(cell)}" if cell.startswith(FORMULAS) else shown(cell)


def from_bytes(content: bytes, path: Path, advice: str, *, text: Sequence[int] = ()) -> pa.Table:
    """A Parquet file of flat columns as a table.

    A run-length encoding can claim a billion rows in a hundred bytes, and a dictionary can repeat one long text in
    every row: both are refused before they are unfolded. What remains is a page that was compressed: the format gives
    it 2 GiB at most. (Its codec is not asked for: pyarrow 26 ends the process where a column's statistics are
    malformed. Nor does it read with threads, some of which a malformed file leaves behind.)

    Args:
        content: of the file.
        path: for the message.
        advice: what to do, for the message.
        text: numbers of the columns that hold text, as far as they are guessed; where the guess is right, as it is for
            a file like the last one, the footer is read once and not twice (half the time of a small file).

    Raises:
        RecordCorrupt: it is no such file; the message names it.
    """
    try:
        file = _opened(content, text)
        metadata, schema = file.metadata, file.metadata.schema
        columns = [schema.column(number) for number in range(metadata.num_columns)]
        _check(metadata, columns)
        found = [number for number, column in enumerate(columns) if column.physical_type in TEXT]
        if found != list(text):
            file = _opened(content, found)
        table = file.read(use_threads=False)
        return _unfolded(table, found) if found else _valid(table)
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        OverflowError,
        MemoryError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise RecordCorrupt(f"{path} cannot be read as a table ({reason}). {advice}") from None


def text_columns(table: pa.Table) -> list[int]:
    """Which columns hold text, for the next file of its kind."""
    return [n for n, kind in enumerate(table.schema.types) if pa.types.is_string(kind) or pa.types.is_binary(kind)]


def _opened(content: bytes, text: Sequence[int]) -> pq.ParquetFile:
    """The file with its footer read, text to be read as a dictionary."""
    return pq.ParquetFile(
        pa.BufferReader(content), read_dictionary=list(text), thrift_string_size_limit=NAMES, pre_buffer=False
    )


def _check(metadata: pq.FileMetaData, columns: list[pq.ColumnSchema]) -> None:
    cells = metadata.num_rows * max(metadata.num_columns, 1)
    if metadata.num_rows < 0 or cells > CELLS:
        raise ValueError(f"expected at most {CELLS} cells, and it claims {cells}")
    for column in columns:
        if column.max_repetition_level or "." in column.path:
            raise ValueError(f"expected numbers and text, and column '{column.path}' is nested")


def _unfolded(table: pa.Table, text: Sequence[int]) -> pa.Table:
    """Text as text, where it is not more than the cells would hold as numbers."""
    for number in text:
        field = table.schema.field(number)
        if pa.types.is_dictionary(field.type):
            column = table.column(number)
            longest = max((_longest(chunk.dictionary) for chunk in column.chunks), default=0)
            if longest * table.num_rows > 8 * CELLS:
                raise ValueError(f"column '{field.name}' repeats a text of {longest} bytes {table.num_rows} times")
            table = table.set_column(number, field.name, column.cast(field.type.value_type))
    return _valid(table)


def _valid(table: pa.Table) -> pa.Table:
    table = table.replace_schema_metadata(None)  # what its author says about pandas
    table.validate(full=True)  # text is UTF-8
    return table


def _longest(texts: pa.Array) -> int:
    return pc.max(pc.binary_length(texts)).as_py() or 0
