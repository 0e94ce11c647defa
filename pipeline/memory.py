"""What a task may hold: planned before it starts, so that no worker is killed for it. Pure.

A task's memory follows from the worker's limit and never from the number of cells: a matrix is encoded a block of cells
at a time, and cells that do not fit together are counted slab by slab.
"""

import math
from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.histogram import BLOCK_GENES, MAX_SLAB_CELLS
from pipeline.spec import CODES_CELLS, Binning

WORKER_BASE_BYTES = 400_000_000  # an idle worker: Python, numpy, numba, zarr, distributed
USED_SHARE = 0.75  # of a worker's limit: at 80 % Dask pauses it
UNLIMITED_BYTES = 2**32  # what a task takes where nobody limits it

# Counting
ENTRY_BYTES = 12  # of one expressed entry of a block: 5 as listed, 5 in the joined list, 2 in the layout
GENES_AT_ONCE = 64  # genes a of a tile that are held together; an explicit list may pair a block with thousands of them
CELL_BYTES = 4 + 2 * 32  # of one cell of a slab: its place in the layout, and a chunk of 32 genes as it is unpacked

# Encoding
CSR_BYTES = 8  # an entry as float32 value and int32 gene
SORTED_BYTES = 6  # an entry in the lists by gene: float32 value, uint16 cell
SHARD_BYTES = 4  # an entry in a compressed shard, upper end of what is measured at 5 % and 14 % non-zero
CHUNK_BYTES = 32 * CODES_CELLS  # dense codes that are compressed together

# Ingesting
SOURCE_BYTES = 16 + 2 * CSR_BYTES  # an entry as it lies in the source, as float32 CSR, and mended
NORMALISED_BYTES = 3 * CSR_BYTES  # an entry as it is read, as scanpy's copy, and as it is cut to the genes stored
STORED_BYTES = 4 * SHARD_BYTES  # an entry in the shards of data and indices, and as they are read back


@dataclass(frozen=True)
class Portion:
    """How much a worker takes at once, so that it stays within its memory. It changes no byte of the result.

    Attributes
    ----------
    cells
        Counted in one go; a matrix of more cells is counted slab by slab.
    shards
        Counted together: one, unless there are several slabs, which are then read once for all of these shards.
    cache_bytes
        Of genes kept for the tiles to come.
    task_bytes
        Memory that a task needs on top of the idle worker, at most.
    """

    cells: int
    shards: int
    cache_bytes: int
    task_bytes: int


def portion(binning: Binning, n_cells: int, density: float, limit: int | None, beside: int = 0) -> Portion:
    """How much a worker takes at once under its limit.

    Parameters
    ----------
    density
        Expressed share of the densest block of genes; 1 where it is not known yet.
    limit
        Bytes that one thread of a worker may use; None: no limit.
    beside
        Bytes that a task needs for something else than counting.

    Raises
    ------
    InputError
        Not even the smallest portion fits: names the limit to raise and to what.
    """
    shard = binning.shard_pairs * binning.bins**2 * 4
    # Counted; compressed, waiting for the disk; counters.
    fixed = shard + shard // 4 + BLOCK_GENES * binning.bins**2 * 4 + beside
    cell = (BLOCK_GENES + GENES_AT_ONCE) * density * ENTRY_BYTES + CELL_BYTES
    most = min(n_cells, MAX_SLAB_CELLS)
    free = _usable("a task", fixed + int(min(most, CODES_CELLS) * cell), limit) - fixed
    if free >= most * cell and most == n_cells:  # all cells in one go; the rest keeps genes that were read
        cache = free - int(most * cell)
        return Portion(most, 1, cache, fixed + free)
    # Slab by slab: half of the room for the slab, half for the shards that share it.
    cells = max(min(most, int(free / 2 / cell)) // CODES_CELLS, 1) * CODES_CELLS
    each = shard + shard // 4
    more = max(free - int(cells * cell), 0) // each
    return Portion(cells, 1 + more, 0, fixed + int(cells * cell) + more * each)


def encode_bytes(n_genes: int, entries: int, binning: Binning, entry_bytes: int = CSR_BYTES) -> int:
    """Memory of one task, survey or encoding, on top of the idle worker, at most.

    Parameters
    ----------
    entries
        Expressed entries of the fullest block of cells.
    entry_bytes
        Of an entry as it lies on disk, value and index: 8 for float32 and int32, 16 for float64 and int64.
    """
    reading = entries * (entry_bytes + 2 * CSR_BYTES)  # as read, as float32, and mended where it is not canonical
    sorting = entries * (2 * CSR_BYTES + SORTED_BYTES)  # parts and whole of selected cells, lists by gene
    writing = entries * (SORTED_BYTES + 3 * SHARD_BYTES)  # lists, chunks, shard, and the shard as read back
    per_gene = n_genes * (4 * (binning.bins + 1) + 64)
    return max(reading, sorting, writing) + per_gene + 2 * CHUNK_BYTES


def require_encode_memory(need: int, limit: int | None) -> None:
    """Refuse an encoding job whose tasks would not fit into a worker.

    Parameters
    ----------
    need
        Bytes of a task, as `encode_bytes`, and what the worker keeps of the matrix between tasks.
    limit
        Bytes of the smallest worker; None: no limit.

    Raises
    ------
    InputError
        Naming the limit to raise and to what.
    """
    _usable(f"encoding a block of {CODES_CELLS:,} cells", need, limit)


def ingest_bytes(n_genes: int, entries: int) -> int:
    """Memory of one task of an ingest, scan or shard, on top of the idle worker, at most.

    Parameters
    ----------
    entries
        Of the fullest block of cells, or of a shard.
    """
    return entries * (SOURCE_BYTES + NORMALISED_BYTES + STORED_BYTES) + 512 * n_genes


def require_ingest_memory(need: int, limit: int | None) -> None:
    """Refuse an ingest whose tasks would not fit into a worker.

    Parameters
    ----------
    need
        Bytes of a task, as `ingest_bytes`.
    limit
        Bytes of the smallest worker; None: no limit.

    Raises
    ------
    InputError
        Naming the limit to raise and to what.
    """
    _usable("ingesting a block of cells", need, limit)


def require_scoring_memory(need: int, limit: int | None) -> None:
    """Refuse to score an image store with workers that cannot hold the network and its images.

    Parameters
    ----------
    need
        Bytes of a task on top of the idle worker.
    limit
        Bytes of the smallest worker; None: no limit.

    Raises
    ------
    InputError
        Naming the limit to raise and to what.
    """
    _usable("scoring images", need, limit)


def _usable(what: str, need: int, limit: int | None) -> int:
    """Bytes for a task beside the idle worker, at least as many as it needs."""
    if limit is None:
        return max(need, UNLIMITED_BYTES)
    usable = int(USED_SHARE * limit) - WORKER_BASE_BYTES
    if usable < need:
        # Rounded apart: nobody is told that 0.5 GB is too little for 0.5 GB, or refused again after doing as told.
        enough, given = math.ceil((need + WORKER_BASE_BYTES) / USED_SHARE / 1e8) / 10, math.floor(limit / 1e8) / 10
        raise InputError(
            f"{what} needs {enough:.1f} GB of memory and each worker has {given:.1f} GB: it would be killed; "
            f"give --memory-limit {enough:.1f}GB or more with fewer --workers."
        )
    return usable
