"""Which pairs are called edges where nobody chooses, and what share of called pairs is expected to be wrong. Pure.

Two measures answer the second question, and they need not agree. The mean of 1 − score is right if the prior is, and
counts any dependence; the largest q-value needs no prior, and is of dependence beyond what decoys have in common. A
pair with a small q-value and a score below one half is one where they contradict each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.options import EdgeChoice

CALLED_BY = ("precision 0.5", "precision 0.9")  # thresholds by which edges are counted, the first that is there
LIKELY = {"more likely than not": 0.5}  # where training placed no threshold for a precision
CALLED_Q = 0.05  # a false discovery rate that pairs are called at, where there are q-values


def known_thresholds(facts: Mapping[str, Any]) -> dict[str, float]:
    """Probability by aim from which on pairs are called, of those that training placed and of one half."""
    placed = facts.get("thresholds") or {}
    return {aim: float(p) for aim, p in placed.items() if p is not None} | LIKELY


def calling_aim(thresholds: Mapping[str, float]) -> str:
    """Aim of the threshold by which edges are counted."""
    return next((known for known in CALLED_BY if known in thresholds), next(iter(LIKELY)))


def called_choice(facts: Mapping[str, Any], columns: tuple[str, ...]) -> EdgeChoice:
    """The choice of what a report calls: by q-value, of a network of kinds that has them, otherwise by threshold."""
    if "kind" in columns and "q_value" in columns:
        return EdgeChoice(max_q=CALLED_Q)
    thresholds = known_thresholds(facts)
    return EdgeChoice(threshold=thresholds[calling_aim(thresholds)])


@dataclass
class Called:
    """Some called pairs, summed up.

    Attributes
    ----------
    pairs
        How many there are.
    wrong
        Sum of 1 − score: how many of them are no edges if the scores can be taken at their word.
    largest_q
        The largest q-value among them; 0 without q-values.
    """

    pairs: int = 0
    wrong: float = 0.0
    largest_q: float = 0.0

    def add(self, score: NDArray[np.floating], q_value: NDArray[np.floating] | None) -> None:
        """Take called pairs in: scores (P,), none of them NaN, and q-values (P,)."""
        self.pairs += score.size
        self.wrong += float((1 - score.astype(np.float64)).sum())
        if q_value is not None and not np.isnan(q_value).all():
            self.largest_q = max(self.largest_q, float(np.nanmax(q_value)))

    @property
    def by_score(self) -> float | None:
        """Share that is expected to be wrong by the scores; None without a pair."""
        return self.wrong / self.pairs if self.pairs else None

    @property
    def by_q(self) -> float | None:
        """The same by the q-values: the false discovery rate of all pairs up to the largest; None without q-values."""
        return self.largest_q or None

    def words(self, prior: Any) -> str:
        """Both measures of the share that is expected to be wrong."""
        if self.by_score is None:
            return "no pair"
        stated = "" if prior is None else f" at a prior of {float(prior):.4g}"
        said = f"{self.by_score:.2%} by their scores{stated}"
        return said if self.by_q is None else f"{said}, {self.by_q:.2%} by their q-values"
