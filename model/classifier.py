"""Counts in, class probabilities out: the rendering and the network as one module, and its use on rows of a store."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.checkpoint import load_weights
from model.networks import build_network
from model.render import Render
from model.sampling import Rows
from model.spec import Rendering
from model.stream import Batch, prefetched, row_batches
from pipeline.errors import InputError
from pipeline.images import Images

PREDICTED_AT_ONCE = 1024


class PairClassifier(nn.Module):
    """A network together with the rendering it was made for.

    Parameters
    ----------
    network
        Name of the architecture.
    rendering
        How counts become its input.
    bins
        Bins of the stored images.
    classes
        2, or 3 with direction.
    mirror
        Whether (a, b) and (b, a) mean the same: predictions are then averaged over both.
    """

    def __init__(self, network: str, rendering: Rendering, bins: int, classes: int, mirror: bool) -> None:
        super().__init__()
        self.facts = {
            "network": network,
            "rendering": asdict(rendering),
            "bins": bins,
            "classes": classes,
            "mirror": mirror,
        }
        self.mirror, self.classes = mirror, classes
        try:
            self.render = Render(bins, **asdict(rendering))
        except ValueError as error:
            raise InputError(str(error)) from error
        self.network = build_network(
            network, in_channels=self.render.out_channels, bins=self.render.out_bins, classes=classes
        )

    def forward(self, counts: Tensor, both_zero: Tensor) -> Tensor:
        """Counts (B, bins, bins) to logits (B, classes)."""
        logits: Tensor = self.network(self.render(counts, both_zero))
        return logits

    def probabilities(self, counts: Tensor, both_zero: Tensor) -> Tensor:
        """Counts (B, bins, bins) to probabilities (B, classes), averaged with the mirror's if that is the same pair."""
        probability: Tensor = self(counts, both_zero).softmax(1)
        if self.mirror:
            probability = (probability + self(counts.mT, both_zero).softmax(1)) / 2
        return probability


def choose_device(name: str) -> torch.device:
    """`auto` takes a CUDA GPU, else Apple's, else the CPU.

    Raises
    ------
    InputError
        A device this machine has not.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available.get(name, False):
        there = ", ".join(kind for kind, yes in available.items() if yes)
        raise InputError(f"device {name!r} is not available here; give auto or one of: {there}.")
    return torch.device(name)


def score_rows(
    classifier: PairClassifier,
    images: Images,
    rows: Rows,
    label: NDArray[np.int8],
    device: torch.device,
    advance: Callable[[int], None],
) -> NDArray[np.float32]:
    """Class probabilities of rows (ascending), (R, classes), as trained: before any correction of the prior."""
    classifier.eval()
    found = []
    with torch.inference_mode():
        for batch in _ahead(images, rows, label):
            found.append(classifier.probabilities(batch.counts.to(device), batch.both_zero.to(device)).cpu().numpy())
            advance(batch.row.numel())
    return np.concatenate(found)


def _ahead(images: Images, rows: Rows, label: NDArray[np.int8]) -> Iterator[Batch]:
    return prefetched(row_batches(images, rows, label, PREDICTED_AT_ONCE), 4)


def load_classifier(run: Path) -> tuple[PairClassifier, dict[str, Any]]:
    """A trained classifier and the facts saved with it.

    Raises
    ------
    InputError
        As `model.checkpoint.load_weights`.
    """
    state, facts = load_weights(run / "model.safetensors")
    rendering = Rendering(**facts["rendering"])
    classifier = PairClassifier(facts["network"], rendering, facts["bins"], facts["classes"], facts["mirror"])
    classifier.load_state_dict(state)
    return classifier, facts
