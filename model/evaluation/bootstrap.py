"""Intervals of the difference between two rankings of the same pairs, by a paired bootstrap over genes. Pure.

Rows of gene pairs are not independent: (a, b) and (b, a) are one picture, and (a, b) and (a, c) have a gene in common.
Resampling rows as if they were gives intervals that are too narrow (in simulations of 40 genes, 95 % intervals held the
truth 80 to 91 times in a hundred where genes had an effect, those by genes 99 times). So the genes are resampled, and a
pair counts as often as the product of its genes' multiplicities (the pigeonhole bootstrap: Owen, Annals of Applied
Statistics 1:386, 2007; for pairs out of one pool of genes: Davezies et al., Annals of Statistics 49:845, 2021). The
interval is rather too wide: noise of single pairs is counted up to three times in the variance.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.evaluation.metrics import Labels, Scores, auroc, average_precision
from pairscape.pipeline.options import Stream

RESAMPLES = 1000
LEVEL = 0.95  # of the intervals
BATCH_WEIGHTS = 2**22  # weights held at a time, 4 bytes each

FIGURES: dict[str, Callable[[Labels, Scores], float | None]] = {"auroc": auroc, "average_precision": average_precision}
WORDS = {"auroc": "AUROC", "average_precision": "average precision"}

Units = NDArray[np.int64]
Weights = NDArray[np.int32]
Figures = dict[str, NDArray[np.float64]]


def gene_units(gene_a: NDArray[np.integer], gene_b: NDArray[np.integer]) -> Units:
    """The two genes of each pair, (P, 2), numbered from 0 up: the units of a resampling of genes."""
    _, number = np.unique(np.stack([gene_a, gene_b], axis=1), return_inverse=True)
    return number.reshape(-1, 2).astype(np.int64)


def pair_units(gene_a: NDArray[np.integer], gene_b: NDArray[np.integer]) -> Units:
    """The unordered pair of each row, (P, 1), so that mirrors stay together: the units of a resampling of pairs."""
    genes = gene_units(gene_a, gene_b)
    _, number = np.unique(genes.min(axis=1) * (genes.max(initial=0) + 1) + genes.max(axis=1), return_inverse=True)
    return number.reshape(-1, 1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Rows of one scorer, best first, and the groups of equal scores that hold a positive.

    Attributes
    ----------
    order : (P,)
        Rows, best first.
    positive, group : (N,)
        Places of the positives in that order, and the number of the group of each.
    start, stop : (K,)
        First place of each group, and the first behind it.
    """

    order: NDArray[np.int64]
    positive: NDArray[np.int64]
    group: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]

    @classmethod
    def of(cls, label: Labels, score: Scores) -> "Ranking":
        """Sort the rows once; afterwards only their weights are resampled."""
        order = np.argsort(-np.asarray(score, np.float64), kind="stable")
        begins = np.flatnonzero(np.append(True, np.diff(np.asarray(score)[order]) != 0))
        positive = np.flatnonzero(label[order] > 0)
        held, group = np.unique(np.searchsorted(begins, positive, side="right") - 1, return_inverse=True)
        return cls(order, positive, group, begins[held], np.append(begins, order.size)[held + 1])

    def figures(self, weights: Weights) -> Figures:
        """AUROC and average precision, (R,) each, under row weights (R, P) in this order; NaN without a class."""
        # only sums up to the ends of the groups with positives are needed, and positives are few
        cuts = np.unique(np.concatenate([[0], self.start, self.stop[self.stop < self.order.size]]))
        until = np.cumsum(np.add.reduceat(weights, cuts, axis=1, dtype=np.int32), axis=1, dtype=np.int64)
        until = np.concatenate([np.zeros((len(until), 1), np.int64), until], axis=1)
        ends = np.append(cuts, self.order.size)  # until[:, i] = weight of the rows before ends[i]
        first = np.searchsorted(self.group, np.arange(self.start.size))
        hits = np.add.reduceat(np.take(weights, self.positive, axis=1), first, axis=1, dtype=np.int64)  # (R, K)
        hits_until, total = np.cumsum(hits, axis=1), until[:, -1]
        positives = hits_until[:, -1]
        before, behind = until[:, np.searchsorted(ends, self.start)], until[:, np.searchsorted(ends, self.stop)]
        tied = behind - before - hits
        beaten = (total - positives)[:, None] - (behind - hits_until) + tied / 2
        precision = hits_until / np.maximum(behind, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "auroc": (hits * beaten).sum(axis=1) / (positives * (total - positives)),
                "average_precision": np.where(total > positives, (hits * precision).sum(axis=1) / positives, np.nan),
            }


def resampled(
    label: Labels, scores: Mapping[str, Scores], units: Units, seed: int, resamples: int = RESAMPLES
) -> dict[str, Figures]:
    """Figures of each scorer on the same resamples, so that differences between scorers are paired.

    Parameters
    ----------
    label : (P,)
        Above 0 is positive; both classes are present.
    scores
        (P,) finite, by name.
    units : (P, k)
        Of `gene_units` or `pair_units`: a row's weight is the product of how often its units were drawn.

    Returns
    -------
    dict
        (resamples,) by name and figure, NaN where a resample lacks a class.
    """
    rankings = {name: Ranking.of(label, score) for name, score in scores.items()}
    in_order = {name: np.asfortranarray(units[ranking.order]) for name, ranking in rankings.items()}
    parts: dict[str, list[Figures]] = {name: [] for name in scores}
    for drawn in _draws(int(units.max()) + 1, len(units), seed, resamples):
        for name, ranking in rankings.items():
            parts[name].append(ranking.figures(_row_weights(drawn, in_order[name])))
    return {name: {key: np.concatenate([p[key] for p in found]) for key in FIGURES} for name, found in parts.items()}


def _draws(n_units: int, n_rows: int, seed: int, resamples: int) -> Iterator[Weights]:
    """How often each unit was drawn, (r, n_units), a few resamples at a time."""
    rng = np.random.default_rng([seed, Stream.GENE_BOOTSTRAP])
    at_once = max(BATCH_WEIGHTS // max(n_units, n_rows), 1)
    for start in range(0, resamples, at_once):
        r = min(at_once, resamples - start)
        drawn = rng.integers(n_units, size=(r, n_units)) + n_units * np.arange(r)[:, None]
        yield np.bincount(drawn.ravel(), minlength=r * n_units).reshape(r, n_units).astype(np.int32)


def _row_weights(drawn: Weights, units: Units) -> Weights:
    first, *others = units.T
    weights: Weights = np.take(drawn, first, axis=1)  # a third of the time of indexing
    for column in others:
        weights *= np.take(drawn, column, axis=1)
    return weights


def against_baseline(
    label: Labels,
    network: Scores,
    baselines: Mapping[str, Scores],
    genes: tuple[NDArray[np.integer], NDArray[np.integer]],
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Compare the network with the best baseline, by AUROC and by average precision, with 95 % intervals.

    The best baseline is the one that is best on these very rows, which favours it.

    Parameters
    ----------
    label, network : (P,)
    baselines
        (P,) scores by name.
    genes : (P,), (P,)
        Genes a and genes b of the pairs.

    Returns
    -------
    dict
        `metrics.json`'s "against_baseline": for each figure the baseline, both values, the difference (network less
        baseline), its interval by genes (`low`, `high`) and by pairs (`low_by_pairs`, `high_by_pairs`), and whether the
        network is `ahead`, `behind` or, where the interval by genes holds 0, `level`; `baseline`, the best one by
        average precision; and the `verdict` in words. Figures are None where they are not defined.
    """
    names = ["network", *baselines]
    scores = dict(zip(names, (np.nan_to_num(s) for s in (network, *baselines.values())), strict=True))
    values = {key: {name: figure(label, scores[name]) for name in names} for key, figure in FIGURES.items()}
    best = {key: _best(found, list(baselines)) for key, found in values.items()}
    head = {"baseline": best["average_precision"], "resampled": "genes", "resamples": resamples}
    if any(name is None for name in best.values()):
        return head | dict.fromkeys(FIGURES) | {"verdict": "not defined: a class is missing"}
    compared = {name: scores[name] for name in dict.fromkeys(["network", *best.values()]) if name is not None}
    drawn = {
        suffix: resampled(label, compared, units(*genes), seed, resamples)
        for suffix, units in (("", gene_units), ("_by_pairs", pair_units))
    }
    figures = {key: _compared(key, str(best[key]), values[key], drawn) for key in FIGURES}
    verdict = ", ".join(f"{entry['standing']} on {WORDS[key]}" for key, entry in figures.items())
    return head | figures | {"verdict": verdict}


def _best(values: Mapping[str, float | None], names: list[str]) -> str | None:
    defined = {name: value for name in names if (value := values[name]) is not None}
    return max(defined, key=lambda name: defined[name]) if defined else None


def _compared(
    key: str, baseline: str, values: Mapping[str, float | None], drawn: Mapping[str, dict[str, Figures]]
) -> dict[str, Any]:
    network, rival = values["network"], values[baseline]
    difference = float(network or 0) - float(rival or 0)  # both are defined where the baseline is
    entry: dict[str, Any] = {"baseline": baseline, "network": network, "value": rival, "difference": difference}
    for suffix, figures in drawn.items():
        low, high = interval(figures["network"][key] - figures[baseline][key])
        entry |= {f"low{suffix}": low, f"high{suffix}": high}
    return entry | {"standing": _standing(entry["low"], entry["high"])}


def interval(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Percentile interval of resampled values; None where more than half of the resamples lack a class."""
    defined = values[np.isfinite(values)]
    if 2 * defined.size < values.size:
        return None, None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _standing(low: float | None, high: float | None) -> str:
    if low is None or high is None or low <= 0 <= high:
        return "level"
    return "ahead" if low > 0 else "behind"
