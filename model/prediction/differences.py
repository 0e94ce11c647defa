"""What differs between two groups of cells: the change of each pair's correlation, and how large it is by chance.

The statistic is the difference of Fisher's z of the two correlations in its standard deviations. Its null comes from
the cells: those of both groups are dealt to two groups of the same sizes anew, among cells of like depth, and a sample
of the pairs is counted in these. So the null is that, among cells of like depth, it does not matter which group a cell
is of; it needs neither the normal distribution nor cells that all pairs see alike. Where cells come from donors, whole
donors are dealt, since the cells of one are no independent witnesses.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairscape.model.evaluation.association import associations, spearman
from pairscape.model.prediction.dealing import FIRST, OTHER, SECOND, Dealing, Group
from pairscape.model.prediction.rescoring import score_runs
from pairscape.model.prediction.within import by_depth
from pairscape.pipeline.codes.store import Codes, cell_blocks, open_codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.gene_reader import held_reader
from pairscape.pipeline.heatmaps.memory import Portion
from pairscape.pipeline.heatmaps.pairwise import (
    GENES_AT_ONCE,
    PAIRS_AT_ONCE,
    Counts,
    PairRun,
    WholeGenes,
    count_grouped,
    within_memory,
)
from pairscape.pipeline.heatmaps.strata import StratifiedMargins
from pairscape.pipeline.options import Stream

Values = NDArray[np.float64]
Genes = NDArray[np.int64]
Stratum = NDArray[np.integer]
SPREAD = 1.06  # variance of Fisher's z of Spearman's correlation, times n − 3 (Fieller 1957)
NEAREST = 1 - 1e-6  # to which correlations are cut: Fisher's z of 1 is infinite
SAMPLED = 200_000  # pairs that are counted again: cheap, as no network scores them
MOST_ROUNDS = 100  # deals of each pair, where there are few
RUN_PAIRS = 512  # pairs that share a deal, and are a task


def correlation_change(first: Values, second: Values, cells: tuple[int, int]) -> Values:
    """First less second correlation, (P,) each, as Fisher's z in its standard deviations; `cells` of either group."""
    a, b = (np.arctanh(np.clip(r, -NEAREST, NEAREST)) for r in (first, second))
    return np.asarray((a - b) / np.sqrt(sum(SPREAD / max(n - 3, 1) for n in cells)))


@dataclass(frozen=True, eq=False)
class Recount:
    """Pairs of a code store that are counted again in two groups; it travels to the workers.

    Attributes
    ----------
    codes, portion
        The store, and how much of it a worker holds.
    dealing
        The groups.
    within : (N,) or None
        Strata of the cells beyond which correlations are told; None: over all cells of a group.
    """

    codes: Codes
    portion: Portion
    dealing: Dealing
    within: Stratum | None = None

    def correlations(self, run: PairRun, group: Group) -> Values:
        """Spearman's correlation of the pairs of a run in either group, (2, P)."""
        found = []
        for pairs, genes, counts in self._counted(run, group):
            found.append([self._correlation(counts[side], pairs, genes, group == side) for side in (FIRST, SECOND)])
        return np.concatenate(found, axis=1)

    def changes(self, run: PairRun, group: Group) -> Values:
        """Change of correlation of the pairs of a run between two groups, (P,)."""
        first, second = self.correlations(run, group)
        return correlation_change(first, second, (int((group == FIRST).sum()), int((group == SECOND).sum())))

    def images(self, run: PairRun) -> tuple[Counts, Counts]:
        """Joint counts of the pairs of a run in the two groups as they are, (P, bins, bins) each."""
        counts = np.concatenate([counts for *_, counts in self._counted(run, self.dealing.group)], axis=1)
        return counts[FIRST], counts[SECOND]

    def _counted(self, run: PairRun, group: Group) -> Iterator[tuple[tuple[Genes, Genes], WholeGenes, Counts]]:
        """Genes, and joint counts by group, (M, P, bins, bins), of some pairs at a time."""
        reader = held_reader(open_codes(Path(self.codes.path)), self.portion)
        for some in within_memory(reader, run, PAIRS_AT_ONCE):
            pairs = run.gene_a[some], run.gene_b[some]
            genes = WholeGenes.read(reader, np.concatenate(pairs))
            yield pairs, genes, count_grouped(genes, genes, pairs, group, self.codes.binning.bins)[0]

    def _correlation(
        self, counts: Counts, pairs: tuple[Genes, Genes], genes: WholeGenes, members: NDArray[np.bool_]
    ) -> Values:
        if self.within is None:
            return spearman(counts)
        margins = margins_within(genes, self.within, members, self.codes.binning.bins)
        return associations(counts, StratifiedMargins(margins, genes.rows(pairs[0]), genes.rows(pairs[1])))[0]


def margins_within(genes: WholeGenes, stratum: Stratum, members: NDArray[np.bool_], bins: int) -> NDArray[np.uint32]:
    """Cells of some genes in each bin, stratum by stratum, of some of the cells: (G, S, bins); no stratum is empty."""
    there, number = np.unique(stratum[members], return_inverse=True)
    label = np.full(stratum.size, -1, np.int64)
    label[members] = number
    start, cell, code = genes.cells.entries
    gene = np.repeat(np.arange(genes.genes.size), np.diff(start))
    inside = label[cell] >= 0
    place = (gene[inside] * there.size + label[cell[inside]]) * bins + code[inside] - 1
    shape = (genes.genes.size, there.size, bins)
    found = np.bincount(place, minlength=int(np.prod(shape))).reshape(shape)
    off = np.bincount(number, minlength=there.size) - found.sum(2)  # (G, S) cells without expression
    found[np.arange(shape[0])[:, None], np.arange(shape[1]), genes.zero_bin[:, None]] += off
    return found.astype(np.uint32)


def seen_task(recount: Recount, run: PairRun) -> Values:
    """Correlations of the pairs of a run in the two groups as they are, (2, P). Runs on a worker."""
    return recount.correlations(run, recount.dealing.group)


def seen_correlations(recount: Recount, pairs: Pairs, session: Session) -> Values:
    """Correlations of pairs in the two groups as they are, (2, P)."""
    parts = score_runs(seen_task, (recount,), pairs, RUN_PAIRS, "counting both groups", session)
    return np.concatenate(parts, axis=1)


def dealt_task(recount: Recount, run: PairRun) -> Values:
    """Changes of the pairs of a run between groups that are dealt anew. Runs on a worker, any number of times."""
    return recount.changes(run, recount.dealing.deal(run.number))


def null_changes(recount: Recount, pairs: Pairs, session: Session) -> Values:
    """Absolute changes of `SAMPLED` pairs, or of fewer in several deals each, between dealt groups, (D,)."""
    rng = np.random.default_rng([recount.dealing.seed, Stream.DEALT_PAIRS])
    rounds = min(max(SAMPLED // max(len(pairs), 1), 1), MOST_ROUNDS)
    sampled = [np.sort(rng.choice(len(pairs), min(SAMPLED, len(pairs)), replace=False)) for _ in range(rounds)]
    parts = score_runs(dealt_task, (recount,), pairs.take(np.concatenate(sampled)), RUN_PAIRS, "dealt groups", session)
    return np.abs(np.concatenate(parts))


def survey_cells(codes: Codes, group: Group) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Genes that each cell expresses, (N,), and cells of either group that express each gene, (2, G)."""
    depth, expressing = np.zeros(codes.n_cells, np.int32), np.zeros((2, codes.n_genes), np.int64)
    for cells in cell_blocks(codes.n_cells):
        members = [group[cells] == number for number in (FIRST, SECOND)]
        for start in range(0, codes.n_genes, GENES_AT_ONCE):
            genes = np.arange(start, min(start + GENES_AT_ONCE, codes.n_genes))
            on = codes.read(genes, cells) > 0
            depth[cells] += np.count_nonzero(on, axis=0).astype(np.int32)
            for number, rows in enumerate(members):
                expressing[number, genes] += np.count_nonzero(on[:, rows], axis=1)
    return depth, expressing


def strata_of_groups(group: Group, alike: Stratum, depth: NDArray[np.int32], seed: int) -> Stratum:
    """Strata in which the cells of two groups are dealt, (N,): of like depth, inside those that are given."""
    inside, stratum = group != OTHER, np.zeros(group.size, np.uint16)
    stratum[inside] = by_depth(alike[inside], depth[inside], seed)
    return stratum
