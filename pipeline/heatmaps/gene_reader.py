"""Expressed entries of genes, read from the codes and kept for the tiles to come."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import local

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from pairscape.pipeline.codes.binning import zero_bin
from pairscape.pipeline.codes.store import CHUNK_GENES, Codes
from pairscape.pipeline.compute.allocator import keep_freed_memory
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.heatmaps.kernel import GeneBlock, GeneCells
from pairscape.pipeline.heatmaps.memory import GENES_AT_ONCE, Portion

KEPT_ENTRY_BYTES = 5  # of a gene's expressed cell: its number and its code

ROUNDING = 2.0**-23  # of the share of cells that the store keeps as float32

READ_CELLS = 2**20  # cells of a chunk of genes that are unpacked at a time: 32 MB of dense codes


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
    _genes: LRUCache[tuple[int, int], GeneCells] = field(init=False)
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
