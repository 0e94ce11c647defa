"""How far other image stores are from the pairs a network was trained on: what the shift guard says of each.

python -m benchmarks.shift RUN IMAGES.zarr …
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from model.classifier import load_classifier
from model.reference import CountedPairs, load_reference, sample_rows, shift_of
from pipeline.images import open_images


def measure(run: Path, stores: list[Path], seed: int = 1) -> list[dict[str, Any]]:
    """What the guard says of a sample of the pairs of each store.

    Parameters
    ----------
    run
        Trained, with its `reference.safetensors`.
    seed
        Of the samples.
    """
    reference = load_reference(run)
    if reference is None:
        raise SystemExit(f"{run} has no reference.safetensors; train it again.")
    classifier, facts = load_classifier(run)
    found = []
    for store in stores:
        images = open_images(store)
        rows = sample_rows(np.arange(images.spec.n_pairs), seed)
        shift = shift_of(reference, classifier, facts, CountedPairs.of_rows(images, rows, classifier)).facts()
        times = {key: round(part["times"], 2) for key, part in shift["parts"].items()}
        said = {key: shift[key] for key in ("overall", "level", "sentence")}
        found.append({"images": store.name, "cells": images.spec.n_cells, **said, "times": times})
    return found


if __name__ == "__main__":
    run, *stores = map(Path, sys.argv[1:])
    print(json.dumps(measure(run, stores), indent=1, ensure_ascii=False))
