"""HDF5 and Zarr as they lie on disk, AnnData of every generation above all: matrices as CSR, CSC or dense."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import h5py
import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.matrix.formats.elements import read_element
from pairscape.pipeline.matrix.formats.unreadable import is_mistake_of_ours, unreadable
from pairscape.pipeline.storage.chunks import read_range
from pairscape.pipeline.storage.codecs import open_to_read
from pairscape.pipeline.storage.paths import binary, is_folder, is_remote, spelled, suffix_of
from pairscape.pipeline.storage.plain_files import check_plain_file

LONGEST_VALUE = 2**16  # bytes of a text of fixed length
DENSE_VALUES = 2**24  # values of a dense matrix that are read at a time: 64 MiB of float32


def existing(source: Any, suffixes: tuple[str, ...]) -> str:
    """The place, if something of that kind lies there: a folder for .zarr, a file for every other suffix."""
    place = spelled(source)
    if not place.endswith(suffixes):
        raise InputError(f"{place} has an unknown kind of name: expected one that ends in {', '.join(suffixes)}")
    if (folder := is_folder(place)) != place.endswith(".zarr"):
        kind = "folder" if folder else "file"
        raise InputError(f"{place} is a {kind}, so not what its name says: a .zarr is a folder, all else is a file")
    return place


@contextmanager
def opened(place: str) -> Iterator[Any]:
    """The root group of an HDF5 file or a .zarr, closed at the end; one that cannot be read is the user's matter.

    Raises
    ------
    InputError
        It cannot be read, with the reason.
    """
    try:
        if suffix_of(place) == ".zarr":
            yield open_to_read(place)
        elif is_remote(place):
            with binary(place) as file, h5py.File(file, "r") as root:
                yield root
        else:
            check_plain_file(place)
            with h5py.File(place, "r") as root:
                yield root
    except (InputError, JobError, MemoryError):
        raise
    except Exception as e:  # h5py, zarr, the codecs and anndata have no class of error in common for a damaged file
        if is_mistake_of_ours(e):
            raise
        raise unreadable(place, e) from e


def member(root: Any, name: str, path: str) -> Any:
    """A part of an AnnData that has to be there."""
    if name not in root:
        held = ", ".join(list(root)[:5]) or "nothing"
        raise InputError(f"{path} is no AnnData with a matrix: it has no {name!r} but {held}; write it with anndata")
    return root[name]


def group_of(root: Any, name: str) -> Any:
    """A group of that name; an empty one where there is none, or what anndata writes for none."""
    found = root.get(name, {})
    return found if hasattr(found, "keys") else {}


def raw_of(root: Any) -> Any:
    """The group that holds `.raw`, before anndata 0.7 two members of the root; None when there is none."""
    if "raw.X" in root:
        return {"X": root["raw.X"], "var": root["raw.var"]}
    raw = group_of(root, "raw")
    return raw if "X" in raw and "var" in raw else None


def read_frame(element: Any) -> pd.DataFrame:
    """Read obs or var, names as strings, without the columns that cannot be read."""
    return read_annotations(element)[0]


def read_annotations(element: Any) -> tuple[pd.DataFrame, list[str]]:
    """Read obs or var, names as strings, and the names of columns that cannot be read and are left out.

    anndata < 0.7 wrote a record array whose first field is the name.

    Raises
    ------
    InputError
        It is no table of annotations.
    """
    records = isinstance(element, h5py.Dataset)
    if (records and not element.dtype.names) or (not records and not {"_index", "encoding-type"} & set(element.attrs)):
        raise InputError(f"{_place(element)}: {element.name} is no table of annotations; write it with anndata")
    if records:
        return with_text_names(pd.DataFrame.from_records(element[:], index=element.dtype.names[0])), []
    try:
        return with_text_names(read_element(element)), []
    except (InputError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 — whatever a column of others makes anndata, pandas or a codec raise
        return _readable_columns(element, error)


def _place(element: Any) -> str:
    """The file of a part of it, for messages."""
    return str(element.file.filename if hasattr(element, "file") else element.store).removeprefix("file://")


def _readable_columns(element: Any, error: Exception) -> tuple[pd.DataFrame, list[str]]:
    """The columns that can be read one by one; the error itself, if it is not one of them that cannot be."""
    named = element.attrs.get("_index", "index")
    if not hasattr(element, "keys") or named not in element:
        raise error
    index = np.asarray(read_element(element[named]))
    kept: dict[str, Any] = {}
    lost: list[str] = []
    for name in [str(name) for name in element.attrs.get("column-order", [])]:
        try:
            values = read_element(element[name])
            kept |= {name: values} if len(values) == len(index) and np.ndim(values) == 1 else {}
        except (InputError, MemoryError):
            raise
        except Exception:  # noqa: BLE001 — its name is told
            pass
        if name not in kept:
            lost.append(name)
    if not lost:
        raise error
    return with_text_names(pd.DataFrame(kept, index=pd.Index(index))), lost


def texts(array: Any) -> list[str]:
    """Names from an array of HDF5 or Zarr, which may be bytes, text or numbers.

    Raises
    ------
    InputError
        Each takes more room than a name does.
    """
    if array.dtype.kind in "SU" and array.dtype.itemsize > LONGEST_VALUE:
        raise InputError(f"{array.name} holds texts of {array.dtype.itemsize:,} bytes each, which no name takes")
    return [value.decode() if isinstance(value, bytes) else str(value) for value in np.asarray(array[:]).tolist()]


def with_text_names(frame: pd.DataFrame) -> pd.DataFrame:
    """The same annotations under names that are text: other tools also write bytes and numbers."""
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in frame.index]
    return frame.set_axis(pd.Index(names, dtype=object), axis=0)


def canonical_csr(x: Any) -> sparse.csr_matrix:
    """(row, column) float32 CSR, indices sorted, no explicit zeros. x is not changed; its memory may be shared."""
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which check_values reports by gene
        csr = sparse.csr_matrix(x, dtype=np.float32)
    if csr.has_canonical_format and np.count_nonzero(csr.data) == csr.nnz:
        return csr
    csr = csr.copy()
    csr.sum_duplicates()
    csr.eliminate_zeros()
    return csr


def layout_of(x: Any, source: str) -> Literal["csr", "csc", "dense"]:
    """How X lies on disk, from anndata's encoding or, before anndata 0.7, h5sparse's."""
    if isinstance(x, (h5py.Dataset, zarr.Array)):
        if len(x.shape or ()) == 2 and x.dtype.kind in "biuf":
            return "dense"
    else:
        encoding = str(x.attrs.get("encoding-type", x.attrs.get("h5sparse_format", "")))
        kind = getattr(x["data"], "dtype", np.dtype(object)).kind if "data" in x else "O"
        if encoding[:3] in ("csr", "csc") and kind in "biuf":
            return "csr" if encoding[:3] == "csr" else "csc"
    raise InputError(f"{source}: X is neither a dense nor a CSR or CSC matrix of numbers; write it with anndata")


def shape_of(x: Any) -> tuple[int, int]:
    """(cells, genes), or as the element has it; sparse matrices keep theirs among the attributes."""
    dense = isinstance(x, (h5py.Dataset, zarr.Array))
    rows, columns = x.shape if dense else x.attrs.get("shape", x.attrs.get("h5sparse_shape"))
    return int(rows), int(columns)


@lru_cache(maxsize=8)
def row_pointers(path: str, stamp: tuple[int, int], element: str = "X") -> NDArray[np.int64]:
    """(line + 1,) where each row's, or column's, values start; kept, since every block would read them anew."""
    with opened(path) as root:
        return np.asarray(root[element]["indptr"][:], dtype=np.int64)


def csr_rows(x: Any, pointers: NDArray[np.int64], start: int, stop: int, width: int | None = None) -> sparse.csr_matrix:
    """The rows start..stop, of which only the values are read.

    Parameters
    ----------
    width
        Length of a row; absent: as the element says. With CSC, rows are columns.
    """
    low, high = int(pointers[start]), int(pointers[stop])
    parts = read_range(x["data"], low, high), read_range(x["indices"], low, high), pointers[start : stop + 1] - low
    return sparse.csr_matrix(parts, shape=(stop - start, shape_of(x)[1] if width is None else width))


def dense_rows(x: Any, start: int, stop: int, axis: Literal[0, 1] = 0, unit: int = 1) -> sparse.csr_matrix:
    """The rows (or columns, axis 1) start..stop of a dense matrix, of which no more than a few are dense at a time.

    Parameters
    ----------
    unit
        Rows that the file keeps together: they are read together.
    """
    step = max(1, DENSE_VALUES // x.shape[1 - axis] // unit) * unit
    cuts = [start, *range((start // step + 1) * step, stop, step), stop]
    parts = [_dense_lines(x, low, high, axis) for low, high in pairwise(cuts)]
    return parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")


def _dense_lines(x: Any, start: int, stop: int, axis: Literal[0, 1]) -> sparse.csr_matrix:
    return canonical_csr(x[start:stop] if axis == 0 else x[:, start:stop].T)
