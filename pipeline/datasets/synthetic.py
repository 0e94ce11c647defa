"""Simulated counts of an atlas of any size: each cell is drawn from the seed and its own number alone. Pure.

A cell's molecules come in bursts. Bursts arrive as a Poisson process whose rate is the cell's depth; a burst hits one
gene and adds a logarithmic number of molecules. A Poisson number of logarithmic bursts is negative binomial
(Quenouille, Biometrics 5:162, 1949), so a gene's count in a cell is exactly that, and the work is proportional to the
bursts, not to cells × genes. Which gene a burst hits is decided by one of three sources:

- the base: a lognormal share for every gene, the same in all cells, so that gene means have a heavy tail;
- the cell's type: one of its marker genes;
- the cell's active modules: one of the genes of a module, which are therefore seen together.

Nothing depends on the other cells: any block of cells can be drawn anew, at any time and on any worker, to the same
counts.
The depth that yields the asked density is the root of the expected share of expressed genes.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtri

from pairscape.pipeline.datasets.designs import Atlas

Index = NDArray[np.int32]
Real = NDArray[np.float64]

GENE_SIGMA = 1.5  # of the log shares of genes in the base: the highest of 20,000 has some hundred times the median's
DEPTH_SIGMA = 0.5  # of the log depths of cells
ACTIVE = 4  # modules that are active in a cell; drawn with replacement, so one may be active twofold
MODULES = 32  # at most, so that each is active in a tenth of the cells or more
MODULE_GENES, MARKER_GENES = 0.2, 0.1  # shares of the genes that belong to modules, and that mark a type
BASE, MARKERS, MODULE = (
    0.65,
    0.10,
    0.25 / ACTIVE,
)  # shares of a cell's bursts by source; the last for each active module
SMALLEST_BURST, BURST_SLOPE = 0.4, 0.08  # logarithmic parameter of a gene at the median, and its rise with log share
TARGET_SUM = 1e4  # molecules that every cell is scaled to before the logarithm
SAMPLE_VALUES = 2**24  # cells × genes whose expectation the search for the depth goes by

# Purposes of a cell's random streams: what one of them draws does not shift the others.
FACTS, BURSTS, MOLECULES = np.uint64(0), np.uint64(1), np.uint64(2)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_A, MIX_B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
U0, U1, U4, U6, U11, U27, U30, U31, U32, U63, U67 = (np.uint64(n) for n in (0, 1, 4, 6, 11, 27, 30, 31, 32, 63, 67))
LOW_32 = np.uint64(2**32 - 1)
POSITION = np.zeros(67, np.int64)  # of a single bit, by its remainder: the powers of 2 below 2**64 differ modulo 67
POSITION[[pow(2, k, 67) for k in range(64)]] = range(64)


class Tables(NamedTuple):
    """What bursts are drawn from, the same for all cells. A tuple, as compiled code takes it.

    Attributes
    ----------
    share : (G,) float64
        Of the genes in the base; sums to 1.
    accept, alias : (G,) float32, int32
        The same as an alias table: a column keeps its own gene with probability `accept`, else it is `alias`.
    member : (program genes,) int32
        Genes of the programs, one program after the other: first the markers of each type, then the modules.
    start : (types + modules + 1,) int64
        Where each program begins in `member`.
    types
        How many of the programs are types.
    burst : (G,) float64
        Logarithmic parameter of a gene's bursts, in (0, 1); a gene's counts have the Fano factor 1 / (1 - burst).
    single : (G,) float64
        Probability that a burst has one molecule.
    """

    share: Real
    accept: NDArray[np.float32]
    alias: Index
    member: Index
    start: NDArray[np.int64]
    types: int
    burst: Real
    single: Real

    def program_of(self) -> Index:
        """(G,) int32: the program of each gene, -1 for none."""
        program = np.full(self.share.size, -1, np.int32)
        program[self.member] = np.repeat(np.arange(self.start.size - 1, dtype=np.int32), np.diff(self.start))
        return program


@dataclass(frozen=True, eq=False)
class CellTraits:
    """What is decided of a cell before its counts.

    Attributes
    ----------
    kind : (N,) int32
        Type.
    depth : (N,) float64
        Bursts relative to the average cell.
    active : (N, ACTIVE) int32
        Active modules, as numbers of programs.
    """

    kind: Index
    depth: Real
    active: Index


@lru_cache(maxsize=4)
def tables(atlas: Atlas) -> Tables:
    """The genes of an atlas: shares, markers, modules and bursts."""
    rng = np.random.default_rng(atlas.seed)
    score = rng.standard_normal(atlas.genes)
    share = np.exp(GENE_SIGMA * score)
    share /= share.sum()
    accept, alias = np.ones(atlas.genes, np.float32), np.arange(atlas.genes, dtype=np.int32)
    _make_alias(share * atlas.genes, accept, alias)
    programs = _programs(rng.permutation(atlas.genes).astype(np.int32), atlas.types)
    start = np.cumsum([0, *map(len, programs)])
    burst = np.clip(SMALLEST_BURST + BURST_SLOPE * score, 0.2, 0.9)
    single = -burst / np.log1p(-burst)
    return Tables(share, accept, alias, np.concatenate(programs), start, atlas.types, burst, single)


def _programs(order: Index, types: int) -> list[Index]:
    """Markers of each type, then the genes of each module; no gene is in two. Small atlases have types without."""
    in_modules = max(2, round(MODULE_GENES * order.size))
    marking = min(order.size - in_modules, max(types, round(MARKER_GENES * order.size)))
    modules = min(max(in_modules // 4, 1), MODULES)
    inside, markers = order[:in_modules], order[in_modules : in_modules + marking]
    return [markers[k::types] for k in range(types)] + [inside[m::modules] for m in range(modules)]


@numba.njit(nogil=True, cache=True)
def _make_alias(scaled, accept, alias):  # type: ignore[no-untyped-def]
    """Give what rich columns have above 1 to the poor ones, which then have two genes each (Walker 1977; Vose 1991)."""
    poor, rich = list(np.flatnonzero(scaled < 1)), list(np.flatnonzero(scaled >= 1))
    while len(poor) > 0 and len(rich) > 0:
        low, high = poor.pop(), rich[-1]
        accept[low], alias[low] = scaled[low], high
        scaled[high] -= 1 - scaled[low]
        if scaled[high] < 1:
            poor.append(rich.pop())


# ── random streams: SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), one for each seed, cell and purpose ───────────────


@numba.njit(nogil=True, cache=True)
def _mixed(z):  # type: ignore[no-untyped-def]
    z = (z ^ (z >> U30)) * MIX_A
    z = (z ^ (z >> U27)) * MIX_B
    return z ^ (z >> U31)


@numba.njit(nogil=True, cache=True)
def _begin(stream, seed, cell, purpose):  # type: ignore[no-untyped-def]
    stream[0] = _mixed(_mixed(seed * U4 + purpose) ^ np.uint64(cell))


@numba.njit(nogil=True, cache=True)
def _next(stream):  # type: ignore[no-untyped-def]
    stream[0] += GOLDEN
    return _mixed(stream[0])


@numba.njit(nogil=True, cache=True)
def _uniform(stream):  # type: ignore[no-untyped-def]
    """A float in (0, 1)."""
    return (np.float64(_next(stream) >> U11) + 0.5) * 2.0**-53


@numba.njit(nogil=True, cache=True)
def _below(stream, n):  # type: ignore[no-untyped-def]
    """A whole number in 0 … n - 1, for n below 2**31."""
    return np.int64(((_next(stream) >> U32) * np.uint64(n)) >> U32)


@numba.njit(nogil=True, cache=True)
def _poisson(stream, mean):  # type: ignore[no-untyped-def]
    """Arrivals of a Poisson process (Knuth), in steps whose probability of no arrival is no zero in floating point."""
    n = 0
    while mean > 0:
        step = min(mean, 500.0)
        none, product = np.exp(-step), _uniform(stream)
        while product > none:
            n += 1
            product *= _uniform(stream)
        mean -= step
    return n


@numba.njit(nogil=True, cache=True)
def _molecules(stream, burst, single):  # type: ignore[no-untyped-def]
    """A logarithmic number, by walking up its probabilities."""
    k, probability, left = 1, single, _uniform(stream)
    while left > probability and k < 10_000:  # rounding may leave a rest that no term takes
        left -= probability
        probability *= burst * k / (k + 1)
        k += 1
    return k


# ── cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_cells(atlas: Atlas, numbers: NDArray[np.int64]) -> CellTraits:
    """Type, depth and active modules of some cells of an atlas, (N,) int64; the first cells have a type each."""
    n, genes = numbers.size, tables(atlas)
    shares = 1 / (1 + 0.3 * np.arange(atlas.types))  # from common to rare
    cells = CellTraits(np.empty(n, np.int32), np.empty(n), np.empty((n, ACTIVE), np.int32))
    modules = genes.start.size - 1 - atlas.types
    limits = np.cumsum(shares / shares.sum())
    _draw_cells(np.uint64(atlas.seed), numbers, limits, modules, (cells.kind, cells.depth, cells.active))
    return cells


@numba.njit(nogil=True, cache=True)
def _draw_cells(seed, numbers, limits, modules, traits):  # type: ignore[no-untyped-def]
    kind, depth, active = traits
    stream, types = np.empty(1, np.uint64), limits.size
    for i in range(numbers.size):
        _begin(stream, seed, numbers[i], FACTS)
        drawn = min(np.searchsorted(limits, _uniform(stream)), types - 1)
        kind[i] = numbers[i] if numbers[i] < types else drawn
        normal = np.sqrt(-2 * np.log(_uniform(stream))) * np.cos(2 * np.pi * _uniform(stream))
        depth[i] = np.exp(DEPTH_SIGMA * normal - DEPTH_SIGMA**2 / 2)
        for slot in range(ACTIVE):
            active[i, slot] = types + _below(stream, modules)


# ── the depth that yields a density ──────────────────────────────────────────────────────────────────────────────────


def bursts_per_cell(atlas: Atlas) -> float:
    """Bursts of the average cell at which the atlas is expected to have its density.

    The expectation is over all cells of a small atlas; over evenly spaced ones of a large atlas, whose depths are then
    the quantiles of their distribution, so that no chance is left in them.
    """
    size = min(atlas.cells, max(SAMPLE_VALUES // atlas.genes, 64))
    cells = draw_cells(atlas, np.linspace(0, atlas.cells - 1, size).astype(np.int64))
    if size < atlas.cells:
        quantile = (np.arange(size) + 0.5) / size
        cells = CellTraits(cells.kind, np.exp(DEPTH_SIGMA * ndtri(quantile) - DEPTH_SIGMA**2 / 2), cells.active)

    def excess(log_bursts: float) -> float:
        return float(expected_entries(atlas, cells, np.exp(log_bursts)).mean()) / atlas.genes - atlas.density

    low, high = -20.0, np.log(atlas.density * atlas.genes)
    while excess(high) <= 0:
        high += 1
    return float(np.exp(brentq(excess, low, high, xtol=1e-4)))


def expected_entries(atlas: Atlas, cells: CellTraits, bursts: float) -> Real:
    """Genes that each of these cells is expected to express, (N,) float64.

    Parameters
    ----------
    bursts
        Of the average cell.
    """
    expected = np.empty(cells.kind.size)
    _expect(tables(atlas), cells.kind, bursts * cells.depth, cells.active, expected)
    return expected


@numba.njit(nogil=True, cache=True)
def _expect(genes, kind, bursts, active, expected):  # type: ignore[no-untyped-def]
    rate = np.empty(genes.share.size)
    for i in range(kind.size):
        rate[:] = BASE * genes.share
        _add_program(genes, kind[i], MARKERS, rate)
        for slot in range(ACTIVE):
            _add_program(genes, active[i, slot], MODULE, rate)
        expressed, total = 0.0, 0.0
        for g in range(rate.size):
            expressed -= np.expm1(-bursts[i] * rate[g])
            total += rate[g]
        expected[i] = expressed + np.exp(-bursts[i] * total)  # without any burst, a cell is given one


@numba.njit(nogil=True, cache=True)
def _add_program(genes, program, share, rate):  # type: ignore[no-untyped-def]
    begin, end = genes.start[program], genes.start[program + 1]
    for i in range(begin, end):
        rate[genes.member[i]] += share / (end - begin)


# ── counts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def entries_per_cell(atlas: Atlas, bursts: float, start: int, stop: int) -> Index:
    """Genes that the cells start..stop express, (N,) int32; the numbers of molecules are not drawn for that."""
    cells, entries = draw_cells(atlas, np.arange(start, stop)), np.empty(stop - start, np.int32)
    _count(tables(atlas), np.uint64(atlas.seed), start, (cells.kind, bursts * cells.depth, cells.active), entries)
    return entries


def cell_counts(
    atlas: Atlas, bursts: float, start: int, indptr: NDArray[np.int64]
) -> tuple[Index, NDArray[np.float32]]:
    """Counts of a block of cells, as CSR: cells × genes.

    Parameters
    ----------
    bursts
        Of the average cell, as `bursts_per_cell` has them.
    start
        First cell of the block.
    indptr : (N + 1,) int64
        Where each cell's entries begin, from 0, as `entries_per_cell` has them.

    Returns
    -------
    (E,) int32, (E,) float32
        Genes, ascending within a cell, and their molecules, 1 or more.

    Raises
    ------
    ValueError
        `indptr` is not that of these cells.
    """
    cells = draw_cells(atlas, np.arange(start, start + indptr.size - 1))
    found, molecules = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    traits = cells.kind, bursts * cells.depth, cells.active
    wrong = _fill(tables(atlas), np.uint64(atlas.seed), start, traits, indptr, (found, molecules))
    if wrong >= 0:
        raise ValueError(f"cell {wrong} expresses another number of genes than it was counted to")
    return found, molecules


@numba.njit(nogil=True, cache=True)
def _count(genes, seed, start, traits, entries):  # type: ignore[no-untyped-def]
    kind, bursts, active = traits
    stream = np.empty(1, np.uint64)
    hits, seen, found = _scratch(genes.share.size)
    for i in range(kind.size):
        _begin(stream, seed, start + i, BURSTS)
        _throw_cell(genes, stream, (kind[i], bursts[i], active[i]), hits, seen)
        entries[i] = _collect(seen, found)
        for e in range(entries[i]):
            hits[found[e]] = 0


@numba.njit(nogil=True, cache=True)
def _fill(genes, seed, start, traits, indptr, entries):  # type: ignore[no-untyped-def]
    """Returns the first cell that does not fit into `indptr`, -1 if all do."""
    (kind, bursts, active), (found, molecules) = traits, entries
    stream = np.empty(1, np.uint64)
    hits, seen, here = _scratch(genes.share.size)
    for i in range(kind.size):
        _begin(stream, seed, start + i, BURSTS)
        _throw_cell(genes, stream, (kind[i], bursts[i], active[i]), hits, seen)
        n = _collect(seen, here)
        if n != indptr[i + 1] - indptr[i]:
            return start + i
        _begin(stream, seed, start + i, MOLECULES)
        for e in range(n):
            gene, total = here[e], 0
            for _ in range(hits[gene]):
                total += _molecules(stream, genes.burst[gene], genes.single[gene])
            found[indptr[i] + e], molecules[indptr[i] + e] = gene, total
            hits[gene] = 0
    return -1


@numba.njit(nogil=True, cache=True)
def _scratch(size):  # type: ignore[no-untyped-def]
    """Of one cell: bursts by gene, a bit for every gene that was hit, and room for the list of those genes."""
    return np.zeros(size, np.int32), np.zeros((size + 63) // 64, np.uint64), np.empty(size, np.int32)


@numba.njit(nogil=True, cache=True)
def _throw_cell(genes, stream, cell, hits, seen):  # type: ignore[no-untyped-def]
    kind, bursts, active = cell
    thrown = _throw_base(genes, stream, _poisson(stream, BASE * bursts), hits, seen)
    thrown += _throw_program(genes, stream, kind, MARKERS * bursts, hits, seen)
    for slot in range(ACTIVE):
        thrown += _throw_program(genes, stream, active[slot], MODULE * bursts, hits, seen)
    if thrown == 0:  # a cell in which nothing was seen would not have been called a cell
        _throw_base(genes, stream, 1, hits, seen)


@numba.njit(nogil=True, cache=True)
def _throw_base(genes, stream, n, hits, seen):  # type: ignore[no-untyped-def]
    size = np.uint64(genes.accept.size)
    for _ in range(n):
        drawn = _next(stream)
        column = np.int64(((drawn >> U32) * size) >> U32)
        own = np.float64(drawn & LOW_32) * 2.0**-32 < genes.accept[column]
        _hit(column if own else np.int64(genes.alias[column]), hits, seen)
    return n


@numba.njit(nogil=True, cache=True)
def _throw_program(genes, stream, program, mean, hits, seen):  # type: ignore[no-untyped-def]
    begin, end = genes.start[program], genes.start[program + 1]
    n = _poisson(stream, mean) if begin < end else 0
    for _ in range(n):
        _hit(np.int64(genes.member[begin + _below(stream, end - begin)]), hits, seen)
    return n


@numba.njit(nogil=True, cache=True)
def _hit(gene, hits, seen):  # type: ignore[no-untyped-def]
    hits[gene] += 1
    seen[gene >> 6] |= U1 << (np.uint64(gene) & U63)


@numba.njit(nogil=True, cache=True)
def _collect(seen, found):  # type: ignore[no-untyped-def]
    """List the genes whose bit is set, ascending, and clear the bits; returns how many. Sorting would take longer."""
    n = 0
    for w in range(seen.size):
        word = seen[w]
        seen[w] = U0
        while word != U0:
            lowest = word & (~word + U1)
            found[n] = 64 * w + POSITION[lowest % U67]
            word ^= lowest
            n += 1
    return n


def log_normalised(molecules: NDArray[np.float32], indptr: NDArray[np.int64]) -> NDArray[np.float32]:
    """Counts, (E,) float32, scaled to 10,000 a cell, then log1p; `indptr`, (N + 1,) from 0, bounds the cells."""
    expression = np.empty_like(molecules)
    _log_normalise(molecules, indptr, expression)
    return expression


@numba.njit(nogil=True, cache=True)
def _log_normalise(molecules: Any, indptr: Any, expression: Any) -> None:
    for i in range(indptr.size - 1):
        begin, end = indptr[i], indptr[i + 1]
        total = 0.0
        for e in range(begin, end):
            total += molecules[e]
        for e in range(begin, end):
            expression[e] = np.log1p(molecules[e] * (TARGET_SUM / total))
