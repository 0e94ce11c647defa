"""A few genes of an AnnData in memory, treated as `pairscape ingest` treats the whole matrix, without a file."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.columns import name_genes
from pairscape.pipeline.genes.resolve import Vocabulary
from pairscape.pipeline.matrix.formats.anndata import open_memory
from pairscape.pipeline.matrix.normalize import choose_preset, normalise
from pairscape.pipeline.matrix.open import arranged
from pairscape.pipeline.matrix.source import IN_MEMORY, Held, Source, check_values
from pairscape.pipeline.options import Preset

CELLS_AT_ONCE = 8192


class HeldHere(Held):
    """A matrix in memory that no worker reads, so that a large one need not go to the disk."""

    LARGEST = sys.maxsize


@dataclass(frozen=True, eq=False)
class FewGenes:
    """Some genes in all cells that express anything.

    Attributes
    ----------
    ids, names : (G,)
        Ids, and symbols, or ids where there are none.
    values : (G, N) float32
        Log expression.
    obs
        Annotations of the N cells.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    values: NDArray[np.float32]
    obs: pd.DataFrame


def few_genes(adata: AnnData, genes: Sequence[str], layer: str | None = None) -> FewGenes:
    """Log expression of some genes.

    Parameters
    ----------
    genes
        Ids or symbols.
    layer
        In place of X; "raw" takes `.raw`. Absent: X.

    Raises
    ------
    InputError
        There is no such gene or layer, the AnnData is empty, or its values are no expression.
    """
    stored = open_memory(adata, layer)
    assert isinstance(stored.values, Held)
    check_values(stored.values.matrix, stored.columns.index, IN_MEMORY)
    stored = replace(stored, values=HeldHere(stored.values.matrix), counts=None)
    with TemporaryDirectory() as scratch:  # which a matrix that is held here does not need
        source = arranged(stored, "auto", (layer, None), None, "genes", Path(scratch), Silent())
    named = name_genes(source.var)
    vocabulary = Vocabulary(named.ids, named.symbols, others=named.others)
    at = [vocabulary.place(gene, IN_MEMORY) for gene in genes]
    preset, _ = choose_preset("auto", source.judged, source.name)
    values, full = _read(source, at, preset)
    symbols = named.symbols or named.ids
    ids, names = tuple(named.ids[i] for i in at), tuple(symbols[i] or named.ids[i] for i in at)
    return FewGenes(ids, names, values[:, full], source.obs[full])


def _read(source: Source, genes: list[int], preset: Preset) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values of genes (G, N), and which cells express anything."""
    parts, full = list[NDArray[np.float32]](), list[NDArray[np.bool_]]()
    for start in range(0, len(source.obs), CELLS_AT_ONCE):
        rows = source.values.rows(start, min(start + CELLS_AT_ONCE, len(source.obs)))
        full.append(rows.getnnz(axis=1) > 0)
        expressed = np.zeros((rows.shape[0], len(genes)), np.float32)
        expressed[full[-1]] = normalise(rows[full[-1]], preset)[:, genes].toarray() if full[-1].any() else 0
        parts.append(expressed.T)
    kept = np.concatenate(full)
    if kept.sum() < 2:
        raise InputError(
            f"{source.name}: {int(kept.sum())} of {kept.size} cells express any gene; a picture needs two."
        )
    return np.concatenate(parts, axis=1), kept
