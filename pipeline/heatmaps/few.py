"""Joint counts of a few pairs by numpy alone: the compiled kernels take longer to load than hundreds of pairs to count.

The counts are the same to the last cell (tests compare them).
"""

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.codes.bins import zero_bin
from pairscape.pipeline.codes.store import Codes, cell_blocks, require_complete


def count_few(
    codes: Codes,
    gene_a: NDArray[np.integer],
    gene_b: NDArray[np.integer],
    group: NDArray[np.uint16] | None = None,
    groups: int = 1,
) -> NDArray[np.int32]:
    """Count some hundreds of pairs at most, in one pass over the cells.

    Parameters
    ----------
    gene_a, gene_b : (P,)
        Genes of the store, in any order.
    group : (N,) uint16
        Of each cell; one that is in none has a number above all groups. Absent: all cells are in one.
    groups
        How many there are, M.

    Returns
    -------
    (M, P, bins, bins) int32
        Row = bin of gene b, column = bin of gene a.

    Raises
    ------
    JobError
        Codes are damaged or lost.
    """
    bins = codes.binning.bins
    genes, place = np.unique([gene_a, gene_b], return_inverse=True)
    zero, expressed = zero_bin(codes.array("edges"))[genes], np.zeros(genes.size, np.int64)
    counts = np.zeros((groups, gene_a.size, bins, bins), np.int32)
    for cells in cell_blocks(codes.n_cells):
        read = codes.read(genes, cells)
        expressed += np.count_nonzero(read, axis=1)
        bin_of, within = bins_of_codes(read, zero), None if group is None else group[cells]
        for pair, (a, b) in enumerate(place.reshape(2, -1).T):
            counts[:, pair] += counts_by_group(bin_of[a], bin_of[b], bins, within, groups)
    dropout = codes.array("dropout")[genes]
    for gene, share, cells_with in zip(genes.tolist(), dropout.tolist(), expressed.tolist(), strict=True):
        require_complete(codes, gene, share, cells_with)
    return counts


def bins_of_codes(codes: NDArray[np.uint8], zero: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Bin of each cell, (G, N), of codes and the bin of each gene's unexpressed cells, (G,)."""
    return np.where(codes == 0, zero.astype(np.uint8)[:, None], codes - np.uint8(1))


def counts_by_group(
    bin_a: NDArray[np.uint8], bin_b: NDArray[np.uint8], bins: int, group: NDArray[np.uint16] | None, groups: int
) -> NDArray[np.int32]:
    """Cells in each pair of bins in each group, (M, bins, bins); see `count_few`."""
    flat = bin_b.astype(np.int64) * bins + bin_a
    if group is not None:
        flat = (flat + group.astype(np.int64) * bins**2)[group < groups]
    return np.bincount(flat, minlength=groups * bins**2).astype(np.int32).reshape(groups, bins, bins)
