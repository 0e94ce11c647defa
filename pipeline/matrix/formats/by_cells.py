"""Turn what is not stored by cells, in bounded memory: every entry goes once to the file of its block of cells.

A bucket is read, and sorted, when its cells are asked for. What a killed job has turned whole is found again.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from pairscape.pipeline.compute.progress import Progress
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.matrix.formats.hdf5_zarr import canonical_csr
from pairscape.pipeline.matrix.source import PART, Axis, Matrix, Part
from pairscape.pipeline.storage.receipts import Receipt, write_receipted

ENTRY = np.dtype([("cell", "<u4"), ("gene", "<u4"), ("value", "<f4")])
MOST_BUCKETS = 512  # files that a part is spread over: each takes some thousand entries of it


@dataclass(frozen=True)
class Buckets:
    """Blocks of cells on disk, a file each: entries in the order in which they came, cells counted within the block.

    Attributes
    ----------
    folder
        Absolute, for workers have other working folders.
    cells
        In a block; the last may have fewer.
    n_cells, n_genes
        Of the matrix.
    """

    folder: str
    cells: int
    n_cells: int
    n_genes: int

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """As `pipeline.matrix.sources.Reader.rows`."""
        blocks = range(start // self.cells, -(-stop // self.cells))
        parts = [self._block(block, start, stop) for block in blocks]
        if not parts:
            return sparse.csr_matrix((stop - start, self.n_genes), dtype=np.float32)
        return parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")

    def _block(self, block: int, start: int, stop: int) -> sparse.csr_matrix:
        """Those of the cells start..stop that are in the block."""
        first, path = block * self.cells, _path(self.folder, block)
        entries = np.fromfile(path, ENTRY) if path.exists() else np.zeros(0, ENTRY)
        low, high = max(start - first, 0), min(stop - first, self.cells, self.n_cells - first)
        if low or high < min(self.cells, self.n_cells - first):
            entries = entries[(entries["cell"] >= low) & (entries["cell"] < high)]
        places = entries["cell"].astype(np.int32) - low, entries["gene"].astype(np.int32)
        return canonical_csr(sparse.coo_matrix((entries["value"], places), shape=(high - low, self.n_genes)))


def turn(matrix: Matrix, cell_axis: Axis, folder: Path, progress: Progress, name: str) -> Buckets:
    """Spread the entries of a matrix over blocks of cells, or find what did so before.

    Parameters
    ----------
    cell_axis
        Which axis of the matrix is cells.
    folder
        Of this matrix alone; made if it is not there.
    name
        Of the source, for messages.

    Raises
    ------
    InputError
        The file is damaged.
    JobError
        The disk refuses.
    """
    n_cells, n_genes = matrix.shape[cell_axis], matrix.shape[1 - cell_axis]
    cells = max(-(-n_cells // MOST_BUCKETS), PART // max(n_genes, 1), 1)
    buckets = Buckets(str(folder.absolute()), cells, n_cells, n_genes)
    finished = Receipt(folder / "turned.json", {"cells": cells, "n_cells": n_cells, "n_genes": n_genes})
    if finished.is_valid():
        return buckets
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        progress.start("turning to cells", matrix.weight)
        for part in matrix.parts():
            _spread(part, cell_axis, buckets)
            progress.advance(part.weight)
        write_receipted(finished, {})
    except OSError as e:
        raise JobError(
            f"{name} cannot be turned to cells in {folder} ({e}): its entries need 12 bytes each there; free some space"
        ) from e
    return buckets


def _spread(part: Part, cell_axis: Axis, buckets: Buckets) -> None:
    """Append the entries to the files of their blocks."""
    of_cells, of_genes = (part.rows, part.columns) if cell_axis == 0 else (part.columns, part.rows)
    block, within = np.divmod(of_cells, buckets.cells)
    order = np.argsort(block.astype(np.uint16), kind="stable")
    entries = np.empty(order.size, ENTRY)
    entries["cell"], entries["gene"], entries["value"] = within[order], of_genes[order], part.values[order]
    blocks, starts = np.unique(block[order], return_index=True)
    for number, own in zip(blocks.tolist(), np.split(entries, starts[1:]), strict=True):
        with _path(buckets.folder, number).open("ab") as file:
            file.write(own.tobytes())


def _path(folder: str, block: int) -> Path:
    return Path(folder, f"{block}.entries")
