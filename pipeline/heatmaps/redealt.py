"""Pairs that are known to be independent given depth: the cells of gene b dealt anew among cells of like depth.

Every gene keeps its values, so a decoy has exactly the marginals of the pair that it was made from. Cells that express
many genes express most genes more, which alone makes any two genes depend on each other; dealing within strata of cells
that express about as many genes leaves this dependence in. What is taken out is all else: regulation, but the types and
states of cells too.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.codes.store import cell_blocks, open_codes
from pairscape.pipeline.heatmaps.count import GeneReader
from pairscape.pipeline.heatmaps.pairwise import PairRun, WholeGenes, count_grouped, within_memory

STRATA = 10
LEAST_CELLS = 20  # in a stratum: of fewer, a deal leaves many cells where they were
GENES_AT_ONCE = 256  # unpacked together: 4 MB of a block of cells
PAIRS_AT_ONCE = 256  # 1 MB of counts at 32 bins


def depth_task(codes_path: str, block: int) -> NDArray[np.int32]:
    """Genes that each cell of a block of `pipeline.codes.store.cell_blocks` expresses, (n,). Runs on a worker."""
    codes = open_codes(Path(codes_path))
    cells = cell_blocks(codes.n_cells)[block]
    depth = np.zeros(cells.stop - cells.start, np.int32)
    for start in range(0, codes.n_genes, GENES_AT_ONCE):
        genes = np.arange(start, min(start + GENES_AT_ONCE, codes.n_genes))
        depth += np.count_nonzero(codes.read(genes, cells), axis=0).astype(np.int32)
    return depth


def strata_of(depth: NDArray[np.integer], seed: int, strata: int = STRATA) -> NDArray[np.uint8]:
    """Strata of like depth with as many cells each, up to one: (N,) from 0, the shallowest.

    Parameters
    ----------
    depth : (N,)
        Genes that each cell expresses; ties are broken at random.
    strata
        Fewer where a stratum would have fewer than `LEAST_CELLS` cells.
    """
    tie = np.random.default_rng([seed, 13]).permutation(depth.size)
    number = max(min(strata, depth.size // LEAST_CELLS), 1)
    stratum = np.empty(depth.size, np.uint8)
    stratum[np.lexsort((tie, depth))] = np.arange(depth.size) * number // depth.size
    return stratum


def deal_places(stratum: NDArray[np.uint8], seed: int, deal: int) -> NDArray[np.int32]:
    """A new place for the values of every cell, (N,): a permutation within each stratum.

    Parameters
    ----------
    deal
        Its number: another one, another permutation.
    """
    rng, place = np.random.default_rng([seed, 14, deal]), np.empty(stratum.size, np.int32)
    for number in range(int(stratum.max()) + 1):
        members = np.flatnonzero(stratum == number)
        place[members] = rng.permutation(members)
    return place


def count_decoys(
    reader: GeneReader, run: PairRun, place: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]]:
    """Joint counts of pairs whose gene b has been dealt anew, some hundred pairs at a time.

    Parameters
    ----------
    place : (N,) int32
        Of `deal_places`.

    Yields
    ------
    (P, bins, bins) uint32
        Row = bin of gene b, column = bin of gene a.
    (P,) uint32
        Cells in which neither gene is expressed.
    (P,), (P,) int64
        Genes a and b, as genes of the matrix.
    """
    together = np.zeros(place.size, np.uint8)
    for some in within_memory(reader, run, PAIRS_AT_ONCE):
        pairs = run.gene_a[some], run.gene_b[some]
        genes = WholeGenes.read(reader, np.concatenate(pairs))
        counts, both_zero = count_grouped(genes, genes.dealt(place), pairs, together, reader.codes.binning.bins)
        yield counts[0], both_zero[0], *pairs
