"""The classifier: counts of pairs in, class probabilities out; its use on the rows of an image store, and from disk."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pairscape.model.batches.order import Rows
from pairscape.model.batches.stream import prefetched, row_batches
from pairscape.model.networks.gene_context import (
    Loadings,
    Neighbourhoods,
    codes_of,
    factor_codes,
    gene_loadings,
    nearest_genes,
    neighbour_images,
    neighbourhoods,
    store_loadings,
)
from pairscape.model.networks.momentnet import MomentNet
from pairscape.model.networks.pairnet import FactorNet
from pairscape.model.networks.published import MOMENT_NETWORK, DeepDrim, build_network
from pairscape.model.networks.render import Render
from pairscape.model.networks.weights import NetworkFacts, load_weights, refuse_repeats
from pairscape.model.options import Rendering
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.images import Images
from pairscape.pipeline.storage.results import require_result

PREDICTED_AT_ONCE = 1024
COUNTED_AT_ONCE = 1024  # genes that are described from codes, and their images
DESCRIBED_AT_ONCE = 32  # genes, of eleven images each: their maps are what fills the memory


class PairClassifier(nn.Module):
    """A network together with the rendering that it takes.

    Parameters
    ----------
    network, rendering
        Name of the architecture, and how counts become its input.
    bins, classes
        Bins of the stored images; 2 classes, 3 with direction, or 7, the kinds of dependence.
    mirror
        Whether predictions are averaged with those of the transposed image: the same pair where labels have no
        direction, the opposite direction where they have.
    """

    def __init__(self, network: str, rendering: Rendering, bins: int, classes: int, mirror: bool) -> None:
        super().__init__()
        all_cells = rendering.channels == "counts" and not rendering.sigma and not rendering.drop_both_zero
        if network == MOMENT_NETWORK and not all_cells:
            raise InputError(
                f"{MOMENT_NETWORK} takes ranks from all cells of an image, and channels {rendering.channels!r}, sigma "
                f"{rendering.sigma:g} or dropped zeros show it something else; give --channels counts --sigma 0."
            )
        self.bins = bins
        self.mirror, self.classes = mirror, classes
        try:
            self.render = Render(bins, **asdict(rendering))
        except ValueError as error:
            raise InputError(str(error)) from error
        made = build_network(network, in_channels=self.render.out_channels, bins=self.render.out_bins, classes=classes)
        # Channels last: convolutions predict 1.3 to 1.5 times as many images (CPU), and suit a GPU's matrix units.
        self.network = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, counts: Tensor, both_zero: Tensor, genes: Tensor | None = None) -> Tensor:
        """Counts (B, bins, bins) and both zeros (B,) to (B, classes) logits, float32.

        A network that `knows_genes` also takes (B, 2, F): features of the neighbours of both genes, or their loadings.
        """
        image = self._draw(counts, both_zero)
        logits: Tensor = self.network(image) if genes is None else self.network(image, genes)
        return logits.float()

    def probabilities(self, counts: Tensor, both_zero: Tensor, genes: Tensor | None = None) -> Tensor:
        """Class probabilities (B, classes), averaged with those of the mirror if `mirror` is set."""
        probability = self(counts, both_zero, genes).softmax(1)
        if self.mirror:
            turned = self(counts.mT, both_zero, None if genes is None else genes.flip(1)).softmax(1)
            probability = (probability + turned[:, turned_labels(self.classes)]) / 2
        return probability

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    @property
    def needs_neighbours(self) -> bool:
        """Whether the network takes images of the genes with their neighbours."""
        return isinstance(self.network, DeepDrim)

    @property
    def needs_loadings(self) -> bool:
        """Whether the network takes the genes' loadings on the factors of the matrix."""
        return isinstance(self.network, FactorNet)

    @property
    def knows_genes(self) -> bool:
        """Whether the network takes more of the two genes than their image."""
        return self.needs_neighbours or self.needs_loadings

    @property
    def compares_within(self) -> bool:
        """Whether all that the network sees can be of what is left beyond strata of the cells."""
        return isinstance(self.network, MomentNet)

    def describe(self, counts: Tensor, both_zero: Tensor) -> Tensor:
        """Features of genes (G, F) for a network that `needs_neighbours`, from counts (G, 11, bins, bins)."""
        parts = zip(counts.split(DESCRIBED_AT_ONCE), both_zero.split(DESCRIBED_AT_ONCE), strict=True)
        if torch.is_grad_enabled():  # the maps are made again on the way back: all of them at once are gigabytes
            return torch.cat([checkpoint(self._describe, *part, use_reentrant=False) for part in parts])
        return torch.cat([self._describe(*part) for part in parts])

    def _describe(self, counts: Tensor, both_zero: Tensor) -> Tensor:
        image = self._draw(counts.flatten(0, 1), both_zero.flatten()).unflatten(0, both_zero.shape)
        described: Tensor = self.network.describe(image)
        return described

    def _draw(self, counts: Tensor, both_zero: Tensor) -> Tensor:
        """(B, bins, bins) counts to (B, C, K, K) images, float32 also under autocast: counts go to millions."""
        with torch.autocast(counts.device.type, enabled=False):
            image: Tensor = self.render(counts, both_zero)
        return image.contiguous(memory_format=torch.channels_last)


def turned_labels(classes: int) -> list[int]:
    """Label of the transposed image, by label: a→b (1) is b→a (2) there; with no direction all stay what they are."""
    return [0, 2, 1] if classes == 3 else list(range(classes))


def score_rows(
    classifier: PairClassifier,
    images: Images,
    rows: Rows,
    advance: Callable[[int], None],
    probabilities: Callable[..., Tensor] | None = None,
) -> NDArray[np.float32]:
    """Class probabilities of rows (ascending), (R, classes), as trained: before any correction of the prior.

    `probabilities` does what the classifier's own method does, faster; see `model.networks.fast.prepare`.
    """
    classifier.eval()
    score, device, found = probabilities or classifier.probabilities, classifier.device, []
    unlabelled = np.zeros(images.spec.n_pairs, np.int8)
    with torch.inference_mode():
        described = _describe_all(classifier, images, device)
        for batch in prefetched(row_batches(images, rows, unlabelled, PREDICTED_AT_ONCE), 4):
            genes = () if described is None else (described(batch.row),)
            counts, both_zero = batch.counts.to(device), batch.both_zero.to(device)
            found.append(score(counts, both_zero, *genes).cpu().numpy())
            advance(batch.row.numel())
    return np.concatenate(found)


def score_images(
    classifier: PairClassifier,
    counts: NDArray[np.integer[Any]],
    both_zero: NDArray[np.integer[Any]],
    probabilities: Callable[..., Tensor] | None = None,
) -> NDArray[np.float32]:
    """Class probabilities, (P, classes), of images that are in no store; as `score_rows`, of the pair alone."""
    classifier.eval()
    score, found = probabilities or classifier.probabilities, []
    with torch.inference_mode():
        for start in range(0, len(counts), PREDICTED_AT_ONCE):
            parts = (part[start : start + PREDICTED_AT_ONCE].astype(np.int32) for part in (counts, both_zero))
            found.append(score(*(torch.from_numpy(part).to(classifier.device) for part in parts)).cpu().numpy())
    return np.concatenate(found)


def _describe_all(
    classifier: PairClassifier, images: Images, device: torch.device
) -> Callable[[Tensor], Tensor] | None:
    """Every gene described once; then rows (B,) to (B, 2, F). None where the network looks at the pair alone."""
    if not classifier.knows_genes:
        return None
    around = surroundings(classifier, images)
    if isinstance(around, Loadings):
        return lambda row: torch.from_numpy(around.of(row.numpy())).to(device)
    assert around is not None
    parts = zip(around.counts.split(DESCRIBED_AT_ONCE), around.both_zero.split(DESCRIBED_AT_ONCE), strict=True)
    described = torch.cat([classifier.describe(*(part.to(device) for part in both)) for both in parts])
    return lambda row: described[torch.from_numpy(around.rows[row.numpy()]).to(device)]


def describe_genes(
    classifier: PairClassifier, codes: Codes, gene: NDArray[np.int64], device: torch.device
) -> NDArray[np.float32]:
    """Features (G, F) of some genes of a matrix, each made once, for a network that `knows_genes`."""
    if classifier.needs_loadings:
        return gene_loadings(codes)[gene]
    neighbour, described = nearest_genes(codes, gene), []
    with torch.inference_mode():
        for start in range(0, gene.size, COUNTED_AT_ONCE):
            some = slice(start, start + COUNTED_AT_ONCE)
            counts, both_zero = neighbour_images(codes, gene[some], neighbour[some])
            parts = zip(counts.split(DESCRIBED_AT_ONCE), both_zero.split(DESCRIBED_AT_ONCE), strict=True)
            described += [classifier.describe(*(part.to(device) for part in both)).cpu().numpy() for both in parts]
    return np.concatenate(described)


def describe_batch(
    classifier: PairClassifier, around: Neighbourhoods | Loadings | None, row: Tensor, device: torch.device
) -> Tensor | None:
    """Features (B, 2, F) of the genes of some rows, each gene described once."""
    if around is None:
        return None
    if isinstance(around, Loadings):
        return torch.from_numpy(around.of(row.numpy())).to(device)
    genes, place = np.unique(around.rows[row.numpy()], return_inverse=True)
    described = classifier.describe(around.counts[genes].to(device), around.both_zero[genes].to(device))
    return described[torch.from_numpy(place.reshape(-1, 2)).to(device)]


def surroundings(classifier: PairClassifier, images: Images) -> Neighbourhoods | Loadings | None:
    """What a network takes of a store's genes beside the images of the pairs; None: nothing."""
    if classifier.needs_neighbours:
        return neighbourhoods(images)
    return store_loadings(images) if classifier.needs_loadings else None


def require_genes_known(classifier: PairClassifier, images: Images) -> None:
    """Refuse (InputError), before anything is written, a store whose codes a network needs and that are gone."""
    if classifier.knows_genes:
        gene_codes(classifier, images)


def gene_codes(classifier: PairClassifier, images: Images) -> Codes:
    """The codes that a store was counted from, for a network that `knows_genes`; InputError where they are gone."""
    return codes_of(images) if classifier.needs_neighbours else factor_codes(images)


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained classifier with what its file says of it.

    Attributes
    ----------
    sha256
        Hex digest of its file, which holds all that decides a score besides counts and prior.
    """

    classifier: PairClassifier
    facts: NetworkFacts
    sha256: str

    @classmethod
    def open(cls, run: Path) -> "TrainedNetwork":
        """The network of a finished run, whose files are those that its training wrote.

        Raises
        ------
        InputError
            As `load`; the run is unfinished, one of its files is not its own, or a weight is no finite number.
        """
        refuse_repeats(run)
        require_result(run, "model.safetensors", "config.toml", "metrics.json", "reference.safetensors")
        network = cls.load(run)
        for name, tensor in network.classifier.state_dict().items():
            if not bool(tensor.isfinite().all()):
                raise InputError(
                    f"{run / 'model.safetensors'}: {name} holds values that are no finite numbers, and no score would "
                    "be one: the training failed, or the file is damaged; train again."
                )
        return network

    @classmethod
    def load(cls, run: Path) -> "TrainedNetwork":
        """Read `model.safetensors` of a run folder, once; the classifier is in evaluation mode, on the CPU.

        Raises
        ------
        InputError
            The folder holds several networks or none; the file is damaged, of another version, or its facts are
            refused; or the weights are not those of the network that the facts describe.
        """
        path = run / "model.safetensors"
        refuse_repeats(run)
        file = load_weights(path)
        facts = NetworkFacts.from_table(file.facts, path)
        classifier = PairClassifier(facts.network, facts.rendering, facts.bins, facts.classes, facts.mirror)
        _require_fit(path, file.tensors, classifier.state_dict())
        classifier.load_state_dict(file.tensors)
        return cls(classifier.eval(), facts, file.sha256)


def _require_fit(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse weights that are missing, too many, or of another shape or type."""
    wrong = [
        *(f"{name} is missing" for name in wanted if name not in found),
        *(f"{name} is none of its weights" for name in found if name not in wanted),
        *(
            f"{name} is {_described(found[name])}, not {_described(tensor)}"
            for name, tensor in wanted.items()
            if name in found and (found[name].shape, found[name].dtype) != (tensor.shape, tensor.dtype)
        ),
    ]
    if wrong:
        others = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise InputError(
            f"{path} does not hold the weights of the network that it names: {wrong[0]}{others}; copy the file again, "
            "or train again."
        )


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {' × '.join(map(str, tensor.shape)) or 'number'}"
