"""Gene lists, pair lists and networks as users keep them: CSV, TSV or blanks, with or without a header. Pure."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import InputError

# Column names in use, by tool: BEELINE, CNNC, SCENIC/arboreto, decoupler, TRRUST, our own predictions.
REGULATOR_NAMES = ("gene_a", "gene1", "tf", "source", "regulator", "genea")
TARGET_NAMES = ("gene_b", "gene2", "target", "geneb")
GENE_NAMES = ("tf", "gene", "symbol", "gene_symbol", "gene_id", "regulator", "target", "name")
LABEL_NAMES = ("label", "class")
LABELS = (-1, 0, 1, 2)
KNOWN_NAMES = {*REGULATOR_NAMES, *TARGET_NAMES, *GENE_NAMES, *LABEL_NAMES}


@dataclass(frozen=True, eq=False)
class NamedPairs:
    """Pairs as a file names them.

    Attributes
    ----------
    gene_a, gene_b
        Names, in the file's order.
    label : (P,) int8 or None
        −1 unlabelled, 0 none, 1 a→b or undirected, 2 b→a; None where the file has no labels.
    """

    gene_a: list[str]
    gene_b: list[str]
    label: NDArray[np.int8] | None


def _delimiter(line: str) -> str:
    if "\t" in line:
        return "\t"
    return "," if "," in line else r"\s+"


def read_table(path: Path) -> pd.DataFrame:
    """A small text table, every value a string; the first row becomes the header if it names a known column.

    Raises
    ------
    InputError
        No such file, not text, empty, a row longer than the first, or a header with one name twice.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = next((line for line in file if line.strip()), "")
        if not head:
            raise InputError(f"{path} is empty: it should hold one gene or one pair a line.")
        table = pd.read_csv(
            path,
            header=None,
            sep=_delimiter(head),
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            quoting=csv.QUOTE_MINIMAL,
            engine="c",
        ).map(str.strip)
    except (UnicodeDecodeError, pd.errors.ParserError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"{path} cannot be read as a text table ({reason}); give CSV, TSV or one name a line."
        ) from error
    table = table[(table != "").any(axis=1)]  # a line of blanks is no row
    first = [name.lower() for name in table.iloc[0]]
    known = [name for name in first if name in KNOWN_NAMES]
    if twice := [name for name in known if known.count(name) > 1]:
        raise InputError(f"{path} has {twice[0]!r} twice in its header, and which is meant cannot be told; rename one.")
    return table.iloc[1:].set_axis(first, axis=1) if known else table


def _column(table: pd.DataFrame, names: tuple[str, ...], position: int) -> pd.Series | None:
    """The column with one of these names; else, in a table without a header, the one at this position."""
    for name in names:
        if name in table.columns:
            return table[name]
    headless = pd.api.types.is_integer_dtype(table.columns)
    return table[position] if headless and position < table.shape[1] else None


def _ends(gene_a: pd.Series, gene_b: pd.Series, path: Path) -> tuple[list[str], list[str]]:
    """Both columns of a list of pairs, every cell a name."""
    nameless = ((gene_a == "") | (gene_b == "")).to_numpy()
    if nameless.any():
        raise InputError(
            f"{path}: row {int(np.argmax(nameless)) + 1} names fewer than two genes; complete or drop that row."
        )
    return list(gene_a), list(gene_b)


def read_genes(path: Path) -> list[str]:
    """Gene names of a file: one a line, or a table with a column such as `TF` or `gene` (BEELINE's TF files).

    Raises
    ------
    InputError
        As `read_table`, or a table whose gene column cannot be told.
    """
    table = read_table(path)
    column = _column(table, GENE_NAMES, 0)
    if column is None:
        raise InputError(
            f"{path} has columns {list(table.columns)}, none known to hold genes; name one 'gene' or 'TF'."
        )
    return list(dict.fromkeys(name for name in column if name))


def read_pairs(path: Path) -> NamedPairs:
    """Pairs of a file: BEELINE, SCENIC or decoupler columns, CNNC's `a b label` triples, or two plain columns.

    A third column is a label where the header says `label`, and always where there is no header.

    Raises
    ------
    InputError
        As `read_table`; fewer than two columns; a row without two names; a label outside −1, 0, 1, 2; no pair at all.
    """
    table = read_table(path)
    gene_a, gene_b = _column(table, REGULATOR_NAMES, 0), _column(table, TARGET_NAMES, 1)
    if gene_a is None or gene_b is None:
        raise InputError(f"{path} has columns {list(table.columns)}: two with genes are needed, such as gene_a,gene_b.")
    if table.empty:
        raise InputError(f"{path} lists no pair below its header; one pair a line is needed.")
    return NamedPairs(*_ends(gene_a, gene_b, path), _labels(table, path))


def _labels(table: pd.DataFrame, path: Path) -> NDArray[np.int8] | None:
    column = _column(table, LABEL_NAMES, 2)
    if column is None:
        return None
    numbers = pd.to_numeric(column, errors="coerce").to_numpy()
    bad = ~np.isin(numbers, LABELS)
    if bad.any():
        value = column.to_numpy()[bad][0]
        raise InputError(
            f"{path}: label {value!r} in row {int(np.argmax(bad)) + 1} is none of -1 (unlabelled), 0 (none), 1 (a→b or "
            "undirected), 2 (b→a); correct it, or drop the column for unlabelled pairs."
        )
    return np.asarray(numbers, np.int8)


def read_network(path: Path) -> NamedPairs:
    """Edges regulator → target of a file; a third column (weight, score, sign) is left aside.

    Raises
    ------
    InputError
        As `read_pairs`, labels excepted.
    """
    table = read_table(path)
    gene_a, gene_b = _column(table, REGULATOR_NAMES, 0), _column(table, TARGET_NAMES, 1)
    if gene_a is None or gene_b is None or table.empty:
        raise InputError(f"{path} holds no edges: two columns regulator, target are needed, one edge a line.")
    return NamedPairs(*_ends(gene_a, gene_b, path), None)
