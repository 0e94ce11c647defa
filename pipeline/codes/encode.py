"""The encoding job: expression matrix → code store, in two passes over blocks of cells, never the whole in memory.

The first pass, the survey, digests every block of the matrix and takes the statistics of every gene: content hash and
bin edges follow. The second encodes, a task a block. Tasks carry numbers; workers read cells and edges from the store
that is being made, `.NAME.wip`, which takes its name when it is complete.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from pairscape.pipeline.codes.binning import GeneStatistics, bin_edges, gene_statistics
from pairscape.pipeline.codes.check import codes_damage
from pairscape.pipeline.codes.store import (
    FREE,
    Codes,
    add_edges,
    block_cells,
    block_file,
    cell_blocks,
    codes_hash,
    counted_cells,
    create_codes,
    open_codes,
    set_provenance,
    write_block,
)
from pairscape.pipeline.compute.memory import CSR_BYTES, SHARD_BYTES, require_memory
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.compute.tasks import in_order, run_on_source, run_tasks
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.matrix.expression import Expression, block_digest, hash_blocks, matrix_hash, reopen_expression
from pairscape.pipeline.options import CODES_CELLS, Binning
from pairscape.pipeline.storage.digests import Described, keep_layout, refuse_others_files
from pairscape.pipeline.storage.lock import locked
from pairscape.pipeline.storage.ownership import clear_aside
from pairscape.pipeline.storage.paths import fingerprint, holds_store, is_remote, located, remove_tree, stamp_of
from pairscape.pipeline.storage.write import publish_store, write_file


@dataclass(eq=False)
class Encoding:
    """An encoding under way: the content hash of the wanted codes is known, the codes are made by `finish`.

    Attributes
    ----------
    matrix, target, aside
        Where the matrix lies, where the codes go, and the store that is being made.
    cells : (N,) int64
        Rows of the matrix that are counted, ascending.
    stamp
        Fingerprint of the matrix before it was read.
    content_hash
        Of the wanted codes.
    found
        The code store at `target`; None if there is none, or one that is damaged.
    damage
        What is wrong with that one.
    """

    expression: Expression
    target: Path
    binning: Binning
    cells: NDArray[np.int64]
    session: Session
    matrix: str
    stamp: str
    content_hash: str = ""
    found: Codes | None = None
    damage: str = ""
    surveyed: tuple[str, GeneStatistics] | None = None

    @property
    def aside(self) -> Path:
        """The store that is being made."""
        return self.target.with_name(f".{self.target.name}.wip")

    def run(self, function: Callable[..., Any], tasks: list[Any]) -> Iterator[tuple[Any, Any]]:
        """Results of tasks that read the matrix and the store that is being made."""
        return run_on_source(self.session, function, tasks, self.matrix, str(self.aside))

    def look(self) -> None:
        """What lies at the target, and the wanted hash if it was made from this very file.

        Codes that would be reused are compared with their record to the byte, and passed over if they are others.
        """
        self.found = open_codes(self.target) if holds_store(self.target) else None
        trusted = None if self.found is None else _trusted_hash(self.found, self.matrix, self.stamp)
        self.content_hash = codes_hash(trusted, self.cells, self.binning) if trusted else ""
        self.damage = self._damage()
        if self.damage:
            self.found, self.content_hash = None, ""

    def _damage(self) -> str:
        """What is wrong with the codes at the target, if they are the wanted ones."""
        if self.found is None or self.found.content_hash != self.content_hash:
            return ""
        return codes_damage(self.found, self.session)

    def survey(self) -> None:
        """Begin the store aside, and read the whole matrix for its content hash and statistics of its genes."""
        clear_aside(self.aside)
        create_codes(self.aside, self.expression.genes, self.cells)
        self.surveyed = _survey(self)
        self.content_hash = codes_hash(self.surveyed[0], self.cells, self.binning)

    def finish(self) -> Codes:
        """The codes; those at `target` are kept if they are the wanted ones.

        Raises
        ------
        JobError
            Tasks failed, or the matrix changed meanwhile.
        """
        if self.surveyed is None:
            if self.found is not None and self.found.content_hash == self.content_hash:
                return self.found
            self.survey()
        assert self.surveyed is not None
        provenance = {"matrix": self.matrix, "matrix_hash": self.surveyed[0], "fingerprint": self.stamp}
        if self.found is not None and self.found.content_hash == self.content_hash and not self._damage():
            remove_tree(self.aside)
            return set_provenance(self.found, provenance)
        edges = _edges(self, self.surveyed[1])
        add_edges(self.aside, self.content_hash, self.binning, edges, self.surveyed[1], provenance)
        keep_layout(self.aside, FREE, _encode(self))
        if fingerprint(self.matrix) != self.stamp:
            raise JobError(
                f"{self.matrix} changed while it was encoded, so the codes would be of no one matrix; run it again."
            )
        publish_store(self.aside, self.target, replace=True)
        shape = len(self.expression.genes), self.cells.size
        return Codes(str(self.target), self.content_hash, self.binning, *shape, provenance)


@contextmanager
def encoding(
    expression: Expression, target: Path, binning: Binning, cells: NDArray[np.int64], session: Session
) -> Iterator[Encoding]:
    """Begin to encode some cells of a matrix on disk; nothing at `target` changes before `Encoding.finish`.

    If `target` was made from the same file and its fingerprint (`pairscape.pipeline.storage.paths.fingerprint`) is what
    it was, the matrix is not read for that. Else it is surveyed, which tells whether the content is.

    Parameters
    ----------
    cells : (N,) int64
        Rows of the matrix that are counted, ascending.

    Raises
    ------
    InputError
        `target` is something else than a code store; a task would not fit into a worker's memory; values of the matrix
        are NaN, infinite or negative.
    JobError
        Tasks failed, or another driver makes codes at `target`.
    """
    place = _place(expression)
    job = Encoding(expression, target, binning, cells, session, place, fingerprint(place))
    job.look()
    if job.found is not None and job.found.content_hash == job.content_hash:
        yield job
        return
    if holds_store(target):
        refuse_others_files(target)  # before what lies there is replaced
    require_memory(ENCODING, encoding_bytes(expression, cells, binning), session.memory)
    with locked(target):
        job.look()  # another driver may have been there
        if job.damage:
            session.say(f"the codes in {target} are not what was written ({job.damage}), so they are made again")
        try:
            if not job.content_hash:
                job.survey()
            yield job
        except InputError:  # the user's matrix, or a caller that wants no such codes: nothing that a next run could use
            remove_tree(job.aside)
            raise


def encode_matrix(
    expression: Expression, target: Path, binning: Binning, cells: NDArray[np.int64], session: Session
) -> Codes:
    """Codes of some cells of a matrix on disk; made once, and reused if `target` already holds exactly these.

    Parameters and errors are those of `encoding` and `Encoding.finish`.
    """
    with encoding(expression, target, binning, cells, session) as job:
        return job.finish()


def encoded_before(expression: Expression, target: Path, binning: Binning, cells: NDArray[np.int64]) -> Codes | None:
    """The codes at `target` if they are those of these cells, told without reading the matrix; else None.

    Raises
    ------
    InputError
        `target` is something else than a code store.
    """
    if not holds_store(target):
        return None
    found, matrix = open_codes(target), _place(expression)
    trusted = _trusted_hash(found, matrix, fingerprint(matrix))
    return found if trusted and found.content_hash == codes_hash(trusted, cells, binning) else None


def _place(expression: Expression) -> str:
    """Where the matrix lies: an absolute path without links, or a URL."""
    place = str(expression.path)
    return place if is_remote(place) else str(Path(place).resolve())


def _trusted_hash(found: Codes, matrix: str, stamp: str) -> str | None:
    """Content hash of the matrix without reading it, if the codes were made from this very file; else None."""
    known = found.provenance
    same = known.get("matrix") == matrix and known.get("fingerprint") == stamp
    return str(known["matrix_hash"]) if same else None


def encoding_bytes(expression: Expression, cells: NDArray[np.int64], binning: Binning) -> int:
    """Memory of the largest task of either pass. Selected cells are read a few thousand rows at a time and kept."""
    layout = expression.layout()
    chosen = [cells[block] for block in cell_blocks(cells.size)]
    entries = layout.fullest([*hash_blocks(expression.n_cells), *chosen])
    return encode_bytes(len(expression.genes), entries, binning, layout.entry_bytes) + layout.kept_bytes


def _survey(job: Encoding) -> tuple[str, GeneStatistics]:
    """Content hash of the matrix, and statistics of the counted cells, merged in order: sums of floats depend on it."""
    blocks = hash_blocks(job.expression.n_cells)
    bounds = np.searchsorted(job.cells, [[block.start, block.stop] for block in blocks]).tolist()
    job.session.progress.start("gene statistics", job.expression.n_cells)
    results = job.run(_survey_block, [(number, *counted) for number, counted in enumerate(bounds)])
    digests, merged = list[str](), None
    for digest, statistics in in_order(((task[0], result) for task, result in results)):
        block = blocks[len(digests)]
        digests.append(digest)
        merged = statistics if merged is None else merged.merge(statistics)
        job.session.progress.advance(block.stop - block.start)
    assert merged is not None  # a matrix has at least two cells
    return matrix_hash(job.expression.n_cells, job.expression.genes, digests), merged


def _edges(job: Encoding, statistics: GeneStatistics) -> NDArray[np.float32]:
    binning = job.binning
    if binning.scale not in ("rank", "quantile"):
        return bin_edges(binning, statistics)
    folder, blocks = job.aside / "sample", sample_blocks(job.cells.size)
    job.session.progress.start("bin edges", len(blocks))
    for _ in job.run(_sample_block, list(range(len(blocks)))):
        job.session.progress.advance(1)
    edges = bin_edges(binning, statistics, read_sample(folder, len(blocks)))
    remove_tree(folder)
    return edges


def _encode(job: Encoding) -> Described:
    """Encode all blocks; returns the size and sha256 of their files, where they are not empty."""
    blocks, described = cell_blocks(job.cells.size), dict[int, list[Any]]()
    job.session.progress.start("encoding cells", job.cells.size)
    for number, facts in job.run(_encode_block, list(range(len(blocks)))):
        described[number] = facts
        job.session.progress.advance(blocks[number].stop - blocks[number].start)
    return {block_file(number): described[number] for number in sorted(described) if described[number][0]}


# ── on the workers ───────────────────────────────────────────────────────────────────────────────────────────────────


def _opened(path: str) -> Expression:
    return _opened_as(path, stamp_of(path))


@lru_cache(maxsize=2)
def _opened_as(path: str, stamp: tuple[int, int]) -> Expression:
    """A worker opens the matrix once, whatever the number of its tasks, and again when another lies there."""
    return reopen_expression(path)


def _survey_block(matrix: str, aside: str, task: tuple[int, int, int]) -> tuple[str, GeneStatistics]:
    """Digest of a block of the matrix, and statistics of the cells in it that are counted: start..stop of the store."""
    number, start, stop = task
    expression = _opened(matrix)
    block = hash_blocks(expression.n_cells)[number]
    rows = expression.rows(block.start, block.stop)
    digest = block_digest(rows)
    if stop - start < rows.shape[0]:
        rows = rows[counted_cells(aside, slice(start, stop)) - block.start]
    return digest, gene_statistics(rows.data, rows.indices, rows.shape[1], rows.shape[0])


def _sample_block(matrix: str, aside: str, number: int) -> None:
    cells = counted_cells(aside)
    sampled = sampled_cells(cells.size)
    chosen = cells[sampled[sample_blocks(cells.size)[number]]]
    write_sample(located(aside) / "sample", number, _by_gene(matrix, chosen))


def _encode_block(matrix: str, aside: str, number: int) -> list[Any]:
    return write_block(aside, _by_gene(matrix, counted_cells(aside, block_cells(number))), number)


def _by_gene(matrix: str, cells: NDArray[np.int64]) -> csc_matrix:
    """Some cells, gene by gene; their rows are gone when it returns."""
    return _opened(matrix).select(cells).tocsc()


# ── repair ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode_blocks(matrix: Path, codes: Path, blocks: list[int], session: Session) -> dict[int, list[Any]]:
    """Encode some blocks of a store again, in place; returns size and sha256 of each file by block.

    Raises
    ------
    JobError
        Tasks failed.
    """
    return dict(run_tasks(session, _encode_block, blocks, str(matrix), str(codes)))


ENCODING = f"encoding a block of {CODES_CELLS:,} cells"
SORTED_BYTES = 8  # an entry gene by gene: float32 value, int32 cell

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
    sorting = entries * (2 * CSR_BYTES + SORTED_BYTES)  # parts and whole of selected cells, gene by gene
    writing = entries * (SORTED_BYTES + 3 * SHARD_BYTES)  # entries, chunks, shard, and the shard as read back
    per_gene = n_genes * (4 * (binning.bins + 1) + 64)
    return max(reading, sorting, writing) + per_gene + 2 * CHUNK_BYTES


# ── the sample of cells whose quantiles place the edges of `rank` and `quantile` ─────────────────────────────────────
# Workers turn blocks of sampled cells to entries gene by gene, on disk; a gene's values are gathered from all blocks
# when its turn comes, so that no process holds the whole sample (65,536 cells × 1,000 genes each are 262 MB).

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


def write_sample(folder: Path, number: int, expression: csc_matrix) -> None:
    """Keep the values of a block of sampled cells; the folder is made where it is missing."""
    for name, values in (("start", expression.indptr), ("value", expression.data)):
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
