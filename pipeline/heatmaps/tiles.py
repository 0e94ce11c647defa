"""The plan: pairs → their order in the store → shards → tasks. Pure.

Pairs are stored in the order (block of gene b, gene a, gene b). So a shard's pairs share one block of at most 256 genes
b, or a few at its ends; such a run of rows is a *tile*, whose genes b are laid out once and walked for every gene a.
A task is a run of whole shards. The order depends on the pairs alone, so the store's bytes do not depend on the plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.kernel import BLOCK_GENES

TASK_SECONDS = 30.0  # the longest task: little is lost with a worker
SHORT_TASK_SECONDS = 5.0  # the shortest, if there is work enough: a thousand workers then end 200 tasks a second
TASKS_PER_WORKER = 16  # the shortest where there is less work
SHARES_PER_WORKER = 4  # a task takes this part of a worker's share of the work that is left


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

    def __str__(self) -> str:
        """As messages name it."""
        numbers = ", ".join(map(str, self.shards))
        return f"shard {numbers}" if len(self.shards) == 1 else f"shards {numbers}"


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

    The first tasks are long, so that few of them read the same genes; towards the end they shrink with the work that is
    left, so that no worker waits long for the last one. None is so short that a scheduler of many workers chokes.
    """
    left = float(seconds.sum())
    shortest = min(SHORT_TASK_SECONDS, left / (TASKS_PER_WORKER * n_workers))
    bounds, held = [0], 0.0
    for shard, needed in enumerate(seconds.tolist()):
        wanted = min(max(left / (SHARES_PER_WORKER * n_workers), shortest), TASK_SECONDS)
        if held and held + needed / 2 > wanted:
            bounds.append(shard)
            left, held = left - held, 0.0
        held += needed
    return [slice(start, stop) for start, stop in pairwise([*bounds, seconds.size])] if seconds.size else []


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


def even_runs(seconds: NDArray[np.float64], wanted: float) -> list[slice]:
    """Neighbouring shards that make tasks of about the same time, from (S,) seconds of each: no shard is cut."""
    middle = np.cumsum(seconds) - seconds / 2
    bounds = np.flatnonzero(np.diff(np.floor(middle / wanted), prepend=-1, append=np.inf))
    return [slice(int(start), int(stop)) for start, stop in pairwise(bounds)]


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
