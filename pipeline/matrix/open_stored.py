"""Which format a place has, by its suffix and, where that leaves it open, by its content; and its reader."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import h5py
import pandas as pd

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.formats.anndata import no_layer, open_annotated
from pairscape.pipeline.matrix.formats.hdf5_zarr import fingerprint, opened
from pairscape.pipeline.matrix.formats.loom import open_loom
from pairscape.pipeline.matrix.formats.mtx import holds_mtx, open_mtx
from pairscape.pipeline.matrix.formats.pandas_hdf5 import frames_in, open_frame
from pairscape.pipeline.matrix.formats.tenx import genomes_in, open_tenx
from pairscape.pipeline.matrix.formats.text import TEXT_SUFFIXES, read_table
from pairscape.pipeline.matrix.formats.xarray_zarr import is_annotated, open_array
from pairscape.pipeline.matrix.source import Stored
from pairscape.pipeline.storage.places import is_folder, is_url, suffix_of

Format = Literal["annotated", "loom", "tenx", "mtx", "frame", "array", "text"]

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
BY_SUFFIX: dict[str, Format] = {
    ".h5ad": "annotated",
    ".loom": "loom",
    **{f".mtx{end}": "mtx" for end in ("", ".gz")},
    **{f"{suffix}{end}": "text" for suffix in TEXT_SUFFIXES for end in ("", ".gz")},
}
LAYERED: dict[Format, Callable[[str, str | None], Stored]] = {"annotated": open_annotated, "loom": open_loom}
KEYED: dict[Format, Callable[[str, str | None], Stored]] = {
    "tenx": open_tenx,
    "mtx": open_mtx,
    "frame": open_frame,
    "array": open_array,
}


def open_stored(source: str, layer: str | None, key: str | None) -> Stored:
    """Open one file, folder or URL.

    Raises
    ------
    InputError
        There is none, its kind is unknown or not what its name says, it is damaged, or has no such layer or key.
    """
    kind = _kind(source)
    place = source if is_url(source) else str(Path(source).absolute())
    if layer is not None and kind not in LAYERED:
        raise no_layer(layer, [], place)
    if key is not None and kind not in KEYED:
        raise InputError(
            f"{place} has no {key!r}: it holds one matrix, of which --layer may choose a layer; give no --key"
        )
    if kind == "text":
        return open_text(place)
    return LAYERED[kind](place, layer) if kind in LAYERED else KEYED[kind](place, key)


def open_text(place: str) -> Stored:
    """Delimited text, which tells its orientation by names only: genes × cells where they do not, BEELINE's way."""
    table = read_table(place)
    rows, columns = (pd.DataFrame(index=pd.Index(names, dtype=object)) for names in (table.rows, table.columns))
    return Stored(place, rows, columns, table.numbers, None, "genes-by-cells", "assumption", fingerprint(place))


def _kind(source: str) -> Format:
    suffix, folder = suffix_of(source), is_folder(source)
    if suffix == ".zarr":
        if not folder:
            raise InputError(
                f"{source} is a file, which its name does not say: a .zarr is a folder, all else is a file"
            )
        with opened(source) as root:
            return "annotated" if is_annotated(root) else "array"
    if folder and suffix not in BY_SUFFIX and holds_mtx(source):
        return "mtx"
    if folder:
        raise InputError(
            f"{source} is a folder, and neither named .zarr nor one with a matrix.mtx or matrix.mtx.gz: give one of "
            "those, or a file"
        )
    if suffix in HDF5_SUFFIXES:
        with opened(source) as root:
            return _of_hdf5(root, source)
    if suffix not in BY_SUFFIX:
        known = ", ".join([*BY_SUFFIX, ".zarr", *HDF5_SUFFIXES[:2]])
        raise InputError(
            f"{source} has an unknown kind of name: expected one that ends in {known}, or a folder with mtx"
        )
    return BY_SUFFIX[suffix]


def _of_hdf5(root: Any, source: str) -> Format:
    """An .h5 may be anything: its members tell."""
    if "X" in root:
        return "annotated"
    if isinstance(root.get("matrix"), h5py.Dataset):
        return "loom"
    if "matrix" in root or genomes_in(root):
        return "tenx"
    if frames_in(root):
        return "frame"
    held = ", ".join(list(root)[:5]) or "nothing"
    raise InputError(
        f"{source} holds {held}: neither a Cell Ranger matrix, a table of pandas, a loom file nor an AnnData; convert "
        "it to one of these"
    )
