"""The raw counts of the cells that a store of images was counted from, for statistics that need the cells themselves.

The codes say which cells those are, under replicate labels the image half, and where their matrix lies; of a store
with groups of cells, the store says which of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.heatmaps.images import Images, encoded_cells
from pairscape.pipeline.matrix.expression import open_counts, whole_depth
from pairscape.pipeline.storage.paths import fingerprint, located

MOST_CELLS = 20_000  # standard error of a correlation 0.007; some hundred MB of an atlas
READ_CELLS = 4096  # at once


@dataclass(frozen=True, eq=False)
class CellCounts:
    """Raw counts of the counted cells, or of `MOST_CELLS` of them at even distances.

    Attributes
    ----------
    counts : (N, G) float32 CSR
        Of every gene of the matrix that is asked for; other columns are empty.
    depth : (N,) float64
        Counts of each cell over all genes, at least 1: those that were counted before genes were left out, where the
        matrix has them as obs["total_counts"].
    total : (G,) float64
        Counts of each gene over these cells.
    preset
        How the expression was made from the counts; "" where the matrix does not say.
    """

    counts: sparse.csr_matrix
    depth: NDArray[np.float64]
    total: NDArray[np.float64]
    preset: str

    @property
    def share(self) -> NDArray[np.float64]:
        """Of each gene among all counts, (G,)."""
        return np.asarray(self.total / self.depth.sum())


def find_counts(images: Images, genes: NDArray[np.integer], most: int = MOST_CELLS) -> CellCounts | str:
    """Raw counts of some genes in the cells of a store, or why they cannot be had, in words.

    Parameters
    ----------
    genes
        Genes of the matrix, in any order and any number of times.
    most
        Cells, at even distances where there are more.
    """
    try:
        codes = encoded_cells(images, "raw counts are read of its cells", otherwise="do without")
    except InputError:
        return "the codes that the images were counted from are gone, and with them which cells were counted"
    matrix = str(codes.provenance.get("matrix", ""))
    name = located(matrix).name  # a reason is read elsewhere too, where paths mean nothing
    if not matrix or not located(matrix).exists():
        return f"the matrix that the images were counted from, {name}, is not where it was"
    if fingerprint(matrix) != codes.provenance.get("fingerprint"):
        return f"the matrix {name} has changed since the images were counted from it"
    try:
        cells, counted = codes.array("cell"), images.counted_cells()
        return _read(matrix, cells if counted is None else cells[counted], genes, most)
    except (InputError, JobError) as error:
        return str(error).replace(matrix, name).rstrip(".")


def _read(matrix: str, cells: NDArray[np.int64], genes: NDArray[np.integer], most: int) -> CellCounts | str:
    source, preset = open_counts(matrix)
    if cells.size > most:
        cells = cells[np.linspace(0, cells.size - 1, most).astype(np.int64)]
    wanted = np.zeros(len(source.genes), bool)
    wanted[genes] = True
    parts, depth, total = list[sparse.csr_matrix](), list[NDArray[np.float64]](), np.zeros(wanted.size)
    for start in range(0, cells.size, READ_CELLS):
        rows = source.select(cells[start : start + READ_CELLS])
        if source.element == "X" and not np.array_equal(rows.data, np.rint(rows.data)):
            return f"the matrix {located(matrix).name} holds no raw counts, neither as its values nor as layer `counts`"
        depth.append(np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel())
        total += np.asarray(rows.sum(axis=0, dtype=np.float64)).ravel()
        kept = wanted[rows.indices]
        before = np.append(0, np.cumsum(kept))
        parts.append(sparse.csr_matrix((rows.data[kept], rows.indices[kept], before[rows.indptr]), rows.shape))
    depths = whole_depth(source, cells, np.concatenate(depth))
    return CellCounts(sparse.vstack(parts, format="csr"), np.maximum(depths, 1), total, preset)
