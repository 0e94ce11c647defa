"""The audit's baselines on the test rows: labels alone, marginals alone, correlation, mutual information.

How often a gene is positive in training, or how strongly it is expressed, may already predict the label, so a score on
gene pairs is read beside these.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairscape.model.evaluation.association import distance_correlation, hsic, mutual_information, spearman
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.images import Images
from pairscape.pipeline.options import Stream

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]
Genes = NDArray[np.int32]

INFORMATION_BINS = 8  # finer bins measure the number of empty bins, not dependence
MARGINAL_ROWS = 200_000  # training rows of each class for the marginals-only model, at most
SMOOTHING = 10.0  # pseudo-pairs at the mean rate: a gene seen twice says little
BATCH = 2048


def labels_only(pairs: Pairs, train: Rows, rows: Rows, n_genes: int, directed: bool) -> Scores:
    """Score from how often each gene is positive in the training labels, (R,); expression is not used.

    The log-odds of both genes' smoothed rates are added. A gene unseen in training has the mean rate, so under the
    `both` split every row scores the same.
    """
    positive = pairs.label[train] > 0
    ends = _ends(pairs.gene_a[train], pairs.gene_b[train], positive, n_genes)
    if not directed:
        ends = [End(ends[0].seen + ends[1].seen, ends[0].hits + ends[1].hits)] * 2
    odds = [end.log_odds(positive.mean()) for end in ends]
    return np.asarray(odds[0][pairs.gene_a[rows]] + odds[1][pairs.gene_b[rows]])


class End(NamedTuple):
    """Training labels of each gene at one end of the pairs: their number and the positive ones, (G,) each."""

    seen: NDArray[np.float64]
    hits: NDArray[np.float64]

    def log_odds(self, mean: float) -> Scores:
        """Of the rate of positives, smoothed towards the mean rate, (G,)."""
        rate = np.clip((self.hits + SMOOTHING * mean) / (self.seen + SMOOTHING), 1e-9, 1 - 1e-9)
        return np.asarray(np.log(rate / (1 - rate)))


def _ends(a: Genes, b: Genes, positive: NDArray[np.bool_], n_genes: int) -> list[End]:
    seen = [np.bincount(genes, minlength=n_genes).astype(np.float64) for genes in (a, b)]
    hits = [np.bincount(genes, positive, minlength=n_genes).astype(np.float64) for genes in (a, b)]
    return [End(s, h) for s, h in zip(seen, hits, strict=True)]


def _arrows(pairs: Pairs, train: Rows, n_genes: int) -> list[Scores]:
    """Log-odds of each gene to be the regulator, and the target, of an edge in the training labels, (G,) each."""
    a, b, label = pairs.gene_a[train], pairs.gene_b[train], pairs.label[train]
    if not (label == 2).any():
        return [end.log_odds((label > 0).mean()) for end in _ends(a, b, label > 0, n_genes)]
    source, target = np.concatenate([a, b]), np.concatenate([b, a])
    there = np.concatenate([label == 1, label == 2])
    return [end.log_odds(there.mean()) for end in _ends(source, target, there, n_genes)]


def labels_of_one_side(pairs: Pairs, train: Rows, rows: Rows, n_genes: int) -> dict[str, Scores]:
    """Scores from the labels of the regulator alone, and of the target alone, (R,) each; for directed labels.

    Where labels say the direction (0, 1, 2), either gene may be the regulator: the rates of both arrows are added.
    """
    a, b = pairs.gene_a[rows], pairs.gene_b[rows]
    rates = [1 / (1 + np.exp(-odds)) for odds in _arrows(pairs, train, n_genes)]
    if (pairs.label[train] == 2).any():
        regulator, target = (rate[a] + rate[b] for rate in rates)
    else:
        regulator, target = rates[0][a], rates[1][b]
    return {"labels_only_regulator": regulator, "labels_only_target": target}


def direction_from_labels(pairs: Pairs, train: Rows, rows: Rows, n_genes: int) -> Scores:
    """Probability of a→b rather than b→a from how often each gene regulates and is a target in training, (R,)."""
    a, b = pairs.gene_a[rows], pairs.gene_b[rows]
    regulator, target = _arrows(pairs, train, n_genes)
    return np.asarray(1 / (1 + np.exp(regulator[b] + target[a] - regulator[a] - target[b])))


def direction_from_marginals(images: Images, pairs: Pairs, train: Rows, rows: Rows, seed: int) -> Scores:
    """Probability of a→b rather than b→a from mean, variance and dropout of both genes, (R,); learned from edges."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    edges = train[pairs.label[train] > 0]
    forward = pairs.label[edges] == 1
    if not forward.any() or forward.all():
        return np.full(rows.size, 0.5)
    genes = _gene_marginals(images)
    model = HistGradientBoostingClassifier(class_weight="balanced", random_state=seed)
    model.fit(_marginals(genes, pairs, edges, directed=True), forward)
    return np.asarray(model.predict_proba(_marginals(genes, pairs, rows, directed=True))[:, 1])


def marginals_only(images: Images, pairs: Pairs, train: Rows, rows: Rows, directed: bool, seed: int) -> Scores:
    """Score of a gradient-boosted model of mean, variance and dropout of each gene, (R,); it never sees the pair."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    genes = _gene_marginals(images)
    rng = np.random.default_rng([seed, Stream.BASELINES])
    if train.size > MARGINAL_ROWS:  # of each class so many at most
        classes = [train[pairs.label[train] > 0], train[pairs.label[train] == 0]]
        train = np.concatenate([rng.choice(c, min(MARGINAL_ROWS, c.size), replace=False) for c in classes])
    model = HistGradientBoostingClassifier(class_weight="balanced", random_state=seed)
    model.fit(_marginals(genes, pairs, train, directed), pairs.label[train] > 0)
    return np.asarray(model.predict_proba(_marginals(genes, pairs, rows, directed))[:, 1])


def _gene_marginals(images: Images) -> NDArray[np.float64]:
    """(G, 3): mean, variance, dropout."""
    return np.column_stack([images.array(name) for name in ("mean", "variance", "dropout")]).astype(np.float64)


def _marginals(genes: NDArray[np.float64], pairs: Pairs, rows: Rows, directed: bool) -> NDArray[np.float64]:
    """(R, 6) marginals of both genes; where labels have no direction, the weaker expressed gene first."""
    a, b = genes[pairs.gene_a[rows]], genes[pairs.gene_b[rows]]
    if not directed:
        swap = (a[:, :1] > b[:, :1]).repeat(genes.shape[1], axis=1)
        a, b = np.where(swap, b, a), np.where(swap, a, b)
    return np.hstack([a, b])


def heatmap_statistics(
    images: Images, pairs: Pairs, rows: Rows, advance: Callable[[int], None] = lambda _: None
) -> dict[str, Scores]:
    """|Pearson|, |Spearman|, mutual information, distance correlation and HSIC of pairs from heatmaps, each (R,)."""
    centres, found = bin_centres(images.array("edges")), []
    for part in _runs(rows, images.spec.binning.shard_pairs):
        found.append(_statistics(images, pairs, part, centres))
        advance(part.size)
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _runs(rows: Rows, shard_pairs: int) -> Iterable[Rows]:
    """Rows (ascending) in parts that lie in one shard each and are small enough to compute on."""
    for shard in np.unique(rows // shard_pairs):
        first, last = np.searchsorted(rows, [shard * shard_pairs, (shard + 1) * shard_pairs])
        for start in range(first, last, BATCH):
            yield rows[start : min(start + BATCH, last)]


def _statistics(images: Images, pairs: Pairs, rows: Rows, centres: NDArray[np.float64]) -> dict[str, Scores]:
    counts = images.counts(slice(int(rows[0]), int(rows[-1]) + 1))[rows - rows[0]]
    a, b = centres[pairs.gene_a[rows]], centres[pairs.gene_b[rows]]
    return {
        "pearson": np.abs(_correlation(counts.astype(np.float64), a, b)),
        "spearman": np.abs(spearman(counts)),
        "mutual_information": mutual_information(counts, INFORMATION_BINS),
        "distance_correlation": distance_correlation(counts),
        "hsic": hsic(counts),
    }


def bin_centres(edges: NDArray[np.float32]) -> NDArray[np.float64]:
    """Expression that stands for each bin, (G, bins): its middle, and 0 for the bin of the unexpressed cells."""
    middle = (edges[:, 1:].astype(np.float64) + edges[:, :-1]) / 2
    holds_zero = (edges[:, :-1] <= 0) & (edges[:, 1:] > 0)
    return np.where(holds_zero, 0.0, middle)


def _correlation(counts: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> Scores:
    """Correlation over cells, (P,), of values a, b (P, bin) under counts (P, bin_b, bin_a); 0 for a constant gene."""
    n = counts.sum(axis=(1, 2))
    margin_a, margin_b = counts.sum(axis=1), counts.sum(axis=2)
    a = a - ((margin_a * a).sum(axis=1) / n)[:, None]
    b = b - ((margin_b * b).sum(axis=1) / n)[:, None]
    covariance = np.matmul(np.matmul(b[:, None, :], counts), a[:, :, None])[:, 0, 0]
    scale = np.sqrt((margin_a * a**2).sum(axis=1) * (margin_b * b**2).sum(axis=1))
    return np.asarray(np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 1e-12))
