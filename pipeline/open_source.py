"""A stand-in of the smallest size, replaced at the merge: .h5ad with CSR from disk, everything else from memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from pipeline.choices import Join, Orientation
from pipeline.containers import canonical_csr, csr_rows, fingerprint, layout_of, member, opened, read_frame
from pipeline.matrix import read_any
from pipeline.progress import Progress
from pipeline.source import Source


@dataclass(frozen=True)
class _Memory:
    matrix: sparse.csr_matrix

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        return canonical_csr(self.matrix[start:stop])


@dataclass(frozen=True)
class _H5ad:
    path: str
    element: str

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        with opened(Path(self.path)) as file:
            x = file[self.element]
            pointers = np.zeros(stop + 1, np.int64)
            pointers[start:] = x["indptr"][start : stop + 1]
            return canonical_csr(csr_rows(x, pointers, start, stop))


def open_source(
    source: Any,
    *,
    orientation: Orientation = "auto",
    layer: str | None = None,
    key: str | None = None,
    join: Join = "inner",
    scratch: Path,
    progress: Progress,
) -> Source:
    """Open a matrix."""
    source = source[0] if isinstance(source, list) else source
    if not isinstance(source, AnnData) and Path(source).suffix == ".h5ad" and layer is None and orientation == "auto":
        path = Path(source).absolute()
        if path.is_file():
            with opened(path) as root:
                if "X" in root and layout_of(root["X"], str(path)) == "csr":
                    obs, var = (read_frame(member(root, axis, path)) for axis in ("obs", "var"))
                    counts = _H5ad(str(path), "layers/counts") if "layers/counts" in root else None
                    values = _H5ad(str(path), "X")
                    return Source(
                        str(source), obs, var, values, counts, "cells-by-genes", "format", fingerprint(path)
                    )  # fmt: skip
    adata = read_any(source, orientation=orientation, layer=layer)
    did = adata.uns["pairscape"]
    beside = _Memory(adata.layers["counts"]) if "counts" in adata.layers else None
    name = did["source"] if isinstance(source, AnnData) else str(source)
    stamp = "memory" if isinstance(source, AnnData) else fingerprint(Path(source))
    return Source(
        name, adata.obs, adata.var, _Memory(adata.X), beside, did["orientation"], did["orientation_from"], stamp
    )  # fmt: skip
