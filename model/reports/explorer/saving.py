"""Files that the explorer saves: a table for spreadsheets, gene sets, a graph."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pairscape.model.edges.naming import by_symbol
from pairscape.model.reports.explorer.table import Rows, ScoreTable
from pairscape.pipeline.errors import InputError, printable
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.storage.plain_files import file_name

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would compute
LONGEST_STEM = 60


def save_pairs(form: str, table: ScoreTable, rows: Rows, gene: int | None, words: str) -> tuple[str, bytes]:
    """Name and content of a file of some pairs.

    Parameters
    ----------
    form
        Of `SAVED`.
    gene
        That the pairs are of; None: of any.
    words
        Which pairs they are.

    Raises
    ------
    InputError
        Gene sets of no gene, or a name that the format cannot hold.
    """
    about = table.path.stem if gene is None else label_of(table, gene)
    return file_name(f"{about[:LONGEST_STEM]}-pairs.{form}"), WRITERS[form](table, rows, gene, words)


def label_of(table: ScoreTable, gene: int) -> str:
    """Symbol of a gene, or its id."""
    return (table.symbols[gene] if table.symbols else "") or table.genes[gene]


def tame(text: str) -> str:
    """A name that no spreadsheet takes for a formula: one that begins like one gets an apostrophe before it."""
    return f"'{text}" if text.startswith(FORMULA) else text


def write_table(table: ScoreTable, rows: Rows, *_: Any) -> bytes:
    """Comma-separated: ids, any symbols, score and the other columns; unknown values empty."""
    shown = table.varied
    columns: dict[str, Iterator[str]] = {}
    for end, genes in (("a", table.a[rows].tolist()), ("b", table.b[rows].tolist())):
        columns[f"gene_{end}"] = (tame(table.genes[gene]) for gene in genes)
        if table.symbols is not None:
            columns[f"symbol_{end}"] = (tame(symbol) for symbol in map(table.symbols.__getitem__, genes))
    columns["score"] = _digits(table.score[rows])
    for name in shown:
        values = table.columns[name][rows]
        columns[name] = (KINDS[kind] if kind >= 0 else "" for kind in values) if name == "kind" else _digits(values)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode(errors="replace")


def _digits(values: Any) -> Iterator[str]:
    return ("" if value != value else f"{value:.7g}" for value in values.tolist())


def write_sets(table: ScoreTable, rows: Rows, gene: int | None, words: str) -> bytes:
    """GMT: the partners of a gene, all of them, and those that rise and fall with it, where that is known."""
    if gene is None:
        raise InputError("gene sets are partners of a gene: search one first.")
    a, b = table.a[rows], table.b[rows]
    partner = np.where(a == gene, b, a)
    about = printable(label_of(table, gene))
    sets = {f"{about}_partners": partner}
    if "correlation" in table.columns:
        sign = table.columns["correlation"][rows]
        sets |= {f"{about}_partners_rising": partner[sign > 0], f"{about}_partners_falling": partner[sign < 0]}
    lines = (
        [
            name,
            f"pairscape browse: {words}",
            *dict.fromkeys(printable(label_of(table, each)) for each in genes.tolist()),
        ]
        for name, genes in sets.items()
        if genes.size
    )
    return "".join("\t".join(word.replace("\t", " ") for word in line) + "\n" for line in lines).encode()


def write_graph(table: ScoreTable, rows: Rows, _: int | None, words: str) -> bytes:
    """GraphML, as `pairscape export` writes it: genes by symbol."""
    from pairscape.model.edges.formats import write_graphml  # loads AnnData, which takes seconds

    edges, _notes = by_symbol(table.edges(rows))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.graphml"
        write_graphml(path, edges, table.facts, {"edges": words})
        return path.read_bytes()


WRITERS: dict[str, Callable[[ScoreTable, Rows, int | None, str], bytes]] = {
    "csv": write_table, "gmt": write_sets, "graphml": write_graph,
}  # fmt: skip
SAVED = {"csv": "text/csv; charset=utf-8", "gmt": "text/plain; charset=utf-8", "graphml": "application/xml"}
