"""The screen: the dependence from which a pair goes to the network, and what it loses, from a sample. Pure."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.options import Stream

SAMPLE_PAIRS = 4096  # standard error of a share of 10 % kept: 0.5 %
BEST = (10, 50, 200)  # of the sample, as the network ranks it: how many of these the screen keeps
STATISTIC = "standard deviations from independence: the larger of those of |Spearman| and of G over 3 × 3 bins"


def sample_rows(n_pairs: int, seed: int) -> NDArray[np.int64]:
    """Random candidates, ascending; all of them where there are no more."""
    if n_pairs <= SAMPLE_PAIRS:
        return np.arange(n_pairs)
    return np.sort(np.random.default_rng([seed, Stream.SCREEN_SAMPLE]).choice(n_pairs, SAMPLE_PAIRS, replace=False))


def place_threshold(dependence: NDArray[np.float32], fraction: float) -> float:
    """Dependence that the top `fraction` of a sample, (P,), reaches; what ties with the last of them is kept too."""
    kept = min(max(round(fraction * dependence.size), 1), dependence.size)
    return float(np.sort(dependence)[dependence.size - kept])


def screen_facts(
    fraction: float, threshold: float, dependence: NDArray[np.float32], score: NDArray[np.floating]
) -> dict[str, Any]:
    """What a file of scores says of the screen, from dependence and score (P,) of a sample that was scored whole.

    `fraction` asked for, `statistic` in words, `threshold`; `sample`, its number of pairs, `kept`, the share of them
    that reach the threshold, and `recall`: of the sample's best k, by k, the share that does.
    """
    reached, order = dependence >= threshold, np.argsort(-score, kind="stable")
    recall = {str(k): float(reached[order[:k]].mean()) for k in BEST if k <= dependence.size}
    return {
        "fraction": fraction,
        "statistic": STATISTIC,
        "threshold": threshold,
        "sample": int(dependence.size),
        "kept": float(reached.mean()),
        "recall": recall,
    }


def screen_line(facts: dict[str, Any]) -> str:
    """The same to print."""
    best = ", ".join(f"{share:.0%} of the best {k}" for k, share in facts["recall"].items())
    return (
        f"screen: pairs of dependence {facts['threshold']:.3f} or more go to the network, {facts['kept']:.1%} of a "
        f"sample of {facts['sample']:,}; of that sample, as the network ranks it, it keeps {best or 'the best'}"
    )
