"""The lists of genes and cells beside a Matrix Market file, as their makers write them: with or without a header.

R writes row names before the names, and quotes; Parse's all_genes.csv has a header and commas, Cell Ranger's neither.
"""

import csv
import re
from dataclasses import dataclass
from typing import IO

import pandas as pd

from pairscape.pipeline.errors import InputError, first_line
from pairscape.pipeline.genes.names import counts_up, unquoted
from pairscape.pipeline.matrix.formats.tenx import Features
from pairscape.pipeline.matrix.formats.text import text_of
from pairscape.pipeline.storage.paths import name_of

# Words above the columns of a list, in small letters; whatever else stands there is the name of a gene or cell.
HEADINGS = re.compile(
    r"(genes?|features?|symbols?|barcodes?|cells?|ensembl|ids?|names?|index|x|v\d+|genome|"
    r"(gene|feature|ensembl|hgnc|mgi|cell|bc)[ _.-]?(id|ids|name|names|symbol|symbols|type|types|barcode|wells|index)|"
    r"cell_?barcodes?|unnamed: 0|)"
)
ID_HEADINGS = ("gene_id", "gene_ids", "geneid", "ensembl_id", "feature_id", "id", "ensembl", "gene", "feature")
NAME_HEADINGS = ("gene_name", "gene_names", "gene_symbol", "gene_symbols", "symbol", "name", "feature_name")
TYPE_HEADINGS = ("feature_type", "feature_types")
CELL_HEADINGS = ("bc_wells", "barcode", "barcodes", "cell_barcode", "cell_id", "cell", "cells", "cb", "index")


@dataclass(frozen=True, eq=False)
class NameList:
    """A list of names.

    Attributes
    ----------
    place
        Where it lies.
    rows
        Its columns as text, numbered; a first row that may be a header is still a row.
    """

    place: str
    rows: pd.DataFrame

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def header(self) -> list[str]:
        """The words of the first row, if it is a header; empty if it is not."""
        words = [word.lower() for word in self.rows.iloc[0]] if len(self.rows) else []
        known = [word for word in words if word and HEADINGS.fullmatch(word)]
        return words if known or (any(words) and not words[0]) else []

    def fits(self, length: int) -> bool:
        """Whether it names as many, a header left aside."""
        return len(self) == length or (len(self) == length + 1 and bool(self.header))

    def named(self, length: int) -> pd.DataFrame:
        """One row a name; columns by the words of the header, or numbered."""
        body = self.rows.iloc[len(self) - length :].reset_index(drop=True)
        heading = self.header if len(self) > length else []
        if body.shape[1] > 1 and counts_up(list(body[0])):  # R's row names
            body = body.iloc[:, 1:].set_axis(range(body.shape[1] - 1), axis=1)
            heading = heading[1:] if heading and (heading[0] in ("", "x") or len(heading) > body.shape[1]) else heading
        words = [*heading, *range(len(heading), body.shape[1])][: body.shape[1]]
        return body.set_axis(words, axis=1) if heading else body

    def notes(self, length: int) -> tuple[str, ...]:
        """What has to be said of it."""
        if len(self) == length:
            return ()
        words = ", ".join(filter(None, self.header))
        return (f"{name_of(self.place)} begins with a header ({words}), which is no name",)


def read_list(place: str) -> NameList:
    """Read a list of one or more columns, apart by tabs; in a .csv by commas.

    Raises
    ------
    InputError
        It is no text, or no list.
    """
    comma = ".csv" in name_of(place)
    with text_of(place) as text:
        first, second = text.readline(), text.readline()
    width = max(len(_fields(line, comma)) for line in (first, second))
    with text_of(place) as text:
        rows = _columns(text, place, width, "," if comma else "\t")
    if rows.iloc[:1000].map(lambda field: field[:1] in ("'", '"')).to_numpy().any():
        rows = rows.map(unquoted)
    shorter = len(_fields(first, comma)) < len(_fields(second, comma))
    if shorter and counts_up(list(rows.iloc[1:, 0])):  # nothing stands above R's row names
        rows.iloc[0] = ["", *rows.iloc[0, :-1]]
    return NameList(place, rows)


def _fields(line: str, comma: bool) -> list[str]:
    return next(csv.reader([line.rstrip("\n")], delimiter="," if comma else "\t"), [])


def _columns(text: IO[str], place: str, width: int, separator: str) -> pd.DataFrame:
    try:
        rows = pd.read_csv(
            text, sep=separator, header=None, names=range(max(width, 1)), dtype=str, keep_default_na=False,
            quoting=0 if separator == "," else 3, index_col=False,
        )  # fmt: skip
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as e:
        raise InputError(f"{place} is no list of names ({first_line(e)}): fetch or write it again") from e
    return rows.fillna("")


def features_of(genes: pd.DataFrame) -> Features:
    """Ids, symbols, types and genomes of genes, by the header of their list or by the places that Cell Ranger gives."""
    if all(isinstance(column, int) for column in genes.columns):
        columns = [list(genes[i]) for i in range(min(genes.shape[1], 3))]
        return Features(columns[0], *columns[1:3])
    names = _first(genes, NAME_HEADINGS)
    ids = _first(genes, ID_HEADINGS)
    if ids is None or ids == names:
        ids = next((list(genes[c]) for c in genes.columns if list(genes[c]) != names), names)
    assert ids is not None
    return Features(ids, names, _first(genes, TYPE_HEADINGS), _first(genes, ("genome",)))


def cells_of(cells: pd.DataFrame) -> pd.DataFrame:
    """Annotations of cells, indexed by their names; a list without a header has names alone."""
    if all(isinstance(column, int) for column in cells.columns):
        return pd.DataFrame(index=pd.Index(cells[0].to_numpy(), dtype=object))
    known = next((name for name in CELL_HEADINGS if name in cells.columns), cells.columns[0])
    rest = cells.loc[:, ~cells.columns.duplicated()].drop(columns=known).apply(_numbers)
    return rest.rename(columns=str).set_axis(pd.Index(cells[known].to_numpy(), dtype=object), axis=0)


def _numbers(column: pd.Series) -> pd.Series:
    """The numbers of a column that holds nothing else."""
    numbers = pd.to_numeric(column, errors="coerce")
    return column if numbers.isna().any() else numbers


def _first(table: pd.DataFrame, names: tuple[str, ...]) -> list[str] | None:
    """The first column of one of these names."""
    found = next((name for name in names if name in table.columns), None)
    return None if found is None else [str(value) for value in table[found]]
