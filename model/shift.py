"""How far new data are from those a network was trained on, in words that say what to trust. Pure.

Six distances between what was measured on a sample of the new pairs and of the training pairs, each divided by what the
training sample has within itself: by the distance of two halves of its genes, with the pairs inside each. So 1 is what
the choice of genes alone makes, whatever the quantity, and the number of genes on either side is taken into account.
`model.reference` measures.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Level = Literal["like", "shifted", "unlike"]
Values = NDArray[np.floating[Any]]

TONES = {"like": "good", "shifted": "fair", "unlike": "poor"}
QUANTILES = (np.arange(64) + 0.5) / 64
SHIFTED, UNLIKE = 3.0, 12.0  # times the distance of two halves; measured: docs/models.md
UNCOMPARED = (
    "This run has no reference.safetensors (an earlier version trained it, or the file was left behind), so nobody can "
    "say whether the new data are like its training's."
)
FEWER_CELLS = 2.0  # times as many or as few cells, from which it is said
OTHER_DENSITY = 1.25  # times as many or as few expressed genes


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
        Mean image, as `model.render` draws the channels `log` and `residual`.
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
    """What the training pairs show, and the distance of two halves of their genes, by part."""

    observed: Observed
    units: Mapping[str, float]


@dataclass(frozen=True)
class Part:
    """One of the comparisons.

    Attributes
    ----------
    name
        What is compared, in words.
    training, here
        A figure of either side that a reader can picture; empty where there is none.
    times
        The distance in units of that of two halves of the training genes; for cells and depth, the ratio of here to
        training.
    """

    name: str
    training: str
    here: str
    times: float


@dataclass(frozen=True)
class Shift:
    """How far the new data are from those of the training.

    Attributes
    ----------
    overall
        Root mean square of the distances in their units: 1 is what the choice of genes alone makes.
    level
        What that means: `like`, `shifted` or `unlike`.
    sentence
        The same in plain words, with what differs.
    parts
        By key: each comparison.
    """

    overall: float
    level: Level
    sentence: str
    parts: Mapping[str, Part]

    def facts(self) -> dict[str, Any]:
        """What `metrics.json` and a file of scores keep under "shift"."""
        parts = {key: asdict(part) for key, part in self.parts.items()}
        return {"overall": self.overall, "level": self.level, "sentence": self.sentence, "parts": parts}


# ---------------------------------------------------------------- distances


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


# ---------------------------------------------------------------- the verdict


def compare(reference: Reference, here: Observed) -> Shift:
    """Compare a sample of new pairs with the training's.

    Two halves of the genes have twice the noise of the whole each, so the unit shrinks or grows with the noise of the
    two samples at hand.
    """
    there = reference.observed
    sampling = math.sqrt((there.noise + here.noise) / (4 * there.noise))
    times = {name: distance(there, here) / (reference.units[name] * sampling) for name, distance in DISTANCES.items()}
    overall = math.sqrt(sum(value**2 for value in times.values()) / len(times))
    level: Level = "like" if overall < SHIFTED else "shifted" if overall < UNLIKE else "unlike"
    return Shift(overall, level, _sentence(level, _differences(there, here, times)), _parts(there, here, times))


def _parts(there: Observed, here: Observed, times: Mapping[str, float]) -> dict[str, Part]:
    def part(key: str, name: str, told: Callable[[Observed], str]) -> Part:
        return Part(name, told(there), told(here), times[key])

    return {
        "cells": Part("cells", f"{there.n_cells:,}", f"{here.n_cells:,}", here.n_cells / there.n_cells),
        "depth": Part("expressed genes a cell", f"{there.depth:,.0f} of {there.n_genes:,}",
                      f"{here.depth:,.0f} of {here.n_genes:,}", here.depth / max(there.depth, 1e-9)),
        "dropout": part("dropout", "cells without a gene", lambda o: f"{_mean(o.dropout):.1%}"),
        "occupied": part("occupied", "occupied bins of an image", lambda o: f"{_mean(o.occupied):.1%}"),
        "density": part("density", "mean image, density", lambda _: ""),
        "residual": part("residual", "mean image, dependence", lambda _: ""),
        "embedding": part("embedding", "what the network sees", lambda _: ""),
        "scores": part("scores", "scores, median", lambda o: f"{1 / (1 + math.exp(-_median(o.scores))):.2g}"),
    }  # fmt: skip


def _differences(there: Observed, here: Observed, times: Mapping[str, float]) -> list[str]:
    """What differs, in words, the plainest causes first."""
    found = []
    if here.scale != there.scale:
        found.append(f"is binned by the rule {here.scale}, not {there.scale}")
    cells = here.n_cells / there.n_cells
    if max(cells, 1 / cells) >= FEWER_CELLS:
        found.append(f"has {_ratio(cells)} times the cells ({here.n_cells:,} against {there.n_cells:,})")
    expressed, before = 1 - _mean(here.dropout), 1 - _mean(there.dropout)
    if times["dropout"] >= SHIFTED and max(expressed, before) >= OTHER_DENSITY * min(expressed, before):
        more = "more" if expressed < before else "less"
        found.append(f"has {more} dropout (a gene is expressed in {expressed:.1%} of the cells, not {before:.1%})")
    if not found:
        worst = max(times, key=lambda name: times[name])
        found.append(f"differs most in {WORDS[worst]}")
    return found


WORDS = {
    "dropout": "the dropout of its genes",
    "occupied": "how many bins its images fill",
    "density": "the average density of its images",
    "residual": "the average dependence that its images show",
    "embedding": "what the network sees in its images",
    "scores": "the scores that the network gives",
}


def _sentence(level: Level, differences: Sequence[str]) -> str:
    if level == "like":
        return "The new matrix is like the training one: scores mean what they meant there."
    told = ", ".join(differences[:-1]) + " and " * (len(differences) > 1) + differences[-1]
    if level == "shifted":
        return f"The new matrix {told}: scores may rank well, but probabilities are not to be trusted."
    return (
        f"The new matrix is unlike the training one: it {told}; neither the ranking nor the probabilities are to be "
        "trusted before pairs of known answer were scored."
    )


def _ratio(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _mean(values: Values) -> float:
    return float(np.mean(values, dtype=np.float64))


def _median(values: Values) -> float:
    return float(np.median(values))


# ---------------------------------------------------------------- for terminal and report


def shift_lines(facts: Mapping[str, Any] | None) -> list[str]:
    """Sentences for the terminal and a report from what is kept under "shift"; nothing where nothing was compared."""
    if not facts:
        return []
    return [
        facts["sentence"],
        f"Distance from the training data: {facts['overall']:.1f}, where 1 is what another choice of genes of the same "
        f"matrix makes; like the training below {SHIFTED:g}, unlike it from {UNLIKE:g}.",
    ]


def shift_words(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The same for a report: `sentence`, `overall`, `tone`, and `rows` of the parts as text; None where nothing was
    compared.
    """
    if not facts:
        return None
    rows = [
        {**{key: part[key] for key in ("name", "training", "here")}, "times": f"{part['times']:.2g} ×"}
        for part in facts["parts"].values()
    ]
    sentence, distance = shift_lines(facts)
    return {"sentence": sentence, "overall": distance, "tone": TONES[facts["level"]], "rows": rows}
