"""Delimited text files: a header of names, then one name and its numbers per line, gzipped or not."""

import csv
import gzip
import io
import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import InputError

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Table:
    """The numbers of a text file and the names of both axes, before anyone knows which axis is genes.

    Parameters
    ----------
    values : (row, column) float32
    rows, columns : the names as they stand in the file, repeated ones included
    """

    values: NDArray[np.float32]
    rows: tuple[str, ...]
    columns: tuple[str, ...]


def read_table(path: Path) -> Table:
    """Read a .csv, .tsv or .txt file, plain or .gz, with or without a byte-order mark and a name above the row names.

    Raises
    ------
    InputError
        the file is empty, is not text, has another compression than its name says, has no numbers, or holds text
        where a number belongs
    """
    text = _decoded(path)
    header, _, body = text.partition("\n")
    delimiter = _delimiter(header)
    columns = next(csv.reader([header.rstrip("\r")], delimiter=delimiter))
    first = next(csv.reader([body.partition("\n")[0].rstrip("\r")], delimiter=delimiter), [])
    if len(first) < 2:
        raise InputError(f"{path} holds no table: expected a header and lines of a name and numbers, with , ; or tab")
    # R's write.table puts no field above the row names; everyone else does, mostly an empty one.
    columns = columns if len(columns) == len(first) - 1 else columns[1:]
    if len(columns) != len(first) - 1:
        fields = f"{len(columns) + 1} fields, the line below it {len(first)}"
        raise InputError(
            f"{path}: the header has {fields}; it must name each column, and may name that of the row names"
        )
    frame = _numbers(path, body, delimiter, columns)
    return Table(frame.to_numpy(np.float32), tuple(frame.index), tuple(columns))


def _decoded(path: Path) -> str:
    """The whole file as text; a text matrix is a fraction of the memory its dense form takes next."""
    raw = path.read_bytes()
    zipped = raw.startswith(GZIP_MAGIC)
    if zipped != (path.suffix == ".gz"):
        truth, name = ("gzip", f"{path.name}.gz") if zipped else ("not gzip", path.name.removesuffix(".gz"))
        raise InputError(f"{path} is {truth}-compressed, whatever its name says: rename it to {name}")
    try:
        text = (gzip.decompress(raw) if zipped else raw).decode("utf-8-sig")
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise InputError(f"{path} is a damaged gzip file ({e}): fetch or copy it again") from e
    except UnicodeDecodeError as e:
        raise InputError(f"{path} is not UTF-8 text (byte {e.start}): save it as UTF-8, or give .h5ad or .zarr") from e
    if not text.strip():
        raise InputError(f"{path} is empty: there is nothing to read; was the file written to its end?")
    return text


def _delimiter(header: str) -> str:
    """The commonest of tab, comma and semicolon in the header; a space when it has none of them."""
    best = max("\t,;", key=header.count)
    return best if header.count(best) else " "


def _numbers(path: Path, body: str, delimiter: str, columns: list[str]) -> pd.DataFrame:
    # Names by position: pandas renames repeated headers (A, A.1), which would hide duplicate genes.
    # keep_default_na=False: NA and NaN are names of genes in the first column, and no numbers in the others.
    types: defaultdict[int, Any] = defaultdict(lambda: np.float32, {0: str})
    options: Any = {"header": None, "index_col": 0, "sep": delimiter, "keep_default_na": False}
    try:
        frame: pd.DataFrame = pd.read_csv(io.StringIO(body), dtype=types, **options)
        return frame
    except pd.errors.ParserError as e:
        reason = str(e).strip().splitlines()[0].removeprefix("Error tokenizing data. C error: ")
        raise InputError(f"{path}: lines of unequal length ({reason}, from the second line on); repair the file") from e
    except ValueError as e:
        raise InputError(_first_text(path, pd.read_csv(io.StringIO(body), dtype=str, **options), columns)) from e


def _first_text(path: Path, frame: pd.DataFrame, columns: list[str]) -> str:
    """Name the first cell of the table that is not a number."""
    for position, name in enumerate(columns):
        column = frame.iloc[:, position]
        bad = pd.to_numeric(column, errors="coerce").isna().to_numpy()
        if bad.any():
            row = int(bad.argmax())
            return (
                f"{path}: {column.iloc[row]!r} in row {frame.index[row]!r}, column {name!r} is not a number;"
                f" leave only numbers beside the names ({int(bad.sum())} such in this column)"
            )
    return f"{path}: some values are no 32-bit numbers; leave only numbers beside the names"
