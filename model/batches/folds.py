"""Training, validation and test folds of gene pairs that do not leak. Pure.

Pairs and a `Splitting` in, the fold of every pair out. The images of (a, b) and (b, a) are mirrors of each other, so
both rows go to one fold; where the genes' groups would tear them apart, the row nearer to training is left out. A store
may hold tens of millions of pairs: they are looked at a block at a time, and a byte or a 32-bit number is kept of each.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairscape.model.options import Splitting
from pairscape.pipeline.genes.negatives import matched
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.options import Stream

UNUSED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
STRATUM = 10  # dealt together; at the default shares 3 to the test, 1 to validation
MAX_STRATA = 1000
BLOCK = 2**21  # pairs, or draws, looked at together

FoldArray = NDArray[np.int8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Folds:
    """Rows of a store by fold.

    Attributes
    ----------
    pairs
        All pairs of the store.
    train, validation, test : int64, ascending
        Rows that networks and the audit's models learn from; that stop training and place thresholds; that are
        measured.
    directed
        Whether (a, b) and (b, a) mean different things.
    notes
        In words, what a file of folds placed and what it left out.
    """

    pairs: Pairs
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    directed: bool
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """As many as there are class names (kinds of dependence); else 3 where the labels tell direction, or 2."""
        if self.pairs.class_names:
            return len(self.pairs.class_names)
        return 3 if (self.pairs.label == 2).any() else 2

    @property
    def natural(self) -> float:
        """Share of positives among the training pairs."""
        return float((self.pairs.label[self.train] > 0).mean())

    def content_hash(self) -> str:
        """Hex sha256 of the rows of each fold: the same if and only if the pairs are split in the same way."""
        total = hashlib.sha256()
        for rows in (self.train, self.validation, self.test):
            total.update(f"{rows.size} rows".encode())
            total.update(np.ascontiguousarray(rows, "<i8").data)
        return total.hexdigest()


def assign_folds(pairs: Pairs, n_genes: int, splitting: Splitting, seed: int) -> FoldArray:
    """Fold of every pair: `TRAIN`, `VALIDATION`, `TEST` or `UNUSED`, (P,) int8.

    Under cross-validation this is the fold of the groups with `splitting.fold` held out (0 where it is absent): the
    same seed deals the same groups for every fold. The split is any but `file`, for which there is
    `model.batches.fold_file`.
    """
    labelled, own = labelled_pairs(pairs)  # the shares are shares of these: the others play no part
    found = (
        _labelled_folds(own, n_genes, splitting, np.random.default_rng([seed, Stream.FOLDS])) if len(own) else UNUSED
    )
    folds = np.full(len(pairs), UNUSED, np.int8)
    folds[labelled] = found
    if splitting.negatives == "matched":
        return match_negatives(pairs, folds, n_genes, seed)
    return folds


def match_negatives(pairs: Pairs, folds: FoldArray, n_genes: int, seed: int) -> FoldArray:
    """The folds with matched negatives only, (P,) int8: in each fold every gene is as often positive as negative.

    Labels alone then score 0.5 under any split. Other negatives become `UNUSED`; positives stay.
    """
    matched_folds, rng = folds.copy(), np.random.default_rng([seed, Stream.MATCHED_FOLDS])
    for fold in (TRAIN, VALIDATION, TEST):
        rows = np.flatnonzero(folds == fold)
        zeros = rows[pairs.label[rows] == 0]
        if 0 < zeros.size < rows.size:
            kept, _ = matched(pairs.take(rows), n_genes, rng)
            matched_folds[np.setdiff1d(zeros, rows[kept])] = UNUSED
    return matched_folds


def labelled_pairs(pairs: Pairs) -> tuple[Mask, Pairs]:
    """Which pairs have a label, (P,) bool, and those pairs."""
    labelled = pairs.label >= 0
    if labelled.all():
        return labelled, pairs  # as in most stores; a copy would weigh as much again
    own = Pairs(pairs.gene_a[labelled], pairs.gene_b[labelled], pairs.label[labelled], class_names=pairs.class_names)
    return labelled, own


def _labelled_folds(pairs: Pairs, n_genes: int, splitting: Splitting, rng: np.random.Generator) -> FoldArray:
    if splitting.split == "pair":
        mirror = mirror_groups(pairs, n_genes)
        return np.take(_roles(_positives_in(mirror, pairs), splitting, rng), mirror)
    positives, used = _positives_of_genes(pairs, n_genes, splitting)
    role = np.full(n_genes, TRAIN, np.int8)
    role[used] = _roles(positives[used], splitting, rng)
    return folds_by_gene(pairs, role, splitting.split)[0]


def mirror_groups(pairs: Pairs, n_genes: int) -> NDArray[np.integer]:
    """A number for each unordered pair of genes, the same for (a, b) and (b, a), (P,), from 0 up."""
    low = np.minimum(pairs.gene_a, pairs.gene_b)
    group: NDArray[np.integer] = np.empty(len(pairs), np.int32 if len(pairs) < 2**31 else np.int64)
    known = 0
    for first, last in _gene_ranges(low, n_genes):
        rows = np.flatnonzero((low >= first) & (low < last))
        found, number = np.unique(_unordered_keys(pairs, rows, n_genes), return_inverse=True)
        group[rows] = known + number
        known += found.size
    return group


def _unordered_keys(pairs: Pairs, rows: NDArray[np.int64], n_genes: int) -> NDArray[np.int64]:
    a, b = pairs.gene_a[rows], pairs.gene_b[rows]
    return np.minimum(a, b).astype(np.int64) * n_genes + np.maximum(a, b)


def _gene_ranges(gene: NDArray[np.integer], n_genes: int) -> Iterator[tuple[int, int]]:
    """Ranges of genes with about a block of rows each."""
    count = sum((np.bincount(gene[rows], minlength=n_genes) for rows in blocks(gene.size)), np.zeros(n_genes, int))
    block = np.cumsum(count) // BLOCK
    first = np.flatnonzero(np.diff(block, prepend=-1))
    yield from zip(first.tolist(), [*first[1:].tolist(), n_genes], strict=True)


def blocks(n: int) -> Iterator[slice]:
    """Slices of so many rows that what is computed of a slice is small."""
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


def _positives_in(group: NDArray[np.integer], pairs: Pairs) -> NDArray[np.uint16]:
    """Positive rows of each unordered pair, (groups,) uint16: a store has two of them at most."""
    positives = np.zeros(int(group.max()) + 1, np.uint16)
    for rows in blocks(group.size):
        np.add.at(positives, group[rows][pairs.label[rows] > 0], 1)
    return positives


def _positives_of_genes(pairs: Pairs, n_genes: int, splitting: Splitting) -> tuple[NDArray[np.int64], Mask]:
    """Positive pairs of each gene on the side that is held out, and whether it is on that side at all, (G,) each."""
    positives, count = np.zeros(n_genes, np.int64), np.zeros(n_genes, np.int64)
    for rows in blocks(len(pairs)):
        regulator, target = sides(pairs, rows)
        ends = {"both": (regulator, target), "regulator": (regulator,), "target": (target,)}[splitting.split]
        for end in ends:
            positives += np.bincount(end[pairs.label[rows] > 0], minlength=n_genes)
            count += np.bincount(end, minlength=n_genes)
    return positives, count > 0


def sides(pairs: Pairs, rows: slice) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Regulator and target of some rows: label 2, unless it is a kind, is the mirror of 1: gene_b regulates."""
    a, b = pairs.gene_a[rows], pairs.gene_b[rows]
    if pairs.class_names:
        return a, b
    back = pairs.label[rows] == 2
    return np.where(back, b, a), np.where(back, a, b)


# ---------------------------------------------------------------- dealing genes, or unordered pairs


def _roles(positives: NDArray[np.integer], splitting: Splitting, rng: np.random.Generator) -> FoldArray:
    """Roles of genes (of unordered pairs): a share or one of K groups is the test, at least one also for validation."""
    n = positives.size
    n_test, n_validation = (max(round(n * share), 1) for share in (splitting.test_share, splitting.validation_share))
    if splitting.folds is None:
        return _draw(positives, np.ones(n, np.bool_), n_test, n_validation, rng)
    rest = _deal(positives, splitting.folds, rng) != (splitting.fold or 0)
    roles = _draw(positives, rest, 0, n_validation, rng)
    roles[~rest] = TEST
    return roles


def _draw(
    positives: NDArray[np.integer], among: Mask, n_test: int, n_validation: int, rng: np.random.Generator
) -> FoldArray:
    """Draw so many for the test and for validation in equal shares of every stratum; the others train."""
    roles, n, start = np.full(positives.size, TRAIN, np.int8), int(np.count_nonzero(among)), 0
    for stratum in _strata(positives, among, rng):
        end = start + stratum.size
        test, validation = (round(k * end / n) - round(k * start / n) for k in (n_test, n_validation))
        roles[stratum[:test]] = TEST
        roles[stratum[test : test + validation]] = VALIDATION
        start = end
    return roles


def _deal(positives: NDArray[np.integer], n_groups: int, rng: np.random.Generator) -> NDArray[np.integer]:
    """Group of each, 0 to n_groups − 1: as many in each group, but for one, and of every stratum."""
    group: NDArray[np.integer] = np.empty(positives.size, np.uint8 if n_groups <= 256 else np.uint16)
    dealt = 0
    for stratum in _strata(positives, np.ones(positives.size, np.bool_), rng):
        group[stratum] = (dealt + np.arange(stratum.size)) % n_groups
        dealt += stratum.size
    return group


def _strata(positives: NDArray[np.integer], among: Mask, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Positions of similar numbers of positives, shuffled, most first: positives gather on few genes."""
    size = max(STRATUM, int(np.count_nonzero(among)) // MAX_STRATA)
    waiting = np.zeros(0, np.int64)
    for part in _by_positives(positives, among, rng):
        waiting = np.concatenate([waiting, part])
        whole = waiting.size - waiting.size % size
        for start in range(0, whole, size):
            yield rng.permutation(waiting[start : start + size])
        waiting = waiting[whole:]
    if waiting.size:
        yield rng.permutation(waiting)


def _by_positives(positives: NDArray[np.integer], among: Mask, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Positions by falling number of positives, at random where it is level, in parts: sorting all would take all."""
    drawn = rng.random(positives.size)
    for value in _distinct(positives)[::-1].tolist():
        parts = -(-sum(np.count_nonzero(positives[some] == value) for some in blocks(positives.size)) // BLOCK)
        for part in range(parts):
            low, high = part / parts, (part + 1) / parts
            here = np.concatenate([
                np.flatnonzero(among[r] & (positives[r] == value) & (drawn[r] >= low) & (drawn[r] < high)) + r.start
                for r in blocks(positives.size)
            ])  # fmt: skip
            yield here[np.argsort(drawn[here], kind="stable")]


def _distinct(numbers: NDArray[np.integer]) -> NDArray[np.int64]:
    """The distinct numbers, ascending, without a copy of them all."""
    found = [np.unique(numbers[some]) for some in blocks(numbers.size)]
    return np.unique(np.concatenate(found)).astype(np.int64)


# ---------------------------------------------------------------- from genes to pairs


def folds_by_gene(pairs: Pairs, role: FoldArray, side: str) -> tuple[FoldArray, int]:
    """Fold of every pair, (P,) int8, from the roles of its genes; and the rows left out so that mirrors stay together.

    Parameters
    ----------
    role : (G,) int8
        `TRAIN`, `VALIDATION`, `TEST` or `UNUSED` for each gene of the matrix.
    side
        `regulator` or `target`: that gene decides. `both`: a test pair has two test genes, a training pair two training
        genes, a validation pair no test gene and at least one validation gene.
    """
    folds = np.empty(len(pairs), np.int8)
    for rows in blocks(len(pairs)):
        regulator, target = sides(pairs, rows)
        folds[rows] = _fold_of(role[regulator], role[target], side)
    if side == "both":  # which does not ask for the order of the genes, so that mirrors agree
        return folds, 0
    return folds, keep_mirrors_together(folds, pairs, role.size, _maybe_torn(pairs, role))


def _fold_of(regulator: FoldArray, target: FoldArray, side: str) -> FoldArray:
    if side != "both":
        return regulator if side == "regulator" else target
    low, high = np.minimum(regulator, target), np.maximum(regulator, target)
    return np.where((low == UNUSED) | ((high == TEST) & (low != TEST)), UNUSED, high).astype(np.int8)


def _maybe_torn(pairs: Pairs, role: FoldArray) -> NDArray[np.int64]:
    """Rows whose mirror may sit in another fold: of genes that differ in role, and are regulator here, target there."""
    regulates, targeted = np.zeros(role.size, np.bool_), np.zeros(role.size, np.bool_)
    for rows in blocks(len(pairs)):
        regulator, target = sides(pairs, rows)
        regulates[regulator], targeted[target] = True, True
    found = []
    for rows in blocks(len(pairs)):
        regulator, target = sides(pairs, rows)
        torn = (role[regulator] != role[target]) & regulates[target] & targeted[regulator]
        found.append(np.flatnonzero(torn) + rows.start)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def keep_mirrors_together(folds: FoldArray, pairs: Pairs, n_genes: int, rows: NDArray[np.int64]) -> int:
    """Make unused, in place, the rows whose mirror, also among them, is nearer to the test; returns how many."""
    coded = _unordered_keys(pairs, rows, n_genes) * 4 + (folds[rows] + 1)  # sorts by pair, then by fold
    ordered, left_out = np.sort(coded), 0
    for block in blocks(rows.size):
        last_of_pair = np.searchsorted(ordered, coded[block] | 3, side="right") - 1
        behind = coded[block] < ordered[last_of_pair]
        folds[rows[block][behind]] = UNUSED
        left_out += int(np.count_nonzero(behind & (coded[block] & 3 > 0)))
    return left_out
