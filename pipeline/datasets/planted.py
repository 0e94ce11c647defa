"""Known truth in real cells: a gene's values dealt to other cells, so that chosen pairs depend on each other. Pure.

Nothing is drawn but the order: every gene keeps the very values it had, zeros included, so its mean, its dropout and
its whole distribution are real. In a planted pair the driver's values lie anywhere; the target's are dealt by a score,

    strength · z(response(driver)) + sqrt(1 − strength²) · normal noise,

the highest value to the cell of the highest score. Cells in which the driver is tied, above all those that do not
express it, are told apart by the noise alone. The kinds are responses:

| kind | response to the driver |
|---|---|
| linear | its value |
| saturating | value / (value + a quarter of the median expressed value) |
| threshold | a step at the median expressed value |
| exclusive | off where the driver is on: above its median, which is 0 where most cells do not express it |
| u-shaped | the distance of its rank from a centre c |
| simpson | its rank, upwards with slope 2 − 2c in half of the cells (type A), downwards with 2c in the rest (type B) |

The c of the last two, near a half, is placed so that the covariance of the values is that of values dealt at random:
their Pearson correlation is distributed as it is between independent genes, although skewed values and zeros make
neither arm the other's mirror.

Every gene is in one planted pair at most, so the planted pairs are all there is: with an independent background each
other gene is dealt at random too. More pairs than half of the genes are made of copies of genes, dealt anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import rankdata

from pairscape.pipeline.datasets.designs import Kind, Planting
from pairscape.pipeline.errors import InputError

Real = NDArray[np.float64]
Values = NDArray[np.floating[Any]]
Index = NDArray[np.int64]

LEAST_CELLS = 50  # below, no dependence can be seen
LEAST_EXPRESSED = 0.25  # share of the cells that express a gene which is planted
CENTRED = ("u-shaped", "simpson")
CENTRE_STEPS = 20  # halvings of [0, 1]


@dataclass(frozen=True, eq=False)
class Deal:
    """Which genes are planted in which pair.

    Attributes
    ----------
    source : (G,) int64
        Gene of the matrix whose values a gene of the new one has: first every gene itself, then the copies.
    driver, target : (P,) int64
        Planted pairs, as genes of the new matrix; no gene is in two.
    kind : (P,) int64
        Of each pair, as a position in the kinds asked for.
    """

    source: Index
    driver: Index
    target: Index
    kind: Index


def deal_genes(expressed: Real, planting: Planting, rng: np.random.Generator) -> Deal:
    """Pair genes at random, each once; where they run out, copies of them.

    Parameters
    ----------
    expressed : (G,)
        Share of the cells that express each gene.

    Raises
    ------
    InputError
        Fewer than two genes are expressed in enough cells.
    """
    eligible = np.flatnonzero(expressed >= LEAST_EXPRESSED)
    each = eligible.size // 2
    if not each:
        raise InputError(
            f"{eligible.size} of {expressed.size:,} genes are expressed in {LEAST_EXPRESSED:.0%} of the cells, and of "
            "fewer cells no dependence can be seen; give other cells, or drop some genes and cells first."
        )
    rounds = -(-planting.planted_pairs // each)
    dealt = [rng.permutation(eligible)[: 2 * each].reshape(2, each) for _ in range(rounds)]
    parents = np.concatenate(dealt, axis=1)[:, : planting.planted_pairs]
    copies = parents[:, each:]
    driver, target = parents.copy()
    driver[each:], target[each:] = expressed.size + np.arange(copies.size).reshape(copies.shape)
    kind = np.arange(planting.planted_pairs) % len(planting.kind_list)
    return Deal(np.concatenate([np.arange(expressed.size), copies.ravel()]), driver, target, rng.permutation(kind))


def copy_names(names: Sequence[str], deal: Deal) -> list[str]:
    """Names of the genes of the new matrix: a copy is named after its gene, with a number: `CD79A~2`."""
    known, made = set(names), list(names)
    count: dict[str, int] = {}
    for parent in deal.source[len(names) :]:
        name = names[parent]
        count[name] = count.get(name, 1) + 1
        while f"{name}~{count[name]}" in known:
            count[name] += 1
        made.append(f"{name}~{count[name]}")
    return made


def split_types(n_cells: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Two types of cells at random, as even as can be, (N,): whether a cell is of type A."""
    return np.asarray(rng.permutation(n_cells) < n_cells // 2)


def replant(
    expression: sparse.csc_matrix, deal: Deal, planting: Planting, types: NDArray[np.bool_], rng: np.random.Generator
) -> sparse.csc_matrix:
    """The matrix with planted pairs: (N, G) float32 → (N, G + copies) float32, values of each gene kept.

    Parameters
    ----------
    types : (N,) bool
        Of `split_types`.
    """
    pair_of = np.full(deal.source.size, -1)
    pair_of[deal.target] = np.arange(deal.target.size)
    columns: dict[int, Values] = {}
    for gene in np.flatnonzero(pair_of < 0).tolist():  # drivers and background first
        column = _column(expression, deal.source[gene])
        stays = planting.background == "real" and gene < expression.shape[1]
        columns[gene] = column if stays else rng.permutation(column)
    for gene in deal.target.tolist():
        pair = pair_of[gene]
        kind, values = planting.kind_list[deal.kind[pair]], np.sort(_column(expression, deal.source[gene]))
        columns[gene] = plant(columns[deal.driver[pair]], values, kind, planting.strength, types, rng)
    return sparse.hstack([sparse.csc_matrix(columns[gene][:, None]) for gene in range(deal.source.size)], format="csc")


def _column(expression: sparse.csc_matrix, gene: int) -> Values:
    entries = slice(expression.indptr[gene], expression.indptr[gene + 1])
    column = np.zeros(expression.shape[0], np.float32)
    column[expression.indices[entries]] = expression.data[entries]
    return column


def plant(
    driver: Values, values: Values, kind: Kind, strength: float, types: NDArray[np.bool_], rng: np.random.Generator
) -> Values:
    """Deal the target's values to the cells so that they depend on the driver.

    Parameters
    ----------
    driver : (N,)
        The driver's value in each cell.
    values : (N,)
        The target's, ascending.
    types : (N,) bool
        Whether a cell is of type A.
    """
    noise = rng.standard_normal(driver.size)

    def dealt(centre: float) -> Values:
        score = strength * _response(driver, kind, centre, types) + np.sqrt(1 - strength**2) * noise
        result = np.empty_like(values)
        result[np.argsort(score)] = values
        return result

    return dealt(_centre(driver, dealt, rng.permutation(values)) if kind in CENTRED else 0.0)


def _response(driver: Values, kind: Kind, centre: float, types: NDArray[np.bool_]) -> Real:
    """Response of a kind, (N,), scaled to mean 0 and variance 1."""
    expressed = driver[driver > 0]
    rank = (rankdata(driver) - 0.5) / driver.size
    middle = np.median(expressed)
    responses: dict[Kind, NDArray[Any]] = {
        "linear": driver,
        "saturating": driver / (driver + middle / 4),
        "threshold": driver > middle,
        "exclusive": driver <= np.median(driver),
        "u-shaped": np.abs(rank - centre),
        "simpson": (rank - 0.5) * (np.where(types, 2, 0) - 2 * centre),
    }
    response = responses[kind].astype(np.float64)
    response -= response.mean()
    spread = response.std()
    return np.asarray(response / spread if spread > 0 else response)


def _centre(driver: Values, dealt: Callable[[float], Values], independent: Values) -> float:
    """The c in [0, 1] at which the target's covariance with the driver is that of independent values."""
    deviation = driver.astype(np.float64) - driver.mean()
    goal, low, high = deviation @ independent, 0.0, 1.0
    for _ in range(CENTRE_STEPS):
        centre = (low + high) / 2
        low, high = (centre, high) if deviation @ dealt(centre) > goal else (low, centre)
    return (low + high) / 2


def truth(names: Sequence[str], deal: Deal, planting: Planting, rng: np.random.Generator) -> pd.DataFrame:
    """The list of pairs that the store is read with: columns gene_a, gene_b, label, kind.

    Negatives pair each driver with the targets of other pairs, so that every gene is in one positive and in equally
    many negatives: who is paired with whom says nothing. Directed, a positive is listed both ways, as CNNC does: label
    1 from driver to target, 2 from target to driver.
    """
    number, shifts = deal.driver.size, planting.negatives_per_positive
    kinds = np.array(planting.kind_list)[deal.kind]
    order = rng.permutation(number)
    others = [order[(np.arange(number) + s) % number] for s in rng.permutation(np.arange(1, number))[:shifts]]
    positive = pd.DataFrame({"gene_a": deal.driver, "gene_b": deal.target, "label": 1, "kind": kinds})
    turned = pd.DataFrame({"gene_a": deal.target, "gene_b": deal.driver, "label": 2, "kind": kinds})
    negative = pd.DataFrame({
        "gene_a": np.tile(deal.driver[order], shifts), "gene_b": deal.target[np.concatenate(others)],
        "label": 0, "kind": "none",
    })  # fmt: skip
    parts = [positive, turned, negative] if planting.directed else [positive, negative]
    table = pd.concat(parts, ignore_index=True)
    named = np.array(names, object)
    return table.assign(gene_a=named[table["gene_a"]], gene_b=named[table["gene_b"]])
