"""How far candidate pairs are from the training pairs of a network, and what that means for their scores. Pure.

In come the figures of two samples (`PairStatistics`), out comes a `Shift`. Six distances are each divided by the
distance of two halves of the training genes: 1 is what another choice of genes makes, whatever the quantity and the
number of genes on either side. The verdict is about the candidates. Where they differ, random pairs of both matrices
are compared too, which tells a choice of candidates (the positives, one gene with all others) from another matrix.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import BinningRule

Values = NDArray[np.floating[Any]]
Level = Literal["like", "shifted", "unlike"]

QUANTILES = (np.arange(64) + 0.5) / 64
TONES = {"like": "good", "shifted": "fair", "unlike": "poor"}
SHIFTED, UNLIKE = 3.0, 12.0  # times the distance of two halves; measured: docs/models.md
FEWER_CELLS = 2.0  # times as many or as few cells, from which the number is named as a difference
OTHER_DENSITY = 1.25  # times as many or as few expressed genes, likewise
UNCOMPARED = (
    "How far these data are from those of the training is not known: the run has no reference.safetensors (several "
    "stores were trained on, or the file did not come along)."
)


@dataclass(frozen=True, eq=False)
class PairStatistics:
    """Figures of a sample of pairs: of the data, and of a network's answer to them.

    Attributes
    ----------
    n_cells, n_genes, n_pairs
        Cells counted in every image, genes of the matrix, pairs of the sample.
    scale
        Rule of binning.
    noise
        Variance that the choice of genes gives to a mean over the pairs, up to a factor: see `gene_noise`.
    depth
        Expressed genes of a cell, on average over the cells.
    dropout : (Q,)
        Share of cells in which a gene is not expressed: quantiles over both genes of all pairs.
    occupied : (Q,)
        Share of an image's bins that hold a cell: quantiles over the pairs.
    density, residual : (K, K)
        Mean image in the channels `log` and `residual` of `model.networks.render`.
    mean : (F,), covariance : (F, F)
        Of the features before the network's last dense layer.
    scores : (Q,)
        Log-odds of an edge at the prevalence of the training pairs: quantiles.

    Raises
    ------
    InputError
        A number is of another type or out of its range.
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

    def __post_init__(self) -> None:
        rules = get_args(BinningRule)
        for name in ("n_cells", "n_genes", "n_pairs"):
            value = getattr(self, name)
            self._require(type(value) is int and value > 0, name, f"a number of {name.removeprefix('n_')}")
        self._require(self.scale in rules, "scale", f"a rule of binning ({', '.join(rules)})")
        self._require(_is_positive(self.noise), "noise", "a variance above 0")
        self._require(_is_positive(self.depth), "depth", "a number of expressed genes above 0")

    def _require(self, good: bool, name: str, what: str) -> None:
        if not good:
            raise InputError(f"{name} is {getattr(self, name)!r}, not {what}")


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


@dataclass(frozen=True, eq=False)
class Reference:
    """Figures of the training pairs of a network.

    Attributes
    ----------
    training
        Of a sample of the training pairs.
    units
        Distance of two halves of their genes, by quantity.
    random
        Of random pairs of the training's matrix; None where its codes were gone.

    Raises
    ------
    InputError
        A unit is missing, or no distance above 0.
    """

    training: PairStatistics
    units: Mapping[str, float]
    random: PairStatistics | None = None

    def __post_init__(self) -> None:
        units = self.units
        if not isinstance(units, dict) or set(units) != set(DISTANCES) or not all(map(_is_positive, units.values())):
            raise InputError(f"units is {units!r}, not a distance above 0 for each of {', '.join(DISTANCES)}")


def quantiles(values: Values) -> NDArray[np.float32]:
    """(n,) values to (Q,) quantiles at even levels."""
    return np.quantile(np.asarray(values, np.float64), QUANTILES).astype(np.float32)


def earth_mover(a: Values, b: Values) -> float:
    """Wasserstein-1 distance of two distributions given by quantiles at the same levels, in the values' unit."""
    return float(np.abs(np.asarray(a, np.float64) - b).mean())


def root_mean_square(a: Values, b: Values) -> float:
    """Difference of two images, per bin."""
    return float(np.sqrt(np.square(np.asarray(a, np.float64) - b).mean()))


def frechet(a: PairStatistics, b: PairStatistics) -> float:
    """Wasserstein-2 distance of two normal distributions (Fréchet 1957), by their means and covariances."""
    root = _square_root(np.asarray(a.covariance, np.float64))
    shared = np.linalg.eigvalsh(root @ np.asarray(b.covariance, np.float64) @ root)
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(np.clip(shared, 0, None)).sum()
    between = np.square(np.asarray(a.mean, np.float64) - b.mean).sum()
    return math.sqrt(max(float(between + spread), 0.0))


def _square_root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)


DISTANCES: dict[str, Callable[[PairStatistics, PairStatistics], float]] = {
    "dropout": lambda a, b: earth_mover(a.dropout, b.dropout),
    "occupied": lambda a, b: earth_mover(a.occupied, b.occupied),
    "density": lambda a, b: root_mean_square(a.density, b.density),
    "residual": lambda a, b: root_mean_square(a.residual, b.residual),
    "embedding": frechet,
    "scores": lambda a, b: earth_mover(a.scores, b.scores),
}
FLOORS = {"dropout": 1e-3, "occupied": 1e-4, "density": 1e-4, "residual": 1e-3, "embedding": 1e-4, "scores": 1e-2}
"""The smallest units: where halves are even closer, their distance is rounding."""


def units(halves: Sequence[tuple[PairStatistics, PairStatistics]]) -> dict[str, float]:
    """Distance of two halves of the training genes, by quantity: root mean square over several divisions."""
    found = {name: [distance(*pair) for pair in halves] for name, distance in DISTANCES.items()}
    return {name: max(float(np.sqrt(np.square(each).mean())), FLOORS[name]) for name, each in found.items()}


def gene_noise(gene_a: NDArray[np.integer[Any]], gene_b: NDArray[np.integer[Any]]) -> float:
    """1/(distinct genes a) + 1/(distinct genes b) of pairs (n,)."""
    return float(1 / np.unique(gene_a).size + 1 / np.unique(gene_b).size)


def distances(there: PairStatistics, here: PairStatistics, reference: Reference) -> dict[str, float]:
    """Distances of two samples, by quantity, in the units of a reference.

    Each of two halves of the genes has twice the noise of the whole, so the unit is scaled by the noise of both
    samples.
    """
    sampling = math.sqrt((there.noise + here.noise) / (4 * reference.training.noise))
    return {name: distance(there, here) / (reference.units[name] * sampling) for name, distance in DISTANCES.items()}


# ---------------------------------------------------------------- the verdict


@dataclass(frozen=True)
class Comparison:
    """One quantity of both samples.

    Attributes
    ----------
    name
        In words.
    training, here
        Its value on either side as text; empty where there is no single figure.
    times
        The distance in units of that of two halves of the training genes; for cells and depth, the ratio of here to
        training.
    random
        The distance of random pairs of either matrix, in the same units; None where they were not compared, and for
        cells and depth.
    """

    name: str
    training: str
    here: str
    times: float
    random: float | None = None


@dataclass(frozen=True)
class Verdict:
    """The distances of two samples together.

    Attributes
    ----------
    overall
        Root mean square of the distances in their units: 1 is what the choice of genes alone makes.
    level
        `like`, `shifted` or `unlike`.
    """

    overall: float
    level: Level

    @classmethod
    def of(cls, times: Mapping[str, float]) -> "Verdict":
        """From the distances by quantity."""
        overall = math.sqrt(sum(value**2 for value in times.values()) / len(times))
        return cls(overall, "like" if overall < SHIFTED else "shifted" if overall < UNLIKE else "unlike")


@dataclass(frozen=True)
class Shift:
    """How far candidates are from the pairs of the training.

    Attributes
    ----------
    candidates
        The verdict on them.
    random
        That on random pairs of either matrix; None where they were not compared.
    sentence
        Both in plain words, with what differs.
    parts
        The comparisons by key.
    """

    candidates: Verdict
    random: Verdict | None
    sentence: str
    parts: Mapping[str, Comparison]

    def facts(self) -> dict[str, Any]:
        """For "shift" in `metrics.json` and in a file of scores."""
        return {
            **asdict(self.candidates),
            "sentence": self.sentence,
            "random": None if self.random is None else asdict(self.random),
            "parts": {key: asdict(part) for key, part in self.parts.items()},
        }


def compare(reference: Reference, here: PairStatistics, prior: float, random: PairStatistics | None = None) -> Shift:
    """Compare a sample of candidates with the training's.

    Parameters
    ----------
    prior
        Share of edges among the candidates that their scores suppose.
    random
        Of random pairs of the candidates' matrix. Absent, or absent in the reference: they are not compared.
    """
    there, times, others = reference.training, distances(reference.training, here, reference), dict[str, float]()
    verdict, of_random = Verdict.of(times), None
    if random is not None and reference.random is not None:
        others = distances(reference.random, random, reference)
        of_random = Verdict.of(others)
    sentence = _sentence(verdict, of_random, _differences(there, here, times), prior)
    return Shift(verdict, of_random, sentence, _comparisons(there, here, times, others))


def _comparisons(
    there: PairStatistics, here: PairStatistics, times: Mapping[str, float], others: Mapping[str, float]
) -> dict[str, Comparison]:
    def part(key: str, name: str, figure: Callable[[PairStatistics], str]) -> Comparison:
        return Comparison(name, figure(there), figure(here), times[key], others.get(key))

    return {
        "cells": Comparison("cells", f"{there.n_cells:,}", f"{here.n_cells:,}", here.n_cells / there.n_cells),
        "depth": Comparison("expressed genes a cell", f"{there.depth:,.0f} of {there.n_genes:,}",
                      f"{here.depth:,.0f} of {here.n_genes:,}", here.depth / max(there.depth, 1e-9)),
        "dropout": part("dropout", "cells without a gene", lambda o: f"{_mean(o.dropout):.1%}"),
        "occupied": part("occupied", "occupied bins of an image", lambda o: f"{_mean(o.occupied):.1%}"),
        "density": part("density", "mean image, density", lambda _: ""),
        "residual": part("residual", "mean image, dependence", lambda _: ""),
        "embedding": part("embedding", "what the network sees", lambda _: ""),
        "scores": part("scores", "scores, median", lambda o: f"{1 / (1 + math.exp(-_median(o.scores))):.2g}"),
    }  # fmt: skip


def _differences(there: PairStatistics, here: PairStatistics, times: Mapping[str, float]) -> list[str]:
    """How candidates differ from the training pairs, in words, the plainest causes first."""
    found = []
    if here.scale != there.scale:
        found.append(f"are binned by the rule {here.scale}, not {there.scale}")
    cells = here.n_cells / there.n_cells
    if max(cells, 1 / cells) >= FEWER_CELLS:
        found.append(f"are counted over {_ratio(cells)} times the cells ({here.n_cells:,}, not {there.n_cells:,})")
    expressed, before = 1 - _mean(here.dropout), 1 - _mean(there.dropout)
    if times["dropout"] >= SHIFTED and max(expressed, before) >= OTHER_DENSITY * min(expressed, before):
        more = "more" if expressed < before else "less"
        found.append(f"have {more} dropout (a gene is expressed in {expressed:.1%} of the cells, not {before:.1%})")
    if not found:
        worst = max(times, key=lambda name: times[name])
        found.append(f"differ most in {WORDS[worst]}")
    return found


WORDS = {
    "dropout": "the dropout of their genes",
    "occupied": "how many bins their images fill",
    "density": "the average density of their images",
    "residual": "the average dependence that their images show",
    "embedding": "what the network sees in their images",
    "scores": "the scores that the network gives them",
}


TRUST: dict[Level, str] = {
    "like": "A score means what it meant there, if {prior} of the candidates are edges.",
    "shifted": "Use the ranking; do not read scores as probabilities.",
    "unlike": "Trust neither the ranking nor the scores before you scored pairs whose answer you know.",
}


def _sentence(candidates: Verdict, random: Verdict | None, differences: Sequence[str], prior: float) -> str:
    """The verdicts, and what to trust: as much as the closer of both samples allows."""
    if candidates.level == "like":
        trust = TRUST["like"].format(prior=f"{prior:.2%}")
        return f"These pairs are like the training pairs ({_scale(candidates)}). {trust}"
    are = "are unlike" if candidates.level == "unlike" else "differ from"
    differ = ", ".join(differences[:-1]) + " and " * (len(differences) > 1) + differences[-1]
    said = f"These pairs {are} the training pairs ({_scale(candidates)}): they {differ}."
    if random is None:
        return f"{said} {TRUST[candidates.level]}"
    if random.level == "like":
        return (
            f"{said} Random pairs of both matrices are alike (distance {random.overall:.1f}), so the choice of pairs "
            "differs and not the matrix. Use the ranking, if the training had such pairs; read scores as "
            f"probabilities only if {prior:.2%} of the pairs are edges."
        )
    closer = min(candidates, random, key=lambda verdict: verdict.overall)
    return (
        f"{said} Random pairs of both matrices differ too (distance {random.overall:.1f}), so the matrix is another. "
        f"{TRUST[closer.level]}"
    )


def _scale(verdict: Verdict) -> str:
    return f"distance {verdict.overall:.1f}; below {SHIFTED:g} is alike, from {UNLIKE:g} unlike"


def _ratio(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _mean(values: Values) -> float:
    return float(np.mean(values, dtype=np.float64))


def _median(values: Values) -> float:
    return float(np.median(values))


# ---------------------------------------------------------------- for terminal and report


def shift_lines(facts: Mapping[str, Any] | None) -> list[str]:
    """Sentences for the terminal and a report from the facts under "shift"; none where nothing was compared."""
    if not facts:
        return []
    return [facts["sentence"], "A distance of 1 is what another choice of genes of the same matrix makes."]


def shift_words(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Words for a report from the facts under "shift"; None where nothing was compared."""
    if not facts:
        return None
    rows = [
        {
            **{key: part[key] for key in ("name", "training", "here")},
            "times": _times(part["times"]),
            "random": _times(part.get("random")),
        }
        for part in facts["parts"].values()
    ]
    sentence, unit = shift_lines(facts)
    random = facts.get("random")
    tone = TONES["shifted" if random and random["level"] == "like" else facts["level"]]
    words = {"sentence": sentence, "overall": unit, "tone": tone}
    return words | {"compares_random": bool(random), "rows": rows}


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2g} ×"
