"""The kernel against CNNC's recipe and plain `np.histogram2d`, on one simulated matrix in one run.

python -m benchmarks.kernel [--cells N] [--density-scale S]

Prints JSON: microseconds per pair on one core, and ratios. `layout` is the cost of laying a block of genes out, shared
by all genes a that are paired with it (64 of them here).
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
from scipy import sparse

from pipeline.binning import bin_edges, encode, gene_statistics
from pipeline.histogram import GeneBlock, Margins, code_margins, finish
from pipeline.spec import Binning

BINS, GENES_A, GENES_B, REPEATS = 32, 64, 256, 5


def simulate(cells: int, genes: int, scale: float, seed: int = 0) -> sparse.csr_matrix:
    """Over-dispersed log expression with a low-rank structure; about 13 % of the entries non-zero at scale 1."""
    rng = np.random.default_rng(seed)
    mean, loading = scale * rng.gamma(0.35, 0.55, genes), rng.normal(0, 0.6, (20, genes))
    blocks = []
    for start in range(0, cells, 10_000):
        n = min(10_000, cells - start)
        factor = rng.normal(size=(n, 20)) * (rng.random((n, 20)) < 0.2)
        rate = mean * np.exp(factor @ loading - 0.2) * rng.lognormal(0, 0.4, (n, 1))
        blocks.append(sparse.csr_matrix(np.log1p(rng.poisson(np.minimum(rng.gamma(1.5, rate / 1.5), 1e4)))))
    return sparse.vstack(blocks, format="csr").astype(np.float32)


def dense_codes(expression: sparse.csr_matrix) -> np.ndarray:
    """Codes of all genes, (genes, cells) uint8, by the `max` rule."""
    n, g = expression.shape
    edges = bin_edges(Binning("max", BINS), gene_statistics(expression.data, expression.indices, g, n))
    codes = np.zeros((g, n), np.uint8)
    cell = np.repeat(np.arange(n), np.diff(expression.indptr))
    codes[expression.indices, cell] = encode(expression.data, expression.indices, edges)
    return codes


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few runs: the machine's noise only ever adds."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def cnnc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """CNNC's image of a pair."""
    counts = np.histogram2d(np.log10(x + 1e-2), np.log10(y + 1e-2), bins=BINS)[0].T
    return (np.log10(counts / x.size + 1e-4) + 4) / 4


def measure(cells: int, scale: float = 1.0) -> dict[str, float]:
    """Microseconds per pair of the kernel's steps and of the peers, and their ratios."""
    expression = simulate(cells, GENES_A + GENES_B, scale)
    codes = dense_codes(expression)
    codes_a, codes_b = codes[:GENES_A], codes[GENES_A:]
    first, member = np.arange(GENES_A + 1) * GENES_B, np.tile(np.arange(GENES_B), GENES_A)
    images = np.zeros((GENES_A * GENES_B, BINS, BINS), np.uint32)
    block = GeneBlock.from_codes(codes_b, BINS)

    def count() -> None:
        images[:] = 0
        block.add_counts(codes_a, first, member, images)
        a, b = (Margins(code_margins(c, BINS), np.zeros(len(c), np.int64)) for c in (codes_a, codes_b))
        finish(images, np.repeat(np.arange(GENES_A), GENES_B), member, a, b, cells)

    kernel, layout = best(count) / len(images), best(lambda: GeneBlock.from_codes(codes_b, BINS)) / len(images)
    columns = [np.asarray(expression[:, [g]].todense()).ravel() for g in (0, 1, GENES_A, GENES_A + 1)]
    recipe = best(lambda: cnnc(columns[0], columns[2]))
    histogram = best(lambda: np.histogram2d(columns[1], columns[3], bins=BINS))
    return {
        "cells": cells,
        "density": round(expression.nnz / np.prod(expression.shape), 4),
        "kernel_us_per_pair": round(1e6 * kernel, 2),
        "layout_us_per_pair": round(1e6 * layout, 2),
        "histogram2d_us_per_pair": round(1e6 * histogram, 1),
        "cnnc_us_per_pair": round(1e6 * recipe, 1),
        "cnnc_over_kernel": round(recipe / (kernel + layout), 1),
    }


def main() -> None:
    """Print the figures of the two layouts that matter: a sparse atlas, and a few hundred dense cells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.cells)))
    print(json.dumps(measure(400, scale=40.0)))


if __name__ == "__main__":
    main()
