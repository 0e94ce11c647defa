"""Figures of a network's training pairs, kept beside its weights: `reference.safetensors`.

It holds the `PairStatistics` of a random sample of the training pairs at their natural prevalence, the distances of
halves of their genes, and the figures of random pairs of the training's matrix. No expression and no names of genes are
in it.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pairscape.model.evaluation.measure import PairSample, last_layer, measure, measure_groups
from pairscape.model.evaluation.shift import QUANTILES, PairStatistics, Reference, units
from pairscape.model.networks.classifier import TrainedNetwork
from pairscape.model.networks.weights import load_tensors, save_tensors
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Stream

FILE, KIND = "reference.safetensors", "pairscape-reference"
DIVISIONS = 8  # of the genes into halves
TRAINING, RANDOM = "training", "random"  # the two samples, in the file
ARRAYS = ("dropout", "occupied", "density", "residual", "mean", "covariance", "scores")
SCALARS = tuple(field.name for field in fields(PairStatistics) if field.name not in ARRAYS)
LIMITS = {"dropout": (0, 1), "occupied": (0, 1), "scores": (-50, 50)}  # of an array's values
OTHER_LIMITS = (-1e6, 1e6)  # beyond, a value was never measured and would overflow


def make_reference(network: TrainedNetwork, sample: PairSample, at_random: PairSample | None, seed: int) -> Reference:
    """Measure a sample of the training pairs, the halves of its genes, and random pairs of the training's matrix."""
    halves = _halves(sample.gene_a, sample.gene_b, seed)
    groups = np.stack([np.ones(len(halves[0]), bool), *halves])
    whole, *parts = measure_groups(network, sample, groups)
    random = None if at_random is None else measure(network, at_random)
    return Reference(whole, units(list(zip(parts[::2], parts[1::2], strict=True))), random)


def _halves(gene_a: NDArray[np.integer[Any]], gene_b: NDArray[np.integer[Any]], seed: int) -> list[NDArray[np.bool_]]:
    """Pairs within each half of the genes, in turn; of the pairs themselves where a half would hold hardly any."""
    rng, found = np.random.default_rng([seed, Stream.REFERENCE_GENES]), list[NDArray[np.bool_]]()
    for _ in range(DIVISIONS):
        side = rng.permutation(int(max(gene_a.max(), gene_b.max())) + 1) % 2
        halves = [(side[gene_a] == half) & (side[gene_b] == half) for half in (0, 1)]
        if min(half.sum() for half in halves) < gene_a.size / 16:
            first = rng.permutation(gene_a.size) % 2 == 0
            halves = [first, ~first]
        found += halves
    return found


def save_reference(run: Path, reference: Reference, weights: str) -> None:
    """Write `reference.safetensors` into a run folder; `weights` is the sha256 of the network it was measured with."""
    samples = {TRAINING: reference.training} | ({} if reference.random is None else {RANDOM: reference.random})
    tensors = {
        f"{sample}.{name}": torch.from_numpy(getattr(found, name))
        for sample, found in samples.items()
        for name in ARRAYS
    }
    facts: dict[str, Any] = {
        sample: {name: getattr(found, name) for name in SCALARS} for sample, found in samples.items()
    }
    save_tensors(run / FILE, KIND, tensors, facts | {"units": dict(reference.units), "weights": weights})


def load_reference(run: Path, network: TrainedNetwork) -> Reference | None:
    """The reference in a run folder; None where there is none.

    Raises
    ------
    InputError
        The file is damaged, of another version, or belongs to another network; a figure is missing or refused.
    """
    path = run / FILE
    if not path.exists():
        return None
    file = load_tensors(path, KIND)
    if file.facts.get("weights") != network.sha256:
        raise InputError(
            f"{path} was measured with other weights than {run / 'model.safetensors'}, so a comparison would mean "
            "nothing; copy both files from the same run, or remove it to go on without the comparison."
        )
    bins, features = network.classifier.bins, last_layer(network.classifier.network).in_features
    sides = {"density": (bins, bins), "residual": (bins, bins), "mean": (features,), "covariance": (features, features)}
    shapes: dict[str, tuple[int, ...]] = {name: sides.get(name, (QUANTILES.size,)) for name in ARRAYS}
    try:
        found = {
            sample: _statistics(file.facts.get(sample), file.tensors, sample, shapes)
            for sample in (TRAINING, RANDOM)
            if sample == TRAINING or sample in file.facts
        }
        return Reference(found[TRAINING], file.facts.get("units", {}), found.get(RANDOM))
    except InputError as error:
        raise InputError(
            f"{path}: {error}, so nothing can be compared with it; copy the file again, or train again."
        ) from error


def _statistics(
    scalars: Any, tensors: Mapping[str, torch.Tensor], sample: str, shapes: Mapping[str, tuple[int, ...]]
) -> PairStatistics:
    """Figures of one of the samples, checked."""
    if not isinstance(scalars, dict):
        raise InputError(f"{sample} is {scalars!r}, not a table of {', '.join(SCALARS)}")
    arrays: dict[str, Any] = {}
    for name, shape in shapes.items():
        tensor, (low, high) = tensors.get(f"{sample}.{name}"), LIMITS.get(name, OTHER_LIMITS)
        if tensor is None or tensor.dtype != torch.float32 or tensor.shape != shape:
            raise InputError(f"{sample}.{name} is missing, or not float32 of {' × '.join(map(str, shape))}")
        if not ((tensor >= low) & (tensor <= high)).all():
            raise InputError(f"{sample}.{name} is not from {low:g} to {high:g} everywhere")
        arrays[name] = tensor.numpy()
    try:
        return PairStatistics(**arrays | {name: scalars.get(name) for name in SCALARS})
    except InputError as error:
        raise InputError(f"{sample}: {error}") from error
