"""How many changes that `compare` calls are chance: two groups of cells of which the truth is known.

python -m benchmarks.differences MATRIX [--column COLUMN --value VALUE] [--seeds 5] [--halves 20] [--cells 500]

MATRIX has raw counts. Three designs on its cells (or those of one value of a column), each a line of JSON:
`halves`: two random halves, all pairs of 150 genes; in how many of 20 anything is called at q ≤ 0.05, by dealt cells
and by Fisher's z with Benjamini and Hochberg's rule;
`planted`: two groups of 500 cells; in the first, gene b of 100 pairs is dealt anew so that it follows gene a at a
strength of 0.3 to 0.6 (each cell's rank of it is made of that of a and of noise), beside 1,900 pairs of other genes:
realised false discovery rate and power;
`depth`: two halves of which the second has half of its counts (thinned), all pairs of 150 genes: what is called,
although nothing but depth differs; also by cells that are dealt regardless of their depth.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from scipy import sparse, stats

from benchmarks.heatmaps import folder_of
from pairscape.model.prediction.dealing import FIRST, SECOND, Dealing
from pairscape.model.prediction.differences import Recount, null_changes, strata_of_groups, survey_cells
from pairscape.model.prediction.fdr import q_values
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.genes.pairs import Pairs, all_pairs
from pairscape.pipeline.heatmaps.memory import portion
from pairscape.pipeline.heatmaps.pairwise import runs_of
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning

LEVEL = 0.05
GENES, PLANTED, OTHERS = 150, 100, 1900
EXPRESSED = 0.1  # share of the cells that express a gene of a pair, at least


def normalised(counts: np.ndarray) -> np.ndarray:
    """Logarithm of counts per ten thousand."""
    return np.log1p(counts * (1e4 / np.maximum(counts.sum(1, keepdims=True), 1)))


def called(folder: Path, x: np.ndarray, group: np.ndarray, pairs: Pairs, seed: int) -> dict[str, np.ndarray]:
    """Which pairs each way of telling calls at 5 %."""
    path = folder / "cells.h5ad"
    names = [f"c{i}" for i in range(len(x))]
    matrix = ad.AnnData(sparse.csr_matrix(x.astype(np.float32)))
    matrix.obs_names, matrix.var_names = names, [f"g{i}" for i in range(x.shape[1])]
    matrix.write_h5ad(path)
    codes = encode_matrix(open_expression(path), folder / "codes.zarr", Binning("rank"), np.arange(len(x)), Session())
    depth, _ = survey_cells(codes, group)
    stratum = strata_of_groups(group, np.zeros_like(group), depth, seed)
    dealing = Dealing(group, stratum, seed=seed)
    recount = Recount(codes, portion(codes.binning, codes.n_cells, 1.0, None), dealing)
    seen = np.concatenate([recount.changes(run, group) for run in runs_of(pairs.gene_a, pairs.gene_b, 256)])
    anyhow = replace(recount, dealing=replace(dealing, stratum=np.zeros_like(stratum)))
    fisher = stats.false_discovery_control(2 * stats.norm.sf(np.abs(seen)))
    return {
        "dealt": q_values(np.abs(seen), null_changes(recount, pairs, Session())) <= LEVEL,
        "dealt regardless of depth": q_values(np.abs(seen), null_changes(anyhow, pairs, Session())) <= LEVEL,
        "Fisher's z": fisher <= LEVEL,
    }


def expressed(counts: np.ndarray) -> np.ndarray:
    """Genes that enough cells express."""
    return np.flatnonzero((counts > 0).mean(0) >= EXPRESSED)


def pairs_among(genes: np.ndarray) -> Pairs:
    """All pairs of some genes."""
    found = all_pairs(genes.size)
    return replace(found, gene_a=genes[found.gene_a].astype(np.int32), gene_b=genes[found.gene_b].astype(np.int32))


def halves(counts: np.ndarray, seed: int, cells: int, thinned: bool) -> tuple[np.ndarray, np.ndarray, Pairs, Any]:
    """Two random halves, of which the second may be thinned."""
    rng = np.random.default_rng([seed, 1])
    counts = counts[rng.permutation(len(counts))[: 2 * cells]]
    group = (np.arange(len(counts)) % 2).astype(np.uint8)
    genes = np.sort(rng.choice(expressed(counts), GENES, replace=False))
    if thinned:
        counts = counts.copy()
        counts[group == SECOND] = rng.binomial(counts[group == SECOND].astype(np.int64), 0.5)
    return normalised(counts), group, pairs_among(genes), None


def planted(counts: np.ndarray, seed: int, cells: int) -> tuple[np.ndarray, np.ndarray, Pairs, np.ndarray]:
    """Two groups of cells; in the first some pairs are dependent. Also which."""
    rng = np.random.default_rng([seed, 2])
    counts = counts[rng.permutation(len(counts))[: 2 * cells]]
    group, x = (np.arange(len(counts)) % 2).astype(np.uint8), normalised(counts)
    genes = rng.permutation(expressed(counts))
    a, b, rest = genes[:PLANTED], genes[PLANTED : 2 * PLANTED], genes[2 * PLANTED :]
    inside = np.flatnonzero(group == FIRST)
    for one, other in zip(a, b, strict=True):
        x[inside, other] = dependent(x[inside, one], x[inside, other], rng)
    free = rng.choice(rest, (OTHERS * 2, 2))
    free = np.unique(np.sort(free[free[:, 0] != free[:, 1]], 1), axis=0)
    free = free[rng.permutation(len(free))[:OTHERS]]
    pairs = Pairs(
        np.concatenate([a, free[:, 0]]).astype(np.int32), np.concatenate([b, free[:, 1]]).astype(np.int32),
        np.full(PLANTED + len(free), -1, np.int8),
    )  # fmt: skip
    return x, group, pairs, np.arange(len(pairs)) < PLANTED


def dependent(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The values of b dealt to the cells so that they follow a, up or down."""
    strength = rng.uniform(0.3, 0.6)
    score = stats.norm.ppf((np.lexsort((rng.random(a.size), a)).argsort() + 0.5) / a.size)
    latent = strength * score * rng.choice([-1, 1]) + np.sqrt(1 - strength**2) * rng.normal(size=a.size)
    return np.sort(b)[latent.argsort().argsort()]


def rates(found: dict[str, np.ndarray], truth: np.ndarray | None) -> dict[str, Any]:
    """Calls of each way, and of these the share that is wrong, and the share of the planted pairs that is called."""
    if truth is None:
        return {way: {"calls": int(calls.sum())} for way, calls in found.items()}
    return {
        way: {
            "calls": int(calls.sum()),
            "fdr": round(float((calls & ~truth).sum() / max(calls.sum(), 1)), 4),
            "power": round(float((calls & truth).sum() / truth.sum()), 4),
        }
        for way, calls in found.items()
    }


def designs(
    counts: np.ndarray, seeds: int, repeats: int, cells: int
) -> Iterator[tuple[str, Callable[[int], Any], int]]:
    """Each design with its number of repeats."""
    yield "halves", lambda seed: halves(counts, seed, len(counts), False), repeats
    yield "planted", lambda seed: planted(counts, seed, cells), seeds
    yield "depth", lambda seed: halves(counts, seed, len(counts), True), seeds


def summed_up(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the repeats, and in how many anything was called."""
    return {
        way: {
            "repeats": len(runs), "with calls": sum(run[way]["calls"] > 0 for run in runs),
            **{name: round(float(np.mean([run[way][name] for run in runs])), 4) for name in runs[0][way]},
            **({"highest fdr": max(run[way]["fdr"] for run in runs)} if "fdr" in runs[0][way] else {}),
        }
        for way in runs[0]
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("matrix", type=Path)
    parser.add_argument("--column")
    parser.add_argument("--value")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--halves", type=int, default=20)
    parser.add_argument("--cells", type=int, default=500)
    given = parser.parse_args()
    matrix = ad.read_h5ad(given.matrix)
    if given.column is not None:
        matrix = matrix[matrix.obs[given.column].astype(str) == given.value]
    counts = np.asarray(matrix.X.todense() if sparse.issparse(matrix.X) else matrix.X, np.float64)
    for name, make, repeats in designs(counts, given.seeds, given.halves, given.cells):
        runs = []
        for seed in range(repeats):
            with folder_of(None) as folder:
                x, group, pairs, truth = make(seed)
                runs.append(rates(called(folder, x, group, pairs, seed), truth))
        if runs:
            print(json.dumps({"design": name, "cells": len(counts), **summed_up(runs)}), flush=True)


if __name__ == "__main__":
    main()
