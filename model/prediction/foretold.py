"""Foretell what a prediction costs: what runs it, its strata, the network and the decoys, tried on a few candidates."""

import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pairscape.model.networks.device import one_thread
from pairscape.model.prediction.bands import Bands
from pairscape.model.prediction.candidates import CandidateImages
from pairscape.model.prediction.checked import CheckedPrediction
from pairscape.model.prediction.decoys import decoy_scores, sample_bands, save_strata
from pairscape.model.prediction.parts import Job, hold_scorer, load_score, prepare, score_task
from pairscape.model.prediction.predict import bytes_beside, job_of, tasks_of, with_strata
from pairscape.model.prediction.rescoring import Rescoring
from pairscape.model.prediction.screen import sample_rows
from pairscape.model.prediction.within import check_columns
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.opening import worker_threads
from pairscape.pipeline.compute.progress import silent
from pairscape.pipeline.compute.session import Session, Usage
from pairscape.pipeline.compute.tasks import on_every_worker, run_tasks
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.plan import Tried, timed_without_compiling
from pairscape.pipeline.heatmaps.tiles import storage_order


def foretell(
    checked: CheckedPrediction, codes: Codes, pairs: Pairs, n_cells: int, folder: Path, session: Session
) -> Tried:
    """Do to a few candidates what the job would do to all, on the same workers, and time it.

    Parameters
    ----------
    codes
        Of all cells, or of some that stand for them.
    n_cells
        Cells that the job will count.
    folder
        Where parts and strata may be written.
    """
    checked = checked.settled(countable=True, strata=True)
    some = storage_order(pairs.take(sample_rows(len(pairs), checked.seed)))  # of fewer genes, so in other blocks
    candidates = CandidateImages.counted(codes, some, {}, obs=pd.DataFrame(index=range(codes.n_cells)))
    folder.mkdir(exist_ok=True)
    growth, bins, genes = n_cells / codes.n_cells, codes.binning.bins, _n_genes(pairs) / _n_genes(some)
    with one_thread():
        job = job_of(candidates, codes, checked, folder, session.memory)
        job.parts.save_pairs(some)
        columns, laying = checked.strata_columns, _measuring(session)
        strata = check_columns(candidates.obs, columns) if columns and candidates.obs is not None else None
        job = with_strata(job, candidates, checked, strata, laying)
        hold_scorer(job, checked.trained.network)
    loading = _loading_seconds(job, session)
    pair = _pair_seconds(job, candidates, session)
    decoys = _decoy_seconds(job, candidates, codes, checked, session) if checked.options.q_values else 0.0
    wanted = sample_bands(Bands.of(pairs, 1 - codes.array("dropout")), checked.seed).size * growth
    strata_seconds, beside = laying.usage.busy_seconds * growth * genes, bytes_beside(checked.options, n_cells, bins)
    return Tried(checked.trained.name, pair, strata_seconds, decoys * wanted, loading, beside)


def _n_genes(pairs: Pairs) -> int:
    return int(np.union1d(pairs.gene_a, pairs.gene_b).size)


def _measuring(session: Session) -> Session:
    """The same workers, with figures of their own, and without a word."""
    return Session(session.client, say=silent, usage=Usage(), memory=session.memory)


def _loading_seconds(job: Job, session: Session) -> float:
    """Until every worker has loaded the network, and what is compiled."""
    started = time.perf_counter()
    compiling = [seconds for *_, seconds in on_every_worker(session.client, timed_without_compiling, prepare, job)]
    return time.perf_counter() - started - max(compiling)


def _pair_seconds(job: Job, candidates: CandidateImages, session: Session) -> float:
    """Statistics and network of one pair, all workers busy; not its counting."""
    parts = list(range(len(job.parts)))
    tasks = tasks_of(job, candidates, parts, np.ones(len(parts)), worker_threads(session.client))
    for _ in ("cold", "warm"):
        costs = [cost for _, cost in run_tasks(_measuring(session), score_task, tasks, job)]
    return sum(cost.deriving + cost.scoring + cost.writing for cost in costs) / len(candidates.pairs)


def _decoy_seconds(
    job: Job, candidates: CandidateImages, codes: Codes, checked: CheckedPrediction, session: Session
) -> float:
    """Of one decoy, counting included, once all is loaded."""
    assert job.portion is not None
    strata = save_strata(codes, Path(job.parts.folder), checked.seed, _measuring(session), job.within)
    rescoring = Rescoring(codes, job.portion, partial(load_score, job, screened=True), checked.seed)
    for _ in ("cold", "warm"):
        trying = _measuring(session)
        decoy_scores(rescoring, candidates.pairs, strata, trying)
    return trying.usage.busy_seconds / len(candidates.pairs)
