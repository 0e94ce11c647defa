"""Images of expression that is held in memory, gene by gene: of simulated or dealt values, of which no store is made.

Every gene has its own edges, as the rule places them over these very cells.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.codes.binning import FloatArray, bin_edges, encode, gene_statistics
from pairscape.pipeline.codes.bins import zero_bin
from pairscape.pipeline.options import Binning


def draw_images(a: FloatArray, b: FloatArray, binning: Binning) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Images of pairs and their double zeros, as a job counts them.

    Parameters
    ----------
    a, b : (P, N) float32
        Expression of gene a, and of gene b, in the cells of each pair.

    Returns
    -------
    (P, bins, bins) uint32
        Row = bin of gene b, column = bin of gene a.
    (P,) uint32
        Cells in which neither gene is expressed.
    """
    counts = joint_counts(bins_of(a, binning), bins_of(b, binning), binning.bins)
    return counts, ((a == 0) & (b == 0)).sum(axis=1, dtype=np.uint32)


def joint_counts(bins_a: NDArray[np.uint8], bins_b: NDArray[np.uint8], bins: int) -> NDArray[np.uint32]:
    """Images, (P, bins, bins) as above, from the bin of every cell of gene a, and of gene b, (P, N) each."""
    counts = np.zeros((len(bins_a), bins, bins), np.uint32)
    _count(bins_a, bins_b, counts)
    return counts


def bins_of(values: FloatArray, binning: Binning) -> NDArray[np.uint8]:
    """Bin of every cell of every gene, (G, N) from (G, N) float32, unexpressed cells included."""
    expressed = values > 0
    gene, value = np.nonzero(expressed)[0], values[expressed]
    statistics = gene_statistics(value, gene, *values.shape)
    sample = np.split(value, np.cumsum(statistics.n_expressed)[:-1])
    edges = bin_edges(binning, statistics, sample)
    found = np.repeat(zero_bin(edges).astype(np.uint8)[:, None], values.shape[1], axis=1)
    found[expressed] = encode(value, gene, edges) - 1
    return found


@numba.njit(nogil=True, cache=True)
def _count(bins_a, bins_b, counts):  # type: ignore[no-untyped-def]
    for p in range(counts.shape[0]):
        for i in range(bins_a.shape[1]):
            counts[p, bins_b[p, i], bins_a[p, i]] += np.uint32(1)
