"""Tables as Parquet. A file may come from anybody: what it claims is checked before memory is given to it."""

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from theodolite.errors import RecordCorrupt

CELLS = 50_000_000  # of one table, 400 MB of numbers; the largest of our own has under a million
TEXT = ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
NAMES = 10_000_000  # bytes of one string in the footer


def to_bytes(table: pd.DataFrame) -> bytes:
    """A table as a Parquet file."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, compression="snappy")
    return buffer.getvalue()


def from_bytes(content: bytes, path: Path, advice: str) -> pa.Table:
    """A Parquet file of flat columns as a table.

    A run-length encoding can claim a billion rows in a hundred bytes, and a dictionary can repeat one long text in
    every row: both are refused before they are unfolded. What remains is a page that was compressed: the format gives
    it 2 GiB at most. (Its codec is not asked for: pyarrow 26 ends the process where a column's statistics are
    malformed. Nor does it read with threads, some of which a malformed file leaves behind.)

    Args:
        content: of the file.
        path: for the message.
        advice: what to do, for the message.

    Raises:
        RecordCorrupt: it is no such file; the message names it.
    """
    try:
        metadata = pq.read_metadata(pa.BufferReader(content))
        columns = [metadata.schema.column(number) for number in range(metadata.num_columns)]
        _check(metadata, columns)
        file = pq.ParquetFile(
            pa.BufferReader(content),
            metadata=metadata,
            read_dictionary=[column.path for column in columns if column.physical_type in TEXT],
            thrift_string_size_limit=NAMES,
            pre_buffer=False,
        )
        return _unfolded(file.read(use_threads=False))
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


def _check(metadata: pq.FileMetaData, columns: list[pq.ColumnSchema]) -> None:
    cells = metadata.num_rows * max(metadata.num_columns, 1)
    if metadata.num_rows < 0 or cells > CELLS:
        raise ValueError(f"expected at most {CELLS} cells, and it claims {cells}")
    for column in columns:
        if column.max_repetition_level or "." in column.path:
            raise ValueError(f"expected numbers and text, and column '{column.path}' is nested")


def _unfolded(table: pa.Table) -> pa.Table:
    """Text as text, where it is not more than the cells would hold as numbers."""
    for number, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table.column(number)
            longest = max((_longest(chunk.dictionary) for chunk in column.chunks), default=0)
            if longest * table.num_rows > 8 * CELLS:
                raise ValueError(f"column '{field.name}' repeats a text of {longest} bytes {table.num_rows} times")
            table = table.set_column(number, field.name, column.cast(field.type.value_type))
    table = pa.table(table.columns, names=table.column_names)  # without what its author says about pandas or types
    table.validate(full=True)  # text is UTF-8
    return table


def _longest(texts: pa.Array) -> int:
    return pc.max(pc.binary_length(texts)).as_py() or 0
