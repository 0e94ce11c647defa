"""What --bootstrap and --fdr cost beside the prediction itself: seconds of one core, counting and network apart.

python -m benchmarks.stability [--cells N] [--genes G] [--density D] [--pairs P] [--best K] [--resamples N] [--decoys D]

Counts and scores P candidate pairs of a simulated atlas with an untrained `pairnet` (a network costs the same whatever
it has learnt), resamples the cells for the K best and as many runners-up, makes decoys, and prints JSON. Everything in
one process, by its CPU time.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.heatmaps import folder_of, prepare
from pairscape.model.networks.classifier import PairClassifier
from pairscape.model.networks.device import one_thread, seed_everything
from pairscape.model.options import Rendering
from pairscape.model.prediction.decoys import RUN_PAIRS, decoy_scores, sample_candidates, save_strata
from pairscape.model.prediction.rescoring import Rescoring, Score
from pairscape.model.prediction.stability import resample_best
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.count import count_pairs, warm_up
from pairscape.pipeline.heatmaps.gene_reader import GeneReader
from pairscape.pipeline.heatmaps.job import resolve_request
from pairscape.pipeline.heatmaps.memory import portion
from pairscape.pipeline.heatmaps.pairwise import count_decoys, runs_of
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning

AT_ONCE, BATCH = 4096, 256


@lru_cache(maxsize=1)
def untrained(bins: int) -> PairClassifier:
    """A network as training begins with."""
    seed_everything(0)
    return PairClassifier("pairnet", Rendering(), bins, 2, mirror=True).eval()


def load_network(bins: int, spent: dict[str, float]) -> Score:
    """The network as the jobs take it, which notes the seconds spent in it."""

    def score(counts: np.ndarray, both_zero: np.ndarray, *_: np.ndarray) -> np.ndarray:
        started, found = time.process_time(), []
        with torch.inference_mode(), one_thread():
            for at in range(0, len(counts), BATCH):
                images = (torch.from_numpy(part[at : at + BATCH].astype(np.int32)) for part in (counts, both_zero))
                found.append(untrained(bins).probabilities(*images)[:, 1].numpy())
        spent["network_s"] = spent.get("network_s", 0.0) + time.process_time() - started
        return np.concatenate(found)

    return score


def timed(work: Callable[[dict[str, float]], Any]) -> tuple[Any, dict[str, float]]:
    """A result, the CPU seconds it took, and how many of them in the network."""
    spent = dict[str, float]()
    started = time.process_time()
    result = work(spent)
    total = time.process_time() - started
    return result, {"s": round(total, 3), "network_s": round(spent["network_s"], 3)}


def measure(
    folder: Path, cells: int, genes: int, density: float, n_pairs: int, best: int, resamples: int, decoys: int
) -> dict[str, Any]:
    """Seconds of the prediction, of resampling and of decoys."""
    atlas, source = prepare(folder, cells, genes, density, n_pairs)
    matrix, binning = open_expression(atlas), Binning("rank", 32)
    request = resolve_request(matrix, source, 0)
    codes = encode_matrix(matrix, folder / f"{atlas.stem}.codes.zarr", binning, request.cells, Session())
    codes, pairs = open_codes(Path(codes.path)), request.chosen.pairs
    share = portion(binning, codes.n_cells, 1.0, None)
    warm_up()
    _warm_up(codes.path, share, pairs)

    def predict(spent: dict[str, float]) -> np.ndarray:
        score, found = load_network(binning.bins, spent), []
        for at in range(0, len(pairs), AT_ONCE):
            gene_a, gene_b = (getattr(pairs, n)[at : at + AT_ONCE].astype(np.int64) for n in ("gene_a", "gene_b"))
            found.append(score(*count_pairs(codes, gene_a, gene_b), gene_a, gene_b))
        return np.concatenate(found)

    def resample(spent: dict[str, float]) -> Any:
        rescoring = Rescoring(codes, share, partial(load_network, binning.bins, spent))
        return resample_best(rescoring, pairs, scores, Session(), resamples=resamples, best=best)

    def make_decoys(spent: dict[str, float]) -> np.ndarray:
        rescoring = Rescoring(codes, share, partial(load_network, binning.bins, spent))
        rows = sample_candidates(len(pairs), 0, decoys)
        with TemporaryDirectory() as place:
            strata = save_strata(codes, Path(place), 0, Session())
            return decoy_scores(rescoring, pairs.take(rows), strata, Session())

    scores, predicted = timed(predict)
    stability, resampled = timed(resample)
    null, dealt = timed(make_decoys)
    return {
        "cells": cells, "genes": genes, "pairs": len(pairs), "predicted": predicted,
        "bootstrap": {**resampled, "pairs": stability.rows.size, "resamples": resamples,
                      "images": stability.rows.size * resamples,
                      "counting_share": round(1 - resampled["network_s"] / resampled["s"], 3)},
        "fdr": {**dealt, "decoys": null.size, "counting_share": round(1 - dealt["network_s"] / dealt["s"], 3)},
    }  # fmt: skip


def _warm_up(codes: str, share: Any, pairs: Pairs) -> None:
    """Compile what counts pair by pair, before the clock starts."""
    (run,) = runs_of(pairs.gene_a[:2], pairs.gene_b[:2], RUN_PAIRS)
    store = open_codes(Path(codes))
    list(count_decoys(GeneReader(store, share), run, np.arange(store.n_cells, dtype=np.int32)))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--best", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--decoys", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    a = parser.parse_args()
    with folder_of(a.folder) as folder:
        figures = measure(folder, a.cells, a.genes, a.density, a.pairs, a.best, a.resamples, a.decoys)
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
