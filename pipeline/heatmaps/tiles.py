"""Plan of a heatmap job: pairs → their order in the store → shards → tasks, and what they cost. Pure.

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


def gene_blocks(gene_b: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The genes b in use, ascending, (B,), and for every pair the block its gene b belongs to, (P,)."""
    used = np.zeros(int(gene_b.max()) + 1 if gene_b.size else 0, bool)
    used[gene_b] = True
    block = (np.cumsum(used) - 1) // BLOCK_GENES
    return np.flatnonzero(used), block[gene_b]


def storage_order(pairs: Pairs) -> Pairs:
    """The pairs in the order of the store: (block of gene b, gene a, gene b)."""
    _, block = gene_blocks(pairs.gene_b)
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
    genes, block = gene_blocks(gene_b)
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
    genes, _ = gene_blocks(pairs.gene_b)
    starts = np.arange(0, genes.size, BLOCK_GENES)
    sizes = np.diff(np.append(starts, genes.size))
    return float((np.add.reduceat(density[genes], starts) / sizes).max())


# ── cost: seconds on one worker, bytes on disk, from measured rates ──────────────────────────────────────────────────
#
# Counting costs a fixed time an image and a time an *event*, a cell that expresses both genes of a pair. The expected
# number of events follows from the genes' densities; `pipeline.heatmaps.plan` measures the rates on tiles of the matrix
# at hand. The constants only weigh the two kinds of work against each other.

IMAGE_SECONDS = 2.5e-6  # counting: an image's own work (benchmarks/RESULTS.md)
EVENT_SECONDS = 1.2e-9  # counting: of one co-expressed cell
WRITE_SECONDS = 6e-6  # compressing, writing and reading back one image of 32 bins


@dataclass(frozen=True)
class Sample:
    """Measurements on some images.

    Attributes
    ----------
    images
        Their number.
    events
        Co-expressed cells expected in all of them together.
    counting, writing, reading
        Seconds for all of them together.
    chunks_read
        Chunks of 32 genes that were read for them.
    n_bytes
        Their size, compressed.
    loading
        Seconds that a worker's first task takes longer.
    """

    images: int
    events: float
    counting: float
    writing: float
    reading: float
    chunks_read: int
    n_bytes: int
    loading: float = 0.0


@dataclass(frozen=True)
class Rates:
    """Rates of a machine, measured.

    Attributes
    ----------
    counting
        Seconds of counting for each second that the constants foresee.
    writing
        Seconds for each image.
    chunk
        Seconds to read a chunk of genes over all cells and lay it out.
    image_bytes
        Bytes on disk of each image.
    loading
        Seconds of each worker until it has loaded what counts.
    """

    counting: float = 1.0
    writing: float = WRITE_SECONDS
    chunk: float = 0.0
    image_bytes: float = 150.0
    loading: float = 0.0

    @classmethod
    def measured(cls, sample: Sample) -> "Rates":
        """Ratios over a whole sample, which few slow moments do not spoil."""
        foreseen = counting_seconds(np.array(float(sample.images)), np.array(sample.events))
        return cls(
            sample.counting / float(foreseen),
            sample.writing / sample.images,
            sample.reading / max(sample.chunks_read, 1),
            sample.n_bytes / sample.images,
            sample.loading,
        )


def pair_events(pairs: Pairs, density: NDArray[np.floating], n_cells: int) -> NDArray[np.float32]:
    """Cells expected to express both genes of each pair, were the genes independent: (P,) float32."""
    own = density.astype(np.float32)
    return np.asarray(own[pairs.gene_a] * own[pairs.gene_b] * np.float32(n_cells))


def counting_seconds(images: NDArray[np.float64], events: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds of counting that the constants foresee for numbers of images with so many events."""
    return images * IMAGE_SECONDS + events * EVENT_SECONDS


def shard_seconds(events: NDArray[np.float32], shard_pairs: int, rates: Rates, groups: int = 1) -> NDArray[np.float64]:
    """Expected seconds of each shard on one worker, without reading: (S,) float64.

    Parameters
    ----------
    events : (P,)
        Of every pair in the order of the store.
    groups
        Of cells: images of each pair.
    """
    starts = np.arange(0, events.size, shard_pairs)
    images = np.diff(np.append(starts, events.size)).astype(np.float64) * groups
    together = np.add.reduceat(events, starts, dtype=np.float64)
    return counting_seconds(images, together) * rates.counting + images * rates.writing


def spread_runs(events: NDArray[np.float32], n_samples: int, size: int) -> list[slice]:
    """Runs of neighbouring rows that stand for all: spread evenly over the runs as ordered by their events.

    Parameters
    ----------
    events : (P,)
        Of every pair in the order of the store.
    n_samples, size
        Runs wanted, and rows in each; fewer where there are not so many.
    """
    starts = np.arange(0, events.size, size)
    order = np.argsort(np.add.reduceat(events, starts, dtype=np.float64), kind="stable")
    take = np.unique(((np.arange(n_samples) + 0.5) / n_samples * starts.size).astype(np.int64))
    return [slice(int(at), int(min(at + size, events.size))) for at in np.sort(starts[order[take]])]
