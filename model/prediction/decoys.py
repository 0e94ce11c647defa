"""Decoys for a prediction's false discovery rate: candidates with gene b dealt anew, scored as the candidates were.

The null is independence given depth (`pipeline.heatmaps.redealt`), not "no regulation": a call says that two genes vary
together beyond what depth and their own values make. Over Dask; whoever computes a decoy, it scores the same.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.networks.device import one_thread
from pairscape.model.prediction.fdr import Discovery
from pairscape.pipeline.codes.store import Codes, cell_blocks, open_codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.compute.tasks import run_tasks
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.gene_reader import held_reader
from pairscape.pipeline.heatmaps.memory import Portion
from pairscape.pipeline.heatmaps.pairwise import PairRun, count_decoys, deal_places, depth_task, runs_of, strata_of
from pairscape.pipeline.storage.write import replaced

DECOYS = 20_000
RUN_PAIRS = 512  # decoys that share a deal, and are a task
LEVELS = (0.01, 0.05, 0.1)

Genes = NDArray[np.int64]
Score = Callable[[NDArray[Any], NDArray[Any], Genes, Genes], NDArray[np.floating[Any]]]
"""Scores (P,) of joint counts (P, bins, bins), both zeros (P,), genes a and genes b (P,); NaN where the screen would
stop a pair. The genes are for networks that look at their neighbours too, which stay as they are."""


def sample_candidates(n_pairs: int, seed: int, decoys: int = DECOYS) -> NDArray[np.int64]:
    """Candidates that decoys are made from, ascending: at random, each once, all where there are fewer."""
    return np.sort(np.random.default_rng([seed, 15]).choice(n_pairs, min(decoys, n_pairs), replace=False))


def estimate_discovery(
    codes: Codes,
    pairs: Pairs,
    parts: Iterable[NDArray[np.floating]],
    load: Callable[[], Score],
    folder: Path,
    seed: int,
    portion: Portion,
    session: Session,
) -> tuple[Discovery, dict[str, Any]]:
    """q-values of a prediction as a function of the score, and what its metadata say of them.

    Parameters
    ----------
    pairs
        All candidates, in the order of the store.
    parts
        Their scores, part by part; NaN where the screen kept a pair from the network.
    load
        Called on the worker for what scores there: the network, and the screen's threshold on its statistic. Small and
        picklable, such as a `functools.partial` of a function over a path.
    folder
        Of the job, where all workers read: the strata are left there.
    portion
        How much of the codes a worker holds.
    """
    strata = save_strata(codes, folder, seed, session)
    rows = sample_candidates(len(pairs), seed)
    decoys = decoy_scores(codes, pairs.take(rows), load, strata, seed, portion, session)
    found = Discovery.estimate(parts, decoys)
    return found, discovery_facts(found, decoys, int(_strata(str(strata)).max()) + 1)


def decoy_scores(
    codes: Codes,
    pairs: Pairs,
    load: Callable[[], Score],
    strata: Path,
    seed: int,
    portion: Portion,
    session: Session,
) -> NDArray[np.float32]:
    """Scores of decoys of some candidates, (D,), in their order; NaN where the screen would stop one.

    Parameters
    ----------
    pairs
        The candidates, best in the order of the store; `sample_candidates` says which.
    strata
        File of `save_strata`.
    load, portion
        As in `estimate_discovery`.
    """
    runs = runs_of(pairs.gene_a, pairs.gene_b, RUN_PAIRS)
    session.progress.start("decoys", len(pairs))
    found: dict[int, NDArray[np.float32]] = {}
    for run, scores in run_tasks(session, decoy_task, runs, codes.path, portion, str(strata), seed, load):
        found[run.number] = scores
        session.progress.advance(scores.size)
    return np.concatenate([found[run.number] for run in runs]) if runs else np.empty(0, np.float32)


def save_strata(codes: Codes, folder: Path, seed: int, session: Session) -> Path:
    """Strata of all cells of a code store, in a file named after what it holds."""
    path = folder.absolute() / f"strata-{codes.content_hash[:16]}-{seed}.npy"
    if path.exists():
        return path
    blocks = cell_blocks(codes.n_cells)
    session.progress.start("depth of cells", codes.n_cells)
    depth = np.empty(codes.n_cells, np.int32)
    for block, part in run_tasks(session, depth_task, range(len(blocks)), codes.path):
        depth[blocks[block]] = part
        session.progress.advance(part.size)
    with replaced(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, strata_of(depth, seed))
    return path


def decoy_task(
    codes_path: str, portion: Portion, strata: str, seed: int, load: Callable[[], Score], run: PairRun
) -> NDArray[np.float32]:
    """Scores of the decoys of a run. Runs on a worker, any number of times."""
    reader, place = held_reader(open_codes(Path(codes_path)), portion), deal_places(_strata(strata), seed, run.number)
    score = load()
    with one_thread():  # of each worker: sums of floats depend on how many share them
        found = [score(*images) for images in count_decoys(reader, run, place)]
    return np.concatenate(found).astype(np.float32)


@lru_cache(maxsize=1)
def _strata(path: str) -> NDArray[np.uint8]:
    """Read once a process; another job's have another name."""
    strata: NDArray[np.uint8] = np.load(path)
    return strata


def discovery_facts(discovery: Discovery, decoys: NDArray[np.float32], strata: int) -> dict[str, Any]:
    """What the metadata of the scores say of the false discovery rate."""
    calls = {str(level): discovery.calls(level) for level in LEVELS}
    return {
        "decoys": decoys.size,
        "decoys_screened_out": int(np.isnan(decoys).sum()),
        "strata": strata,
        "calls": calls,
        "smallest_q": float(discovery.q[0]),
        "sentence": (
            f"{calls['0.05']:,} pairs depend on each other at a false discovery rate of 5 %, by {decoys.size:,} decoys "
            f"with the values of real pairs dealt anew among cells of like depth ({strata} strata): this tests "
            "independence given depth, so cell types and states count as dependence, and a call is no proof of "
            "regulation."
        ),
    }
