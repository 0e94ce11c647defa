"""A sample of pairs with their images: rows of an image store, or random pairs of a matrix, counted for the purpose."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pairscape.model.batches.order import Rows
from pairscape.model.networks.classifier import PairClassifier, describe_batch, describe_genes, surroundings
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.count import count_pairs
from pairscape.pipeline.heatmaps.images import Images, counted_codes
from pairscape.pipeline.heatmaps.read import read_images

SAMPLE = 4096  # pairs
RANDOM_PAIRS = 1024  # of a matrix: they tell levels apart, and deepdrim describes both genes of each

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class CountedPairs:
    """A sample of pairs with their images, from a store or just counted.

    Attributes
    ----------
    gene_a, gene_b : (n,) integers
        Genes of the matrix.
    counts : (n, bins, bins), both_zero : (n,)
        Joint counts, and cells in which neither gene is expressed.
    dropout : (G,)
        Share of cells without expression, of every gene of the matrix.
    n_cells, scale
        Of the codes that were counted.
    describe
        For a network that `knows_genes`: positions in the sample to (B, 2, F). Absent: it does not.
    """

    gene_a: NDArray[np.integer[Any]]
    gene_b: NDArray[np.integer[Any]]
    counts: NDArray[np.integer[Any]]
    both_zero: NDArray[np.integer[Any]]
    dropout: Floats
    n_cells: int
    scale: str
    describe: Callable[[slice], Tensor | None] = lambda _: None

    @classmethod
    def of_rows(cls, images: Images, rows: Rows, classifier: PairClassifier) -> "CountedPairs":
        """Rows (ascending) of an image store."""
        around = surroundings(classifier, images)
        device, row, pairs = device_of(classifier), torch.from_numpy(rows), images.pairs()
        return cls(
            pairs.gene_a[rows], pairs.gene_b[rows], *read_images(images, rows), images.array("dropout"),
            images.spec.n_cells, images.spec.binning.scale,
            lambda some: describe_batch(classifier, around, row[some], device),
        )  # fmt: skip

    @classmethod
    def at_random(cls, codes: Codes, classifier: PairClassifier, seed: int) -> "CountedPairs":
        """Random pairs of the genes of a matrix of two genes or more, the first of each pair before the second."""
        rng = np.random.default_rng([seed, 12])
        one = rng.integers(0, codes.n_genes, RANDOM_PAIRS)
        other = (one + rng.integers(1, codes.n_genes, RANDOM_PAIRS)) % codes.n_genes
        gene_a, gene_b = np.minimum(one, other), np.maximum(one, other)
        order = np.lexsort((gene_b, gene_a))
        gene_a, gene_b = gene_a[order], gene_b[order]
        made = cls(
            gene_a, gene_b, *count_pairs(codes, gene_a, gene_b), codes.array("dropout"), codes.n_cells,
            codes.binning.scale,
        )  # fmt: skip
        return replace(made, describe=_described(codes, classifier, np.stack([gene_a, gene_b], axis=1)))


def _described(codes: Codes, classifier: PairClassifier, genes: NDArray[np.int64]) -> Callable[[slice], Tensor | None]:
    """`CountedPairs.describe` of pairs, (n, 2) genes."""
    if not classifier.knows_genes:
        return lambda _: None
    device, gene = device_of(classifier), np.unique(genes)
    described = torch.from_numpy(describe_genes(classifier, codes, gene, device)).to(device)
    place = torch.from_numpy(np.searchsorted(gene, genes)).to(device)
    return lambda some: described[place[some]]


def device_of(classifier: PairClassifier) -> torch.device:
    """Where a classifier lies."""
    return next(classifier.parameters()).device


def sample_rows(rows: Rows, seed: int) -> Rows:
    """Some of the rows at random, ascending, or all if they are few."""
    if rows.size <= SAMPLE:
        return rows
    return np.sort(np.random.default_rng([seed, 9]).choice(rows, SAMPLE, replace=False))


def codes_at_hand(images: Images) -> Codes | None:
    """The codes that a store was counted from; None where they are gone."""
    try:
        return counted_codes(images, "random pairs are counted from them", otherwise="do without")
    except InputError:
        return None
