"""Edges and codes against `np.histogram`: a code is the bin that numpy would choose, under every rule."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.sparse import csr_matrix

from pairscape.pipeline.codes.binning import (
    GeneStatistics,
    _inverted_cdf,
    bin_edges,
    encode,
    fill_codes,
    gene_statistics,
)
from pairscape.pipeline.codes.bins import zero_bin
from pairscape.pipeline.options import CHUNK_PAIRS, SHARD_BYTES, SHARD_PAIRS, Binning

RULES = ("max", "range", "quantile", "rank")
TINY = float(np.finfo(np.float32).smallest_subnormal)
HUGE = 1e37

values = st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.0, 1.5, TINY, HUGE]) | st.floats(0, 8, width=32)
matrices = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=values)
tame = matrices.map(lambda dense: np.round(np.minimum(dense, 8) * 8) / np.float32(8))  # sums without rounding


def statistics_of(dense):
    rows = csr_matrix(dense)
    return gene_statistics(rows.data, rows.indices, rows.shape[1], rows.shape[0])


def edges_of(dense, binning):
    return bin_edges(binning, statistics_of(dense), [column[column > 0] for column in dense.T])


def codes_of(dense, edges):
    """(N, G) uint8 through the sparse route of the pipeline."""
    rows, codes = csr_matrix(dense), np.zeros(dense.shape, np.uint8)
    codes[np.repeat(np.arange(dense.shape[0]), np.diff(rows.indptr)), rows.indices] = encode(
        rows.data, rows.indices, edges
    )
    return codes


@given(matrices, st.sampled_from(RULES), st.sampled_from([2, 3, 32, 255]))
def test_codes_are_the_bins_of_numpy(dense, scale, bins):
    edges = edges_of(dense, Binning(scale, bins))
    codes, zero = codes_of(dense, edges), zero_bin(edges)
    assert edges.dtype == np.float32
    assert edges.shape == (dense.shape[1], bins + 1)
    np.testing.assert_array_equal(codes == 0, dense == 0)
    for gene, x in enumerate(dense.T):
        found = np.where(codes[:, gene] > 0, codes[:, gene].astype(int) - 1, zero[gene])
        joint = np.histogram2d(x, np.arange(x.size), bins=(edges[gene], np.arange(x.size + 1)))[0]
        np.testing.assert_array_equal(np.eye(bins)[found].T, joint)


@given(matrices, st.sampled_from([2, 32, 255]))
def test_range_has_the_edges_that_numpy_makes(dense, bins):
    edges = edges_of(dense, Binning("range", bins))
    for gene, x in enumerate(dense.T):
        np.testing.assert_array_equal(edges[gene], np.histogram2d(x, x, bins=bins)[1])


@given(tame, st.data())
def test_statistics_of_blocks_merge_to_the_whole(dense, data):
    cuts = data.draw(st.lists(st.integers(0, dense.shape[0])).map(sorted))
    blocks = data.draw(st.permutations([dense[a:b] for a, b in pairwise([0, *cuts, dense.shape[0]])]))
    merged = statistics_of(blocks[0])
    for block in blocks[1:]:
        merged = merged.merge(statistics_of(block))
    whole = statistics_of(dense)
    for name in GeneStatistics.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name), err_msg=name)


@given(tame)
def test_statistics_are_those_of_numpy(dense):
    found = statistics_of(dense)
    expressed = np.ma.masked_equal(dense, 0)
    np.testing.assert_array_equal(found.n_expressed, (dense > 0).sum(axis=0))
    np.testing.assert_array_equal(found.minimum, expressed.min(axis=0).filled(np.inf))
    np.testing.assert_array_equal(found.maximum, dense.max(axis=0))
    np.testing.assert_allclose(found.mean, dense.mean(axis=0, dtype=float), rtol=1e-6)
    np.testing.assert_allclose(found.variance, dense.var(axis=0, dtype=float), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.dropout, (dense == 0).mean(axis=0), rtol=1e-6, atol=1e-7)


def test_rounding_makes_no_variance_negative():
    constant = np.full((380, 1), 5.1, np.float32)
    found = statistics_of(constant)
    assert (found.total_squares / 380 - (found.total / 380) ** 2)[0] < 0
    assert found.variance.tolist() == [0]


@pytest.mark.parametrize("scale", RULES)
def test_edges_of_a_gene_do_not_depend_on_other_genes(scale):
    dense = np.random.default_rng(0).random((50, 1), np.float32)
    dense[0] = 0
    beside = np.hstack([dense, np.full_like(dense, TINY), np.zeros_like(dense)])
    alone = edges_of(dense, Binning(scale, 30))[0]
    np.testing.assert_array_equal(edges_of(beside, Binning(scale, 30))[0], alone)


@pytest.mark.parametrize("scale", RULES)
@pytest.mark.parametrize("bins", [2, 32, 255])
def test_values_on_the_edges(scale, bins):
    x = np.random.default_rng(1).gamma(2.0, 1.0, 400).astype(np.float32)
    x[:100] = 0
    edges = edges_of(x[:, None], Binning(scale, bins))[0]
    on_edges = edges[edges > 0]
    codes = encode(on_edges, np.zeros(on_edges.size, int), edges[None])
    bin_of = np.searchsorted(edges, on_edges, side="right") - 1
    np.testing.assert_array_equal(codes, 1 + np.minimum(bin_of, bins - 1))
    assert codes[-1] == bins  # the maximum lies in the last bin, not beyond it


@pytest.mark.parametrize(("value", "code"), [(-1.0, 1), (0.25, 1), (0.5, 2), (1.0, 2), (9.0, 2), (np.inf, 2)])
def test_values_outside_the_edges_fall_into_the_outer_bins(value, code):
    edges = np.array([[0, 0.5, 1]], np.float32)
    assert encode(np.array([value], np.float32), np.array([0]), edges).tolist() == [code]


def test_max_divides_zero_to_maximum_evenly():
    dense = np.array([[0, 3], [8, 5], [4, 4]], np.float32)
    np.testing.assert_array_equal(edges_of(dense, Binning("max", 4)), [[0, 2, 4, 6, 8], [0, 1.25, 2.5, 3.75, 5]])


def test_range_starts_at_the_minimum_over_all_cells():
    dense = np.array([[0, 3], [8, 5], [4, 4]], np.float32)
    np.testing.assert_array_equal(edges_of(dense, Binning("range", 4)), [[0, 2, 4, 6, 8], [3, 3.5, 4, 4.5, 5]])


def test_quantile_puts_the_outliers_into_the_last_bin():
    x = np.append(np.linspace(1, 2, 5000), [50, 60]).astype(np.float32)[:, None]
    edges = edges_of(x, Binning("quantile", 10))
    high = np.quantile(x, 0.999)
    assert high < 2
    np.testing.assert_allclose(edges[0, :-1], np.linspace(0, high, 11)[:-1], rtol=1e-6)
    assert edges[0, -1] == 60
    assert set(codes_of(x, edges)[-2:, 0]) == {10}


@given(matrices, st.sampled_from([2, 5, 255]))
def test_rank_keeps_bin_0_for_the_unexpressed_cells(dense, bins):
    edges = edges_of(dense, Binning("rank", bins))
    assert (zero_bin(edges) == 0).all()
    np.testing.assert_array_equal(codes_of(dense, edges) > 1, dense > 0)


@given(st.integers(1, 60), st.integers(2, 20))
def test_rank_bins_are_equally_frequent(n_expressed, bins):
    x = np.zeros((80, 1), np.float32)
    x[:n_expressed, 0] = np.random.default_rng(2).permutation(n_expressed) + 1
    counts = np.bincount(codes_of(x, edges_of(x, Binning("rank", bins)))[:, 0], minlength=bins + 1)
    assert counts[:2].tolist() == [80 - n_expressed, 0]
    assert np.ptp(counts[2:]) <= 2  # the quantiles and the closed last bin round by one cell each
    assert counts[2:].sum() == n_expressed


@given(arrays(np.float32, st.integers(1, 300), elements=st.floats(0, 8, width=32)), st.integers(2, 255))
def test_rank_takes_the_quantiles_of_numpy(x, n):
    np.testing.assert_array_equal(_inverted_cdf(x, n), np.quantile(x, np.linspace(0, 1, n), method="inverted_cdf"))


def test_rank_never_parts_tied_values():
    x = np.repeat(np.array([0, 1, 2, 3], np.float32), [5, 50, 3, 2])[:, None]
    codes = codes_of(x, edges_of(x, Binning("rank", 32)))[:, 0]
    assert [len(set(codes[x[:, 0] == value])) for value in range(4)] == [1, 1, 1, 1]
    assert len(set(codes)) == 4


@pytest.mark.parametrize("scale", ["quantile", "rank"])
def test_no_value_lies_outside_the_edges_of_a_sample(scale):
    x = np.append(np.linspace(2, 3, 50), [0, 0.125, 9]).astype(np.float32)[:, None]
    edges = bin_edges(Binning(scale, 8), statistics_of(x), [np.linspace(2, 3, 50, dtype=np.float32)])
    assert (np.diff(edges) >= 0).all()
    assert np.histogram(x, bins=edges[0])[0].sum() == x.size
    assert edges[0, -1] == 9
    if scale == "rank":
        np.testing.assert_array_equal(codes_of(x, edges) > 1, x > 0)


@pytest.mark.parametrize("scale", ["quantile", "rank"])
def test_a_rule_of_quantiles_needs_values(scale):
    with pytest.raises(ValueError, match=scale):
        bin_edges(Binning(scale), statistics_of(np.ones((3, 1), np.float32)))


@pytest.mark.parametrize(("wrong", "words"), [
    ({"bins": 1}, ("bins is 1", "2 to 255")),
    ({"bins": 256}, ("bins is 256", "2 to 255")),
    ({"scale": "log"}, ("'log'", "max, range, quantile or rank")),
])  # fmt: skip
def test_impossible_binnings_are_refused(wrong, words, refuses):
    with refuses(*words):
        Binning(**wrong)


@given(st.integers(2, 255))
def test_a_shard_is_whole_chunks_of_bounded_size(bins):
    pairs = Binning(bins=bins).shard_pairs
    assert pairs % CHUNK_PAIRS == 0
    assert CHUNK_PAIRS <= pairs <= SHARD_PAIRS
    assert pairs == CHUNK_PAIRS or pairs * bins**2 * 4 <= SHARD_BYTES
    assert Binning(bins=32).shard_pairs == SHARD_PAIRS


@given(matrices, st.sampled_from([2, 3, 32, 255]), st.integers(0, 11), st.integers(1, 9))
def test_codes_of_a_run_of_genes(dense, bins, first, rows):
    csr, beyond = csr_matrix(dense), 2
    edges = edges_of(dense, Binning("max", bins))
    expected = np.zeros((first + rows + dense.shape[1], dense.shape[0] + beyond), np.uint8)
    cell = np.repeat(np.arange(dense.shape[0]), np.diff(csr.indptr))
    expected[csr.indices, cell] = encode(csr.data, csr.indices, edges)
    out = np.full((rows, dense.shape[0] + beyond), 77, np.uint8)
    fill_codes(csr.tocsc(), slice(first, first + rows), edges, out)
    np.testing.assert_array_equal(out, expected[first : first + rows])
