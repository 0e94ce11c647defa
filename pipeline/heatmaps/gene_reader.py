"""Expressed entries of genes, read from the codes and kept for the tiles to come."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import local
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from pairscape.pipeline.codes.bins import zero_bin
from pairscape.pipeline.codes.store import CHUNK_GENES, Codes, require_complete
from pairscape.pipeline.compute.allocator import keep_freed_memory
from pairscape.pipeline.heatmaps.gene_cells import GeneCells
from pairscape.pipeline.heatmaps.kernel import GeneBlock
from pairscape.pipeline.heatmaps.memory import GENES_AT_ONCE, Portion
from pairscape.pipeline.heatmaps.narrow import MOST_CELLS
from pairscape.pipeline.matrix.cell_groups import NO_GROUP, CellGroups

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
    groups
        Of the cells of the store, which are counted apart. Absent: all cells together, as the only group.

    Attributes
    ----------
    chunks_read
        Times that a chunk of genes was unpacked.
    zero_bin : (G,) int64
        Bin in which each gene's unexpressed cells are counted.
    """

    codes: Codes
    portion: Portion
    groups: CellGroups | None = None
    chunks_read: int = 0
    zero_bin: NDArray[np.int64] = field(init=False)
    _dropout: NDArray[np.float32] = field(init=False)
    _keeps_all: bool = field(init=False)
    _genes: LRUCache[tuple[int, int], GeneCells] = field(init=False)
    _block: dict[int, tuple[GeneBlock, NDArray[np.int64]]] = field(init=False)
    _block_of: tuple[tuple[int, ...], int] = field(init=False)
    _cells: NDArray[np.int64] = field(init=False)
    _slab: tuple[slice, "SlabGroups"] | None = field(init=False)
    _room: NDArray[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.zero_bin = zero_bin(self.codes.array("edges"))
        self._dropout = self.codes.array("dropout")
        self._keeps_all = self.portion.keeps(self.codes.n_entries)
        self._genes = LRUCache(self.portion.cache_bytes, getsizeof=lambda gene: gene.nbytes)
        self._cells = np.array([self.codes.n_cells]) if self.groups is None else self.groups.cells
        self._block, self._block_of, self._slab = {}, ((), -1), None
        self._room = np.empty(0, np.uint32)

    def slabs(self) -> Iterator[slice]:
        """Runs of cells that are counted one after the other: one, unless memory is short."""
        for start in range(0, self.codes.n_cells, self.portion.cells):
            yield slice(start, min(start + self.portion.cells, self.codes.n_cells))

    @property
    def n_groups(self) -> int:
        """Groups of cells, 1 where all are counted together."""
        return 1 if self.groups is None else len(self.groups.names)

    def cells_of(self, group: int) -> int:
        """Cells of a group."""
        return int(self._cells[group])

    def group_runs(self) -> list[range]:
        """Groups that are counted together, as memory allows."""
        size = self.portion.groups
        return [range(at, min(at + size, self.n_groups)) for at in range(0, self.n_groups, size)]

    def genes(self, genes: NDArray[np.integer], slab: slice, group: int = 0) -> GeneCells:
        """Expressed cells of some genes, ascending, over a slab, or over its cells of a group."""
        return self.within(self.held(genes, slab), slab, group)

    def within(self, held: list[GeneCells], slab: slice, group: int) -> GeneCells:
        """Expressed cells of genes that are held over a slab, within a group."""
        if self.groups is None:
            return GeneCells.join(held)
        return GeneCells.join_group(held, group, int(self._grouped(slab).cells[group]))

    def held(self, genes: NDArray[np.integer], slab: slice) -> list[GeneCells]:
        """Each of some genes, ascending, over a slab: in one row, or in a row a group."""
        held = dict[int, GeneCells]()
        for gene in genes.tolist():
            if (cells := self._genes.get((gene, slab.start))) is not None:
                held[gene] = cells
        missing = np.array([gene for gene in genes.tolist() if gene not in held], np.int64)
        for chunk in np.unique(missing // CHUNK_GENES):
            held.update(self._read(self._neighbours(chunk, missing), slab))
        return [held[gene] for gene in genes.tolist()]

    def read_ahead(self, genes: NDArray[np.integer]) -> None:
        """Read genes, ascending, that many tiles will ask for; nothing where memory does not hold all genes."""
        if self._keeps_all and self.portion.cells >= self.codes.n_cells:
            for start in range(0, genes.size, GENES_AT_ONCE):
                self.held(genes[start : start + GENES_AT_ONCE], next(self.slabs()))

    def _neighbours(self, chunk: int, missing: NDArray[np.int64]) -> NDArray[np.int64]:
        """What to keep of a chunk that is unpacked: all of it if all genes can be kept, else the genes at hand."""
        whole = chunk * CHUNK_GENES + np.arange(CHUNK_GENES)
        return whole[whole < self.codes.n_genes] if self._keeps_all else missing[missing // CHUNK_GENES == chunk]

    def blocks(self, genes: tuple[int, ...], slab: slice, groups: range) -> list[tuple[GeneBlock, NDArray[np.int64]]]:
        """A block of genes b laid out over a slab in each of some groups, and its margins.

        Those of the last block of genes are kept, of all groups, for the shards to come.
        """
        if self._block_of != (genes, slab.start):
            self._block.clear()
            self._block_of = genes, slab.start
        if missing := [group for group in groups if group not in self._block]:
            held, bins = self.held(np.array(genes), slab), self.codes.binning.bins
            for group in missing:
                cells = self.within(held, slab, group)
                self._block[group] = GeneBlock.lay_out(cells, bins), cells.margins(bins)
        return [self._block[group] for group in groups]

    def room(self, images: int, bins: int, kind: type[np.unsignedinteger] = np.uint32) -> NDArray[Any]:
        """Memory for so many images, used again and again: fresh memory costs about as much as counting into it."""
        if self._room.size < images * bins**2 or self._room.dtype != kind:
            self._room = np.empty(images * bins**2, kind)
        return self._room[: images * bins**2].reshape(images, bins, bins)

    def is_narrow(self, groups: range) -> bool:
        """Whether each of some groups has few cells, all in one slab, so that `narrow` counts them."""
        whole = self.portion.cells >= self.codes.n_cells
        return whole and max(self.cells_of(group) for group in groups) < MOST_CELLS

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
            found[gene] = GeneCells.follow([self._one(part, row) for part in parts])
            if slab.start == 0 and slab.stop == self.codes.n_cells:
                require_complete(self.codes, gene, float(self._dropout[gene]), found[gene].cell.size)
            if self.groups is not None:
                found[gene] = found[gene].in_groups(*self._grouped(slab).of_cells, self.n_groups)
            if found[gene].nbytes <= self._genes.maxsize:
                self._genes[gene, slab.start] = found[gene]
        return found

    def _one(self, read: GeneCells, row: int) -> GeneCells:
        """One of the genes that were read together; a copy, so that it frees its memory, unless all are kept."""
        return read.view(row) if self._keeps_all else read.take(np.array([row]))

    def _grouped(self, slab: slice) -> "SlabGroups":
        assert self.groups is not None
        if self._slab is None or self._slab[0] != slab:
            self._slab = slab, SlabGroups.of(self.groups.number[slab], self.n_groups)
        return self._slab[1]


@dataclass(frozen=True, eq=False)
class SlabGroups:
    """Groups of the cells of a slab.

    Attributes
    ----------
    of_cells : (N,) uint16, (N,) int32
        Group of each cell, and its place among the slab's cells of the group.
    cells : (M,) int64
        Of each group.
    """

    of_cells: tuple[NDArray[np.uint16], NDArray[np.int32]]
    cells: NDArray[np.int64]

    @classmethod
    def of(cls, number: NDArray[np.uint16], groups: int) -> "SlabGroups":
        """From the group of each cell, `NO_GROUP` for a cell that is in none."""
        cells = np.bincount(number[number != NO_GROUP], minlength=groups)
        order, place = np.argsort(number, kind="stable"), np.zeros(number.size, np.int32)
        first = np.append(0, np.cumsum(cells)).repeat(np.append(cells, number.size - cells.sum()))
        place[order] = np.arange(number.size) - first
        return cls((number, place), cells)


_held = local()  # a reader a thread: the memory of a task was planned for a thread


def held_reader(codes: Codes, portion: Portion, groups: CellGroups | None = None) -> GeneReader:
    """The reader of this thread, kept while its tasks are of one job."""
    reader: GeneReader | None = getattr(_held, "reader", None)
    same = reader is not None and (reader.codes, reader.portion) == (codes, portion)
    if reader is None or not same or not _same_groups(reader.groups, groups):
        keep_freed_memory()
        _held.reader = reader = GeneReader(codes, portion, groups)
    return reader


def _same_groups(one: CellGroups | None, other: CellGroups | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.names == other.names and np.array_equal(one.number, other.number)
