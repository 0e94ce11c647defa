"""A pass over the cells of a source: blocks scanned by workers, merged in order, kept on disk as far as it has come."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.compute.tasks import in_order, run_on_source
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.source import Reader
from pairscape.pipeline.matrix.survey import (
    CELL,
    Facts,
    Values,
    Wanted,
    merge_genes,
    no_facts,
    scan,
    values_as_array,
    values_from_array,
)
from pairscape.pipeline.storage.write import replaced

Block = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a source that a job looks at.

    Attributes
    ----------
    chosen : (cell,) bool
        Which of the source's.
    block
        Cells of the source that are read together.
    """

    chosen: NDArray[np.bool_]
    block: int

    def blocks(self) -> list[Block]:
        """Start and stop of every block that has a chosen cell."""
        n = self.chosen.size
        bounds = [(start, min(start + self.block, n)) for start in range(0, n, self.block)]
        return [(start, stop) for start, stop in bounds if self.chosen[start:stop].any()]


def scan_cells(
    readers: tuple[Reader, ...], wanted: Wanted, cells: Cells, folder: Path, stage: str, session: Session
) -> list[Facts]:
    """Facts of each matrix, over the chosen cells; goes on from what `folder` holds of the same pass.

    Parameters
    ----------
    readers
        Matrices of one shape.
    folder
        Where the pass keeps how far it is, and nothing else lies.
    stage
        What the progress is called.
    """
    blocks, kept = cells.blocks(), _Checkpoint(folder)
    done, merged = kept.load(len(readers), wanted.counted.size)
    session.progress.start(stage, int(cells.chosen.sum()))
    session.progress.advance(sum(int(cells.chosen[a:b].sum()) for a, b in blocks[:done]))
    tasks = [(number, _task(cells, block)) for number, block in enumerate(blocks[done:])]
    results = ((task[0], facts) for task, facts in run_on_source(session, scan_block, tasks, readers, wanted))
    for facts in in_order(results):
        done += 1
        merged = [_append(before, after) for before, after in zip(merged, facts, strict=True)]
        kept.save(done, merged)
        session.progress.advance(facts[0].cells.size)
    return [Facts(np.concatenate(m.cells), m.genes, m.values) for m in merged]


def _task(cells: Cells, block: Block) -> tuple[Block, NDArray[np.bool_] | None]:
    """A block, and which of its cells are wanted; None for all."""
    chosen = cells.chosen[slice(*block)]
    return block, None if chosen.all() else chosen


def scan_block(
    readers: tuple[Reader, ...], wanted: Wanted, task: tuple[int, tuple[Block, NDArray[np.bool_] | None]]
) -> list[Facts]:
    """Facts of a block of every matrix. Runs on a worker.

    Raises
    ------
    InputError
        The source is damaged.
    """
    _, (block, chosen) = task
    return [scan(pick(_checked(reader.rows(*block), wanted), chosen), wanted) for reader in readers]


def _checked(rows: sparse.csr_matrix, wanted: Wanted) -> sparse.csr_matrix:
    """The same, if its indices are genes: compiled code would write wherever they point."""
    n_genes = wanted.counted.size
    if rows.shape[1] != n_genes or (rows.nnz and not 0 <= rows.indices.min() <= rows.indices.max() < n_genes):
        raise InputError(
            f"the source has values of genes beyond the {n_genes} that it names: it is damaged, write it again"
        )
    return rows


def pick(rows: sparse.csr_matrix, chosen: NDArray[np.bool_] | None) -> sparse.csr_matrix:
    """Some of the cells of a block; all, without a copy, if there is no choice."""
    return rows if chosen is None else rows[np.flatnonzero(chosen)]


@dataclass(frozen=True, eq=False)
class _Merged:
    """As `Facts`, but the cells of each block apart: a million of them are joined once."""

    cells: list[NDArray[Any]]
    genes: NDArray[Any]
    values: Values


def _append(merged: _Merged, facts: Facts) -> _Merged:
    merged.cells.append(facts.cells)
    return _Merged(merged.cells, merge_genes([merged.genes, facts.genes]), merged.values.merge(facts.values))


class _Checkpoint:
    """What a pass has merged so far: cells are appended to a file, the rest replaces what was there.

    Appended cells do not wait for the disk: after a power cut the checksums tell, and the pass begins anew.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sums: list[int] = []
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, matrices: int, n_genes: int) -> tuple[int, list[_Merged]]:
        """How many blocks are merged, and into what."""
        try:
            return self._load(matrices)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # nothing there, or damaged
            for path in self._folder.iterdir():
                path.unlink()
            self._sums = [0] * matrices
            empty = no_facts(n_genes)
            return 0, [_Merged([empty.cells], empty.genes.copy(), empty.values) for _ in range(matrices)]

    def _load(self, matrices: int) -> tuple[int, list[_Merged]]:
        with np.load(self._folder / "merged.npz") as found:
            done, n_cells, *self._sums = (int(number) for number in found["done"])
            parts = [(found[f"genes{i}"], values_from_array(found[f"values{i}"])) for i in range(matrices)]
        for i in range(matrices):  # a killed driver may have appended cells that it has not counted as done
            os.truncate(self._cells(i), n_cells * CELL.itemsize)
        cells = [np.fromfile(self._cells(i), CELL) for i in range(matrices)]
        if [crc32(held.tobytes()) for held in cells] != self._sums:
            raise ValueError("the cells are others than those that were merged")
        return done, [_Merged([held], *part) for held, part in zip(cells, parts, strict=True)]

    def save(self, done: int, merged: list[_Merged]) -> None:
        """Add the last block."""
        for i, matrix in enumerate(merged):
            content = matrix.cells[-1].tobytes()
            with self._cells(i).open("ab") as file:
                file.write(content)
            self._sums[i] = crc32(content, self._sums[i])
        parts: dict[str, Any] = {f"genes{i}": m.genes for i, m in enumerate(merged)}
        parts |= {f"values{i}": values_as_array(m.values) for i, m in enumerate(merged)}
        n_cells = self._cells(0).stat().st_size // CELL.itemsize
        with replaced(self._folder / "merged.npz") as part, part.open("wb") as file:
            np.savez(file, done=np.array([done, n_cells, *self._sums]), **parts)

    def _cells(self, number: int) -> Path:
        return self._folder / f"cells{number}"
