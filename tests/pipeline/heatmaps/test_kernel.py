"""The kernel against the oracle, `np.histogram2d`: any codes, any pairs, any slabs of cells, both ways of counting."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.heatmaps import kernel
from pairscape.pipeline.heatmaps.gene_cells import GeneCells
from pairscape.pipeline.heatmaps.kernel import BLOCK_GENES, MAX_SLAB_CELLS, GeneBlock, Margins, finish
from reference import joint_counts

BINS = (2, 3, 32, 255)
WAYS = {"as it chooses": 2.0, "always alone": 0.0, "always walking": 1e18}


def count(codes, zero, gene_a, gene_b, bins, cuts=()):
    """Images and both_zero of pairs, as a tile counts them: codes (G, N) uint8, pairs in any order."""
    genes_a, row_a = np.unique(gene_a, return_inverse=True)
    genes_b, row_b = np.unique(gene_b, return_inverse=True)
    order = np.argsort(row_a, kind="stable")
    first = np.searchsorted(row_a[order], np.arange(genes_a.size + 1))
    images = np.full((order.size, bins, bins), 7, np.uint32)  # the first slab has to replace what is there
    margin_a, margin_b = np.zeros((genes_a.size, bins), np.int64), np.zeros((genes_b.size, bins), np.int64)
    for start, stop in pairwise([0, *cuts, codes.shape[1]]):
        slab = GeneCells.from_codes(np.ascontiguousarray(codes[:, start:stop]))
        a, b = slab.take(genes_a), slab.take(genes_b)
        GeneBlock.lay_out(b, bins).count(a, first, row_b[order], images, add=start > 0)
        margin_a += a.margins(bins)
        margin_b += b.margins(bins)
    a, b = Margins(margin_a, zero[genes_a]), Margins(margin_b, zero[genes_b])
    both_zero = finish(images, row_a[order], row_b[order], a, b, codes.shape[1])
    back = np.argsort(order)
    return images[back], both_zero[back]


def expression_of(codes, zero, bins):
    """Expression (N, G) with these codes, and its edges: a value lies inside its bin, an unexpressed one in `zero`."""
    values = np.where(codes > 0, codes - 0.5, zero[:, None] + 0.25).astype(np.float32)
    return values.T, np.tile(np.arange(bins + 1, dtype=np.float32), (codes.shape[0], 1))


def assert_exact(codes, zero, gene_a, gene_b, bins, cuts=()):
    images, both_zero = count(codes, zero, gene_a, gene_b, bins, cuts)
    np.testing.assert_array_equal(images, joint_counts(*expression_of(codes, zero, bins), gene_a, gene_b))
    np.testing.assert_array_equal(both_zero, ((codes[gene_a] == 0) & (codes[gene_b] == 0)).sum(axis=1))
    assert (images.sum(axis=(1, 2)) == codes.shape[1]).all()


@st.composite
def problems(draw):
    """Codes, zero bins, a list of pairs and the cuts between slabs of cells."""
    bins, n_genes, n_cells = draw(st.sampled_from(BINS)), draw(st.integers(1, 9)), draw(st.integers(1, 30))
    code = st.sampled_from([0, 0, 1, bins]) | st.integers(0, bins)
    codes = draw(arrays(np.uint8, (n_genes, n_cells), elements=code))
    codes[draw(st.lists(st.integers(0, n_genes - 1), max_size=2))] = 0  # genes expressed nowhere
    codes[:, draw(st.lists(st.integers(0, n_cells - 1), max_size=2))] = 0  # cells that express nothing
    zero = draw(arrays(np.int64, n_genes, elements=st.integers(0, bins - 1)))
    gene = st.integers(0, n_genes - 1)
    listed = np.array(draw(st.lists(st.tuples(gene, gene), min_size=1, max_size=40)))
    cuts = sorted(draw(st.lists(st.integers(0, n_cells), max_size=3)))
    return codes, zero, listed[:, 0], listed[:, 1], bins, cuts


@pytest.mark.parametrize("cost", WAYS.values(), ids=WAYS.keys())
@settings(max_examples=200)
@given(problem=problems())
def test_counts_are_those_of_numpy(problem, cost):
    """Any codes and any pairs: repeated, mirrored, of a gene with itself; slabs of cells, empty ones too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "ALONE_COST", cost)
        assert_exact(*problem)


@pytest.fixture
def dense_codes():
    """(60, 300) uint8, every second value expressed: 30 entries a cell, so that up to 15 pairs are counted alone."""
    rng = np.random.default_rng(0)
    return (rng.integers(1, 33, (60, 300)) * (rng.random((60, 300)) < 0.5)).astype(np.uint8)


def test_both_ways_in_one_run(dense_codes):
    """Gene 0 has few pairs and is counted pair by pair, gene 1 has many and whole cells are walked."""
    gene_a = np.repeat([0, 1], [3, 58])
    gene_b = np.append([7, 1, 59], np.arange(2, 60))
    expressed, genes_b = (dense_codes > 0).sum(axis=1), np.unique(gene_b)
    for gene, alone in ((0, True), (1, False)):
        walked = expressed[gene] * expressed[genes_b].sum() / 300
        assert (expressed[gene_b[gene_a == gene]].sum() * kernel.ALONE_COST <= walked) == alone
    assert_exact(dense_codes, np.arange(60) % 32, gene_a, gene_b, 32, cuts=[100, 101, 250])


def test_a_mirrored_pair_is_the_transposed_image(dense_codes):
    zero = np.zeros(60, np.int64)
    gene_a, gene_b = np.triu_indices(60, 1)
    images, both_zero = count(dense_codes, zero, gene_a, gene_b, 32)
    mirrored, mirrored_zero = count(dense_codes, zero, gene_b, gene_a, 32)
    np.testing.assert_array_equal(mirrored, images.transpose(0, 2, 1))
    np.testing.assert_array_equal(mirrored_zero, both_zero)


def test_row_is_the_bin_of_gene_b_and_column_that_of_gene_a():
    codes = np.array([[3, 3, 0], [1, 1, 2]], np.uint8)
    images, both_zero = count(codes, np.array([0, 0]), np.array([0]), np.array([1]), 4)
    np.testing.assert_array_equal(images[0], [[0, 0, 2, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert both_zero.tolist() == [0]


IMPOSSIBLE = {
    "more in a bin of gene b than it has": [[0, 0], [3, 0]],
    "more in a bin of gene a than it has": [[0, 2], [0, 1]],
    "more expressing one or the other than there are": [[0, 0], [0, 0]],
    "more than 32 bits hold": [[0, 0], [2**32 - 1, 0]],
}


@pytest.mark.parametrize("together", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_counts_that_cannot_sum_to_the_cells_end_the_job(together):
    """Ten cells: gene a is expressed in 3 + 2 of them, gene b in 4 + 2, so that at least one expresses both."""
    images, rows = np.array([[[1, 0], [0, 0]], together], np.uint32), np.zeros(2, np.int64)
    a, b = (Margins(np.array([counts]), np.zeros(1, np.int64)) for counts in ([3, 2], [4, 2]))
    with pytest.raises(JobError, match="image 1 of 2: its counts and those of its genes contradict each other"):
        finish(images, rows, rows, a, b, 10)


@pytest.mark.parametrize("bins", [32, 255])
def test_a_full_block_of_genes_in_their_last_bin(bins):
    """The largest counter there is, gene 255 and the last bin, still fits into 16 bits."""
    codes = np.full((BLOCK_GENES, 5), bins, np.uint8)
    gene_a, gene_b = np.zeros(BLOCK_GENES, int), np.arange(BLOCK_GENES)
    images, _ = count(codes, np.zeros(BLOCK_GENES, np.int64), gene_a, gene_b, bins)
    assert (images[:, -1, -1] == 5).all()
    assert images.sum() == BLOCK_GENES * 5


@pytest.mark.parametrize(("genes", "cells", "named"), [(BLOCK_GENES + 1, 2, "257"), (1, MAX_SLAB_CELLS + 1, "8388609")])
def test_a_block_that_could_not_be_addressed_is_refused(genes, cells, named):
    empty = GeneCells(np.zeros(genes + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.uint8), cells)
    with pytest.raises(ValueError, match=named):
        GeneBlock.lay_out(empty, 32)


def test_margins_leave_the_unexpressed_cells_out():
    codes = np.array([[0, 1, 3, 3], [0, 0, 0, 0]], np.uint8)
    np.testing.assert_array_equal(GeneCells.from_codes(codes).margins(3), [[1, 0, 2], [0, 0, 0]])


dense = st.tuples(st.integers(1, 6), st.integers(0, 40)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 127, 128, 255]))
)


@given(dense, st.data())
def test_the_sparse_form_is_the_dense_one(codes, data):
    """Whole words of eight cells and the rest; every value of a byte's top bit; any choice of genes."""
    cells = GeneCells.from_codes(codes)
    rows = data.draw(st.lists(st.integers(0, codes.shape[0] - 1), min_size=1, max_size=8))
    for found, wanted in ((cells, codes), (cells.take(np.array(rows)), codes[rows]),
                          (GeneCells.join([cells, cells]), np.vstack([codes, codes]))):  # fmt: skip
        again = np.zeros_like(wanted)
        for g in range(len(wanted)):
            here = slice(found.start[g], found.start[g + 1])
            assert (np.diff(found.cell[here]) > 0).all()
            again[g, found.cell[here]] = found.code[here]
        np.testing.assert_array_equal(again, wanted)
        assert found.code.size == np.count_nonzero(wanted)
        assert found.n_cells == codes.shape[1]


@pytest.mark.parametrize("layout_cells", [1, 3, 64])
def test_a_layout_is_the_same_however_it_is_cut(layout_cells, dense_codes, monkeypatch):
    """Cell by cell, genes ascending: read off the dense codes."""
    monkeypatch.setattr(kernel, "LAYOUT_CELLS", layout_cells)
    block = GeneBlock.lay_out(GeneCells.from_codes(dense_codes), 32)
    gene, cell = np.nonzero(dense_codes)
    order = np.lexsort((gene, cell))
    np.testing.assert_array_equal(block.offset, (gene * 32 + dense_codes[gene, cell] - 1)[order])
    np.testing.assert_array_equal(np.diff(block.start), (dense_codes > 0).sum(axis=0))


def test_a_view_of_a_gene_is_what_a_copy_of_it_is():
    codes = np.random.default_rng(0).integers(0, 3, (4, 21)).astype(np.uint8)
    cells = GeneCells.from_codes(codes)
    for gene in range(4):
        view, copy = cells.view(gene), cells.take(np.array([gene]))
        for one, other in zip(view.entries, copy.entries, strict=True):
            np.testing.assert_array_equal(one, other)
        assert np.shares_memory(view.cell, cells.cell)
