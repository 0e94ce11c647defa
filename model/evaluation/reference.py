"""What a network's training showed, kept beside its weights: `reference.safetensors`.

It holds the figures of `model.evaluation.observed.Observed`, taken over a random sample of the training pairs at their
natural prevalence, the distances of halves of their genes, and the same figures of random pairs of the training's
matrix. No expression and no names of genes are in it.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from pairscape.model.evaluation.measure import last_layer, measure, measure_groups
from pairscape.model.evaluation.sample import CountedPairs
from pairscape.model.evaluation.shift import DISTANCES, QUANTILES, Observed, Reference, units
from pairscape.model.networks.classifier import PairClassifier
from pairscape.model.networks.prior import Taught
from pairscape.model.networks.weights import load_tensors, save_tensors
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import BinningRule

FILE, KIND = "reference.safetensors", "pairscape-reference"
DIVISIONS = 8  # of the genes into halves
SCALARS = ("n_cells", "n_genes", "n_pairs", "scale", "noise", "depth")
ARRAYS = tuple(field.name for field in fields(Observed) if field.name not in SCALARS)
TRAINING, RANDOM = "training", "random"  # the two samples, in the file


def make_reference(
    classifier: PairClassifier,
    taught: Taught,
    natural: float,
    sample: CountedPairs,
    at_random: CountedPairs | None,
    seed: int,
) -> Reference:
    """Measure a sample of the training pairs, the halves of its genes, and random pairs of the training's matrix."""
    halves = _halves(sample.gene_a, sample.gene_b, seed)
    groups = np.stack([np.ones(len(halves[0]), bool), *halves])
    whole, *parts = measure_groups(classifier, taught, natural, sample, groups)
    random = None if at_random is None else measure(classifier, taught, natural, at_random)
    return Reference(whole, units(list(zip(parts[::2], parts[1::2], strict=True))), random)


def _halves(gene_a: NDArray[np.integer[Any]], gene_b: NDArray[np.integer[Any]], seed: int) -> list[NDArray[np.bool_]]:
    """Pairs within each half of the genes, in turn; of the pairs themselves where a half would hold hardly any."""
    rng, found = np.random.default_rng([seed, 10]), list[NDArray[np.bool_]]()
    for _ in range(DIVISIONS):
        side = rng.permutation(int(max(gene_a.max(), gene_b.max())) + 1) % 2
        halves = [(side[gene_a] == half) & (side[gene_b] == half) for half in (0, 1)]
        if min(half.sum() for half in halves) < gene_a.size / 16:
            first = rng.permutation(gene_a.size) % 2 == 0
            halves = [first, ~first]
        found += halves
    return found


def save_reference(run: Path, reference: Reference) -> None:
    """Write `reference.safetensors` beside the weights it belongs to."""
    samples = {TRAINING: reference.observed} | ({} if reference.random is None else {RANDOM: reference.random})
    tensors = {
        f"{sample}.{name}": torch.from_numpy(getattr(observed, name))
        for sample, observed in samples.items()
        for name in ARRAYS
    }
    facts: dict[str, Any] = {
        sample: {name: getattr(observed, name) for name in SCALARS} for sample, observed in samples.items()
    }
    save_tensors(run / FILE, KIND, tensors, facts | {"units": dict(reference.units), "weights": weights_hash(run)})


def weights_hash(run: Path) -> str:
    """Hex sha256 of a run's `model.safetensors`."""
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


# ---------------------------------------------------------------- reading


def load_reference(run: Path, classifier: PairClassifier) -> Reference | None:
    """What the training of a run showed; None for a run from before there were references.

    Parameters
    ----------
    classifier
        That of the run.

    Raises
    ------
    InputError
        The file is damaged, of another version, or belongs to other weights; a figure is missing or none that can be.
    """
    path = run / FILE
    if not path.exists():
        return None
    tensors, facts = load_tensors(path, KIND)
    if facts.get("weights") != weights_hash(run):
        raise InputError(
            f"{path} was measured with other weights than {run / 'model.safetensors'}, so a comparison would mean "
            "nothing; copy both files from the same run, or remove it to go on without the comparison."
        )
    found = facts.get("units")
    if not isinstance(found, dict) or set(found) != set(DISTANCES) or not all(map(_is_positive, found.values())):
        raise _damaged(path, f"units is {found!r}, not a distance above 0 for each of {', '.join(DISTANCES)}")
    shapes = _shapes(classifier)
    random = _observed(path, RANDOM, facts, tensors, shapes) if RANDOM in facts else None
    return Reference(_observed(path, TRAINING, facts, tensors, shapes), found, random)


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path}: {what}, so nothing can be compared with it; copy the file again, or train again.")


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


SCALAR_KINDS = {
    "n_cells": (_is_count, "a number of cells"),
    "n_genes": (_is_count, "a number of genes"),
    "n_pairs": (_is_count, "a number of pairs"),
    "scale": (lambda value: value in get_args(BinningRule), f"a rule of binning ({', '.join(get_args(BinningRule))})"),
    "noise": (_is_positive, "a variance above 0"),
    "depth": (_is_positive, "a number of expressed genes above 0"),
}


LIMITS = {"dropout": (0, 1), "occupied": (0, 1), "scores": (-50, 50)}  # of an array's values
ELSE = (-1e6, 1e6)  # of all others: what is beyond was never measured, and would overflow


def _shapes(classifier: PairClassifier) -> dict[str, tuple[int, ...]]:
    """What each array of a reference has to be for a classifier."""
    quantile, image = QUANTILES.size, classifier.bins
    features = last_layer(classifier.network).in_features
    return {
        "dropout": (quantile,),
        "occupied": (quantile,),
        "density": (image, image),
        "residual": (image, image),
        "mean": (features,),
        "covariance": (features, features),
        "scores": (quantile,),
    }


def _observed(
    path: Path,
    sample: str,
    facts: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    shapes: Mapping[str, tuple[int, ...]],
) -> Observed:
    """One of the samples, every figure of it checked."""
    scalars = facts.get(sample)
    if not isinstance(scalars, dict):
        raise _damaged(path, f"{sample} is {scalars!r}, not a table of {', '.join(SCALARS)}")
    for name, (good, what) in SCALAR_KINDS.items():
        if not good(scalars.get(name)):
            raise _damaged(path, f"{name} of {sample} is {scalars.get(name)!r}, not {what}")
    for name, shape in shapes.items():
        tensor, (low, high) = tensors.get(f"{sample}.{name}"), LIMITS.get(name, ELSE)
        if tensor is None or tensor.dtype != torch.float32 or tensor.shape != shape:
            raise _damaged(path, f"{sample}.{name} is missing, or not float32 of {' × '.join(map(str, shape))}")
        if not ((tensor >= low) & (tensor <= high)).all():
            raise _damaged(path, f"{sample}.{name} is not from {low:g} to {high:g} everywhere")
    arrays: dict[str, Any] = {name: tensors[f"{sample}.{name}"].numpy() for name in ARRAYS}
    return Observed(**{name: scalars[name] for name in SCALARS}, **arrays)
