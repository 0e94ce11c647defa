"""What a network makes of a sample of pairs: `model.evaluation.observed.Observed`, in one pass over their images."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pairscape.model.evaluation.sample import CountedPairs, Floats, device_of
from pairscape.model.evaluation.shift import Observed, Reference, Shift, compare, gene_noise, quantiles
from pairscape.model.networks.classifier import PairClassifier
from pairscape.model.networks.prior import Taught
from pairscape.model.networks.render import independence_residual, log_density

AT_ONCE = 256  # images a batch


def measure(classifier: PairClassifier, taught: Taught, natural: float, sample: CountedPairs) -> Observed:
    """Measure a sample of pairs.

    Parameters
    ----------
    taught, natural
        What training made the network believe, and the share of positives among its training pairs, at which scores
        are compared.
    """
    return measure_groups(classifier, taught, natural, sample, np.ones((1, sample.gene_a.size), bool))[0]


def measure_groups(
    classifier: PairClassifier, taught: Taught, natural: float, sample: CountedPairs, groups: NDArray[np.bool_]
) -> list[Observed]:
    """Measure several groups of the pairs, (groups, n) bool, in one pass over the images."""
    classifier.eval()
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
    corrected = taught.corrected(np.concatenate(probability), natural)
    positive = np.clip(corrected[:, 1:].sum(axis=1), 1e-9, 1 - 1e-9)
    per_pair = np.concatenate(features), np.log(positive / (1 - positive)), np.concatenate(occupied)
    return [_observed(sample, group, image / group.sum(), *per_pair) for group, image in zip(groups, sums, strict=True)]


def _probabilities(classifier: PairClassifier, sample: CountedPairs, some: slice) -> Floats:
    device = device_of(classifier)
    counts, both_zero = (
        torch.from_numpy(part[some].astype(np.int32)).to(device) for part in (sample.counts, sample.both_zero)
    )
    found: Floats = classifier.probabilities(counts, both_zero, sample.describe(some)).cpu().numpy()
    return np.nan_to_num(found, nan=1 / found.shape[1])  # a network that blew up has no opinion


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


def _observed(
    sample: CountedPairs, group: NDArray[np.bool_], image: Floats, features: Floats, log_odds: Floats, occupied: Floats
) -> Observed:
    gene_a, gene_b, own = sample.gene_a[group], sample.gene_b[group], features[group]
    centred = own - own.mean(axis=0)
    return Observed(
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


# The shift guard: a sample of candidates, and where it differs random pairs of their matrix, beside the training's.
#
# Candidates may differ because their matrix does, or because they are a choice of its pairs: the positives, one gene
# with all others. Random pairs of both matrices tell these apart, whatever the training's own candidates were.


def find_shift(
    reference: Reference,
    classifier: PairClassifier,
    facts: Mapping[str, Any],
    sample: CountedPairs,
    at_random: Callable[[], CountedPairs | None],
    prior: float,
) -> Shift:
    """How far new pairs are from those of a training.

    Parameters
    ----------
    facts
        Of the classifier, as `model.networks.facts.complete_facts` gives them.
    sample
        Of the candidates.
    at_random
        Makes random pairs of their matrix, or None where its codes are gone; asked only where candidates differ.
    prior
        Share of edges among the candidates that their scores suppose.
    """

    def observed(pairs: CountedPairs) -> Observed:
        return measure(classifier, Taught.recorded(facts), facts["natural"], pairs)

    here = observed(sample)
    found = compare(reference, here, prior)
    if found.candidates.level == "like" or reference.random is None or (pairs := at_random()) is None:
        return found
    return compare(reference, here, prior, observed(pairs))
