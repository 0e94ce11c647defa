"""Which cells place the edges of `rank` and `quantile`, and their values gene by gene, on disk while edges are made.

Workers turn blocks of sampled cells to lists by gene; a gene's values are then gathered from all blocks when its turn
comes, so that nobody holds the sample as a whole (65,536 cells × 1,000 genes each are 262 MB).
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.codes.by_gene import ByGene
from pairscape.pipeline.codes.store import cell_blocks
from pairscape.pipeline.storage.chunks import write_file
from pairscape.pipeline.storage.paths import is_remote

SAMPLE_CELLS = 65_536  # cells whose quantiles place the edges: all of them, up to this many
SAMPLE_RUN = 256  # a larger matrix is sampled in evenly spaced runs of neighbouring cells, which is quick to read


def sampled_cells(n_cells: int) -> NDArray[np.int64]:
    """Numbers of the sampled cells among those that are counted, ascending."""
    if n_cells <= SAMPLE_CELLS:
        return np.arange(n_cells)
    starts = np.linspace(0, n_cells - SAMPLE_RUN, SAMPLE_CELLS // SAMPLE_RUN).astype(np.int64)
    return (starts[:, None] + np.arange(SAMPLE_RUN)).ravel()


def sample_blocks(n_cells: int) -> list[slice]:
    """Blocks of the sampled cells that are read by one task each."""
    return cell_blocks(min(n_cells, sampled_cells(n_cells).size))


def write_sample(folder: Path, number: int, entries: ByGene) -> None:
    """Keep the values of a block of sampled cells; the folder is made where it is missing."""
    for name, values in (("start", entries.start), ("value", entries.value)):
        content = BytesIO()
        np.save(content, values)
        write_file(folder / f"{number}.{name}.npy", content.getvalue())


def read_sample(folder: Path, n_blocks: int) -> Iterator[NDArray[np.float32]]:
    """Expressed values of gene 0, 1, …, each (E_g,) float32, cells in order."""
    starts = [np.load(BytesIO((folder / f"{number}.start.npy").read_bytes())) for number in range(n_blocks)]
    values = [_mapped(folder / f"{number}.value.npy") for number in range(n_blocks)]
    for gene in range(starts[0].size - 1):
        parts = [x[start[gene] : start[gene + 1]] for start, x in zip(starts, values, strict=True)]
        yield np.concatenate(parts)


def _mapped(path: Path) -> NDArray[np.float32]:
    """Without loading it, if it lies on a disk; a file of no values cannot be mapped."""
    if is_remote(path):
        return np.asarray(np.load(BytesIO(path.read_bytes())))
    return np.asarray(np.load(path, mmap_mode="r")) if path.stat().st_size > 128 else np.empty(0, np.float32)
