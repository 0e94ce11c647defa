"""Seconds that the paired bootstrap of the audit takes: network against four baselines, 1,000 resamples of the genes.

python -m benchmarks.bootstrap [--rows 26335] [--genes 230] [--resamples 1000]

Simulated scores, 1.4 % positive. Prints JSON: process time, so that a busy machine does not count.
"""

import argparse
import json
import resource
import time
from typing import Any

import numpy as np

from pairscape.model.evaluation.bootstrap import against_baseline


def measure(rows: int, genes: int, resamples: int) -> dict[str, Any]:
    """Figures of one comparison."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(genes, size=(2, rows))
    label = (rng.random(rows) < 0.014).astype(np.int8)
    scores = {name: rng.normal(size=rows) + 2 * label for name in ("network", "marginals", "pearson", "spearman", "mi")}
    started = time.process_time()
    found = against_baseline(label, scores.pop("network"), scores, (a, b), 0, resamples)
    return {
        "rows": rows,
        "resamples": resamples,
        "cpu_s": round(time.process_time() - started, 3),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        "verdict": found["verdict"],
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=26_335)
    parser.add_argument("--genes", type=int, default=230)
    parser.add_argument("--resamples", type=int, default=1000)
    a = parser.parse_args()
    print(json.dumps(measure(a.rows, a.genes, a.resamples)))


if __name__ == "__main__":
    main()
