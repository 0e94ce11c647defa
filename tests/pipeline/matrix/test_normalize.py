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
from pairscape.pipeline.matrix.normalize import check_values, choose_preset, normalise
from pairscape.pipeline.matrix.survey import GeneMasks, Values, scan
from pairscape.pipeline.matrix.value_kinds import Judged, ValueKind

COUNTS = np.array([[3, 0, 1, 0], [0, 2, 5, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float32)


def values_of(x: Any) -> Values:
    every = np.ones(np.shape(x)[1], bool)
    rows = sparse.csr_matrix(np.asarray(x, np.float32))
    return scan(rows, GeneMasks(every, every, ~every, 1)).values


AUTO: list[tuple[ValueKind, Any]] = [("raw counts", "scanpy"), ("fractional counts", "scanpy"), ("shares", "scanpy"),
                                    ("normalised", "log1p"), ("log", "none")]  # fmt: skip


@pytest.mark.parametrize(("kind", "preset"), AUTO)
def test_what_auto_does_and_says(kind: ValueKind, preset: Any) -> None:
    chosen, said = choose_preset("auto", Judged(kind, "of what it looks like"), "m")
    assert chosen == preset
    assert said.endswith("of what it looks like" if kind == "raw counts" else "of what it looks like; --preset decides")
    assert choose_preset("auto", Judged("raw counts", ""), "m") == ("scanpy", "")


@pytest.mark.parametrize("kind", ["unclear", "square roots"])
def test_what_cannot_be_told_is_for_the_user_to_say(kind: ValueKind, refuses: Any) -> None:
    with refuses("m: the values ", "(of what it looks like)", "--preset none", "--layer"):
        choose_preset("auto", Judged(kind, "of what it looks like"), "m")


@pytest.mark.parametrize(
    ("kind", "preset", "words"),
    [
        ("raw counts", "none", "raw counts are stored as expression"),
        ("raw counts", "log1p", "preset log1p is for values that are normalised"),
        ("fractional counts", "none", "fractional counts are stored as expression"),
        ("fractional counts", "cnnc", "preset cnnc is for values that are normalised"),
        ("normalised", "scanpy", "scales them again"),
        ("normalised", "cnnc", ""),
        ("raw counts", "deep-cell", ""),
        ("log", "none", ""),
        ("unclear", "scanpy", ""),
        ("unclear", "none", ""),
        ("square roots", "none", ""),
    ],
)
def test_what_a_preset_contradicts_is_said(kind: ValueKind, preset: Any, words: str) -> None:
    chosen, said = choose_preset(preset, Judged(kind, ""), "m")
    assert chosen == preset
    assert words in said
    assert bool(said) == bool(words)


@pytest.mark.parametrize("kind", ["log", "square roots"])
@pytest.mark.parametrize("preset", ["scanpy", "log1p", "cnnc", "deep-cell"])
def test_no_logarithm_is_taken_twice(kind: ValueKind, preset: Any, refuses: Any) -> None:
    with refuses("m: the values are ", "already", preset, "--preset none"):
        choose_preset(preset, Judged(kind, ""), "m")


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
