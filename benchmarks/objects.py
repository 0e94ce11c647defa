"""The heatmap job to object storage, beside the same job to a disk.

python -m benchmarks.objects URL [--cells N] [--genes G] [--density D] [--workers W] [--folder DIR]

Simulates an atlas once (kept in the folder) and runs the heatmap job over all its pairs on a disk and to
URL/images.zarr, which must not exist, codes made anew each time. Prints JSON: seconds of both jobs, and of their
workers by kind of work; images a second; bytes; and how many files of the one are no object of the other. What the
storage needs (its address, credentials) is taken from the environment. The stores stay at the URL.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pairscape
from pairscape.pipeline.compute.opening import open_session
from pairscape.pipeline.datasets.designs import Atlas
from pairscape.pipeline.heatmaps.job import make_heatmaps, resolve_request
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning, Compute, PairSource
from pairscape.pipeline.storage.paths import located, small_files, writable


def timed_job(expression: Path, target: Path, compute: Compute) -> dict[str, float]:
    """Seconds and images a second of the job, codes included, on a cluster that stands."""
    matrix = open_expression(expression)
    request = resolve_request(matrix, PairSource(all_pairs=True), 0)
    with open_session(compute) as session:
        started = time.perf_counter()
        done = make_heatmaps(matrix, target, None, request, Binning("rank"), session)
        seconds = time.perf_counter() - started
    spent = {name: round(getattr(done.spent, name), 2) for name in ("reading", "counting", "compressing", "writing")}
    figures = {"seconds": round(seconds, 2), "images_per_second": round(len(request.chosen.pairs) / seconds)}
    return {**figures, **spent, "bytes": done.spent.bytes_written}


def differing(local: Path, remote: Path) -> int:
    """Files of the local store that are no object of the other, or another one; the root names where the codes lie."""
    here = {str(file.relative_to(local)): file.read_bytes() for file in local.rglob("*") if file.is_file()}
    there = small_files(remote)
    return sum(here.get(name) != there.get(name) for name in here.keys() | there.keys() if name != "zarr.json")


def measure(url: str, folder: Path, *, cells: int, genes: int, density: float, compute: Compute) -> dict[str, Any]:
    """Both jobs, one after the other."""
    expression = folder / f"{cells}x{genes}x{density}.zarr"
    if not expression.exists():
        atlas = Atlas(cells, genes, density)
        pairscape.simulate(expression, atlas=atlas, counts=False, compute=compute, quiet=True)
    remote = writable(f"{url.rstrip('/')}/images.zarr")
    local = folder / f"{time.time_ns()}.zarr"
    timed_job(expression, folder / f"{time.time_ns()}.warm.zarr", compute)  # so that compiling and file caches are paid
    found = {"disk": timed_job(expression, local, compute), "objects": timed_job(expression, remote, compute)}
    ratio = found["objects"]["seconds"] / found["disk"]["seconds"]
    return {
        "cells": cells,
        "pairs": genes * (genes - 1) // 2,
        "workers": compute.workers,
        **found,
        "objects_over_disk": round(ratio, 2),
        "differing": differing(local, located(remote)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=1_000)
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        compute = Compute("local", asked.workers)
        options = {"cells": asked.cells, "genes": asked.genes, "density": asked.density, "compute": compute}
        print(json.dumps(measure(asked.url, folder, **options), indent=2))


if __name__ == "__main__":
    main()
