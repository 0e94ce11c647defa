"""How far scores are to be believed, told from the counts themselves: q-values by decoys, stability by resamples."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.options import Prediction
from pairscape.model.prediction.candidates import Origin
from pairscape.model.prediction.decoys import estimate_discovery
from pairscape.model.prediction.fdr import Discovery
from pairscape.model.prediction.parts import Job, Parts, load_score
from pairscape.model.prediction.stability import IMAGES_AT_ONCE, PAIRS_AT_ONCE, Resampling, Stability, resample_best
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.heatmaps.gene_reader import KEPT_ENTRY_BYTES
from pairscape.pipeline.heatmaps.pairwise import GROUPS, HELD_BYTES


@dataclass(frozen=True, eq=False)
class Doubt:
    """Columns that stand beside the scores.

    Attributes
    ----------
    discovery
        q-value of a score; None: not asked for.
    stability
        Of the best pairs; None: not asked for.
    facts
        What the file of scores says of both.
    """

    discovery: Discovery | None = None
    stability: Stability | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names, as `model.edges.scores` has them."""
        told = ("q_value",) if self.discovery is not None else ()
        return (*told, "score_mean", "score_sd", "rank_stability") if self.stability is not None else told

    def rows(self, rows: slice, score: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The columns of some candidates, whose scores are given; NaN where nothing is told."""
        found = {} if self.discovery is None else {"q_value": self.discovery(score)}
        if (stable := self.stability) is not None:
            first, last = np.searchsorted(stable.rows, [rows.start, rows.stop])
            told = {"score_mean": stable.mean, "score_sd": stable.sd, "rank_stability": stable.rank_stability}
            for name, values in told.items():
                found[name] = np.full(score.size, np.nan, np.float32)
                found[name][stable.rows[first:last] - rows.start] = values[first:last]
        return found


def doubt_bytes(options: Prediction, n_cells: int, bins: int) -> int:
    """Memory of a task that resamples or makes decoys, on top of one that scores, at most; 0 if none is asked for."""
    if not options.doubted:
        return 0
    genes = min(2 * PAIRS_AT_ONCE * n_cells * KEPT_ENTRY_BYTES, HELD_BYTES)
    groups = 2 * GROUPS * PAIRS_AT_ONCE * bins**2 * 4  # whole numbers, and the same to be multiplied
    return genes + groups + 3 * IMAGES_AT_ONCE * bins**2 * 4


def doubts(
    job: Job,
    origin: Origin,
    codes: Codes | None,
    options: Prediction,
    seed: int,
    session: Session,
) -> Doubt:
    """What was asked for, of a job whose parts are all there.

    Parameters
    ----------
    codes
        That decoys and resamples are counted from; needed if any are asked for.
    """
    if not options.doubted:
        return Doubt()
    assert codes is not None
    assert job.portion is not None
    share, facts = job.portion, dict[str, Any]()
    discovery = stability = None
    if options.q_values:
        load, folder = partial(load_score, job, screened=True), Path(job.parts.folder)
        discovery, facts["fdr"] = estimate_discovery(
            codes, origin.pairs, _scores(job.parts), load, folder, seed, share, session
        )
    if options.bootstrap is not None:
        load, resampling = partial(load_score, job, screened=False), Resampling(options.bootstrap, options.best, seed)
        score = np.concatenate(list(_scores(job.parts)))
        stability = resample_best(codes, origin.pairs, score, load, resampling, share, session)
        facts["stability"] = stability.facts
    return Doubt(discovery, stability, facts)


def _scores(parts: Parts) -> Iterator[NDArray[np.float32]]:
    for part in range(len(parts)):
        yield parts.read([part])["score"]
