"""What each set's evidence is worth, learned on a gold list of pairs: logistic regression, and an honest audit of it.

A pair has six numbers of each set that has seen it: sign · log(1 + |z|), log(1 + |z|), rho, the evidence e, its
probability at even odds, and 1 for being seen; 0 all of a set that has not. They are weighed first, and the sum then
beside the correlation through the main factors of all pairs, where the files hold these (model.edges.factors). What
comes of it is the pair's log-odds, so pairs are scored row by row, as by the other rules.

Negatives are the positives with partners swapped, as far as the files hold such pairs, so a gene is about as often
negative as positive. Pairs are judged in units: some of the groups that the list names, or the pairs between two of a
few folds of genes. The model of a unit is fitted to the pairs that share no gene with any pair of the unit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.edges.factors import Factors
from pairscape.model.edges.pooling import Columns, Sets, log_odds, pool
from pairscape.model.edges.score_sets import Pool
from pairscape.model.evaluation.baselines import labels_only
from pairscape.model.evaluation.bootstrap import against_baseline, interval
from pairscape.model.evaluation.metrics import auroc, average_precision
from pairscape.model.options import Combination
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.lists import read_grouped_pairs
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.options import Stream

TRIES, NEGATIVES = 12, 3  # swaps tried for each positive, and kept
GENE_FOLDS, MOST_UNITS = 5, 100
LEAST = 20  # positives, and negatives, that a model is fitted to
PENALTY = 3e-5  # inverse strength; 1e-5 to 1e-4 are the same within 0.002 of AUROC
FREE = 1.0  # hardly a penalty, for two weights
EVEN = 0.5  # prior at which balanced classes are learned
RESAMPLES = 2000  # of groups

Rows = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gold:
    """Pairs of a gold list and their negatives, by the genes of the union.

    Attributes
    ----------
    gene_a, gene_b, key, group, unit : (P,) int64
        `group` is −1 where the list names none.
    label : (P,) int8
        1 or 0.
    """

    gene_a: Rows
    gene_b: Rows
    key: Rows
    label: NDArray[np.int8]
    group: Rows
    unit: Rows

    def take(self, rows: NDArray[Any]) -> "Gold":
        """Some of them."""
        return Gold(**{name: values[rows] for name, values in vars(self).items()})

    def splits(self) -> Iterator[tuple[Rows, Rows]]:
        """Of each unit the rows to fit a model to, which share no gene with it, and its own."""
        for unit in np.unique(self.unit):
            own = self.unit == unit
            genes = np.union1d(self.gene_a[own], self.gene_b[own])
            apart = ~np.isin(self.gene_a, genes) & ~np.isin(self.gene_b, genes)
            yield np.flatnonzero(apart), np.flatnonzero(own)


@dataclass(frozen=True, eq=False)
class Learned:
    """The model of all gold pairs, their scores by models that saw neither gene, and the audit.

    Attributes
    ----------
    key, odds : (P,)
        Of the gold pairs, keys ascending; NaN where too few pairs share no gene with the unit.
    """

    sets: Sets
    factors: Factors | None
    prior: float
    model: "Model"
    key: Rows
    odds: Reals
    facts: dict[str, Any]

    def score(self, rows: Columns, found: Columns) -> Reals:
        """Probability that pairs are like the gold list, at the prior; rows and what `pool` found of them."""
        key, weights = found["key"], self.model.weights.reshape(len(self.sets), -1)
        along = np.add.reduceat((numbers(rows, self.sets) * weights[rows["set"]]).sum(1), found["first"])
        odds = self.model.intercept + along + self.model.through * shared(self.factors, key)
        at = np.minimum(np.searchsorted(self.key, key), self.key.size - 1)
        odds = np.where(self.key[at] == key, self.odds[at], odds)
        return np.asarray(1 / (1 + np.exp(-odds - float(log_odds(np.array(self.prior))))))

    def lines(self) -> list[str]:
        """The audit in words."""
        known, found = self.facts, self.facts["audit"]
        values = ", ".join(f"{name} {auc:.3f}" for name, auc in found["auroc"].items())
        ahead = found["against_baseline"]
        lines = [
            f"{known['list']}; {known['positives']:,} positives and {known['negatives']:,} negatives are in the files",
            f"AUROC of pairs whose genes the model has not seen: {values}; {ahead['verdict']} (the best of the others)",
        ]
        if (groups := found.get("groups")) is not None:
            low, high = groups["interval"]
            means = ", ".join(f"{name} {auc:.3f}" for name, auc in groups["auroc"].items())
            lines.append(f"mean AUROC of {groups['number']} groups: {means}; learned less mean z "
                         f"{groups['difference']:+.3f} [{low:+.3f}, {high:+.3f}]")  # fmt: skip
        return lines


@dataclass(frozen=True, eq=False)
class Model:
    """Log-odds of a pair, with positives and negatives as likely.

    Attributes
    ----------
    weights : (sets · 6,)
    through
        Weight of the correlation through the main factors.
    """

    weights: Reals
    through: float
    intercept: float

    def odds(self, x: Reals, through: Reals) -> Reals:
        """(P,) log-odds of pairs by their numbers (P, sets · 6) and correlations through the factors (P,)."""
        return np.asarray(x @ self.weights + self.through * through + self.intercept)


def shared(factors: Factors | None, key: Rows) -> Reals:
    """(P,) correlations of pairs through the main factors; 0 where there are none."""
    return np.zeros(key.size) if factors is None else factors.correlation(key)


def numbers(rows: Columns, sets: Sets) -> Reals:
    """What is known of rows of one pair in one set, (R, 6)."""
    z, evidence = sets.z(rows), sets.evidence(rows)
    size = np.log1p(np.abs(z))
    rho = np.nan_to_num(rows["correlation"])
    return np.stack([np.sign(z) * size, size, rho, evidence, 1 / (1 + np.exp(-evidence)), np.ones(z.size)], axis=1)


def learn(sources: Pool, factors: Factors | None, wanted: Combination, prior: float, seed: int) -> Learned:
    """Learn what the evidence of each set is worth.

    Raises
    ------
    InputError
        The gold list cannot be read, or too few of its pairs, or of negatives to them, are in the files.
    """
    assert wanted.learn is not None
    rng = np.random.default_rng([seed, Stream.GOLD_PAIRS])
    gold, own, words = read_gold(wanted.learn, sources, rng)
    rows, _ = sources.rows(0, sources.most, np.unique(gold.key))
    found = pool(rows, sources.sets, "mean-rank", EVEN)
    gold = gold.take(np.isin(gold.key, found["key"]))
    gold = gold if own else _some_negatives(gold, rng)
    _require_enough(gold, wanted.learn, sources)
    at = np.searchsorted(found["key"], gold.key)
    x = _matrix(rows, found, sources.sets)[at]
    through = shared(factors, gold.key)
    odds = _out_of_fold(x, through, gold, seed)
    if np.isnan(odds).all():
        raise InputError(
            f"{wanted.learn}: its pairs share so many genes that no model can be judged on pairs of unseen genes; give "
            "a list of more genes or groups."
        )
    model = _fit(x, through, gold, seed)
    columns = {name: found[name][at] for name in ("mean_z", "log_odds", "sets")}
    columns["mean_rank"] = found["mean_rank"][at]
    columns |= {} if factors is None else {"factors": through}
    facts = {
        "list": words,
        "positives": int(gold.label.sum()),
        "negatives": int((gold.label == 0).sum()),
        "weights": model.weights.reshape(len(sources.sets), -1).tolist(),
        "factor_weight": None if factors is None else model.through,
        "audit": _audit(gold, odds, columns, seed),
    }
    order = np.argsort(gold.key)
    return Learned(sources.sets, factors, prior, model, gold.key[order], odds[order], facts)


# ── the gold list ────────────────────────────────────────────────────────────────────────────────────────────────────


def read_gold(path: Path, sources: Pool, rng: np.random.Generator) -> tuple[Gold, bool, str]:
    """Positives of a gold list with negatives, whether these are its own, and in words what was found of it.

    Raises
    ------
    InputError
        The list cannot be read, none of its genes is in the files, or no pair has both.
    """
    named, groups = read_grouped_pairs(path)
    found = sources.known.find(named.gene_a + named.gene_b, "genes", path)
    gene_a, gene_b = np.split(found.index, 2)
    known = np.flatnonzero((gene_a >= 0) & (gene_b >= 0) & (gene_a != gene_b))
    label = np.ones(gene_a.size, np.int8) if named.label is None else named.label
    known = known[label[known] >= 0]
    group = np.full(gene_a.size, -1) if groups is None else np.unique(groups, return_inverse=True)[1]
    key = sources.key_of(gene_a, gene_b)
    _, first = np.unique(key[known], return_index=True)  # a pair counts once, as at its first mention
    rows = known[np.sort(first)]
    gold = Gold(gene_a[rows], gene_b[rows], key[rows], (label[rows] > 0).astype(np.int8), group[rows], rows * 0)
    if not gold.label.any():
        raise InputError(f"{path}: no pair has both genes in the files; {found.report('genes', 'files')}.")
    own = bool((gold.label == 0).any())
    gold = _in_units(gold, own, len(sources.union.names), rng)
    words = f"{path.name}: {named.columns}; {found.report('genes', 'files')}"
    return (gold if own else _with_swapped(gold, sources, rng)), own, words


def _in_units(gold: Gold, own: bool, n_genes: int, rng: np.random.Generator) -> Gold:
    """The pairs in units: some groups each, or without groups the blocks of a few folds of genes."""
    group, size = np.unique(gold.group, return_counts=True)
    if group.size < 4:
        fold = rng.integers(GENE_FOLDS, size=n_genes)
        a, b = fold[gold.gene_a], fold[gold.gene_b]
        turned = a > b  # so that swapped partners stay in the block
        ends = np.where(turned, gold.gene_b, gold.gene_a), np.where(turned, gold.gene_a, gold.gene_b)
        return Gold(*ends, gold.key, gold.label, gold.group, np.minimum(a, b) * GENE_FOLDS + np.maximum(a, b))
    units = min(group.size if own else group.size // 2, MOST_UNITS)  # partners are swapped between groups of a unit
    load, unit = np.zeros(units), np.zeros(group.size, np.int64)
    for at in np.argsort(-size, kind="stable").tolist():
        unit[at] = np.argmin(load)
        load[unit[at]] += size[at]
    return Gold(gold.gene_a, gold.gene_b, gold.key, gold.label, gold.group, unit[np.searchsorted(group, gold.group)])


def _with_swapped(gold: Gold, sources: Pool, rng: np.random.Generator) -> Gold:
    """The positives, and pairs of the ends of two positives of a unit that are none themselves."""
    made = [gold]
    for unit in np.unique(gold.unit):
        rows = np.flatnonzero(gold.unit == unit)
        one = np.repeat(rows, TRIES)
        other = rng.choice(rows, one.size)
        a, b = gold.gene_a[one], gold.gene_b[other]
        made.append(Gold(a, b, sources.key_of(a, b), np.zeros(a.size, np.int8), gold.group[one], gold.unit[one]))
    every = Gold(*(np.concatenate([getattr(part, name) for part in made]) for name in vars(gold)))
    _, first = np.unique(every.key, return_index=True)  # positives come first
    return every.take(np.sort(first[every.gene_a[first] != every.gene_b[first]]))


def _some_negatives(gold: Gold, rng: np.random.Generator) -> Gold:
    """The positives, and of each unit's negatives so many for each positive."""
    kept = gold.label > 0
    for unit in np.unique(gold.unit):
        rows = np.flatnonzero((gold.unit == unit) & (gold.label == 0))
        most = NEGATIVES * int(((gold.unit == unit) & (gold.label > 0)).sum())
        kept[rng.permutation(rows)[:most]] = True
    return gold.take(kept)


def _require_enough(gold: Gold, path: Path, sources: Pool) -> None:
    positive, negative = int(gold.label.sum()), int((gold.label == 0).sum())
    if min(positive, negative) < LEAST:
        raise InputError(
            f"{path}: {positive:,} of its pairs are in the files, and {negative:,} negatives to them (partners of two "
            f"pairs swapped, or its own of label 0); {LEAST} of each are needed to learn from: give a longer list, "
            "one with several groups, or score all pairs of its genes."
        )


# ── the model ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _matrix(rows: Columns, found: Columns, sets: Sets) -> Reals:
    """The numbers of each pair, (P, sets · 6), 0 of a set that has not seen it."""
    known = numbers(rows, sets)
    x = np.zeros((found["key"].size, len(sets), known.shape[1]))
    x[np.repeat(np.arange(found["key"].size), found["sets"]), rows["set"]] = known
    return x.reshape(x.shape[0], -1)


def _fit(x: Reals, through: Reals, gold: Gold, seed: int) -> Model:
    """Fit the model to the pairs' numbers (P, sets · 6) and their correlations through the factors (P,)."""
    from sklearn.linear_model import LogisticRegression

    rows = compared(gold, np.random.default_rng([seed, Stream.GOLD_PAIRS]))
    weights = _ordering(x, rows, PENALTY)
    both = np.stack([x @ weights, through], axis=1)
    parts = _ordering(both, rows, FREE)
    along = both @ parts
    size = along.std() or 1.0
    level = LogisticRegression(class_weight="balanced").fit(along[:, None] / size, gold.label)
    scale = level.coef_[0, 0] / size
    return Model(weights * parts[0] * scale, float(parts[1] * scale), float(level.intercept_[0]))


def _ordering(x: Reals, rows: tuple[Rows, Rows], penalty: float) -> Reals:
    """Weights of numbers by which the first of two rows comes before the second."""
    from sklearn.linear_model import LogisticRegression

    spread = x.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    turned = np.where(np.arange(rows[1].size) % 2, 1, -1)
    less = (x[rows[0]] - x[rows[1]]) / scale * turned[:, None]
    model = LogisticRegression(C=penalty, fit_intercept=False, max_iter=1000).fit(less, turned)
    return np.asarray(model.coef_[0] / scale)


def compared(gold: Gold, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Rows of positives and of negatives, each negative once, that share a gene; where none does, of any positive."""
    positive, negative = np.flatnonzero(gold.label), np.flatnonzero(gold.label == 0)
    gene, row = np.concatenate([gold.gene_a[positive], gold.gene_b[positive]]), np.tile(positive, 2)
    order = np.argsort(gene, kind="stable")
    gene, row = gene[order], row[order]
    ends = gold.gene_a[negative], gold.gene_b[negative]
    first = [np.searchsorted(gene, end) for end in ends]
    found = [np.searchsorted(gene, end, "right") - start for end, start in zip(ends, first, strict=True)]
    drawn = rng.integers(np.maximum(found[0] + found[1], 1))
    at = np.where(drawn < found[0], first[0] + drawn, first[1] + drawn - found[0])
    at = np.where(found[0] + found[1] > 0, at, rng.integers(row.size, size=negative.size))
    return row[at], negative


def _out_of_fold(x: Reals, through: Reals, gold: Gold, seed: int) -> Reals:
    """Log-odds of each pair by a model that saw neither gene; NaN where too few pairs are apart."""
    odds = np.full(gold.key.size, np.nan)
    for train, test in gold.splits():
        label = gold.label[train]
        if min(label.sum(), (label == 0).sum()) >= LEAST:
            model = _fit(x[train], through[train], gold.take(train), seed)
            odds[test] = model.odds(x[test], through[test])
    return odds


# ── the audit ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _audit(gold: Gold, odds: Reals, columns: Columns, seed: int) -> dict[str, Any]:
    """The learned order beside those of the other rules, of pairs whose genes the model has not seen."""
    judged = np.flatnonzero(~np.isnan(odds))
    gold, label = gold.take(judged), gold.label[judged]
    rules = {name.replace("_", " "): values[judged].astype(np.float64) for name, values in columns.items()}
    scores = {"learned": odds[judged], **rules, "labels alone": _labels_alone(gold)}
    others: dict[str, Reals] = {name: rules[name] for name in rules if name != "sets"}
    found: dict[str, Any] = {
        "pairs": judged.size,
        "auroc": {name: auroc(label, score) for name, score in scores.items()},
        "average_precision": {name: average_precision(label, score) for name, score in scores.items()},
        "against_baseline": against_baseline(label, odds[judged], others, (gold.gene_a, gold.gene_b), seed),
    }
    return found | ({"groups": groups} if (groups := _by_group(gold, scores, seed)) else {})


def _labels_alone(gold: Gold) -> Reals:
    """What the labels of a unit's training pairs say of its pairs: nothing, as they share no gene."""
    n_genes = int(max(gold.gene_a.max(), gold.gene_b.max())) + 1
    pairs = Pairs(gold.gene_a.astype(np.int32), gold.gene_b.astype(np.int32), gold.label)
    found = np.zeros(gold.key.size)
    for train, test in gold.splits():
        share = np.array(gold.label[train].mean())  # what both genes of any pair get that no label tells of
        found[test] = labels_only(pairs, train, test, n_genes, directed=False) - 2 * log_odds(share)
    return found


def _by_group(gold: Gold, scores: dict[str, Reals], seed: int) -> dict[str, Any] | None:
    """Mean AUROC over the groups, each with its own negatives, and learned less mean z with a bootstrap over groups."""
    rows = [np.flatnonzero(gold.group == group) for group in np.unique(gold.group[gold.group >= 0])]
    rows = [some for some in rows if 0 < gold.label[some].sum() < some.size]
    if len(rows) < 4:
        return None
    auc = {name: np.array([auroc(gold.label[some], score[some]) for some in rows]) for name, score in scores.items()}
    difference = auc["learned"] - auc["mean z"]
    drawn = np.random.default_rng([seed, Stream.GENE_BOOTSTRAP]).integers(len(rows), size=(RESAMPLES, len(rows)))
    return {
        "number": len(rows),
        "auroc": {name: float(values.mean()) for name, values in auc.items()},
        "difference": float(difference.mean()),
        "interval": interval(difference[drawn].mean(axis=1)),
    }
