"""Figures of scores against labels: ranking, calls, calibration, direction, kinds; and the watch for collapse. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]
Scores = NDArray[np.floating]

CALIBRATION_BINS = 15
PRECISION_AT = (10, 100, 1000)


def best_threshold(label: Labels, score: Scores) -> float:
    """Score from which "positive" gives the best balanced accuracy on these rows; the middle of the best gap."""
    order = np.argsort(-score, kind="stable")
    positive = label[order] > 0
    if not positive.any() or positive.all():
        return 0.5
    sensitivity = np.cumsum(positive) / positive.sum()
    false_alarms = np.cumsum(~positive) / (~positive).sum()
    sorted_score = score[order].astype(np.float64)
    last_of_tie = np.append(np.diff(sorted_score) != 0, True)
    gain = np.where(last_of_tie, sensitivity - false_alarms, -np.inf)
    best = int(np.argmax(gain))
    below = sorted_score[best + 1] if best + 1 < score.size else sorted_score[best]
    middle = float((sorted_score[best] + below) / 2)
    return middle if middle > below else float(sorted_score[best])  # nothing lies between neighbouring floats


def precision_threshold(label: Labels, score: Scores, precision: float) -> float | None:
    """Lowest score from which at least this share of the pairs called positive is; None where no score reaches it."""
    from sklearn.metrics import precision_recall_curve

    if not _has_both(label):
        return None
    found, _, thresholds = precision_recall_curve(label > 0, np.asarray(score, np.float64))
    good = np.flatnonzero(found[:-1] >= precision)  # the last point has no threshold
    return float(thresholds[good[0]]) if good.size else None


def confusion(label: Labels, score: Scores, threshold: float) -> list[list[int]]:
    """[[true negatives, false positives], [false negatives, true positives]] at a threshold."""
    # in float64: numpy would round the threshold to float32 beside scores of that type, maybe across one of them
    positive, called = label > 0, np.asarray(score, np.float64) >= threshold
    return [[int((~positive & ~called).sum()), int((~positive & called).sum())],
            [int((positive & ~called).sum()), int((positive & called).sum())]]  # fmt: skip


def operating_point(label: Labels, score: Scores, threshold: float | None) -> dict[str, float | None]:
    """What calls from a threshold on are worth: `threshold`, `called` pairs, their `precision`, `recall`."""
    if threshold is None:
        return dict.fromkeys(("threshold", "called", "precision", "recall"))
    (_, fp), (fn, tp) = confusion(label, score, threshold)
    return {
        "threshold": threshold,
        "called": tp + fp,
        "precision": tp / (tp + fp) if tp + fp else None,
        "recall": tp / (tp + fn) if tp + fn else None,
    }


def balanced_accuracy(label: Labels, score: Scores, threshold: float) -> float | None:
    """Mean of sensitivity and specificity; None where a class is absent."""
    (tn, fp), (fn, tp) = confusion(label, score, threshold)
    return None if tn + fp == 0 or tp + fn == 0 else (tp / (tp + fn) + tn / (tn + fp)) / 2


def auroc(label: Labels, score: Scores) -> float | None:
    """Area under the ROC curve; None where a class is absent."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(label > 0, score)) if _has_both(label) else None


def average_precision(label: Labels, score: Scores) -> float | None:
    """Area under the precision-recall curve, as a step function; a random score gets the prevalence."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(label > 0, score)) if _has_both(label) else None


def precision_at(label: Labels, score: Scores, k: int) -> float | None:
    """Share of positives among the k highest scores; None with fewer than k rows, or k = 0.

    Ties across the k-th place count by expectation.
    """
    if not 0 < k <= label.size:
        return None
    last = np.partition(score, label.size - k)[label.size - k]
    above, tied = score > last, score == last
    free = k - int(above.sum())
    return float(((label[above] > 0).sum() + free * (label[tied] > 0).mean()) / k)


def early_precision_ratio(label: Labels, score: Scores) -> float | None:
    """BEELINE's early precision ratio: precision of the top k, with k = number of positives, over the prevalence.

    1 is chance. Ties across the k-th place count by expectation; BEELINE's own code takes all of them, which lets a
    constant score have all edges. Source: Pratapa et al., Nature Methods 17:147, 2020.
    """
    n_positive = int((label > 0).sum())
    precision = precision_at(label, score, n_positive)
    return None if precision is None or not _has_both(label) else precision / (n_positive / label.size)


def average_precision_ratio(label: Labels, score: Scores) -> float | None:
    """Average precision over the prevalence (BEELINE's AUPRC ratio); 1 is chance."""
    precision = average_precision(label, score)
    return None if precision is None else precision / float((label > 0).mean())


def expected_calibration_error(label: Labels, probability: Scores) -> float:
    """Mean gap between probability and frequency over 15 bins of equal mass, each counted by its size.

    Bins of equal width would put nearly all pairs into the lowest where positives are rare.
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, CALIBRATION_BINS) if part.size]
    gaps = [abs(probability[part].mean() - (label[part] > 0).mean()) * part.size for part in parts]
    return float(sum(gaps) / label.size)


def _has_both(label: Labels) -> bool:
    return bool((label > 0).any() and (label == 0).any())


def ranking_scores(label: Labels, score: Scores, threshold: float) -> dict[str, float | None]:
    """The three figures of every scorer, the audit included."""
    return {
        "balanced_accuracy": balanced_accuracy(label, score, threshold),
        "auroc": auroc(label, score),
        "average_precision": average_precision(label, score),
    }


def all_scores(label: Labels, probability: Scores, threshold: float) -> dict[str, float | None]:
    """All figures of `metrics.json`'s "test", from probabilities (P,) at the natural prevalence.

    The threshold is chosen on the validation fold, never on these rows.
    """
    from sklearn.metrics import matthews_corrcoef

    called = np.asarray(probability, np.float64) >= threshold
    return ranking_scores(label, probability, threshold) | {
        "mcc": float(matthews_corrcoef(label > 0, called)) if _has_both(label) else None,
        **{f"precision_at_{k}": precision_at(label, probability, k) for k in PRECISION_AT},
        "early_precision_ratio": early_precision_ratio(label, probability),
        "average_precision_ratio": average_precision_ratio(label, probability),
        **calibration_scores(label, probability),
    }


def calibration_scores(label: Labels, probability: Scores) -> dict[str, float | None]:
    """How well probabilities fit the labels.

    `brier` is the mean squared error; `brier_skill` 1 less the Brier score over that of answering the prevalence to
    each pair, so 0 is no knowledge and 1 perfect; `log_loss` is in nats; `ece` is `expected_calibration_error`.
    """
    from sklearn.metrics import brier_score_loss, log_loss

    truth, p = label > 0, np.clip(np.asarray(probability, np.float64), 0, 1)
    ece = expected_calibration_error(label, p)
    if not _has_both(label):
        return {"brier": None, "brier_skill": None, "log_loss": None, "ece": ece}
    brier, prevalence = float(brier_score_loss(truth, p)), float(truth.mean())
    skill = 1 - brier / (prevalence * (1 - prevalence))
    return {"brier": brier, "brier_skill": skill, "log_loss": float(log_loss(truth, p)), "ece": ece}


@dataclass(frozen=True)
class Collapse:
    """Whether a network fell back to one answer, and why it is thought so."""

    collapsed: bool
    reason: str


def watch_collapse(label: Labels, probability: Scores, threshold: float) -> Collapse:
    """Detect a network that gives every pair the same answer.

    Collapsed means both: balanced accuracy at the threshold is not above 0.5 by more than two standard errors, and the
    prediction is nearly constant: one call for 99.9 % of the rows at probability 0.5 or at the threshold, or scores
    that hardly differ.
    """
    if not np.isfinite(probability).all():
        return Collapse(True, "scores are not finite")
    accuracy = balanced_accuracy(label, probability, threshold)
    if accuracy is None:
        return Collapse(False, "")
    n_positive, n_negative = int((label > 0).sum()), int((label == 0).sum())
    noise = 2 * np.sqrt(0.25 / n_positive + 0.25 / n_negative) / 2
    spread = float(np.std(probability))
    calls = np.mean(probability >= threshold), np.mean(probability >= 0.5)
    constant = spread < 1e-4 or any(min(share, 1 - share) < 1e-3 for share in calls)
    if accuracy - 0.5 > noise or not constant:
        return Collapse(False, "")
    return Collapse(
        True,
        f"balanced accuracy {accuracy:.3f} is not above 0.5 by more than noise (±{noise:.3f}) and the prediction is "
        f"nearly constant (deviation of the scores {spread:.2g}; called positive: {calls[0]:.1%} of the pairs)",
    )


CURVE_BINS = 10


def reliability_curve(label: Labels, probability: Scores) -> dict[str, list[float]]:
    """Mean probability, share of positives and number of pairs in ten bins of equal width; empty bins are left out."""
    p = np.clip(np.asarray(probability, np.float64), 0, 1)
    bins = np.minimum((p * CURVE_BINS).astype(int), CURVE_BINS - 1)
    pairs = np.bincount(bins, minlength=CURVE_BINS)
    sums = np.bincount(bins, p, CURVE_BINS), np.bincount(bins, label > 0, CURVE_BINS)
    predicted, observed = ((total[pairs > 0] / pairs[pairs > 0]).tolist() for total in sums)
    return {"predicted": predicted, "observed": observed, "pairs": pairs[pairs > 0].tolist()}


def calibration_record(label: Labels, as_trained: Scores, corrected: Scores) -> dict[str, Any]:
    """`metrics.json`'s "calibration": figures and reliability curve before and after the correction."""
    return {
        name: calibration_scores(label, probability) | {"curve": reliability_curve(label, probability)}
        for name, probability in (("as_trained", as_trained), ("prior_corrected", corrected))
    }


# ---------------------------------------------------------------- direction: classes 0 none, 1 a→b, 2 b→a

CLASSES = (0, 1, 2)


def forward_share(probability: Scores) -> NDArray[np.float64]:
    """Probability that an edge points from a to b, given that there is one: (P, 3) to (P,); 0.5 is no opinion."""
    p = np.asarray(probability, np.float64)
    edge = p[:, 1] + p[:, 2]
    return np.asarray(np.divide(p[:, 1], edge, out=np.full(edge.shape, 0.5), where=edge > 0))


def direction_accuracy(label: Labels, forward: Scores) -> float | None:
    """Share of the true edges (labels 1 and 2) whose direction is right, (P,) values each.

    A value of `forward` above 0.5 means a→b, below 0.5 b→a; exactly 0.5 is half right.
    """
    edge = label > 0
    if not edge.any():
        return None
    opinion = np.sign(np.asarray(forward, np.float64)[edge] - 0.5)
    return float((opinion * np.where(label[edge] == 1, 1, -1) + 1).mean() / 2)


def direction_auroc(label: Labels, forward: Scores) -> float | None:
    """How often an edge a→b gets a larger value than an edge b→a; None where only one direction occurs."""
    from sklearn.metrics import roc_auc_score

    edge = label > 0
    forward_edge = label[edge] == 1
    if not forward_edge.any() or forward_edge.all():
        return None
    return float(roc_auc_score(forward_edge, np.asarray(forward)[edge]))


def direction_scores(label: Labels, probability: Scores, threshold: float) -> dict[str, Any]:
    """`metrics.json`'s "direction" without its audit.

    Parameters
    ----------
    label : (P,)
        0, 1 or 2.
    probability : (P, 3)
    threshold
        Probability of any edge from which one is called; its direction is then the more probable one.

    Returns
    -------
    dict
        `n_edges`; `accuracy` and `auroc` of the direction among true edges; `accuracy_of_found` among those that are
        called; `recall` of each class and `balanced_accuracy`, their mean; `confusion`, 3 × 3, rows the truth. None:
        not defined.
    """
    from sklearn.metrics import confusion_matrix

    forward, found = forward_share(probability), 1 - np.asarray(probability, np.float64)[:, 0] >= threshold
    called = np.where(found, np.where(forward >= 0.5, 1, 2), 0)
    recall = [float(r) if (label == c).any() else None for c, r in zip(CLASSES, _recall(label, called), strict=True)]
    known = [r for r in recall if r is not None]
    return {
        "n_edges": int((label > 0).sum()),
        "accuracy": direction_accuracy(label, forward),
        "accuracy_of_found": direction_accuracy(label[found], forward[found]),
        "auroc": direction_auroc(label, forward),
        "recall": recall,
        "balanced_accuracy": float(np.mean(known)) if len(known) == len(CLASSES) else None,
        "confusion": confusion_matrix(label, called, labels=CLASSES).tolist(),
    }


def _recall(label: Labels, called: NDArray[np.integer]) -> NDArray[np.float64]:
    from sklearn.metrics import recall_score

    return np.asarray(recall_score(label, called, labels=CLASSES, average=None, zero_division=0))


# ---------------------------------------------------------------- kinds: classes 0 none, 1 and up a kind each


def kind_scores(label: Labels, probability: Scores, names: Sequence[str], threshold: float) -> dict[str, Any]:
    """`metrics.json`'s "kinds": how well dependence of each kind is found, and named.

    Parameters
    ----------
    label : (P,)
        Position in `names`, whose first is none.
    probability : (P, classes)
    threshold
        Probability of any dependence from which a pair is called; its kind is then the most probable one.

    Returns
    -------
    dict
        `names`; `n`, test pairs of each class; `named_right`, the share of dependent pairs whose most probable kind is
        theirs; `auroc`, by kind, of its pairs against those of none by the probability of any dependence; `confusion`
        of the calls, rows the truth. None: not defined.
    """
    from sklearn.metrics import confusion_matrix

    p = np.asarray(probability, np.float64)
    score, kind = p[:, 1:].sum(axis=1), p[:, 1:].argmax(axis=1) + 1
    found = {name: auroc(label[some], score[some]) for name, some in _each_kind(label, names)}
    called = np.where(score >= threshold, kind, 0)
    dependent = label > 0
    return {
        "names": list(names),
        "n": np.bincount(label, minlength=len(names)).tolist(),
        "named_right": float((kind == label)[dependent].mean()) if dependent.any() else None,
        "auroc": found,
        "confusion": confusion_matrix(label, called, labels=range(len(names))).tolist(),
    }


def _each_kind(label: Labels, names: Sequence[str]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Each kind with the rows that are of it or of none, (P,)."""
    return [(name, (label == 0) | (label == at)) for at, name in enumerate(names) if at]


# ---------------------------------------------------------------- several runs of one recipe

Figure = Callable[[list[float]], Any]


def mean_of(runs: Sequence[Any]) -> Any:
    """Mean of each figure of nested figures; None where no run has it, and of the others where some have not.

    Figures are numbers, None, or mappings of such; other values are left out.
    """
    return _each(runs, lambda numbers: float(np.mean(numbers)))


def spread_of(runs: Sequence[Any]) -> Any:
    """{min, max, standard_deviation} of each figure; the deviation (n − 1) is None for a single run."""
    return _each(runs, _spread)


def _spread(numbers: list[float]) -> dict[str, float | None]:
    deviation = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
    return {"min": min(numbers), "max": max(numbers), "standard_deviation": deviation}


def _each(runs: Sequence[Any], figure: Figure) -> Any:
    tables = [run for run in runs if isinstance(run, Mapping)]
    if tables:
        keys = dict.fromkeys(key for table in tables for key, value in table.items() if _is_figure(value))
        return {key: _each([table.get(key) for table in tables], figure) for key in keys}
    numbers = [float(value) for value in runs if value is not None and math.isfinite(value)]
    return figure(numbers) if numbers else None


def _is_figure(value: Any) -> bool:
    if value is None or isinstance(value, Mapping):
        return True
    return isinstance(value, int | float) and not isinstance(value, bool)
