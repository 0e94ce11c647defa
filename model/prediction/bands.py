"""Bands of candidates of like expression, apart in which false discovery rates are estimated. Pure.

Chance makes stranger pictures of few cells than of many, and pairs of rare genes are by far the most: held against them
all, a pair of widely expressed genes is called only where thousands of others are as clear. So each band has decoys of
its own. Any division that looks at no score keeps the rate that is asked for (Sun, Craiu, Paterson & Bull, Genetic
Epidemiology 30:519, 2006); here it is the share of the cells that express the rarer gene.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.genes.pairs import Pairs

EDGES = (0.03, 0.1, 0.3)  # shares of the cells
LEAST = 50_000  # candidates of a band; fewer join the next rarer ones, the rarest the next more frequent ones


@dataclass(frozen=True, eq=False)
class Bands:
    """Which band each candidate is in.

    Attributes
    ----------
    number : (P,) uint8
        From 0, the rarest genes.
    from_share
        Share of the cells that express the rarer gene, from which on a pair is in each band.
    """

    number: NDArray[np.uint8]
    from_share: tuple[float, ...]

    @classmethod
    def of(cls, pairs: Pairs, share: NDArray[np.floating]) -> "Bands":
        """Bands of candidates, by the share of the cells that express each gene of the matrix, (G,)."""
        of_gene = np.searchsorted(np.array(EDGES), share, side="right").astype(np.uint8)
        fine = np.minimum(of_gene[pairs.gene_a], of_gene[pairs.gene_b])
        edges, filled, taken = [0.0, *EDGES], list[int](), 0
        sizes = np.bincount(fine, minlength=len(edges)).tolist()
        for band in reversed(range(len(edges))):
            taken += sizes[band]
            if taken >= LEAST:
                filled, taken = [band, *filled], 0
        first = [0, *filled[1:]]  # what is left over joins the rarest
        joined = np.searchsorted(np.array(first), np.arange(len(edges)), side="right") - 1
        return cls(joined.astype(np.uint8)[fine], tuple(edges[band] for band in first))

    def __len__(self) -> int:
        return len(self.from_share)

    def rows(self, band: int) -> NDArray[np.int64]:
        """Candidates of a band, ascending."""
        return np.flatnonzero(self.number == band)

    def words(self) -> str:
        """That q-values are apart, to be added to a sentence; empty where there is one band."""
        shares = " and ".join(f"{share:.0%}" for share in self.from_share[1:])
        return f", apart for pairs whose rarer gene is in less and in more than {shares} of the cells" if shares else ""

    def facts(self, calls: Sequence[int]) -> list[dict[str, Any]]:
        """Of each band, of which so many are called at a false discovery rate of 5 %."""
        sizes = np.bincount(self.number, minlength=len(self)).tolist()
        told = zip(self.from_share, sizes, calls, strict=True)
        return [{"from_share": share, "candidates": size, "calls": called} for share, size, called in told]
