"""What a task of the encoding job needs in memory, known before it starts. Pure.

A task holds one block of cells, so its memory follows from the block's entries and not from the number of cells.
"""

import math

from pipeline.errors import InputError
from pipeline.spec import CODES_CELLS, Binning
from pipeline.tiles import WORKER_BASE_BYTES

CSR_BYTES = 8  # an entry as float32 value and int32 gene
SORTED_BYTES = 6  # an entry in the lists by gene: float32 value, uint16 cell
SHARD_BYTES = 4  # an entry in a compressed shard, upper end of what is measured at 5 % and 14 % non-zero
CHUNK_BYTES = 32 * CODES_CELLS  # dense codes that are compressed together


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
    need += WORKER_BASE_BYTES
    if limit is not None and need > limit:
        enough, given = math.ceil(need / 1e8) / 10, math.floor(limit / 1e8) / 10
        raise InputError(
            f"encoding a block of {CODES_CELLS:,} cells needs {enough:.1f} GB of memory and each worker has "
            f"{given:.1f} GB: it would be killed; give --memory-limit {enough:.1f}GB or more with fewer --workers."
        )
