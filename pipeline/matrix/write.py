"""The second pass of an ingest: read the cells of a shard, normalise them, write the shard of every array. On workers.

A task gets numbers and readers; which cells and genes are kept it reads from the job's folder.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.matrix.normalize import normalise
from pairscape.pipeline.matrix.source import Reader
from pairscape.pipeline.matrix.store import Layout, Piece, inside, piece_pointers, shard_bytes, shard_path
from pairscape.pipeline.options import Preset
from pairscape.pipeline.storage.receipts import Receipt, write_receipted

Task = tuple[int, Piece]  # which of the matrices, and which shard of it


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix of the source, and where it goes.

    Attributes
    ----------
    preset
        What is done to its values for the first group.
    layout
        Its groups: the first holds what the preset makes of the values, a second one the values as they are.
    """

    reader: Reader
    preset: Preset
    layout: Layout


@dataclass(frozen=True, eq=False)
class Writing:
    """What all tasks share.

    Attributes
    ----------
    folder
        The job's: `store`, `receipts`, `cells.npy` (rows of the source that are kept), `genes.npy` (its columns that
        are kept), `stored.npy` (which of these are stored).
    block
        Cells of the source that are read together at most.
    """

    folder: str
    matrices: tuple[Matrix, ...]
    block: int

    @property
    def store(self) -> Path:
        """The store that is being made."""
        return Path(self.folder, "store")

    def load(self, name: str) -> NDArray[np.int64]:
        """One of the job's arrays, of which only what is used is read."""
        return np.load(Path(self.folder, f"{name}.npy"), mmap_mode="r")


def is_written(writing: Writing, task: Task) -> bool:
    """Whether the shard of a task has a receipt, and files of the size that it names."""
    return _receipt(writing, task).is_valid()


def write_piece(writing: Writing, task: Task) -> int:
    """Write one shard of every array of a matrix; returns its entries. Runs on a worker, any number of times.

    Raises
    ------
    JobError
        The source has changed since it was scanned, or the disk reads back something else.
    """
    number, piece = task
    matrix = writing.matrices[number]
    pointers = piece_pointers(writing.store, matrix.layout.matrices[0], piece)
    values, shown = _rows(writing, matrix, writing.load("cells")[piece.start : piece.stop])
    if not np.array_equal(np.diff(pointers), np.diff(values.indptr)):
        raise JobError("the source changed while it was read, so the store would be of no one matrix; run it again")
    held = inside(piece, int(pointers[0]), matrix.layout)
    indices = shard_bytes(values.indices[held].astype(np.int32, copy=False), matrix.layout)
    data = [shard_bytes(part.data[held], matrix.layout) for part in (shown, values)[: len(matrix.layout.matrices)]]
    contents = [content for part in data for content in (part, indices)]
    receipt = _receipt(writing, task)
    write_receipted(receipt, dict(zip(receipt.files, contents, strict=True)))
    return len(range(*held.indices(values.nnz)))


def _rows(writing: Writing, matrix: Matrix, cells: NDArray[np.int64]) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Some cells with the genes that are stored: the values as they are, and what the preset makes of them.

    A cell is normalised over all genes that are kept.
    """
    kept, stored = writing.load("genes"), writing.load("stored")
    rows = _columns(_read(matrix.reader, cells, writing.block), kept)
    return _columns(rows, stored), _columns(normalise(rows, matrix.preset), stored)


def _read(reader: Reader, cells: NDArray[np.int64], block: int) -> sparse.csr_matrix:
    """Some cells of a source, ascending, read a block at a time where they do not lie together."""
    if int(cells[-1]) - int(cells[0]) == cells.size - 1:
        return reader.rows(int(cells[0]), int(cells[-1]) + 1)
    runs = np.split(cells, np.flatnonzero(np.diff(cells // block)) + 1)
    parts = [reader.rows(int(run[0]), int(run[-1]) + 1)[run - run[0]] for run in runs]
    return parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")


def _columns(rows: sparse.csr_matrix, genes: NDArray[np.int64]) -> sparse.csr_matrix:
    """Some genes, ascending; the matrix itself, if it is all of them."""
    if genes.size == rows.shape[1]:
        return rows
    return rows[:, genes]


def _receipt(writing: Writing, task: Task) -> Receipt:
    """Of a shard: data and indices of every group."""
    number, piece = task
    groups = writing.matrices[number].layout.matrices
    files = {
        f"{group}/{part}": shard_path(writing.store, group, part, piece.shard)
        for group in groups
        for part in ("data", "indices")
    }
    facts = {"matrices": list(groups), "cells": [piece.start, piece.stop]}
    return Receipt(Path(writing.folder, "receipts", f"{number}-{piece.shard}.json"), facts, files)
