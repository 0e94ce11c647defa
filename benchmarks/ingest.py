"""Ingesting an .h5ad out of core against a mere copy of it by anndata, on one simulated atlas in one run.

python -m benchmarks.ingest [--cells N] [--genes N] [--density D] [--folder DIR] [--memory-limit SIZE] [--no-peer]

The input is an uncompressed .h5ad of raw counts, made block by block. Ours surveys, filters, normalises and writes it
as expression.zarr on two worker processes of 3 GB. The peer, in a process of its own, is anndata alone: it reads the
matrix into memory and writes it twice, as X and as layers["counts"], with chunks, shards and codec as ours has them
(zstd 3, bitshuffle, crc32c). So both write float32 values and int32 genes of two matrices; the peer's X are the counts,
which compress better and faster than the logarithms that ours has there. Prints JSON: seconds of each (ours
with the start of the cluster, the peer's without its imports), their ratio, peak memory and sizes in bytes.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem

from pairscape.pipeline.compute.session import Session, Usage
from pairscape.pipeline.datasets.designs import Atlas
from pairscape.pipeline.datasets.synthetic import bursts_per_cell, cell_counts, entries_per_cell
from pairscape.pipeline.matrix.ingest import ingest
from pairscape.pipeline.matrix.store import CHUNK_ENTRIES, SHARD_ENTRIES
from pairscape.pipeline.options import Compute

MADE_CELLS = 8192  # cells drawn at a time
WORKERS = 2
H5_CHUNK = 2**20  # entries


def make(path: Path, atlas: Atlas) -> Path:
    """Raw counts of a simulated atlas as .h5ad, never in memory together; what is there already is kept."""
    if path.exists():
        return path
    bursts, indptr = bursts_per_cell(atlas), [np.zeros(1, np.int64)]
    part = path.with_suffix(".part")  # so that what an interrupted call leaves is not taken for the whole
    with h5py.File(part, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        x = file.create_group("X")
        shape = [atlas.cells, atlas.genes]
        x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
        for name, dtype in (("data", "f4"), ("indices", "i4")):
            x.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(H5_CHUNK,))
        for start in range(0, atlas.cells, MADE_CELLS):
            entries = entries_per_cell(atlas, bursts, start, min(start + MADE_CELLS, atlas.cells))
            pointers = np.concatenate([[0], np.cumsum(entries, dtype=np.int64)])
            genes, molecules = cell_counts(atlas, bursts, start, pointers)
            for name, values in (("data", molecules), ("indices", genes)):
                x[name].resize((x[name].shape[0] + values.size,))
                x[name][-values.size :] = values
            indptr.append(indptr[-1][-1] + pointers[1:])
        x["indptr"] = np.concatenate(indptr)
        for axis, kind, n in (("obs", "cell", atlas.cells), ("var", "GENE", atlas.genes)):
            write_elem(file, axis, pd.DataFrame(index=pd.Index([f"{kind}{i}" for i in range(n)], dtype=object)))
    return part.replace(path)


PEER = """
import json, resource, sys, time
import anndata, zarr
from anndata.io import write_elem
from zarr.codecs import BloscCodec, Crc32cCodec
source, target, chunk, shard = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
start, busy = time.perf_counter(), time.process_time()
cells = anndata.read_h5ad(source)
root = zarr.open_group(target, mode="w", zarr_format=3)
kwargs = {"chunks": (chunk,), "shards": (min(shard, -(-cells.X.nnz // chunk) * chunk),),
          "compressors": [BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"), Crc32cCodec()]}
write_elem(root, "/", anndata.AnnData(obs=cells.obs, var=cells.var), dataset_kwargs={"shards": None})
write_elem(root, "X", cells.X, dataset_kwargs=kwargs)
write_elem(root["layers"], "counts", cells.X, dataset_kwargs=kwargs)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([time.perf_counter() - start, time.process_time() - busy, used.ru_maxrss * 1024]))
"""


def run_peer(source: Path, target: Path) -> dict[str, float]:
    """Seconds and peak memory of anndata's copy, in a process of its own."""
    numbers = map(str, (CHUNK_ENTRIES, SHARD_ENTRIES))
    command = [sys.executable, "-W", "ignore", "-c", PEER, str(source), str(target), *numbers]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, cpu, peak = json.loads(done.stdout.splitlines()[-1])
    return {
        "anndata_seconds": round(seconds, 2),
        "anndata_cpu_seconds": round(cpu, 2),
        "anndata_peak_bytes": peak,
        "anndata_store_bytes": size(target),
    }


def size(store: Path) -> int:
    """Bytes on disk."""
    return sum(file.stat().st_size for file in store.rglob("*") if file.is_file())


class Stopwatch:
    """Progress that takes the time of each stage."""

    def __init__(self) -> None:
        self._began: list[tuple[str, float]] = []

    def start(self, stage: str, total: int) -> None:
        """A stage begins, and the one before ends."""
        self._began.append((stage, time.perf_counter()))

    def advance(self, units: int) -> None:
        """Nothing to tell."""

    def seconds(self) -> dict[str, float]:
        """Of each stage that began, until now."""
        ends = [began for _, began in self._began[1:]] + [time.perf_counter()]
        return {stage: round(end - began, 2) for (stage, began), end in zip(self._began, ends, strict=True)}


def run_ours(source: Path, target: Path, memory_limit: str) -> dict[str, Any]:
    """Seconds and peak memory per worker of our route, the start of the cluster included."""
    usage, watch, start = Usage(), Stopwatch(), time.perf_counter()
    session = Session(progress=watch, usage=usage)
    ingest(source, target, compute=Compute("local", WORKERS, memory_limit), session=session)
    seconds = time.perf_counter() - start
    return {
        "pairscape_seconds": round(seconds, 2),
        "pairscape_stages": watch.seconds(),
        "pairscape_worker_busy_seconds": round(usage.busy_seconds, 2),
        "pairscape_peak_worker_bytes": usage.peak,
        "pairscape_driver_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "pairscape_store_bytes": size(target),
    }


def measure(folder: Path, atlas: Atlas, memory_limit: str = "3GB", peer: bool = True) -> dict[str, Any]:
    """All figures of one atlas; the input is made in the folder and kept, the stores are not."""
    source = make(folder / f"{atlas.cells}x{atlas.genes}x{atlas.density:g}.h5ad", atlas)
    figures: dict[str, Any] = {"cells": atlas.cells, "genes": atlas.genes, "density": atlas.density}
    figures |= {"workers": WORKERS, "memory_limit": memory_limit, "source_bytes": source.stat().st_size}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        figures |= run_ours(source, Path(place, "ours.zarr"), memory_limit)
    if peer:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            figures |= run_peer(source, Path(place, "peer.zarr"))
        figures["pairscape_over_anndata"] = round(figures["pairscape_seconds"] / figures["anndata_seconds"], 2)
    return figures


def main() -> None:
    """Print the figures of the atlas that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--memory-limit", default="3GB", help="of each worker")
    parser.add_argument("--folder", type=Path, help="where the input is made and kept; absent: nowhere")
    parser.add_argument("--no-peer", action="store_true", help="leave anndata out: it holds the matrix in memory")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = asked.folder or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        atlas = Atlas(asked.cells, asked.genes, asked.density)
        print(json.dumps(measure(folder, atlas, asked.memory_limit, not asked.no_peer)))


if __name__ == "__main__":
    main()
