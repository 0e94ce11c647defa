"""The simulation job: an atlas of any size as expression store, out of core, in two passes over Dask.

The first pass counts the genes that each cell expresses, which says where each cell's entries lie. In the second, a
task writes one shard of every big array: it draws the cells that reach into it once more, and cuts at the shard's ends.
Drawing twice is cheaper than keeping what was drawn, and a shard has one writer.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from anndata.io import write_elem
from numpy.typing import NDArray

from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.compute.tasks import run_tasks
from pairscape.pipeline.datasets.designs import Atlas
from pairscape.pipeline.datasets.synthetic import (
    bursts_per_cell,
    cell_counts,
    draw_cells,
    entries_per_cell,
    log_normalised,
    tables,
)
from pairscape.pipeline.errors import JobError, first_line
from pairscape.pipeline.matrix.store import (
    CHUNK_ENTRIES,
    SHARD_ENTRIES,
    Piece,
    ShardLayout,
    create_matrices,
    inside,
    lay_out,
    piece_pointers,
    pieces,
    shard_bytes,
    shard_path,
)
from pairscape.pipeline.storage.ownership import check_target, mark_expression
from pairscape.pipeline.storage.write import replaced, write_file, writing

BLOCK_CELLS = 8192  # cells of one task of the first pass


@dataclass(frozen=True)
class SimulatedAtlas:
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
    session: Session,
    *,
    counts: bool = True,
    overwrite: bool = False,
) -> SimulatedAtlas:
    """Write a simulated atlas as expression store; it appears under its name only when it is complete.

    Memory is bounded: a task holds one shard, this process 12 bytes a cell and the cells' names.

    Parameters
    ----------
    counts
        Keep the raw counts as layers["counts"] too.
    overwrite
        Replace the Zarr store at target, once the new one is complete.

    Raises
    ------
    InputError
        The target may not be written.
    JobError
        The disk refuses, or a task fails for good.
    """
    target = target.absolute()  # workers have other working folders
    check_target(target, overwrite=overwrite)
    with writing(target), replaced(target) as store:
        bursts = bursts_per_cell(atlas)
        indptr = _count_entries(atlas, bursts, session)
        layout = _lay_out(store, atlas, indptr, counts=counts)
        session.progress.start("writing entries", int(indptr[-1]))
        tasks = pieces(indptr, layout.shard)
        for _, written in _finished(session, write_piece, tasks, str(store), atlas, bursts, layout):
            session.progress.advance(written)
        mark_expression(store)
        size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    return SimulatedAtlas(atlas.cells, atlas.genes, int(indptr[-1]), size)


def _finished(session: Session, function: Any, tasks: Any, *common: Any) -> Iterator[Any]:
    """Results of tasks; unlike other jobs, a failed one keeps nothing, and says so."""
    try:
        yield from run_tasks(session, function, tasks, *common)
    except JobError as error:
        cause = error.__cause__ or error
        raise JobError(
            f"the atlas is not made and nothing of it is kept, as a task failed with {type(cause).__name__}: "
            f"{first_line(cause)}; remove the cause and run the same again"
        ) from cause


def _count_entries(atlas: Atlas, bursts: float, session: Session) -> NDArray[np.int64]:
    """Where each cell's entries begin in the matrix: (cells + 1,)."""
    indptr = np.zeros(atlas.cells + 1, np.int64)
    blocks = [(start, min(start + BLOCK_CELLS, atlas.cells)) for start in range(0, atlas.cells, BLOCK_CELLS)]
    session.progress.start("counting entries", atlas.cells)
    for (start, stop), entries in _finished(session, count_block, blocks, atlas, bursts):
        indptr[start + 1 : stop + 1] = entries
        session.progress.advance(stop - start)
    return np.cumsum(indptr, out=indptr)


def count_block(atlas: Atlas, bursts: float, block: tuple[int, int]) -> NDArray[np.int32]:
    """Genes that each cell of a block expresses, (N,) int32. Runs on a worker."""
    return entries_per_cell(atlas, bursts, *block)


def _lay_out(store: Path, atlas: Atlas, indptr: NDArray[np.int64], *, counts: bool) -> ShardLayout:
    """Everything but the entries."""
    root = zarr.open_group(str(store), mode="w-", zarr_format=3)
    write_elem(root, "/", _annotations(atlas, counts=counts), dataset_kwargs={"shards": None})
    matrices = ("X", "layers/counts") if counts else ("X",)
    layout = lay_out(int(indptr[-1]), CHUNK_ENTRIES, SHARD_ENTRIES, matrices)
    create_matrices(root, (atlas.cells, atlas.genes), indptr, layout)
    return layout


def _annotations(atlas: Atlas, *, counts: bool) -> AnnData:
    """The truth that was planted: the type of each cell, the module of each gene or the type that it marks."""
    types = pd.array([f"type {k + 1}" for k in range(atlas.types)], dtype=object)
    kind = draw_cells(atlas, np.arange(atlas.cells)).kind
    genes = tables(atlas)
    program, modules = genes.program_of(), genes.start.size - 1 - atlas.types
    names = [*types, *(f"module {m + 1}" for m in range(modules))]
    marks = np.where(program < atlas.types, program, -1)
    module = np.where(program >= atlas.types, program - atlas.types, -1)
    obs = pd.DataFrame({"cell_type": pd.Categorical.from_codes(kind, types)}, index=_numbered("cell", atlas.cells))
    var = pd.DataFrame(
        {
            "marks": pd.Categorical.from_codes(marks, types),
            "module": pd.Categorical.from_codes(module, names[atlas.types :]),
        },
        index=_numbered("GENE", atlas.genes),
    )
    did = {"source": "simulated", "preset": "scanpy", "orientation": "cells-by-genes", "orientation_from": "format"}
    return AnnData(obs=obs, var=var, uns={"pairscape": {**did, "simulated": asdict(atlas), "counts": counts}})


def _numbered(name: str, n: int) -> pd.Index:
    return pd.Index([f"{name}{i:0{len(str(n - 1))}}" for i in range(n)], dtype=object)


def write_piece(store: str, atlas: Atlas, bursts: float, layout: ShardLayout, piece: Piece) -> int:
    """Write one shard of every big array; returns its entries. Runs on a worker, any number of times.

    Raises
    ------
    JobError
        This worker draws other cells than the one that counted them.
    """
    bounds = piece_pointers(Path(store), "X", piece)
    held = inside(piece, int(bounds[0]), layout)
    indptr = bounds - bounds[0]
    try:
        genes, molecules = cell_counts(atlas, bursts, piece.start, indptr)
    except ValueError as error:
        raise JobError(f"{error}; give all workers the same versions of Python's packages") from error
    _write_shard(store, layout, piece.shard, "indices", genes[held], layout.matrices)
    _write_shard(store, layout, piece.shard, "data", log_normalised(molecules, indptr)[held], ("X",))
    _write_shard(store, layout, piece.shard, "data", molecules[held], layout.matrices[1:])
    return int(genes[held].size)


def _write_shard(
    store: str, layout: ShardLayout, shard: int, part: str, values: NDArray[Any], matrices: tuple[str, ...]
) -> None:
    """Compress once, write for each matrix."""
    content = shard_bytes(values, layout) if matrices else b""
    for name in matrices:
        write_file(shard_path(Path(store), name, part, shard), content)
