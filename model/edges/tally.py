"""One pass over a file of scores: how many pairs there are of each kind, and how many edges each gene has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.edges.edges import Columns, GeneCodes, blocks, columns_of, ends_of

BINS = 50  # of the score
Q_LIMITS = (0.01, 0.05, 0.1)


@dataclass(eq=False)
class Tally:
    """What a file of scores holds, summed up.

    Attributes
    ----------
    thresholds
        What each is placed for → probability from which on pairs are called.
    called_from
        The one by which the edges of each gene are counted.
    both_ends
        Whether an edge counts for both of its genes, or for its source alone.
    n_pairs, n_scored, n_known
        Pairs; those that were scored; those known to be edges.
    expected
        Sum of the scores: how many edges there are if the scores can be taken at their word.
    histogram : (BINS,)
        Scored pairs in each bin of the score.
    called
        As `thresholds` → pairs from there on.
    significant
        q-value → pairs of at most that; empty without q-values.
    genes
        Names.
    scored_of, called_of, expected_of : (G,)
        Of each gene: its scored pairs, those called, and the sum of its scores.
    """

    thresholds: Mapping[str, float]
    called_from: float
    both_ends: bool
    n_pairs: int = 0
    n_scored: int = 0
    n_known: int = 0
    expected: float = 0.0
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    called: dict[str, int] = field(default_factory=dict)
    significant: dict[float, int] = field(default_factory=dict)
    genes: tuple[str, ...] = ()
    scored_of: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    called_of: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    expected_of: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, block: Columns, n_genes: int) -> None:
        """Take some rows in; genes as numbers below `n_genes`, which may grow."""
        scored = ~np.isnan(block["score"])
        self.n_pairs += scored.size
        self.n_known += int((block["label"] > 0).sum())
        block = {name: values[scored] for name, values in block.items()}
        score = block["score"].astype(np.float64)
        self.n_scored += score.size
        self.expected += float(score.sum())
        self.histogram += np.histogram(score, BINS, (0, 1))[0]
        for aim, threshold in self.thresholds.items():
            self.called[aim] = self.called.get(aim, 0) + int((score >= threshold).sum())
        for limit in Q_LIMITS if "q_value" in block else ():
            self.significant[limit] = self.significant.get(limit, 0) + int((block["q_value"] <= limit).sum())
        for end in ends_of(block)[: 2 if self.both_ends else 1]:
            self.scored_of = _added(self.scored_of, np.bincount(end, minlength=n_genes))
            self.expected_of = _added(self.expected_of, np.bincount(end, score, n_genes))
            self.called_of = _added(self.called_of, np.bincount(end[score >= self.called_from], minlength=n_genes))


def _added(total: NDArray[np.float64], more: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.pad(total, (0, more.size - total.size)) + more)


def tally_scores(path: Path, thresholds: Mapping[str, float], called_from: float, *, both_ends: bool) -> Tally:
    """Sum a file of scores up, a block of rows at a time."""
    found, genes = Tally(thresholds, called_from, both_ends), GeneCodes()
    there = columns_of(path)
    columns = [name for name in ("gene_a", "gene_b", "label", "score", "forward", "q_value") if name in there]
    for block in blocks(path, columns, genes):
        found.add(block, len(genes.index))
    found.genes = tuple(genes.index)
    return found
