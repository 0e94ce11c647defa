"""Delimited text: a header of names, then one name and its numbers per line. Read twice: the names, then the numbers.

No more than some millions of characters are held at a time. The values of such a block are parsed as one long column,
since a parser of tables spends more on each of 100,000 columns than on the numbers in them.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, BinaryIO, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.features import NUMBERED, OF_GENES
from pairscape.pipeline.matrix.source import Axis, Entries, Lines
from pairscape.pipeline.storage.lines import bounded_text
from pairscape.pipeline.storage.paths import binary, name_of
from pairscape.pipeline.storage.plain_files import moved

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
MOST_COLUMNS = 2**23
ONE_COLUMN = "\x1f"  # a separator that stands in no file


@dataclass(frozen=True)
class NamedNumbers:
    """The names of a text file and where its numbers are, before anyone knows which axis is genes.

    Attributes
    ----------
    rows, columns : the names as they stand in the file, repeated ones included
    numbers
        The matrix.
    annotations
        By their headings, the columns between the names and the numbers that describe genes (featureCounts' Chr).
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    numbers: "Delimited"
    annotations: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Delimited:
    """The numbers of a text file.

    Attributes
    ----------
    place
        Path or URL.
    shape
        Rows and columns.
    delimiter
        What separates the fields.
    lead
        Columns between the names and the numbers, which are left aside.
    """

    place: str
    shape: tuple[int, int]
    delimiter: str
    lead: int = 0

    @property
    def weight(self) -> int:
        """Its rows."""
        return self.shape[0]

    def lines(self, axis: Axis) -> Lines | None:
        """None of either axis: a line of text is found only by reading all before it."""
        return None

    def parts(self) -> Iterator[Entries]:
        """The entries, a block of rows at a time."""
        done = 0
        with text_of(self.place) as text:
            header = _header(text, self.place)
            for block in blocks_of(text):
                values = self._parsed(block, header)
                rows, columns = np.nonzero(values)
                yield Entries(rows + done, columns, values[rows, columns], len(block))
                done += len(block)
        if done != self.shape[0]:
            raise InputError(f"{self.place} has changed since it was opened: open it again")

    def _parsed(self, lines: list[str], header: str) -> NDArray[np.float32]:
        """(line, column) float32."""
        split = [_split(line, self.delimiter) for line in lines]
        for _ in range(self.lead):
            split = [(name, _split(rest, self.delimiter)[1]) for name, rest in split]
        numbers = "\n".join(rest.replace(self.delimiter, "\n") for _, rest in split) + "\n"
        try:
            with np.errstate(over="ignore"):  # infinite then, which the survey of the values reports
                column = pd.read_csv(
                    io.StringIO(numbers), dtype=np.float32, sep=ONE_COLUMN,
                    header=None, keep_default_na=False, skip_blank_lines=False,
                )  # fmt: skip
            return np.asarray(column, np.float32).reshape(len(lines), self.shape[1])
        except (ValueError, pd.errors.ParserError) as e:
            names = [name for name, _ in split]
            raise InputError(self._first_text(numbers.split("\n")[:-1], names, header)) from e

    def _first_text(self, fields: list[str], names: list[str], header: str) -> str:
        """Name the first field that is not a number."""
        values = pd.Series(fields, dtype=object).str.strip('"')
        bad = pd.to_numeric(values, errors="coerce").isna().to_numpy()
        if not bad.any():
            return f"{self.place}: some values are no 32-bit numbers; leave only numbers beside the names"
        row, column = divmod(int(bad.argmax()), self.shape[1])
        name = _fields(header.rstrip("\n"), self.delimiter)[column - self.shape[1]]
        return (
            f"{self.place}: {fields[int(bad.argmax())]!r} in row {names[row]!r}, column {name!r} is not a number; leave"
            " only numbers beside the names"
        )


def read_table(place: str) -> NamedNumbers:
    """Read the names of a .csv, .tsv or .txt file, plain or .gz, with or without a name above the row names.

    Raises
    ------
    InputError
        The file is empty, is not text, has another compression than its name says, has no numbers, or lines of
        unequal length.
    """
    with text_of(place) as text:
        header = _header(text, place)
        blocks = blocks_of(text)
        block = next(blocks, [])
        delimiter, columns = _columns(place, header, block[0] if block else "")
        lead = _described(columns)
        names: list[str] = []
        described: list[list[str]] = [[] for _ in range(lead)]
        while block:
            split = [_split(line, delimiter) for line in block]
            for column in described:
                cells = [_split(rest, delimiter) for _, rest in split]
                column += [cell for cell, _ in cells]
                split = [(name, rest) for (name, _), (_, rest) in zip(split, cells, strict=True)]
            _check_widths(place, split, delimiter, len(columns) - lead, len(names))
            names += [name for name, _ in split]
            block = next(blocks, [])
    numbers = Delimited(place, (len(names), len(columns) - lead), delimiter, lead)
    annotations = {heading: tuple(column) for heading, column in zip(columns[:lead], described, strict=True)}
    return NamedNumbers(tuple(names), columns[lead:], numbers, annotations)


def _header(text: IO[str], place: str) -> str:
    """The first line that is no comment, without its end."""
    line = text.readline()
    while line.startswith(("# ", "##")) or (line.startswith("#") and not set(line) & set("\t,;")):
        below = text.readline()
        if any(line.count(sign) == below.count(sign) > 0 for sign in "\t,;"):
            raise InputError(
                f"{place}: a line that begins with # is a comment, and {line[:40].strip()!r} looks like the header: "
                "remove the # there"
            )
        line = below
    return line.removeprefix("#").rstrip("\n")


def _described(columns: tuple[str, ...]) -> int:
    """How many of the columns after the names describe genes and are no cells; one column at least stays."""
    last = next((n for n, name in enumerate(columns) if name.strip('"').lower() not in OF_GENES), 0)
    return last if any(name.strip('"').lower() not in NUMBERED for name in columns[:last]) else 0


def _columns(place: str, header: str, below: str) -> tuple[str, tuple[str, ...]]:
    """The delimiter, and the names of the columns of numbers."""
    delimiter = _delimiter(header)
    if not header.strip():
        raise InputError(f"{place} is empty: there is nothing to read; was the file written to its end?")
    if (named := header.count(delimiter)) > MOST_COLUMNS:
        raise InputError(f"{place}: the header has {named:,} fields, more than a table can have: is it one?")
    columns, first = _fields(header, delimiter), _fields(below, delimiter)
    if len(first) < 2:
        raise InputError(f"{place} holds no table: expected a header and lines of a name and numbers, with , ; or tab")
    # R's write.table puts no field above the row names; everyone else does, mostly an empty one.
    columns = columns if len(columns) == len(first) - 1 else columns[1:]
    if len(columns) != len(first) - 1:
        fields = f"{len(columns) + 1} fields, the line below it {len(first)}"
        raise InputError(
            f"{place}: the header has {fields}; it must name each column, and may name that of the row names"
        )
    return delimiter, tuple(columns)


def _delimiter(header: str) -> str:
    """The commonest of tab, comma and semicolon in the header; a space when it has none of them."""
    best = max("\t,;", key=header.count)
    return best if header.count(best) else " "


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a field beyond all length, a zero byte: no table
        return []


def _check_widths(place: str, split: list[tuple[str, str]], delimiter: str, n_columns: int, before: int) -> None:
    """Refuse lines with more or fewer numbers than columns."""
    for number, (name, rest) in enumerate(split, before + 2):
        if rest.count(delimiter) + 1 != n_columns or not rest:
            found = rest.count(delimiter) + 1 if rest else 0
            raise InputError(
                f"{place}: lines of unequal length: {n_columns} numbers are named in the header, and line {number}"
                f" ({name!r}) has {found}; repair the file, or write it again to its end"
            )


def _split(line: str, delimiter: str) -> tuple[str, str]:
    """The name and the rest of a line. A quoted name may hold the delimiter, and a quote as two."""
    if line.startswith('"') and (quoted := re.match(r'"((?:[^"]|"")*)"', line)):
        return quoted[1].replace('""', '"'), line[quoted.end() + 1 :]
    name, _, rest = line.partition(delimiter)
    return name, rest


# ── text files: gzipped or not, with or without a byte-order mark, any end of line ───────────────────────────────────

BLOCK = 2**24  # characters that are held at a time
GZIP_MAGIC = b"\x1f\x8b"
FOREIGN = {
    b"\x89HDF": "an HDF5 file: rename it to .h5 or .h5ad",
    b"PK\x03\x04": "an Excel or zip file: save the table as .csv, or unpack it",
    b"BZh": "bzip2-compressed: unpack it, or compress it with gzip",
    b"\xfd7zX": "xz-compressed: unpack it, or compress it with gzip",
    b"PAR1": "a Parquet file: write it as .csv or .h5ad",
}


@contextmanager
def text_of(place: str) -> Iterator[IO[str]]:
    r"""The text of a file, lines ending in \n.

    Raises
    ------
    InputError
        It is of another kind or compression than its name says, damaged, empty or not UTF-8; a line is endless.
    """
    try:
        with binary(place) as raw:
            zipped = _check_magic(place, raw)
            with gzip.open(raw) if zipped else raw as stream:
                yield bounded_text(cast(IO[bytes], stream), place)
    except FileNotFoundError as e:
        raise moved(place) from e
    except PermissionError as e:
        raise InputError(f"{place} may not be read: ask its owner for permission, or copy it") from e
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise InputError(f"{place} is a damaged gzip file ({e}): fetch or copy it again") from e
    except UnicodeDecodeError as e:
        raise InputError(f"{place} is not UTF-8 text ({e.reason}): save it as UTF-8, or give .h5ad or .zarr") from e


def blocks_of(text: IO[str]) -> Iterator[list[str]]:
    r"""The lines that are not empty, without \n, some millions of characters at a time."""
    while lines := text.readlines(BLOCK):
        yield [line for line in (line.rstrip("\n") for line in lines) if line]


def _check_magic(place: str, raw: BinaryIO) -> bool:
    """Whether the file is gzipped, as its name says."""
    start = raw.read(4)
    raw.seek(0)
    foreign = next((what for magic, what in FOREIGN.items() if start.startswith(magic)), None)
    if foreign is not None:
        raise InputError(f"{place} is {foreign}")
    zipped, name = start.startswith(GZIP_MAGIC), name_of(place)
    if not start:
        raise InputError(f"{place} is empty: there is nothing to read; was the file written to its end?")
    if zipped != name.endswith(".gz"):
        truth, name = ("gzip", f"{name}.gz") if zipped else ("not gzip", name.removesuffix(".gz"))
        raise InputError(f"{place} is {truth}-compressed, whatever its name says: rename it to {name}")
    return zipped
