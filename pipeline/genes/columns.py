"""Which names of a matrix's genes are ids, and which are symbols: its index and the columns beside it. Pure.

Every tool has its own column for symbols: cellxgene `feature_name`, scanpy `gene_symbols`, monocle `gene_short_name`,
Seurat `features`. A column of such a name is taken only if it holds names: not numbers, flags, or a few words repeated.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.names import ENSEMBL, GENOME_PREFIX, counts_up, unquoted, without_decimals, without_genome

# In small letters without blanks, dots, dashes and underscores; the first that is there and holds names is taken.
SYMBOL_COLUMNS = (
    "symbol", "featurename", "genesymbols", "genesymbol", "genename", "geneshortname", "symbols", "genenames",
    "hgncsymbol", "mgisymbol", "externalgenename", "officialgenesymbol", "hgnc", "features", "feature", "name", "names",
    "gene", "genes",
)  # fmt: skip
ID_COLUMNS = (
    "geneids", "geneid", "featureid", "featureids", "ensemblid", "ensemblids", "ensembl", "ensemblgeneid", "ensgid",
    "geneensembl", "ensg", "accession", "id", "ids", "entrezid", "entrez", "entrezgene",
)  # fmt: skip
LEAST_DISTINCT = 0.5  # share of distinct ones among the values of a column of names
LEAST_FILLED = 0.05  # share of the genes that a column names
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?", re.I)
FLAGS = {"true", "false", "yes", "no", "nan", "none", "na"}


@dataclass(frozen=True)
class GeneNames:
    """The names of a matrix's genes.

    Attributes
    ----------
    ids : (gene,) str
        What results name the genes by.
    symbols : (gene,) str or None
        "" where a gene has none; None where no column holds them.
    others : (gene,) str or None
        Further ids by which lists may name them.
    notes
        What is not as the index has it, a sentence each.
    """

    ids: tuple[str, ...]
    symbols: tuple[str, ...] | None
    others: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def name_genes(var: pd.DataFrame, column: str | None = None) -> GeneNames:
    """Tell ids and symbols of the genes of a matrix.

    Ids are those of the index, unless it only counts the genes, as in a download of the Census, or repeats names, and a
    column has an id for each. A genome before every name (hg19_TP53) is left out.

    Parameters
    ----------
    var
        Annotations of the genes, indexed by their names as text.
    column
        The one that has the symbols. Absent: the first of those in use that holds names.

    Raises
    ------
    InputError
        There is no such column.
    """
    index = tuple(without_decimals(unquoted(str(name))) for name in var.index)
    symbols, taken = _symbols(var, index, column)
    found = _ids(var)
    ids, others, notes = index, None, list[str]()
    if found is not None and (counts_up(index) or len(set(index)) < len(index)):
        name, ids = found
        why = "the names only count the genes" if counts_up(index) else "some genes have the same name"
        notes.append(f"genes are named by the column {name!r}: {why}")
        symbols = index if symbols is None and not counts_up(index) else symbols
    elif symbols is not None and counts_up(index) and all(symbols) and len(set(symbols)) == len(symbols):
        ids, notes = symbols, [f"genes are named by the column {taken!r}: the names only count the genes"]
    elif found is not None and found[1] != index:
        others = found[1]
    if taken and symbols != index and (column is not None or taken not in ("symbol", "feature_name", "gene_symbols")):
        notes.append(f"symbols of the genes: the column {taken!r}")
    ids, symbols, note = _without_one_genome(ids, symbols)
    return GeneNames(ids, symbols, others, (*notes, *note))


def _symbols(var: pd.DataFrame, index: tuple[str, ...], column: str | None) -> tuple[tuple[str, ...] | None, str]:
    """The symbols, and the column that has them."""
    if column is not None:
        if column not in var.columns:
            held = ", ".join(map(str, var.columns[:8])) or "none"
            raise InputError(f"--gene-column {column!r}: the genes have no such column, but {held}; name one of these")
        return _text(var[column]), column
    for name in _known(var, SYMBOL_COLUMNS):
        values = _text(var[name])
        if _are_names(var[name], values) and not _are_ids_beside_symbols(values, index):
            return values, name
    return None, ""


def _are_ids_beside_symbols(values: Sequence[str], index: Sequence[str]) -> bool:
    """Whether a column has Ensembl ids and the index has not: a column `gene` then holds no symbols."""
    return 2 * _ensembl(values) > len(index) and 2 * _ensembl(index) < len(index)


def _ensembl(names: Sequence[str]) -> int:
    return sum(ENSEMBL.fullmatch(without_genome(name)) is not None for name in names)


def _ids(var: pd.DataFrame) -> tuple[str, tuple[str, ...]] | None:
    """The first column in use for ids that has a different one for each gene."""
    for name in _known(var, ID_COLUMNS):
        values = _text(var[name])
        if all(values) and len(set(values)) == len(values) and not counts_up(values):
            return name, values
    return None


def _known(var: pd.DataFrame, names: tuple[str, ...]) -> list[str]:
    """Columns that are called so, in the order of the names; the plainest spelling first."""
    spelled = {column: re.sub(r"[ ._\-]", "", str(column)).lower() for column in var.columns if isinstance(column, str)}
    found = (column for column, plain in spelled.items() if plain in names)
    return sorted(found, key=lambda column: (names.index(spelled[column]), column != column.lower(), column))


def _text(column: pd.Series) -> tuple[str, ...]:
    """The values as text, "" where one is missing."""
    values = np.asarray(column.astype(object))
    missing = np.asarray(pd.isna(values)) if values.ndim == 1 else np.zeros(len(values), bool)
    return tuple(
        "" if gone else unquoted(without_decimals(_decoded(value))) for value, gone in zip(values, missing, strict=True)
    )


def _decoded(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _are_names(column: pd.Series, values: Sequence[str]) -> bool:
    """Whether a column holds names of genes: words that are no numbers, rarely repeated."""
    held = [value for value in values if value.strip()]
    if column.dtype.kind in "biufcmM" or len(held) < max(1, LEAST_FILLED * len(values)):
        return False
    strange = sum(
        value.lower() in FLAGS or " " in value.strip() or NUMBER.fullmatch(value) is not None for value in held
    )
    return 2 * strange < len(held) and len(set(held)) >= LEAST_DISTINCT * len(held)


def _without_one_genome(
    ids: tuple[str, ...], symbols: tuple[str, ...] | None
) -> tuple[tuple[str, ...], tuple[str, ...] | None, list[str]]:
    """The names without the genome that stands before every one of them; one of several species tells genes apart."""
    prefixes = {found[0] if (found := GENOME_PREFIX.match(name)) else "" for name in ids}
    bare = tuple(without_genome(name) for name in ids)
    if len(prefixes) != 1 or "" in prefixes or len(set(bare)) < len(set(ids)):
        return ids, symbols, []
    note = f"{prefixes.pop()!r} before the name of every gene is left out"
    return bare, None if symbols is None else tuple(without_genome(symbol) for symbol in symbols), [note]
