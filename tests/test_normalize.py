"""Counts to log expression: presets, what values are taken for, and filters."""

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import sparse

from pipeline.datasets import demo_cells
from pipeline.errors import InputError
from pipeline.normalize import log_normalize, value_kind

COUNTS = np.array([[3, 0, 1, 0], [0, 2, 5, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float32)


def cells(x: Any) -> ad.AnnData:
    """An AnnData with the names c0, c1, ... and g0, g1, ..."""
    n_cells, n_genes = np.shape(x)
    obs, var = (pd.DataFrame(index=[f"{k}{i}" for i in range(n)]) for k, n in (("c", n_cells), ("g", n_genes)))
    return ad.AnnData(sparse.csr_matrix(x), obs=obs, var=var)


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (COUNTS, "raw counts"),
        (COUNTS.astype(int), "raw counts"),
        (np.log2(COUNTS + 1), "log"),
        (COUNTS * 333.3, "normalised"),
        (sparse.csr_matrix(COUNTS.shape), "raw counts"),
    ],
)
def test_value_kind(x: Any, kind: str) -> None:
    assert value_kind(x) == kind
    assert value_kind(sparse.csr_matrix(x)) == kind


def test_scanpy_preset_is_log_of_ten_thousand_per_cell() -> None:
    result = log_normalize(cells(COUNTS))
    kept = COUNTS[:3, :3]
    np.testing.assert_allclose(result.X.toarray(), np.log1p(kept / kept.sum(1, keepdims=True) * 1e4), rtol=1e-6)
    np.testing.assert_array_equal(result.layers["counts"].toarray(), kept)
    assert result.X.dtype == np.float32
    assert result.uns["pairscape"]["preset"] == "scanpy"
    assert (result.uns["pairscape"]["dropped_cells"], result.uns["pairscape"]["dropped_genes"]) == (1, 1)


@pytest.mark.parametrize(
    ("x", "preset", "used", "expected"),
    [
        (np.log2(COUNTS + 1), "auto", "none", np.log2(COUNTS + 1)),
        (COUNTS * 333.3, "auto", "log1p", np.log1p(COUNTS * 333.3)),
        (COUNTS, "log1p", "log1p", np.log1p(COUNTS)),
        (COUNTS, "none", "none", COUNTS),
    ],
)
def test_other_presets(x: NDArray[np.floating], preset: Any, used: str, expected: NDArray[np.floating]) -> None:
    result = log_normalize(cells(x.astype(np.float32)), preset)
    assert result.uns["pairscape"]["preset"] == used
    np.testing.assert_allclose(result.X.toarray(), expected[:3, :3], rtol=1e-6)


def test_the_input_is_left_untouched() -> None:
    adata = cells(COUNTS)
    adata.X.sort_indices()
    before = adata.copy()
    log_normalize(adata)
    assert (adata.X != before.X).nnz == 0
    assert list(adata.layers) == []
    assert dict(adata.uns) == {}


def test_known_counts_are_kept_beside_log_values_and_others_are_not() -> None:
    adata = cells(np.log2(COUNTS + 1))
    adata.layers["counts"] = sparse.csr_matrix(COUNTS)
    np.testing.assert_array_equal(log_normalize(adata).layers["counts"].toarray(), COUNTS[:3, :3])
    adata.layers["counts"] = sparse.csr_matrix(COUNTS * 0.5)
    assert "counts" not in log_normalize(adata).layers


def test_filters_hold_in_the_result() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 1, size=40), size=(60, 40)).astype(np.float32)
    result = log_normalize(cells(counts), min_cells=12, min_genes=5)
    expressed = result.X.toarray() > 0
    assert expressed.sum(0).min() >= 12
    assert expressed.sum(1).min() >= 5
    assert result.n_obs < 60
    assert result.n_vars < 40


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (COUNTS, {"preset": "seurat"}, "preset 'seurat' is unknown"),
        (COUNTS, {"min_cells": 0}, "min_cells is 0"),
        (COUNTS, {"min_genes": 4}, "0 of 4 cells"),
        (COUNTS - 1, {}, "--layer counts or --layer raw"),
        (COUNTS * np.nan, {}, "NaN or infinite: 16"),
        (COUNTS * 0, {}, "0 of 4 cells"),
    ],
)
def test_refusals(x: NDArray[np.floating], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        log_normalize(cells(x), **options)
    assert "\n" not in str(refused.value)


def test_demo_cells_are_log_expression_as_they_are() -> None:
    demo = demo_cells()
    assert demo.shape == (700, 765)
    assert value_kind(demo.X) == "log"
    result = log_normalize(demo)
    assert result.uns["pairscape"]["preset"] == "none"
    assert (demo[result.obs_names, result.var_names].X != result.X).nnz == 0
