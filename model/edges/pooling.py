"""How the scores of several sets for one pair become one: by log-odds, by z, or by rank. Pure.

Of each set k that has seen a pair: the correlation rho_k over n_k cells, z_k = √n_k · rho_k, and the evidence
e_k = log-odds of the score less those of the prior of that prediction, so that no prior is counted twice. A network's
evidence may end (momentnet's does near 6), so no single set outvotes the others.

| rule | score of a pair |
|---|---|
| `mean-z` | m / (1 + m) of the size m of the mean z: no probability, m are its odds |
| `log-odds` | the probability of dependence at the prior: log-odds of the prior + Σ e_k |
| `mean-rank` | size of the mean of r_k: sign of rho_k times the share of the set's pairs of no larger size of rho |

Sets that disagree on the sign take from each other in `mean-z` and `mean-rank`. Under `log-odds` they do not, as two
genes that rise together here and fall there depend in both; and sets that see nothing speak against a dependence, as
it is taken to be in all sets or in none. A set that has not seen a pair says nothing of it.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Rule = Literal["log-odds", "mean-z", "mean-rank"]
RULES = get_args(Rule)
MOST = 16.0  # log-odds that float32 still tells from certainty
CERTAIN = 6.0  # pooled log-odds up to which they are kept; beyond, they approach CERTAIN + BEYOND
BEYOND = 6.0

Reals = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]


def log_odds(probability: NDArray[np.floating]) -> Reals:
    """Log-odds of probabilities, within ±`MOST`."""
    p = np.clip(np.asarray(probability, np.float64), 1e-12, 1 - 1e-12)
    return np.clip(np.log(p) - np.log1p(-p), -MOST, MOST)


def probability(odds: Reals) -> Reals:
    """The probability of log-odds that sum up over sets, in which those far apart are still told apart.

    Sets are not independent, and a sum over a dozen of them is no measure of how certain a pair is; float32 would call
    all of them 1. So log-odds are taken as they are up to `CERTAIN`, and beyond approach `CERTAIN` + `BEYOND`.
    """
    excess = np.maximum(np.abs(odds) - CERTAIN, 0)
    bent = np.sign(odds) * (np.minimum(np.abs(odds), CERTAIN) + BEYOND * excess / (excess + 4 * BEYOND))
    return np.asarray(1 / (1 + np.exp(-bent)))


@dataclass(frozen=True, eq=False)
class Sets:
    """What is known of the sets that are pooled.

    Attributes
    ----------
    cells, prior : (sets,)
        Cells of each, and the prior of its scores.
    """

    cells: Reals
    prior: Reals

    def __len__(self) -> int:
        return self.cells.size

    def z(self, rows: Columns) -> Reals:
        """√n · rho of rows."""
        return np.asarray(np.sqrt(self.cells)[rows["set"]] * np.nan_to_num(rows["correlation"]))

    def evidence(self, rows: Columns) -> Reals:
        """Log-odds beyond the prior of rows; 0 of those without a score."""
        found = log_odds(np.nan_to_num(rows["score"], nan=0.5)) - log_odds(self.prior)[rows["set"]]
        return np.where(np.isnan(rows["score"]), 0, found)


def signed_ranks(correlation: NDArray[np.floating]) -> NDArray[np.float32]:
    """Sign of each correlation times the share of those whose size is smaller or the same, −1 to 1."""
    from scipy.stats import rankdata

    size = np.abs(np.nan_to_num(correlation))
    return np.asarray(np.sign(correlation) * rankdata(size) / max(size.size, 1), np.float32)


def pool(rows: Columns, sets: Sets, rule: Rule, prior: float) -> Columns:
    """One row a pair of rows that are sorted by `key`, those of a pair in the order of the sets.

    Parameters
    ----------
    rows
        (R,) each: `key`, `set` (number), `score`, `correlation`, `dependence`, `label`; under `mean-rank` also `rank`;
        where there are kinds, `kind` and `kind_probability`.
    prior
        Of the scores by log-odds.

    Returns
    -------
    dict
        (P,) each: `key`, `first` (its first row), `score` (by log-odds NaN where no set has scored the pair),
        `correlation` (Fisher's z averaged by cells, transformed back), `dependence` (mean), `label` (of the first set
        that knows one), `mean_z`, `log_odds` (evidence of sets where the genes rise together less that of the others),
        `sets` (how many have seen the pair), the kind of the set with most evidence, and under `mean-rank` `mean_rank`.
    """
    start = np.flatnonzero(np.diff(rows["key"], prepend=rows["key"][:1] - 1))
    number = np.diff(start, append=rows["key"].size)
    z, evidence = sets.z(rows), sets.evidence(rows)
    weight, rho = sets.cells[rows["set"]], np.nan_to_num(rows["correlation"]).astype(np.float64)
    fisher = np.arctanh(np.clip(rho, -1 + 1e-7, 1 - 1e-7))

    def total(values: Reals) -> Reals:
        return np.add.reduceat(values, start)

    found: Columns = {
        "key": rows["key"][start],
        "first": start,
        "label": _first_known(rows["label"], start, number),
        "dependence": total(rows["dependence"]) / number,
        "correlation": np.tanh(total(weight * fisher) / total(weight)),
        "mean_z": total(z) / number,
        "log_odds": total(np.sign(rho) * np.maximum(evidence, 0)),
        "sets": number,
    }
    if rule == "log-odds":
        scored = total((~np.isnan(rows["score"])).astype(np.float64)) > 0
        odds = np.where(scored, float(log_odds(np.array(prior))) + total(evidence), np.nan)
        found["score"] = probability(odds)
    elif rule == "mean-z":
        size = np.abs(found["mean_z"])
        found["score"] = size / (1 + size)
    else:
        found["mean_rank"] = total(rows["rank"]) / number
        found["score"] = np.abs(found["mean_rank"])
    if "kind" in rows:
        best = _first_best(evidence, start, number)
        found |= {name: rows[name][best] for name in ("kind", "kind_probability")}
    return found


def _first_known(label: NDArray[np.int8], start: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int8]:
    """The first label of each pair that is one, −1 where there is none."""
    return label[_first_best((label >= 0).astype(np.float64), start, number)]


def _first_best(value: Reals, start: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each pair that has its largest value."""
    best = np.flatnonzero(value == np.repeat(np.maximum.reduceat(value, start), number))
    return best[np.searchsorted(best, start)]
