"""The simulation job: an atlas of any size as expression store, out of core, in two passes over Dask.

The first pass counts the genes that each cell expresses, which says where each cell's entries lie. In the second, a task
writes one shard of every big array: it draws the cells that reach into its shard, again, and cuts at the shard's ends.
Drawing twice is cheaper than keeping what was drawn, and a shard has one writer.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from anndata.io import write_elem
from distributed import Client
from numpy.typing import NDArray

from pipeline.errors import JobError
from pipeline.fanout import Usage, run_tasks
from pipeline.progress import Progress
from pipeline.publish import check_target, published
from pipeline.shards import ChunkCodec, join_chunks, write_file
from pipeline.spec import Atlas
from pipeline.synthetic import bursts_per_cell, cell_counts, draw_cells, entries_per_cell, log_normalised, tables

CODEC = ChunkCodec("zstd", 3, "bitshuffle")
CHUNK_ENTRIES = 2**16  # as `pipeline.ingest` has them
SHARD_ENTRIES = 2**22  # 16 MiB an array: a task stays small, an atlas of 1e9 entries has hundreds of files
BLOCK_CELLS = 8192  # cells of one task of the first pass


@dataclass(frozen=True)
class Layout:
    """How the entries of the matrix lie on disk.

    Attributes
    ----------
    chunk, shard
        Entries in one of each; a shard is whole chunks.
    matrices
        Groups that hold a matrix: X, and the layer of counts if it is kept.
    """

    chunk: int
    shard: int
    matrices: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """One task of the second pass.

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


@dataclass(frozen=True)
class Outcome:
    """What was simulated.

    Attributes
    ----------
    cells, genes, entries
        Shape, and values above zero.
    size
        Bytes on disk.
    """

    cells: int
    genes: int
    entries: int
    size: int

    def line(self) -> str:
        """The same to print."""
        density = self.entries / self.cells / self.genes
        return (
            f"{self.cells:,} cells × {self.genes:,} genes, {self.entries:,} values above zero ({density:.2%}), "
            f"{self.size / 1e6:,.1f} MB"
        )


def simulate_atlas(
    atlas: Atlas,
    target: Path,
    client: Client | None,
    progress: Progress,
    *,
    counts: bool = True,
    overwrite: bool = False,
    usage: Usage | None = None,
) -> Outcome:
    """Write a simulated atlas as expression store; it appears under its name only when it is complete.

    Memory is bounded: a task holds one shard, this process 12 bytes a cell and the cells' names.

    Parameters
    ----------
    counts
        Keep the raw counts as layers["counts"] too.
    overwrite
        Replace the Zarr store at target, once the new one is complete.
    usage
        Takes in what the workers measured of themselves.

    Raises
    ------
    InputError
        As `pipeline.publish.check_target`.
    JobError
        The disk refuses, or a task fails for good.
    """
    target = target.absolute()  # workers have other working folders
    check_target(target, overwrite=overwrite)
    try:
        with published(target) as store:
            bursts = bursts_per_cell(atlas)
            indptr = _indptr(atlas, bursts, client, progress, usage)
            layout = _lay_out(store, atlas, indptr, counts=counts)
            progress.start("writing cells", atlas.cells)
            tasks = _pieces(indptr, layout.shard)
            for piece, _ in run_tasks(client, write_piece, tasks, str(store), atlas, bursts, layout, usage=usage):
                progress.advance(_begun(indptr, layout.shard, piece))
            size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    except JobError as error:
        if error.__cause__ is None or isinstance(error.__cause__, OSError):
            raise
        cause = error.__cause__
        reason = next(iter(str(cause).splitlines()), "")
        raise JobError(f"{target} is not made, a task failed with {type(cause).__name__}: {reason}; run it again") from error
    return Outcome(atlas.cells, atlas.genes, int(indptr[-1]), size)
