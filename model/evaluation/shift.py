"""How far new data are from those a network was trained on, in words that say what to trust. Pure.

The verdict is about the candidates. Where they differ, random pairs of their matrix are compared with random pairs of
the training's, so that a choice of candidates (the positives, one gene with all others) is not laid on the matrix.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# What a sample of pairs shows of its data and of a network's answer, and how far two samples are apart. Pure.
#
# Six distances, each divided by what the training pairs have within themselves: by the distance of two halves of their
# genes, with the pairs inside each. So 1 is what the choice of genes alone makes, whatever the quantity, and the
# number of genes on either side is taken into account. `model.evaluation.measure` measures.

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


Level = Literal["like", "shifted", "unlike"]

TONES = {"like": "good", "shifted": "fair", "unlike": "poor"}
SHIFTED, UNLIKE = 3.0, 12.0  # times the distance of two halves; measured: docs/models.md
UNCOMPARED = (
    "This run has no reference.safetensors (an earlier version trained it, or the file was left behind), so nobody can "
    "say whether the new data are like its training's."
)
FEWER_CELLS = 2.0  # times as many or as few cells, from which it is said
OTHER_DENSITY = 1.25  # times as many or as few expressed genes


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
    """What the distances of two samples come to.

    Attributes
    ----------
    overall
        Root mean square of the distances in their units: 1 is what the choice of genes alone makes.
    level
        What that means: `like`, `shifted` or `unlike`.
    """

    overall: float
    level: Level

    @classmethod
    def of(cls, times: Mapping[str, float]) -> "Verdict":
        """Of distances by part."""
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
        By key: each comparison.
    """

    candidates: Verdict
    random: Verdict | None
    sentence: str
    parts: Mapping[str, Part]

    def facts(self) -> dict[str, Any]:
        """What `metrics.json` and a file of scores keep under "shift"."""
        return {
            **asdict(self.candidates),
            "sentence": self.sentence,
            "random": None if self.random is None else asdict(self.random),
            "parts": {key: asdict(part) for key, part in self.parts.items()},
        }


# ---------------------------------------------------------------- the verdict


def compare(reference: Reference, here: Observed, prior: float, random: Observed | None = None) -> Shift:
    """Compare a sample of candidates with the training's.

    Parameters
    ----------
    prior
        Share of edges among the candidates that their scores suppose.
    random
        Of random pairs of the candidates' matrix, for a reference that has those of the training's. Absent: they are
        not compared.
    """
    there, times, others = reference.observed, distances(reference.observed, here, reference), dict[str, float]()
    verdict, of_random = Verdict.of(times), None
    if random is not None and reference.random is not None:
        others = distances(reference.random, random, reference)
        of_random = Verdict.of(others)
    sentence = _sentence(verdict, of_random, _differences(there, here, times), prior)
    return Shift(verdict, of_random, sentence, _parts(there, here, times, others))


def _parts(there: Observed, here: Observed, times: Mapping[str, float], others: Mapping[str, float]) -> dict[str, Part]:
    def part(key: str, name: str, told: Callable[[Observed], str]) -> Part:
        return Part(name, told(there), told(here), times[key], others.get(key))

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
    """What candidates do other than the training pairs, in words, the plainest causes first."""
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
    "like": "a score means what it meant there, if {prior} of the candidates are edges",
    "shifted": "scores may rank well, but probabilities are not to be trusted",
    "unlike": "neither ranking nor probabilities are to be trusted before pairs of known answer were scored",
}


def _sentence(candidates: Verdict, random: Verdict | None, differences: Sequence[str], prior: float) -> str:
    """The verdicts, and what to trust: where either sample is closer, as much as that allows."""
    if candidates.level == "like":
        return f"These candidates are like the training pairs: {TRUST['like'].format(prior=f'{prior:.2%}')}."
    told = ", ".join(differences[:-1]) + " and " * (len(differences) > 1) + differences[-1]
    said = f"These candidates {'are unlike the training pairs: they ' * (candidates.level == 'unlike')}{told}"
    if random is None:
        return f"{said}; {TRUST[candidates.level]}."
    if random.level == "like":
        return (
            f"{said}. It is the choice of candidates, not the matrix: random pairs of it are like those of the "
            f"training's matrix ({random.overall:.1f}). The ranking stands as far as the training had such pairs, and "
            f"probabilities if {prior:.2%} of the candidates are edges."
        )
    closer = min(candidates, random, key=lambda verdict: verdict.overall)
    return (
        f"{said}. It is the matrix, not the choice of candidates alone: random pairs of it differ from those of the "
        f"training's matrix too ({random.overall:.1f}). {TRUST[closer.level].capitalize()}."
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
        f"Distance from the training pairs: {facts['overall']:.1f}{_of_random(facts)}, where 1 is what another choice "
        f"of genes of the same matrix makes; like the training below {SHIFTED:g}, unlike it from {UNLIKE:g}.",
    ]


def _of_random(facts: Mapping[str, Any]) -> str:
    found = facts.get("random")
    return f", of random pairs of either matrix {found['overall']:.1f}" if found else ""


def shift_words(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The same for a report: `sentence`, `overall`, `tone`, `compares_random`, and `rows` of the parts as text; None
    where nothing was compared.
    """
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
    sentence, distance = shift_lines(facts)
    random = facts.get("random")
    tone = TONES["shifted" if random and random["level"] == "like" else facts["level"]]
    return {
        "sentence": sentence,
        "overall": distance,
        "tone": tone,
        "compares_random": bool(random),
        "rows": rows,
    }


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2g} ×"
