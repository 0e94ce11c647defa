"""Genes that enough cells express: which they are, and what a user is told who asks for all pairs of very many."""

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.codes.encode import sampled_cells
from pairscape.pipeline.codes.store import cell_blocks
from pairscape.pipeline.matrix.expression import Expression

MANY_PAIRS = 5_000_000  # minutes of a laptop; from here on the user is told how to have fewer
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # of the cells, which are proposed

Shares = NDArray[np.float64]


def share_expressing(expression: Expression) -> Shares:
    """Share of the cells that express each gene, (G,): of all cells, of a large matrix of 65,536 evenly spread ones."""
    cells, found = sampled_cells(expression.n_cells), np.zeros(len(expression.genes), np.int64)
    for block in cell_blocks(cells.size):
        found += np.bincount(expression.select(cells[block]).indices, minlength=found.size)
    return np.asarray(found / cells.size)


def frequent_genes(share: Shares, least: float) -> NDArray[np.int32]:
    """Genes that at least this share of the cells express, ascending."""
    return np.flatnonzero(share >= least).astype(np.int32)


def frequent_line(share: Shares, least: float) -> str:
    """How many genes are left, in words."""
    return (
        f"{frequent_genes(share, least).size:,} of {share.size:,} genes are expressed by at least {100 * least:g} % of "
        "the cells"
    )


def advice(share: Shares) -> str | None:
    """What to tell whoever asks for all pairs of these genes; None where they are not too many."""
    if (pairs := _pairs_of(share.size)) <= MANY_PAIRS:
        return None
    least = next((one for one in SHARES if _pairs_of(frequent_genes(share, one).size) <= MANY_PAIRS), SHARES[-1])
    left = frequent_genes(share, least).size
    return (
        f"{share.size:,} genes make {pairs / 1e6:,.1f} million pairs; {left:,} are in at least {100 * least:g} % of "
        f"the cells ({_pairs_of(left) / 1e6:,.1f} million): --min-share {least:g}"
    )


def _pairs_of(genes: int) -> int:
    return genes * (genes - 1) // 2
