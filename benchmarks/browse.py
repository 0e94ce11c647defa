"""Clicks in the explorer of a large file of scores: seconds until it is up, until each answer, and the memory it takes.

python -m benchmarks.browse [--genes G] [--cells N] [--clicks C] [--folder DIR]

Writes made-up scores of all pairs of G genes (6,325: 20 million), with kinds and q-values, and the codes of N cells for
the pictures; starts `pairscape browse` as a process of its own, and asks over HTTP what clicks ask: each kind of click
C times, of a random gene each. Prints JSON.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from anndata import AnnData
from scipy import sparse

from benchmarks.heatmaps import folder_of
from pairscape.model.edges.scores import write_scores
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.session import here
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.matrix.ingest import ingest
from pairscape.pipeline.options import Binning

ROWS_AT_ONCE = 2**20
COLUMNS = ("gene_a", "gene_b", "label", "score", "kind", "kind_probability", "dependence", "correlation", "q_value")
DENSITY = 0.1
CLICKS: dict[str, str] = {  # what is asked, of a gene g and a pair a, b
    "best pairs": "pairs?count=100",
    "best pairs, filtered": "pairs?count=100&max_q=0.05&kind=u-shaped&sign=%2B",
    "best pairs, by correlation": "pairs?count=100&sort=correlation&min_score=0.5",
    "partners": "pairs?count=100&gene={g}",
    "partners, filtered": "pairs?count=100&gene={g}&max_q=0.2&kind=rising,falling&sort=q_value&rising=1",
    "pair": "pair?a={a}&b={b}",
    "picture": "picture?a={a}&b={b}",
    "neighbourhood": "network?gene={g}&partners=25",
    "save partners": "save?format=csv&gene={g}",
}


def made_up(n_genes: int) -> Iterator[pa.Table]:
    """All pairs of some genes, most scores low."""
    rng, names = np.random.default_rng(0), pa.array(gene_names(n_genes))
    starts = np.concatenate([[0], np.cumsum(np.arange(n_genes - 1, 0, -1))])
    kinds = pa.array(KINDS)
    for start in range(0, int(starts[-1]), ROWS_AT_ONCE):
        row = np.arange(start, min(start + ROWS_AT_ONCE, int(starts[-1])))
        a = np.searchsorted(starts, row, side="right") - 1
        b = row - starts[a] + a + 1
        score = rng.random(row.size, np.float32) ** 8
        yield pa.table(
            {
                "gene_a": pa.DictionaryArray.from_arrays(pa.array(a.astype(np.int32)), names),
                "gene_b": pa.DictionaryArray.from_arrays(pa.array(b.astype(np.int32)), names),
                "label": np.full(row.size, -1, np.int8),
                "score": score,
                "kind": pa.DictionaryArray.from_arrays(pa.array(rng.integers(1, 7, row.size, np.int32)), kinds),
                "kind_probability": rng.random(row.size, np.float32),
                "dependence": rng.random(row.size, np.float32),
                "correlation": rng.uniform(-1, 1, row.size).astype(np.float32),
                "q_value": (1 - score) ** 2,
            }
        )


def gene_names(n_genes: int) -> list[str]:
    """Names of made-up genes."""
    return [f"GENE{i:05d}" for i in range(n_genes)]


def made_up_codes(folder: Path, n_genes: int, n_cells: int) -> Codes:
    """Codes of cells that express a tenth of the genes."""
    rng = np.random.default_rng(1)
    some = sparse.random(n_cells - 1, n_genes, DENSITY, "csr", np.float32, rng, lambda n: rng.gamma(2.0, 1.0, n))
    all_genes = sparse.csr_matrix(np.ones((1, n_genes), np.float32))  # a cell, so that no gene is left out
    cells = AnnData(sparse.vstack([all_genes, some], "csr"))
    cells.var_names = gene_names(n_genes)
    ingest(cells, folder / "expression.zarr", preset="none", overwrite=True)
    matrix = open_expression(folder / "expression.zarr")
    with here(True) as session:
        return encode_matrix(matrix, folder / "codes.zarr", Binning("rank"), np.arange(matrix.n_cells), session)


def measure(folder: Path, genes: int, cells: int, clicks: int) -> dict[str, Any]:
    """Seconds and megabytes; of each kind of click the median and the 95th percentile."""
    codes, scores = made_up_codes(folder, genes, cells), folder / "scores.parquet"
    facts = {"codes": {"path": codes.path, "content_hash": codes.content_hash}, "matrix": {"n_cells": cells}}
    write_scores(scores, made_up(genes), COLUMNS, facts)
    found: dict[str, Any] = {
        "pairs": genes * (genes - 1) // 2,
        "cells": cells,
        "scores_mb": scores.stat().st_size / 1e6,
    }
    started = time.perf_counter()
    command = [sys.executable, "-m", "pairscape", "browse", str(scores)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = next(line.split()[1] for line in process.stdout if line.startswith("open "))
        found["seconds_until_up"] = time.perf_counter() - started
        found["mb_when_up"], found["peak_mb_when_up"] = memory(process.pid)
        seconds = {words: timed(address, asked, genes, clicks) for words, asked in {"page": "", **CLICKS}.items()}
        found["mb"], found["peak_mb"] = memory(process.pid)
        process.send_signal(signal.SIGINT)
    everything = np.concatenate(list(seconds.values()))
    found["clicks"] = {words: percentiles(values) for words, values in {**seconds, "all": everything}.items()}
    return found


def timed(address: str, asked: str, genes: int, clicks: int) -> np.ndarray:
    """Seconds of some clicks of a kind, until the last byte."""
    rng, seconds = np.random.default_rng(2), []
    for _ in range(clicks):
        g, a, b = rng.choice(genes, 3, replace=False)
        started = time.perf_counter()
        with urllib.request.urlopen(address + asked.format(g=g, a=a, b=b)) as answer:
            answer.read()
        seconds.append(time.perf_counter() - started)
    return np.array(seconds)


def percentiles(seconds: np.ndarray) -> dict[str, float]:
    """In milliseconds."""
    return {name: round(1000 * float(np.percentile(seconds, at))) for name, at in (("median", 50), ("p95", 95))}


def memory(process: int) -> tuple[float, float]:
    """Megabytes that a process holds, and held at most."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    held, peak = (next(line for line in lines if line.startswith(name)).split()[1] for name in ("VmRSS", "VmHWM"))
    return int(held) / 1e3, int(peak) / 1e3


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genes", type=int, default=6325)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--clicks", type=int, default=40)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with folder_of(options.folder) as folder:
        found = measure(folder, options.genes, options.cells, options.clicks)
    print(json.dumps({**found, "load": os.getloadavg()[0]}, indent=2))


if __name__ == "__main__":
    main()
