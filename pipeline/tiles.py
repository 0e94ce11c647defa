"""The plan: pairs → their order in the store → shards → tasks, with bytes and memory, before any work is done. Pure.

Pairs are stored in the order (block of gene b, gene a, gene b). So a shard's pairs share one block of at most 256 genes
b, or a few at its ends; such a run of rows is a *tile*, whose genes b are laid out once and walked for every gene a.
A task is a run of whole shards. The order depends on the pairs alone, so the store's bytes do not depend on the plan.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.histogram import BLOCK_GENES
from pipeline.pairs import Pairs
from pipeline.spec import CODES_CELLS, Binning, ImageSpec

CELLS_AT_ONCE = 16 * CODES_CELLS  # cells laid out at a time: 64 MB of dense codes for 256 genes
LAYOUTS = 4  # layouts that a worker keeps, so that a million cells are laid out once per block of genes, not per shard
TASKS_PER_WORKER = 8  # so that the last task to end leaves no worker idle for long
MAX_TASK_SHARDS = 128
BYTES_PER_IMAGE = 150  # on disk, upper end of what is measured at 32 bins (benchmarks/RESULTS.md)
WORKER_BASE_BYTES = 400_000_000  # an idle worker: Python, numpy, numba, zarr, distributed


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
class Estimate:
    """What a job will cost.

    Attributes
    ----------
    pairs, shards, tasks
        Counts.
    store_bytes
        Size of the image store on disk, about.
    task_bytes
        Memory that one task needs on top of the idle worker, at most.
    """

    pairs: int
    shards: int
    tasks: int
    store_bytes: int
    task_bytes: int


def blocks_of(gene_b: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The genes b in use, ascending, (B,), and for every pair the block its gene b belongs to, (P,)."""
    genes = np.unique(gene_b).astype(np.int64)
    return genes, np.searchsorted(genes, gene_b) // BLOCK_GENES


def storage_order(pairs: Pairs) -> Pairs:
    """The pairs in the order of the store: (block of gene b, gene a, gene b)."""
    _, block = blocks_of(pairs.gene_b)
    return pairs.take(np.lexsort((pairs.gene_b, pairs.gene_a, block)))


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


def task_shards(n_shards: int, n_workers: int) -> int:
    """Shards per task: few enough tasks for any scheduler, enough of them to keep every worker busy to the end."""
    return min(max(n_shards // (TASKS_PER_WORKER * n_workers), 1), MAX_TASK_SHARDS)


def plan_tasks(gene_b: NDArray[np.integer], shard_pairs: int, n_workers: int, shards: Sequence[int]) -> list[Task]:
    """Tasks over the shards that are still to be computed, in order.

    Parameters
    ----------
    gene_b : (P,)
        Of all pairs, in the order of the store.
    shards
        Numbers of the shards to compute, ascending.
    """
    tiles = tiles_of(gene_b, shard_pairs)
    size = task_shards(len(shards), n_workers)
    runs = [tuple(shards[i : i + size]) for i in range(0, len(shards), size)]
    return [Task(run, tuple(tiles[shard] for shard in run)) for run in runs]


def task_bytes(binning: Binning, n_cells: int) -> int:
    """Memory of one task: a shard and its read-back, and a block of genes over the cells laid out at a time."""
    cells = min(n_cells, LAYOUTS * CELLS_AT_ONCE)
    shard = binning.shard_pairs * binning.bins**2 * 4
    layouts = BLOCK_GENES * cells * 3 + 8 * cells  # dense codes, two bytes an entry at full density, cell starts
    counters = BLOCK_GENES * binning.bins**2 * 4  # of one gene a with a whole block: 1 MB at 32 bins, 67 MB at 255
    return 3 * shard + counters + layouts + BLOCK_GENES * min(n_cells, CELLS_AT_ONCE)


def estimate(n_pairs: int, binning: Binning, n_cells: int, n_workers: int) -> Estimate:
    """What counting these pairs will cost."""
    shards = -(-n_pairs // binning.shard_pairs)
    tasks = -(-shards // task_shards(shards, n_workers))
    per_image = BYTES_PER_IMAGE * max(binning.bins / 32, 1) ** 2
    return Estimate(n_pairs, shards, tasks, int(n_pairs * per_image), task_bytes(binning, n_cells))


def require_memory(spec: ImageSpec, limit: int | None) -> None:
    """Refuse a job whose tasks would not fit into a worker.

    Raises
    ------
    InputError
        Naming the limit to raise and to what.
    """
    need = task_bytes(spec.binning, spec.n_cells) + WORKER_BASE_BYTES
    if limit is not None and need > limit:
        # Rounded apart: nobody is told that 0.5 GB is too little for 0.5 GB, or refused again after doing as told.
        enough, given = math.ceil(need / 1e8) / 10, math.floor(limit / 1e8) / 10
        raise InputError(
            f"a task needs {enough:.1f} GB of memory and each worker has {given:.1f} GB: it would be killed; "
            f"give --memory-limit {enough:.1f}GB or more with fewer --workers."
        )
