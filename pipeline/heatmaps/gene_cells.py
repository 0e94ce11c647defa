"""The expressed cells of genes: the sparse form of codes, over a slab of cells or within a group of them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
Index = NDArray[np.int64]


def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    """Zero bits below the lowest set bit of a uint64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


trailing_zeros: Any = intrinsic(_trailing_zeros)  # a machine instruction that numba has no name for


@dataclass(frozen=True, eq=False)
class GeneCells:
    """The expressed cells of some genes over one slab of cells, gene by gene: the sparse form of codes.

    Attributes
    ----------
    start : (G + 1,) int64
        Where each gene's entries begin.
    cell : (E,) int32
        Cells within the slab, ascending for each gene.
    code : (E,) uint8
        Their codes, 1 to bins.
    n_cells
        Cells of the slab.
    """

    start: Index
    cell: NDArray[np.int32]
    code: Codes
    n_cells: int

    @property
    def entries(self) -> tuple[Index, NDArray[np.int32], Codes]:
        """The arrays, as compiled code takes them: a class would be looked up by name in caches of compiled code."""
        return self.start, self.cell, self.code

    @property
    def nbytes(self) -> int:
        """Memory, in bytes."""
        return self.start.nbytes + self.cell.nbytes + self.code.nbytes

    @classmethod
    def from_codes(cls, codes: Codes) -> "GeneCells":
        """The entries of dense codes, (G, N) uint8 with 0 = not expressed, contiguous."""
        start = np.zeros(codes.shape[0] + 1, np.int64)
        np.cumsum([np.count_nonzero(row) for row in codes], out=start[1:])
        cell, code = np.empty(start[-1], np.int32), np.empty(start[-1], np.uint8)
        whole = codes.shape[1] // 8 * 8
        words = np.ascontiguousarray(codes[:, :whole]).view(np.uint64)
        _list_entries(codes, words, start, cell, code)
        return cls(start, cell, code, codes.shape[1])

    def take(self, genes: Index) -> "GeneCells":
        """Some of the genes, in this order; `genes` are rows."""
        lengths = self.start[genes + 1] - self.start[genes]
        start = np.append(0, np.cumsum(lengths))
        cell, code = np.empty(start[-1], np.int32), np.empty(start[-1], np.uint8)
        for row, gene in enumerate(genes):
            here, there = slice(start[row], start[row + 1]), slice(self.start[gene], self.start[gene + 1])
            cell[here], code[here] = self.cell[there], self.code[there]
        return GeneCells(start, cell, code, self.n_cells)

    def view(self, gene: int) -> "GeneCells":
        """One of the genes, in the memory of all."""
        own = slice(self.start[gene], self.start[gene + 1])
        return GeneCells(self.start[gene : gene + 2] - own.start, self.cell[own], self.code[own], self.n_cells)

    def in_groups(self, group: NDArray[np.uint16], place: NDArray[np.int32], groups: int) -> "GeneCells":
        """One gene cut up by groups of cells: a row a group, cells by their place within the group.

        Parameters
        ----------
        group : (N,) uint16
            Of each cell; cells of a number that is no group are left out.
        place : (N,) int32
            Of each cell within its group, ascending.
        """
        start = np.zeros(groups + 1, np.int64)
        _count_groups(self.cell, group, start)
        cell, code = np.empty(start[-1], np.int32), np.empty(start[-1], np.uint8)
        _cut_up((self.cell, self.code), (group, place), start[:-1].copy(), cell, code)
        return GeneCells(start, cell, code, self.n_cells)

    @staticmethod
    def join(parts: Sequence["GeneCells"]) -> "GeneCells":
        """The genes of all parts, one after the other, over the same cells."""
        lengths = np.concatenate([np.diff(part.start) for part in parts])
        cell, code = (np.concatenate([getattr(part, name) for part in parts]) for name in ("cell", "code"))
        return GeneCells(np.append(0, np.cumsum(lengths)), cell, code, parts[0].n_cells)

    @staticmethod
    def join_group(genes: Sequence["GeneCells"], group: int, n_cells: int) -> "GeneCells":
        """Genes that are cut up by groups of cells, one after the other, within a group of so many cells."""
        bounds = [gene.start[group : group + 2].tolist() for gene in genes]
        cell = np.concatenate([gene.cell[a:b] for gene, (a, b) in zip(genes, bounds, strict=True)])
        code = np.concatenate([gene.code[a:b] for gene, (a, b) in zip(genes, bounds, strict=True)])
        return GeneCells(np.append(0, np.cumsum([b - a for a, b in bounds])), cell, code, n_cells)

    @staticmethod
    def follow(parts: Sequence["GeneCells"]) -> "GeneCells":
        """One gene over slabs that follow each other."""
        if len(parts) == 1:
            return parts[0]
        before = np.cumsum([0, *(part.n_cells for part in parts)])
        cell = np.concatenate([part.cell + np.int32(at) for part, at in zip(parts, before[:-1], strict=True)])
        code = np.concatenate([part.code for part in parts])
        return GeneCells(np.array([0, cell.size]), cell, code, int(before[-1]))

    def margins(self, bins: int) -> Index:
        """Cells of each gene in each bin, expressed cells only: (G, bins) int64."""
        margins = np.zeros((self.start.size - 1, bins + 1), np.int64)
        _add_margins(self.start, self.code, margins)
        return margins[:, 1:]


@numba.njit(nogil=True, cache=True)
def _list_entries(codes, words, start, cell, code):  # type: ignore[no-untyped-def]
    """Look at eight cells at a time, and only at those that are not 0."""
    low, high = np.uint64(0x7F7F7F7F7F7F7F7F), np.uint64(0x8080808080808080)
    one, three = np.uint64(1), np.uint64(3)
    for g in range(codes.shape[0]):
        at = start[g]
        for w in range(words.shape[1]):
            word = words[g, w]
            found = (((word & low) + low) | word) & high  # the top bit of each byte that is not 0
            while found != 0:
                c = 8 * w + np.int64(trailing_zeros(found) >> three)
                cell[at], code[at] = c, codes[g, c]
                at += 1
                found &= found - one
        for rest in range(8 * words.shape[1], codes.shape[1]):
            if codes[g, rest] != 0:
                cell[at], code[at] = rest, codes[g, rest]
                at += 1


@numba.njit(nogil=True, cache=True)
def _count_groups(cell, group, start):  # type: ignore[no-untyped-def]
    for i in range(cell.size):
        if group[cell[i]] < start.size - 1:
            start[group[cell[i]] + 1] += 1
    for g in range(1, start.size):
        start[g] += start[g - 1]


@numba.njit(nogil=True, cache=True)
def _cut_up(entries, cells, at, cell, code):  # type: ignore[no-untyped-def]
    (own_cell, own_code), (group, place) = entries, cells
    for i in range(own_cell.size):
        g = group[own_cell[i]]
        if g < at.size:
            cell[at[g]], code[at[g]] = place[own_cell[i]], own_code[i]
            at[g] += 1


@numba.njit(nogil=True, cache=True)
def _add_margins(start, code, margins):  # type: ignore[no-untyped-def]
    for g in range(start.size - 1):
        for i in range(start[g], start[g + 1]):
            margins[g, code[i]] += 1
