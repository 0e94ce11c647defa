"""Lists by gene against scipy, and codes filled from them against the dense route."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.sparse import csr_matrix

from pairscape.pipeline.codes.binning import bin_edges, encode, gene_statistics
from pairscape.pipeline.codes.by_gene import by_gene
from pairscape.pipeline.options import Binning

values = st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.0, 1e37]) | st.floats(0, 8, width=32)
matrices = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=values)


def sorted_by_gene(dense, cells=True):
    rows = csr_matrix(dense)
    return by_gene(rows.indptr, rows.indices, rows.data, rows.shape[1], cells)


@given(matrices)
def test_entries_gene_by_gene(dense):
    found, columns = sorted_by_gene(dense), csr_matrix(dense).tocsc()
    columns.sort_indices()
    np.testing.assert_array_equal(found.start, columns.indptr)
    np.testing.assert_array_equal(found.cell, columns.indices)
    np.testing.assert_array_equal(found.value, columns.data)
    assert (found.cell.dtype, found.n_genes) == (np.uint16, dense.shape[1])


@given(matrices)
def test_values_alone(dense):
    found = sorted_by_gene(dense, cells=False)
    np.testing.assert_array_equal(found.value, sorted_by_gene(dense).value)
    assert found.cell.size == 0


@given(matrices, st.sampled_from([2, 3, 32, 255]), st.integers(0, 11), st.integers(1, 9))
def test_codes_of_a_run_of_genes(dense, bins, first, rows):
    csr = csr_matrix(dense)
    edges = bin_edges(Binning("max", bins), gene_statistics(csr.data, csr.indices, dense.shape[1], dense.shape[0]))
    expected = np.zeros((first + rows + dense.shape[1], dense.shape[0] + 2), np.uint8)
    cell = np.repeat(np.arange(dense.shape[0]), np.diff(csr.indptr))
    expected[csr.indices, cell] = encode(csr.data, csr.indices, edges)
    out = np.full((rows, dense.shape[0] + 2), 77, np.uint8)
    sorted_by_gene(dense).fill_codes(first, edges, out)
    np.testing.assert_array_equal(out, expected[first : first + rows])


def test_large_blocks_number_their_cells_in_full():
    dense = np.zeros((2**16 + 1, 2), np.float32)
    dense[[0, 2**16], 1] = 1
    assert sorted_by_gene(dense).cell.tolist() == [0, 2**16]
