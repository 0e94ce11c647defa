"""Dense arrays with two axes in HDF5 or Zarr, read along either axis as far as their chunks allow it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.formats.hdf5_zarr import DENSE_VALUES, dense_rows, opened
from pairscape.pipeline.matrix.source import Axis, Lines, Part
from pairscape.pipeline.storage.paths import stamp_of

UNIT_VALUES = 2**26  # a chunk's lines in full: 256 MiB of float32; larger ones are turned
STRIDE = 4096  # values of a row that are worth a look at the disk, where the array has no chunks


@dataclass(frozen=True)
class Dense:
    """A dense matrix on disk.

    Attributes
    ----------
    place, element, changed
        As `pipeline.matrix.formats.sparse.Compressed`.
    shape, chunks
        Rows and columns, of the matrix and of what is read at once.
    """

    place: str
    element: str
    changed: int
    shape: tuple[int, int]
    chunks: tuple[int, int]

    @property
    def weight(self) -> int:
        """Its values."""
        return self.shape[0] * self.shape[1]

    def lines(self, axis: Axis) -> Lines | None:
        """Of either axis, unless the lines of a chunk are more than memory should take."""
        unit = min(self.chunks[axis], self.shape[axis])
        return (DenseLines(self, axis), unit) if unit * self.shape[1 - axis] <= UNIT_VALUES else None

    def parts(self) -> Iterator[Part]:
        """The entries of rectangles of whole chunks."""
        height, width = _tile(self.shape, self.chunks)
        with opened(self.place) as root:
            x = root[self.element]
            for top in range(0, self.shape[0], height):
                for left in range(0, self.shape[1], width):
                    yield _entries(x[top : top + height, left : left + width], top, left)


@dataclass(frozen=True)
class DenseLines:
    """The reader of the rows (0) or columns (1) of a dense matrix."""

    array: Dense
    axis: Axis

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """As `pipeline.matrix.sources.Reader.rows`."""
        array = self.array
        if stamp_of(array.place)[1] != array.changed:
            raise InputError(f"{array.place} has changed since it was opened: open it again")
        with opened(array.place) as root:
            return dense_rows(root[array.element], start, stop, self.axis, array.chunks[self.axis])


def dense(root: Any, element: str, place: str) -> Dense:
    """The dense matrix of a file that is open.

    Raises
    ------
    InputError
        It has not two axes, or no numbers.
    """
    x = root[element]
    if len(getattr(x, "shape", ())) != 2 or x.dtype.kind not in "biuf":
        raise InputError(
            f"{place}: {element!r} is no matrix of numbers ({_kind(x)}); write it with two axes, of int or float"
        )
    chunks = x.chunks or (1, STRIDE)
    return Dense(
        place, element, stamp_of(place)[1], (int(x.shape[0]), int(x.shape[1])), (int(chunks[0]), int(chunks[1]))
    )


def _kind(x: Any) -> str:
    return f"{len(x.shape)} axes, {x.dtype}" if hasattr(x, "shape") else "a group"


def _tile(shape: tuple[int, int], chunks: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a rectangle of whole chunks, about DENSE_VALUES in all, as wide as may be."""
    width = min(shape[1], chunks[1] * max(1, DENSE_VALUES // (chunks[0] * chunks[1])))
    return chunks[0] * max(1, DENSE_VALUES // (chunks[0] * width)), width


def _entries(values: NDArray[Any], top: int, left: int) -> Part:
    rows, columns = np.nonzero(values)
    with np.errstate(over="ignore"):  # infinite then, which the survey of the values reports
        numbers = np.asarray(values[rows, columns], np.float32)
    kept = numbers != 0  # what is too small for float32
    return Part(rows[kept] + top, columns[kept] + left, numbers[kept], int(values.size))
