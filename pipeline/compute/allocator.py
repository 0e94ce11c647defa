"""Keep freed memory in the process, for the next chunk, which needs as much again.

Dask starts its workers with an allocator that returns every freed megabyte to the system at once. Compressing a chunk
takes and frees a few megabytes, and the system clears each page anew, which takes as long as compressing
(`python -m benchmarks.codecs` prints it). Dask could set the same by the environment of the workers that it starts, but
not for workers that others started, for threads, nor for this process; this call reaches all of them.
"""

import ctypes
from functools import lru_cache

KEPT_BYTES = 2**26  # freed memory that stays with the process, in each thread's heap
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # parameters of glibc's mallopt
LARGEST_MMAP_THRESHOLD = 2**25  # what glibc allows: larger pieces always come from the system


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Set it once a process; False where the C library has no such setting, which costs time and nothing else."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl, Windows
        return False
    settings = ((TRIM_THRESHOLD, KEPT_BYTES), (TOP_PAD, KEPT_BYTES // 4), (MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD))
    return [mallopt(parameter, value) for parameter, value in settings] == [1, 1, 1]
