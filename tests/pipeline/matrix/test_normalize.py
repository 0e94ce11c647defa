"""Counts to log expression: presets, what values are taken for, and what is refused."""

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.datasets.demo import demo_cells
from pairscape.pipeline.matrix.ingest import ingest
from pairscape.pipeline.matrix.normalize import check_values, choose_preset, normalise, value_kind
from pairscape.pipeline.matrix.survey import Values, Wanted, scan

COUNTS = np.array([[3, 0, 1, 0], [0, 2, 5, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float32)


def values_of(x: Any) -> Values:
    every = np.ones(np.shape(x)[1], bool)
    rows = sparse.csr_matrix(np.asarray(x, np.float32))
    return scan(rows, Wanted(every, every, ~every, 1)).values


@pytest.mark.parametrize(
    ("x", "kind", "preset"),
    [
        (COUNTS, "raw counts", "scanpy"),
        (np.log2(COUNTS + 1), "log", "none"),
        (COUNTS * 333.3, "normalised", "log1p"),
        (COUNTS * 0, "raw counts", "scanpy"),
    ],
)
def test_what_values_are_and_what_auto_does(x: NDArray[np.floating], kind: str, preset: str) -> None:
    assert value_kind(values_of(x)) == kind
    chosen, said = choose_preset("auto", values_of(x), "m")
    assert (chosen, bool(said)) == (preset, kind == "log")


@pytest.mark.parametrize(
    ("x", "preset", "words"),
    [
        (COUNTS, "none", "raw counts are stored as expression"),
        (COUNTS, "log1p", "preset log1p is for values that are normalised"),
        (COUNTS, "cnnc", "preset cnnc is for values that are normalised"),
        (COUNTS * 333.3, "scanpy", "scales them again"),
        (COUNTS * 333.3, "cnnc", ""),
        (COUNTS, "deep-cell", ""),
        (np.log1p(COUNTS), "none", ""),
    ],
)
def test_what_a_preset_contradicts_is_said(x: NDArray[np.floating], preset: Any, words: str) -> None:
    chosen, said = choose_preset(preset, values_of(x), "m")
    assert chosen == preset
    assert words in said
    assert bool(said) == bool(words)


@pytest.mark.parametrize("preset", ["scanpy", "log1p", "cnnc", "deep-cell"])
def test_no_logarithm_is_taken_twice(preset: Any, refuses: Any) -> None:
    with refuses("m: the values are logarithms already", preset, "--preset none"):
        choose_preset(preset, values_of(np.log2(COUNTS + 1)), "m")


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("scanpy", np.log1p(COUNTS[:3] / COUNTS[:3].sum(1, keepdims=True) * 1e4)),
        ("log1p", np.log1p(COUNTS[:3])),
        ("none", COUNTS[:3]),
        ("cnnc", np.log10(COUNTS[:3] + np.float64(0.01)) + 2),  # in float32, 0 misses 0 by what the processor rounds
        ("deep-cell", np.log2(COUNTS[:3] / COUNTS[:3].sum(1, keepdims=True) * 100 + 1)),
    ],
)
def test_presets(preset: Any, expected: NDArray[np.floating]) -> None:
    rows = sparse.csr_matrix(COUNTS[:3])
    before = rows.copy()
    found = normalise(rows, preset)
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-6, atol=1e-7)
    assert found.dtype == np.float32
    assert (rows != before).nnz == 0


@pytest.mark.parametrize("preset", ["scanpy", "log1p", "cnnc", "deep-cell"])
def test_a_cell_is_the_same_in_any_block(preset: Any) -> None:
    rng = np.random.default_rng(0)
    x = sparse.csr_matrix(rng.poisson(rng.gamma(0.5, 2, 300), (90, 300)).astype(np.float32))
    whole = normalise(x, preset)
    for start, stop in ((0, 1), (1, 50), (50, 90)):
        np.testing.assert_array_equal(normalise(x[start:stop], preset).data, whole[start:stop].data)


def test_scanpys_own_in_memory() -> None:
    rng = np.random.default_rng(1)
    x = sparse.csr_matrix(rng.poisson(0.7, (40, 60)).astype(np.float32))
    cells = ad.AnnData(x.copy())
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    np.testing.assert_array_equal(normalise(x, "scanpy").toarray(), cells.X.toarray())


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (COUNTS - 1, ["gene B has the negative value -1", "--layer counts or --layer raw"]),
        (COUNTS * np.nan, ["NaN or infinite: 16", "the first in gene A"]),
        (np.where(COUNTS == 5, np.inf, COUNTS), ["NaN or infinite: 1", "the first in gene C"]),
        (np.where(COUNTS == 5, 2.0**24, COUNTS), ["gene C has the value 1.678e+07", "2^24"]),
        (COUNTS * 1e35 + 0.5, ["gene C", "2^24"]),
    ],
)
def test_values_that_are_no_expression(x: NDArray[np.floating], words: list[str], refuses: Any) -> None:
    with refuses("m: ", *words):
        check_values(values_of(x), pd.Index(list("ABCD")), "m")


def test_demo_cells_are_log_expression_as_they_are(tmp_path: Any) -> None:
    demo = demo_cells()
    assert demo.shape == (700, 765)
    summary = ingest(demo, tmp_path / "e.zarr")
    assert (summary.value_kind, summary.preset) == ("log", "none")
    store = ad.read_zarr(tmp_path / "e.zarr")
    assert (demo[store.obs_names, store.var_names].X != store.X).nnz == 0
