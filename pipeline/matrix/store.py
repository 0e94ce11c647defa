"""How an expression store lies on disk: AnnData on Zarr 3, matrices as CSR in whole shards of one size.

The jobs that write one, out of core or at once, share this layout, so that whoever reads it meets one kind of store.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from anndata.io import write_elem
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.annotations import storable
from pairscape.pipeline.storage.chunks import ChunkCodec, join_chunks

CODEC = ChunkCodec("zstd", 3, "bitshuffle")
CHUNK_ENTRIES = 2**16  # 256 KiB of float32: a block of cells reads little more than its own
SHARD_ENTRIES = 2**22  # 16 MiB an array: a task stays small, an atlas of 1e9 entries has hundreds of files


@dataclass(frozen=True)
class ShardLayout:
    """How the entries of a matrix lie on disk.

    Attributes
    ----------
    chunk, shard
        Entries in one of each; a shard is whole chunks.
    matrices
        Groups that hold a matrix of this layout: X, and the layer of counts if it is kept.
    """

    chunk: int
    shard: int
    matrices: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """One task of writing a matrix.

    Attributes
    ----------
    shard
        Number of the shard that it writes, of every array.
    start, stop
        Cells that reach into it.
    """

    shard: int
    start: int
    stop: int


def lay_out(entries: int, chunk: int, shard: int, matrices: tuple[str, ...]) -> ShardLayout:
    """Chunks within shards, no shard much larger than the matrix."""
    return ShardLayout(chunk, chunk * min(max(-(-entries // chunk), 1), max(shard // chunk, 1)), matrices)


def create_matrices(root: zarr.Group, shape: tuple[int, int], indptr: NDArray[np.int64], layout: ShardLayout) -> None:
    """Matrices in anndata's own encoding, with all but their entries."""
    for name in layout.matrices:
        matrix = root.create_group(name, overwrite=name == "X")  # anndata marks a missing X
        matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(shape)})
        _create(matrix, "data", "float32", int(indptr[-1]), layout)
        _create(matrix, "indices", "int32", int(indptr[-1]), layout)
        _create(matrix, "indptr", "int64", indptr.size, layout)[:] = indptr


def _create(matrix: zarr.Group, name: str, dtype: str, size: int, layout: ShardLayout) -> zarr.Array[Any]:
    return matrix.create_array(
        name,
        shape=(size,),
        dtype=dtype,
        fill_value=0,
        chunks=(layout.chunk,),
        shards=(layout.shard,),
        compressors=CODEC.compressors(),
    )


def pieces(indptr: NDArray[np.int64], shard: int) -> Iterator[Piece]:
    """The shards of a matrix, each with the cells that reach into it."""
    for number in range(-(-int(indptr[-1]) // shard)):
        first, last = number * shard, min((number + 1) * shard, int(indptr[-1])) - 1
        start, stop = np.searchsorted(indptr, (first, last), side="right")
        yield Piece(number, int(start) - 1, int(stop))


def piece_pointers(store: Path, matrix: str, piece: Piece) -> NDArray[np.int64]:
    """(cell + 1,) where the entries of each cell of a piece start in the matrix."""
    return np.asarray(zarr.open_array(str(store), path=f"{matrix}/indptr", mode="r")[piece.start : piece.stop + 1])


def inside(piece: Piece, first: int, layout: ShardLayout) -> slice:
    """Which of the entries of a piece's cells lie in its shard, if the first of them is the matrix's `first`."""
    return slice(max(piece.shard * layout.shard - first, 0), (piece.shard + 1) * layout.shard - first)


def shard_bytes(values: NDArray[Any], layout: ShardLayout) -> bytes:
    """A shard: its last chunk is filled up with zeros, chunks beyond it are left out."""
    chunks: list[bytes | None] = [None] * (layout.shard // layout.chunk)
    for number, at in enumerate(range(0, values.size, layout.chunk)):
        chunk = values[at : at + layout.chunk]
        chunks[number] = CODEC.encode(np.pad(chunk, (0, layout.chunk - chunk.size)))
    return join_chunks(chunks)


def shard_path(store: Path, matrix: str, part: str, shard: int) -> Path:
    """The file that holds a shard of an array."""
    return store / matrix / part / "c" / str(shard)


def write_annotations(path: Path, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any]) -> zarr.Group:
    """Begin a store with everything but its matrices.

    Raises
    ------
    InputError
        An annotation cannot be stored.
    """
    # A group of format 3 makes write_elem write format 3; anndata's own default is still 2.
    root = zarr.open_group(str(path), mode="w-", zarr_format=3)
    try:
        annotated = AnnData(obs=storable(obs, "cells")[0], var=storable(var, "genes")[0], uns=uns)
        with anndata.settings.override(allow_write_nullable_strings=False):  # text as anndata 0.12 writes it
            write_elem(root, "/", annotated, dataset_kwargs={"shards": None})
    except OSError:
        raise
    except Exception as e:  # anndata raises half a dozen unrelated classes for a column it cannot store
        reason = "; ".join([*str(e).splitlines()[:1], *getattr(e, "__notes__", [])])
        raise InputError(
            f"an annotation cannot be stored ({reason}): drop or rename that column, or make it text"
        ) from e
    return root


def write_expression(adata: AnnData, path: Path) -> None:
    """Write X, `layers["counts"]` where it is there, obs, var and uns as expression store, at once.

    Raises
    ------
    InputError
        An annotation cannot be stored.
    """
    root = write_annotations(path, adata.obs, adata.var, dict(adata.uns))
    held = {"X": adata.X} | ({"layers/counts": adata.layers["counts"]} if "counts" in adata.layers else {})
    for name, matrix in held.items():
        _write_matrix(root, path, name, sparse.csr_matrix(matrix))


def _write_matrix(root: zarr.Group, path: Path, name: str, matrix: sparse.csr_matrix) -> None:
    layout = lay_out(matrix.nnz, CHUNK_ENTRIES, SHARD_ENTRIES, (name,))
    create_matrices(root, matrix.shape, matrix.indptr.astype(np.int64), layout)
    for part, values in (("data", matrix.data), ("indices", matrix.indices)):
        zarr.open_array(str(path), path=f"{name}/{part}", mode="r+")[:] = values
