"""What a sample of pairs shows of its data and of a network's answer, and how far two samples are apart. Pure.

Six distances, each divided by what the training pairs have within themselves: by the distance of two halves of their
genes, with the pairs inside each. So 1 is what the choice of genes alone makes, whatever the quantity, and the number
of genes on either side is taken into account. `model.evaluation.measure` measures.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating[Any]]

QUANTILES = (np.arange(64) + 0.5) / 64


@dataclass(frozen=True, eq=False)
class Observed:
    """What a sample of pairs shows of the data and of the network's answer to them.

    Attributes
    ----------
    n_cells, n_genes, n_pairs
        Cells counted in every image, genes of the matrix, pairs of the sample.
    scale
        Rule of binning.
    noise
        Variance that the choice of genes gives to a mean over the pairs, up to a factor: 1/(distinct genes a) +
        1/(distinct genes b).
    depth
        Expressed genes of a cell, on average over the cells.
    dropout : (Q,)
        Share of cells in which a gene is not expressed: quantiles over both genes of all pairs.
    occupied : (Q,)
        Share of an image's bins that hold a cell: quantiles over the pairs.
    density, residual : (K, K)
        Mean image, as `model.networks.render` draws the channels `log` and `residual`.
    mean : (F,), covariance : (F, F)
        Of the features before the network's last dense layer.
    scores : (Q,)
        Log-odds of an edge at the prevalence of the training pairs: quantiles.
    """

    n_cells: int
    n_genes: int
    n_pairs: int
    scale: str
    noise: float
    depth: float
    dropout: Values
    occupied: Values
    density: Values
    residual: Values
    mean: Values
    covariance: Values
    scores: Values


@dataclass(frozen=True, eq=False)
class Reference:
    """What a network's training showed.

    Attributes
    ----------
    observed
        Of a sample of the training pairs.
    units
        Distance of two halves of their genes, by part.
    random
        Of random pairs of the training's matrix; None where its codes were gone.
    """

    observed: Observed
    units: Mapping[str, float]
    random: Observed | None = None


def quantiles(values: Values) -> NDArray[np.float32]:
    """(n,) values to (Q,) quantiles at even levels."""
    return np.quantile(np.asarray(values, np.float64), QUANTILES).astype(np.float32)


def earth_mover(a: Values, b: Values) -> float:
    """Wasserstein-1 distance of two distributions given by quantiles at the same levels, in the values' unit."""
    return float(np.abs(np.asarray(a, np.float64) - b).mean())


def root_mean_square(a: Values, b: Values) -> float:
    """Difference of two images, per bin."""
    return float(np.sqrt(np.square(np.asarray(a, np.float64) - b).mean()))


def frechet(a: Observed, b: Observed) -> float:
    """Wasserstein-2 distance of two normal distributions (Fréchet 1957), by their means and covariances."""
    root = _square_root(np.asarray(a.covariance, np.float64))
    shared = np.linalg.eigvalsh(root @ np.asarray(b.covariance, np.float64) @ root)
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(np.clip(shared, 0, None)).sum()
    between = np.square(np.asarray(a.mean, np.float64) - b.mean).sum()
    return math.sqrt(max(float(between + spread), 0.0))


def _square_root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)


DISTANCES: dict[str, Callable[[Observed, Observed], float]] = {
    "dropout": lambda a, b: earth_mover(a.dropout, b.dropout),
    "occupied": lambda a, b: earth_mover(a.occupied, b.occupied),
    "density": lambda a, b: root_mean_square(a.density, b.density),
    "residual": lambda a, b: root_mean_square(a.residual, b.residual),
    "embedding": frechet,
    "scores": lambda a, b: earth_mover(a.scores, b.scores),
}
FLOORS = {"dropout": 1e-3, "occupied": 1e-4, "density": 1e-4, "residual": 1e-3, "embedding": 1e-4, "scores": 1e-2}
"""Distances that nobody would call one: where halves are even closer, these are the units."""


def units(halves: Sequence[tuple[Observed, Observed]]) -> dict[str, float]:
    """Typical distance of two halves of the training genes, by part: root mean square over several divisions."""
    found = {name: [distance(*pair) for pair in halves] for name, distance in DISTANCES.items()}
    return {name: max(float(np.sqrt(np.square(each).mean())), FLOORS[name]) for name, each in found.items()}


def gene_noise(gene_a: NDArray[np.integer[Any]], gene_b: NDArray[np.integer[Any]]) -> float:
    """`Observed.noise` of pairs (n,)."""
    return float(1 / np.unique(gene_a).size + 1 / np.unique(gene_b).size)


def distances(there: Observed, here: Observed, reference: Reference) -> dict[str, float]:
    """Distances of two samples, by part, in the units of a reference.

    Two halves of the genes have twice the noise of the whole each, so the unit shrinks or grows with the noise of the
    two samples at hand.
    """
    sampling = math.sqrt((there.noise + here.noise) / (4 * reference.observed.noise))
    return {name: distance(there, here) / (reference.units[name] * sampling) for name, distance in DISTANCES.items()}
