"""What `pairscape plan` foretells of all regulator × gene pairs of an atlas, against a measured part of that very job.

python -m benchmarks.prediction [--cells N] [--genes G] [--density D] [--regulators R] [--share 0.02] [--folder DIR]

Plans twice, from the encoded matrix and from the matrix alone (a sample of its cells). Then counts and writes runs of
neighbouring shards, spread evenly over the whole store, two local workers at once, and scales their time and bytes up.
Reading a block of genes is scaled by the blocks that the job's own tasks will read, and what a worker reads but once,
all regulators, is read before the clock starts: in the whole job it is a hundredth. Prints JSON.
"""

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import pairscape
from benchmarks.heatmaps import folder_of, prepare
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.compute.opening import open_session
from pairscape.pipeline.compute.session import Usage
from pairscape.pipeline.compute.tasks import run_tasks
from pairscape.pipeline.heatmaps.count import Spent, count_task
from pairscape.pipeline.heatmaps.gene_reader import held_reader
from pairscape.pipeline.heatmaps.images import ImageSpec
from pairscape.pipeline.heatmaps.job import plan_count, resolve_request
from pairscape.pipeline.heatmaps.layout import create_images
from pairscape.pipeline.heatmaps.memory import Portion
from pairscape.pipeline.heatmaps.tiles import Rates, Task, tiles_of
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning, Compute

RUN_SHARDS, LOCAL = 9, Compute("local", 2, "3GB")


def runs_of_shards(n_shards: int, share: float) -> list[tuple[int, ...]]:
    """Runs of neighbouring shards that make up the share of all."""
    number = max(round(share * n_shards / RUN_SHARDS), 1)
    starts = np.linspace(0, max(n_shards - RUN_SHARDS - 1, 0), number).astype(int)
    return [tuple(range(start, min(start + RUN_SHARDS, n_shards))) for start in np.unique(starts).tolist()]


def read_genes(codes: str, portion: Portion, genes: np.ndarray) -> None:
    """What a worker's first tasks do on the way."""
    reader = held_reader(open_codes(Path(codes)), portion)
    for slab in reader.slabs():
        reader.genes(genes, slab)


def blocks_visited(tasks: list[Task]) -> int:
    """Times that a block of genes is read and laid out."""
    return sum(len({tile.genes_b for tiles in task.tiles for tile in tiles}) for task in tasks)


def measured(
    folder: Path, atlas: Path, codes_path: Path, source: Any, share: float, compute: Compute
) -> dict[str, Any]:
    """Seconds and bytes of the whole job, from a part of it."""
    matrix, binning, n_workers = open_expression(atlas), Binning(), compute.workers or 1
    with open_session(compute) as session:
        encode_matrix(matrix, codes_path, binning, np.arange(matrix.n_cells), session)
        started = time.perf_counter()
        request = resolve_request(matrix, source, 0)
        pairs = request.chosen.pairs
        codes = encode_matrix(matrix, codes_path, binning, request.cells, session)
        spec = ImageSpec(codes.path, codes.content_hash, binning, codes.n_cells, len(pairs), pairs.content_hash())
        store = folder / "part.images.zarr"
        shutil.rmtree(store, ignore_errors=True)
        create_images(store, spec, pairs, codes, {})
        portion, tasks, _ = plan_count(codes, pairs, range(spec.n_shards), session.memory, n_workers, Rates())
        planning = time.perf_counter() - started
        tiles = tiles_of(pairs.gene_b, binning.shard_pairs)
        runs = [Task(run, tuple(tiles[s] for s in run)) for run in runs_of_shards(spec.n_shards, share)]
        usage, spent, common = Usage(), Spent(), (str(store), codes.path, portion)
        regulators = np.unique(pairs.gene_a)
        client = session.client
        workers = list(client.scheduler_info(n_workers=-1)["workers"])
        client.gather(
            [client.submit(read_genes, codes.path, portion, regulators, workers=[w], pure=False) for w in workers]
        )
        started = time.perf_counter()
        for _, cost in run_tasks(replace(session, usage=usage), count_task, runs, *common):
            spent.add(cost)
        wall = time.perf_counter() - started
    images = sum(len(spec.shard_rows(shard)) for run in runs for shard in run.shards)
    scale, visits = len(pairs) / images, blocks_visited(tasks) / blocks_visited(runs)
    seconds = ((n_workers * wall - spent.reading) * scale + spent.reading * visits) / n_workers
    return {
        "pairs": len(pairs),
        "shards": spec.n_shards,
        "tasks": len(tasks),
        "measured_share": round(1 / scale, 4),
        "measured_s": round(seconds, 4),
        "measured_gb": round(spent.bytes_written * scale / 1e9, 6),
        "driver_s": round(planning, 1),
        "core_us_per_pair": {
            kind: round(1e6 * getattr(spent, kind) / images, 2)
            for kind in ("reading", "counting", "compressing", "writing")
        },
        "chunks_read": spent.chunks_read,
        "peak_gb": round(usage.peak / 1e9, 2),
    }


def measure(
    folder: Path, cells: int, genes: int, density: float, regulators: int, share: float, compute: Compute = LOCAL
) -> dict[str, Any]:
    """Predicted and measured, and the first over the second."""
    atlas, source = prepare(folder, cells, genes, density, regulators * genes)
    codes = folder / f"{atlas.stem}.codes.zarr"
    truth = measured(folder, atlas, codes, source, share, compute)
    found: dict[str, Any] = {"cells": cells, "genes": genes, **truth}
    for name, where in (("encoded", codes), ("sampled", None)):
        cost = pairscape.plan(atlas, source=source, codes=where, compute=compute, quiet=True)
        found[name] = {
            "s": round(cost["seconds"], 1), "gb": round(cost["store_bytes"] / 1e9, 3),
            "encode_s": round(cost["encode_seconds"], 1),
            "s_over_measured": round(cost["seconds"] / truth["measured_s"], 3),
            "gb_over_measured": round(cost["store_bytes"] / 1e9 / truth["measured_gb"], 3),
        }  # fmt: skip
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--regulators", type=int, default=1_839)
    parser.add_argument("--share", type=float, default=0.02)
    parser.add_argument("--folder", type=Path)
    a = parser.parse_args()
    with folder_of(a.folder) as folder:
        print(json.dumps(measure(folder, a.cells, a.genes, a.density, a.regulators, a.share)))


if __name__ == "__main__":
    main()
