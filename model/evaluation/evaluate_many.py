"""The evaluation of a classifier on several stores: each by itself, and all test rows together."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pairscape.model.batches.folds import Folds
from pairscape.model.batches.many import AnyImages, ManyStores
from pairscape.model.batches.many_folds import ManyFolds
from pairscape.model.batches.order import Rows
from pairscape.model.evaluation.bootstrap import against_baseline
from pairscape.model.evaluation.evaluate import (
    EXAMPLES,
    EXPRESSION,
    THRESHOLD_ROWS,
    Evaluation,
    calls,
    examples_of,
    positive,
    sizes,
    store_facts,
    thresholds,
    versions,
)
from pairscape.model.evaluation.evaluate import evaluate as evaluate_one
from pairscape.model.evaluation.metrics import (
    all_scores,
    auroc,
    average_precision,
    calibration_record,
    direction_scores,
    early_precision_ratio,
    kind_scores,
    mean_of,
)
from pairscape.model.networks.classifier import PairClassifier, score_rows
from pairscape.model.networks.prior import PriorCorrection
from pairscape.pipeline.compute.progress import Progress
from pairscape.pipeline.options import Stream

OF_A_STORE = ("prevalence", "n_test", "test", "audit", "kinds", "depth_null")


def evaluate_any(
    classifier: PairClassifier,
    images: AnyImages,
    folds: Folds,
    correction: PriorCorrection,
    seed: int,
    progress: Progress,
) -> Evaluation:
    """Score and audit the test rows of a store as `evaluate` does, or those of several, each and all together.

    Of several, `metrics["stores"]` has the figures of each; thresholds are placed on validation rows of all training
    stores. In the joint audit the balanced accuracy of a rival is the mean over the stores, each at its own threshold.
    """
    if not isinstance(images, ManyStores):
        return evaluate_one(classifier, images, folds, correction, seed, progress)
    assert isinstance(folds, ManyFolds)
    natural, shown = folds.natural, correction.shown
    found = [
        evaluate_one(classifier, store, own, correction, seed, progress, natural=natural) for store, own in folds.tested
    ]
    watched = _some(folds.validation, seed)
    raw = score_many(classifier, images, watched)
    on_validation = positive(correction.corrected(np.nan_to_num(raw, nan=1 / raw.shape[1]), natural))
    aims = thresholds(folds.pairs.label[watched], on_validation)
    threshold = float(aims["balanced accuracy"] or 0.0)
    table = _joined_predictions(folds, found)
    label, score = table["label"].to_numpy(), np.concatenate([positive(one.classes) for one in found])
    classes = np.concatenate([one.classes for one in found])
    metrics: dict[str, Any] = (
        sizes(folds)
        | {"prevalence": float((label > 0).mean()), "n_test": int(label.size)}
        | {"test": all_scores(label, score, threshold), "audit": _joint_audit(table, found)}
        | {"against_baseline": against_baseline(label, score, _rivals(table), _genes(table), seed)}
        | calls(label, score, aims, threshold)
        | {"calibration": {"shown": shown, "natural": natural}}
    )
    metrics["calibration"] |= calibration_record(label, np.concatenate([one.as_trained for one in found]), score)
    if folds.classes == 3:
        audits = mean_of([one.metrics["direction"]["audit"] for one in found])
        metrics["direction"] = direction_scores(label, classes, threshold) | {"audit": audits}
    if folds.pairs.class_names:
        metrics["kinds"] = kind_scores(label, classes, folds.pairs.class_names, threshold)
    metrics["stores"] = [_of_store(one, threshold) for one in found]
    metrics |= {"seed": seed, "versions": versions(), "store": any_store_facts(images)}
    return Evaluation(metrics, table, threshold, classes, np.concatenate([one.as_trained for one in found]))


def score_many(classifier: PairClassifier, images: AnyImages, rows: Rows) -> NDArray[np.float32]:
    """Class probabilities of ascending rows of a store, or of several, (R, classes), as trained."""
    if not isinstance(images, ManyStores):
        return score_rows(classifier, images, rows, lambda _: None)
    parts = [score_rows(classifier, store, own, lambda _: None) for store, own, _ in images.own_rows(rows)]
    return np.concatenate(parts)


def any_store_facts(images: AnyImages) -> dict[str, Any]:
    """Facts of a store for a run; of several those of all together, with those of each in `stores`."""
    if not isinstance(images, ManyStores):
        return store_facts(images)
    pairs = sum(store.spec.n_pairs for store in images.stores)
    together = {"path": f"{len(images.stores)} stores", "plan_hash": images.spec.plan_hash, "n_pairs": pairs}
    each = [
        store_facts(store) | {"weight": weight} for store, weight in zip(images.stores, images.weights, strict=True)
    ]
    tests = {"test_stores": [store_facts(store) for store in images.tests]} if images.tests else {}
    return store_facts(images.stores[0]) | together | {"n_cells": images.typical_cells, "stores": each} | tests


def any_examples(images: AnyImages, folds: Folds, evaluation: Evaluation, seed: int) -> dict[str, NDArray[Any]]:
    """Images for the report, as `examples_of` chooses them: of several stores the best of each one's choice."""
    if not isinstance(images, ManyStores):
        return examples_of(images, folds, evaluation, seed)
    assert isinstance(folds, ManyFolds)
    found, begin = [], 0
    for store, own in folds.tested:
        table = evaluation.predictions.iloc[begin : begin + own.test.size]
        found.append(examples_of(store, own, replace(evaluation, predictions=table), seed))
        begin += own.test.size
    return _joined_examples(found, [own for _, own in folds.tested])


def _joined_examples(found: Sequence[dict[str, NDArray[Any]]], folds: Sequence[Folds]) -> dict[str, NDArray[Any]]:
    single = [name for name in found[0] if not name.startswith("mean_")]
    joined = {name: np.concatenate([one[name] for one in found]) for name in single}
    order = np.argsort(-joined["score"], kind="stable")
    chosen = []
    for group in dict.fromkeys(joined["group"].tolist()):
        members = order[joined["group"][order] == group]
        chosen.append(members[::-1][:EXAMPLES] if group.endswith("negative") else members[:EXAMPLES])
    picked = np.concatenate(chosen)
    means = {
        name: np.average(
            [one[name] for one in found],
            axis=0,
            weights=[((own.pairs.label[own.test] > 0) == name.endswith("positive")).sum() for own in folds],
        )
        for name in found[0]
        if name.startswith("mean_")
    }
    return {name: column[picked] for name, column in joined.items()} | means


def _some(rows: Rows, seed: int) -> Rows:
    if rows.size <= THRESHOLD_ROWS:
        return rows
    return np.sort(np.random.default_rng([seed, Stream.THRESHOLD_ROWS]).choice(rows, THRESHOLD_ROWS, replace=False))


def _joined_predictions(folds: ManyFolds, found: Sequence[Evaluation]) -> pd.DataFrame:
    """The predictions of all stores, in their order, with the path of the store."""
    tables = [
        one.predictions.assign(store=str(store.path)) for (store, _), one in zip(folds.tested, found, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)


def _joint_audit(table: pd.DataFrame, found: Sequence[Evaluation]) -> dict[str, dict[str, float | None]]:
    """Figures of each rival that every store has, on all test rows."""
    label, audits = table["label"].to_numpy(), [one.metrics["audit"] for one in found]
    pairs = np.array([one.metrics["n_test"] for one in found])
    figures = {}
    for name in audits[0]:
        if name not in table or table[name].isna().any() or not all(name in audit for audit in audits):
            continue
        score, own = table[name].to_numpy(), [audit[name]["balanced_accuracy"] for audit in audits]
        figures[name] = {
            "balanced_accuracy": None if None in own else float(np.average(own, weights=pairs)),
            "auroc": auroc(label, score),
            "average_precision": average_precision(label, score),
            "early_precision_ratio": early_precision_ratio(label, score),
        }
    return figures


def _rivals(table: pd.DataFrame) -> dict[str, NDArray[np.floating]]:
    return {name: table[name].to_numpy() for name in EXPRESSION if name in table and not table[name].isna().any()}


def _genes(table: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of both genes, by name, over all stores."""
    number = pd.factorize(pd.concat([table["gene_a"], table["gene_b"]]))[0]
    return number[: len(table)], number[len(table) :]


def _of_store(one: Evaluation, threshold: float) -> dict[str, Any]:
    """What `metrics["stores"]` says of a store; its calls are at the threshold of all."""
    store, score = one.metrics["store"], positive(one.classes)
    test = all_scores(one.predictions["label"].to_numpy(), score, threshold)
    known = {name: one.metrics[name] for name in OF_A_STORE if name in one.metrics}
    return {"path": store["path"], "n_cells": store["n_cells"]} | known | {"test": test}
