"""Any matrix file to our expression store: read, check everything, filter, normalise, and only then write."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import zarr
from anndata import AnnData
from anndata.io import write_elem
from scipy import sparse
from zarr.codecs import BloscCodec

from pipeline.errors import InputError
from pipeline.genes import IdKind, id_kind
from pipeline.matrix import Orientation, gene_symbols
from pipeline.normalize import Preset, ValueKind, log_normalize
from pipeline.open_source import read_any
from pipeline.publish import check_target, published

CHUNK_VALUES = 2**16  # 256 KiB of float32: a block of cells reads little more than its own
SHARD_VALUES = 2**24  # 64 MiB of float32: an atlas has thousands of files, not millions


@dataclass(frozen=True)
class Summary:
    """What an ingest did, in the words of the user.

    Parameters
    ----------
    cells, genes : what the store holds
    density : share of non-zero values in it, in [0, 1]
    value_kind : what the values of the source were
    preset : what was done to them
    orientation : what the rows of the source are
    orientation_from : what told so: "names", "request", "format" or "assumption"
    id_kind : what the gene ids are
    dropped_cells, dropped_genes : how many the filters took
    counts_kept : whether the store has the raw counts
    """

    cells: int
    genes: int
    density: float
    value_kind: ValueKind
    preset: Preset
    orientation: Orientation
    orientation_from: str
    id_kind: IdKind
    dropped_cells: int
    dropped_genes: int
    counts_kept: bool

    def lines(self) -> list[str]:
        """The summary to print, a fact per line."""
        steps = {"scanpy": "scaled to 10,000 per cell, log1p", "log1p": "log1p", "none": "kept as they are"}
        turned = {"genes-by-cells": "genes × cells", "cells-by-genes": "cells × genes"}.get(self.orientation, "")
        guess = " (assumed, since the names do not tell; --orientation overrides it)"
        return [
            f"{self.cells:,} cells × {self.genes:,} genes, {self.density:.1%} of the values above zero",
            f"dropped: {self.dropped_cells:,} cells and {self.dropped_genes:,} genes",
            f"values: {self.value_kind}, {steps[self.preset]}; raw counts {'kept' if self.counts_kept else 'unknown'}",
            f"rows of the source: {turned}{guess if self.orientation_from == 'assumption' else ''}",
            f"gene ids: {self.id_kind}",
        ]


def ingest(
    source: str | Path | AnnData,
    target: str | Path,
    *,
    preset: Preset = "auto",
    min_cells: int = 1,
    min_genes: int = 1,
    orientation: Orientation = "auto",
    layer: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Summary:
    """Write a matrix as expression store: AnnData-on-Zarr 3, CSR log expression, layers["counts"] when known.

    The store holds X, counts, obs, var (with var["symbol"] when known) and uns["pairscape"]; embeddings and graphs
    of the source stay behind. It appears under its name only when it is complete.

    Parameters
    ----------
    source, orientation, layer : as in `pipeline.open_source.read_any`
    target : a path that ends in .zarr; folders above it are made
    preset, min_cells, min_genes : as in `pipeline.normalize.log_normalize`
    overwrite : replace the Zarr store at target, once the new one is complete; False: an existing target is an error
    progress : called with the name of each step as it starts; absent: silence

    Raises
    ------
    InputError
        as those two functions; target does not end in .zarr, exists, or is no Zarr store that could be replaced; an
        annotation cannot be stored
    JobError
        the disk refuses to take the store
    """
    target, tell = Path(target), progress or _silence
    check_target(target, overwrite=overwrite)
    tell("reading and checking")
    adata = read_any(source, orientation=orientation, layer=layer)
    tell("filtering and normalising")
    adata = log_normalize(adata, preset, min_cells=min_cells, min_genes=min_genes)
    symbols = gene_symbols(adata.var)
    if symbols is not None:
        adata.var["symbol"] = list(symbols)
    tell("writing")
    with published(target) as aside:
        write_expression(adata, aside)
    return _summary(adata)


def _silence(step: str) -> None:
    pass


def write_expression(adata: AnnData, path: Path) -> None:
    """Write X, `layers["counts"]` where it is there, obs, var and uns as expression store, at once.

    Raises
    ------
    InputError
        An annotation cannot be stored.
    """
    # A group of format 3 makes write_elem write format 3; anndata's own default is still 2.
    root = zarr.open_group(str(path), mode="w-", zarr_format=3)
    _write_annotations(root, AnnData(obs=_storable(adata.obs), var=_storable(adata.var), uns=dict(adata.uns)))
    write_elem(root, "X", adata.X, dataset_kwargs=_layout(adata.X))
    if "counts" in adata.layers:
        write_elem(root, "layers/counts", adata.layers["counts"], dataset_kwargs=_layout(adata.layers["counts"]))


def _write_annotations(root: zarr.Group, names: AnnData) -> None:
    try:
        write_elem(root, "/", names, dataset_kwargs={"shards": None})
    except OSError:
        raise
    except Exception as e:  # anndata raises half a dozen unrelated classes for a column it cannot store
        reason = "; ".join([*str(e).splitlines()[:1], *getattr(e, "__notes__", [])])
        raise InputError(
            f"an annotation cannot be stored ({reason}): drop or rename that column, or make it text"
        ) from e


def _storable(frame: pd.DataFrame) -> pd.DataFrame:
    """Nullable strings as categories, which every version of anndata can write."""
    strings = [name for name, kind in frame.dtypes.items() if isinstance(kind, pd.StringDtype)]
    return frame.astype(dict.fromkeys(strings, object)).astype(dict.fromkeys(strings, "category"))


def _layout(x: sparse.csr_matrix) -> dict[str, object]:
    """Chunks within shards, no shard much larger than the matrix: zarr holds one whole shard in memory as it writes."""
    chunks = -(-max(x.nnz, 1) // CHUNK_VALUES)
    shard = CHUNK_VALUES * min(chunks, SHARD_VALUES // CHUNK_VALUES)
    codec = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
    return {"chunks": (CHUNK_VALUES,), "shards": (shard,), "compressors": [codec]}


def _summary(adata: AnnData) -> Summary:
    did = adata.uns["pairscape"]
    return Summary(
        cells=adata.n_obs,
        genes=adata.n_vars,
        density=adata.X.nnz / (adata.n_obs * adata.n_vars),
        value_kind=did["value_kind"],
        preset=did["preset"],
        orientation=did["orientation"],
        orientation_from=did["orientation_from"],
        id_kind=id_kind(list(adata.var_names)),
        dropped_cells=did["dropped_cells"],
        dropped_genes=did["dropped_genes"],
        counts_kept="counts" in adata.layers,
    )
