"""Pairs that are counted in another way and scored again: what the tasks of decoys and of resamples share.

Every run of pairs that is scored is kept in the folder of the job, with its receipt, until the job is finished, so that
an interrupted job makes only the others.
"""

import hashlib
import io
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
from pairscape.pipeline.storage.receipts import Receipt, write_receipted

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
    kept
        Folder of the job, where runs that are finished are kept. Absent: they are not.
    """

    codes: Codes
    portion: Portion
    load: Callable[[], Score]
    seed: int = 0
    group: GroupLayer | None = None
    kept: Path | None = None

    def reader(self) -> GeneReader:
        """Genes of the codes, held once a process."""
        groups = None if self.group is None else self.group.groups()
        return held_reader(open_codes(Path(self.codes.path)), self.portion, groups)

    @property
    def group_number(self) -> int:
        """Of the group among those of the reader; 0, the only one, where all cells are counted."""
        return 0 if self.group is None else self.group.number


def score_runs(
    task: Callable[..., NDArray[Any]],
    common: tuple[Any, ...],
    pairs: Pairs,
    size: int,
    stage: str,
    session: Session,
    kept: Path | None = None,
) -> list[NDArray[Any]]:
    """Scores of pairs, run by run in their order: `task(*common, run)` for each run of so many pairs.

    Parameters
    ----------
    task
        Gives (..., P) scores of a run.
    size
        Pairs of a run.
    stage
        Name of the bar, and of the folder in `kept`.
    kept
        Folder of the job: runs that an interrupted call of it has finished are read from there. Absent: none are kept.
    """
    runs = runs_of(pairs.gene_a, pairs.gene_b, size)
    receipts = {} if kept is None else {run.number: _receipt(kept / stage, run) for run in runs}
    found = {number: scores for number, receipt in receipts.items() if (scores := _read(receipt)) is not None}
    session.progress.start(stage, len(pairs))
    session.progress.advance(sum(scores.shape[-1] for scores in found.values()))
    missing = [run for run in runs if run.number not in found]
    run: PairRun
    for run, scores in run_tasks(session, task, missing, *common):
        found[run.number] = scores
        if kept is not None:
            content = io.BytesIO()
            np.save(content, scores)
            write_receipted(receipts[run.number], {"scores": content.getvalue()})
        session.progress.advance(scores.shape[-1])
    return [found[run.number] for run in runs]


def _receipt(folder: Path, run: PairRun) -> Receipt:
    genes = hashlib.sha256(run.gene_a.tobytes() + run.gene_b.tobytes()).hexdigest()
    file = folder / f"{run.number}.npy"
    return Receipt(file.with_suffix(".json"), {"run": run.number, "genes": genes}, {"scores": file})


def _read(receipt: Receipt) -> NDArray[Any] | None:
    """Scores of a run that is kept, every byte as it was written; None: it is to be made."""
    if (said := receipt.read()) is None or receipt.differing(said) is not None:
        return None
    return np.asarray(np.load(receipt.files["scores"]))
