"""How stable the best pairs of a prediction are: their scores in resamples of the cells.

A resample is a weighted sum of counts that are taken once for each group of cells (`pipeline.heatmaps.pairwise`), so it
costs the network alone: N resamples of P pairs are as N · P candidates. All pairs share the resamples, so their ranks
can be compared. Mean and spread are of the probability: in log-odds, the spread of a pair near 0 or 1 would mostly be
that of how sure the network is of what is sure anyway.

Like every bootstrap of a measure of dependence, a resample carries the chance of the cells and that of the drawing:
pairs that are independent look less so, and the mean of a weak pair lies above its score.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.networks.device import one_thread
from pairscape.model.prediction.rescoring import Rescoring, Score, score_runs
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.pairwise import (
    GROUPS,
    PairRun,
    WholeGenes,
    count_grouped,
    deal_groups,
    draw_weights,
    weighted_sums,
    within_memory,
)

BEST = 500
RUN_PAIRS = 64  # a task: at 100 resamples as long as 6,400 candidates
PAIRS_AT_ONCE = 64  # counts of 64 groups at 32 bins: 17 MB
IMAGES_AT_ONCE = 2048
STABLE = 0.9

Real = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stability:
    """Scores of the best pairs over the resamples.

    Attributes
    ----------
    rows : (P,) int64
        The candidates that were resampled, ascending: the list of the best and its runners-up.
    mean, sd : (P,) float64
        Of the score over the resamples, as a probability.
    rank_stability : (P,) float64
        Share of the resamples in which the pair is in the list, that is, among the better half of these pairs.
    facts
        What the file of scores says of them.
    """

    rows: NDArray[np.int64]
    mean: Real
    sd: Real
    rank_stability: Real
    facts: dict[str, Any]


def resample_best(
    rescoring: Rescoring,
    pairs: Pairs,
    score: NDArray[np.floating],
    session: Session,
    *,
    resamples: int,
    best: int = BEST,
) -> Stability:
    """Resample the cells and score the best pairs again.

    Parameters
    ----------
    rescoring
        With the network, without a screen.
    score : (P,)
        Of each pair; NaN where the screen kept it from the network, which is never among the best.
    resamples
        Number of them, at least two.
    best
        Length of the list whose stability is estimated, at least one; as many runners-up are resampled too.
    """
    rows = best_rows(score, 2 * best)
    common = rescoring, resamples
    parts = score_runs(resample_task, common, pairs.take(rows), RUN_PAIRS, "resamples", session, rescoring.kept)
    scores = np.concatenate([np.empty((resamples, 0)), *parts], axis=1)
    length = min(best, -(-rows.size // 2))
    stability, sd = share_in_list(scores, length), scores.std(axis=0, ddof=1)
    listed = np.isin(rows, best_rows(score, length))
    facts = _facts(resamples, rescoring.codes.n_cells, sd, stability, listed)
    return Stability(rows, scores.mean(axis=0), sd, stability, facts)


def best_rows(score: NDArray[np.floating], number: int) -> NDArray[np.int64]:
    """Candidates of highest score, ascending; of equal ones the first, and none without a score."""
    scored = np.flatnonzero(~np.isnan(score))
    if scored.size > number:  # so that a sort of millions is one of the few at the cut
        cut = np.partition(score[scored], scored.size - number)[scored.size - number]
        scored = scored[score[scored] >= cut]
    return np.sort(scored[np.argsort(-score[scored], kind="stable")[:number]])


def share_in_list(scores: Real, length: int) -> Real:
    """Share of the resamples in which each pair is among the `length` best of them, (P,), from scores (N, P).

    Pairs of equal score at the end of the list share the places that are left.
    """
    if length >= scores.shape[1]:
        return np.ones(scores.shape[1])
    cut = -np.partition(-scores, length - 1, axis=1)[:, length - 1, None]
    above, tied = scores > cut, scores == cut
    places = (length - above.sum(axis=1, keepdims=True)) / tied.sum(axis=1, keepdims=True)
    return np.asarray((above + tied * places).mean(axis=0))


def resample_task(rescoring: Rescoring, resamples: int, run: PairRun) -> Real:
    """Scores of a run of pairs in every resample, (N, P). Runs on a worker, any number of times."""
    reader, score, seed = rescoring.reader(), rescoring.load(), rescoring.seed
    codes = reader.codes
    group = deal_groups(codes.n_cells, seed)
    weights = draw_weights(int(group.max()) + 1, resamples, seed)
    parts = []
    with one_thread():  # of each worker: sums of floats depend on how many share them
        for some in within_memory(reader, run, max(PAIRS_AT_ONCE * 32**2 // codes.binning.bins**2, 1)):
            pairs = run.gene_a[some], run.gene_b[some]
            genes = WholeGenes.read(reader, np.concatenate(pairs))
            counts = count_grouped(genes, genes, pairs, group, codes.binning.bins)
            parts.append(score_resamples(weights, counts, pairs, codes.n_cells, score))
    return np.concatenate(parts, axis=1)


def score_resamples(
    weights: NDArray[np.int64],
    counts: tuple[NDArray[np.uint32], NDArray[np.uint32]],
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    n_cells: int,
    score: Score,
) -> Real:
    """Scores of pairs in resamples, (N, P), from the counts of the groups; some thousand images at a time.

    `weights` (N, M): how often each resample holds each group; `counts` (M, P, bins, bins), (M, P): of `count_grouped`.
    """
    n_pairs, parts = counts[1].shape[1], []
    together = max(IMAGES_AT_ONCE // n_pairs, 1)
    for at in range(0, len(weights), together):
        images, both_zero = (weighted_sums(weights[at : at + together], part, n_cells) for part in counts)
        genes = (np.tile(gene, len(images)) for gene in pairs)
        scores = score(images.reshape(-1, *images.shape[2:]), both_zero.ravel(), *genes)
        parts.append(scores.reshape(-1, n_pairs).astype(np.float64))
    return np.concatenate(parts)


def _facts(resamples: int, n_cells: int, sd: Real, stability: Real, listed: NDArray[np.bool_]) -> dict[str, Any]:
    """Facts of the list alone, but for the number of pairs."""
    length, held = int(listed.sum()), int((stability[listed] >= STABLE).sum())
    facts = {"resamples": resamples, "groups": min(GROUPS, n_cells), "pairs": sd.size, "list": length}
    if not length:
        return facts | {"sentence": "No pair was scored, so none was resampled."}
    spread, middle = float(np.median(sd[listed])), float(np.median(stability[listed]))
    sentence = (
        f"Of the {length:,} best pairs {held:,} are among the {length:,} best in at least {STABLE:.0%} of "
        f"{resamples:,} resamples of the cells; the spread of their scores has median {spread:.2g}."
    )
    return facts | {
        "median_sd": spread, "median_rank_stability": middle, "stable": held, "stable_from": STABLE,
        "sentence": sentence,
    }  # fmt: skip
