"""A trained network as a function from joint counts to probabilities at the prior of the candidates."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pairscape.model.networks.classifier import PairClassifier, TrainedNetwork
from pairscape.model.networks.device import choose_device
from pairscape.model.networks.fast import Probabilities, prepare
from pairscape.model.networks.prior import PriorCorrection

AT_ONCE = 1024  # images sent to the device at a time; on a CPU they are scored in smaller batches


@dataclass(frozen=True, eq=False)
class Scorer:
    """A classifier on its device, the correction of its training, and the prior of the pairs to score."""

    classifier: PairClassifier
    device: torch.device
    correction: PriorCorrection
    prior: float

    @classmethod
    def of(cls, network: TrainedNetwork, prior: float, device: str) -> "Scorer":
        """A trained network, ready to score; InputError where the device is not there."""
        chosen = choose_device(device)
        return cls(network.classifier.to(chosen), chosen, network.facts.correction, prior)

    def __call__(
        self,
        counts: NDArray[np.integer],
        both_zero: NDArray[np.integer],
        genes: Callable[[slice], NDArray[np.float32]] | None = None,
    ) -> NDArray[np.float64]:
        """Class probabilities at the prior, (P, classes), of counts (P, bins, bins) and both zeros (P,).

        `genes` is for a network that `knows_genes`: a slice of the pairs to features of their genes, (B, 2, F).
        """
        found = []
        with torch.inference_mode():
            for start in range(0, len(counts), AT_ONCE):
                some = slice(start, start + AT_ONCE)
                image, zeros = (
                    torch.from_numpy(part[some].astype(np.int32)).to(self.device) for part in (counts, both_zero)
                )
                described = () if genes is None else (torch.from_numpy(genes(some)).to(self.device),)
                found.append(self.probabilities(image, zeros, *described).cpu().numpy())
        return self.correction.corrected(np.concatenate(found), self.prior)

    @cached_property
    def probabilities(self) -> Probabilities:
        """Counts and both zeros to class probabilities as trained."""
        return prepare(self.classifier, self.device)
