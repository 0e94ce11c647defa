"""Training, validation and test folds of gene pairs that do not leak. Pure.

Whatever the split, the images of (a, b) and (b, a) are mirrors of each other, so both rows go to one fold; where the
genes' groups would tear them apart, the row nearer to training is left out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.spec import Splitting
from pipeline.negatives import matched
from pipeline.pairs import Pairs

UNUSED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
STRATUM = 10  # dealt together; at the default shares 3 to the test, 1 to validation
MAX_STRATA = 1000

FoldArray = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Folds:
    """Rows of a store by the part they play.

    Attributes
    ----------
    pairs
        All pairs of the store.
    train : (R,) int64, ascending
        What the network and the audit's models learn from.
    validation : (V,) int64, ascending
        What training stops by, and what places thresholds.
    test : (T,) int64, ascending
        What the figures are about.
    directed
        Whether (a, b) and (b, a) mean different things.
    """

    pairs: Pairs
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    directed: bool

    @property
    def classes(self) -> int:
        """3 where the labels tell direction, else 2."""
        return 3 if (self.pairs.label == 2).any() else 2


def assign_folds(pairs: Pairs, n_genes: int, splitting: Splitting, seed: int) -> FoldArray:
    """Fold of every pair: `TRAIN`, `VALIDATION`, `TEST` or `UNUSED`, (P,) int8.

    Parameters
    ----------
    n_genes
        Genes of the matrix; gene indices lie below it.
    """
    folds = np.full(len(pairs), UNUSED, np.int8)
    labelled = np.flatnonzero(pairs.label >= 0)  # the shares are shares of these: the others play no part
    if labelled.size:
        folds[labelled] = _labelled_folds(pairs.take(labelled), n_genes, splitting, np.random.default_rng([seed, 2]))
    if splitting.negatives == "matched":
        return match_negatives(pairs, folds, n_genes, seed)
    return folds


def match_negatives(pairs: Pairs, folds: FoldArray, n_genes: int, seed: int) -> FoldArray:
    """The folds with matched negatives only, (P,) int8: in each fold every gene is as often positive as negative.

    Whatever the split, labels alone then score 0.5. Other negatives become `UNUSED`; positives stay, also those for
    which no negative was found.
    """
    matched_folds, rng = folds.copy(), np.random.default_rng([seed, 6])
    for fold in (TRAIN, VALIDATION, TEST):
        rows = np.flatnonzero(folds == fold)
        zeros = rows[pairs.label[rows] == 0]
        if 0 < zeros.size < rows.size:
            kept, _ = matched(pairs.take(rows), n_genes, rng)
            matched_folds[np.setdiff1d(zeros, rows[kept])] = UNUSED
    return matched_folds


def _labelled_folds(pairs: Pairs, n_genes: int, splitting: Splitting, rng: np.random.Generator) -> FoldArray:
    mirror, positive = mirror_groups(pairs, n_genes), pairs.label > 0
    if splitting.split == "pair":
        return _stratified_groups(np.bincount(mirror, positive), splitting, rng)[mirror]
    regulator = np.where(pairs.label == 2, pairs.gene_b, pairs.gene_a)  # label 2 is the mirror of label 1
    target = np.where(pairs.label == 2, pairs.gene_a, pairs.gene_b)
    sides = {"both": (regulator, target), "regulator": (regulator,), "target": (target,)}[splitting.split]
    ends, hits = np.concatenate(sides), np.concatenate([positive] * len(sides))
    used, number = np.unique(ends, return_inverse=True)
    group = np.full(n_genes, TRAIN, np.int8)
    group[used] = _stratified_groups(np.bincount(number, hits), splitting, rng)
    return _keep_mirrors_together(_fold_of(group[regulator], group[target], splitting), mirror)


def mirror_groups(pairs: Pairs, n_genes: int) -> NDArray[np.int64]:
    """A number for each unordered pair of genes, the same for (a, b) and (b, a), (P,), from 0 up."""
    low, high = np.minimum(pairs.gene_a, pairs.gene_b), np.maximum(pairs.gene_a, pairs.gene_b)
    _, group = np.unique(low.astype(np.int64) * n_genes + high, return_inverse=True)
    return group


def _stratified_groups(positives: NDArray[Any], splitting: Splitting, rng: np.random.Generator) -> FoldArray:
    """Deal genes (or pairs) at random in the shares asked for, hubs and rarely positive ones alike.

    Positive pairs gather on few genes, so a plain draw gives one seed half the positives of another. Those of similar
    numbers of positives are therefore dealt together, as in any stratified split. At least one goes to each held-out
    group.

    Parameters
    ----------
    positives : (n,)
        Positive pairs of each.
    """
    n = positives.size
    order = np.lexsort((rng.random(n), -positives))
    n_test, n_validation = (max(round(n * share), 1) for share in (splitting.test_share, splitting.validation_share))
    groups = np.full(n, TRAIN, np.int8)
    size = max(STRATUM, n // MAX_STRATA)
    for start in range(0, n, size):
        stratum = rng.permutation(order[start : start + size])
        test, validation = (
            round(k * (start + stratum.size) / n) - round(k * start / n) for k in (n_test, n_validation)
        )
        groups[stratum[:test]] = TEST
        groups[stratum[test : test + validation]] = VALIDATION
    return groups


def _fold_of(regulator: FoldArray, target: FoldArray, splitting: Splitting) -> FoldArray:
    """Fold of a pair from the groups of its genes.

    Under `both` a test pair has two test genes and a training pair two training genes. A validation pair has no test
    gene and at least one validation gene: enough of them to stop by, and nothing of the test is seen.
    """
    if splitting.split == "regulator":
        return regulator.copy()
    if splitting.split == "target":
        return target.copy()
    either_test, both_test = (regulator == TEST) | (target == TEST), (regulator == TEST) & (target == TEST)
    folds = np.where((regulator == TRAIN) & (target == TRAIN), TRAIN, VALIDATION)
    return np.where(both_test, TEST, np.where(either_test, UNUSED, folds)).astype(np.int8)


def _keep_mirrors_together(folds: FoldArray, mirror: NDArray[np.int64]) -> FoldArray:
    latest = np.full(int(mirror.max()) + 1, UNUSED, np.int8)
    np.maximum.at(latest, mirror, folds)
    return np.where(folds == latest[mirror], folds, UNUSED).astype(np.int8)
