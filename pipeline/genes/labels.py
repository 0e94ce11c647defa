"""Replicate co-expression labels: a pair is positive if it is correlated in cells that its image never shows. Pure.

The cells are split at random into two halves. |Spearman| over the label half makes the label; the image is counted
over the other half. A classifier can then only score well by reading dependence from the picture. It is the positive
control that any working system must pass, and it needs nothing but the matrix. Or the correlation of Pearson
residuals (`pipeline.genes.residuals`) makes the label: whichever does is the favoured rival of a network.

Positive means |rho| at or above a threshold, or significant at a false discovery rate. The threshold asks for a strong
dependence whatever the number of cells; the rate asks for a dependence that is there at all. With 350 cells a rate of
5 % lies near |rho| = 0.15, which another 350 cells hardly show again; with 20,000 cells near 0.02, where a shared
sequencing depth makes most pairs positive. So the threshold is the default, and the rate is for a few hundred cells.

Ranks are kept sparse: the unexpressed cells of a gene share one rank, so only the expressed ones are stored (8 bytes
each), and dense rows are made for two blocks of 256 genes at a time. At 20,000 genes × 20,000 cells these are 82 MB in
place of 3.2 GB.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.genes.residuals import residuals_of
from pairscape.pipeline.options import LabelSign, LabelStatistic, Stream

MAX_LABEL_CELLS = 20_000  # standard error of rho 0.007: more cells would cost memory and change no label worth having
LEAST_FDR_CELLS = 10  # below, Student's t says nothing about a rank correlation
THRESHOLD = 0.3  # of |rho|, where nothing is asked for
BLOCK = 256  # genes on each side that are held dense
PART = 2**22  # pairs that are worked on together: at 20,000 genes all those of a block
Index = NDArray[np.int64]
Rho = NDArray[np.float64]


def split_cells(n_cells: int, seed: int, image_cells: int | None = None) -> tuple[Index, Index]:
    """Two random halves of the cells, each in ascending order: (label half, image half).

    The label half is at most `MAX_LABEL_CELLS`; the image half is always n_cells − n_cells // 2 cells.

    Parameters
    ----------
    image_cells
        Keep only so many cells of the image half, drawn at random; those of a smaller number are among those of a
        larger one. Absent: all.

    Raises
    ------
    InputError
        Fewer than four cells, or fewer in the image half than are to be kept.
    """
    if n_cells < 4:
        raise InputError(f"replicate labels split the cells in halves and there are {n_cells}; give 4 or more.")
    half = n_cells // 2
    if image_cells is not None and image_cells > n_cells - half:
        raise InputError(
            f"image cells is {image_cells:,}, but the image half of {n_cells:,} cells has {n_cells - half:,}; give at "
            "most so many, or leave the option out for all."
        )
    order = np.random.default_rng([seed, Stream.CELL_HALVES]).permutation(n_cells)
    return np.sort(order[:half][:MAX_LABEL_CELLS]), np.sort(order[half:][:image_cells])


class Vectors(Protocol):
    """Genes as vectors over cells whose scalar products are correlations."""

    @property
    def n_cells(self) -> int:
        """Cells, N."""

    def dense(self, genes: NDArray[np.integer]) -> Rho:
        """Vectors of some genes, of length 1, or 0 where a gene is correlated with nothing: (g, N)."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of each gene over cells, ties averaged.

    Attributes
    ----------
    lift : (N, G) float32, CSC
        Rank of each expressed cell above the rank that the unexpressed ones share; halves of whole numbers, so exact.
    base, length : (G,) float64
        Centred rank of the unexpressed cells, and length of the vector of centred ranks.
    """

    lift: csc_matrix
    base: Rho
    length: Rho

    @property
    def n_cells(self) -> int:
        """Cells, N."""
        return int(self.lift.shape[0])

    def dense(self, genes: NDArray[np.integer]) -> Rho:
        """Centred ranks scaled to length 1, (g, N): the scalar product of two rows is Spearman's rho.

        A constant gene is a row of zeros: correlated with nothing.
        """
        rows = np.repeat(self.base[genes][:, None], self.lift.shape[0], axis=1)
        for row, gene in zip(rows, genes, strict=True):
            entries = slice(self.lift.indptr[gene], self.lift.indptr[gene + 1])
            row[self.lift.indices[entries]] += self.lift.data[entries]
        rows /= np.where(self.length > 0, self.length, np.inf)[genes][:, None]
        return np.asarray(rows)


def rank_genes(expression: csr_matrix) -> Ranks:
    """Ranks of each gene over the cells of a matrix, (N, G) without negative values."""
    from scipy.stats import rankdata  # which takes half a second to load

    lift = expression.tocsc()
    lift = lift.astype(np.float32, copy=lift is expression)
    n_cells, n_genes = lift.shape
    base, length = np.zeros(n_genes), np.zeros(n_genes)
    for gene in range(n_genes):
        entries = slice(lift.indptr[gene], lift.indptr[gene + 1])
        zeros = n_cells - (entries.stop - entries.start)
        lift.data[entries] = rank = rankdata(lift.data[entries]) + (zeros - 1) / 2
        base[gene] = (zeros + 1) / 2 - (n_cells + 1) / 2
        length[gene] = np.sqrt(zeros * base[gene] ** 2 + ((rank + base[gene]) ** 2).sum())
    return Ranks(lift, base, length)


def correlations(pairs: Pairs, genes: Vectors) -> Rho:
    """Correlation of every pair, (P,): of ranks Spearman's rho."""
    rho = np.empty(len(pairs))
    for rows, values in _parts(pairs, genes):
        rho[rows] = values
    return rho


def _parts(pairs: Pairs, genes: Vectors) -> Iterator[tuple[slice, Rho]]:
    """Correlations of a run of pairs after the other."""
    for start in range(0, len(pairs), PART):
        rows = slice(start, min(start + PART, len(pairs)))
        yield rows, _blockwise(pairs.gene_a[rows], pairs.gene_b[rows], genes)


def _blockwise(gene_a: NDArray[np.int32], gene_b: NDArray[np.int32], vectors: Vectors) -> Rho:
    rho = np.empty(gene_a.size)
    for rows in _groups(gene_a // BLOCK):
        genes, at = np.unique(gene_a[rows], return_inverse=True)
        left = vectors.dense(genes)
        for part in _groups(gene_b[rows] // BLOCK):
            others, to = np.unique(gene_b[rows[part]], return_inverse=True)
            rho[rows[part]] = (left @ vectors.dense(others).T)[at[part], to]
    return rho


def _groups(key: NDArray[np.integer]) -> list[Index]:
    """Positions of equal keys, one array for each key."""
    order = np.argsort(key, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(key[order])) + 1)


def strong(pairs: Pairs, genes: Vectors, threshold: float, sign: LabelSign | None = None) -> Pairs:
    """The pairs with label 1 where |rho| reaches the threshold, 0 elsewhere; with a sign only those that have it."""
    label = np.empty(len(pairs), np.int8)
    for rows, rho in _parts(pairs, genes):
        label[rows] = _signed(rho, sign) >= threshold
    return replace(pairs, label=label)


def _signed(rho: Rho, sign: LabelSign | None) -> Rho:
    """How strong correlations are, (P,): below 0 where the sign is not the one that is asked for."""
    if sign is None:
        return np.abs(rho)
    return rho if sign == "+" else -rho


def significant(pairs: Pairs, genes: Vectors, fdr: float, sign: LabelSign | None = None) -> tuple[Pairs, float]:
    """The pairs with label 1 where rho differs from 0 at a false discovery rate, and the smallest |rho| among them.

    Two-sided p of Student's t on N − 2 degrees of freedom, as `scipy.stats.spearmanr`; Benjamini & Hochberg (1995) over
    all candidates, whatever their sign; with a sign only those that have it are labelled. The smallest |rho| is NaN
    where no pair is.
    """
    from scipy.stats import false_discovery_control, t

    freedom = genes.n_cells - 2
    signed = _signed(correlations(pairs, genes), sign)
    rho = np.abs(signed)
    # Beyond p = fdr nothing can be significant, so only the others are adjusted: by the number of all.
    least = t.isf(fdr / 2, freedom)
    tested = np.flatnonzero(rho >= least / np.sqrt(freedom + least**2))
    squared = np.minimum(rho[tested] ** 2, 1 - 1e-15)
    p = np.minimum(2 * t.sf(np.sqrt(squared * freedom / (1 - squared)), freedom), 1)
    adjusted = false_discovery_control(p) * (rho.size / max(tested.size, 1)) if tested.size else p
    label = np.zeros(len(pairs), np.int8)
    label[tested[(adjusted <= fdr) & (signed[tested] > 0)]] = 1
    return replace(pairs, label=label), float(rho[label == 1].min(initial=np.inf) if label.any() else np.nan)


def replicate_labels(
    pairs: Pairs,
    label_cells: csr_matrix,
    threshold: float | None = None,
    fdr: float | None = None,
    sign: LabelSign | None = None,
    statistic: LabelStatistic = "spearman",
    depth: NDArray[np.float64] | None = None,
) -> tuple[Pairs, str]:
    """The pairs with label 1 where they are correlated over the label half, 0 elsewhere, and the rule in words.

    Parameters
    ----------
    label_cells : (N, G)
        Expression of the label half, cells × genes; for residuals its counts.
    threshold
        |Spearman|, or correlation of residuals, from which a pair is positive. Absent: 0.3, unless a rate is given.
    fdr
        False discovery rate at which a pair is positive, in place of the threshold.
    sign
        Only correlations of this sign are positive. Absent: of either.
    statistic
        What is correlated.
    depth : (N,)
        For residuals, counts of each cell over all genes. Absent: over these.

    Raises
    ------
    InputError
        A rate is asked of fewer than ten cells.
    """
    genes: Vectors = rank_genes(label_cells) if statistic == "spearman" else residuals_of(label_cells, depth)
    name = "Spearman" if statistic == "spearman" else "correlation of Pearson residuals"
    if fdr is None:
        threshold = THRESHOLD if threshold is None else threshold
        rule = {None: f"|{name}| >= {threshold:g}", "+": f"{name} >= {threshold:g}", "-": f"{name} <= -{threshold:g}"}
        return strong(pairs, genes, threshold, sign), rule[sign]
    if label_cells.shape[0] < LEAST_FDR_CELLS:
        raise InputError(
            f"a false discovery rate over {label_cells.shape[0]} cells means nothing, and so many label the pairs; "
            f"give twice {LEAST_FDR_CELLS} cells or more, or --threshold in place of --fdr."
        )
    labelled, least = significant(pairs, genes, fdr, sign)
    found = "none is" if np.isnan(least) else f"|rho| >= {least:.3f}"
    which = {None: "", "+": " and positive", "-": " and negative"}[sign]
    return labelled, f"{name} significant at FDR {fdr:g}{which} ({found})"
