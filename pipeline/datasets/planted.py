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
| opposite | the same |
| rising | linear or saturating, as a coin falls |
| falling | one of these two upside down |

A share `turned` of the thresholds and U-shapes stands upside down.

The c of the last two, near a half, is placed so that the covariance of the values is that of values dealt at random:
their Pearson correlation is distributed as it is between independent genes, although skewed values and zeros make
neither arm the other's mirror.

Every gene is in one planted pair at most, so the planted pairs are all there is: with an independent background each
other gene is dealt at random too. More pairs than half of the genes are made of copies of genes, dealt anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.datasets.columns import Stored, column_of, dense, joined, stored
from pairscape.pipeline.datasets.confounded import Confounded
from pairscape.pipeline.datasets.designs import Form, PlantedKind, Planting
from pairscape.pipeline.datasets.responses import Index, plant
from pairscape.pipeline.errors import InputError

LEAST_EXPRESSED = 0.25  # share of the cells that express a gene which is planted, where no number is asked for


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


def eligible_genes(expressing: Index, n_cells: int, planting: Planting) -> Index:
    """Genes that may be planted, ascending.

    Parameters
    ----------
    expressing : (G,)
        Number of cells that express each gene.

    Raises
    ------
    InputError
        Fewer than two genes are expressed in enough cells.
    """
    least = planting.min_expressing
    found = np.flatnonzero(expressing >= (LEAST_EXPRESSED * n_cells if least is None else least))
    if found.size < 2:
        enough = f"{LEAST_EXPRESSED:.0%} of the cells" if least is None else f"{least} of {n_cells:,} cells"
        raise InputError(
            f"{found.size} of {expressing.size:,} genes are expressed in {enough}, and of "
            "fewer cells no dependence can be seen; give other cells, or drop some genes and cells first."
        )
    return found


def deal_genes(eligible: Index, n_genes: int, planting: Planting, rng: np.random.Generator) -> Deal:
    """Pair genes at random, each once; where they run out, copies of them.

    Parameters
    ----------
    eligible : (E,)
        Genes that may be planted.
    n_genes
        Of the matrix.
    """
    each = eligible.size // 2
    rounds = -(-planting.planted_pairs // each)
    dealt = [rng.permutation(eligible)[: 2 * each].reshape(2, each) for _ in range(rounds)]
    parents = np.concatenate(dealt, axis=1)[:, : planting.planted_pairs]
    copies = parents[:, each:]
    driver, target = parents.copy()
    driver[each:], target[each:] = n_genes + np.arange(copies.size).reshape(copies.shape)
    kind = np.arange(planting.planted_pairs) % len(planting.kind_list)
    return Deal(np.concatenate([np.arange(n_genes), copies.ravel()]), driver, target, rng.permutation(kind))


def draw_forms(deal: Deal, planting: Planting, rng: np.random.Generator) -> list[Form]:
    """How the target of each planted pair answers its driver: what the kind leaves open is drawn."""
    number = deal.kind.size
    strengths = rng.uniform(*planting.strength_range, number)
    coins, turned = rng.random((2, number)) < [[0.5], [planting.turned]]
    kinds = [planting.kind_list[kind] for kind in deal.kind]
    drawn = zip(kinds, strengths.tolist(), coins.tolist(), turned.tolist(), strict=True)
    return [_form(*each) for each in drawn]


def _form(kind: PlantedKind, strength: float, coin: bool, turned: bool) -> Form:
    match kind:
        case "rising" | "falling":
            return Form("saturating" if coin else "linear", strength, kind == "falling")
        case "opposite":
            return Form("simpson", strength)
        case "threshold" | "u-shaped":
            return Form(kind, strength, turned)
    return Form(kind, strength)


def copy_names(names: Sequence[str], copies: Index) -> list[str]:
    """Names of the genes of the new matrix: a copy is named after its gene, with a number: `CD79A~2`.

    Parameters
    ----------
    names
        Genes of the matrix, which come first.
    copies : (C,)
        Gene that each copy is of.
    """
    known, made = set(names), list(names)
    count: dict[str, int] = {}
    for parent in copies:
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
    expression: sparse.csc_matrix,
    deal: Deal,
    forms: Sequence[Form],
    types: NDArray[np.bool_],
    stays: bool,
    rng: np.random.Generator,
) -> sparse.csc_matrix:
    """The matrix with planted pairs: (N, G) float32 → (N, G + copies) float32, values of each gene kept.

    Parameters
    ----------
    forms : (P,)
        Of the planted pairs.
    types : (N,) bool
        Of `split_types`.
    stays
        Whether drivers and genes that are not planted stay in their cells.
    """
    n_cells, n_genes = expression.shape
    columns: list[Stored] = [(np.empty(0, np.int32), np.empty(0, np.float32))] * deal.source.size
    for gene in np.setdiff1d(np.arange(deal.source.size), deal.target).tolist():  # drivers and background first
        column = column_of(expression, deal.source[gene])
        columns[gene] = stored(column if stays and gene < n_genes else rng.permutation(column))
    for target, driver, form in zip(deal.target.tolist(), deal.driver.tolist(), forms, strict=True):
        values = np.sort(column_of(expression, deal.source[target]))
        columns[target] = stored(plant(dense(columns[driver], n_cells), values, form, types, rng))
    return joined(columns, n_cells)


def truth(
    names: Sequence[str],
    deal: Deal,
    planting: Planting,
    rng: np.random.Generator,
    forms: Sequence[Form] = (),
    confounded: Confounded | None = None,
) -> pd.DataFrame:
    """The list of pairs that the store is read with: columns gene_a, gene_b, label, kind.

    Negatives pair each driver with the targets of other pairs, so that every gene is in one positive and in equally
    many negatives: who is paired with whom says nothing. Directed, a positive is listed both ways, as CNNC does: label
    1 from driver to target, 2 from target to driver.

    Parameters
    ----------
    forms : (P,)
        Of the planted pairs, for a column `strength`, which is 0 where nothing is planted. Absent: no such column.
    confounded
        Further negatives, of the last genes, for a column `confounded`: "" of other pairs. Absent: no such column.
    """
    number, shifts = deal.driver.size, planting.negatives_per_positive
    kinds = np.array(planting.kind_list)[deal.kind]
    strength = np.array([form.strength for form in forms]) if forms else np.zeros(number)
    order = rng.permutation(number)
    others = [order[(np.arange(number) + s) % number] for s in rng.permutation(np.arange(1, number))[:shifts]]
    planted = {"label": 1, "kind": kinds, "strength": strength, "confounded": ""}
    none = {"label": 0, "kind": "none", "strength": 0.0, "confounded": ""}
    positive = pd.DataFrame({"gene_a": deal.driver, "gene_b": deal.target} | planted)
    turned = pd.DataFrame({"gene_a": deal.target, "gene_b": deal.driver} | planted | {"label": 2})
    negative = pd.DataFrame({
        "gene_a": np.tile(deal.driver[order], shifts), "gene_b": deal.target[np.concatenate(others)],
    } | none)  # fmt: skip
    parts = [positive, turned, negative] if planting.directed else [positive, negative]
    if confounded is not None:
        gene_a, gene_b = np.arange(len(names) - confounded.source.size, len(names)).reshape(-1, 2).T
        shifted = none | {"strength": confounded.strength, "confounded": confounded.by}
        parts.append(pd.DataFrame({"gene_a": gene_a, "gene_b": gene_b} | shifted))
    unasked = [name for name, there in (("strength", forms), ("confounded", confounded is not None)) if not there]
    table = pd.concat(parts, ignore_index=True).drop(columns=unasked)
    named = np.array(names, object)
    return table.assign(gene_a=named[table["gene_a"]], gene_b=named[table["gene_b"]])
