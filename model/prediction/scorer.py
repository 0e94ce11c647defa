"""A trained network as a function from joint counts to probabilities at the prior of the data at hand."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pairscape.model.networks.classifier import PairClassifier, load_classifier
from pairscape.model.networks.device import choose_device
from pairscape.model.networks.fast import Probabilities, prepare
from pairscape.model.networks.prior import Taught

AT_ONCE = 1024  # images sent to the device at a time; on a CPU they are scored in smaller batches


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores pairs from their counts.

    Attributes
    ----------
    classifier
        The network and its rendering, on the device.
    taught
        What training made it believe about the prior.
    prior
        Share of positives among the pairs to be scored.
    facts
        Saved with the weights: bins, scale, classes and so on.
    """

    classifier: PairClassifier
    device: torch.device
    taught: Taught
    prior: float
    facts: dict[str, Any]

    def __call__(
        self,
        counts: NDArray[np.integer],
        both_zero: NDArray[np.integer],
        genes: Callable[[slice], NDArray[np.float32]] | None = None,
    ) -> NDArray[np.float64]:
        """Class probabilities at the prior, (P, classes).

        Parameters
        ----------
        counts : (P, bins, bins), both_zero : (P,)
            Joint counts, and cells in which neither gene is expressed.
        genes
            For a network that knows more of the genes: some of the pairs to (B, 2, F), what it makes of them.
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
        return self.taught.corrected(np.concatenate(found), self.prior)

    @cached_property
    def probabilities(self) -> Probabilities:
        """Counts and both zeros to class probabilities as trained, the fastest way that the device knows."""
        return prepare(self.classifier, self.device)


def load_scorer(run: Path, prior: float, device: str) -> Scorer:
    """The network of a trained run, ready to score.

    Raises
    ------
    InputError
        As `model.networks.classifier.load_classifier` and `model.networks.classifier.choose_device`.
    """
    classifier, facts = load_classifier(run)
    chosen = choose_device(device)
    return Scorer(classifier.to(chosen).eval(), chosen, Taught.recorded(facts), prior, facts)
