"""Pairs that are counted in another way and scored again: what the tasks of decoys and of resamples share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.prediction.within import GroupLayer
from pairscape.pipeline.codes.store import Codes, open_codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.compute.tasks import run_tasks
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.gene_reader import GeneReader, held_reader
from pairscape.pipeline.heatmaps.memory import Portion
from pairscape.pipeline.heatmaps.pairwise import PairRun, runs_of

Genes = NDArray[np.int64]
Score = Callable[[NDArray[Any], NDArray[Any], Genes, Genes], NDArray[np.floating[Any]]]
"""Scores (P,) of joint counts (P, bins, bins), both zeros (P,), genes a and genes b (P,); NaN where the screen would
stop a pair. The genes are for networks that look at their neighbours too, which stay as they are."""


@dataclass(frozen=True, eq=False)
class Rescoring:
    """Where pairs are counted again, and what scores them; small, it travels to the workers.

    Attributes
    ----------
    codes
        The code store.
    portion
        How much of the codes a worker holds.
    load
        Called on the worker for what scores there; picklable, such as a `functools.partial` of a function over a path.
    seed
        Of all draws.
    group
        Of cells, which alone are counted. Absent: all cells.
    """

    codes: Codes
    portion: Portion
    load: Callable[[], Score]
    seed: int = 0
    group: GroupLayer | None = None

    def reader(self) -> GeneReader:
        """Genes of the codes, held once a process."""
        groups = None if self.group is None else self.group.groups()
        return held_reader(open_codes(Path(self.codes.path)), self.portion, groups)

    @property
    def group_number(self) -> int:
        """Of the group among those of the reader; 0, the only one, where all cells are counted."""
        return 0 if self.group is None else self.group.number


def score_runs(
    task: Callable[..., NDArray[Any]], common: tuple[Any, ...], pairs: Pairs, size: int, stage: str, session: Session
) -> list[NDArray[Any]]:
    """Scores of pairs, run by run in their order: `task(*common, run)` for each run of so many pairs.

    Parameters
    ----------
    task
        Gives (..., P) scores of a run.
    size
        Pairs of a run.
    stage
        Name of the bar.
    """
    runs = runs_of(pairs.gene_a, pairs.gene_b, size)
    session.progress.start(stage, len(pairs))
    found: dict[int, NDArray[Any]] = {}
    run: PairRun
    for run, scores in run_tasks(session, task, runs, *common):
        found[run.number] = scores
        session.progress.advance(scores.shape[-1])
    return [found[run.number] for run in runs]
