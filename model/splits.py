"""Training, validation and test folds of gene pairs that do not leak. Pure.

Whatever the split, the images of (a, b) and (b, a) are mirrors of each other, so both rows go to one fold; where the
genes' groups would tear them apart, the row nearer to training is left out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.spec import Splitting
from pipeline.pairs import Pairs

UNUSED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2

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
    rng = np.random.default_rng([seed, 2])
    mirror = mirror_groups(pairs, n_genes)
    if splitting.split == "pair":
        folds = _random_groups(int(mirror.max()) + 1, splitting, rng)[mirror]
        folds[pairs.label < 0] = UNUSED
        return folds
    regulator = np.where(pairs.label == 2, pairs.gene_b, pairs.gene_a)  # label 2 is the mirror of label 1
    target = np.where(pairs.label == 2, pairs.gene_a, pairs.gene_b)
    if splitting.split == "both":
        used = np.unique(np.concatenate([regulator, target]))
    else:
        used = np.unique(regulator if splitting.split == "regulator" else target)
    group = np.full(n_genes, TRAIN, np.int8)
    group[used] = _random_groups(used.size, splitting, rng)
    folds = _fold_of(group[regulator], group[target], splitting)
    folds[pairs.label < 0] = UNUSED
    return _keep_mirrors_together(folds, mirror)


def mirror_groups(pairs: Pairs, n_genes: int) -> NDArray[np.int64]:
    """A number for each unordered pair of genes, the same for (a, b) and (b, a), (P,), from 0 up."""
    low, high = np.minimum(pairs.gene_a, pairs.gene_b), np.maximum(pairs.gene_a, pairs.gene_b)
    _, group = np.unique(low.astype(np.int64) * n_genes + high, return_inverse=True)
    return group


def _random_groups(n: int, splitting: Splitting, rng: np.random.Generator) -> FoldArray:
    """n things dealt at random, in exactly the shares asked for (rounded, at least one each where n allows)."""
    n_test = max(round(n * splitting.test_share), 1)
    n_validation = max(round(n * splitting.validation_share), 1)
    groups = np.full(n, TRAIN, np.int8)
    order = rng.permutation(n)
    groups[order[:n_test]] = TEST
    groups[order[n_test : n_test + n_validation]] = VALIDATION
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
