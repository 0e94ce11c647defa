"""The code store: one byte a gene and cell, gene-major, so that a task reads its genes over all cells in a few slices.

Layout (Zarr v3): `codes` uint8 (gene, cell), 0 = not expressed, k = bin k − 1; `edges` float32 (gene, bins + 1);
`cell` int64 (cell), the row of the matrix that each counted cell is; statistics of each gene; `gene` names. A chunk is
32 genes × one block of cells, a shard is all genes × that block: one task writes one shard.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pairscape.pipeline.codes.cache import nearby
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.options import CODES_CELLS, Binning
from pairscape.pipeline.storage.chunks import ChunkCodec, join_chunks, read_chunks
from pairscape.pipeline.storage.codecs import open_array_to_read
from pairscape.pipeline.storage.digests import Described, describe, described_shards, digest, has_layout
from pairscape.pipeline.storage.paths import is_remote, located, root_attributes, stamp_of
from pairscape.pipeline.storage.receipts import write_checked
from pairscape.pipeline.storage.write import write_file

if TYPE_CHECKING:  # whoever reads a store does without numba and scipy
    from scipy.sparse import csc_matrix

    from pairscape.pipeline.codes.binning import GeneStatistics

FORMAT, FORMAT_VERSION = "pairscape-codes", 1
FREE = ("provenance",)  # where the matrix lies does not change what the codes say
CHUNK_GENES = 32
ROUNDING = 2.0**-23  # of the share of cells that the store keeps as float32
CODEC = ChunkCodec("lz4", 5, "noshuffle")  # twice zstd's size, but decodes 2.4 to 3.2 times as fast


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
        Where it lies; a URL is read through a copy on this host's disk, see `pairscape.pipeline.codes.cache`.
    content_hash
        What it holds, see `codes_hash`.
    binning
        Rule and number of bins.
    n_genes, n_cells
        Shape of the codes.
    provenance
        Which matrix they were made from: its place, content hash and fingerprint.
    """

    path: str
    content_hash: str
    binning: Binning
    n_genes: int
    n_cells: int
    provenance: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def array(self, name: str) -> NDArray[Any]:
        """One of the small arrays, whole: `edges`, `cell`, `gene`, `mean`, `variance`, `dropout`."""
        return np.asarray(_array(self.path, self.content_hash, name)[:])

    @property
    def n_entries(self) -> float:
        """Expressed entries of all genes together."""
        return float((1 - self.array("dropout").astype(np.float64)).sum()) * self.n_cells

    def read(self, genes: NDArray[np.int64], cells: slice) -> NDArray[np.uint8]:
        """Codes of some genes over a range of cells: (G, N) uint8, read from disk chunk by chunk.

        Raises
        ------
        JobError
            A chunk is damaged.
        """
        width = _array(self.path, self.content_hash, "codes").chunks[1]
        out = np.empty((genes.size, cells.stop - cells.start), np.uint8)
        dense = np.empty((CHUNK_GENES, width), np.uint8)
        for block in range(cells.start // width, -(-cells.stop // width)):
            at = block * width - cells.start
            inside = slice(max(at, 0), min(at + width, out.shape[1]))
            self._read_block(block, genes, slice(inside.start - at, inside.stop - at), dense, out[:, inside])
        return out

    def _read_block(
        self, block: int, genes: NDArray[np.int64], cells: slice, dense: NDArray[np.uint8], out: NDArray[np.uint8]
    ) -> None:
        """Codes of some genes over some cells of a block; a chunk is unpacked whole into `dense`, its rows picked."""
        chunks, folder = np.unique(genes // CHUNK_GENES), nearby(self.path, self.content_hash)
        file = folder / block_file(block)
        stamp = stamp_of(str(file)) if file.exists() else None
        try:
            _require_described(self.path, self.content_hash, block, file, stamp)
            for chunk, content in zip(chunks, read_chunks(file, _gene_chunks(self.n_genes), chunks), strict=True):
                rows = genes // CHUNK_GENES == chunk
                if content is None:
                    out[rows] = 0
                else:
                    CODEC.decode(content, dense)
                    out[rows] = dense[_as_slice(genes[rows] - chunk * CHUNK_GENES), cells]
        except ValueError as error:
            remedy = f"run `pairscape verify {self.path} --repair`, or delete it: it will be made again"
            if is_remote(self.path):
                remedy = f"delete {folder}: it will be fetched again"
            raise JobError(f"{file} is damaged ({error}); {remedy}.") from error


def _as_slice(rows: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Rows as a slice if they follow each other: what a slice picks is not copied."""
    return slice(rows[0], rows[-1] + 1) if (np.diff(rows) == 1).all() else rows


def require_complete(codes: Codes, gene: int, dropout: float, expressed: int) -> None:
    """Refuse a gene that is not expressed in as many cells as when it was encoded: a lost file would read as zeros.

    Parameters
    ----------
    dropout
        Share of cells that do not express it, by the store.
    expressed
        Cells that do, as read.

    Raises
    ------
    JobError
        They differ.
    """
    expected = round((1 - dropout) * codes.n_cells)
    if abs(expressed - expected) > 0.5 + ROUNDING * codes.n_cells:
        raise JobError(
            f"{codes.path}: gene {gene} is expressed in {expressed:,} cells, not in {expected:,} as it was: codes are "
            "lost; delete the store, it will be made again."
        )


@lru_cache(maxsize=2**14)
def _require_described(path: str, content_hash: str, block: int, file: Path, stamp: tuple[int, int] | None) -> None:
    """Compare a block with the store's record, once a process and whenever its file changes.

    The checksum of a chunk does not tell it from the chunk of another matrix.

    Raises
    ------
    ValueError
        It is another one.
    """
    described = _record(path, content_hash)
    content = None if stamp is None else file.read_bytes()
    if described is not None and (content and describe(content)) != described.get(block_file(block)):
        raise ValueError("its bytes are not those that were written there")


@lru_cache(maxsize=8)
def _record(path: str, content_hash: str) -> Described | None:
    """Size and sha256 of each block; None of a store of an earlier version, which has no record."""
    return described_shards(located(path)) if has_layout(located(path)) else None


@lru_cache(maxsize=32)
def _array(path: str, content_hash: str, name: str) -> zarr.Array[Any]:
    """Opened once per process and content: the same path may hold other codes later, the same hash may not."""
    return open_array_to_read(path, name)


def block_cells(number: int) -> slice:
    """Cells of a block; the last block may have fewer than the slice says."""
    return slice(number * CODES_CELLS, (number + 1) * CODES_CELLS)


def cell_blocks(n_cells: int) -> list[slice]:
    """Blocks of cells that are encoded by one task each."""
    return [slice(i, min(i + CODES_CELLS, n_cells)) for i in range(0, n_cells, CODES_CELLS)]


def create_codes(path: Path, genes: Sequence[str], cells: NDArray[np.int64]) -> None:
    """Lay out what is known of a code store before the matrix has been read; `add_edges` completes it.

    Parameters
    ----------
    cells : (N,) int64
        Rows of the matrix that are counted, ascending.
    """
    block = min(CODES_CELLS, cells.size)
    root = zarr.create_group(str(path), zarr_format=3)
    root.create_array(
        "codes",
        shape=(len(genes), cells.size),
        chunks=(CHUNK_GENES, block),
        shards=(_gene_chunks(len(genes)) * CHUNK_GENES, block),
        dtype="uint8",
        fill_value=0,
        compressors=CODEC.compressors(),
        dimension_names=("gene", "cell"),
    )
    root.create_array("cell", data=cells, chunks=(block,), dimension_names=("cell",))
    root.create_array("gene", data=np.asarray(genes, np.dtypes.StringDType()), dimension_names=("gene",))


def add_edges(
    path: Path,
    content_hash: str,
    binning: Binning,
    edges: NDArray[np.float32],
    statistics: "GeneStatistics",
    provenance: dict[str, Any],
) -> None:
    """Complete the layout with what the survey told; the codes follow block by block.

    Parameters
    ----------
    edges : (G, bins + 1) float32
    provenance
        Where the matrix lies and what it holds, kept as attributes.
    """
    root = zarr.open_group(str(path), mode="r+")
    root.create_array("edges", data=edges, dimension_names=("gene", "edge"))
    for name in ("mean", "variance", "dropout"):
        root.create_array(name, data=getattr(statistics, name), dimension_names=("gene",))
    facts = {"format": FORMAT, "format_version": FORMAT_VERSION, "content_hash": content_hash, **asdict(binning)}
    root.attrs.update({**facts, "provenance": provenance})


def counted_cells(path: str, some: slice = slice(None)) -> NDArray[np.int64]:
    """Rows of the matrix that all or some cells of a store, also of one being made, are."""
    return np.asarray(zarr.open_array(path, path="cell", mode="r")[some])


def write_block(path: str, expression: "csc_matrix", number: int) -> list[Any]:
    """Encode a block of cells, write its shard and read it back; returns its size and sha256.

    Chunk by chunk: dense codes of 32 genes are all that is ever laid out.

    Parameters
    ----------
    expression : (N, G) float32
        Of the block's cells, gene by gene.
    number
        Of the block among `cell_blocks`.

    Raises
    ------
    JobError
        The file does not hold what was written.
    """
    edges = np.asarray(zarr.open_array(path, path="edges", mode="r")[:])
    width = zarr.open_array(path, path="codes", mode="r").chunks[1]
    content = join_chunks(_encoded_chunks(expression, edges, width))
    file = located(path) / "codes" / "c" / "0" / str(number)
    write_checked(file, content)
    return describe(content)


def block_file(number: int) -> str:
    """The file of a block within the store."""
    return f"codes/c/0/{number}"


def _encoded_chunks(expression: "csc_matrix", edges: NDArray[np.float32], width: int) -> Iterator[bytes | None]:
    from pairscape.pipeline.codes.binning import fill_codes  # which whoever reads a store does without

    dense = np.empty((CHUNK_GENES, width), np.uint8)
    for chunk in range(_gene_chunks(expression.shape[1])):
        fill_codes(expression, slice(chunk * CHUNK_GENES, (chunk + 1) * CHUNK_GENES), edges, dense)
        yield CODEC.encode(dense)


def _gene_chunks(n_genes: int) -> int:
    return -(-n_genes // CHUNK_GENES)


def open_codes(path: Path) -> Codes:
    """Open a published code store.

    Raises
    ------
    InputError
        Not a code store, or one of another version.
    """
    try:
        attrs = root_attributes(path)
        known = attrs["format"], attrs["format_version"]
    except InputError:  # the storage refuses
        raise
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a Pairscape code store; delete it, it will be made again.") from error
    if known != (FORMAT, FORMAT_VERSION):
        raise InputError(
            f"{path} has format {known[0]} version {known[1]}, this Pairscape reads {FORMAT} version {FORMAT_VERSION}; "
            "delete it, it will be made again."
        )
    shape = _array(str(path), attrs["content_hash"], "codes").shape
    binning = Binning(attrs["scale"], attrs["bins"])
    return Codes(str(path), attrs["content_hash"], binning, shape[0], shape[1], dict(attrs["provenance"]))


def set_provenance(codes: Codes, provenance: dict[str, Any]) -> Codes:
    """Note another place of the same matrix; replaced in one step, so that a reader never finds half of it."""
    file = located(codes.path) / "zarr.json"
    metadata = json.loads(file.read_text(encoding="utf-8"))
    metadata["attributes"]["provenance"] = provenance
    write_file(file, json.dumps(metadata, indent=2).encode())
    return replace(codes, provenance=provenance)
