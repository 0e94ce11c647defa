"""Joint counts of single pairs, counted on the fly from the codes that were scored, or read from their image store.

One pair is counted in the time of reading two genes, without the compiled kernels that a job needs to warm up; the
counts are the same to the last cell (tests compare them).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from pairscape.model.edges.evidence import scored_codes, scored_groups
from pairscape.model.edges.scores import read_facts
from pairscape.pipeline.codes.bins import zero_bin
from pairscape.pipeline.codes.store import Codes, open_codes
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.few import bins_of_codes, count_few, counts_by_group
from pairscape.pipeline.heatmaps.images import Images, find_pair, open_images
from pairscape.pipeline.storage.paths import located

GENE_CACHE_BYTES = 64 * 2**20
MOST_POINTS = 3000  # cells from which on a picture of single cells is a blot

Codes8 = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """One pair, counted.

    Attributes
    ----------
    counts : (M, bins, bins) int32
        Row = bin of gene b, column = bin of gene a; over all cells, where there are groups all that are in one, then in
        each group.
    names
        M names, the first "".
    ends : (2, 2)
        Lowest and highest value of the bins of gene a, and of gene b.
    bin_a, bin_b, group : (N,) uint8, uint8, uint16
        Of each cell, where they are few; else empty.
    """

    counts: NDArray[np.int32]
    names: tuple[str, ...]
    ends: NDArray[np.float32]
    bin_a: Codes8
    bin_b: Codes8
    group: NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class CodePictures:
    """Pictures of pairs of the genes of a code store.

    Attributes
    ----------
    codes
        The store.
    names
        Of groups of cells; () where there are none.
    group : (N,) uint16
        Of each cell; one that is in no group has a number above all groups. Empty where there are none.
    """

    codes: Codes
    names: tuple[str, ...]
    group: NDArray[np.uint16]
    _number: dict[str, int] = field(init=False)
    _zero: NDArray[np.int64] = field(init=False)
    _ends: NDArray[np.float32] = field(init=False)
    _held: LRUCache[int, Codes8] = field(init=False)
    _lock: Lock = field(init=False)

    def __post_init__(self) -> None:
        edges = self.codes.array("edges")
        known = {name: at for at, name in enumerate(self.codes.array("gene").tolist())}
        for name, value in {
            "_number": known, "_zero": zero_bin(edges), "_ends": edges[:, [0, -1]], "_lock": Lock(),
            "_held": LRUCache(GENE_CACHE_BYTES, getsizeof=lambda bins: bins.nbytes),
        }.items():  # fmt: skip
            object.__setattr__(self, name, value)

    @property
    def bins(self) -> int:
        """Along each side of a picture."""
        return self.codes.binning.bins

    @property
    def n_cells(self) -> int:
        """That are counted."""
        return self.codes.n_cells

    def draw(self, a: str, b: str) -> Picture:
        """Count a pair. InputError where the store lacks a gene; JobError where it is damaged."""
        at_a, at_b = self._at(a), self._at(b)
        bin_a, bin_b = self._bins_of(at_a), self._bins_of(at_b)
        counts = self._with_all(counts_by_group(bin_a, bin_b, self.bins, *self._groups))
        few = self.n_cells <= MOST_POINTS
        points = (bin_a, bin_b, self.group) if few else (bin_a[:0], bin_b[:0], self.group[:0])
        return Picture(counts, ("", *self.names), self._ends[[at_a, at_b]], *points)

    def ends_of(self, genes: Sequence[str]) -> NDArray[np.float32]:
        """Lowest and highest value of the bins of some genes: (G, 2)."""
        return self._ends[[self._at(gene) for gene in genes]]

    def draw_all(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.int32]:
        """Count some pairs in one pass over the cells: (P, M, bins, bins)."""
        at = np.array([(self._at(a), self._at(b)) for a, b in pairs], np.int64).reshape(-1, 2)
        return self._with_all(count_few(self.codes, at[:, 0], at[:, 1], *self._groups)).swapaxes(0, 1)

    def _at(self, gene: str) -> int:
        if gene not in self._number:
            raise InputError(f"{self.codes.path} lacks gene {gene}, so it is not what was scored; predict again.")
        return self._number[gene]

    def _bins_of(self, gene: int) -> Codes8:
        """Bin of each cell, (N,)."""
        with self._lock:
            if gene not in self._held:
                codes = self.codes.read(np.array([gene]), slice(0, self.n_cells))
                self._held[gene] = bins_of_codes(codes, self._zero[[gene]])[0]
            return self._held[gene]

    @property
    def _groups(self) -> tuple[NDArray[np.uint16] | None, int]:
        return (self.group, len(self.names)) if self.names else (None, 1)

    def _with_all(self, counts: NDArray[np.int32]) -> NDArray[np.int32]:
        """Counts (M, …) of each group, and before them, where there are groups, of all cells that are in one."""
        return np.concatenate([counts.sum(0, keepdims=True, dtype=np.int32), counts]) if self.names else counts


@dataclass(frozen=True, eq=False)
class StoredPictures:
    """Pictures that an image store holds, where the codes that they were counted from are gone."""

    images: Images
    names: tuple[str, ...] = ()

    @property
    def bins(self) -> int:
        """Along each side of a picture."""
        return self.images.spec.binning.bins

    @property
    def n_cells(self) -> int:
        """That are counted."""
        return self.images.spec.n_cells

    def draw(self, a: str, b: str) -> Picture:
        """Read a pair. InputError where the store has none of these genes; JobError where it is damaged."""
        row, turned = find_pair(self.images, a, b)
        counts, none = self.images.counts(slice(row, row + 1)).astype(np.int32), np.empty(0, np.uint8)
        counts = counts.transpose(0, 2, 1) if turned else counts
        return Picture(counts, ("",), self.ends_of([a, b]), none, none, none.astype(np.uint16))

    def ends_of(self, genes: Sequence[str]) -> NDArray[np.float32]:
        """Lowest and highest value of the bins of some genes: (G, 2)."""
        known = self.images.array("gene").tolist()
        return np.asarray(self.images.array("edges")[[known.index(gene) for gene in genes]][:, [0, -1]], np.float32)

    def draw_all(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.int32]:
        """Read some pairs: (P, 1, bins, bins)."""
        return np.stack([self.draw(a, b).counts for a, b in pairs])


Pictures = CodePictures | StoredPictures


# ---------------------------------------------------------------- where they come from


def find_pictures(scores: Path, codes: Any | None) -> tuple[Pictures | None, str]:
    """What pictures of a file of scores are made from, and what has to be said: why there are none, or no groups.

    Parameters
    ----------
    codes
        The code store that the user names; None: as the file says.

    Raises
    ------
    InputError
        The code store that the user names is none, or is not what was scored.
    """
    facts = read_facts(scores)
    if codes is not None:
        return _with_groups(_named_codes(facts, scores, located(codes)), facts)
    try:
        return _with_groups(scored_codes(facts, scores), facts)
    except InputError as error:
        place = (facts.get("images") or {}).get("path")
        if place and located(place).exists() and not facts.get("groups"):
            return StoredPictures(open_images(place)), ""
        return None, str(error)


def _named_codes(facts: dict[str, Any], scores: Path, path: Path) -> Codes:
    """The codes at a place that the user names."""
    codes = open_codes(path)
    wanted = (facts.get("codes") or {}).get("content_hash")
    if wanted not in (None, codes.content_hash):
        raise InputError(
            f"{path} holds other codes than those that {scores} was scored from, so its pictures would be of other "
            "cells; give the codes of that prediction, or leave --codes out."
        )
    return codes


def _with_groups(codes: Codes, facts: dict[str, Any]) -> tuple[Pictures, str]:
    """Pictures by the groups of the scores, or of all cells together and why."""
    none = np.empty(0, np.uint16)
    if not facts.get("groups"):
        return CodePictures(codes, (), none), ""
    try:
        groups = scored_groups(codes, facts)
    except InputError as error:
        return CodePictures(codes, (), none), f"Pictures show all cells together: {error}"
    return CodePictures(codes, groups.names, np.minimum(groups.number, np.uint16(len(groups.names)))), ""
