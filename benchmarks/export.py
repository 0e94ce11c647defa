"""Edges of a large file of scores as the files of other tools: seconds, bytes, and the memory it takes.

python -m benchmarks.export [--pairs N] [--genes G] [--folder DIR]

Writes N made-up scores (a twentieth of them screened out), then exports in processes of their own: every edge as
SCENIC's table and as parquet, and the 100,000 best as table, AnnData and GraphML. Prints JSON.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.heatmaps import folder_of
from pairscape.model.edges.scores import ALWAYS, write_scores

ROWS_AT_ONCE = 2**20
BEST = 100_000
FORMATS = ("all.tsv", "all.parquet", "best.tsv", "best.h5ad", "best.graphml")
ONE = """
import json, sys, time
from pathlib import Path
from pairscape.model.edges.export import export_scores
from pairscape.model.options import EdgeChoice
def peak():  # of this process: rusage would begin with what the parent had when it forked
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3
before, started = peak(), time.perf_counter()
wanted = EdgeChoice(top=int(sys.argv[3]) or None, threshold=0)
_, edges = export_scores(Path(sys.argv[1]), Path(sys.argv[2]), wanted, overwrite=True)
seconds = time.perf_counter() - started
print(json.dumps({"edges": len(edges), "seconds": seconds, "peak_mb": peak(), "idle_mb": before}))
"""


def made_up(n_pairs: int, n_genes: int) -> Iterator[pa.Table]:
    """Regulators × genes in the order of a store, most scores low."""
    rng, names = np.random.default_rng(0), pa.array([f"GENE{i:05d}" for i in range(n_genes)])
    for start in range(0, n_pairs, ROWS_AT_ONCE):
        row = np.arange(start, min(start + ROWS_AT_ONCE, n_pairs))
        a, b = (pa.array(codes.astype(np.int32)) for codes in (row // n_genes, row % n_genes))
        score = pa.array(rng.random(row.size, np.float32) ** 8, mask=rng.random(row.size) < 0.05)
        dependence = rng.random(row.size, np.float32)
        yield pa.table(
            {
                "gene_a": pa.DictionaryArray.from_arrays(a, names),
                "gene_b": pa.DictionaryArray.from_arrays(b, names),
                "label": np.full(row.size, -1, np.int8),
                "score": score,
                "dependence": dependence,
                "correlation": 2 * dependence - 1,
            }
        )


def measure(
    folder: Path, pairs: int, genes: int, best: int = BEST, formats: tuple[str, ...] = FORMATS
) -> dict[str, Any]:
    """Seconds and peak memory of each export, by file: `all` edges or the `best`."""
    scores = folder / "scores.parquet"
    started = time.perf_counter()
    write_scores(scores, made_up(pairs, genes), ALWAYS, {})
    found: dict[str, Any] = {"pairs": pairs, "written_seconds": time.perf_counter() - started}
    found["scores_mb"] = scores.stat().st_size / 1e6
    for name in formats:
        top = best if name.startswith("best") else 0
        command = [sys.executable, "-c", ONE, scores, folder / name, str(top)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[name] = {**json.loads(done.stdout), "mb": (folder / name).stat().st_size / 1e6}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000_000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with folder_of(arguments.folder) as folder:
        print(json.dumps(measure(folder, arguments.pairs, arguments.genes), indent=2))


if __name__ == "__main__":
    main()
