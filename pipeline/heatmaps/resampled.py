"""Cells drawn again with replacement, a group at a time: joint counts are additive, so a resample is a weighted sum.

A bootstrap over cells would count every resample anew. Here the cells are dealt to M groups at random, a pair is
counted once in each group, and a resample draws M groups with replacement. The variance of a sum over cells is then, in
expectation, (M − 1)/M of what a bootstrap over single cells gives; as a variance from M numbers it has itself a
relative standard deviation of √(2/(M − 1)): 18 % at 64 groups, 9 % of the spread, where 100 resamples alone leave 7 %.
Pure.
"""

import numpy as np
from numpy.typing import NDArray

GROUPS = 64
EXACT_FLOAT32 = 2**24  # whole numbers up to here are exact in float32


def deal_groups(n_cells: int, seed: int, groups: int = GROUPS) -> NDArray[np.uint8]:
    """Deal cells to groups at random, equally up to one cell.

    Parameters
    ----------
    groups
        At most 256; fewer cells than groups are a group each, which is the bootstrap over single cells.

    Returns
    -------
    (N,) uint8
        Group of each cell.
    """
    dealt = np.arange(n_cells) % min(groups, n_cells)
    return np.random.default_rng([seed, 11]).permutation(dealt).astype(np.uint8)


def draw_weights(groups: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each resample holds each group, (N, M); every row sums to M.

    A resample has as many cells as there are up to the difference of the groups, fewer than M of them.
    """
    rng = np.random.default_rng([seed, 12])
    return rng.multinomial(groups, np.full(groups, 1 / groups), resamples)


def weighted_sums(weights: NDArray[np.int64], counts: NDArray[np.uint32], n_cells: int) -> NDArray[np.int32]:
    """Counts of resamples, (N, …), from those of the groups, (M, …); exact.

    Parameters
    ----------
    weights : (N, M)
        Of `draw_weights`.
    n_cells
        All cells; a resample holds fewer than M cells more.
    """
    kind = np.float32 if n_cells + len(counts) < EXACT_FLOAT32 else np.float64
    sums = weights.astype(kind) @ counts.reshape(len(counts), -1).astype(kind)
    return np.asarray(sums.astype(np.int32).reshape(len(weights), *counts.shape[1:]))
