"""CSR and CSC matrices in HDF5 or Zarr: AnnData's and Cell Ranger's."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.formats.hdf5_zarr import canonical_csr, csr_rows, opened, row_pointers
from pairscape.pipeline.matrix.source import Axis, Entries, Lines, compressed_parts
from pairscape.pipeline.storage.chunks import read_range
from pairscape.pipeline.storage.paths import stamp_of


@dataclass(frozen=True)
class Compressed:
    """A sparse matrix on disk, and the reader of the lines that it keeps together.

    Attributes
    ----------
    place
        Absolute path, or URL.
    element
        Of the group with data, indices and indptr.
    changed
        When the file was written last, in ns; 0 of a URL.
    shape
        Rows and columns.
    axis
        Whose lines are kept together: 0 for CSR, 1 for CSC.
    weight
        Entries, zeros among them.
    """

    place: str
    element: str
    changed: int
    shape: tuple[int, int]
    axis: Axis
    weight: int

    def lines(self, axis: Axis) -> Lines | None:
        """Of its own axis only: a line of the other lies all over the file."""
        return (self, 1) if axis == self.axis else None

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """The lines start to stop as canonical CSR, see `Reader.rows`."""
        width, pointers = self.shape[1 - self.axis], self._pointers()
        with opened(self.place) as root:
            found = csr_rows(root[self.element], pointers, start, stop, width)
        self._check(found.indices)
        return canonical_csr(found)

    def parts(self) -> Iterator[Entries]:
        """All entries, in the order of the file."""
        pointers = self._pointers()
        with opened(self.place) as root:
            x = root[self.element]
            yield from compressed_parts(pointers, lambda low, high: self._entries(x, low, high), self.axis)

    def _entries(self, x: Any, low: int, high: int) -> tuple[NDArray[Any], NDArray[Any]]:
        indices = read_range(x["indices"], low, high)
        self._check(indices)
        return indices, read_range(x["data"], low, high)

    def _pointers(self) -> NDArray[np.int64]:
        stamp = stamp_of(self.place)
        if stamp[1] != self.changed:
            raise InputError(f"{self.place} has changed since it was opened: open it again")
        return row_pointers(self.place, stamp, self.element)

    def _check(self, indices: NDArray[Any]) -> None:
        width = self.shape[1 - self.axis]
        if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < width:
            raise InputError(
                f"{self.place}: {self.element!r} has an entry at place {int(indices.max())} of a line of {width}: "
                "it is damaged; write or fetch it again"
            )


def compressed(root: Any, element: str, place: str, shape: tuple[int, int], axis: Axis) -> Compressed:
    """The sparse matrix of a file that is open, if it holds together.

    Raises
    ------
    InputError
        A member is missing, or they do not fit each other.
    """
    x = root[element]
    missing = [name for name in ("data", "indices", "indptr") if len(getattr(x.get(name), "shape", None) or ()) != 1]
    if missing:
        raise InputError(f"{place}: {element!r} has no {missing[0]!r}, so it is no sparse matrix; write it again")
    entries, changed = int(x["data"].shape[0]), stamp_of(place)[1]
    pointers = row_pointers(place, stamp_of(place), element)
    whole = pointers.size == shape[axis] + 1 and pointers[0] == 0 and pointers[-1] == entries == x["indices"].shape[0]
    if not whole or (np.diff(pointers) < 0).any():
        raise InputError(
            f"{place}: the members of {element!r} do not fit each other ({pointers.size - 1} lines of {shape[axis]}, "
            f"{entries} values, {x['indices'].shape[0]} indices): it is damaged; write or fetch it again"
        )
    return Compressed(place, element, changed, shape, axis, entries)
