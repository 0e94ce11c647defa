"""Memory of workers: what a task may hold, and the refusal where it does not fit."""

import math

from pairscape.pipeline.errors import InputError

WORKER_BASE_BYTES = 400_000_000  # an idle worker: Python, numpy, numba, zarr, distributed

USED_SHARE = 0.75  # of a worker's limit: at 80 % Dask pauses it

UNLIMITED_BYTES = 2**32  # what a task takes where nobody limits it

# Encoding
CSR_BYTES = 8  # an entry as float32 value and int32 gene

SHARD_BYTES = 4  # an entry in a compressed shard, upper end of what is measured at 5 % and 14 % non-zero


class SmallWorkersError(InputError):
    """A task does not fit into the memory of a worker.

    Attributes
    ----------
    enough
        Memory that a worker needs, as an option says it.
    remedy
        How its workers get more, which `open_client` knows. None: those of this machine have an option.
    """

    def __init__(self, fault: str, enough: str) -> None:
        super().__init__(fault)
        self.enough = enough
        self.remedy: str | None = None

    def __str__(self) -> str:
        return (
            f"{super().__str__()}; {self.remedy or f'give --memory-limit {self.enough} or more with fewer --workers'}."
        )


def require_memory(what: str, need: int, limit: int | None) -> int:
    """Bytes that a task may hold on top of the idle worker, at least as many as it needs.

    Parameters
    ----------
    what
        What needs the memory, at the beginning of a sentence.
    need
        Bytes of a task on top of the idle worker.
    limit
        Bytes of the smallest worker; None: no limit.

    Raises
    ------
    SmallWorkersError
        They do not fit: names the limit to raise and to what.
    """
    if limit is None:
        return max(need, UNLIMITED_BYTES)
    usable = int(USED_SHARE * limit) - WORKER_BASE_BYTES
    if usable < need:
        # Rounded apart: nobody is told that 0.5 GB is too little for 0.5 GB, or refused again after doing as told.
        enough, given = math.ceil((need + WORKER_BASE_BYTES) / USED_SHARE / 1e8) / 10, math.floor(limit / 1e8) / 10
        raise SmallWorkersError(
            f"{what} needs {enough:.1f} GB of memory and each worker has {given:.1f} GB: it would be killed",
            f"{enough:.1f}GB",
        )
    return usable
