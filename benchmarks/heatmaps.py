"""A whole heatmap job on a simulated atlas, beside the work that no job can do without: counting and compressing.

python -m benchmarks.heatmaps [--cells N] [--genes G] [--density D] [--pairs P] [--memory-limit 3GB] [--rounds N]
[--folder DIR]

Simulates and encodes the atlas once (kept in the folder), then runs `pairscape heatmaps` on two local workers with the
codes cached, and prints JSON: wall time of the whole command, and of the job from a cluster that stands to the last
receipt; seconds of pure counting and pure compressing of all images, measured on shards of the same store by two
processes at once, as the job's workers run; their ratio, medians of rounds that take turns; memory as the workers
measured it; bytes a pair by array; 200 random images against `np.histogram2d`; and the seconds that
`xarray.open_zarr` takes.
"""

import argparse
import json
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray

import pairscape
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.compute.allocator import keep_freed_memory
from pairscape.pipeline.compute.opening import open_session
from pairscape.pipeline.datasets.designs import Atlas
from pairscape.pipeline.heatmaps import count, gene_reader
from pairscape.pipeline.heatmaps.images import Images, open_images
from pairscape.pipeline.heatmaps.job import make_heatmaps, resolve_request
from pairscape.pipeline.heatmaps.memory import portion
from pairscape.pipeline.heatmaps.shards import CODEC
from pairscape.pipeline.heatmaps.tiles import tiles_of
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import CHUNK_PAIRS, Binning, Compute, PairSource

SAMPLE_SHARDS, CHECKED = 8, 200
SMALL_ATLAS = 1_000_000  # cells × genes


def core_seconds(store: str, codes: str, shards: list[int]) -> tuple[float, float]:
    """Seconds of counting and of compressing some shards, nothing else; in a process of its own."""
    images, found = open_images(store), open_codes(Path(codes))
    pairs, binning = images.pairs(), images.spec.binning
    tiles, spent, compressing = tiles_of(pairs.gene_b, binning.shard_pairs), count.Spent(), 0.0
    reader = gene_reader.GeneReader(found, portion(binning, found.n_cells, 1.0, None))
    count.warm_up()
    keep_freed_memory()
    for shard in shards:
        counts, _ = count.count_rows(reader, list(tiles[shard]), images.pair_column, spent)
        started = time.perf_counter()
        for at in range(0, len(counts), CHUNK_PAIRS):
            CODEC.encode(counts[at : at + CHUNK_PAIRS])
        compressing += time.perf_counter() - started
    return spent.counting, compressing


def floor_seconds(images: Images, codes: Path) -> tuple[float, float]:
    """Counting and compressing of all images, from a sample of the shards, on one core while another does the same."""
    whole = max(images.spec.n_shards - 1, 1)  # the last shard is rarely full
    sample = np.unique(np.linspace(0, whole - 1, min(2 * SAMPLE_SHARDS, whole)).astype(int)).tolist()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        parts = [pool.submit(core_seconds, str(images.path), str(codes), half) for half in (sample[::2], sample[1::2])]
        counting, compressing = np.sum([part.result() for part in parts if part], axis=0)
    scale = images.spec.n_pairs / sum(len(images.spec.shard_rows(shard)) for shard in sample)
    return counting * scale, compressing * scale


def differing(images: Images, expression: Path, codes: Path) -> int:
    """How many of some random images are not those of `np.histogram2d`."""
    n_pairs = images.spec.n_pairs
    rows = np.sort(np.random.default_rng(0).choice(n_pairs, min(CHECKED, n_pairs), replace=False))
    pairs, edges, cells = images.pairs(), images.array("edges"), open_codes(codes).array("cell")
    used = np.unique(np.concatenate([pairs.gene_a[rows], pairs.gene_b[rows]]))
    matrix, wrong = open_expression(expression), 0
    values = np.concatenate(
        [matrix.select(cells[at : at + 16_384])[:, used].toarray() for at in range(0, cells.size, 16_384)]
    )
    for row in rows:
        a, b = pairs.gene_a[row], pairs.gene_b[row]
        x, y = (values[:, np.searchsorted(used, gene)] for gene in (a, b))
        oracle = np.histogram2d(x, y, bins=(edges[a], edges[b]))[0].T
        wrong += not np.array_equal(oracle, images.counts(slice(row, row + 1))[0])
    return wrong


def bytes_by_array(store: Path, n_pairs: int) -> dict[str, float]:
    """Bytes on disk for each pair, by array."""
    sizes = {part.name: sum(f.stat().st_size for f in part.rglob("*") if f.is_file()) for part in store.iterdir()}
    return {name: round(size / n_pairs, 2) for name, size in sorted(sizes.items(), key=lambda item: -item[1])}


@contextmanager
def folder_of(path: Path | None) -> Any:
    """The given folder, or one that goes again."""
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
        yield path
    else:
        with TemporaryDirectory() as folder:
            yield Path(folder)


def prepare(folder: Path, cells: int, genes: int, density: float, n_pairs: int) -> tuple[Path, PairSource]:
    """The atlas, made once, and evenly spaced regulators × all genes, about as many pairs as wanted.

    A small atlas is made in this process, before workers would have started.
    """
    atlas, regulators = folder / f"atlas-{cells}-{genes}-{density}.zarr", folder / f"regulators-{genes}-{n_pairs}.txt"
    if not atlas.exists():
        where = Compute("synchronous") if cells * genes <= SMALL_ATLAS else Compute()
        pairscape.simulate(atlas, atlas=Atlas(cells, genes, density), counts=False, compute=where, quiet=True)
    names = open_expression(atlas).genes
    chosen = np.unique(np.linspace(0, len(names) - 1, max(round(n_pairs / len(names)), 1)).astype(int))
    regulators.write_text("\n".join(names[gene] for gene in chosen))
    return atlas, PairSource(regulators=regulators)


def run_job(atlas: Path, store: Path, codes: Path, source: PairSource, compute: Compute) -> dict[str, Any]:
    """The job on a cluster that stands: its wall time, and what the workers measured."""
    shutil.rmtree(store, ignore_errors=True)
    matrix = open_expression(atlas)
    with open_session(compute) as session:
        if session.client is not None:
            session.client.run(count.warm_up)
        started = time.perf_counter()
        request = resolve_request(matrix, source, 0)
        done = make_heatmaps(matrix, store, codes, request, Binning(), session)
        wall = time.perf_counter() - started
    spent = {
        f"{name}_s": round(getattr(done.spent, name), 1) for name in ("reading", "counting", "compressing", "writing")
    }
    return {"job_s": round(wall, 2), **spent, "peak_gb": [round(b / 1e9, 2) for b in done.usage.peak_bytes.values()]}


def measure(
    folder: Path, cells: int, genes: int, density: float, pairs: int, compute: Compute, rounds: int = 3
) -> dict[str, Any]:
    """All figures of one atlas; times are medians of rounds in which job and pure work take turns."""
    atlas, source = prepare(folder, cells, genes, density, pairs)
    store, codes = folder / "images.zarr", folder / f"{atlas.stem}.codes.zarr"
    run_job(atlas, store, codes, source, compute)  # encodes, and brings the codes into the page cache
    jobs, floors = [], []
    for _ in range(rounds):
        jobs.append(run_job(atlas, store, codes, source, compute))
        floors.append(floor_seconds(open_images(store), codes))
    shutil.rmtree(store)
    started = time.perf_counter()
    pairscape.heatmaps(atlas, store, source=source, codes=codes, compute=compute, quiet=True)
    command = time.perf_counter() - started
    images, job = open_images(store), sorted(jobs, key=lambda job: job["job_s"])[rounds // 2]
    counting, compressing = np.median(floors, axis=0)
    started = time.perf_counter()
    xarray.open_zarr(store, chunks="auto")
    opening, needed = time.perf_counter() - started, (counting + compressing) / 2
    ratio = float(np.median([2 * job["job_s"] / sum(floor) for job, floor in zip(jobs, floors, strict=True)]))
    return {
        "cells": cells, "genes": genes, "density": density, "pairs": images.spec.n_pairs, **job,
        "counting_core_s": round(counting, 2), "compressing_core_s": round(compressing, 2),
        "job_over_needed": round(ratio, 2),
        "jobs_s": [j["job_s"] for j in jobs], "pairs_per_s": round(images.spec.n_pairs / job["job_s"]),
        "command_s": round(command, 2), "command_over_needed": round(command / needed, 2),
        "bytes_per_pair": bytes_by_array(store, images.spec.n_pairs),
        "differing_of_200": differing(images, atlas, codes), "xarray_open_s": round(opening, 3),
    }  # fmt: skip


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--density", type=float, default=0.13)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--memory-limit", default="3GB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    a = parser.parse_args()
    with folder_of(a.folder) as folder:
        compute = Compute("local", 2, a.memory_limit)
        print(json.dumps(measure(folder, a.cells, a.genes, a.density, a.pairs, compute, a.rounds)))


if __name__ == "__main__":
    main()
