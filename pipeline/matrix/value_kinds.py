"""What the values of a matrix are, told from some of its cells: counts, normalised values, logarithms. Pure.

Three facts tell, none of which depends on a largest value alone. Where cells were scaled, their values, or what the
logarithm was taken of, add up to the same in each. Where they were counted, the values of one cell are multiples of one
unit, and stay so whatever the cell is scaled by and whichever genes are left. And counts, whole or not, are far more
skewed than logarithms: their median expressed value is below a tenth of the largest. benchmarks/RESULTS.md has the
figures of 27 real matrices under ten treatments.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.errors import InputError

ValueKind = Literal["raw counts", "fractional counts", "normalised", "shares", "log", "square roots", "unclear"]
Floats = NDArray[np.float64]

SAMPLED_PLACES, SAMPLED_CELLS = 16, 64  # spread evenly: a kind that fills a sixteenth of the cells is met
FEW_CELLS, FEW_ENTRIES, CELL_ENTRIES = 20, 200, 20  # below which nothing but the largest value is looked at; in a cell
LOG_MAXIMUM = 50.0  # log2(x + 1) of it would be x = 1e15, beyond any sequencing depth
CLOSE, CLOSE_SHARE = 1e-3, 2e-6  # to a whole number, and share of it, of values whole before float32 arithmetic
FEW_SHARE = 0.02  # of the cells: so many of another kind, and the cells are mixed
SURE = 2e4  # from here on float32 arithmetic leaves no trace of whole numbers
SHARED_OUT = 0.25  # share of whole numbers, of counts that an algorithm shared out among genes; of all else fewer are
SAME_SUMS, EXACT_SUMS = 0.05, 1e-4  # spread of the cells' sums, 5th to 95th percentile over the median; of few cells
UNITS = 0.8  # share of the values that are multiples of their cell's smallest
UNIT_RANGE, UNIT_CLOSE = (1.5, 50.0), 0.01  # multiples that are looked at, and how close to whole they are
COUNT_SKEW, LOG_SKEW = 0.10, 0.16  # median over largest value: below, counts; above, logarithms
SCALED_SPREAD = 0.8  # of the sums of linear values over some of the genes: below, the cells had been scaled
SMALL_SUM = 1000.0  # values that add up to less in each cell are shares or percents, not counts per 10,000 or more
ALIKE = 1.5  # ratio of two sources' sums from which on their values mean different amounts

# What logarithms and roots were taken of, by the name of the base.
UNDONE: dict[str, Callable[[Floats], Floats]] = {
    "natural": np.expm1,
    "base-2": lambda x: np.exp2(x) - 1,
    "base-10": lambda x: np.power(10.0, x) - 1,
}


@dataclass(frozen=True)
class Judged:
    """What the values of a source are.

    Attributes
    ----------
    kind
        "fractional counts" are corrected or shared out among genes; "shares" are values that add up to little in each
        cell, such as 1 or 100; "unclear" may be counts or logarithms.
    why
        What told so, in words; of raw counts, what is unusual about them.
    base
        Of logarithms; "" where it is unknown, or for all else.
    total
        What the values of a cell, or what the logarithm was taken of, add up to; None where cells differ.
    """

    kind: ValueKind
    why: str
    base: str = ""
    total: float | None = None

    def differs(self, other: "Judged") -> bool:
        """Whether values of the two in one matrix would mean different things."""
        counts = ("raw counts", "fractional counts")
        if self.kind in counts and other.kind in counts:
            return False
        if (self.kind, self.base or other.base) != (other.kind, other.base or self.base):
            return True
        return bool(self.total and other.total and max(self.total, other.total) > ALIKE * min(self.total, other.total))

    def words(self) -> str:
        """The kind, with base and sum where they are known, such as "natural logarithms of 10,000 per cell"."""
        named = {"log": f"{self.base} logarithms".strip(), "normalised": "normalised values"}
        kind = named.get(self.kind, self.kind)
        return f"{kind} of {self.total:,.0f} per cell" if self.total else kind


def sampled(n_cells: int) -> list[tuple[int, int]]:
    """Start and stop of the runs of cells that are judged."""
    if n_cells <= SAMPLED_PLACES * SAMPLED_CELLS:
        return [(0, n_cells)]
    starts = np.linspace(0, n_cells - SAMPLED_CELLS, SAMPLED_PLACES).astype(int)
    return [(int(start), int(start) + SAMPLED_CELLS) for start in starts]


def judge(parts: Sequence[sparse.csr_matrix], source: str) -> Judged:
    """What the values of some cells are.

    Parameters
    ----------
    parts : of (cells, G) CSR
        `sampled` cells, without explicit zeros. What is no expression, such as NaN, is for a survey to refuse.

    Raises
    ------
    InputError
        Some of the cells hold whole numbers, and the others do not.
    """
    rows = sparse.csr_matrix(sparse.vstack(parts), dtype=np.float64)
    values, expressed = rows.data, np.diff(rows.indptr)
    if not np.isfinite(values).all() or (values < 0).any():
        return Judged("unclear", "values that are no expression")
    cell = np.repeat(np.arange(expressed.size), expressed)
    whole = _whole(values)
    sure = values < SURE
    if whole.all() and (sure.any() or (values == np.rint(values)).all()):
        return Judged("raw counts", _unusual(values, cell))
    _refuse_mixture(whole, values, cell, source)
    used = np.flatnonzero(expressed)
    few = used.size < FEW_CELLS or values.size < FEW_ENTRIES
    return _judge(values, cell, used, float(whole[sure].mean()) if sure.any() else 0.0, few)


def _unusual(values: Floats, cell: NDArray[np.intp]) -> str:
    """What to say of whole numbers; "" of counts as they usually are."""
    sums = np.bincount(cell, values)
    used = sums[sums > 0]
    if values.size >= FEW_ENTRIES and values.max() == 1:
        return "every expressed value is 1, so that images show whether genes are detected, and nothing more"
    if used.size >= FEW_CELLS and _spread(used) < SAME_SUMS:
        return f"each cell adds up to {np.median(used):,.0f}: thinned or rounded, and treated as counts"
    return ""


def _whole(x: Floats, times: int = 1) -> NDArray[np.bool_]:
    """Whether values were whole before float32 arithmetic; of the largest nobody can say, and they are taken to be."""
    return ((np.abs(x - np.rint(x)) < times * (CLOSE + CLOSE_SHARE * x)) & (x > 0.5)) | (x > SURE)


def _counted(x: Floats) -> bool:
    """Whether what a logarithm was taken of is whole, of values at least half of which can be told."""
    sure = x < SURE
    return bool(sure.mean() > 0.5 and _whole(x[sure], 10).all())


def _smallest(x: Floats, cell: NDArray[np.intp], n_cells: int) -> Floats:
    """(cell,) of each cell's values."""
    smallest = np.full(n_cells, np.inf)
    np.minimum.at(smallest, cell, x)
    return smallest


def _refuse_mixture(whole: NDArray[np.bool_], values: Floats, cell: NDArray[np.intp], source: str) -> None:
    """Cells of whole numbers from 1 on beside cells of others: counts and normalised values under one roof.

    Cells that were scaled to the sum of one of them hold whole numbers where the factor was 1: those have about the
    same sum, and so have the others.
    """
    entries, sums = np.bincount(cell), np.bincount(cell, values)
    wholes, full = np.bincount(cell, whole), entries >= CELL_ENTRIES
    counted = full & (wholes == entries) & (_smallest(values, cell, entries.size) < UNIT_RANGE[0])
    others = full & (wholes < SHARED_OUT * entries)
    if min(counted.sum(), others.sum()) <= FEW_SHARE * full.sum():
        return
    ratio = float(np.median(sums[counted]) / np.median(sums[others]))
    if _spread(sums[counted]) > SCALED_SPREAD or max(ratio, 1 / ratio) > ALIKE:
        raise InputError(
            f"{source}: {int(counted.sum())} of {int(full.sum())} sampled cells hold whole numbers and others do not, "
            "so counts and normalised values are mixed, and no one treatment fits both; take them apart (--cells), or "
            "give one kind of values (--layer)"
        )


def _by_maximum(highest: float) -> Judged:
    why = f"told from the largest value alone, {highest:.3g}, as so few values are there"
    return Judged("log" if highest < LOG_MAXIMUM else "normalised", why)


def _judge(values: Floats, cell: NDArray[np.intp], used: NDArray[np.intp], whole: float, few: bool) -> Judged:
    """Of values that are not all whole."""
    logs = UNDONE if values.max() < LOG_MAXIMUM else {}
    linear = {"": values} | {base: undone(values) for base, undone in logs.items()}
    sums = {base: np.bincount(cell, x)[used] for base, x in linear.items()}
    spread = {base: _spread(total) for base, total in sums.items()}
    closest = min(spread, key=lambda base: spread[base])
    if used.size > 2 and spread[closest] < (EXACT_SUMS if few else SAME_SUMS):
        return _scaled(closest, float(np.median(sums[closest])))
    if few:
        return _by_maximum(float(values.max()))
    from_whole = next((base for base, x in linear.items() if base and _counted(x)), "")
    if from_whole:
        return _unscaled(from_whole, linear[from_whole])
    if whole > SHARED_OUT and not _whole(values**2, 10).all():
        return Judged("fractional counts", f"{whole:.0%} whole numbers among fractions, and cells differ in their sums")
    for base, x in linear.items():
        if _in_units(x, cell):
            return _unscaled(base, x)
    if _in_units(values**2, cell):
        return Judged("square roots", "the squares of each cell's values are multiples of one unit")
    return _by_skew(float(np.median(values) / values.max()), spread[""], bool(logs))


def _spread(sums: NDArray[Any]) -> float:
    low, median, high = np.quantile(sums, [0.05, 0.5, 0.95])
    return float((high - low) / median)


def _in_units(x: Floats, cell: NDArray[np.intp]) -> bool:
    """Whether the values of each cell are multiples of its smallest."""
    times = x / _smallest(x, cell, int(cell[-1]) + 1)[cell]
    looked_at = times[(times > UNIT_RANGE[0]) & (times < UNIT_RANGE[1])]
    if looked_at.size < FEW_ENTRIES:
        return False
    return bool((np.abs(looked_at - np.rint(looked_at)) < UNIT_CLOSE).mean() > UNITS)


def _scaled(base: str, total: float) -> Judged:
    """Of cells with the same sum."""
    if base:
        return Judged(
            "log", f"what the {base} logarithm was taken of adds up to {total:,.6g} in each cell", base, total
        )
    kind: ValueKind = "normalised" if total >= SMALL_SUM else "shares"
    return Judged(kind, f"each cell adds up to {total:,.6g}", "", total)


def _unscaled(base: str, linear: Floats) -> Judged:
    """Of multiples of one unit in each cell, which do not add up to the same."""
    if not base:
        return Judged("normalised", "the values of each cell are multiples of one unit, and not whole")
    why = f"what the {base} logarithm was taken of are multiples of one unit in each cell"
    counts = _counted(linear)
    return Judged("log", why + (": whole numbers, so cells were not scaled before" if counts else ""), base)


def _by_skew(skew: float, spread: float, may_be_log: bool) -> Judged:
    """Of values that follow from no counts in a way that can be told."""
    why = f"the median expressed value is {skew:.1%} of the largest"
    if not may_be_log and spread < SCALED_SPREAD:
        return Judged("normalised", "too large for logarithms, and the sums of cells are much alike")
    if not may_be_log or skew < COUNT_SKEW:
        return Judged("fractional counts", f"no whole numbers, but {why}, and cells differ in their sums")
    return Judged("log" if skew > LOG_SKEW else "unclear", why)
