"""Plan what a counting task holds in memory, so that no worker is killed for it. Pure.

A task's memory follows from the worker's limit and never from the number of cells: a matrix is encoded a block of cells
at a time, and cells that do not fit together are counted slab by slab.
"""

from dataclasses import dataclass

from pairscape.pipeline.compute.memory import require_memory
from pairscape.pipeline.heatmaps.kernel import BLOCK_GENES, MAX_SLAB_CELLS
from pairscape.pipeline.options import CODES_CELLS, Binning

# Counting
ENTRY_BYTES = 12  # of one expressed entry of a block: 5 as listed, 5 in the joined list, 2 in the layout
KEPT_ENTRY_BYTES = 5  # of a gene's expressed cell: its number and its code
GENES_AT_ONCE = 64  # genes a of a tile that are held together; an explicit list may pair a block with thousands of them
GROUPED_BYTES = 6  # of any cell, where there are groups: its group, and its place among the group's cells
CELL_BYTES = 4 + 2 * 32  # of one cell of a slab: its place in the layout, and a chunk of 32 genes as it is unpacked


@dataclass(frozen=True)
class Portion:
    """How much a worker takes at once, so that it stays within its memory. It changes no byte of the result.

    Attributes
    ----------
    cells
        Counted in one go; a matrix of more cells is counted slab by slab.
    shards
        Counted together: one, unless there are several slabs, which are then read once for all of these shards.
    groups
        Of cells, counted together: one, unless there are several slabs, which are then read once for all of these.
    cache_bytes
        Of genes kept for the tiles to come.
    task_bytes
        Memory that a task needs on top of the idle worker, at most.
    """

    cells: int
    shards: int
    cache_bytes: int
    task_bytes: int
    groups: int = 1

    def keeps(self, entries: float) -> bool:
        """Whether a worker can keep all genes, which together are expressed so often."""
        return self.cache_bytes >= KEPT_ENTRY_BYTES * entries

    def taken_bytes(self, entries: float) -> int:
        """What a task takes of `task_bytes`, where all genes together are expressed so often: it keeps no more."""
        return self.task_bytes - self.cache_bytes + min(self.cache_bytes, int(entries * KEPT_ENTRY_BYTES))


def portion(
    binning: Binning, n_cells: int, density: float, limit: int | None, beside: int = 0, groups: int = 1
) -> Portion:
    """How much a worker takes at once under its limit.

    Parameters
    ----------
    density
        Expressed share of the densest block of genes; 1 where it is not known yet.
    limit
        Bytes that one thread of a worker may use; None: no limit.
    beside
        Bytes that a task needs for something else than counting.
    groups
        Of cells, each of which has its own images.

    Raises
    ------
    InputError
        Not even the smallest portion fits: names the limit to raise and to what.
    """
    shard = binning.shard_pairs * binning.bins**2 * 4
    # Counted; compressed, waiting for the disk; counters.
    fixed = shard + shard // 4 + BLOCK_GENES * binning.bins**2 * 4 + beside + (GROUPED_BYTES * n_cells) * (groups > 1)
    cell = (BLOCK_GENES + GENES_AT_ONCE) * density * ENTRY_BYTES + CELL_BYTES
    most = min(n_cells, MAX_SLAB_CELLS)
    free = require_memory("a task", fixed + int(min(most, CODES_CELLS) * cell), limit) - fixed
    if free >= most * cell and most == n_cells:  # all cells in one go; the rest keeps genes that were read
        cache = free - int(most * cell)
        return Portion(most, 1, cache, fixed + free)
    # Slab by slab: half of the room for the slab, half for the shards that share it.
    cells = max(min(most, int(free / 2 / cell)) // CODES_CELLS, 1) * CODES_CELLS
    each = shard + shard // 4
    more = max(free - int(cells * cell), 0) // each
    together = min(groups, 1 + more)
    return Portion(cells, (1 + more) // together, 0, fixed + int(cells * cell) + more * each, together)
