"""Lay out an image store with everything but its images; the workers write those."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.images import FORMAT, FORMAT_VERSION, FREE, GROUPED_VERSION, PAIR_ROWS, ImageSpec
from pairscape.pipeline.heatmaps.shards import CODEC
from pairscape.pipeline.matrix.cell_groups import CellGroups
from pairscape.pipeline.options import CHUNK_PAIRS
from pairscape.pipeline.storage.digests import SPARE, keep_layout
from pairscape.pipeline.storage.ownership import clear_aside
from pairscape.pipeline.storage.write import publish_store


def create_images(
    path: Path,
    spec: ImageSpec,
    pairs: Pairs,
    codes: Codes,
    provenance: dict[str, Any],
    symbols: Sequence[str] | None = None,
    groups: CellGroups | None = None,
) -> None:
    """Lay out an image store with everything but the images.

    It is made aside and moved to its place whole, so a half-made one is never seen; in object storage its root comes
    last.

    Parameters
    ----------
    pairs
        In the order of the store.
    codes
        The codes that will be counted.
    symbols
        Of the genes of the codes, by which pairs and lists may name them too. Absent: they have none.
    groups
        Of the cells of the codes, as in `spec`.
    """
    aside = path.with_name(f".{path.name}.wip")  # one name, so that a killed run's remains are replaced
    clear_aside(aside)
    root = zarr.create_group(str(aside), zarr_format=3)
    rows = spec.n_shards * spec.binning.shard_pairs
    _create_sharded(root, spec, rows)
    _create_pairs(root, pairs, rows)
    _create_genes(root, codes, symbols)
    if groups is not None:
        _create_groups(root, groups)
    root.create_group("receipts")
    root.create_group(SPARE)
    root.attrs.update(_attributes(spec, provenance))
    if pairs.class_names:
        root.attrs["class_names"] = list(pairs.class_names)
    with warnings.catch_warnings():
        # true, and intended: without it every opening lists the store, with it other readers lose nothing
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part", category=UserWarning)
        zarr.consolidate_metadata(str(aside))
    keep_layout(aside, FREE)
    publish_store(aside, path)


def _create_pairs(root: zarr.Group, pairs: Pairs, rows: int) -> None:
    """Genes, label and line of the list of each pair; -1 behind the last."""
    for name in ("gene_a", "gene_b", "label", "list_row"):
        if (values := getattr(pairs, name)) is not None:
            array = root.create_array(
                name,
                shape=(rows,),
                chunks=(min(rows, PAIR_ROWS),),
                dtype=values.dtype,
                fill_value=-1,
                dimension_names=("pair",),
            )
            array[: len(pairs)] = values


def _create_genes(root: zarr.Group, codes: Codes, symbols: Sequence[str] | None) -> None:
    root.create_array("edges", data=codes.array("edges"), dimension_names=("gene", "edge"))
    for name in ("mean", "variance", "dropout", "gene"):
        root.create_array(name, data=codes.array(name), dimension_names=("gene",))
    if symbols is not None:
        root.create_array("symbol", data=np.asarray(symbols, np.dtypes.StringDType()), dimension_names=("gene",))


def _create_groups(root: zarr.Group, groups: CellGroups) -> None:
    named = {"group": np.asarray(groups.names, np.dtypes.StringDType()), "group_cells": groups.cells}
    for name, data in named.items():
        root.create_array(name, data=data, dimension_names=("group",))
    root.create_array("cell_group", data=groups.number, dimension_names=("cell",))


def _create_sharded(root: zarr.Group, spec: ImageSpec, rows: int) -> None:
    bins, shard = spec.binning.bins, spec.binning.shard_pairs
    number, each, dims = ((), (), ()) if spec.groups is None else ((len(spec.groups.names),), (1,), ("group",))
    compressors = CODEC.compressors()
    root.create_array(
        "counts",
        shape=(*number, rows, bins, bins),
        chunks=(*each, CHUNK_PAIRS, bins, bins),
        shards=(*each, shard, bins, bins),
        dtype="uint32",
        fill_value=0,
        compressors=compressors,
        dimension_names=(*dims, "pair", "bin_b", "bin_a"),
    )
    root.create_array(
        "both_zero",
        shape=(*number, rows),
        chunks=(*each, shard),
        dtype="uint32",
        fill_value=0,
        compressors=compressors,
        dimension_names=(*dims, "pair"),
    )


def _attributes(spec: ImageSpec, provenance: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION if spec.groups is None else GROUPED_VERSION,
        "bins": spec.binning.bins,
        "scale": spec.binning.scale,
        "n_cells": spec.n_cells,
        "n_pairs": spec.n_pairs,
        "plan_hash": spec.plan_hash,
        "spec": spec.facts(),
        "provenance": provenance,
    }
