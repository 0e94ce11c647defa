"""The code store: one byte a gene and cell, gene-major, so that a task reads its genes over all cells in a few slices.

Layout (Zarr v3): `codes` uint8 (gene, cell), 0 = not expressed, k = bin k − 1; `edges` float32 (gene, bins + 1);
`cell` int64 (cell), the row of the matrix that each counted cell is; statistics of each gene; `gene` names. A chunk is
32 genes × one block of cells, a shard is all genes × that block: one task writes one shard.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from zarr.codecs import BloscCodec, Crc32cCodec

from pipeline.binning import GeneStatistics, encode
from pipeline.errors import InputError
from pipeline.spec import CODES_CELLS, Binning, digest

FORMAT, FORMAT_VERSION = "pairscape-codes", 1
CHUNK_GENES = 32


def codes_hash(matrix_hash: str, cells: NDArray[np.int64], binning: Binning) -> str:
    """Hex sha256 that names the content of a code store: the matrix, the cells used and the rule of binning."""
    facts = {"matrix": matrix_hash, "cells": digest({"cells": cells.tolist()}), "binning": asdict(binning)}
    return digest({"format": FORMAT, "version": FORMAT_VERSION, **facts})


@dataclass(frozen=True)
class Codes:
    """An open code store.

    Attributes
    ----------
    path
        Where it lies.
    content_hash
        What it holds, see `codes_hash`.
    binning
        Rule and number of bins.
    n_genes, n_cells
        Shape of the codes.
    """

    path: str
    content_hash: str
    binning: Binning
    n_genes: int
    n_cells: int

    def array(self, name: str) -> NDArray[Any]:
        """One of the small arrays, whole: `edges`, `cell`, `gene`, `mean`, `variance`, `dropout`."""
        return np.asarray(_array(self.path, self.content_hash, name)[:])

    def read(self, genes: NDArray[np.int64], cells: slice) -> NDArray[np.uint8]:
        """Codes of some genes, ascending, over a range of cells: (G, N) uint8, read from disk chunk by chunk."""
        codes, parts = _array(self.path, self.content_hash, "codes"), []
        for chunk in np.unique(genes // CHUNK_GENES):
            rows = genes[genes // CHUNK_GENES == chunk] - chunk * CHUNK_GENES
            parts.append(np.asarray(codes[chunk * CHUNK_GENES : (chunk + 1) * CHUNK_GENES, cells])[rows])
        return np.concatenate(parts) if len(parts) > 1 else parts[0]


@lru_cache(maxsize=32)
def _array(path: str, content_hash: str, name: str) -> zarr.Array[Any]:
    """Opened once per process and content: the same path may hold other codes later, the same hash may not."""
    return zarr.open_array(path, path=name, mode="r")


def cell_blocks(n_cells: int) -> list[slice]:
    """Blocks of cells that are encoded by one task each."""
    return [slice(i, min(i + CODES_CELLS, n_cells)) for i in range(0, n_cells, CODES_CELLS)]


def create_codes(
    path: Path,
    content_hash: str,
    binning: Binning,
    genes: Sequence[str],
    cells: NDArray[np.int64],
    edges: NDArray[np.float32],
    statistics: GeneStatistics,
    provenance: dict[str, Any],
) -> None:
    """Lay out a code store with everything but the codes.

    Parameters
    ----------
    cells : (N,) int64
        Rows of the matrix that are counted, ascending.
    edges : (G, bins + 1) float32
    provenance
        Where the matrix lies and what it holds, kept as attributes.
    """
    block = min(CODES_CELLS, cells.size)
    shard_genes = -(-len(genes) // CHUNK_GENES) * CHUNK_GENES
    root = zarr.create_group(str(path), zarr_format=3)
    root.create_array(
        "codes",
        shape=(len(genes), cells.size),
        chunks=(CHUNK_GENES, block),
        shards=(shard_genes, block),
        dtype="uint8",
        fill_value=0,
        compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle"), Crc32cCodec()],
        dimension_names=("gene", "cell"),
    )
    root.create_array("edges", data=edges, dimension_names=("gene", "edge"))
    root.create_array("cell", data=cells, dimension_names=("cell",))
    root.create_array("gene", data=np.asarray(genes, np.dtypes.StringDType()), dimension_names=("gene",))
    for name in ("mean", "variance", "dropout"):
        root.create_array(name, data=getattr(statistics, name), dimension_names=("gene",))
    facts = {"format": FORMAT, "format_version": FORMAT_VERSION, "content_hash": content_hash, **asdict(binning)}
    root.attrs.update({**facts, "provenance": provenance})


def write_block(path: str, rows: csr_matrix, block: slice) -> int:
    """Encode one block of cells and write its shard; returns the number of expressed entries.

    Parameters
    ----------
    rows : (N, G)
        Expression of the block's cells, cells × genes.
    block
        Cells of the store, one of `cell_blocks`.
    """
    codes, edges = (zarr.open_array(path, path=name, mode="r+") for name in ("codes", "edges"))
    dense = np.zeros((rows.shape[1], rows.shape[0]), np.uint8)
    cell = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    dense[rows.indices, cell] = encode(rows.data, rows.indices, np.asarray(edges[:]))
    codes[:, block] = dense
    return int(rows.nnz)


def open_codes(path: Path) -> Codes:
    """Open a published code store.

    Raises
    ------
    InputError
        Not a code store, or one of another version.
    """
    try:
        attrs = json.loads((path / "zarr.json").read_text())["attributes"]
        known = attrs["format"], attrs["format_version"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a Pairscape code store; delete it, it will be made again.") from error
    if known != (FORMAT, FORMAT_VERSION):
        raise InputError(
            f"{path} has format {known[0]} version {known[1]}, this Pairscape reads {FORMAT} version {FORMAT_VERSION}; "
            "delete it, it will be made again."
        )
    shape = _array(str(path), attrs["content_hash"], "codes").shape
    return Codes(str(path), attrs["content_hash"], Binning(attrs["scale"], attrs["bins"]), shape[0], shape[1])
