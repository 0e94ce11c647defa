"""The plan: pairs → their order in the store → shards → tasks, within a worker's memory. Pure.

Pairs are stored in the order (block of gene b, gene a, gene b). So a shard's pairs share one block of at most 256 genes
b, or a few at its ends; such a run of rows is a *tile*, whose genes b are laid out once and walked for every gene a.
A task is a run of whole shards. The order depends on the pairs alone, so the store's bytes do not depend on the plan.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.histogram import BLOCK_GENES, MAX_SLAB_CELLS
from pipeline.pairs import Pairs
from pipeline.spec import CODES_CELLS, Binning

TASKS_PER_WORKER = 8  # so that the last task to end leaves no worker idle for long
TASK_SECONDS = 30.0  # long enough for any scheduler, short enough to lose little with a worker
WORKER_BASE_BYTES = 400_000_000  # an idle worker: Python, numpy, numba, zarr, distributed
USED_SHARE = 0.75  # of a worker's limit: at 80 % Dask pauses it
ENTRY_BYTES = 12  # of one expressed entry of a block: 5 as listed, 5 in the joined list, 2 in the layout
CELL_BYTES = 4 + 2 * 32  # of one cell of a slab: its place in the layout, and a chunk of 32 genes as it is unpacked


@dataclass(frozen=True)
class Tile:
    """Rows of the store whose pairs share a block of genes b.

    Attributes
    ----------
    start, stop
        Rows of the store.
    genes_b
        Ascending indices of the block's genes, at most 256, as genes of the matrix.
    """

    start: int
    stop: int
    genes_b: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """Whole shards, computed by one worker in one go.

    Attributes
    ----------
    shards
        Their numbers, ascending.
    tiles
        For each shard the tiles that cover exactly its rows, in order.
    """

    shards: tuple[int, ...]
    tiles: tuple[tuple[Tile, ...], ...]


@dataclass(frozen=True)
class Portion:
    """How much a worker takes at once, so that it stays within its memory. It changes no byte of the result.

    Attributes
    ----------
    cells
        Counted in one go; a matrix of more cells is counted slab by slab.
    shards
        Counted together: one, unless there are several slabs, which are then read once for all of these shards.
    cache_bytes
        Of genes kept for the tiles to come.
    task_bytes
        Memory that a task needs on top of the idle worker, at most.
    """

    cells: int
    shards: int
    cache_bytes: int
    task_bytes: int


def blocks_of(gene_b: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The genes b in use, ascending, (B,), and for every pair the block its gene b belongs to, (P,)."""
    used = np.zeros(int(gene_b.max()) + 1 if gene_b.size else 0, bool)
    used[gene_b] = True
    block = (np.cumsum(used) - 1) // BLOCK_GENES
    return np.flatnonzero(used), block[gene_b]


def storage_order(pairs: Pairs) -> Pairs:
    """The pairs in the order of the store: (block of gene b, gene a, gene b)."""
    _, block = blocks_of(pairs.gene_b)
    n_genes = int(max(pairs.gene_a.max(), pairs.gene_b.max())) + 1 if len(pairs) else 1
    key = (block * n_genes + pairs.gene_a) * n_genes + pairs.gene_b  # one key sorts in a third of the time of three
    return pairs.take(np.argsort(key, kind="stable"))


def tiles_of(gene_b: NDArray[np.integer], shard_pairs: int) -> list[tuple[Tile, ...]]:
    """Tiles of every shard; together they cover every pair exactly once.

    Parameters
    ----------
    gene_b : (P,)
        In the order of the store.
    """
    genes, block = blocks_of(gene_b)
    shard_starts = np.arange(0, gene_b.size, shard_pairs)
    block_starts = np.flatnonzero(np.diff(block, prepend=-1))
    starts = np.union1d(shard_starts, block_starts)
    shards: list[list[Tile]] = [[] for _ in shard_starts]
    members = [tuple(genes[i : i + BLOCK_GENES].tolist()) for i in range(0, genes.size, BLOCK_GENES)]
    for start, stop in zip(starts, np.append(starts[1:], gene_b.size), strict=True):
        shards[start // shard_pairs].append(Tile(int(start), int(stop), members[block[start]]))
    return [tuple(tiles) for tiles in shards]


def task_runs(seconds: NDArray[np.float64], n_workers: int) -> list[slice]:
    """Neighbouring shards that make a task, by the time each is expected to take: (S,) seconds on one worker.

    Tasks last up to `TASK_SECONDS`; there are fewer seconds in each where there would be too few tasks for the workers.
    """
    if not seconds.size:
        return []
    wanted = min(TASK_SECONDS, float(seconds.sum()) / (TASKS_PER_WORKER * n_workers))
    middle = np.cumsum(seconds) - seconds / 2
    turns = np.flatnonzero(np.diff(np.floor(middle / max(wanted, 1e-9)))) + 1
    bounds = [0, *turns.tolist(), seconds.size]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def plan_tasks(
    tiles: Sequence[tuple[Tile, ...]], shards: Sequence[int], seconds: NDArray[np.float64], n_workers: int
) -> list[Task]:
    """Tasks over the shards that are still to be computed, in order.

    Parameters
    ----------
    tiles
        Of every shard of the store.
    shards
        Numbers of the shards to compute, ascending.
    seconds : (S,) float64
        What each of these is expected to take on one worker.
    """
    runs = [tuple(shards[run]) for run in task_runs(seconds, n_workers)]
    return [Task(run, tuple(tiles[shard] for shard in run)) for run in runs]


def block_density(pairs: Pairs, density: NDArray[np.floating]) -> float:
    """Expressed share of the densest block of genes b.

    Parameters
    ----------
    density : (G,)
        Share of cells in which each gene of the matrix is expressed.
    """
    genes, _ = blocks_of(pairs.gene_b)
    starts = np.arange(0, genes.size, BLOCK_GENES)
    sizes = np.diff(np.append(starts, genes.size))
    return float((np.add.reduceat(density[genes], starts) / sizes).max())


def portion(binning: Binning, n_cells: int, density: float, limit: int | None) -> Portion:
    """How much a worker takes at once under its limit.

    Parameters
    ----------
    density
        Expressed share of the densest block of genes; 1 where it is not known yet.
    limit
        Bytes that one thread of a worker may use; None: no limit.

    Raises
    ------
    InputError
        Not even the smallest portion fits: names the limit to raise and to what.
    """
    shard = binning.shard_pairs * binning.bins**2 * 4
    fixed = 2 * shard + shard // 8 + BLOCK_GENES * binning.bins**2 * 4  # one counted, one written; compressed; counters
    cell = BLOCK_GENES * density * ENTRY_BYTES + CELL_BYTES
    most = min(n_cells, MAX_SLAB_CELLS)
    free = _usable(limit, fixed + int(min(most, CODES_CELLS) * cell)) - fixed
    if free >= most * cell and most == n_cells:  # all cells in one go; the rest keeps genes that were read
        cache = free - int(most * cell)
        return Portion(most, 1, cache, fixed + free)
    # Slab by slab: half of the room for the slab, half for the shards that share it.
    cells = max(min(most, int(free / 2 / cell)) // CODES_CELLS, 1) * CODES_CELLS
    more = max(free - int(cells * cell), 0) // (2 * shard)
    return Portion(cells, 1 + more, 0, fixed + int(cells * cell) + more * 2 * shard)


def _usable(limit: int | None, need: int) -> int:
    """Bytes for a task beside the idle worker, at least as many as it needs."""
    if limit is None:
        return max(need, 2**32)
    usable = int(USED_SHARE * limit) - WORKER_BASE_BYTES
    if usable < need:
        # Rounded apart: nobody is told that 0.5 GB is too little for 0.5 GB, or refused again after doing as told.
        enough, given = math.ceil((need + WORKER_BASE_BYTES) / USED_SHARE / 1e8) / 10, math.floor(limit / 1e8) / 10
        raise InputError(
            f"a task needs {enough:.1f} GB of memory and each worker has {given:.1f} GB: it would be killed; "
            f"give --memory-limit {enough:.1f}GB or more with fewer --workers."
        )
    return usable
