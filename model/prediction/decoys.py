"""Decoys for a prediction's false discovery rate: candidates with gene b permuted among cells, scored like candidates.

The null is independence given depth (`pipeline.heatmaps.pairwise`), not "no regulation": a call says that two genes
vary together beyond what depth and their own values make. Over Dask; a decoy scores the same on any worker.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.edges.calls import CALLED_Q
from pairscape.model.networks.device import one_thread
from pairscape.model.options import DEPTH
from pairscape.model.prediction.bands import Bands
from pairscape.model.prediction.fdr import BandedDiscovery
from pairscape.model.prediction.rescoring import Rescoring, score_runs
from pairscape.model.prediction.within import GroupLayer, Within, by_depth, cell_depth
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.pairwise import PairRun, count_decoys, deal_places, strata_of
from pairscape.pipeline.options import Stream
from pairscape.pipeline.storage.write import replaced

DECOYS = 20_000  # of each band
RUN_PAIRS = 512  # decoys that share a permutation, and are a task
LEVELS = (0.01, CALLED_Q, 0.1)


def sample_candidates(n_pairs: int, seed: int, decoys: int | None = None) -> NDArray[np.int64]:
    """Candidates that `DECOYS` or so many decoys are made from, ascending: at random, each once, at most all."""
    decoys = DECOYS if decoys is None else decoys
    return np.sort(
        np.random.default_rng([seed, Stream.DECOY_PAIRS]).choice(n_pairs, min(decoys, n_pairs), replace=False)
    )


def sample_bands(bands: Bands, seed: int) -> NDArray[np.int64]:
    """The same of each band, ascending together."""
    rows = [bands.rows(band) for band in range(len(bands))]
    return np.sort(np.concatenate([own[sample_candidates(own.size, seed)] for own in rows]))


def estimate_discovery(
    rescoring: Rescoring,
    pairs: Pairs,
    parts: Iterable[NDArray[np.floating]],
    folder: Path,
    session: Session,
    within: Within | None = None,
) -> tuple[BandedDiscovery, dict[str, Any]]:
    """q-values of a prediction as a function of the score, and what its metadata say of them.

    Parameters
    ----------
    rescoring
        With the network and the screen's threshold.
    pairs
        All candidates, in the order of the store.
    parts
        Their scores, part by part; NaN where the screen kept a pair from the network.
    folder
        Of the job, where all workers read: the strata are left there.
    within
        Strata within which the pairs were scored, and so the decoys are dealt.
    """
    strata = save_strata(rescoring.codes, folder, rescoring.seed, session, within, rescoring.group)
    share = 1 - rescoring.codes.array("dropout")
    if rescoring.group is not None and within is not None:
        share = within.expressing(rescoring.codes)
    bands = Bands.of(pairs, share)
    rows = sample_bands(bands, rescoring.seed)
    decoys = decoy_scores(rescoring, pairs.take(rows), strata, session)
    found = BandedDiscovery.estimate(parts, bands.number, decoys, bands.number[rows])
    return found, discovery_facts(found, decoys, int(_strata(str(strata)).max()) + 1, bands, within)


def decoy_scores(rescoring: Rescoring, pairs: Pairs, strata: Path, session: Session) -> NDArray[np.float32]:
    """Scores of decoys of some candidates, (D,), in their order; NaN where the screen would stop one.

    Parameters
    ----------
    pairs
        The candidates, best in the order of the store; `sample_candidates` chooses them.
    strata
        File of `save_strata`.
    """
    common = rescoring, str(strata)
    parts = score_runs(decoy_task, common, pairs, RUN_PAIRS, "decoys", session, rescoring.kept)
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def save_strata(
    codes: Codes,
    folder: Path,
    seed: int,
    session: Session,
    within: Within | None = None,
    group: GroupLayer | None = None,
) -> Path:
    """Strata of like depth of all cells of a code store, inside those of `within`; in a file named after them.

    Of a group of cells those of its cells alone, which are strata of all cells too: no stratum has cells of two groups.
    """
    if group is not None:
        return _strata_of_group(codes, folder, seed, session, within, group)
    if within is not None and DEPTH in within.columns:
        return Path(within.stratum)  # which are of like depth already
    among = "" if within is None else f"-{Path(within.stratum).stem}"
    path = folder.absolute() / f"strata-{codes.content_hash[:16]}-{seed}{among}.npy"
    if path.exists():
        return path
    depth = cell_depth(codes, folder, session)
    stratum = strata_of(depth, seed) if within is None else by_depth(np.load(within.stratum), depth, seed)
    with replaced(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, stratum)
    return path


def _strata_of_group(
    codes: Codes, folder: Path, seed: int, session: Session, within: Within | None, group: GroupLayer
) -> Path:
    path = folder.absolute() / f"strata-{seed}-{Path(group.cell_group).stem}-{group.number}.npy"
    if path.exists():
        return path
    members = group.members()
    stratum = np.zeros(group.cells, np.uint16) if within is None else np.load(within.stratum)[members]
    if within is None or DEPTH not in within.columns:
        stratum = by_depth(stratum, cell_depth(codes, folder, session)[members], seed)
    with replaced(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, np.unique(stratum, return_inverse=True)[1].astype(np.uint16))
    return path


def decoy_task(rescoring: Rescoring, strata: str, run: PairRun) -> NDArray[np.float32]:
    """Scores of the decoys of a run. Runs on a worker, any number of times."""
    place, score = deal_places(_strata(strata), rescoring.seed, run.number), rescoring.load()
    with one_thread():  # of each worker: sums of floats depend on how many share them
        counted = count_decoys(rescoring.reader(), run, place, rescoring.group_number)
        found = [score(*images) for images in counted]
    return np.concatenate(found).astype(np.float32)


@lru_cache(maxsize=1)
def _strata(path: str) -> NDArray[np.integer]:
    """Read once a process; those of another job have another name."""
    strata: NDArray[np.integer] = np.load(path)
    return strata


def discovery_facts(
    discovery: BandedDiscovery,
    decoys: NDArray[np.float32],
    strata: int,
    bands: Bands,
    within: Within | None = None,
) -> dict[str, Any]:
    """What the metadata of the scores say of the false discovery rate."""
    given = [] if within is None else [column for column in within.columns if column != DEPTH]
    alike = " and ".join(["depth", *given])
    explained = "types and states of cells" if given else "cell types and states"
    left = f"{explained} that these leave open" if given else explained
    calls = {str(level): discovery.calls(level) for level in LEVELS}
    return {
        "decoys": decoys.size,
        "decoys_screened_out": int(np.isnan(decoys).sum()),
        "strata": strata,
        "calls": calls,
        "smallest_q": discovery.smallest,
        "bands": bands.facts(discovery.calls_by_band(CALLED_Q)),
        "sentence": (
            f"{calls['0.05']:,} pairs depend on each other at a false discovery rate of 5 %, by {decoys.size:,} decoys "
            f"with the values of real pairs dealt anew among cells of like {alike} ({strata} strata){bands.words()}: "
            f"this tests independence given {alike}, so {left} count as dependence, and a call is no proof of "
            "regulation."
        ),
    }
