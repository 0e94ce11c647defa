"""Negatives that correlate all the same: two genes that groups of cells shift together, independent within each. Pure.

Each gene of such a pair keeps its values, which are dealt by a score of its own, as a target's are:

    strength · z(level of the cell's group) + sqrt(1 − strength²) · normal noise.

The two genes share the levels, of which the second takes the negative in half of the pairs; their noises are
independent. Hidden groups are drawn for each pair: two to six of unlike sizes. Groups that are given have a normal
level each; strata of depth, which are ordered, their number, and shift both genes upwards, as depth does.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.datasets.columns import column_of, joined, stored
from pairscape.pipeline.datasets.responses import Index, Real, deal_by, standardised

HIDDEN_GROUPS = (2, 7)  # from, and below
EVENNESS = 3.0  # of the Dirichlet distribution of the groups' shares


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of the cells that a user names.

    Attributes
    ----------
    code : (N,) int64
        Of each cell, from 0.
    ordered
        Whether a higher number means more of what shifts the genes.
    """

    code: Index
    ordered: bool


@dataclass(frozen=True, eq=False)
class Confounded:
    """Confounded pairs, of two genes each that are in no other pair.

    Attributes
    ----------
    source : (2, C) int64
        Genes of the matrix whose values they have.
    by : (C,) str
        `hidden` or `given`: the groups that shift the pair.
    strength : (C,) float64
        Share of the standard deviation of each gene's score that comes from its group.
    """

    source: Index
    by: NDArray[np.str_]
    strength: Real


def draw_confounded(
    eligible: Index, number: int, given: bool, strengths: tuple[float, float], rng: np.random.Generator
) -> Confounded:
    """Confounded pairs of two different genes each, drawn at random, every second of given groups if there are any.

    Parameters
    ----------
    eligible : (E,)
        Genes that may be planted; two or more.
    number
        How many pairs, C.
    strengths
        The range that strengths are drawn from.
    """
    first = rng.integers(eligible.size, size=number)
    second = (first + rng.integers(1, eligible.size, size=number)) % eligible.size
    by = np.where(given & (np.arange(number) % 2 == 1), "given", "hidden")
    return Confounded(eligible[np.stack([first, second])], by, rng.uniform(*strengths, number))


def confound(
    expression: sparse.csc_matrix, pairs: Confounded, groups: Groups | None, rng: np.random.Generator
) -> sparse.csc_matrix:
    """The genes of confounded pairs: (N, G) float32 → (N, 2C) float32, pair by pair, values of each gene kept."""
    columns = []
    for source, by, strength in zip(pairs.source.T, pairs.by, pairs.strength, strict=True):
        shifts = _shifts(groups if by == "given" else None, expression.shape[0], rng)
        for gene, shift in zip(source.tolist(), shifts, strict=True):
            noise = np.sqrt(1 - strength**2) * rng.standard_normal(shift.size)
            columns.append(stored(deal_by(strength * shift + noise, np.sort(column_of(expression, gene)))))
    return joined(columns, expression.shape[0])


def _shifts(groups: Groups | None, n_cells: int, rng: np.random.Generator) -> tuple[Real, Real]:
    """What the groups of a pair add to the scores of its two genes, (N,) each."""
    if groups is None:
        number = int(rng.integers(*HIDDEN_GROUPS))
        groups = Groups(rng.choice(number, n_cells, p=rng.dirichlet(np.full(number, EVENNESS))), ordered=False)
    if groups.ordered:
        shift = standardised(groups.code.astype(np.float64))
        return shift, shift
    shift = standardised(rng.standard_normal(int(groups.code.max()) + 1)[groups.code])
    return shift, shift if rng.random() < 0.5 else -shift
