"""The kernel: codes of a tile → joint counts, exact to the last cell. Pure.

A joint histogram needs only the cells in which *both* genes are expressed; the rest follows from the marginals by
subtraction. At 10 % density that is 1 % of the work. So a tile is counted in two steps:

1. `GeneBlock.count`, once for each slab of cells: co-expressed cells only. The cells of gene a are sorted by a's code;
   for each code the expressed (gene b, code b) entries of those cells are walked and a row of genes × bins counters is
   incremented, small enough to stay in the first-level cache.
2. `finish`, once at the end: the cells where one gene or both are unexpressed go to the bins that hold the value 0.

The walk jumps from cell to cell through a table much larger than the second-level cache, and would wait for memory most
of its time: it asks for each cell's entries a dozen cells ahead, for as many cache lines as a cell has on average
(measured: 2 µs a pair with, 8 µs without, at 100,000 cells and 14 % density).

Where a gene a is paired with few genes of the block, walking whole cells would be wasteful; those pairs are counted
one by one, along the cells of gene b. Both ways give the same counts.

The oracle is `np.histogram2d` (tests/reference.py).
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.heatmaps.gene_cells import GeneCells, Index

BLOCK_GENES = 256  # genes b of a tile: 256 × 32 counters of 4 bytes are one first-level cache
MAX_SLAB_CELLS = 2**23  # of a full block at full density, 2**31 entries: their numbers fit 32 bits
LAYOUT_CELLS = 2**14  # cells laid out at a time, so that what is written stays in the second-level cache
AHEAD = np.int64(12)  # cells: memory answers within the time of a dozen
LINE = 32  # entries of 2 bytes in one cache line

Counts = NDArray[np.uint32]

# A machine instruction that numba has no name for; it changes the time, never a result.
PREFETCH = "llvm.prefetch.p0"
READ, KEEP_EVERYWHERE, DATA = 0, 3, 1  # its operands after the address


def _prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for `array[index]` to be in the first-level cache soon. Nothing is read: any index is allowed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = builder.module.globals.get(PREFETCH) or ir.Function(builder.module, kind, PREFETCH)
        builder.call(function, [address, *(ir.Constant(word, operand) for operand in (READ, KEEP_EVERYWHERE, DATA))])
        return context.get_dummy_value()

    return types.void(array, index), generate


prefetch: Any = intrinsic(_prefetch)


# An entry of gene b looked up in gene a's codes costs about twice an entry of the walk (measured).
ALONE_COST = 2.0


@dataclass(frozen=True, eq=False)
class GeneBlock:
    """The genes b of a tile over one slab of cells, stored twice: gene by gene, and cell by cell.

    Attributes
    ----------
    genes
        Their expressed cells.
    start : (N + 1,) uint32
        Where each cell's entries begin in `offset`.
    offset : (E,) uint16
        gene × bins + bin of every expressed entry, cell by cell: the counter to increment.
    bins
        Bins per gene.
    """

    genes: GeneCells
    start: NDArray[np.uint32]
    offset: NDArray[np.uint16]
    bins: int

    @classmethod
    def lay_out(cls, genes: GeneCells, bins: int) -> "GeneBlock":
        """Lay up to 256 genes out cell by cell.

        Raises
        ------
        ValueError
            More than 256 genes or 2**23 cells: counters and entries would not be addressable in 16 and 32 bits.
        """
        n_genes = genes.start.size - 1
        if n_genes > BLOCK_GENES or genes.n_cells > MAX_SLAB_CELLS:
            raise ValueError(
                f"a block holds {BLOCK_GENES} genes and {MAX_SLAB_CELLS} cells, not {n_genes} and {genes.n_cells}"
            )
        start, offset = np.zeros(genes.n_cells + 1, np.uint32), np.empty(genes.cell.size, np.uint16)
        _lay_out(genes.entries, bins, LAYOUT_CELLS, start, offset)
        return cls(genes, start, offset, bins)

    def count(self, genes_a: GeneCells, first: Index, member: Index, images: Counts, *, add: bool) -> None:
        """Co-expressed counts of this slab of cells for the images of a tile.

        Parameters
        ----------
        genes_a
            The genes a over the same cells.
        first : (A + 1,) int64
            Pairs of the a-th gene are rows first[a]:first[a+1] of `images`.
        member : (P,) int64
            For each pair, the row of its gene b in this block.
        images : (P, bins, bins) uint32
            Changed in place: row = bin of gene b, column = bin of gene a.
        add
            Whether the counts are added to those in `images` (of earlier slabs), or replace whatever is there.
        """
        layout, pairs = (self.start, self.offset), (first, member, images)
        _count(genes_a.entries, self.genes.entries, layout, pairs, ALONE_COST, add)


@numba.njit(nogil=True, cache=True)
def _lay_out(genes, bins, run, start, offset):  # type: ignore[no-untyped-def]
    """Run after run of cells: each gene's entries of the run are counted, then placed."""
    gene_start, cell, code = genes
    n_cells, n_genes = start.size - 1, gene_start.size - 1
    done, cursor = gene_start[:n_genes].copy(), np.zeros(run, np.uint32)
    for begin in range(0, n_cells, run):
        end = min(begin + run, n_cells)
        cursor[:] = 0
        for g in range(n_genes):
            i = done[g]
            while i < gene_start[g + 1] and cell[i] < end:
                cursor[cell[i] - begin] += np.uint32(1)
                i += 1
        for c in range(begin, end):
            start[c + 1] = start[c] + cursor[c - begin]
            cursor[c - begin] = start[c]
        for g in range(n_genes):
            i = done[g]
            while i < gene_start[g + 1] and cell[i] < end:
                c = cell[i] - begin
                offset[cursor[c]] = g * bins + code[i] - 1
                cursor[c] += np.uint32(1)
                i += 1
            done[g] = i


@numba.njit(nogil=True, cache=True)
def _count(genes_a, genes_b, layout, pairs, alone_cost, add):  # type: ignore[no-untyped-def]
    """Count each gene a with the genes b of its pairs, by whichever way costs less."""
    (a_start, a_cell, a_code), b_start = genes_a, genes_b[0]
    (start, offset), (first, member, images) = layout, pairs
    n_cells, bins = start.size - 1, images.shape[1]
    table = np.zeros((bins, (b_start.size - 1) * bins), np.uint32)
    longest = np.diff(a_start).max() if a_start.size > 1 else 0
    bucket, cells, dense = np.zeros(bins + 1, np.int64), np.empty(longest, np.int32), np.zeros(n_cells, np.uint8)
    entries = offset.size / max(n_cells, 1)
    lines = 2 + int(entries) // LINE  # a cell's entries rarely begin where a line does
    for a in range(a_start.size - 1):
        begin, end = first[a], first[a + 1]
        if begin == end:
            continue
        cell, code = a_cell[a_start[a] : a_start[a + 1]], a_code[a_start[a] : a_start[a + 1]]
        alone = 0
        for p in range(begin, end):
            alone += b_start[member[p] + 1] - b_start[member[p]]
        if alone * alone_cost <= cell.size * entries:
            if not add:
                images[begin:end] = 0
            count_alone((cell, code), genes_b, dense, member[begin:end], images[begin:end])
        else:
            _sort_cells(cell, code, bucket, cells)
            _count_walk(start, offset, bucket, cells, lines, table)
            _take_images(table, member[begin:end], images[begin:end], add)


@numba.njit(nogil=True, cache=True)
def _sort_cells(cell, code, bucket, cells):  # type: ignore[no-untyped-def]
    """Cells of one gene in the order of their code: bin k holds cells[bucket[k]:bucket[k + 1]]."""
    bucket[:] = 0
    for i in range(code.size):
        bucket[code[i]] += 1
    for k in range(1, bucket.size):
        bucket[k] += bucket[k - 1]
    for i in range(code.size - 1, -1, -1):
        k = code[i]
        bucket[k] -= 1
        cells[bucket[k]] = cell[i]
    for k in range(1, bucket.size):  # the fill moved each end to its start
        bucket[k - 1] = bucket[k]
    bucket[bucket.size - 1] = code.size


@numba.njit(nogil=True, cache=True)
def _count_walk(start, offset, bucket, cells, lines, table):  # type: ignore[no-untyped-def]
    """Counts of one gene a with every gene of the block: table[bin a, gene b × bins + bin b]."""
    last = bucket[table.shape[0]] - 1
    for k in range(table.shape[0]):
        counters = table[k]
        counters[:] = 0
        for i in range(bucket[k], bucket[k + 1]):
            prefetch(start, np.uint64(cells[min(i + 2 * AHEAD, last)]))
            soon = np.uint64(start[np.uint64(cells[min(i + AHEAD, last)])])
            for line in range(lines):
                prefetch(offset, soon + np.uint64(LINE * line))
            cell = np.uint64(cells[i])  # unsigned: no test for negative indices in the innermost loop
            for e in range(np.uint64(start[cell]), np.uint64(start[cell + np.uint64(1)])):
                counters[offset[e]] += np.uint32(1)


@numba.njit(nogil=True, cache=True)
def _take_images(table, member, images, add):  # type: ignore[no-untyped-def]
    bins = table.shape[0]
    for p in range(member.size):
        left, image = member[p] * bins, images[p]
        for ka in range(bins):
            counters = table[ka, left : left + bins]
            if add:
                for kb in range(bins):
                    image[kb, ka] += counters[kb]
            else:
                for kb in range(bins):
                    image[kb, ka] = counters[kb]


@numba.njit(nogil=True, cache=True)
def count_alone(gene_a, genes_b, dense, member, images):  # type: ignore[no-untyped-def]
    """Count the pairs of one gene a along the cells of each gene b; `dense` is 0 before and after."""
    (cell, code), (b_start, b_cell, b_code) = gene_a, genes_b
    for i in range(cell.size):
        dense[cell[i]] = code[i]
    for p in range(member.size):
        b, image = member[p], images[p]
        for i in range(b_start[b], b_start[b + 1]):
            own = dense[b_cell[i]]
            if own != 0:
                image[b_code[i] - 1, own - 1] += np.uint32(1)
    for i in range(cell.size):
        dense[cell[i]] = 0


@dataclass(frozen=True, eq=False)
class Margins:
    """What the unexpressed cells of a set of genes are subtracted from.

    Attributes
    ----------
    counts : (G, bins) int64
        Cells of each gene in each bin, expressed cells only, over all cells.
    zero_bin : (G,) int64
        Bin in which each gene's unexpressed cells are counted.
    """

    counts: Index
    zero_bin: Index


def finish(images: Counts, rows_a: Index, rows_b: Index, a: Margins, b: Margins, n_cells: int) -> Counts:
    """Complete co-expressed counts with the cells in which one gene or both are not expressed.

    Parameters
    ----------
    images : (P, bins, bins) uint32
        Co-expressed counts over all cells; changed in place. Afterwards every image sums to `n_cells`.
    rows_a, rows_b : (P,) int64
        Rows of each pair's genes in `a` and `b`.

    Returns
    -------
    (P,) uint32
        Cells in which neither gene of the pair is expressed.

    Raises
    ------
    JobError
        Counts that cannot be, such as more cells that express both genes than one; the image would not sum.
    """
    both_zero = np.empty(images.shape[0], np.uint32)
    genes_a, genes_b = (
        (rows, margins.counts.astype(np.uint32), margins.zero_bin) for rows, margins in ((rows_a, a), (rows_b, b))
    )
    wrong = finish_images(images, genes_a, genes_b, np.uint32(n_cells), both_zero)
    if wrong >= 0:
        raise contradiction(wrong, len(images))
    return both_zero


def contradiction(image: int, images: int) -> JobError:
    """An image that cannot be, in words."""
    return JobError(
        f"image {image} of {images}: its counts and those of its genes contradict each other, so it would not sum to "
        "the number of cells; this is a bug or a failing machine, report it."
    )


@numba.njit(nogil=True, cache=True)
def finish_images(images, genes_a, genes_b, n_cells, both_zero):  # type: ignore[no-untyped-def]
    """`finish`, compiled: returns the first image whose counts cannot be, or -1.

    It adds in uint32, which the machine does eight at a time. An image then sums to `n_cells` modulo 2**32 whatever was
    counted; it does so exactly if no difference is negative. One of gene a that is, about 2**32, takes `neither` below
    0 with it.
    """
    (rows_a, counts_a, zero_a), (rows_b, counts_b, zero_b) = genes_a, genes_b
    bins = images.shape[1]
    only_a = np.empty(bins, np.uint32)
    for p in range(images.shape[0]):
        image, za, zb = images[p], zero_a[rows_a[p]], zero_b[rows_b[p]]
        margin_a, margin_b = counts_a[rows_a[p]], counts_b[rows_b[p]]
        only_a[:] = margin_a
        neither, overdrawn = np.int64(n_cells), False
        for kb in range(bins):
            row, together = image[kb], np.uint32(0)
            for ka in range(bins):
                together += row[ka]
                only_a[ka] -= row[ka]
            neither -= np.int64(margin_b[kb])
            overdrawn |= together > margin_b[kb]
            row[za] += margin_b[kb] - together
        for ka in range(bins):
            neither -= np.int64(only_a[ka])
            image[zb, ka] += only_a[ka]
        image[zb, za] += np.uint32(neither)
        both_zero[p] = np.uint32(neither)
        if overdrawn or neither < 0:
            return p
    return -1


def kept_at() -> str:
    """The folder where the compiled form of these functions is kept."""
    return str(_count.stats.cache_path)
