"""Facts of cells, genes and values: numpy's, however the cells are cut, and kept as far as a pass has come."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.matrix import scan as passes
from pairscape.pipeline.matrix.scan import ChosenCells, scan_cells
from pairscape.pipeline.matrix.survey import GeneMasks, no_facts, scan, values_as_array, values_from_array


def matrix(n_cells=60, n_genes=25, seed=0):
    return sparse.random(
        n_cells, n_genes, 0.3, "csr", np.float32, random_state=seed, data_rvs=lambda n: 1 + np.arange(n)
    )


def wanted(n_genes=25, min_genes=5):
    numbers = np.arange(n_genes)
    return GeneMasks(numbers % 3 > 0, numbers % 2 == 0, numbers < 4, min_genes)


def test_the_facts_are_numpys():
    x, chosen = matrix(), wanted()
    facts, dense = scan(x, chosen), x.toarray()
    expressed = dense > 0
    counted = expressed[:, chosen.counted].sum(1)
    np.testing.assert_array_equal(facts.cells["expressed"], expressed.sum(1))
    np.testing.assert_array_equal(facts.cells["counted"], counted)
    np.testing.assert_array_equal(facts.cells["entries"], expressed[:, chosen.counted & chosen.stored].sum(1))
    np.testing.assert_array_equal(facts.cells["total"], dense.sum(1, dtype=float))
    np.testing.assert_array_equal(facts.cells["mitochondrial"], dense[:, :4].sum(1, dtype=float))
    np.testing.assert_array_equal(facts.genes["expressed"], expressed.sum(0))
    kept = (expressed & chosen.counted)[counted >= 5].sum(0)
    np.testing.assert_array_equal(facts.genes["kept"], kept)
    np.testing.assert_array_equal(facts.genes["high"], np.where(expressed.any(0), dense.max(0), -np.inf))
    np.testing.assert_array_equal(facts.genes["low"], np.where(expressed, dense, np.inf).min(0))
    values = facts.values
    assert (values.entries, values.bad, values.low, values.high, values.whole) == (x.nnz, 0, 1, x.nnz, True)
    assert 1 in dense[:, values.low_gene]
    assert x.nnz in dense[:, values.high_gene]


@given(st.lists(st.integers(0, 60), max_size=5))
def test_any_cut_gives_the_same(cuts):
    x, whole, merged = matrix(), scan(matrix(), wanted()), no_facts(25)
    bounds = [0, *sorted(cuts), 60]
    for start, stop in pairwise(bounds):
        merged = merged.merge(scan(x[start:stop], wanted()))
    np.testing.assert_array_equal(merged.cells, whole.cells)
    np.testing.assert_array_equal(merged.genes, whole.genes)
    assert merged.values == whole.values


def test_bad_values_are_told():
    x = sparse.csr_matrix(np.array([[1, 0, 2], [0, np.nan, 3], [-2.5, 0, np.inf]], np.float32))
    values = scan(x, wanted(3)).values
    assert (values.bad, values.bad_gene, values.low, values.low_gene) == (2, 1, -2.5, 0)
    assert (values.high, values.high_gene, values.whole) == (3, 2, False)
    assert values_from_array(values_as_array(values)) == values
    assert values_from_array(values_as_array(no_facts(3).values)) == no_facts(3).values


class Rows:
    """A reader that knows how often it was asked."""

    def __init__(self):
        self.asked = 0

    def rows(self, start, stop):
        self.asked += 1
        return matrix()[start:stop]


def run(folder, reader, chosen=None):
    cells = ChosenCells(np.ones(60, bool) if chosen is None else chosen, 10)
    return scan_cells((reader,), wanted(), cells, folder, "reading", Session())[0]


def test_a_pass_goes_on_where_it_was(tmp_path, monkeypatch):
    whole, calls = scan(matrix(), wanted()), iter(range(100))

    def fail(*arguments):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return scan(*arguments)

    monkeypatch.setattr(passes, "scan", fail)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Rows())
    with (tmp_path / "cells0").open("ab") as file:
        file.write(b"half a block")
    reader = Rows()
    facts = run(tmp_path, reader)
    assert reader.asked == 2
    np.testing.assert_array_equal(facts.cells, whole.cells)
    np.testing.assert_array_equal(facts.genes, whole.genes)
    assert facts.values == whole.values
    again = Rows()
    run(tmp_path, again)
    assert again.asked == 0


@pytest.mark.parametrize("name", ["cells0", "merged.npz"])
def test_a_damaged_pass_begins_anew(name, tmp_path):
    whole = run(tmp_path, Rows())
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / name).write_bytes(content)
    reader = Rows()
    np.testing.assert_array_equal(run(tmp_path, reader).cells, whole.cells)
    assert reader.asked == 6


def test_only_blocks_with_chosen_cells_are_read(tmp_path):
    chosen, reader = np.zeros(60, bool), Rows()
    chosen[[3, 41, 42]] = True
    facts = run(tmp_path, reader, chosen)
    assert reader.asked == 2
    np.testing.assert_array_equal(facts.cells, scan(matrix()[[3, 41, 42]], wanted()).cells)
