"""The task of a worker: read its genes, count its tiles, write its shards. Any number of runs give the same bytes.

Each worker keeps the expressed cells of the genes it has read, as far as its share of memory allows, and the layout of
the block of genes b at hand; so a gene is read once a worker, not once a tile. While a second thread writes a shard and
waits for the disk, the next one is counted. (Compressing there too was slower: it takes the cache that counting needs.)
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.codes.store import Codes, open_codes
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.gene_cells import GeneCells
from pairscape.pipeline.heatmaps.gene_reader import GeneReader, held_reader
from pairscape.pipeline.heatmaps.images import Images, open_images
from pairscape.pipeline.heatmaps.kernel import GeneBlock, Margins, finish
from pairscape.pipeline.heatmaps.memory import GENES_AT_ONCE, Portion, portion
from pairscape.pipeline.heatmaps.narrow import count_complete
from pairscape.pipeline.heatmaps.shards import encode_shard, publish_shard
from pairscape.pipeline.heatmaps.tiles import Task, Tile, block_density, gene_blocks, tiles_of
from pairscape.pipeline.matrix.cell_groups import CellGroups
from pairscape.pipeline.storage.paths import located

MAX_WAITING = 2  # what is made and waits for the disk, such as compressed shards
PAIR = ("gene_a", "gene_b")


@dataclass
class Spent:
    """Seconds and bytes of a task.

    Attributes
    ----------
    bytes_written
        On disk.
    reading, counting, compressing
        Seconds: codes to laid-out genes; these to complete images; these to the bytes of shards.
    writing
        Seconds of writing, syncing and reading back; mostly while the next shard is counted.
    chunks_read
        Times that a chunk of genes was read over all cells.
    """

    bytes_written: int = 0
    reading: float = 0.0
    counting: float = 0.0
    compressing: float = 0.0
    writing: float = 0.0
    chunks_read: int = 0

    def add(self, other: "Spent") -> None:
        """Take the cost of another task in."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def warm_up() -> None:
    """Load the compiled kernels, so that what is measured next is counting."""
    cells, rows = GeneCells.from_codes(np.ones((2, 9), np.uint8)), np.arange(2)
    images, margins = np.empty((2, 2, 2), np.uint32), Margins(cells.margins(2), np.zeros(2, np.int64))
    GeneBlock.lay_out(cells, 2).count(cells, np.arange(3), rows, images, add=False)
    finish(images, rows, rows, margins, margins, 9)


def count_task(target: str, codes_path: str, portion: Portion, task: Task) -> Spent:
    """Count, write and receipt the shards of one task. Runs on a worker, any number of times."""
    images = open_images(target, complete=False)
    reader = held_reader(open_codes(located(codes_path)), portion, images.cell_groups())
    spent, read_before = Spent(), reader.chunks_read
    with writing_behind(spent) as write:
        for start in range(0, len(task.shards), portion.shards):
            part = slice(start, start + portion.shards)
            for encoded in _encoded(images, reader, task.shards[part], task.tiles[part], spent):
                write(_publish, images, *encoded)
    spent.chunks_read = reader.chunks_read - read_before
    return spent


@contextmanager
def writing_behind(spent: Spent) -> Iterator[Callable[..., None]]:
    """Write in a second thread while the next is made: a function that takes a function and its arguments.

    What that returns is added to `spent`; at the end all is written, or the first error is raised.
    """
    waiting = deque[Future[Spent]]()
    with ThreadPoolExecutor(1) as writer:

        def write(function: Callable[..., Spent], *arguments: Any) -> None:
            waiting.append(writer.submit(function, *arguments))
            while len(waiting) > MAX_WAITING:
                spent.add(waiting.popleft().result())

        yield write
        for written in waiting:
            spent.add(written.result())


Encoded = tuple[int, dict[str, bytes], dict[str, Any]]


def _encoded(
    images: Images,
    reader: GeneReader,
    shards: tuple[int, ...],
    tiles: tuple[tuple[Tile, ...], ...],
    spent: Spent,
) -> Iterator[Encoded]:
    """Shards counted together, group after group: files of a shard, and what is known of its files written before."""
    written: dict[int, dict[str, Any]] = {shard: {} for shard in shards}
    for groups in reader.group_runs():
        counts, both_zero = count_groups(reader, [t for some in tiles for t in some], images.pair_column, spent, groups)
        for number, group in enumerate(groups):
            at = 0
            for shard in shards:
                rows = slice(at, at + len(images.spec.shard_rows(shard)))
                started = time.perf_counter()
                content = encode_shard(images, shard, counts[number, rows], both_zero[number, rows], group)
                spent.compressing += time.perf_counter() - started
                yield shard, content, written[shard]
                at = rows.stop


def _publish(images: Images, shard: int, content: dict[str, bytes], written: dict[str, Any]) -> Spent:
    started = time.perf_counter()
    n_bytes = publish_shard(images, shard, content, written)
    return Spent(bytes_written=n_bytes, writing=time.perf_counter() - started)


def count_rows(
    reader: GeneReader, tiles: list[Tile], column: Callable[[str, int, int], NDArray[np.int32]], spent: Spent
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Images and double zeros of the rows of some tiles over all cells: (P, bins, bins), (P,); as `count_groups`."""
    counts, both_zero = count_groups(reader, tiles, column, spent, range(1))
    return counts[0], both_zero[0]


def count_groups(
    reader: GeneReader,
    tiles: list[Tile],
    column: Callable[[str, int, int], NDArray[np.int32]],
    spent: Spent,
    groups: range,
) -> tuple[NDArray[np.unsignedinteger], NDArray[np.uint32]]:
    """Images and double zeros of the rows of some tiles in some groups, in memory that the next call uses again.

    Parameters
    ----------
    column
        `gene_a` or `gene_b`, by name, of the rows from one to another.
    spent
        Takes the seconds in.
    groups
        Of the reader, M of them.

    Returns
    -------
    (M, P, bins, bins) uint32, or uint16 of groups that are all small; (M, P) uint32
    """
    n_rows, bins = sum(tile.stop - tile.start for tile in tiles), reader.codes.binning.bins
    kind = np.uint16 if reader.groups is not None and reader.is_narrow(groups) else np.uint32
    counts = reader.room(len(groups) * n_rows, bins, kind).reshape(len(groups), n_rows, bins, bins)
    both_zero, at = np.empty((len(groups), n_rows), np.uint32), 0
    for genes_b, members in groupby(tiles, key=lambda tile: tile.genes_b):
        parts = list(members)
        gene_a, gene_b = (np.concatenate([column(name, t.start, t.stop) for t in parts]) for name in PAIR)
        rows = slice(at, at + gene_a.size)
        both_zero[:, rows] = count_tile(reader, genes_b, (gene_a, gene_b), counts[:, rows], spent, groups)
        at = rows.stop
    return counts, both_zero


def count_tile(
    reader: GeneReader,
    genes_b: tuple[int, ...],
    pairs: tuple[NDArray[np.int32], NDArray[np.int32]],
    images: NDArray[Any],
    spent: Spent,
    groups: range = range(1),
) -> NDArray[np.uint32]:
    """Count pairs that share a block of genes b in some groups of cells, a slab of cells at a time.

    Parameters
    ----------
    genes_b
        The block of genes b, ascending.
    pairs : (P,), (P,) int32
        Genes a and genes b, in the order of the store, so genes a ascend.
    images : (M, P, bins, bins) unsigned
        Whatever it holds is replaced by the counts.
    spent
        Takes the seconds in.
    groups
        Of the reader, M of them. Absent: the only one, of all cells.

    Returns
    -------
    (M, P) uint32
        Cells in which neither gene is expressed.
    """
    tile = TilePairs.of(genes_b, pairs)
    count = _count_at_once if reader.is_narrow(groups) else _count_slabs
    return count(reader, tile, images, spent, groups)


@dataclass(frozen=True, eq=False)
class TilePairs:
    """Pairs that share a block of genes b.

    Attributes
    ----------
    genes_a, genes_b
        Ascending; those of the pairs, and those of the block.
    bounds : (A + 1,) int64
        First pair of each gene a.
    row_a, row_b : (P,) int64
        Where each pair's genes stand in `genes_a` and `genes_b`.
    """

    genes_a: NDArray[np.int32]
    genes_b: tuple[int, ...]
    bounds: NDArray[np.int64]
    row_a: NDArray[np.int64]
    row_b: NDArray[np.int64]

    @classmethod
    def of(cls, genes_b: tuple[int, ...], pairs: tuple[NDArray[np.int32], NDArray[np.int32]]) -> "TilePairs":
        """From the genes a, ascending, and b of each pair."""
        genes_a, first, row_a = np.unique(pairs[0], return_index=True, return_inverse=True)
        return cls(genes_a, genes_b, np.append(first, pairs[0].size), row_a, np.searchsorted(genes_b, pairs[1]))

    def parts(self) -> Iterator[tuple[slice, slice, tuple[NDArray[np.int64], NDArray[np.int64]]]]:
        """Some genes a after others: which, the rows of their pairs, and these as the kernel takes them."""
        for at in range(0, self.genes_a.size, GENES_AT_ONCE):
            some = slice(at, min(at + GENES_AT_ONCE, self.genes_a.size))
            rows = slice(self.bounds[some.start], self.bounds[some.stop])
            yield some, rows, (self.bounds[some.start : some.stop + 1] - rows.start, self.row_b[rows])


def _count_at_once(
    reader: GeneReader, tile: TilePairs, images: NDArray[Any], spent: Spent, groups: range
) -> NDArray[np.uint32]:
    """Count groups of few cells, all of which lie in one slab: complete images, some genes a at a time."""
    slab, zero = next(reader.slabs()), reader.zero_bin
    both_zero = np.empty(images.shape[:2], np.uint32)
    started = time.perf_counter()
    blocks = reader.blocks(tile.genes_b, slab, groups)
    spent.reading += time.perf_counter() - started
    for some, rows, pairs in tile.parts():
        started = time.perf_counter()
        genes = tile.genes_a[some]
        held = reader.held(genes, slab)
        within = [reader.within(held, slab, group) for group in groups]
        read = time.perf_counter()
        for number, (cells_a, (block, margin_b)) in enumerate(zip(within, blocks, strict=True)):
            a = Margins(cells_a.margins(reader.codes.binning.bins), zero[genes])
            b = Margins(margin_b, zero[list(tile.genes_b)])
            both_zero[number, rows] = count_complete(block, cells_a, pairs, images[number, rows], (a, b))
        spent.reading += read - started
        spent.counting += time.perf_counter() - read
    return both_zero


def _count_slabs(
    reader: GeneReader, tile: TilePairs, images: NDArray[Any], spent: Spent, groups: range
) -> NDArray[np.uint32]:
    """Count any number of cells, slab by slab; images are complete after the last."""
    bins, zero = reader.codes.binning.bins, reader.zero_bin
    margin_a = np.zeros((len(groups), tile.genes_a.size, bins), np.int64)
    margin_b = np.zeros((len(groups), len(tile.genes_b), bins), np.int64)
    for slab in reader.slabs():
        started = time.perf_counter()
        blocks = reader.blocks(tile.genes_b, slab, groups)
        margin_b += np.stack([margin for _, margin in blocks])
        spent.reading += time.perf_counter() - started
        for some, rows, (first, member) in tile.parts():
            started = time.perf_counter()
            held = reader.held(tile.genes_a[some], slab)
            within = [reader.within(held, slab, group) for group in groups]
            read = time.perf_counter()
            for number, (cells_a, (block, _)) in enumerate(zip(within, blocks, strict=True)):
                block.count(cells_a, first, member, images[number, rows], add=slab.start > 0)
                margin_a[number, some] += cells_a.margins(bins)
            spent.reading += read - started
            spent.counting += time.perf_counter() - read
    started = time.perf_counter()
    both_zero = np.empty(images.shape[:2], np.uint32)
    for number, group in enumerate(groups):
        a = Margins(margin_a[number], zero[tile.genes_a])
        b = Margins(margin_b[number], zero[list(tile.genes_b)])
        both_zero[number] = finish(images[number], tile.row_a, tile.row_b, a, b, reader.cells_of(group))
    spent.counting += time.perf_counter() - started
    return both_zero


def count_pairs(
    codes: Codes, gene_a: NDArray[np.int64], gene_b: NDArray[np.int64]
) -> tuple[NDArray[np.signedinteger], NDArray[np.int32]]:
    """Joint counts of some thousands of pairs at most, counted in this process.

    Parameters
    ----------
    gene_a, gene_b : (P,) int64
        Genes of the matrix, in any order.

    Returns
    -------
    (P, bins, bins) int16 or int32
        In the order given.
    (P,) int32
        Cells in which neither gene is expressed.
    """
    counts, both_zero = count_pairs_by_group(codes, gene_a, gene_b, None)
    return counts[0], both_zero[0]


def count_pairs_by_group(
    codes: Codes, gene_a: NDArray[np.int64], gene_b: NDArray[np.int64], groups: CellGroups | None
) -> tuple[NDArray[np.signedinteger], NDArray[np.int32]]:
    """The same apart for each of M groups of cells: (M, P, bins, bins) int16 or int32, and (M, P) int32."""
    bins, size = codes.binning.bins, 1 if groups is None else len(groups.names)
    counts = np.empty((size, gene_a.size, bins, bins), np.int16 if codes.n_cells < 2**15 else np.int32)
    both_zero = np.empty((size, gene_a.size), np.int32)
    order = np.lexsort((gene_b, gene_a, gene_blocks(gene_b)[1]))  # as in a store: block of gene b, gene a, gene b
    pairs = Pairs(gene_a[order].astype(np.int32), gene_b[order].astype(np.int32), np.zeros(order.size, np.int8))
    density = block_density(pairs, 1 - codes.array("dropout"))
    reader = GeneReader(codes, portion(codes.binning, codes.n_cells, density, None, groups=size), groups)
    for tiles in tiles_of(pairs.gene_b, codes.binning.shard_pairs):
        for tile in tiles:
            rows, at = slice(tile.start, tile.stop), order[tile.start : tile.stop]
            own = pairs.gene_a[rows], pairs.gene_b[rows]
            for group in range(size):
                room = reader.room(at.size, bins)
                (both_zero[group, at],) = count_tile(
                    reader, tile.genes_b, own, room[None], Spent(), range(group, group + 1)
                )
                counts[group, at] = room
    return counts, both_zero
