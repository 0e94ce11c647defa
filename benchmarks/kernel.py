"""The kernel beside its floor, plain C, and its peers, CNNC's recipe and `np.histogram2d`: one matrix, one core.

python -m benchmarks.kernel [--cells N]

Prints one JSON line for each of three layouts: an atlas of 100,000 cells, one of a million sparse cells, and a few
hundred dense cells. Medians of rounds in which everything is timed in turn. `kernel`: codes in memory to complete
images; `layout`: what all genes a of a block share (64 of them here, hundreds in a real job). The floor counts the same
events into tables, and neither sorts, lays out, nor makes images of them.
"""

import argparse
import ctypes
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import sparse

from benchmarks.peer_recipes import cnnc_image
from pairscape.pipeline.codes.binning import bin_edges, encode, gene_statistics
from pairscape.pipeline.heatmaps.gene_cells import GeneCells
from pairscape.pipeline.heatmaps.kernel import GeneBlock, Margins, finish
from pairscape.pipeline.options import Binning

BINS, GENES_A, GENES_B, ROUNDS = 32, 64, 256, 7
PAIRS = GENES_A * GENES_B


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


def medians(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each piece of work, all of them timed in turn, so that a slow minute slows them all."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for name, work in [*works.items()] * ROUNDS:
        start = time.perf_counter()
        work()
        times[name].append(time.perf_counter() - start)
    return {name: float(np.median(spent)) for name, spent in times.items()}


def floor(genes_a: GeneCells, block: GeneBlock, folder: Path) -> Callable[[], object]:
    """The compiled floor on this block, ready to run."""
    library = folder / "floor.so"
    source = Path(__file__).with_name("floor.c")
    subprocess.run(["cc", "-O3", "-march=native", "-shared", "-fPIC", "-o", library, source], check=True)
    count = ctypes.CDLL(str(library)).count_events
    bucket, cells = np.empty((GENES_A, BINS + 1), np.int64), np.empty_like(genes_a.cell)
    for a in range(GENES_A):
        own = slice(genes_a.start[a], genes_a.start[a + 1])
        cells[own] = genes_a.cell[own][np.argsort(genes_a.code[own], kind="stable")]
        bucket[a] = own.start + np.cumsum(np.bincount(genes_a.code[own], minlength=BINS + 1))
    table = np.zeros((GENES_A, BINS, GENES_B * BINS), np.uint32)
    arrays = [np.ascontiguousarray(x) for x in (bucket, cells, block.start, block.offset, table)]
    sizes = [ctypes.c_int64(n) for n in (GENES_A, BINS, GENES_B * BINS)]
    return lambda: count(*sizes, *(x.ctypes.data_as(ctypes.c_void_p) for x in arrays))


def measure(cells: int, scale: float = 1.0) -> dict[str, float]:
    """Microseconds per pair of the kernel's steps, the floor and the peers, and their ratios."""
    expression = simulate(cells, GENES_A + GENES_B, scale)
    codes = dense_codes(expression)
    genes_a, genes_b = GeneCells.from_codes(codes[:GENES_A]), GeneCells.from_codes(codes[GENES_A:])
    first, member = np.arange(GENES_A + 1) * GENES_B, np.tile(np.arange(GENES_B), GENES_A)
    images, row_a = np.zeros((PAIRS, BINS, BINS), np.uint32), np.repeat(np.arange(GENES_A), GENES_B)
    block = GeneBlock.lay_out(genes_b, BINS)
    columns = [np.asarray(expression[:, [g]].todense()).ravel() for g in (0, 1, GENES_A, GENES_A + 1)]

    def kernel() -> None:
        block.count(genes_a, first, member, images, add=False)
        a, b = (Margins(g.margins(BINS), np.zeros(g.start.size - 1, np.int64)) for g in (genes_a, genes_b))
        finish(images, row_a, member, a, b, cells)

    def layout() -> None:
        GeneBlock.lay_out(GeneCells.from_codes(codes[GENES_A:]), BINS)
        GeneCells.from_codes(codes[:GENES_A])

    works: dict[str, Callable[[], object]] = {"kernel": kernel, "layout": layout}
    works["cnnc"] = lambda: [cnnc_image(columns[a], columns[b]) for a in (0, 1) for b in (2, 3)]
    works["histogram2d"] = lambda: [np.histogram2d(columns[a], columns[b], bins=BINS) for a in (0, 1) for b in (2, 3)]
    kernel()
    with tempfile.TemporaryDirectory() as folder:
        if shutil.which("cc"):
            works["floor"] = floor(genes_a, block, Path(folder))
        spent = medians(works)
    each = {name: 1e6 * t / (4 if name in ("cnnc", "histogram2d") else PAIRS) for name, t in spent.items()}
    return {
        "cells": cells,
        "density": round(expression.nnz / np.prod(expression.shape), 4),
        **{f"{name}_us_per_pair": round(value, 3) for name, value in each.items()},
        "cnnc_over_kernel": round(each["cnnc"] / each["kernel"], 1),
        "cnnc_over_kernel_and_layout": round(each["cnnc"] / (each["kernel"] + each["layout"]), 1),
        **({"kernel_over_floor": round(each["kernel"] / each["floor"], 2)} if "floor" in each else {}),
    }


def main() -> None:
    """Print the figures of the layouts that matter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    arguments = parser.parse_args()
    for cells, scale in ((arguments.cells, 1.0), (1_000_000, 0.22), (383, 140.0)):
        print(json.dumps(measure(cells, scale)), flush=True)


if __name__ == "__main__":
    main()
