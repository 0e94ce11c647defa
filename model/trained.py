"""What a run says of itself before its network is loaded: the rule of binning, and what was usual in its training."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoint import load_weights
from model.facts import complete_facts
from model.parts import network_hash
from model.run import refuse_repeats
from pipeline.errors import InputError
from pipeline.spec import Binning

ANY_PRIOR = "balanced accuracy"  # the one aim whose threshold marks the same pairs whatever their share


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained run.

    Attributes
    ----------
    run
        Its folder, absolute.
    network
        `model.parts.network_hash`.
    facts
        As `model.facts.complete_facts` gives them.
    metrics
        Its figures; empty where they are gone.
    """

    run: Path
    network: str
    facts: dict[str, Any]
    metrics: dict[str, Any]

    @classmethod
    def open(cls, run: Path) -> "Trained":
        """What lies in a folder.

        Raises
        ------
        InputError
            No trained network there, or several; or as `model.facts.complete_facts`.
        """
        run = run.absolute()  # workers have other working folders
        refuse_repeats(run)
        _, stored = load_weights(run / "model.safetensors")
        if not (run / "config.toml").is_file():
            raise InputError(f"{run / 'config.toml'}: no such file, and it says what the network was taught to "
                             "believe; give a folder that `pairscape train` made.")  # fmt: skip
        return cls(run, network_hash(run), complete_facts(stored, run), _metrics(run))

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
        points = {point["aim"]: point.get("threshold") for point in self.metrics.get("operating_points", [])}
        if prior == self.natural:
            return {aim: float(p) for aim, p in points.items() if p is not None}
        p = points.get(ANY_PRIOR)
        return {} if p is None else {ANY_PRIOR: moved_probability(float(p), self.natural, prior)}

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


def _metrics(run: Path) -> dict[str, Any]:
    try:
        found = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    except OSError:
        return {}
    except ValueError as error:
        raise InputError(f"{run / 'metrics.json'} is damaged ({error}); restore it, or train again.") from error
    return found if isinstance(found, dict) else {}
