"""A source without what is no gene and no cell, and what its values are: each source of a join by itself."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.features import in_words, no_cells, no_genes
from pairscape.pipeline.matrix.source import Positioned, Reader, Source, gene_symbols
from pairscape.pipeline.matrix.value_kinds import Judged, judge, sampled
from pairscape.pipeline.options import Features

SCALED_TOGETHER = 1e-3  # share of the cells' sums: scaled with more than that, the genes alone are scaled wrongly


@dataclass(frozen=True, eq=False)
class SomeCells:
    """Cells of another reader, some left out.

    Attributes
    ----------
    kept : (cell,) int64
        Those that stay, ascending.
    """

    reader: Reader
    kept: NDArray[np.int64]

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """The cells start..stop of those that stay, as `Reader.rows`."""
        wanted = self.kept[start:stop]
        if not wanted.size:
            return self.reader.rows(0, 0)
        first = int(wanted[0])
        return self.reader.rows(first, int(wanted[-1]) + 1)[wanted - first]


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What of a source is no gene and no cell.

    Attributes
    ----------
    genes : (gene,) str, cells : (cell,) str
        What each is that goes, "" for those that stay.
    said
        How many of which kind, with some names; "" where nothing goes.
    """

    genes: NDArray[np.object_]
    cells: NDArray[np.object_]
    said: str


def left_out(obs: pd.DataFrame, var: pd.DataFrame, features: Features) -> LeftOut:
    """Rows and columns that are no genes and no cells; none where all `features` are asked for."""
    cells, genes = list(obs.index), _names(var)
    if features == "all":
        return LeftOut(np.full(len(genes), "", object), np.full(len(cells), "", object), "")
    no_gene, no_cell = no_genes(genes, var), no_cells(cells)
    said = "; ".join(part for part in (in_words(no_gene, genes), in_words(no_cell, cells)) if part)
    return LeftOut(no_gene, no_cell, said)


def vetted(source: Source, left: LeftOut) -> Source:
    """The source without what is left out, which is said, and with the kind of values of what stays.

    Raises
    ------
    InputError
        Values were scaled together with what is left out; cells of counts and of other values are mixed.
    """
    if not left.said:
        return replace(source, judged=_judged(source))
    kept = _without(source, left.genes == "", left.cells == "")
    judged = _judged(kept)
    _refuse_scaled_together(source, judged, left.said)
    return replace(kept, judged=judged, notes=(*source.notes, f"left out, as no genes or cells: {left.said}"))


def _names(var: pd.DataFrame) -> list[str]:
    """Of the genes: symbols, and names where there is none."""
    symbols = gene_symbols(var) or ("",) * len(var)
    return [symbol or str(name) for symbol, name in zip(symbols, var.index, strict=True)]


def _without(source: Source, genes: NDArray[np.bool_], cells: NDArray[np.bool_]) -> Source:
    """The source with some genes and cells only."""
    position = np.where(genes, np.cumsum(genes) - 1, -1).astype(np.int32)

    def of(reader: Reader) -> Reader:
        reader = reader if genes.all() else Positioned(reader, position, int(genes.sum()))
        return reader if cells.all() else SomeCells(reader, np.flatnonzero(cells))

    return replace(
        source, obs=source.obs[cells], var=source.var[genes], values=of(source.values),
        counts=None if source.counts is None else of(source.counts),
    )  # fmt: skip


def _judged(source: Source) -> Judged:
    return judge([source.values.rows(start, stop) for start, stop in sampled(len(source.obs))], source.name)


def _refuse_scaled_together(source: Source, judged: Judged, left_out: str) -> None:
    """Of cells that add up to the same with what is left out, and no longer without."""
    if judged.kind in ("raw counts", "fractional counts", "unclear"):
        return
    whole = _judged(source)
    alone = judged.total if whole.base == judged.base else None
    if whole.total and (alone is None or abs(whole.total - alone) > SCALED_TOGETHER * whole.total):
        raise InputError(
            f"{source.name}: the cells were scaled to {whole.total:,.4g} together with {left_out}, so the values of "
            "the genes depend on what is no gene: run `pairscape ingest` on the raw counts (--layer counts, --layer "
            "raw), or keep all with --features all"
        )
