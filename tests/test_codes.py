"""The code store: what is written is what numpy would code; kept while it is true, made again when it is not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest import Stages, simulated, store_expression
from hypothesis import given
from hypothesis import strategies as st

from pipeline import codes as module
from pipeline import encode as encoding
from pipeline.binning import bin_edges, gene_statistics
from pipeline.codes import cell_blocks, open_codes
from pipeline.encode import encode_matrix
from pipeline.matrix import open_expression
from pipeline.spec import Binning

RULES = ("max", "range", "quantile", "rank")


@pytest.fixture
def small_blocks(monkeypatch):
    """Seven blocks of 22 cells, the last one shorter."""
    monkeypatch.setattr(module, "CODES_CELLS", 22)


def expected_codes(dense, edges):
    """(G, N): 0 where not expressed, else 1 + the bin that `np.histogram` finds."""
    bins = np.stack([np.searchsorted(e, x, side="right") for e, x in zip(edges, dense.T, strict=True)])
    return np.where(dense.T == 0, 0, np.minimum(bins, edges.shape[1] - 1))


def made(path):
    """When and as what the store's first file was made: changes if it is made again."""
    status = (path / "zarr.json").stat()
    return status.st_ino, status.st_mtime_ns


@pytest.mark.parametrize("scale", RULES)
def test_round_trip(scale, dense, expression_path, small_blocks, stages, tmp_path):
    expression, cells = open_expression(expression_path), np.arange(150)
    codes = encode_matrix(expression, tmp_path / "c.zarr", Binning(scale, 16), cells, None, stages)
    rows = expression.select(cells)
    edges = bin_edges(
        Binning(scale, 16), gene_statistics(rows.data, rows.indices, 46, 150), [x[x > 0] for x in dense.T]
    )
    np.testing.assert_array_equal(codes.array("edges"), edges)
    found = codes.read(np.arange(46), slice(0, 150))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected_codes(dense, edges))
    np.testing.assert_array_equal(found == 0, dense.T == 0)
    assert (codes.n_genes, codes.n_cells, codes.binning) == (46, 150, Binning(scale, 16))
    assert stages.seen == {"gene statistics": [150, 150], "encoding cells": [150, 150]}
    assert [p.name for p in tmp_path.iterdir()] == ["c.zarr"]


def test_the_store_describes_itself(dense, expression_path, silent, tmp_path):
    cells = np.arange(0, 150, 2)
    encode_matrix(open_expression(expression_path), tmp_path / "c.zarr", Binning(), cells, None, silent)
    store = zarr.open_group(str(tmp_path / "c.zarr"), mode="r")
    assert (store.attrs["format"], store.attrs["format_version"]) == ("pairscape-codes", 1)
    assert store.attrs["provenance"]["matrix"] == str(expression_path)
    assert store["codes"].metadata.dimension_names == ("gene", "cell")
    assert (store["codes"].dtype, store["edges"].dtype) == (np.uint8, np.float32)
    np.testing.assert_array_equal(store["cell"][:], cells)
    assert list(store["gene"][:]) == [f"G{i}" for i in range(46)]
    np.testing.assert_allclose(store["mean"][:], dense[::2].mean(axis=0, dtype=float), rtol=1e-6)
    np.testing.assert_allclose(store["variance"][:], dense[::2].var(axis=0, dtype=float), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(store["dropout"][:], (dense[::2] == 0).mean(axis=0), rtol=1e-6)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory, expression_path):
    """Codes of all cells, of 46 genes in two chunks of genes."""
    path = tmp_path_factory.mktemp("codes") / "c.zarr"
    return encode_matrix(open_expression(expression_path), path, Binning("rank"), np.arange(150), None, Stages())


@given(st.sets(st.integers(0, 45), min_size=1), st.tuples(st.integers(0, 150), st.integers(0, 150)))
def test_any_genes_over_any_cells(ranked, genes, ends):
    genes, cells = np.array(sorted(genes)), slice(*sorted(ends))
    stored = zarr.open_array(f"{ranked.path}/codes", mode="r")[:]
    np.testing.assert_array_equal(ranked.read(genes, cells), stored[genes][:, cells])


def test_only_the_asked_cells_are_encoded(dense, expression_path, small_blocks, silent, tmp_path):
    cells = np.sort(np.random.default_rng(0).permutation(150)[:61])
    codes = encode_matrix(open_expression(expression_path), tmp_path / "c.zarr", Binning("max", 8), cells, None, silent)
    edges = codes.array("edges")
    np.testing.assert_array_equal(edges[:, -1], np.where((dense[cells] > 0).any(axis=0), dense[cells].max(axis=0), 1))
    np.testing.assert_array_equal(codes.read(np.arange(46), slice(0, 61)), expected_codes(dense[cells], edges))


@pytest.mark.parametrize("scale", ["rank", "quantile"])
def test_a_sample_of_the_cells_leaves_no_value_outside(scale, dense, expression_path, silent, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "SAMPLE_CELLS", 40)
    monkeypatch.setattr(encoding, "SAMPLE_RUN", 10)
    expression, cells = open_expression(expression_path), np.arange(150)
    codes = encode_matrix(expression, tmp_path / "c.zarr", Binning(scale), cells, None, silent)
    edges = codes.array("edges")
    np.testing.assert_array_equal(edges[:, -1], dense.max(axis=0))
    assert (np.diff(edges) >= 0).all()
    np.testing.assert_array_equal(codes.read(np.arange(46), slice(0, 150)), expected_codes(dense, edges))


def test_the_same_codes_are_not_made_twice(expression_path, stages, silent, tmp_path):
    target = tmp_path / "c.zarr"
    first = encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), None, silent)
    before = made(target)
    again = encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), None, stages)
    assert again == first
    assert made(target) == before
    assert stages.seen == {}


def test_the_same_matrix_elsewhere_has_the_same_codes(dense, expression_path, stages, silent, tmp_path):
    target = tmp_path / "c.zarr"
    encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), None, silent)
    elsewhere = open_expression(store_expression(tmp_path / "elsewhere.zarr", dense))
    encode_matrix(elsewhere, target, Binning(), np.arange(150), None, stages)
    assert stages.seen == {}


@pytest.mark.parametrize("change", ["matrix", "genes", "cells", "binning"])
def test_other_codes_are_made_anew_and_read_anew(change, dense, silent, tmp_path):
    """Also in the same process, which has read the old ones: nothing of them may be left in a cache."""
    source, target, cells, binning = tmp_path / "e.zarr", tmp_path / "c.zarr", np.arange(150), Binning("max")
    expression = open_expression(store_expression(source, dense))
    old = encode_matrix(expression, target, binning, cells, None, silent)
    old.read(np.arange(46), slice(0, 100))
    old.array("edges")
    if change == "matrix":
        dense = simulated(seed=1)
    elif change == "genes":
        dense = np.ascontiguousarray(dense[:, :30])
    elif change == "cells":
        cells = np.arange(1, 150)
    else:
        binning = Binning("rank")
    expression = open_expression(store_expression(source, dense))
    new = encode_matrix(expression, target, binning, cells, None, silent)
    assert new.content_hash != old.content_hash
    edges = zarr.open_group(new.path, mode="r")["edges"][:]
    np.testing.assert_array_equal(new.array("edges"), edges)
    found = new.read(np.arange(dense.shape[1]), slice(0, 100))
    np.testing.assert_array_equal(found, expected_codes(dense[cells], edges)[:, :100])


def test_what_a_killed_run_left_is_replaced(expression_path, silent, tmp_path):
    target = tmp_path / "c.zarr"
    encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), None, silent)
    target.rename(tmp_path / ".c.zarr.wip")
    shutil.rmtree(tmp_path / ".c.zarr.wip" / "edges")
    encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), None, silent)
    assert [p.name for p in tmp_path.iterdir()] == ["c.zarr"]


@pytest.mark.parametrize(("field", "value"), [("format_version", 2), ("format", "other")])
def test_another_format_is_refused(field, value, expression_path, silent, refuses, tmp_path):
    target = tmp_path / "c.zarr"
    encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), None, silent)
    metadata = json.loads((target / "zarr.json").read_text())
    metadata["attributes"][field] = value
    (target / "zarr.json").write_text(json.dumps(metadata))
    with refuses("c.zarr", str(value), "pairscape-codes version 1"):
        open_codes(target)


def test_what_is_no_code_store_is_refused_and_left_alone(expression_path, silent, refuses, tmp_path):
    """A mistyped --codes may name the matrix itself."""
    target = Path(shutil.copytree(expression_path, tmp_path / "e.zarr"))
    before = made(target)
    with refuses("e.zarr", "not a Pairscape code store"):
        encode_matrix(open_expression(target), target, Binning(), np.arange(150), None, silent)
    assert made(target) == before
    with refuses("absent"):
        open_codes(tmp_path / "absent")


@given(st.integers(1, 60_000))
def test_blocks_cover_all_cells_in_order(n_cells):
    covered = [cell for block in cell_blocks(n_cells) for cell in (block.start, block.stop)]
    assert covered[0] == 0
    assert covered[-1] == n_cells
    assert covered[1:-1:2] == covered[2::2]
