"""Foretell what a prediction costs: its statistics, its network and its decoys, tried on a few of the candidates."""

import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pairscape.model.networks.device import one_thread
from pairscape.model.prediction.candidates import CandidateImages
from pairscape.model.prediction.checked import CheckedPrediction
from pairscape.model.prediction.decoys import DECOYS, RUN_PAIRS, decoy_task, save_strata
from pairscape.model.prediction.parts import Cost, Job, hold_scorer, load_score, score_images
from pairscape.model.prediction.predict import job_of, with_strata
from pairscape.model.prediction.rescoring import Rescoring
from pairscape.model.prediction.screen import sample_rows
from pairscape.model.prediction.within import check_columns
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.pairwise import runs_of
from pairscape.pipeline.heatmaps.plan import Tried


def foretell(codes: Codes, pairs: Pairs, checked: CheckedPrediction, n_cells: int, folder: Path) -> Tried:
    """Do to a few candidates, in this process, what the job would do to all.

    Parameters
    ----------
    codes
        Of all cells, or of some that stand for them.
    n_cells
        Cells that the job will count.
    folder
        Where strata may be written.
    """
    checked = checked.settled(countable=True, strata=True)
    candidates = CandidateImages.counted(
        codes, pairs.take(sample_rows(len(pairs), checked.seed)), {}, obs=pd.DataFrame(index=range(codes.n_cells))
    )
    folder.mkdir(exist_ok=True)
    with one_thread():
        job = job_of(candidates, codes, checked, folder, None)
        job.parts.save_pairs(candidates.pairs)
        columns = checked.strata_columns
        strata = check_columns(candidates.obs, columns) if columns and candidates.obs is not None else None
        started = time.perf_counter()
        job = with_strata(job, candidates, checked, strata, Session())
        laying = time.perf_counter() - started
        hold_scorer(job, checked.trained.network)
        pair = _pair_seconds(job, candidates)
        decoys = _decoy_seconds(job, candidates, codes, checked, folder) if checked.options.q_values else 0.0
    runs, growth = -(-min(len(pairs), DECOYS) // RUN_PAIRS), n_cells / codes.n_cells
    genes = _n_genes(pairs) / _n_genes(candidates.pairs)
    return Tried(checked.trained.name, pair, laying * growth * genes, decoys * runs * growth)


def _n_genes(pairs: Pairs) -> int:
    return int(np.union1d(pairs.gene_a, pairs.gene_b).size)


def _pair_seconds(job: Job, candidates: CandidateImages) -> float:
    """Of one pair, its picture counted."""
    rows = np.arange(len(candidates.pairs))
    images = candidates.read(rows)
    genes = np.stack([candidates.pairs.gene_a, candidates.pairs.gene_b], axis=1) if job.needs_genes else None
    few = slice(1)
    score_images(job, (images[0][few], images[1][few]), None if genes is None else genes[few], Cost())
    cost = Cost()
    score_images(job, images, genes, cost)
    return (cost.deriving + cost.scoring) / rows.size


def _decoy_seconds(
    job: Job, candidates: CandidateImages, codes: Codes, checked: CheckedPrediction, folder: Path
) -> float:
    """Of one run of decoys."""
    assert job.portion is not None
    strata = save_strata(codes, folder, checked.seed, Session(), job.within)
    rescoring = Rescoring(codes, job.portion, partial(load_score, job, screened=True), checked.seed)
    run = runs_of(candidates.pairs.gene_a, candidates.pairs.gene_b, RUN_PAIRS)[0]
    decoy_task(rescoring, str(strata), run)  # which loads what is compiled
    started = time.perf_counter()
    decoy_task(rescoring, str(strata), run)
    return (time.perf_counter() - started) * RUN_PAIRS / run.gene_a.size
