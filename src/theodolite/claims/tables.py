"""Numbers of a table in a file: one a seed, or one a seed and arm."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from theodolite.claims.needed import FEWEST
from theodolite.errors import SettingError, UnknownName
from theodolite.wording import counted


def read(path: Path) -> pd.DataFrame:
    """A CSV file as text, so that nothing in it is guessed.

    Raises:
        SettingError: there is no such file, or it is no table.
    """
    try:
        _check_lines(path)
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, UnicodeError, ValueError, csv.Error) as error:  # pandas' own errors are ValueErrors
        why = str(error).partition("\n")[0]
        raise SettingError(f"expected a CSV file with a line of column names, got {path} ({why}).") from None
    return table.rename(columns=lambda name: str(name).strip())


def _check_lines(path: Path) -> None:
    """Refuse lines with more values than there are columns: pandas would take the first column for names of rows."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, skipinitialspace=True)
        header = next(lines, [])
        other = next((sign for sign in (";", "\t") if "".join(header).count(sign) >= len(header)), None)
        if other:
            raise ValueError(f"columns are separated by {other!r}: save it with commas and decimal points")
        for line in lines:
            if len(line) > len(header):
                columns = counted(len(header), "column name")
                raise ValueError(f"line {lines.line_num} has {counted(len(line), 'value')} for {columns}")


def one_number_a_seed(table: pd.DataFrame, value: str, seed: str) -> pd.Series:
    """The numbers of a column, by seed.

    Raises:
        UnknownName: there is no such column.
        SettingError: text, nothing or an infinity where a number was expected, a seed twice, or fewer than three.
    """
    for column in (value, seed):
        if column not in table.columns:
            raise UnknownName("column", column, map(str, table.columns))
    numbers = pd.to_numeric(table[value], errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise SettingError(
            f"expected a number in column '{value}' of every row, got '{table[value].iloc[row]}' in line "
            f"{table.index[row] + 2}. A seed that was never run is left out; one whose run gave no number counts at "
            "its worst in th.claims.test, as NaN."
        )
    named = table[seed].str.strip()
    if (named == "").any():
        raise SettingError(f"expected a seed in every row, got none in line {table.index[named == ''][0] + 2}.")
    if named.duplicated().any():
        again = named[named.duplicated()].iloc[0]
        raise SettingError(
            f"expected one number a seed, got seed {again} more than once. Compare two arms with --arms COLUMN=A,B, or "
            "reduce each seed to one number."
        )
    if len(named) < FEWEST:
        raise SettingError(f"expected {FEWEST} seeds or more, got {counted(len(named), 'seed')}: fewer decide nothing.")
    return pd.Series(numbers, index=_seeds(named))


def arms(table: pd.DataFrame, text: str) -> list[pd.DataFrame]:
    """The rows of two arms, from ``COLUMN=A,B``.

    Raises:
        UnknownName: there is no such column, or no such arm in it.
        SettingError: not of that form.
    """
    column, equals, names = text.partition("=")
    wanted = [name.strip() for name in names.split(",")]
    if not equals or len(set(wanted)) != 2 or len(wanted) != 2 or not all(wanted):
        raise SettingError(f"expected --arms COLUMN=A,B with two arms, got '{text}'. For example: --arms decay=0.01,0")
    if column not in table.columns:
        raise UnknownName("column", column, map(str, table.columns))
    values = table[column].str.strip()
    for name in wanted:
        if not (values == name).any():
            raise UnknownName("arm", name, values.unique())
    return [table[values == name] for name in wanted]


def _seeds(named: pd.Series) -> pd.Index:
    """As whole numbers where they are some, so that 3 and 03 are one seed."""
    whole = pd.to_numeric(named, errors="coerce")
    return pd.Index(whole.astype("int64") if whole.notna().all() and (whole % 1 == 0).all() else named)
