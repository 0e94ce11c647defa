"""A trained run as a prediction uses it: read once, checked whole before anything is computed with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairscape.model.evaluation.reference import load_reference
from pairscape.model.evaluation.shift import Reference
from pairscape.model.networks.bundled import NAME, is_bundled
from pairscape.model.networks.classifier import TrainedNetwork
from pairscape.model.networks.weights import is_share, read_metrics, trained_values
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.options import Binning

ANY_PRIOR = "balanced accuracy"  # the one aim whose threshold marks the same pairs whatever their share


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A trained run.

    Attributes
    ----------
    folder
        Absolute, as workers have other working folders.
    points
        Thresholds on the probability by aim, placed on the validation pairs; none where `metrics.json` is not there.
    reference
        Figures of its training pairs, for comparison; None where its file is not there.
    values
        What kind of values it was trained on, as `Expression.values`; "" where that is unknown.

    Raises
    ------
    InputError
        A threshold is no share.
    """

    folder: Path
    network: TrainedNetwork
    points: Mapping[str, float]
    reference: Reference | None
    values: str = ""

    def __post_init__(self) -> None:
        for aim, threshold in self.points.items():
            if not isinstance(aim, str) or not is_share(threshold):
                raise _no_point(self.folder, f"{aim!r} from {threshold!r} on")

    @classmethod
    def open(cls, folder: Path) -> "TrainedRun":
        """Read `model.safetensors`, `metrics.json` and `reference.safetensors` of a folder, each once.

        Raises
        ------
        InputError
            The folder holds several networks or none, is unfinished, or one of the files is damaged or does not fit the
            others.
        """
        folder = folder.absolute()
        network, metrics = TrainedNetwork.open(folder), read_metrics(folder) or {}
        if metrics.get("weights", network.sha256) != network.sha256:  # earlier versions did not say
            raise InputError(
                f"{folder / 'metrics.json'} is of other weights than {folder / 'model.safetensors'}, so its thresholds "
                "would mean nothing; copy both files from the same run, or remove it."
            )
        points, reference = _operating_points(folder, metrics), load_reference(folder, network)
        return cls(folder, network, points, reference, trained_values(metrics))

    @property
    def name(self) -> str:
        """What a job and a file of scores call it: `universal` if it comes with the package, else the folder."""
        return NAME if is_bundled(self.folder) else str(self.folder)

    @property
    def names_kinds(self) -> bool:
        """Whether its classes are the kinds of dependence."""
        return self.network.facts.class_names == KINDS

    @property
    def binning(self) -> Binning:
        """The rule by which its images were binned; the edges follow from the matrix at hand."""
        return Binning(self.network.facts.scale, self.network.facts.bins)

    @property
    def natural(self) -> float:
        """Share of edges among the pairs of the training."""
        return float(self.network.facts.natural)

    def thresholds(self, prior: float) -> dict[str, float]:
        """Probabilities from which a pair is called an edge, by aim.

        They were placed at the natural prior. At another one the same calls are made at other probabilities and have
        another precision, so only the aim without one is kept.
        """
        if prior == self.natural:
            return dict(self.points)
        p = self.points.get(ANY_PRIOR)
        return {} if p is None else {ANY_PRIOR: moved_probability(p, self.natural, prior)}

    def record(self) -> dict[str, Any]:
        """What a file of scores says of the network."""
        return {"run": self.name, **self.network.facts.table(), "weights": self.network.sha256}


def moved_probability(p: float, before: float, after: float) -> float:
    """The same evidence at another prior."""
    if not 0 < before < 1:
        return p
    odds = p * after * (1 - before)
    return odds / (odds + (1 - p) * before * (1 - after))


def _operating_points(folder: Path, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Thresholds that were reached, by aim."""
    points = metrics.get("operating_points", [])
    try:
        return {point["aim"]: point["threshold"] for point in points if point["threshold"] is not None}
    except (TypeError, KeyError) as error:
        raise _no_point(folder, repr(points)) from error


def _no_point(folder: Path, found: str) -> InputError:
    return InputError(
        f"{folder / 'metrics.json'}: {found} is no operating point, an aim with a threshold from 0 to 1; restore the "
        "file, or remove it."
    )
