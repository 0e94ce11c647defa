"""How far pairs are from those a network was trained on, and how well they are ranked.

python -m benchmarks.shift RUN IMAGES.zarr …

Of each store a sample of all its pairs is compared; of the store that RUN was trained on the test pairs, and choices of
them: a few, one gene with all others, half positives, positives only. So what a choice of candidates does stands beside
what another matrix does.
"""

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pairscape.model.batches.order import Rows
from pairscape.model.batches.store_folds import make_folds
from pairscape.model.evaluation.measure import PairSample, find_shift, random_pairs, sample_rows
from pairscape.model.evaluation.metrics import auroc
from pairscape.model.evaluation.reference import load_reference
from pairscape.model.evaluation.shift import Reference
from pairscape.model.networks.classifier import TrainedNetwork, score_rows
from pairscape.model.networks.weights import read_config, read_recipe
from pairscape.pipeline.heatmaps.images import Images, open_images

FEW = (20, 300)  # test pairs
EXPRESSED = {"hardly": 0.95, "middling": 0.5, "most": 0.05}  # quantile of dropout among the test genes


def choices(run: Path, images: Images, seed: int) -> Iterator[tuple[str, Rows]]:
    """Pairs of a store in words, with their rows: all; where the run was trained, test pairs and choices of them."""
    if read_config(run / "config.toml")["store"]["plan_hash"] != images.spec.plan_hash:
        yield "all pairs", np.arange(images.spec.n_pairs)
        return
    folds, rng = make_folds(images, *read_recipe(run / "config.toml")), np.random.default_rng(seed)
    pairs, test = folds.pairs, folds.test
    yield "test pairs", test
    for n in FEW:
        yield f"{n} test pairs", np.sort(rng.choice(test, min(n, test.size), replace=False))
    gene = np.union1d(pairs.gene_a[test], pairs.gene_b[test])
    by_dropout = gene[np.argsort(images.array("dropout")[gene], kind="stable")]
    for words, quantile in EXPRESSED.items():
        one = by_dropout[int(quantile * by_dropout.size)]
        rows = np.flatnonzero((pairs.gene_a == one) | (pairs.gene_b == one))
        yield f"one gene, {words} expressed, with all", rows
    positive, negative = test[pairs.label[test] > 0], test[pairs.label[test] == 0]
    yield "test pairs, half positive", np.union1d(positive, rng.choice(negative, positive.size, replace=False))
    yield "test pairs, positives only", positive


def measure(run: Path, stores: list[Path], seed: int = 1) -> list[dict[str, Any]]:
    """The comparison of each choice of pairs of each store.

    Parameters
    ----------
    run
        Trained, with its `reference.safetensors`.
    seed
        Of the samples.
    """
    network = TrainedNetwork.load(run)
    reference = load_reference(run, network)
    if reference is None:
        raise SystemExit(f"{run} has no reference.safetensors; train it again.")
    found = []
    for images in map(open_images, stores):
        for words, rows in choices(run, images, seed):
            some = sample_rows(rows, seed)
            row = {"images": images.path.name, "cells": images.spec.n_cells, "pairs": words, "n_pairs": int(some.size)}
            found.append(row | _compared(reference, network, images, some, seed))
    return found


def _compared(reference: Reference, network: TrainedNetwork, images: Images, rows: Rows, seed: int) -> dict[str, Any]:
    """Words and distances, and AUROC where the rows are labelled with both classes."""
    classifier = network.classifier
    sample, at_random = PairSample.of_rows(images, rows, classifier), partial(random_pairs, images, classifier, seed)
    shift = find_shift(reference, network, sample, at_random, network.facts.natural).facts()
    label = images.pairs().label
    score = 1 - score_rows(classifier, images, rows, lambda _: None)[:, 0]
    known = label[rows] >= 0
    ranked = auroc(label[rows][known] > 0, score[known]) if known.any() else None
    return {
        "overall": round(shift["overall"], 2),
        "random": shift["random"] and round(shift["random"]["overall"], 2),
        "auroc": ranked and round(ranked, 3),
        "times": {key: round(part["times"], 1) for key, part in shift["parts"].items()},
        "sentence": shift["sentence"],
    }


if __name__ == "__main__":
    run, *stores = map(Path, sys.argv[1:])
    print(json.dumps(measure(run, stores), indent=1, ensure_ascii=False))
