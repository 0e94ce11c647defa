"""Scores of a classifier at the natural prevalence, and the watch for networks that answer one class. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    matthews_corrcoef,
    precision_recall_curve,
    roc_auc_score,
)

Labels = NDArray[np.integer]
Scores = NDArray[np.floating]

CALIBRATION_BINS = 15
PRECISION_AT = (10, 100, 1000)


def prior_corrected(probability: Scores, shown: float, natural: float) -> NDArray[np.float64]:
    """Probability at the natural prevalence from that of a network trained on another one.

    Balanced training shifts the log-odds by a constant (Saerens et al., Neural Computation 14:21, 2002); this shifts
    them back.

    Parameters
    ----------
    probability : (P,)
        Of being positive, where the share `shown` was positive.
    shown, natural
        Share of positives in training batches and in the data.
    """
    if not 0 < shown < 1 or not 0 < natural < 1:
        return np.asarray(probability, np.float64)
    p = np.clip(np.asarray(probability, np.float64), 1e-12, 1 - 1e-12)
    odds = p / (1 - p) * (natural / (1 - natural)) / (shown / (1 - shown))
    return np.asarray(odds / (1 + odds))


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
    return float(roc_auc_score(label > 0, score)) if _has_both(label) else None


def average_precision(label: Labels, score: Scores) -> float | None:
    """Area under the precision-recall curve, as a step function; a random score gets the prevalence."""
    return float(average_precision_score(label > 0, score)) if _has_both(label) else None


def precision_at(label: Labels, score: Scores, k: int) -> float | None:
    """Share of positives among the k highest scores; None with fewer than k rows, or k = 0.

    Where equal scores lie across the k-th place, the share expected if they were put in random order.
    """
    if not 0 < k <= label.size:
        return None
    last = np.partition(score, label.size - k)[label.size - k]
    above, tied = score > last, score == last
    free = k - int(above.sum())
    return float(((label[above] > 0).sum() + free * (label[tied] > 0).mean()) / k)


def early_precision_ratio(label: Labels, score: Scores) -> float | None:
    """BEELINE's early precision ratio: precision of the top k, with k = number of positives, over the prevalence.

    1 is chance. Ties across the k-th place count by expectation (BEELINE's own code takes all of them in, which lets a
    constant score have all edges for its top k). Source: Pratapa et al., Nature Methods 17:147, 2020.
    """
    n_positive = int((label > 0).sum())
    precision = precision_at(label, score, n_positive)
    return None if precision is None or not _has_both(label) else precision / (n_positive / label.size)


def average_precision_ratio(label: Labels, score: Scores) -> float | None:
    """Average precision over the prevalence (BEELINE's AUPRC ratio); 1 is chance."""
    precision = average_precision(label, score)
    return None if precision is None else precision / float((label > 0).mean())


def expected_calibration_error(label: Labels, probability: Scores) -> float:
    """Mean gap between probability and frequency over 15 bins of equal mass.

    Bins of equal width would put nearly all pairs into the lowest where positives are rare. Mean over rows, so the gap
    of each bin counts by its size.
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, CALIBRATION_BINS) if part.size]
    gaps = [abs(probability[part].mean() - (label[part] > 0).mean()) * part.size for part in parts]
    return float(sum(gaps) / label.size)


def _has_both(label: Labels) -> bool:
    return bool((label > 0).any() and (label == 0).any())


def ranking_scores(label: Labels, score: Scores, threshold: float) -> dict[str, float | None]:
    """The three figures every scorer gets, the audit's included."""
    return {
        "balanced_accuracy": balanced_accuracy(label, score, threshold),
        "auroc": auroc(label, score),
        "average_precision": average_precision(label, score),
    }


def all_scores(label: Labels, probability: Scores, threshold: float) -> dict[str, float | None]:
    """All figures of `metrics.json`'s "test", from probabilities at the natural prevalence.

    Parameters
    ----------
    label : (P,)
        0 none, above 0 positive.
    probability : (P,)
    threshold
        Chosen on the validation fold, never on these rows.
    """
    called = np.asarray(probability, np.float64) >= threshold
    return ranking_scores(label, probability, threshold) | {
        "mcc": float(matthews_corrcoef(label > 0, called)) if _has_both(label) else None,
        **{f"precision_at_{k}": precision_at(label, probability, k) for k in PRECISION_AT},
        "early_precision_ratio": early_precision_ratio(label, probability),
        "average_precision_ratio": average_precision_ratio(label, probability),
        **calibration_scores(label, probability),
    }


def calibration_scores(label: Labels, probability: Scores) -> dict[str, float | None]:
    """How far probabilities can be taken at their word.

    Returns
    -------
    dict
        `brier`: mean squared error. `brier_skill`: 1 less the Brier score over that of answering the prevalence to each
        pair, so 0 is no knowledge and 1 perfect. `log_loss` in nats. `ece`: see `expected_calibration_error`.
    """
    truth, p = label > 0, np.clip(np.asarray(probability, np.float64), 0, 1)
    ece = expected_calibration_error(label, p)
    if not _has_both(label):
        return {"brier": None, "brier_skill": None, "log_loss": None, "ece": ece}
    brier, prevalence = float(brier_score_loss(truth, p)), float(truth.mean())
    skill = 1 - brier / (prevalence * (1 - prevalence))
    return {"brier": brier, "brier_skill": skill, "log_loss": float(log_loss(truth, p)), "ece": ece}


@dataclass(frozen=True)
class Collapse:
    """Whether a network fell back to one answer, and what shows it."""

    collapsed: bool
    reason: str


def watch_collapse(label: Labels, probability: Scores, threshold: float) -> Collapse:
    """Tell a network that learned from one that gives every pair the same answer.

    Collapsed means both: balanced accuracy at the threshold is not above 0.5 by more than noise (two standard errors; a
    threshold among scores that hardly differ may also fall below by chance), and the prediction is nearly constant: one
    call for 99.9 % of the rows at probability 0.5 or at the threshold, or scores that hardly differ.
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
