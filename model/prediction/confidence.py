"""q-values and rank stability of a prediction: columns beside its scores, estimated from decoys and resamples."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.options import Prediction
from pairscape.model.prediction.decoys import estimate_discovery
from pairscape.model.prediction.fdr import BandedDiscovery
from pairscape.model.prediction.parts import Job, Parts, load_score
from pairscape.model.prediction.rescoring import Rescoring
from pairscape.model.prediction.stability import IMAGES_AT_ONCE, PAIRS_AT_ONCE, Stability, resample_best
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.memory import KEPT_ENTRY_BYTES
from pairscape.pipeline.heatmaps.pairwise import GROUPS, HELD_BYTES


@dataclass(frozen=True, eq=False)
class Confidence:
    """Columns that stand beside the scores.

    Attributes
    ----------
    discovery
        q-values of the candidates' scores; None: not asked for.
    stability
        Of the best pairs; None: not asked for.
    facts
        What the file of scores says of both.
    """

    discovery: BandedDiscovery | None = None
    stability: Stability | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names."""
        q_value = ("q_value",) if self.discovery is not None else ()
        return (*q_value, "score_mean", "score_sd", "rank_stability") if self.stability is not None else q_value

    def rows(self, rows: slice, score: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The columns of some candidates, whose scores are given; NaN where there is no value."""
        found = {} if self.discovery is None else {"q_value": self.discovery(rows, score)}
        if (stable := self.stability) is not None:
            first, last = np.searchsorted(stable.rows, [rows.start, rows.stop])
            columns = {"score_mean": stable.mean, "score_sd": stable.sd, "rank_stability": stable.rank_stability}
            for name, values in columns.items():
                found[name] = np.full(score.size, np.nan, np.float32)
                found[name][stable.rows[first:last] - rows.start] = values[first:last]
        return found


def confidence_bytes(options: Prediction, n_cells: int, bins: int) -> int:
    """Memory of a task that resamples or makes decoys, on top of one that scores, at most; 0 if none is asked for."""
    if not options.estimates_confidence:
        return 0
    genes = min(2 * PAIRS_AT_ONCE * n_cells * KEPT_ENTRY_BYTES, HELD_BYTES)
    groups = 2 * GROUPS * PAIRS_AT_ONCE * bins**2 * 4  # whole numbers, and the same to be multiplied
    return genes + groups + 3 * IMAGES_AT_ONCE * bins**2 * 4


def estimate_confidence(
    job: Job, pairs: Pairs, codes: Codes | None, options: Prediction, seed: int, session: Session
) -> Confidence:
    """The columns that are asked for, of a job whose parts are all there.

    Parameters
    ----------
    pairs
        All candidates.
    codes
        That decoys and resamples are counted from; needed if any are asked for.
    """
    if not options.estimates_confidence:
        return Confidence()
    assert codes is not None
    assert job.portion is not None
    discovery, stability, facts = None, None, dict[str, Any]()
    folder = Path(job.parts.folder)
    rescoring = partial(Rescoring, codes, job.portion, seed=seed, kept=folder / job.parts.layer)
    if options.q_values:
        screened = rescoring(load=partial(load_score, job, screened=True), group=job.group)
        found = estimate_discovery(screened, pairs, _scores(job.parts), folder, session, job.within)
        discovery, facts["fdr"] = found
    if options.bootstrap is not None:
        all_pairs = rescoring(load=partial(load_score, job, screened=False))
        score, number = np.concatenate(list(_scores(job.parts))), options.bootstrap
        stability = resample_best(all_pairs, pairs, score, session, resamples=number, best=options.best)
        facts["stability"] = stability.facts
    return Confidence(discovery, stability, facts)


def _scores(parts: Parts) -> Iterator[NDArray[np.float32]]:
    for part in range(len(parts)):
        yield parts.read([part])["score"]
