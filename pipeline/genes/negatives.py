"""Which labelled pairs are kept as negatives: all, some at random, or partners of the positives swapped. Pure.

A gene that is often positive gives its pairs away without any expression. `matched` takes that away: the negatives are
the positives with their targets swapped among the regulators, so that on either side a gene is in as many negatives as
positives. It starts from the positives themselves and swaps the targets of two edges at random wherever this leaves no
fewer of them on free candidates, round after round, also when all are free: so the outcome is well mixed. A candidate
is free if it is labelled 0, is no edge the other way round either, and is not yet taken. A regulator of more than half
of the targets cannot be matched; how many edges were not is said.

Matched as a whole, the training labels under the `pair` split still tell a little, the wrong way round: a gene whose
positive went to the test has one positive less than negatives in training, so that labels alone score below 0.5.
Matched within each fold (`train --negatives matched`) they tell nothing at all under any split.
"""

from dataclasses import replace

import numba
import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.pairs import Candidates, Pairs, pair_keys
from pairscape.pipeline.options import PairSource, Stream

FORBIDDEN, FREE, TAKEN = np.uint8(0), np.uint8(1), np.uint8(2)
MIXING, ROUNDS = 30, 300  # rounds in any case, and at most while edges are left over
PARTNERS = 64  # proposals of a left-over edge in each round
Index = NDArray[np.int64]


def choose_negatives(found: Candidates, source: PairSource, n_genes: int, seed: int) -> Candidates:
    """The pairs with the negatives that were asked for; other negatives become unlabelled.

    Parameters
    ----------
    n_genes
        Genes of the matrix; gene indices lie below it.
    seed
        Of the draw.

    Raises
    ------
    InputError
        There are no positive or no negative pairs to choose by.
    """
    wanted = source.negatives_per_positive
    if source.negatives == "random" and wanted is None:
        return found
    pairs, rng = found.pairs, np.random.default_rng([seed, Stream.NEGATIVES])
    positive, negative = int((pairs.label > 0).sum()), int((pairs.label == 0).sum())
    if not positive or not negative:
        raise InputError(
            f"negatives are chosen by the positives, and of {len(pairs):,} candidates {positive:,} are positive and "
            f"{negative:,} negative; give labelled pairs with both."
        )
    if wanted is not None:
        rows, note = _drawn(pairs, wanted, rng)
    else:
        rows, note = matched(pairs, n_genes, rng)
    label = np.where(pairs.label == 0, np.int8(-1), pairs.label)
    label[rows] = 0
    return replace(found, pairs=replace(pairs, label=label), notes=(*found.notes, note))


def _drawn(pairs: Pairs, wanted: float, rng: np.random.Generator) -> tuple[Index, str]:
    zeros, positive = np.flatnonzero(pairs.label == 0), int((pairs.label > 0).sum())
    number = min(max(round(wanted * positive), 1), zeros.size)
    note = f"negatives: {number:,} of {zeros.size:,} at random, for {positive:,} positives"
    return np.sort(rng.choice(zeros, number, replace=False)), note


def matched(pairs: Pairs, n_genes: int, rng: np.random.Generator) -> tuple[Index, str]:
    """Rows of the matched negatives, ascending, and in words how many positives have one.

    Parameters
    ----------
    pairs
        Positive and negative ones.
    """
    edges = _edges(pairs, n_genes)
    source, target = edges // n_genes, edges % n_genes
    sources, at_source = np.unique(source, return_inverse=True)
    targets, at_target = np.unique(target, return_inverse=True)
    zeros = np.flatnonzero(pairs.label == 0)
    state = _free(pairs.take(zeros), edges, sources, targets, n_genes)
    swapped, placed = swap_partners(at_source, at_target, state, rng)
    chosen = pair_keys(sources[at_source[placed]], targets[swapped[placed]], n_genes)
    rows = zeros[np.isin(pair_keys(pairs.gene_a[zeros], pairs.gene_b[zeros], n_genes), chosen)]
    note = f"negatives: {rows.size:,} matched to {edges.size:,} positives by swapping partners"
    if left := int((~placed).sum()):
        worst = np.bincount(at_source[~placed])
        note += (f"; {left:,} could not be matched, most of them ({worst.max():,}) of one gene_a with "
                 f"{np.bincount(at_source)[worst.argmax()]:,} positives, as it has too few other partners")  # fmt: skip
    return rows, note


def _edges(pairs: Pairs, n_genes: int) -> Index:
    """Keys (regulator, target) of the positives, each once: label 2 without class names is one told from its target."""
    back = (pairs.label == 2) & (not pairs.class_names)
    forth = (pairs.label > 0) & ~back
    keys = pair_keys(pairs.gene_a[forth], pairs.gene_b[forth], n_genes)
    turned = pair_keys(pairs.gene_b[back], pairs.gene_a[back], n_genes)
    return np.unique(np.concatenate([keys, turned]))


def _free(zeros: Pairs, edges: Index, sources: Index, targets: Index, n_genes: int) -> NDArray[np.uint8]:
    """(sources, targets): `FREE` where a candidate is labelled 0 and is no edge in either direction."""
    turned = pair_keys(zeros.gene_b, zeros.gene_a, n_genes)
    useful = np.isin(zeros.gene_a, sources) & np.isin(zeros.gene_b, targets) & ~np.isin(turned, edges)
    state = np.full((sources.size, targets.size), FORBIDDEN)
    at = np.searchsorted(sources, zeros.gene_a[useful]), np.searchsorted(targets, zeros.gene_b[useful])
    state[at] = FREE
    return state


def swap_partners(
    source: Index, target: Index, state: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[Index, NDArray[np.bool_]]:
    """Swap the targets of edges until they lie on free places, each on its own.

    Parameters
    ----------
    source, target : (E,)
        Edges, as rows and columns of the state.
    state : (sources, targets) uint8
        Overwritten: free places become taken.

    Returns
    -------
    tuple
        Targets of the edges, (E,), a permutation of those given, and which edges found a place, (E,) bool.
    """
    target, placed = target.copy(), np.zeros(source.size, np.bool_)
    for turn in range(ROUNDS):
        left = np.flatnonzero(~placed)
        if turn >= MIXING and not left.size:
            break
        first = np.concatenate([rng.permutation(source.size), np.repeat(left, PARTNERS if turn >= MIXING else 0)])
        _swap(source, target, state, placed, first, rng.integers(source.size, size=first.size))
    return target, placed


@numba.njit(nogil=True, cache=True)
def _swap(source, target, state, placed, first, second):  # type: ignore[no-untyped-def]
    for k in range(first.size):
        i, j = first[k], second[k]
        a, b, c, d = source[i], target[i], source[j], target[j]
        if a == c or b == d:
            continue
        before = np.int64(placed[i]) + np.int64(placed[j])
        after = np.int64(state[a, d] == FREE) + np.int64(state[c, b] == FREE)
        if after < before:
            continue
        if placed[i]:
            state[a, b] = FREE
        if placed[j]:
            state[c, d] = FREE
        target[i], target[j] = d, b
        placed[i] = state[a, d] == FREE
        if placed[i]:
            state[a, d] = TAKEN
        placed[j] = state[c, b] == FREE
        if placed[j]:
            state[c, b] = TAKEN
