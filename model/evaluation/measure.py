"""A sample of gene pairs with their images, and its figures: the data and a network's answer, in one pass.

In comes a trained network and rows of an image store, or random pairs of a matrix that are counted here; out come
`PairStatistics`, which `shift` compares.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pairscape.model.batches.order import Rows
from pairscape.model.evaluation.shift import PairStatistics, Reference, Shift, compare, gene_noise, quantiles
from pairscape.model.networks.classifier import (
    PairClassifier,
    TrainedNetwork,
    describe_batch,
    describe_genes,
    surroundings,
)
from pairscape.model.networks.render import independence_residual, log_density
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.count import count_pairs
from pairscape.pipeline.heatmaps.images import Images, counted_codes
from pairscape.pipeline.heatmaps.read import read_images
from pairscape.pipeline.options import Stream

SAMPLE_PAIRS = 4096
RANDOM_PAIRS = 1024  # of a matrix: they tell levels apart, and deepdrim describes both genes of each
AT_ONCE = 256  # images a batch

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class PairSample:
    """Some pairs with their images.

    Attributes
    ----------
    gene_a, gene_b : (n,) integers
        Genes of the matrix.
    counts : (n, bins, bins), both_zero : (n,)
        Joint counts, and cells in which neither gene is expressed.
    dropout : (G,)
        Share of cells without expression, of every gene of the matrix.
    n_cells, scale
        Of the codes that were counted.
    describe
        For a network that `knows_genes`: a slice of the sample to features (B, 2, F). Absent: the images alone.
    """

    gene_a: NDArray[np.integer[Any]]
    gene_b: NDArray[np.integer[Any]]
    counts: NDArray[np.integer[Any]]
    both_zero: NDArray[np.integer[Any]]
    dropout: Floats
    n_cells: int
    scale: str
    describe: Callable[[slice], Tensor | None] = lambda _: None

    @classmethod
    def of_rows(cls, images: Images, rows: Rows, classifier: PairClassifier) -> "PairSample":
        """Rows (ascending) of an image store."""
        around = surroundings(classifier, images)
        device, row, pairs = device_of(classifier), torch.from_numpy(rows), images.pairs()
        return cls(
            pairs.gene_a[rows], pairs.gene_b[rows], *read_images(images, rows), images.array("dropout"),
            images.spec.n_cells, images.spec.binning.scale,
            lambda some: describe_batch(classifier, around, row[some], device),
        )  # fmt: skip

    @classmethod
    def at_random(cls, codes: Codes, classifier: PairClassifier, seed: int) -> "PairSample":
        """Random pairs of the genes of a matrix of two genes or more, the first of each pair before the second."""
        rng = np.random.default_rng([seed, Stream.RANDOM_PAIRS])
        one = rng.integers(0, codes.n_genes, RANDOM_PAIRS)
        other = (one + rng.integers(1, codes.n_genes, RANDOM_PAIRS)) % codes.n_genes
        gene_a, gene_b = np.minimum(one, other), np.maximum(one, other)
        order = np.lexsort((gene_b, gene_a))
        gene_a, gene_b = gene_a[order], gene_b[order]
        counted, dropout = count_pairs(codes, gene_a, gene_b), codes.array("dropout")
        made = cls(gene_a, gene_b, *counted, dropout, codes.n_cells, codes.binning.scale)
        return replace(made, describe=_described(codes, classifier, np.stack([gene_a, gene_b], axis=1)))


def _described(codes: Codes, classifier: PairClassifier, genes: NDArray[np.int64]) -> Callable[[slice], Tensor | None]:
    """`PairSample.describe` of pairs, (n, 2) genes."""
    if not classifier.knows_genes:
        return lambda _: None
    device, gene = device_of(classifier), np.unique(genes)
    described = torch.from_numpy(describe_genes(classifier, codes, gene, device)).to(device)
    place = torch.from_numpy(np.searchsorted(gene, genes)).to(device)
    return lambda some: described[place[some]]


def device_of(classifier: PairClassifier) -> torch.device:
    """Where the weights of a classifier are."""
    return next(classifier.parameters()).device


def sample_rows(rows: Rows, seed: int) -> Rows:
    """Some of the rows at random, ascending, or all if they are few."""
    if rows.size <= SAMPLE_PAIRS:
        return rows
    return np.sort(np.random.default_rng([seed, Stream.SHIFT_SAMPLE]).choice(rows, SAMPLE_PAIRS, replace=False))


def codes_at_hand(images: Images) -> Codes | None:
    """The codes that a store was counted from; None where they are gone."""
    try:
        return counted_codes(images, "random pairs are counted from them", otherwise="do without")
    except InputError:
        return None


def random_pairs(images: Images, classifier: PairClassifier, seed: int) -> PairSample | None:
    """Random pairs of the matrix of an image store; None where its codes are gone."""
    codes = codes_at_hand(images)
    return None if codes is None else PairSample.at_random(codes, classifier, seed)


# ---------------------------------------------------------------- figures of a sample


def measure(network: TrainedNetwork, sample: PairSample) -> PairStatistics:
    """Figures of a sample of pairs; scores are at the prevalence of the network's training pairs."""
    return measure_groups(network, sample, np.ones((1, sample.gene_a.size), bool))[0]


def measure_groups(network: TrainedNetwork, sample: PairSample, groups: NDArray[np.bool_]) -> list[PairStatistics]:
    """Figures of several groups of the pairs, (groups, n) bool, in one pass over the images."""
    classifier = network.classifier.eval()
    sums = np.zeros((len(groups), 2, sample.counts.shape[1], sample.counts.shape[2]))
    features, probability, occupied = [], [], []
    with torch.inference_mode(), _last_features(classifier.network) as seen:
        for start in range(0, sample.gene_a.size, AT_ONCE):
            some = slice(start, min(start + AT_ONCE, sample.gene_a.size))
            seen.clear()
            probability.append(_probabilities(classifier, sample, some))
            features.append(torch.stack(seen).mean(0).double().cpu().numpy())
            counts = torch.from_numpy(sample.counts[some].astype(np.float32))
            occupied.append((counts > 0).double().mean((1, 2)).numpy())
            drawn = torch.stack([log_density(counts), independence_residual(counts)], dim=1).double().numpy()
            sums += np.tensordot(groups[:, some].astype(np.float64), drawn, axes=1)
    corrected = network.facts.correction.corrected(np.concatenate(probability), network.facts.natural)
    positive = np.clip(corrected[:, 1:].sum(axis=1), 1e-9, 1 - 1e-9)
    per_pair = np.concatenate(features), np.log(positive / (1 - positive)), np.concatenate(occupied)
    return [_of_group(sample, group, image / group.sum(), *per_pair) for group, image in zip(groups, sums, strict=True)]


def _probabilities(classifier: PairClassifier, sample: PairSample, some: slice) -> Floats:
    device = device_of(classifier)
    counts, both_zero = (
        torch.from_numpy(part[some].astype(np.int32)).to(device) for part in (sample.counts, sample.both_zero)
    )
    found: Floats = classifier.probabilities(counts, both_zero, sample.describe(some)).cpu().numpy()
    return np.nan_to_num(found, nan=1 / found.shape[1])  # where a network blew up, all classes alike


def last_layer(network: nn.Module) -> nn.Linear:
    """The last dense layer: every architecture ends in one."""
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]


@contextmanager
def _last_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """What goes into the last dense layer, (B, F) for each pass of the network."""
    seen = list[Tensor]()
    hook = last_layer(network).register_forward_pre_hook(lambda _, given: seen.append(given[0].nan_to_num()))
    try:
        yield seen
    finally:
        hook.remove()


def _of_group(
    sample: PairSample, group: NDArray[np.bool_], image: Floats, features: Floats, log_odds: Floats, occupied: Floats
) -> PairStatistics:
    gene_a, gene_b, own = sample.gene_a[group], sample.gene_b[group], features[group]
    centred = own - own.mean(axis=0)
    return PairStatistics(
        n_cells=sample.n_cells,
        n_genes=sample.dropout.size,
        n_pairs=int(group.sum()),
        scale=sample.scale,
        noise=gene_noise(gene_a, gene_b),
        depth=float((1 - sample.dropout.astype(np.float64)).sum()),
        dropout=quantiles(sample.dropout[np.concatenate([gene_a, gene_b])]),
        occupied=quantiles(occupied[group]),
        density=image[0].astype(np.float32),
        residual=image[1].astype(np.float32),
        mean=own.mean(axis=0).astype(np.float32),
        covariance=(centred.T @ centred / max(len(own) - 1, 1)).astype(np.float32),
        scores=quantiles(log_odds[group]),
    )


def find_shift(
    reference: Reference,
    network: TrainedNetwork,
    sample: PairSample,
    at_random: Callable[[], PairSample | None],
    prior: float,
) -> Shift:
    """How far a sample of candidates is from the training pairs of a network.

    Candidates may differ because their matrix does, or because they are a choice of its pairs, such as the positives.
    Random pairs of both matrices tell these apart.

    Parameters
    ----------
    at_random
        Makes random pairs of the candidates' matrix, None where its codes are gone; called only where candidates
        differ.
    prior
        Share of edges among the candidates that their scores suppose.
    """
    here = measure(network, sample)
    found = compare(reference, here, prior)
    if found.candidates.level == "like" or reference.random is None or (pairs := at_random()) is None:
        return found
    return compare(reference, here, prior, measure(network, pairs))
