"""What a network's training pairs look like, measured once and kept beside its weights; and the same of new pairs.

`reference.safetensors` holds the figures of `model.shift.Observed`, taken over a random sample of the training pairs at
their natural prevalence, and the distances of halves of their genes. No expression and no names of genes are in it.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.calibration import Taught
from model.checkpoint import load_tensors, save_tensors
from model.classifier import PairClassifier, describe_batch
from model.neighbours import neighbourhoods
from model.render import independence_residual, log_density
from model.sampling import Rows
from model.shift import Observed, Reference, Shift, compare, gene_noise, quantiles, units
from pipeline.codes import Codes
from pipeline.errors import InputError
from pipeline.images import Images
from pipeline.reading import read_images

FILE, KIND = "reference.safetensors", "pairscape-reference"
SAMPLE = 4096  # pairs
DIVISIONS = 8  # of the genes into halves
AT_ONCE = 256  # images a batch
SCALARS = ("n_cells", "n_genes", "n_pairs", "scale", "noise", "depth")
ARRAYS = tuple(field.name for field in fields(Observed) if field.name not in SCALARS)
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class CountedPairs:
    """A sample of pairs with their images, from a store or just counted.

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
        For a network that looks at neighbours too: positions in the sample to (B, 2, F). Absent: it does not.
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
    def of_codes(
        cls,
        codes: Codes,
        gene_a: NDArray[np.integer[Any]],
        gene_b: NDArray[np.integer[Any]],
        counts: NDArray[np.integer[Any]],
        both_zero: NDArray[np.integer[Any]],
    ) -> "CountedPairs":
        """Pairs counted from codes, as `pipeline.count.count_pairs` gives them."""
        return cls(gene_a, gene_b, counts, both_zero, codes.array("dropout"), codes.n_cells, codes.binning.scale)

    @classmethod
    def of_rows(cls, images: Images, rows: Rows, classifier: PairClassifier) -> "CountedPairs":
        """Rows (ascending) of an image store."""
        around = neighbourhoods(images) if classifier.needs_neighbours else None
        device, row, pairs = _device(classifier), torch.from_numpy(rows), images.pairs()
        return cls(
            pairs.gene_a[rows], pairs.gene_b[rows], *read_images(images, rows), images.array("dropout"),
            images.spec.n_cells, images.spec.binning.scale,
            lambda some: describe_batch(classifier, around, row[some], device),
        )  # fmt: skip


def sample_rows(rows: Rows, seed: int) -> Rows:
    """Some of the rows at random, ascending, or all if they are few."""
    if rows.size <= SAMPLE:
        return rows
    return np.sort(np.random.default_rng([seed, 9]).choice(rows, SAMPLE, replace=False))


# ---------------------------------------------------------------- measuring


def measure(classifier: PairClassifier, taught: Taught, natural: float, sample: CountedPairs) -> Observed:
    """Measure a sample of pairs.

    Parameters
    ----------
    taught, natural
        What training made the network believe, and the share of positives among its training pairs, at which scores
        are compared.
    """
    return _measure(classifier, taught, natural, sample, np.ones((1, sample.gene_a.size), bool))[0]


def _measure(
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
    device = _device(classifier)
    counts, both_zero = (
        torch.from_numpy(part[some].astype(np.int32)).to(device) for part in (sample.counts, sample.both_zero)
    )
    found: Floats = classifier.probabilities(counts, both_zero, sample.describe(some)).cpu().numpy()
    return np.nan_to_num(found, nan=1 / found.shape[1])  # a network that blew up has no opinion


@contextmanager
def _last_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """What goes into the last dense layer, (B, F) for each pass of the network: every architecture ends in one."""
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    seen = list[Tensor]()
    hook = last.register_forward_pre_hook(lambda _, given: seen.append(given[0].nan_to_num()))
    try:
        yield seen
    finally:
        hook.remove()


def _device(classifier: PairClassifier) -> torch.device:
    return next(classifier.parameters()).device


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


# ---------------------------------------------------------------- the reference


def make_reference(
    classifier: PairClassifier, taught: Taught, natural: float, sample: CountedPairs, seed: int
) -> Reference:
    """Measure a sample of the training pairs and the halves of its genes."""
    halves = _halves(sample.gene_a, sample.gene_b, seed)
    whole, *parts = _measure(classifier, taught, natural, sample, np.stack([np.ones(len(halves[0]), bool), *halves]))
    return Reference(whole, units(list(zip(parts[::2], parts[1::2], strict=True))))


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
    observed = reference.observed
    facts: dict[str, Any] = {name: getattr(observed, name) for name in SCALARS}
    facts |= {"units": dict(reference.units), "weights": weights_hash(run)}
    save_tensors(run / FILE, KIND, {name: torch.from_numpy(getattr(observed, name)) for name in ARRAYS}, facts)


def weights_hash(run: Path) -> str:
    """Hex sha256 of a run's `model.safetensors`."""
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def load_reference(run: Path) -> Reference | None:
    """What the training pairs of a run showed; None for a run from before there were references.

    Raises
    ------
    InputError
        The file is damaged, of another version, or belongs to other weights.
    """
    path = run / FILE
    if not path.exists():
        return None
    tensors, facts = load_tensors(path, KIND)
    if missing := [name for name in (*SCALARS, "units", "weights") if name not in facts] + [
        name for name in ARRAYS if name not in tensors
    ]:
        raise InputError(f"{path} lacks {', '.join(missing)}; copy the file again, or train again.")
    if facts["weights"] != weights_hash(run):
        raise InputError(
            f"{path} was measured with other weights than {run / 'model.safetensors'}, so a comparison would mean "
            "nothing; copy both files from the same run, or remove it to go on without the comparison."
        )
    measured: dict[str, Any] = {name: facts[name] for name in SCALARS}
    measured |= {name: tensors[name].numpy() for name in ARRAYS}
    return Reference(Observed(**measured), facts["units"])


def shift_of(reference: Reference, classifier: PairClassifier, facts: Mapping[str, Any], sample: CountedPairs) -> Shift:
    """How far a sample of new pairs is from the training pairs, to the classifier with these facts."""
    return compare(reference, measure(classifier, Taught.recorded(facts), facts["natural"], sample))
