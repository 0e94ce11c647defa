"""A worker's task: read its genes, count its tiles, write its shards; any number of times, the same bytes.

Each worker keeps the expressed cells of the genes it has read, as far as its share of memory allows, and the layout of
the block of genes b at hand; so a gene is read once a worker, not once a tile. While a second thread writes a shard and
waits for the disk, the next one is counted. (Compressing there too was slower: it takes the cache that counting needs.)
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from threading import local

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from pairscape.pipeline.codes.binning import zero_bin
from pairscape.pipeline.codes.store import CHUNK_GENES, Codes, open_codes
from pairscape.pipeline.compute.allocator import keep_freed_memory
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.images import Images, encode_shard, open_images, publish_shard
from pairscape.pipeline.heatmaps.kernel import GeneBlock, GeneCells, Margins, finish
from pairscape.pipeline.heatmaps.memory import GENES_AT_ONCE, Portion, portion
from pairscape.pipeline.heatmaps.tiles import Task, Tile, block_density, blocks_of, tiles_of
from pairscape.pipeline.storage.paths import located

MAX_WAITING = 2  # shards, compressed, that wait for the disk
KEPT_ENTRY_BYTES = 5  # of a gene's expressed cell: its number and its code
PAIR = ("gene_a", "gene_b")
ROUNDING = 2.0**-23  # of the share of cells that the store keeps as float32
READ_CELLS = 2**20  # cells of a chunk of genes that are unpacked at a time: 32 MB of dense codes


@dataclass
class Spent:
    """What a task cost.

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
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(eq=False)
class GeneReader:
    """The genes of a code store as a worker holds them.

    Parameters
    ----------
    codes
        The store.
    portion
        How much is held at once.

    Attributes
    ----------
    chunks_read
        Times that a chunk of genes was unpacked.
    zero_bin : (G,) int64
        Bin in which each gene's unexpressed cells are counted.
    """

    codes: Codes
    portion: Portion
    chunks_read: int = 0
    zero_bin: NDArray[np.int64] = field(init=False)
    _dropout: NDArray[np.float32] = field(init=False)
    _keeps_all: bool = field(init=False)
    _genes: LRUCache = field(init=False)
    _block: dict[tuple[tuple[int, ...], int], tuple[GeneBlock, NDArray[np.int64]]] = field(init=False)
    _room: NDArray[np.uint32] = field(init=False)

    def __post_init__(self) -> None:
        self.zero_bin = zero_bin(self.codes.array("edges"))
        self._dropout = self.codes.array("dropout")
        entries = float((1 - self._dropout.astype(np.float64)).sum()) * self.codes.n_cells
        self._keeps_all = self.portion.cache_bytes >= KEPT_ENTRY_BYTES * entries
        self._genes = LRUCache(self.portion.cache_bytes, getsizeof=lambda gene: gene.nbytes)
        self._block = {}
        self._room = np.empty(0, np.uint32)

    def slabs(self) -> Iterator[slice]:
        """Runs of cells that are counted one after the other: one, unless memory is short."""
        for start in range(0, self.codes.n_cells, self.portion.cells):
            yield slice(start, min(start + self.portion.cells, self.codes.n_cells))

    def genes(self, genes: NDArray[np.integer], slab: slice) -> GeneCells:
        """Expressed cells of some genes, ascending, over a slab."""
        held = dict[int, GeneCells]()
        for gene in genes.tolist():
            if (cells := self._genes.get((gene, slab.start))) is not None:
                held[gene] = cells
        missing = np.array([gene for gene in genes.tolist() if gene not in held], np.int64)
        for chunk in np.unique(missing // CHUNK_GENES):
            held.update(self._read(self._neighbours(chunk, missing), slab))
        return GeneCells.join([held[gene] for gene in genes.tolist()])

    def read_ahead(self, genes: NDArray[np.integer]) -> None:
        """Read genes, ascending, that many tiles will ask for; nothing where memory does not hold all genes."""
        if self._keeps_all and self.portion.cells >= self.codes.n_cells:
            for start in range(0, genes.size, GENES_AT_ONCE):
                self.genes(genes[start : start + GENES_AT_ONCE], next(self.slabs()))

    def _neighbours(self, chunk: int, missing: NDArray[np.int64]) -> NDArray[np.int64]:
        """What to keep of a chunk that is unpacked: all of it if all genes can be kept, else the genes at hand."""
        whole = chunk * CHUNK_GENES + np.arange(CHUNK_GENES)
        return whole[whole < self.codes.n_genes] if self._keeps_all else missing[missing // CHUNK_GENES == chunk]

    def block(self, genes: tuple[int, ...], slab: slice) -> tuple[GeneBlock, NDArray[np.int64]]:
        """A block of genes b laid out over a slab, and its margins; the last block is kept for the shards to come."""
        if (genes, slab.start) not in self._block:
            self._block.clear()
            cells, bins = self.genes(np.array(genes), slab), self.codes.binning.bins
            self._block[genes, slab.start] = GeneBlock.lay_out(cells, bins), cells.margins(bins)
        return self._block[genes, slab.start]

    def room(self, images: int, bins: int) -> NDArray[np.uint32]:
        """Memory for so many images, used again and again: fresh memory costs about as much as counting into it."""
        if self._room.size < images * bins**2:
            self._room = np.empty(images * bins**2, np.uint32)
        return self._room[: images * bins**2].reshape(images, bins, bins)

    def _read(self, genes: NDArray[np.int64], slab: slice) -> dict[int, GeneCells]:
        """Genes of one chunk, read and kept."""
        self.chunks_read += 1
        starts = range(slab.start, slab.stop, READ_CELLS)
        parts = [
            GeneCells.from_codes(self.codes.read(genes, slice(start, min(start + READ_CELLS, slab.stop))))
            for start in starts
        ]
        found = {}
        for row, gene in enumerate(genes.tolist()):
            found[gene] = GeneCells.follow([part.take(np.array([row])) for part in parts])
            self._check(gene, found[gene])
            if found[gene].nbytes <= self._genes.maxsize:
                self._genes[gene, slab.start] = found[gene]
        return found

    def _check(self, gene: int, cells: GeneCells) -> None:
        """A lost file of codes would read as zeros."""
        expected = round((1 - float(self._dropout[gene])) * self.codes.n_cells)
        if cells.n_cells == self.codes.n_cells and abs(cells.cell.size - expected) > 0.5 + ROUNDING * cells.n_cells:
            raise JobError(
                f"{self.codes.path}: gene {gene} is expressed in {cells.cell.size:,} cells, not in {expected:,} as it "
                "was: codes are lost; delete the store, it will be made again."
            )


_held = local()  # a reader a thread: the memory of a task was planned for a thread


def held_reader(codes: Codes, portion: Portion) -> GeneReader:
    """The reader of this thread, kept while its tasks are of one job."""
    if getattr(_held, "reader", None) is None or (_held.reader.codes, _held.reader.portion) != (codes, portion):
        keep_freed_memory()
        _held.reader = GeneReader(codes, portion)
    return _held.reader


def warm_up() -> None:
    """Load the compiled kernels, so that what is measured next is counting."""
    cells, rows = GeneCells.from_codes(np.ones((2, 9), np.uint8)), np.arange(2)
    images, margins = np.empty((2, 2, 2), np.uint32), Margins(cells.margins(2), np.zeros(2, np.int64))
    GeneBlock.lay_out(cells, 2).count(cells, np.arange(3), rows, images, add=False)
    finish(images, rows, rows, margins, margins, 9)


def count_task(target: str, codes_path: str, portion: Portion, task: Task) -> Spent:
    """Count, write and receipt the shards of one task. Runs on a worker, any number of times."""
    images, reader = open_images(target, complete=False), held_reader(open_codes(located(codes_path)), portion)
    spent, read_before, writing = Spent(), reader.chunks_read, deque[Future[Spent]]()
    with ThreadPoolExecutor(1) as writer:
        for start in range(0, len(task.shards), portion.shards):
            group, at = slice(start, start + portion.shards), 0
            counts, both_zero = count_rows(reader, [t for s in task.tiles[group] for t in s], images.pair_column, spent)
            for shard in task.shards[group]:
                rows = slice(at, at + len(images.spec.shard_rows(shard)))
                content = _compress(images, shard, counts[rows], both_zero[rows], spent)
                writing.append(writer.submit(_publish, images, shard, content))
                at = rows.stop
            while len(writing) > MAX_WAITING:
                spent.add(writing.popleft().result())
        for written in writing:
            spent.add(written.result())
    spent.chunks_read = reader.chunks_read - read_before
    return spent


def _compress(
    images: Images, shard: int, counts: NDArray[np.uint32], both_zero: NDArray[np.uint32], spent: Spent
) -> dict[str, bytes]:
    started = time.perf_counter()
    content = encode_shard(images, shard, counts, both_zero)
    spent.compressing += time.perf_counter() - started
    return content


def _publish(images: Images, shard: int, content: dict[str, bytes]) -> Spent:
    started = time.perf_counter()
    written = publish_shard(images, shard, content)
    return Spent(bytes_written=written, writing=time.perf_counter() - started)


def count_rows(
    reader: GeneReader, tiles: list[Tile], column: Callable[[str, int, int], NDArray[np.int32]], spent: Spent
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Images and double zeros of the rows of some tiles, in memory that the next call uses again.

    Parameters
    ----------
    column
        `gene_a` or `gene_b`, by name, of the rows from one to another.
    spent
        Takes the seconds in.
    """
    n_rows, bins = sum(tile.stop - tile.start for tile in tiles), reader.codes.binning.bins
    counts, both_zero, at = reader.room(n_rows, bins), np.empty(n_rows, np.uint32), 0
    for genes_b, members in groupby(tiles, key=lambda tile: tile.genes_b):
        parts = list(members)
        gene_a, gene_b = (np.concatenate([column(name, t.start, t.stop) for t in parts]) for name in PAIR)
        rows = slice(at, at + gene_a.size)
        both_zero[rows] = count_tile(reader, genes_b, gene_a, gene_b, counts[rows], spent)
        at = rows.stop
    return counts, both_zero


def count_tile(
    reader: GeneReader,
    genes_b: tuple[int, ...],
    gene_a: NDArray[np.int32],
    gene_b: NDArray[np.int32],
    images: NDArray[np.uint32],
    spent: Spent,
) -> NDArray[np.uint32]:
    """Count pairs that share a block of genes b over all cells, a slab of cells at a time.

    Parameters
    ----------
    genes_b
        The block of genes b, ascending.
    gene_a, gene_b : (P,) int32
        In the order of the store, so gene_a ascends.
    images : (P, bins, bins) uint32
        Whatever it holds is replaced by the counts.
    spent
        Takes the seconds in.

    Returns
    -------
    (P,) uint32
        Cells in which neither gene is expressed.
    """
    genes_a, first, row_a = np.unique(gene_a, return_index=True, return_inverse=True)
    bounds, row_b = np.append(first, gene_a.size), np.searchsorted(genes_b, gene_b)
    bins, zero = reader.codes.binning.bins, reader.zero_bin
    margin_a, margin_b = np.zeros((genes_a.size, bins), np.int64), np.zeros((len(genes_b), bins), np.int64)
    for slab in reader.slabs():
        started = time.perf_counter()
        block, margin = reader.block(genes_b, slab)
        margin_b += margin
        spent.reading += time.perf_counter() - started
        for at in range(0, genes_a.size, GENES_AT_ONCE):
            some = slice(at, min(at + GENES_AT_ONCE, genes_a.size))
            started = time.perf_counter()
            cells_a = reader.genes(genes_a[some], slab)
            laid_out = time.perf_counter()
            rows, first = slice(bounds[some.start], bounds[some.stop]), bounds[some.start : some.stop + 1]
            block.count(cells_a, first - first[0], row_b[rows], images[rows], add=slab.start > 0)
            margin_a[some] += cells_a.margins(bins)
            spent.reading += laid_out - started
            spent.counting += time.perf_counter() - laid_out
    started = time.perf_counter()
    a, b = Margins(margin_a, zero[genes_a]), Margins(margin_b, zero[list(genes_b)])
    both_zero = finish(images, row_a, row_b, a, b, reader.codes.n_cells)
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
    bins = codes.binning.bins
    counts = np.empty((gene_a.size, bins, bins), np.int16 if codes.n_cells < 2**15 else np.int32)
    both_zero = np.empty(gene_a.size, np.int32)
    order = np.lexsort((gene_b, gene_a, blocks_of(gene_b)[1]))  # as in a store: block of gene b, gene a, gene b
    pairs = Pairs(gene_a[order].astype(np.int32), gene_b[order].astype(np.int32), np.zeros(order.size, np.int8))
    density = block_density(pairs, 1 - codes.array("dropout"))
    reader = GeneReader(codes, portion(codes.binning, codes.n_cells, density, None))
    for tiles in tiles_of(pairs.gene_b, codes.binning.shard_pairs):
        for tile in tiles:
            rows, at = slice(tile.start, tile.stop), order[tile.start : tile.stop]
            room = reader.room(tile.stop - tile.start, bins)
            both_zero[at] = count_tile(reader, tile.genes_b, pairs.gene_a[rows], pairs.gene_b[rows], room, Spent())
            counts[at] = room
    return counts, both_zero
