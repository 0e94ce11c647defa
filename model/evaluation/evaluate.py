"""The evaluation of a classifier on rows that it never saw: scores at the natural prevalence, and the audit."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pairscape.model.batches.folds import Folds
from pairscape.model.batches.order import Rows
from pairscape.model.evaluation.baselines import (
    direction_from_labels,
    direction_from_marginals,
    heatmap_statistics,
    labels_of_one_side,
    labels_only,
    marginals_only,
)
from pairscape.model.evaluation.bootstrap import against_baseline
from pairscape.model.evaluation.depth_null import depth_null
from pairscape.model.evaluation.metrics import (
    all_scores,
    best_threshold,
    calibration_record,
    confusion,
    direction_accuracy,
    direction_auroc,
    direction_scores,
    early_precision_ratio,
    forward_share,
    kind_scores,
    operating_point,
    precision_threshold,
    ranking_scores,
    watch_collapse,
)
from pairscape.model.evaluation.rivals import COUNT_RIVALS, FACTORS_RESIDUAL, count_rivals
from pairscape.model.networks.classifier import PairClassifier, score_images, score_rows
from pairscape.model.networks.fast import Probabilities, prepare
from pairscape.model.networks.gene_context import store_loadings
from pairscape.model.networks.prior import PriorCorrection
from pairscape.model.networks.render import independence_residual
from pairscape.model.networks.weights import write_text
from pairscape.pipeline.compute.progress import Progress
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.images import Images
from pairscape.pipeline.options import Stream
from pairscape.pipeline.storage.write import replaced

FACTORS_ONLY = "factors_only"  # another, for a network that takes the factors
EXPRESSION = (
    "marginals_only", "pearson", "spearman", "mutual_information", "distance_correlation", "hsic", *COUNT_RIVALS,
)  # the audit's rows that use expression  # fmt: skip
PRECISION_TARGETS = (0.5, 0.9)
EXAMPLES = 6  # pairs of each kind drawn in the report
MEAN_IMAGES = 2000  # pairs of each class in its mean image, at most
NO_NULL = "the network reads other genes too, and null pairs have none"
THRESHOLD_ROWS = 50_000  # validation pairs that place the audit's thresholds, at most


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures and scores on the test rows.

    Attributes
    ----------
    metrics
        `metrics.json` but for the facts of the training.
    predictions
        A row per test pair: gene_a, gene_b, label, score, fold, and the audit's scores.
    threshold
        Score from which a pair is called positive.
    classes : (P, classes)
        Class probabilities of the test pairs at the natural prevalence.
    as_trained : (P,)
        Probability of any edge before that correction.
    """

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    threshold: float
    classes: NDArray[np.float64]
    as_trained: NDArray[np.floating]


def evaluate(
    classifier: PairClassifier,
    images: Images,
    folds: Folds,
    correction: PriorCorrection,
    seed: int,
    progress: Progress,
    natural: float | None = None,
) -> Evaluation:
    """Score the test rows and audit them.

    Thresholds are placed on the validation rows.

    Parameters
    ----------
    classifier
        On the device that is to score.
    correction
        What training did to its probabilities.
    natural
        Share of positives at which scores are probabilities. Absent: that of the training rows.
    """
    pairs, test = folds.pairs, folds.test
    natural = folds.natural if natural is None else natural
    answers = _Answers(classifier, prepare(classifier, classifier.device), correction, natural)
    progress.start("scoring pairs", test.size + folds.validation.size)
    label, watched = pairs.label[test], answers.of_rows(images, folds.validation, progress)
    aims = thresholds(pairs.label[folds.validation], positive(answers.corrected(watched)))
    threshold = float(aims["balanced accuracy"] or 0.0)  # always there
    raw = answers.of_rows(images, test, progress)
    classes = answers.corrected(raw)
    probability = positive(classes)
    audit, audit_scores = _audit(images, folds, seed, progress, factors=classifier.needs_loadings)
    rivals = (*EXPRESSION, FACTORS_ONLY, FACTORS_RESIDUAL)
    baselines = {name: audit_scores[name] for name in rivals if name in audit_scores}
    genes = pairs.gene_a[test], pairs.gene_b[test]
    progress.start("intervals", 0)
    metrics = (
        sizes(folds)
        | {"test": all_scores(label, probability, threshold), "audit": audit}
        | {"against_baseline": against_baseline(label, probability, baselines, genes, seed)}
        | calls(label, probability, aims, threshold)
        | {"calibration": {"shown": correction.shown, "natural": natural}}
    )
    metrics["calibration"] |= calibration_record(label, positive(raw), probability)
    if folds.classes == 3 == classes.shape[1]:
        metrics["direction"] = _direction(images, folds, classes, threshold, seed)
        audit_scores = audit_scores | {"forward": forward_share(classes)}
    if len(pairs.class_names) == classes.shape[1]:
        metrics["kinds"] = kind_scores(label, classes, pairs.class_names, threshold)
    real = {"network": probability, "spearman": audit_scores["spearman"]}
    scorer = NO_NULL if classifier.knows_genes else answers.of_images
    metrics["depth_null"] = depth_null(images, pairs, test, real, scorer, seed)
    metrics |= {"seed": seed, "versions": versions(), "store": store_facts(images)}
    predictions = _predictions(images, pairs, test, probability, audit_scores)
    return Evaluation(metrics, predictions, threshold, classes, positive(raw))


@dataclass(frozen=True, eq=False)
class _Answers:
    """Class probabilities that a classifier answers, as trained and at the natural prevalence."""

    classifier: PairClassifier
    ready: Probabilities
    correction: PriorCorrection
    natural: float

    def of_rows(self, images: Images, rows: Rows, progress: Progress) -> NDArray[np.floating]:
        """(R, classes), as trained."""
        return self._usable(score_rows(self.classifier, images, rows, progress.advance, self.ready))

    def of_images(self, counts: NDArray[np.integer], both_zero: NDArray[np.integer]) -> NDArray[np.float64]:
        """(P,) of any edge at the natural prevalence, of images that are in no store."""
        return positive(self.corrected(self._usable(score_images(self.classifier, counts, both_zero, self.ready))))

    def corrected(self, trained: NDArray[np.floating]) -> NDArray[np.float64]:
        """(P, classes), at the natural prevalence."""
        return self.correction.corrected(trained, self.natural)

    def _usable(self, trained: NDArray[np.floating]) -> NDArray[np.floating]:
        """A network that blew up answers NaN: the share of its batches stands for that, and the watch reports it."""
        shown, edges = self.correction.shown, trained.shape[1] - 1
        return np.where(np.isfinite(trained).all(axis=1, keepdims=True), trained, [1 - shown, *[shown / edges] * edges])


def sizes(folds: Folds) -> dict[str, Any]:
    """Pairs of each fold, and the share of positives in the test."""
    return {
        "prevalence": float((folds.pairs.label[folds.test] > 0).mean()) if folds.test.size else 0.0,
        "n_test": int(folds.test.size),
        "n_train": int(folds.train.size),
        "n_validation": int(folds.validation.size),
    }


def calls(
    label: NDArray[np.int8], probability: NDArray[np.float64], aims: dict[str, float | None], threshold: float
) -> dict[str, Any]:
    """Calls at the threshold and at those of other aims; and whether all answers are the same."""
    collapse = watch_collapse(label, probability, threshold)
    return {
        "collapsed": collapse.collapsed,
        "collapse_reason": collapse.reason,
        "threshold": threshold,
        "confusion": confusion(label, probability, threshold),
        "operating_points": [{"aim": aim} | operating_point(label, probability, t) for aim, t in aims.items()],
    }


def positive(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of any edge. Summed rather than 1 less that of none, whose last digits would tie small scores."""
    return np.asarray(probability[:, 1:].sum(axis=1, dtype=np.float64))


def thresholds(label: NDArray[np.int8], score: NDArray[np.float64]) -> dict[str, float | None]:
    """Thresholds by aim; None where no score of these rows reaches one."""
    precise = {f"precision {p:g}": precision_threshold(label, score, p) for p in PRECISION_TARGETS}
    return {"balanced accuracy": best_threshold(label, score), **precise}


def _direction(
    images: Images, folds: Folds, classes: NDArray[np.float64], threshold: float, seed: int
) -> dict[str, Any]:
    """Direction among the true edges, beside that of labels and marginals alone."""
    pairs, test = folds.pairs, folds.test
    label = pairs.label[test]
    blind = {
        "labels_only": direction_from_labels(pairs, folds.train, test, images.array("gene").size),
        "marginals_only": direction_from_marginals(images, pairs, folds.train, test, seed),
    }
    audit = {
        name: {"accuracy": direction_accuracy(label, forward), "auroc": direction_auroc(label, forward)}
        for name, forward in blind.items()
    }
    return direction_scores(label, classes, threshold) | {"audit": audit}


def _audit(
    images: Images, folds: Folds, seed: int, progress: Progress, *, factors: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, NDArray[np.floating]]]:
    """Figures of each baseline on the test rows, thresholds placed on validation rows; and its test scores.

    A baseline that cannot be had has figures of None and the reason.
    """
    pairs, test = folds.pairs, folds.test
    watched = folds.validation
    if watched.size > THRESHOLD_ROWS:
        watched = np.sort(
            np.random.default_rng([seed, Stream.THRESHOLD_ROWS]).choice(watched, THRESHOLD_ROWS, replace=False)
        )
    rows, n_genes = np.union1d(watched, test), images.array("gene").size
    progress.start("audit", rows.size)
    scores = {"labels_only": labels_only(pairs, folds.train, rows, n_genes, folds.directed)}
    if folds.directed:
        scores |= labels_of_one_side(pairs, folds.train, rows, n_genes)
    scores["marginals_only"] = marginals_only(images, pairs, folds.train, rows, folds.directed, seed)
    scores |= heatmap_statistics(images, pairs, rows, progress.advance)
    of_counts, missing = count_rivals(images, pairs, rows, factors=factors)
    scores |= of_counts
    if factors:
        scores[FACTORS_ONLY] = store_loadings(images).correlation(rows).astype(np.float64)
    of_watched, of_test = np.searchsorted(rows, watched), np.searchsorted(rows, test)
    figures = dict[str, dict[str, Any]]()
    for name, score in scores.items():
        threshold = best_threshold(pairs.label[watched], score[of_watched])
        figures[name] = ranking_scores(pairs.label[test], score[of_test], threshold) | {
            "early_precision_ratio": early_precision_ratio(pairs.label[test], score[of_test])
        }
    return figures | missing, {name: score[of_test] for name, score in scores.items()}


def _predictions(
    images: Images, pairs: Pairs, rows: Rows, probability: NDArray[np.float64], audit: dict[str, NDArray[np.floating]]
) -> pd.DataFrame:
    gene, symbols = images.array("gene").astype(object), images.symbols()
    named = {} if symbols is None else {"symbol": np.array([symbol or None for symbol in symbols], object)}
    ends = {"a": pairs.gene_a[rows], "b": pairs.gene_b[rows]}
    columns = {
        **{f"{name}_{end}": names[at] for name, names in ({"gene": gene} | named).items() for end, at in ends.items()},
        "label": pairs.label[rows],
        "score": probability.astype(np.float32),
        "fold": np.zeros(rows.size, np.int16),
    }
    return pd.DataFrame(columns | {name: score.astype(np.float32) for name, score in audit.items()})


def store_facts(images: Images) -> dict[str, Any]:
    """Facts of an image store for a run."""
    spec = images.spec
    return {
        "path": str(images.path),
        "plan_hash": spec.plan_hash,
        "n_pairs": spec.n_pairs,
        "n_cells": spec.n_cells,
        "bins": spec.binning.bins,
        "scale": spec.binning.scale,
        "values": images.values,
        **({"group": spec.group} if spec.group else {}),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that decide the figures."""
    return {name: version(name) for name in ("pairscape", "torch", "numpy", "scikit-learn", "zarr")}


def save_evaluation(
    run: Path, evaluation: Evaluation, extra: dict[str, Any], examples: dict[str, NDArray[Any]]
) -> dict[str, Any]:
    """Write `predictions.parquet`, `examples.npz` and, last, `metrics.json`; returns the metrics."""
    with replaced(run / "predictions.parquet") as part:
        evaluation.predictions.to_parquet(part, index=False)
    np.savez_compressed(run / "examples.npz", **examples)  # type: ignore[arg-type]
    metrics = extra | evaluation.metrics
    write_text(run / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    return metrics


def examples_of(images: Images, folds: Folds, evaluation: Evaluation, seed: int) -> dict[str, NDArray[Any]]:
    """Images for the report: the surest hits, ordinary rejections, the worst mistakes, and each class's mean."""
    test, label = folds.test, folds.pairs.label[folds.test]
    score = evaluation.predictions["score"].to_numpy()
    chosen = _choose_examples(label, score, evaluation.threshold, seed)
    position = np.concatenate(list(chosen.values()))
    table = evaluation.predictions.iloc[position]
    found: dict[str, NDArray[Any]] = {
        "images": np.stack([images.counts(slice(r, r + 1))[0] for r in test[position].tolist()]),
        "gene_a": table["gene_a"].to_numpy(str),
        "gene_b": table["gene_b"].to_numpy(str),
        "label": table["label"].to_numpy(),
        "score": table["score"].to_numpy(),
        "group": np.repeat(list(chosen), [part.size for part in chosen.values()]),
    }
    for name, rows in (("positive", test[label > 0]), ("negative", test[label == 0])):
        rng = np.random.default_rng([seed, Stream.MEAN_IMAGES])
        counts = _read(
            images, rows if rows.size <= MEAN_IMAGES else np.sort(rng.choice(rows, MEAN_IMAGES, replace=False))
        )
        found[f"mean_{name}"] = counts.mean(axis=0) / images.spec.n_cells
        found[f"mean_residual_{name}"] = independence_residual(torch.from_numpy(counts)).mean(0).numpy()
    return found


def _choose_examples(
    label: NDArray[np.int8], score: NDArray[np.float32], threshold: float, seed: int
) -> dict[str, NDArray[np.int64]]:
    called, order = score >= threshold, np.argsort(-score, kind="stable")
    rejected = np.flatnonzero((label == 0) & ~called)
    rng = np.random.default_rng([seed, Stream.EXAMPLES])
    return {
        "true positive": order[(label[order] > 0) & called[order]][:EXAMPLES],
        "true negative": np.sort(rng.choice(rejected, min(EXAMPLES, rejected.size), replace=False)),
        "false positive": order[(label[order] == 0) & called[order]][:EXAMPLES],
        "false negative": order[(label[order] > 0) & ~called[order]][::-1][:EXAMPLES],
    }


def _read(images: Images, rows: Rows) -> NDArray[np.float32]:
    size = images.spec.binning.shard_pairs
    parts = []
    for shard in np.unique(rows // size):
        own = rows[rows // size == shard]
        parts.append(images.counts(slice(int(own[0]), int(own[-1]) + 1))[own - own[0]].astype(np.float32))
    return np.concatenate(parts)
