"""Encoding out of core against scanpy in memory, on one random matrix in one run.

python -m benchmarks.encode [--cells N] [--genes N] [--density D] [--scale RULE] [--folder DIR] [--no-peer]

The peer reads an uncompressed .h5ad of counts, then `normalize_total`, `log1p` and `tocsc`, all in one process. Ours
turns the same cells, as log-normalised expression.zarr, into codes.zarr on two worker processes of 2 GB. Prints JSON:
seconds of each (imports and the start of the cluster left out on both sides), their ratio, peak memory in bytes.
"""

import argparse
import importlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import h5py
import numba
import numpy as np
import pandas as pd
import zarr
from anndata.io import write_elem
from zarr.codecs import BloscCodec

from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.compute.clusters import open_client
from pairscape.pipeline.compute.opening import smallest_memory
from pairscape.pipeline.compute.session import Session, Usage
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning, BinningRule, Compute

MADE_CELLS = 8192  # cells drawn at a time
CHUNK_VALUES, SHARD_VALUES = 2**16, 2**24  # as `pairscape ingest` lays a matrix out
WORKERS, MEMORY_LIMIT = 2, "2GB"


@numba.njit(cache=True)
def _draw(rng, expressed, depth, pointers, genes, counts):  # type: ignore[no-untyped-def]
    at = 0
    for cell in range(depth.size):
        for gene in range(expressed.size):
            if rng.random() < expressed[gene] * depth[cell]:
                genes[at], counts[at] = gene, 1
                while rng.random() < 0.2 + 0.5 * expressed[gene]:
                    counts[at] += 1
                at += 1
        pointers[cell + 1] = at
    return at


def blocks_of_counts(cells: int, genes: int, density: float) -> Any:
    """Blocks (row pointers, genes, counts) of a random matrix: few genes are everywhere, most are rare."""
    rng = np.random.default_rng(0)
    rate = rng.gamma(0.4, 1.0, genes)
    for _ in range(50):  # towards the density that was asked for, with no gene in more than 95 % of the cells
        rate = np.minimum(rate * density / rate.mean(), 0.95)
    for start in range(0, cells, MADE_CELLS):
        n = min(MADE_CELLS, cells - start)
        depth = np.clip(rng.normal(1, 0.2, n), 0.3, 1.7)
        room = int(n * genes * min(1, 1.5 * density) + genes)
        pointers, columns, counts = np.zeros(n + 1, np.int64), np.empty(room, np.int32), np.empty(room, np.float32)
        used = _draw(rng, rate, depth, pointers, columns, counts)
        yield pointers, columns[:used], counts[:used]


def log_normalised(pointers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """log1p of counts per 10,000 of the cell, as scanpy computes it."""
    lengths = np.diff(pointers)
    totals = np.add.reduceat(np.append(counts, 0), pointers[:-1]) * (lengths > 0)
    return np.log1p(counts * np.repeat(1e4 / np.maximum(totals, 1), lengths)).astype(np.float32)


class ZarrColumn:
    """A 1-D array that grows by whole shards, so that each is written once."""

    def __init__(self, group: zarr.Group, name: str, dtype: str) -> None:
        codec = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
        self._array = group.create_array(
            name, shape=(0,), dtype=dtype, chunks=(CHUNK_VALUES,), shards=(SHARD_VALUES,), compressors=[codec]
        )
        self._held: list[np.ndarray] = []

    def append(self, values: np.ndarray) -> None:
        """Take more values, and write what makes whole shards."""
        self._held.append(values)
        if sum(part.size for part in self._held) >= SHARD_VALUES:
            whole = np.concatenate(self._held)
            cut = whole.size // SHARD_VALUES * SHARD_VALUES
            self._held = [whole[cut:].copy()]
            self._write(whole[:cut])

    def close(self) -> None:
        """Write the rest."""
        self._write(np.concatenate(self._held))

    def _write(self, values: np.ndarray) -> None:
        start = self._array.shape[0]
        self._array.resize((start + values.size,))
        self._array[start:] = values


def names(cells: int, genes: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    return (
        pd.DataFrame(index=pd.Index([f"cell{i}" for i in range(cells)], dtype=object)),
        pd.DataFrame(index=pd.Index([f"G{i}" for i in range(genes)], dtype=object)),
    )


CSR = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0"}
ANNDATA = {"encoding-type": "anndata", "encoding-version": "0.1.0"}


def make(folder: Path, cells: int, genes: int, density: float, peer: bool) -> tuple[Path, Path]:
    """The matrix as expression.zarr and, for the peer, as h5ad of counts; what is there already is kept."""
    store, counts = (folder / f"{cells}x{genes}x{density:g}.{suffix}" for suffix in ("zarr", "h5ad"))
    if store.exists() and (counts.exists() or not peer):
        return store, counts
    root = zarr.open_group(str(store), mode="w", zarr_format=3)
    x = root.create_group("X", attributes={**CSR, "shape": [cells, genes]})
    data, indices = ZarrColumn(x, "data", "float32"), ZarrColumn(x, "indices", "int32")
    lengths = []
    with h5py.File(counts if peer else folder / ".unused.h5ad", "w") as file:
        raw = file.create_group("X")
        columns = [raw.create_dataset(n, (0,), d, maxshape=(None,), chunks=(2**20,)) for n, d in
                   (("data", "f4"), ("indices", "i4"))]  # fmt: skip
        for pointers, gene, count in blocks_of_counts(cells, genes, density):
            lengths.append(np.diff(pointers))
            data.append(log_normalised(pointers, count))
            indices.append(gene.copy())
            for column, values in zip(columns, (count, gene), strict=True) if peer else ():
                column.resize((column.shape[0] + values.size,))
                column[-values.size :] = values
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        raw.create_dataset("indptr", data=indptr)
        raw.attrs.update({**CSR, "shape": [cells, genes]})
        file.attrs.update(ANNDATA)
        for axis, frame in zip(("obs", "var"), names(cells, genes), strict=True):
            write_elem(root, axis, frame, dataset_kwargs={"shards": None})
            write_elem(file, axis, frame)
    data.close()
    indices.close()
    write_elem(x, "indptr", indptr, dataset_kwargs={"shards": None})
    root.attrs.update(ANNDATA)
    (folder / ".unused.h5ad").unlink(missing_ok=True)
    return store, counts


PEER = """
import json, resource, sys, time
import scanpy
start, busy = time.perf_counter(), time.process_time()
cells = scanpy.read_h5ad(sys.argv[1])
scanpy.pp.normalize_total(cells, target_sum=1e4)
scanpy.pp.log1p(cells)
cells.X = cells.X.tocsc()
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([time.perf_counter() - start, time.process_time() - busy, used.ru_maxrss * 1024]))
"""


def run_peer(counts: Path) -> dict[str, float]:
    """Seconds and peak memory of scanpy's route, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEER, str(counts)], capture_output=True, text=True, check=True
    )
    seconds, cpu, peak = json.loads(done.stdout.splitlines()[-1])
    return {"scanpy_seconds": round(seconds, 2), "scanpy_cpu_seconds": round(cpu, 2), "scanpy_peak_bytes": peak}


def cpu_seconds(client: Any) -> float:
    """Processor time of all workers and of this process so far: what a busy machine does not distort."""
    return time.process_time() + sum(client.run(time.process_time).values())


def run_ours(store: Path, target: Path, scale: BinningRule) -> dict[str, float]:
    """Seconds and peak memory per worker of our route; the cluster runs already, as in a job of many steps."""
    usage, compute = Usage(), Compute("local", workers=WORKERS, memory_limit=MEMORY_LIMIT)
    with open_client(compute) as client:
        client.run(importlib.import_module, "pairscape.pipeline.codes.encode")
        start, before = time.perf_counter(), cpu_seconds(client)
        expression = open_expression(store)
        session = Session(client, usage=usage, memory=smallest_memory(client, compute))
        cells = np.arange(expression.n_cells)
        encode_matrix(expression, target, Binning(scale), cells, session)
        seconds, cpu = time.perf_counter() - start, cpu_seconds(client) - before
        again = time.perf_counter()
        encode_matrix(expression, target, Binning(scale), cells, session)
        again = time.perf_counter() - again
    return {
        "pairscape_seconds": round(seconds, 2),
        "pairscape_again_seconds": round(again, 3),
        "pairscape_cpu_seconds": round(cpu, 2),
        "pairscape_peak_worker_bytes": usage.peak,
        "pairscape_driver_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "codes_bytes": sum(file.stat().st_size for file in target.rglob("*") if file.is_file()),
    }


def measure(
    folder: Path, cells: int, genes: int, density: float = 0.05, peer: bool = True, scale: BinningRule = "max"
) -> dict[str, Any]:
    """All figures of one matrix; files are made in the folder and kept, but for the codes."""
    store, counts = make(folder, cells, genes, density, peer)
    figures: dict[str, Any] = {"cells": cells, "genes": genes, "density": density, "scale": scale}
    figures |= run_peer(counts) if peer else {}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        figures |= run_ours(store, Path(place, "codes.zarr"), scale)
    if peer:
        figures["scanpy_over_pairscape"] = round(figures["scanpy_seconds"] / figures["pairscape_seconds"], 2)
    return figures


def main() -> None:
    """Print the figures of the matrix that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--scale", choices=get_args(BinningRule), default="max")
    parser.add_argument("--folder", type=Path, help="where the input is made and kept; absent: nowhere")
    parser.add_argument("--no-peer", action="store_true", help="leave scanpy out: it holds the matrix in memory")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = asked.folder or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        print(json.dumps(measure(folder, asked.cells, asked.genes, asked.density, not asked.no_peer, asked.scale)))


if __name__ == "__main__":
    main()
