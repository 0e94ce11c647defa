"""A trained run, checked whole before anything is spent on it; its rule of binning, and what its training knew."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairscape.model.evaluation.reference import load_reference
from pairscape.model.evaluation.shift import Reference
from pairscape.model.networks.classifier import load_classifier
from pairscape.model.networks.weights import is_share, network_hash, read_metrics, refuse_repeats
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Binning

ANY_PRIOR = "balanced accuracy"  # the one aim whose threshold marks the same pairs whatever their share


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained run.

    Attributes
    ----------
    run
        Its folder, absolute.
    network
        `model.prediction.parts.network_hash`.
    facts
        As `model.networks.facts.complete_facts` gives them.
    points
        Thresholds placed on its validation pairs, by aim; none where its figures are gone.
    reference
        What its training showed; None for a run from before that was kept.
    """

    run: Path
    network: str
    facts: dict[str, Any]
    points: dict[str, float]
    reference: Reference | None

    @classmethod
    def open(cls, run: Path) -> "Trained":
        """What lies in a folder.

        Raises
        ------
        InputError
            No trained network there, or several; as `model.networks.classifier.load_classifier` and
            `model.evaluation.reference.load_reference`; or its figures are damaged.
        """
        run = run.absolute()  # workers have other working folders
        refuse_repeats(run)
        classifier, facts = load_classifier(run)
        if not (run / "config.toml").is_file():
            raise InputError(f"{run / 'config.toml'}: no such file, and it says what the network was taught to "
                             "believe; give a folder that `pairscape train` made.")  # fmt: skip
        return cls(run, network_hash(run), facts, _points(run), load_reference(run, classifier))

    @property
    def binning(self) -> Binning:
        """The rule by which its images were binned: the rule travels, not the edges."""
        return Binning(self.facts["scale"], self.facts["bins"])

    @property
    def natural(self) -> float:
        """Share of edges among the pairs of the training.

        Raises
        ------
        InputError
            Nothing tells it.
        """
        found = self.facts["natural"]
        if found is None:
            raise InputError(f"{self.run / 'metrics.json'} does not tell the share of edges in training; give "
                             "--prior.")  # fmt: skip
        return float(found)

    def thresholds(self, prior: float) -> dict[str, float]:
        """Probabilities from which a pair is called an edge, by aim.

        Placed on validation pairs at the natural prior; at another one the same calls are made at other probabilities.
        Their precision is then another, so only the aim that has none is told.
        """
        if self.facts["natural"] is None:  # nothing tells where they would lie at another one
            return {}
        if prior == self.natural:
            return dict(self.points)
        p = self.points.get(ANY_PRIOR)
        return {} if p is None else {ANY_PRIOR: moved_probability(p, self.natural, prior)}

    def record(self) -> dict[str, Any]:
        """What a file of scores says of the network."""
        weights = hashlib.sha256((self.run / "model.safetensors").read_bytes()).hexdigest()
        return {"run": str(self.run), **self.facts, "weights": weights}


def moved_probability(p: float, before: float, after: float) -> float:
    """The same evidence at another prior."""
    if not 0 < before < 1:
        return p
    odds = p * after * (1 - before)
    return odds / (odds + (1 - p) * before * (1 - after))


def _points(run: Path) -> dict[str, float]:
    """Thresholds of the operating points that were reached, by aim."""
    found, told = dict[str, float](), (read_metrics(run) or {}).get("operating_points", [])
    for point in told if isinstance(told, list) else [told]:
        aim, threshold = (point.get("aim"), point.get("threshold")) if isinstance(point, dict) else (None, None)
        if not isinstance(aim, str) or not (threshold is None or is_share(threshold)):
            raise InputError(f"{run / 'metrics.json'}: {point!r} is no operating point, an aim with a threshold from 0 "
                             "to 1; restore the file, or remove it.")  # fmt: skip
        if threshold is not None:
            found[aim] = float(threshold)
    return found
