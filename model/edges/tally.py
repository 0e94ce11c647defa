"""Sums over all pairs of a file of scores, a block of rows at a time: what is called, by which rule, of which gene."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.edges.calls import CALLED_Q, Called
from pairscape.model.edges.edges import HALF, Columns, GeneCodes, blocks, columns_of, ends_of, symbols_of
from pairscape.pipeline.genes.kinds import KINDS

BINS = 50  # of the score
Q_LIMITS = (0.01, 0.05, 0.1)
KIND_Q = CALLED_Q


@dataclass(eq=False)
class Tally:
    """Sums over a file of scores.

    Attributes
    ----------
    thresholds, called
        Probability by aim from which on pairs are called, and pairs from there on.
    called_from
        The threshold by which the edges of each gene are counted.
    both_ends
        Whether an edge counts for both of its genes, or for its source alone.
    n_pairs, n_scored, n_known
        Pairs; those that were scored; those known to be edges.
    expected
        Sum of the scores.
    histogram : (BINS,)
        Scored pairs in each bin of the score.
    significant
        Pairs of at most each q-value; empty without q-values.
    likely
        Of each of those q-values, the pairs that also score one half or more, which `export` keeps.
    of_kind : (7,)
        Pairs of each kind, in the order of `KINDS`, with a q-value of at most `KIND_Q`, without q-values those called.
    genes, symbols
        Names of the genes, and their symbols if there are any.
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
    called: dict[str, Called] = field(default_factory=dict)
    significant: dict[float, Called] = field(default_factory=dict)
    likely: dict[float, Called] = field(default_factory=dict)
    of_kind: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(KINDS), np.int64))
    genes: tuple[str, ...] = ()
    symbols: tuple[str, ...] | None = None
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
        self._add_called(score, block.get("q_value"))
        if "kind" in block:
            meant = block["q_value"] <= KIND_Q if "q_value" in block else score >= self.called_from
            kind = block["kind"][meant & ~np.isnan(block["kind"])]
            self.of_kind += np.bincount(kind.astype(np.int64), minlength=len(KINDS))
        for end in ends_of(block)[: 2 if self.both_ends else 1]:
            self.scored_of = _added(self.scored_of, np.bincount(end, minlength=n_genes))
            self.expected_of = _added(self.expected_of, np.bincount(end, score, n_genes))
            self.called_of = _added(self.called_of, np.bincount(end[score >= self.called_from], minlength=n_genes))

    def _add_called(self, score: NDArray[np.float64], q_value: NDArray[np.floating] | None) -> None:
        for aim, threshold in self.thresholds.items():
            _add(self.called, aim, score >= threshold, score, q_value)
        if q_value is None:
            return
        for limit in Q_LIMITS:
            within = q_value <= np.float64(limit)
            _add(self.significant, limit, within, score, q_value)
            _add(self.likely, limit, within & (score >= HALF), score, q_value)


def _add(
    called: dict[Any, Called],
    rule: Any,
    rows: NDArray[np.bool_],
    score: NDArray[np.float64],
    q_value: NDArray[np.floating] | None,
) -> None:
    """Take the pairs of these rows in as called by a rule."""
    called.setdefault(rule, Called()).add(score[rows], None if q_value is None else q_value[rows])


def _added(total: NDArray[np.float64], more: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.pad(total, (0, more.size - total.size)) + more)


def tally_scores(
    path: Path, thresholds: Mapping[str, float], called_from: float, group: str | None = None, *, both_ends: bool
) -> Tally:
    """Sum a file of scores up, a block of rows at a time; of groups of cells one, or all combined."""
    found, genes = Tally(thresholds, called_from, both_ends), GeneCodes()
    there = columns_of(path)
    columns = [name for name in ("gene_a", "gene_b", "label", "score", "forward", "kind", "q_value") if name in there]
    for block in blocks(path, columns, genes, group):
        found.add(block, len(genes.index))
    found.genes = tuple(genes.index)
    found.symbols = symbols_of(path, found.genes)
    return found
