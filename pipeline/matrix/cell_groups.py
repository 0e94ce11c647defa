"""Groups of cells by columns of obs: which cells are counted together, and what each group is called. Pure.

Two uses. `--by` shows every group apart: small groups, and cells without a value, are left out and named. `--within`
compares cells of one group with each other only: every cell is kept, and a group that is too small to compare is
refused.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.errors import InputError, printable

if TYPE_CHECKING:
    import pandas as pd

NO_GROUP = np.uint16(2**16 - 1)  # of a cell that is in none
MOST_GROUPS = 1000
MOST_NUMBERS = 100  # values of a numeric column that are groups; more are a measurement
LEAST_STRATUM = 20  # cells of a stratum: of fewer, hardly two can be compared
CROSSED = " / "  # between the values of columns that are crossed
MOST_NAMED = 5

Numbers = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class CellGroups:
    """Cells in groups.

    Attributes
    ----------
    columns
        Of obs; several are crossed.
    names
        Of the groups, in the order of their numbers: ascending by value, column by column.
    number : (N,) uint16
        The group of each cell; `NO_GROUP` for a cell that is left out.
    notes
        What has to be told of cells and groups that are left out, a sentence each.
    """

    columns: tuple[str, ...]
    names: tuple[str, ...]
    number: Numbers
    notes: tuple[str, ...] = ()

    @property
    def cells(self) -> NDArray[np.int64]:
        """Cells of each group, (M,)."""
        return np.bincount(self.number[self.number != NO_GROUP], minlength=len(self.names))

    def facts(self) -> dict[str, Any]:
        """What a file of scores says of them."""
        return {"columns": list(self.columns), "names": list(self.names), "cells": self.cells.tolist()}

    def alone(self, name: str) -> "CellGroups":
        """One of the groups as the only one: cells of the others are left out."""
        own = self.number == self.names.index(name)
        return CellGroups(self.columns, (name,), np.where(own, np.uint16(0), NO_GROUP))


def group_cells(obs: "pd.DataFrame", columns: Sequence[str], least: int) -> CellGroups:
    """Groups to show apart, of `least` cells or more.

    Parameters
    ----------
    obs
        Annotations of the cells that are counted, a row each.

    Raises
    ------
    InputError
        A column is missing, or is a measurement; fewer than two groups are left.
    """
    code, names = _crossed(obs, columns)
    cells = np.bincount(code[code >= 0], minlength=len(names))
    kept = np.flatnonzero(cells >= least)
    what = ",".join(columns)
    if kept.size < 2:
        raise InputError(printable(
            f"--by {what}: {_one_left(names, kept)} of {len(names):,} groups has {least} cells or more (the largest: "
            f"{_largest(names, cells)}), so there is nothing to tell apart; give another column, or a lower "
            "--min-group-cells"
        ))  # fmt: skip
    renumbered = np.full(len(names) + 1, NO_GROUP, np.uint16)  # the last is that of cells without a value
    renumbered[kept] = np.arange(kept.size)
    notes = [*_missing(code, what), *_too_small(names, cells, kept, least, what)]
    return CellGroups(tuple(columns), tuple(names[k] for k in kept), renumbered[code], tuple(notes))


def describe_groups(groups: CellGroups) -> str:
    """How many groups there are, by what, and the largest ones with their cells; one line."""
    order = np.argsort(-groups.cells, kind="stable")[:MOST_NAMED]
    listed = ", ".join(f"{groups.names[k]} ({groups.cells[k]:,} cells)" for k in order)
    more = " and others" if len(groups.names) > MOST_NAMED else ""
    return printable(f"{len(groups.names)} groups of cells by {','.join(groups.columns)}: {listed}{more}")


def stratify_cells(obs: "pd.DataFrame", columns: Sequence[str]) -> CellGroups:
    """Strata within which cells are compared, of all cells.

    Raises
    ------
    InputError
        A column is missing, is a measurement or has no value for some cells, or strata have too few cells.
    """
    code, names = _crossed(obs, columns)
    what = ",".join(columns)
    if (code < 0).any():
        raise InputError(
            f"--within {what}: {int((code < 0).sum()):,} of {code.size:,} cells have no value, and could be compared "
            "with none; fill them in, or leave those cells out (`pairscape ingest --cells`)"
        )
    cells = np.bincount(code, minlength=len(names))
    if (cells < LEAST_STRATUM).mean() > 0.5 or cells.max() < LEAST_STRATUM:
        raise InputError(printable(
            f"--within {what} makes {len(names):,} strata of {code.size:,} cells, {float(np.median(cells)):g} cells in "
            f"half of them or fewer, so hardly any two cells could be compared; merge values until most strata have "
            f"{LEAST_STRATUM} cells or more, or give fewer columns"
        ))  # fmt: skip
    return CellGroups(tuple(columns), names, code.astype(np.uint16), tuple(_thin(names, cells, what)))


def column_of(obs: "pd.DataFrame", name: str) -> "pd.Series":
    """A column of obs. InputError where there is none of that name; close names are shown."""
    if name in obs.columns:
        return obs[name]
    known = [str(column) for column in obs.columns]
    near = difflib.get_close_matches(name, known, MOST_NAMED) or known[:MOST_NAMED]
    there = f"there are {', '.join(near)}{'' if len(near) == len(known) else ' and others'}" if known else "it has none"
    raise InputError(printable(f"{name!r} is no column of the cells' annotations (obs): {there}; give one of them"))


def _crossed(obs: "pd.DataFrame", columns: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Groups (N,), −1 where a value is missing, and their names; only combinations that come up."""
    if not columns or len(set(columns)) < len(columns):
        raise InputError(f"columns {','.join(columns)!r}: give one column of obs, or several different ones")
    levels = [_levels(column_of(obs, name), name) for name in columns]
    whole = np.zeros(len(obs), np.int64)
    for code, names in levels:
        whole = whole * len(names) + code
    whole[np.any([code < 0 for code, _ in levels], axis=0)] = -1
    found, number = np.unique(whole, return_inverse=True)
    unknown = int(found.size > 0 and found[0] < 0)
    found, number = found[unknown:], number.astype(np.int64) - unknown
    if not 1 <= found.size <= MOST_GROUPS:
        raise InputError(
            f"{','.join(columns)} makes {found.size:,} groups of {len(obs):,} cells; give columns that make 1 to "
            f"{MOST_GROUPS:,}"
        )
    at = np.unravel_index(found, [len(names) for _, names in levels])
    parts = [[names[k] for k in of_column] for (_, names), of_column in zip(levels, at, strict=True)]
    return number, tuple(CROSSED.join(values) for values in zip(*parts, strict=True))


def _levels(column: "pd.Series", name: str) -> tuple[NDArray[np.int64], list[str]]:
    """Level of each cell, −1 without a value, and the levels in words, ascending (of a categorical: in its order)."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and column.nunique() > MOST_NUMBERS:
        raise InputError(printable(
            f"{name!r} is a measurement: {column.nunique():,} different numbers in {len(column):,} cells, hardly two "
            "cells in a group; cut it into a few ranges first (pandas.qcut), or give another column"
        ))  # fmt: skip
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.remove_unused_categories()
        return column.cat.codes.to_numpy().astype(np.int64), [str(value) for value in column.cat.categories]
    if pd.api.types.is_numeric_dtype(column):
        code, values = pd.factorize(column, sort=True)
    else:  # as text: values of several kinds cannot be sorted
        code, values = pd.factorize(column.where(column.isna(), column.astype(str)).astype(object), sort=True)
    return code.astype(np.int64), [str(value) for value in values]


def _missing(code: NDArray[np.int64], what: str) -> list[str]:
    missing = int((code < 0).sum())
    return [f"{missing:,} of {code.size:,} cells have no value in {what}: left out"] if missing else []


def _too_small(
    names: Sequence[str], cells: NDArray[np.int64], kept: NDArray[np.int64], least: int, what: str
) -> list[str]:
    small = [k for k in range(len(names)) if k not in set(kept.tolist())]
    if not small:
        return []
    listed = ", ".join(f"{names[k]} ({cells[k]:,})" for k in small[:MOST_NAMED])
    more = f" and {len(small) - MOST_NAMED} more" if len(small) > MOST_NAMED else ""
    return [printable(f"groups of {what} with fewer than {least} cells are left out: {listed}{more}")]


def _thin(names: Sequence[str], cells: NDArray[np.int64], what: str) -> list[str]:
    thin = np.flatnonzero(cells < LEAST_STRATUM)
    if not thin.size:
        return []
    said = f"{thin.size:,} of {len(names):,} strata of {what} have fewer than {LEAST_STRATUM} cells"
    return [f"{said} ({int(cells[thin].sum()):,} cells in all), which say little"]


def _one_left(names: Sequence[str], kept: NDArray[np.int64]) -> str:
    return f"only {names[kept[0]]}" if kept.size else "none"


def _largest(names: Sequence[str], cells: NDArray[np.int64]) -> str:
    best = int(cells.argmax())
    return f"{names[best]}, {cells[best]:,} cells"
