"""Cells that never lived: each from the seed and its number alone, and as single cells are."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from pairscape.pipeline.datasets.designs import Atlas
from pairscape.pipeline.datasets.synthetic import (
    BASE,
    bursts_per_cell,
    cell_counts,
    draw_cells,
    entries_per_cell,
    expected_entries,
    log_normalised,
    tables,
)

SMALL = Atlas(300, 200, 0.1, types=3, seed=7)


def block(atlas, start, stop, bursts=None):
    """Counts of some cells as CSR, (N, G) float32."""
    bursts = bursts or bursts_per_cell(atlas)
    entries = entries_per_cell(atlas, bursts, start, stop)
    indptr = np.append(0, np.cumsum(entries, dtype=np.int64))
    genes, molecules = cell_counts(atlas, bursts, start, indptr)
    return sparse.csr_matrix((molecules, genes, indptr), shape=(stop - start, atlas.genes))


@pytest.fixture(scope="module")
def atlas():
    return Atlas(4000, 2000, 0.05)


@pytest.fixture(scope="module")
def counts(atlas):
    return block(atlas, 0, atlas.cells)


# ── the generator ────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=25)
@given(st.lists(st.integers(0, SMALL.cells), max_size=6))
def test_any_blocks_in_any_order_are_the_same_cells(cuts):
    bounds = sorted({0, SMALL.cells, *cuts})
    blocks = [block(SMALL, a, b) for a, b in reversed(list(pairwise(bounds)))]
    whole, parts = block(SMALL, 0, SMALL.cells), sparse.vstack(blocks[::-1], format="csr")
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_a_cell_does_not_depend_on_the_size_of_the_atlas():
    bursts = bursts_per_cell(SMALL)
    larger = Atlas(5000, SMALL.genes, SMALL.density, types=SMALL.types, seed=SMALL.seed)
    assert (block(larger, 0, 300, bursts) != block(SMALL, 0, 300, bursts)).nnz == 0


def test_another_seed_is_another_atlas():
    other = Atlas(SMALL.cells, SMALL.genes, SMALL.density, types=SMALL.types, seed=8)
    assert (block(other, 0, 300) != block(SMALL, 0, 300)).nnz > 1000


def test_the_matrix_is_canonical_and_no_cell_is_empty(counts):
    again = sparse.csr_matrix((counts.data, counts.indices, counts.indptr), shape=counts.shape)
    assert again.has_canonical_format
    assert counts.data.min() == 1
    np.testing.assert_array_equal(counts.data, np.round(counts.data))
    assert np.diff(counts.indptr).min() > 0


def test_cells_without_a_burst_are_given_one():
    lengths = entries_per_cell(SMALL, 1e-6, 0, 300)
    np.testing.assert_array_equal(lengths, np.ones(300))
    np.testing.assert_allclose(expected_entries(SMALL, draw_cells(SMALL, np.arange(300)), 1e-6), 1, rtol=1e-5)


def test_cells_that_were_counted_otherwise_are_refused():
    bursts = bursts_per_cell(SMALL)
    indptr = np.append(0, np.cumsum(entries_per_cell(SMALL, bursts, 5, 15), dtype=np.int64))
    indptr[4:] += 1
    with pytest.raises(ValueError, match="cell 8 expresses another number"):
        cell_counts(SMALL, bursts, 5, indptr)


# ── what is drawn is what was planned ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("cells", "genes", "density", "types"),
    [
        (4000, 2000, 0.05, 10),
        (300, 5000, 0.02, 3),
        (300, 5000, 0.2, 1),
        (2000, 100, 0.5, 40),
        (2000, 50, 0.9, 2),
        (400, 20_000, 0.05, 10),
        (20_000, 60, 0.03, 5),
    ],
)
def test_the_density_is_as_asked(cells, genes, density, types):
    atlas = Atlas(cells, genes, density, types)
    found = entries_per_cell(atlas, bursts_per_cell(atlas), 0, cells).mean() / genes
    assert found == pytest.approx(density, rel=0.05)


def test_the_alias_table_holds_the_shares(atlas):
    genes = tables(atlas)
    share = genes.accept.astype(float)
    np.add.at(share, genes.alias, 1 - genes.accept.astype(float))
    np.testing.assert_allclose(share / atlas.genes, genes.share, rtol=1e-4)


def test_counts_are_negative_binomial_given_the_depth(atlas, counts):
    """Mean, variance and zeros of the genes of no program, whose rate is known for every cell."""
    genes = tables(atlas)
    alone = np.flatnonzero(genes.program_of() < 0)
    depth = bursts_per_cell(atlas) * draw_cells(atlas, np.arange(atlas.cells)).depth
    rate, burst = BASE * np.outer(depth, genes.share[alone]), genes.burst[alone]
    mean, x = rate * -burst / ((1 - burst) * np.log1p(-burst)), counts.toarray()[:, alone]
    assert x.sum() == pytest.approx(mean.sum(), rel=0.01)
    assert ((x - mean) ** 2).sum() == pytest.approx((mean / (1 - burst)).sum(), rel=0.03)
    assert (x == 0).sum() == pytest.approx(np.exp(-rate).sum(), rel=0.001)
    assert (x == 1).sum() == pytest.approx((np.exp(-rate) * rate * genes.single[alone]).sum(), rel=0.01)


def test_expression_is_scanpys(counts):
    x = counts.toarray().astype(float)
    wanted = np.log1p(x / x.sum(1, keepdims=True) * 1e4)
    found = counts.copy()
    found.data = log_normalised(counts.data, counts.indptr.astype(np.int64))
    assert found.data.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), wanted, rtol=1e-6)


# ── and it looks like single cells ───────────────────────────────────────────────────────────────────────────────────


def test_counts_are_overdispersed_and_dropout_is_of_all_degrees(counts):
    x = counts.toarray().astype(float)
    seen = x.mean(0) > 0
    assert seen.mean() > 0.98
    assert np.median(x.var(0)[seen] / x.mean(0)[seen]) > 1.2
    low, high = np.quantile((x == 0).mean(0), [0.01, 0.99])
    assert low < 0.7
    assert high > 0.99
    assert np.quantile(x.mean(0), 0.99) > 10 * np.median(x.mean(0))
    assert np.std(np.log(x.sum(1))) > 0.3


def test_genes_of_a_module_are_seen_together_and_markers_tell_the_types(atlas, counts):
    x = counts.copy()
    x.data = log_normalised(counts.data, counts.indptr.astype(np.int64))
    x, program = x.toarray(), tables(atlas).program_of()
    held = (program >= 0) & (x.std(0) > 0)
    r, p = np.corrcoef(x[:, held].T), program[held]
    upper, same = np.triu(np.ones_like(r, bool), 1), p[:, None] == p
    module = (p >= atlas.types)[:, None] & (p >= atlas.types)
    inside, across = r[upper & same & module], r[upper & ~same & module]
    assert np.median(inside) > 0.2
    assert np.quantile(inside, 0.05) > np.quantile(across, 0.95)
    score = np.stack([x[:, program == k].mean(1) for k in range(atlas.types)], axis=1)
    assert (score.argmax(1) == draw_cells(atlas, np.arange(atlas.cells)).kind).mean() > 0.9


def test_every_type_has_cells_and_no_gene_two_programs():
    for atlas in (Atlas(5, 2, 0.8, types=5), Atlas(40, 30, 0.2, types=40), SMALL):
        assert set(draw_cells(atlas, np.arange(atlas.cells)).kind) == set(range(atlas.types))
        member = tables(atlas).member
        assert np.unique(member).size == member.size


# ── bad wishes ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"cells": 1}, ["cells is 1", "2 to"]),
        ({"cells": 2**31}, ["cells is 2147483648", "2 to"]),
        ({"genes": 1}, ["genes is 1", "2 to"]),
        ({"genes": -5}, ["genes is -5"]),
        ({"density": 0.0}, ["density is 0:", "0.05 is usual"]),
        ({"density": -0.1}, ["density is -0.1"]),
        ({"density": 0.96}, ["density is 0.96", "0.95"]),
        ({"density": float("nan")}, ["density is nan"]),
        ({"density": 0.01}, ["density is 0.01 of 100 genes", "more than 0.01"]),
        ({"types": 0}, ["types is 0", "1 to 50"]),
        ({"types": 51}, ["types is 51", "1 to 50"]),
        ({"seed": -1}, ["seed is -1"]),
        ({"seed": 2**62}, ["seed is 4611686018427387904"]),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(wish, words, refuses):
    with refuses(*words):
        Atlas(**{"cells": 50, "genes": 100, "density": 0.1, **wish})
