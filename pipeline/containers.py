"""AnnData as it lies on disk: .h5ad and .zarr, of every generation of the format, with X as CSR, CSC or dense."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pandas as pd
import zarr
from anndata.io import read_elem
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import InputError
from pipeline.ranges import read_range

DENSE_VALUES = 2**24  # values of a dense matrix that are read at a time: 64 MiB of float32


def existing(source: str | Path, suffixes: tuple[str, ...]) -> Path:
    """The path, if something of that kind lies there: a folder for .zarr, a file for every other suffix."""
    path = Path(source)
    if not path.name.endswith(suffixes):
        raise InputError(f"{path} has an unknown kind of name: expected one that ends in {', '.join(suffixes)}")
    if not path.exists():
        raise InputError(f"{path} does not exist: check the path (the working folder is {Path.cwd()})")
    if path.is_dir() != (path.suffix == ".zarr"):
        kind = "folder" if path.is_dir() else "file"
        raise InputError(f"{path} is a {kind}, which its name does not say: a .zarr is a folder, all else is a file")
    return path


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The root group of an .h5ad or .zarr, closed at the end; a file that cannot be read is the user's matter."""
    try:
        if path.suffix == ".zarr":
            yield zarr.open_group(str(path), mode="r")
        else:
            with h5py.File(path, "r") as root:
                yield root
    except (InputError, MemoryError):
        raise
    except Exception as e:  # h5py, zarr, the codecs and anndata have no class of error in common for a damaged file
        reason = next(iter(str(e).splitlines()), "") or type(e).__name__
        raise InputError(
            f"{path} cannot be read ({reason}): it is damaged or no AnnData; write or fetch it again"
        ) from e


def stamp_of(path: Path) -> tuple[int, int]:
    """Changes when the file is replaced: what is cached of it is then read anew."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def fingerprint(path: Path) -> str:
    """Hex sha256 over names, sizes and times of change of the file, or of all files below the folder.

    As git's index does, equal fingerprints are taken for equal content, which is never read. It costs one look at each
    file; who changes a file and sets back its time, at the same size, is not seen.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        stat = file.stat()
        total.update(f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return total.hexdigest()


def member(root: Any, name: str, path: Path) -> Any:
    """A part of an AnnData that has to be there."""
    if name not in root:
        held = ", ".join(list(root)[:5]) or "nothing"
        raise InputError(f"{path} is no AnnData with a matrix: it has no {name!r} but {held}; write it with anndata")
    return root[name]


def raw_of(root: Any) -> Any:
    """The group that holds `.raw`, before anndata 0.7 two members of the root; None when there is none."""
    if "raw.X" in root:
        return {"X": root["raw.X"], "var": root["raw.var"]}
    return root["raw"] if "raw" in root and "X" in root["raw"] else None


def read_frame(element: Any) -> pd.DataFrame:
    """Read obs or var, names as strings; anndata < 0.7 wrote a record array whose first field is the name."""
    if isinstance(element, h5py.Dataset):
        frame = pd.DataFrame.from_records(element[:], index=element.dtype.names[0])
    else:
        frame = read_elem(element)
    return with_text_names(frame)


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
        if len(x.shape) == 2 and x.dtype.kind in "biuf":
            return "dense"
    else:
        encoding = str(x.attrs.get("encoding-type", x.attrs.get("h5sparse_format", "")))
        if encoding[:3] in ("csr", "csc") and x["data"].dtype.kind in "biuf":
            return "csr" if encoding[:3] == "csr" else "csc"
    raise InputError(f"{source}: X is neither a dense nor a CSR or CSC matrix of numbers; write it with anndata")


def shape_of(x: Any) -> tuple[int, int]:
    """(cells, genes), or as the element has it; sparse matrices keep theirs among the attributes."""
    dense = isinstance(x, (h5py.Dataset, zarr.Array))
    rows, columns = x.shape if dense else x.attrs.get("shape", x.attrs.get("h5sparse_shape"))
    return int(rows), int(columns)


@lru_cache(maxsize=8)
def row_pointers(path: str, stamp: tuple[int, int]) -> NDArray[np.int64]:
    """(cell + 1,) where each cell's values start; kept, since every block would read them anew."""
    with opened(Path(path)) as root:
        return np.asarray(root["X"]["indptr"][:], dtype=np.int64)


def csr_rows(x: Any, pointers: NDArray[np.int64], start: int, stop: int) -> sparse.csr_matrix:
    """The rows start..stop, of which only the values are read."""
    low, high = int(pointers[start]), int(pointers[stop])
    parts = read_range(x["data"], low, high), read_range(x["indices"], low, high), pointers[start : stop + 1] - low
    return sparse.csr_matrix(parts, shape=(stop - start, shape_of(x)[1]))


def dense_rows(x: Any, start: int, stop: int) -> sparse.csr_matrix:
    """The rows start..stop of a dense matrix, of which no more than a few are held dense at a time."""
    step = max(1, DENSE_VALUES // x.shape[1])
    parts = [canonical_csr(x[i : min(i + step, stop)]) for i in range(start, stop, step)]
    return sparse.vstack(parts, format="csr") if parts else canonical_csr(x[start:stop])


@lru_cache(maxsize=1)
def csc_as_csr(path: str, stamp: tuple[int, int]) -> sparse.csr_matrix:
    """All of a matrix stored by genes, turned to cells; kept, since every block of cells needs all of it."""
    with opened(Path(path)) as root:
        return canonical_csr(whole(root["X"], path))


def whole(x: Any, source: str) -> Any:
    """The matrix in memory, in its own layout."""
    layout = layout_of(x, source)
    if layout == "dense":
        return x[:]
    container = sparse.csr_matrix if layout == "csr" else sparse.csc_matrix
    return container((x["data"][:], x["indices"][:], x["indptr"][:]), shape=shape_of(x))
