"""The encoding job: expression matrix → code store, in two passes over blocks of cells, never the whole in memory."""

import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from pipeline.binning import GeneStatistics, bin_edges, gene_statistics
from pipeline.codes import Codes, cell_blocks, codes_hash, create_codes, open_codes, write_block
from pipeline.containers import stamp_of
from pipeline.fanout import run_tasks
from pipeline.matrix import Expression, open_expression
from pipeline.progress import Progress
from pipeline.spec import Binning

SAMPLE_CELLS = 65_536  # cells whose quantiles place the edges of `rank` and `quantile`: all of them, up to this many
SAMPLE_RUN = 256  # a larger matrix is sampled in evenly spaced runs of neighbouring cells, which is quick to read


def _opened(path: str) -> Expression:
    return _opened_as(path, stamp_of(Path(path)))


@lru_cache(maxsize=2)
def _opened_as(path: str, stamp: tuple[int, int]) -> Expression:
    """A worker opens the matrix once, whatever the number of its tasks, and again when another lies there."""
    return open_expression(path)


def encode_matrix(
    expression: Expression,
    target: Path,
    binning: Binning,
    cells: NDArray[np.int64],
    client: Client | None,
    progress: Progress,
    matrix_hash: str | None = None,
) -> Codes:
    """Codes of some cells of a matrix; made once, and reused if `target` already holds exactly these.

    Parameters
    ----------
    cells : (N,) int64
        Rows of the matrix that are counted, ascending.
    matrix_hash
        Content hash of the matrix, if the caller has it: it takes a pass over the matrix. Absent: computed here.
    """
    matrix_hash = matrix_hash or expression.content_hash()
    wanted = codes_hash(matrix_hash, cells, binning)
    if target.exists():
        if (found := open_codes(target)).content_hash == wanted:
            return found
        shutil.rmtree(target)
    path, blocks = str(expression.path), cell_blocks(cells.size)
    progress.start("gene statistics", cells.size)
    statistics = _survey(path, [cells[block] for block in blocks], client, progress)
    sample = _sample_values(expression, cells) if binning.scale in ("rank", "quantile") else None
    edges = bin_edges(binning, statistics, sample)
    aside = target.with_name(f".{target.name}.wip")
    shutil.rmtree(aside, ignore_errors=True)
    provenance = {"matrix": str(Path(path).resolve()), "matrix_hash": matrix_hash}
    create_codes(aside, wanted, binning, expression.genes, cells, edges, statistics, provenance)
    progress.start("encoding cells", cells.size)
    for (block, _), _ in run_tasks(client, _encode_block, [(b, cells[b]) for b in blocks], path, str(aside)):
        progress.advance(block.stop - block.start)
    aside.rename(target)
    return open_codes(target)


def _survey(path: str, blocks: list[NDArray[np.int64]], client: Client | None, progress: Progress) -> GeneStatistics:
    """Statistics over all blocks, merged in the blocks' order, so that sums of floats do not depend on the workers."""
    found = dict[int, GeneStatistics]()
    for (number, cells), statistics in run_tasks(client, _survey_block, enumerate(blocks), path):
        found[number] = statistics
        progress.advance(cells.size)
    merged = found[0]
    for number in range(1, len(blocks)):
        merged = merged.merge(found[number])
    return merged


def _survey_block(path: str, task: tuple[int, NDArray[np.int64]]) -> GeneStatistics:
    rows = _opened(path).select(task[1])
    return gene_statistics(rows.data, rows.indices, rows.shape[1], rows.shape[0])


def _encode_block(path: str, target: str, task: tuple[slice, NDArray[np.int64]]) -> int:
    return write_block(target, _opened(path).select(task[1]), task[0])


def _sample_values(expression: Expression, cells: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    """Expressed values of every gene, from all cells or from evenly spaced runs of them."""
    if cells.size > SAMPLE_CELLS:
        starts = np.linspace(0, cells.size - SAMPLE_RUN, SAMPLE_CELLS // SAMPLE_RUN).astype(np.int64)
        cells = np.concatenate([cells[start : start + SAMPLE_RUN] for start in starts])
    columns = expression.select(cells).tocsc()
    return [columns.data[a:b] for a, b in zip(columns.indptr[:-1], columns.indptr[1:], strict=True)]
