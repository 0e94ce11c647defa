"""Which way an edge points: figures of three-class networks (0 none, 1 a→b, 2 b→a). Pure."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, recall_score, roc_auc_score

from pairscape.model.evaluation.metrics import Labels, Scores

CLASSES = (0, 1, 2)


def forward_share(probability: Scores) -> NDArray[np.float64]:
    """Probability that an edge points from a to b, given that there is one: (P, 3) to (P,); 0.5 is no opinion."""
    p = np.asarray(probability, np.float64)
    edge = p[:, 1] + p[:, 2]
    return np.asarray(np.divide(p[:, 1], edge, out=np.full(edge.shape, 0.5), where=edge > 0))


def direction_accuracy(label: Labels, forward: Scores) -> float | None:
    """Share of the true edges (labels 1 and 2) whose direction is right.

    Parameters
    ----------
    label, forward : (P,)
        A value above 0.5 says a→b, below 0.5 b→a; exactly 0.5 is half right.
    """
    edge = label > 0
    if not edge.any():
        return None
    opinion = np.sign(np.asarray(forward, np.float64)[edge] - 0.5)
    return float((opinion * np.where(label[edge] == 1, 1, -1) + 1).mean() / 2)


def direction_auroc(label: Labels, forward: Scores) -> float | None:
    """How often an edge a→b gets a larger value than an edge b→a; None where only one direction occurs."""
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
        `n_edges`; `accuracy` and `auroc` of the direction among true edges; `accuracy_of_found`, the same among those
        that are called; `recall` of each class and `balanced_accuracy`, their mean; `confusion`, 3 × 3, rows the truth.
        None where not defined.
    """
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
    return np.asarray(recall_score(label, called, labels=CLASSES, average=None, zero_division=0))
