"""How many calls of `predict --q-values` are chance: the realised false discovery rate where the truth is planted.

python -m benchmarks.discovery MATRIX [--run RUN] [--strengths 0.3 0.5 0.8] [--seeds 5] [--pairs 380] [--negatives 10]

Plants pairs of six kinds in real cells (`pairscape plant`), takes them and ten times as many independent pairs for
candidates, scores all with the network of RUN (without one: with the statistic of the screen), and gives them q-values
by decoys, as the command does. Prints one line of JSON: for each strength, seed and level the calls, the share of them
that was not planted (`fdr`), and the share of the planted pairs that was called (`power`). All candidates are taken for
chance, so where ten in eleven are, 0.0455 is expected at q ≤ 0.05.

Beside it the null check: decoys as candidates, by other decoys. Every call is wrong there, so in no more than a share q
of such checks anything should be called at q (`null_checks_with_calls`).
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import pairscape
from benchmarks.heatmaps import folder_of
from pairscape.model.evaluation.association import dependence, spearman
from pairscape.model.prediction.decoys import (
    LEVELS,
    decoy_scores,
    estimate_discovery,
    sample_candidates,
    save_strata,
)
from pairscape.model.prediction.fdr import q_values
from pairscape.model.prediction.parts import PART_PAIRS, Job, Parts, load_score
from pairscape.model.prediction.rescoring import Rescoring, Score
from pairscape.model.prediction.trained import TrainedRun
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.datasets.designs import Planting
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.count import count_pairs
from pairscape.pipeline.heatmaps.job import resolve_request
from pairscape.pipeline.heatmaps.memory import Portion, portion
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning, PairSource

KINDS = "linear,saturating,threshold,u-shaped,exclusive,simpson"
ALL_LEVELS = (*LEVELS, 0.2)
NULL_LEVELS = (*LEVELS, 0.5)
OTHER = 1000  # added to the seed of the decoys that are taken for candidates


def load_dependence() -> Score:
    """The statistic that the screen ranks by, in place of a network."""

    def score(counts: np.ndarray, *_: np.ndarray) -> np.ndarray:
        counts = np.ascontiguousarray(counts, np.uint32)
        return dependence(counts, spearman(counts))

    return score


def load_network(trained: TrainedRun, codes: Codes, n_pairs: int, share: Portion, prior: float) -> Callable[[], Score]:
    """The network of a run, as `predict` takes it to decoys."""
    parts = Parts(str(Path(codes.path).parent), n_pairs)
    job = Job(parts, str(trained.folder), trained.network.sha256, prior, "cpu", codes.path, None, share, 1, None, False)
    return partial(load_score, job, screened=False)


def planted(source: Path, folder: Path, planting: Planting, binning: Binning) -> tuple[Codes, Pairs]:
    """Codes and candidates of cells with planted pairs."""
    path = folder / "planted.zarr"
    pairscape.plant(source, path, planting=planting, overwrite=True, quiet=True)
    matrix = open_expression(path)
    request = resolve_request(matrix, PairSource(pairs=path.with_suffix(".tsv")), planting.seed)
    codes = encode_matrix(matrix, folder / "planted.codes.zarr", binning, request.cells, Session())
    return codes, request.chosen.pairs


def candidate_scores(codes: Codes, pairs: Pairs, score: Score) -> Iterator[np.ndarray]:
    """Scores of all candidates, part by part."""
    for at in range(0, len(pairs), PART_PAIRS):
        genes = [side[at : at + PART_PAIRS].astype(np.int64) for side in (pairs.gene_a, pairs.gene_b)]
        yield score(*count_pairs(codes, *genes), *genes).astype(np.float32)


def realised(source: Path, folder: Path, planting: Planting, trained: TrainedRun | None) -> dict[str, Any]:
    """Calls of one planting, and how many of them are wrong."""
    codes, pairs = planted(source, folder, planting, Binning() if trained is None else trained.binning)
    share, truth, seed = portion(codes.binning, codes.n_cells, 1.0, None), pairs.label > 0, planting.seed
    load = load_dependence if trained is None else load_network(trained, codes, len(pairs), share, float(truth.mean()))
    score = np.concatenate(list(candidate_scores(codes, pairs, load())))
    rescoring = Rescoring(codes, share, load, seed)
    found, facts = estimate_discovery(rescoring, pairs, [score], folder, Session())
    strata, some = save_strata(codes, folder, seed, Session()), pairs.take(sample_candidates(len(pairs), seed))
    decoys = np.concatenate([band.decoys for band in found.of_band])
    null = q_values(decoy_scores(replace(rescoring, seed=seed + OTHER), some, strata, Session()), decoys)
    return {
        "seed": seed, "cells": codes.n_cells, "candidates": len(pairs), "planted": int(truth.sum()),
        "decoys": facts["decoys"],
        "levels": {str(level): _called(found(slice(None), score) <= level, truth) for level in ALL_LEVELS},
        "null_calls": {str(level): int((null <= level).sum()) for level in NULL_LEVELS},
    }  # fmt: skip


def _called(called: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    calls = int(called.sum())
    wrong = int((called & ~truth).sum())
    fdr, power = wrong / max(calls, 1), (calls - wrong) / truth.sum()
    return {"calls": calls, "fdr": round(fdr, 4), "power": round(float(power), 4)}


def summed_up(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the seeds of one strength: mean, lowest and highest, by level."""
    found = dict[str, Any]()
    for level in runs[0]["levels"]:
        fdr, power = ([run["levels"][level][name] for run in runs] for name in ("fdr", "power"))
        found[level] = {
            "fdr": round(float(np.mean(fdr)), 4), "lowest": min(fdr), "highest": max(fdr),
            "power": round(float(np.mean(power)), 4),
        }  # fmt: skip
    return found


def measure(
    source: Path, folder: Path, run: Path | None, strengths: Sequence[float], seeds: int, pairs: int, negatives: int
) -> dict[str, Any]:
    """Realised rates of every strength and seed."""
    trained, found = None if run is None else TrainedRun.open(run), dict[str, Any]()
    for strength in strengths:
        plantings = [Planting(KINDS, pairs, strength, negatives, seed=seed) for seed in range(seeds)]
        runs = [realised(source, folder, planting, trained) for planting in plantings]
        found[str(strength)] = {"seeds": runs, "summary": summed_up(runs)}
    nulls = [run["null_calls"] for told in found.values() for run in told["seeds"]]
    return {
        "scored_by": "dependence" if trained is None else trained.network.facts.network,
        "expected_share_of_level": round(negatives / (negatives + 1), 4),
        "strengths": found,
        "null_checks": len(nulls),
        "null_checks_with_calls": {name: sum(calls[name] > 0 for calls in nulls) for name in nulls[0]},
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("matrix", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.3, 0.5, 0.8])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=380)
    parser.add_argument("--negatives", type=int, default=10)
    parser.add_argument("--folder", type=Path)
    a = parser.parse_args()
    with folder_of(a.folder) as folder:
        print(json.dumps(measure(a.matrix, folder, a.run, a.strengths, a.seeds, a.pairs, a.negatives)))


if __name__ == "__main__":
    main()
