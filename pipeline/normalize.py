"""Counts to log expression, and which cells and genes are kept: scanpy's functions, under named presets."""

from typing import Any, Literal, get_args

import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from pipeline.containers import canonical_csr
from pipeline.errors import InputError
from pipeline.matrix import IN_MEMORY, check_values

Preset = Literal["auto", "scanpy", "log1p", "none"]
ValueKind = Literal["raw counts", "log", "normalised"]

TARGET_SUM = 1e4
# log2(x + 1) of 50 would be x = 1e15, beyond any sequencing depth; a TPM or CPM matrix always has larger values.
LOG_MAXIMUM = 50.0
AUTO: dict[ValueKind, Preset] = {"raw counts": "scanpy", "log": "none", "normalised": "log1p"}


def value_kind(x: Any) -> ValueKind:
    """What the values of a matrix are: whole numbers are raw counts, others below 50 logarithms, others normalised."""
    stored: Any = x
    values = stored.data if sparse.issparse(x) else np.asarray(x)
    if np.array_equal(values, np.rint(values)):
        return "raw counts"
    return "log" if values.max() < LOG_MAXIMUM else "normalised"


def log_normalize(adata: AnnData, preset: Preset = "auto", *, min_cells: int = 1, min_genes: int = 1) -> AnnData:
    """Filter cells and genes, then take counts to log expression; the input is left untouched.

    Filters repeat until nothing more goes, so that in the result every gene is expressed in `min_cells` of the cells
    kept and every cell expresses `min_genes` of the genes kept. The result does not depend on which filter comes first.

    Parameters
    ----------
    adata : cells × genes, X without negative values; layers["counts"] is kept when it holds whole numbers
    preset : "scanpy": normalize_total to 10,000 per cell, then log1p. "log1p": only the logarithm. "none": X as it is.
        "auto": "scanpy" for raw counts, "none" for logarithms (any base), "log1p" for other normalised values
    min_cells : smallest number of cells a gene is expressed in; 1 drops the genes that are expressed in none
    min_genes : smallest number of genes a cell expresses; 1 drops the cells without expression

    Returns
    -------
    AnnData
        X CSR float32 log expression, layers["counts"] when known, obs, var, and uns["pairscape"]: what it held and
        {preset, value_kind, min_cells, min_genes, dropped_cells, dropped_genes}

    Raises
    ------
    InputError
        preset or a minimum is out of range; a value is NaN, infinite or negative; less than two cells or genes are left
    """
    _check_choices(preset, min_cells, min_genes)
    x, source = canonical_csr(adata.X), dict(adata.uns.get("pairscape", {}))
    check_values(x, adata.var_names, source.get("source", IN_MEMORY))
    kept = _filtered(AnnData(x, obs=adata.obs, var=adata.var, layers=_counts_layer(adata)), min_cells, min_genes)
    if min(kept.shape) < 2:
        raise InputError(_nothing_left(source.get("source", IN_MEMORY), adata, kept, min_cells, min_genes))
    kind = value_kind(kept.X)
    chosen = AUTO[kind] if preset == "auto" else preset
    if kind == "raw counts":
        kept.layers["counts"] = kept.X.copy()
    _apply(kept, chosen)
    kept.uns["pairscape"] = source | {
        "preset": chosen,
        "value_kind": kind,
        "min_cells": min_cells,
        "min_genes": min_genes,
        "dropped_cells": adata.n_obs - kept.n_obs,
        "dropped_genes": adata.n_vars - kept.n_vars,
    }
    return kept


def _check_choices(preset: str, min_cells: int, min_genes: int) -> None:
    if preset not in get_args(Preset):
        raise InputError(f"preset {preset!r} is unknown: give one of {', '.join(get_args(Preset))}")
    for name, least in (("min_cells", min_cells), ("min_genes", min_genes)):
        if least < 1:
            raise InputError(
                f"{name} is {least}: genes and cells without any expression have no heatmap; give 1 or more"
            )


def _counts_layer(adata: AnnData) -> dict[str, sparse.csr_matrix]:
    """The counts that came with a matrix, if they are counts: whole numbers, none negative."""
    if "counts" not in adata.layers:
        return {}
    counts = canonical_csr(adata.layers["counts"])
    known = value_kind(counts) == "raw counts" and not (counts.data < 0).any()
    return {"counts": counts} if known else {}


def _filtered(adata: AnnData, min_cells: int, min_genes: int) -> AnnData:
    """A copy with the cells and genes that satisfy both minima among themselves."""
    while min(adata.shape):
        genes, _ = sc.pp.filter_genes(adata, min_cells=min_cells, inplace=False)
        cells, _ = sc.pp.filter_cells(adata, min_genes=min_genes, inplace=False)
        if genes.all() and cells.all():
            break
        adata = adata[cells, genes].copy()
    return adata.copy()


def _nothing_left(source: str, adata: AnnData, kept: AnnData, min_cells: int, min_genes: int) -> str:
    return (
        f"{source}: {kept.n_obs} of {adata.n_obs} cells and {kept.n_vars} of {adata.n_vars} genes are left with"
        f" min_cells={min_cells} and min_genes={min_genes} (1 drops only what has no expression at all); gene pairs"
        " need two of each: lower the minima or check the matrix"
    )


def _apply(adata: AnnData, preset: Preset) -> None:
    if preset == "scanpy":
        sc.pp.normalize_total(adata, target_sum=TARGET_SUM)
    if preset in ("scanpy", "log1p"):
        adata.X = sc.pp.log1p(adata.X)
