"""Cells, or whole replicates, of two groups dealt to two groups anew. Pure.

Single cells are dealt among cells of like depth, so that dealt groups differ in depth as the real ones do. Replicates,
such as donors, are dealt whole: by swapping a donor's own cells where each has some in both groups, else freely.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from math import comb

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Stream

Group = NDArray[np.uint8]

FIRST, SECOND, OTHER = 0, 1, 2  # groups of a cell
LEAST_CELLS = 20  # of a group
LEAST_DEALS = 5  # ways of dealing replicates other than the one that is there
MOST_LISTED = 2000  # ways of dealing replicates that are listed one by one; of more, some are drawn


@dataclass(frozen=True, eq=False)
class Dealing:
    """Cells of two groups, and what of them is dealt together.

    Attributes
    ----------
    group : (N,) uint8
        `FIRST`, `SECOND`, or `OTHER` for a cell that takes no part.
    stratum : (N,)
        Cells of like depth, among which single cells are dealt.
    replicate : (N,) int32 or None
        Donor, or whatever else is dealt as a whole; None: single cells.
    seed
        Of the draws.
    """

    group: Group
    stratum: NDArray[np.integer]
    replicate: NDArray[np.int32] | None = None
    seed: int = 0

    def deal(self, number: int) -> Group:
        """Groups of the cells, (N,), dealt anew; another number, another deal."""
        rng = np.random.default_rng([self.seed, Stream.DEALT_GROUPS, number])
        if self.replicate is None:
            return self._deal_cells(rng)
        if self.others is not None:
            which = self.others[number % len(self.others)]
        else:
            which = self._draw_units(rng)
        dealt = self.group.copy()
        dealt[self._inside] = which[self._unit]
        return dealt

    def _deal_cells(self, rng: np.random.Generator) -> Group:
        dealt = self.group.copy()
        for stratum in np.unique(self.stratum[self._inside]).tolist():
            members = self._inside[self.stratum[self._inside] == stratum]
            dealt[members] = rng.permutation(self.group[members])
        return dealt

    @cached_property
    def _inside(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.group != OTHER)

    @cached_property
    def _units(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Group]:
        """Unit of each cell inside, and donor and group of each unit, which is a donor's cells in one group."""
        assert self.replicate is not None
        whole = self.replicate[self._inside].astype(np.int64) * 2 + self.group[self._inside]
        found, unit = np.unique(whole, return_inverse=True)
        return unit, found // 2, (found % 2).astype(np.uint8)

    @property
    def _unit(self) -> NDArray[np.int64]:
        return self._units[0]

    @property
    def paired(self) -> bool:
        """Whether every replicate has cells in both groups, so that it is dealt by swapping its own."""
        return bool((np.bincount(np.unique(self._units[1], return_inverse=True)[1]) == 2).all())

    @cached_property
    def ways(self) -> int:
        """Different ways of dealing replicates, but for the one that is there; which group is called first is no
        difference.
        """
        _, donor, group = self._units
        if self.paired:
            return int(2 ** (donor.size // 2 - 1)) - 1
        n, k = group.size, int((group == FIRST).sum())
        return comb(n, k) // (2 if 2 * k == n else 1) - 1

    @cached_property
    def others(self) -> list[Group] | None:
        """Each of those ways, by unit; None: they are too many to be listed."""
        if self.ways > MOST_LISTED:
            return None
        group = self._units[2]
        found = [way for way in self._listed() if (way != group).any()]
        order = np.random.default_rng([self.seed, Stream.DEALT_GROUPS]).permutation(len(found))
        return [found[k] for k in order.tolist()]

    def _listed(self) -> Iterator[Group]:
        """Every way once, with the groups named as they are: the first unit stays in its group where both are alike."""
        _, donor, group = self._units
        n, k = group.size, int((group == FIRST).sum())
        if self.paired:
            pairs = donor.size // 2
            for swaps in product((False, True), repeat=pairs - 1):
                yield np.where(np.repeat((False, *swaps), 2), 1 - group, group).astype(np.uint8)
            return
        fixed = (0,) if 2 * k == n else ()
        for rest in combinations(range(len(fixed), n), k - len(fixed)):
            way = np.full(n, SECOND, np.uint8)
            way[[*fixed, *rest]] = FIRST
            yield way if not fixed or group[0] == FIRST else 1 - way

    def _draw_units(self, rng: np.random.Generator) -> Group:
        _, donor, group = self._units
        if self.paired:
            return np.where(np.repeat(rng.random(donor.size // 2) < 0.5, 2), 1 - group, group).astype(np.uint8)
        return np.asarray(rng.permutation(group))

    def check(self) -> None:
        """Refuse groups that are too small.

        Raises
        ------
        InputError
            A group has fewer than `LEAST_CELLS` cells, or replicates can be dealt in fewer than `LEAST_DEALS` ways.
        """
        cells = self.cells
        if min(cells) < LEAST_CELLS:
            raise InputError(
                f"the groups have {cells[0]:,} and {cells[1]:,} cells: of fewer than {LEAST_CELLS} no correlation can "
                "be told; compare larger groups."
            )
        if self.replicate is not None and self.ways < LEAST_DEALS:
            first, second = np.bincount(self._units[2], minlength=2)
            raise InputError(
                f"{first} against {second} replicates can be dealt in {self.ways} other way{'s' * (self.ways != 1)}, "
                f"fewer than the {LEAST_DEALS} that a null needs; compare groups of more replicates, or leave "
                "--replicates out: cells are then dealt, which takes those of one donor for independent."
            )

    @property
    def overlap(self) -> float:
        """How alike the groups are in depth: 1 for the same share of each in every stratum, 0 for none in common.

        It is the expected number of cells that a deal moves, over that of a deal regardless of depth.
        """
        first, second = (
            np.bincount(self.stratum[self.group == g], minlength=int(self.stratum.max()) + 1) for g in (FIRST, SECOND)
        )
        n, m = self.cells
        both = first + second
        return float((first * second / np.maximum(both, 1)).sum() / (n * m / (n + m)))

    @property
    def cells(self) -> tuple[int, int]:
        """Cells of either group."""
        return int((self.group == FIRST).sum()), int((self.group == SECOND).sum())
