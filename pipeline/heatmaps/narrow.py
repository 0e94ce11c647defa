"""The kernel for fewer than 65,536 cells in one go, such as those of one group: complete images at once. Pure.

With few cells most of the time goes to the images, not to the counting: the counters of a block of genes b have 16 bits
here, lie as images do, and hold one gene a; each image is summed, completed and written once, while its counters are in
the second-level cache. The images are those of `kernel`, to the last cell.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.heatmaps.gene_cells import GeneCells, Index
from pairscape.pipeline.heatmaps.kernel import (
    AHEAD,
    ALONE_COST,
    LINE,
    GeneBlock,
    Margins,
    contradiction,
    count_alone,
    finish_images,
    prefetch,
)

MOST_CELLS = 2**16  # from here on a counter could overflow
LINE_COUNTERS, LINE_WORDS = 32, 8  # of a cache line: counters of 16 bits, and words of 64, summed four counters at once
HALVES, LOW, SHIFT, HALF = np.uint64(0x0000FFFF0000FFFF), np.uint64(0xFFFFFFFF), np.uint64(16), np.uint64(32)


def count_complete(
    block: GeneBlock,
    genes_a: GeneCells,
    pairs: tuple[Index, Index],
    images: NDArray[Any],
    margins: tuple[Margins, Margins],
) -> NDArray[np.uint32]:
    """Complete images of the pairs of some genes a with a block of genes b, over all cells that there are.

    Parameters
    ----------
    block, genes_a
        Over the same cells, fewer than `MOST_CELLS`.
    pairs : (A + 1,), (P,) int64
        First pair of each gene a, and the row of each pair's gene b in the block, as `GeneBlock.count` takes them.
    images : (P, bins, bins) uint16 or uint32
        Whatever it holds is replaced: row = bin of gene b, column = bin of gene a.
    margins
        Of the genes a, and of the block.

    Returns
    -------
    (P,) uint32
        Cells in which neither gene of a pair is expressed.

    Raises
    ------
    JobError
        As `kernel.finish`.
    """
    both_zero = np.empty(images.shape[0], np.uint32)
    of_a, of_b = ((own.counts.astype(np.uint32), own.zero_bin) for own in margins)
    layout, out = (block.start, block.offset), (images, both_zero)
    wrong = _count(genes_a.entries, block.genes.entries, layout, pairs, out, (of_a, of_b), np.int64(genes_a.n_cells))
    if wrong >= 0:
        raise contradiction(wrong, len(images))
    return both_zero


@numba.njit(nogil=True, cache=True)
def _count(genes_a, genes_b, layout, pairs, out, margins, n_cells):  # type: ignore[no-untyped-def]
    """Each gene a by whichever way costs less; returns the first image whose counts cannot be, or -1."""
    (a_start, a_cell, a_code), b_start = genes_a, genes_b[0]
    (start, offset), (first, member), (images, both_zero), (of_a, of_b) = layout, pairs, out, margins
    bins, genes = images.shape[1], b_start.size - 1
    table = np.zeros((genes, bins, -(-bins // LINE_COUNTERS) * LINE_WORDS), np.uint64)
    counters = table.view(np.uint16)
    dense, entries = np.zeros(n_cells, np.uint8), offset.size / max(n_cells, 1)
    lines = 2 + int(entries) // LINE
    for a in range(a_start.size - 1):
        begin, end = first[a], first[a + 1]
        if begin == end:
            continue
        cell, code = a_cell[a_start[a] : a_start[a + 1]], a_code[a_start[a] : a_start[a + 1]]
        own, of_gene = (images[begin:end], both_zero[begin:end]), (of_a[0][a : a + 1], of_a[1][a : a + 1])
        alone = 0
        for p in range(begin, end):
            alone += b_start[member[p] + 1] - b_start[member[p]]
        if alone * ALONE_COST <= cell.size * entries:
            own[0][:] = 0
            count_alone((cell, code), genes_b, dense, member[begin:end], own[0])
            rows = (np.zeros(end - begin, np.int64), of_gene[0], of_gene[1])
            wrong = finish_images(own[0], rows, (member[begin:end], of_b[0], of_b[1]), np.uint32(n_cells), own[1])
        else:
            table[:] = 0
            _walk(start, offset, cell, code, lines, counters)
            wrong = _complete((table, counters), member[begin:end], own, (of_gene[0][0], of_gene[1][0]), of_b, n_cells)
        if wrong >= 0:
            return begin + wrong
    return -1


@numba.njit(nogil=True, cache=True)
def _walk(start, offset, cell, code, lines, counters):  # type: ignore[no-untyped-def]
    """Count one gene a with every gene of the block: counters[gene b, bin b, bin a], up to the padding of a word."""
    width, flat, last = np.uint64(counters.shape[2]), counters.reshape(-1), cell.size - 1
    for i in range(cell.size):
        prefetch(start, np.uint64(cell[min(i + 2 * AHEAD, last)]))
        soon = np.uint64(start[np.uint64(cell[min(i + AHEAD, last)])])
        for line in range(lines):
            prefetch(offset, soon + np.uint64(LINE * line))
        c, own = np.uint64(cell[i]), np.uint64(code[i]) - np.uint64(1)
        for e in range(np.uint64(start[c]), np.uint64(start[c + np.uint64(1)])):
            flat[np.uint64(offset[e]) * width + own] += np.uint16(1)


@numba.njit(nogil=True, cache=True)
def _complete(table, member, out, of_a, of_b, n_cells):  # type: ignore[no-untyped-def]
    """Images of one gene a from its counters, as `finish`; a margin that is overdrawn sets the sign of `wrong`."""
    (words, counters), (images, both_zero), (margin_a, zero_a), (margins_b, zeros_b) = table, out, of_a, of_b
    bins, width, all_a = images.shape[1], words.shape[2], np.int64(margin_a.sum())
    rows, columns = np.empty(bins, np.int32), np.empty(width, np.uint64)
    together_a = columns.view(np.uint16)
    for p in range(member.size):
        b, image, wrong, all_b = member[p], images[p], np.int32(0), np.int64(0)
        zero_b, own, margin_b = zeros_b[b], counters[b], margins_b[b]
        together = _add_up(words[b], rows, columns)
        if own.shape[1] == bins:
            flat, same = image.reshape(-1), own.reshape(-1)
            for k in range(same.size):
                flat[k] = same[k]
        else:
            image[:] = own[:, :bins]
        for kb in range(bins):
            only_b = np.int32(margin_b[kb] - rows[kb])
            all_b += np.int64(margin_b[kb])
            wrong |= only_b
            image[kb, zero_a] += only_b
        for ka in range(bins):
            only_a = np.int32(margin_a[ka] - together_a[ka])
            wrong |= only_a
            image[zero_b, ka] += only_a
        neither = n_cells - all_a - all_b + np.int64(together)
        image[zero_b, zero_a] += neither
        both_zero[p] = neither
        if wrong < 0 or neither < 0:
            return p
    return -1


@numba.njit(nogil=True, cache=True)
def _total(word):  # type: ignore[no-untyped-def]
    """Of the four counters in a word."""
    word = (word & HALVES) + ((word >> SHIFT) & HALVES)
    return (word & LOW) + (word >> HALF)


@numba.njit(nogil=True, cache=True)
def _add_up(words, rows, columns):  # type: ignore[no-untyped-def]
    """Sums of counters over rows, as numbers, and over columns, four in a word, and over all.

    None overflows, as no counter does. A line of eight words is written out, to become a few vector instructions.
    """
    together = np.uint64(0)
    for at in range(0, words.shape[1], LINE_WORDS):
        c0 = c1 = c2 = c3 = c4 = c5 = c6 = c7 = np.uint64(0)
        for kb in range(words.shape[0]):
            line = words[kb, at : at + LINE_WORDS]
            w0, w1, w2, w3, w4, w5, w6, w7 = line[0], line[1], line[2], line[3], line[4], line[5], line[6], line[7]
            c0, c1, c2, c3, c4, c5, c6, c7 = c0 + w0, c1 + w1, c2 + w2, c3 + w3, c4 + w4, c5 + w5, c6 + w6, c7 + w7
            total = np.int32(_total(((w0 + w1) + (w2 + w3)) + ((w4 + w5) + (w6 + w7))))
            rows[kb] = total if at == 0 else rows[kb] + total
        held = columns[at : at + LINE_WORDS]
        held[0], held[1], held[2], held[3], held[4], held[5], held[6], held[7] = c0, c1, c2, c3, c4, c5, c6, c7
        together += _total(((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7)))
    return together
