"""Decoys keep every gene's values and the strata of depth; q-values are those of their definition."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from conftest import Stages, store_expression
from made_scores import chi_square, load
from pairscape.model.prediction import bands, decoys, fdr
from pairscape.model.prediction.bands import Bands
from pairscape.model.prediction.decoys import (
    decoy_scores,
    estimate_discovery,
    sample_bands,
    sample_candidates,
    save_strata,
)
from pairscape.model.prediction.fdr import Discovery, q_values
from pairscape.model.prediction.rescoring import Rescoring
from pairscape.model.prediction.within import lay_groups, lay_strata
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps import pairwise
from pairscape.pipeline.heatmaps.count import count_pairs
from pairscape.pipeline.heatmaps.gene_reader import GeneReader
from pairscape.pipeline.heatmaps.memory import Portion, portion
from pairscape.pipeline.heatmaps.pairwise import count_decoys, deal_places, depth_task, runs_of, strata_of
from pairscape.pipeline.matrix.cell_groups import CellGroups
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning
from reference import joint_counts

CHI_SQUARE = partial(load, "chi-square")


def encoded(expression_path, path):
    matrix = open_expression(expression_path)
    return encode_matrix(matrix, path, Binning("rank", 8), np.arange(matrix.n_cells), Session())


def whole_portion(codes):
    return portion(codes.binning, codes.n_cells, 1.0, None)


def rescored(codes, load):
    return Rescoring(codes, whole_portion(codes), load)


@pytest.fixture(scope="module")
def codes(expression_path, tmp_path_factory):
    """150 cells × 46 genes in 8 bins."""
    return encoded(expression_path, tmp_path_factory.mktemp("codes") / "c.zarr")


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """400 cells of different depth × 60 genes: 40 pairs of partners, and 400 pairs that have but depth in common."""
    folder = tmp_path_factory.mktemp("modules")
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(400, 60))
    factor[:, 40:] = 0.8 * factor[:, :20] + 0.6 * factor[:, 40:]
    depth = rng.normal(size=(400, 1))
    expression = np.clip(factor + 0.7 * depth + 0.3, 0, None).astype(np.float32)
    expression[:, 0] = np.maximum(expression[:, 0], 0.01)  # ingest drops cells without expression
    codes = encoded(store_expression(folder / "e.zarr", expression), folder / "c.zarr")
    a, b = (side.astype(np.int32) for side in np.triu_indices(60, 1))
    partners = (b - a == 40) & (a < 20)
    chosen = np.sort(np.concatenate([np.flatnonzero(partners), np.flatnonzero(~partners)[::3]]))
    return codes, Pairs(a[chosen], b[chosen], np.zeros(chosen.size, np.int8)), partners[chosen]


# ── dealing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_depth_is_the_number_of_genes_a_cell_expresses(codes, dense, monkeypatch):
    expected = (dense > 0).sum(1)
    np.testing.assert_array_equal(depth_task(codes.path, 0), expected)
    monkeypatch.setattr(pairwise, "GENES_AT_ONCE", 32)
    np.testing.assert_array_equal(depth_task(codes.path, 0), expected)


def test_strata_are_even_and_rise_with_depth():
    depth = np.random.default_rng(0).integers(0, 30, 1003)
    stratum = strata_of(depth, seed=0)
    assert sorted(set(stratum.tolist())) == list(range(10))
    assert np.ptp(np.bincount(stratum)) <= 1
    for number in range(9):
        assert depth[stratum == number].max() <= depth[stratum == number + 1].min()
    assert strata_of(depth[:70], seed=0).max() == 2  # of 20 cells at least
    assert strata_of(depth[:5], seed=0).max() == 0


def test_cells_are_dealt_within_strata_and_anew_for_each_number():
    stratum = strata_of(np.arange(400) % 37, seed=0)
    place, other = deal_places(stratum, 0, 0), deal_places(stratum, 0, 1)
    np.testing.assert_array_equal(np.sort(place), np.arange(400))
    np.testing.assert_array_equal(stratum[place], stratum)
    assert (place == np.arange(400)).mean() < 0.1
    assert (place != other).mean() > 0.9
    np.testing.assert_array_equal(place, deal_places(stratum, 0, 0))


@pytest.mark.parametrize("slabs", [False, True])
def test_decoys_are_counted_as_by_histogram2d_and_keep_the_margins(codes, dense, slabs, monkeypatch):
    a, b = (side.astype(np.int64) for side in np.triu_indices(46, 1))
    (run,) = runs_of(a[::5], b[::5], 1000)
    place, edges = deal_places(strata_of((dense > 0).sum(1), 0), 0, 4), codes.array("edges")
    monkeypatch.setattr(pairwise, "PAIRS_AT_ONCE", 100)
    reader = GeneReader(codes, Portion(40, 1, 0, 0) if slabs else whole_portion(codes))
    parts = list(count_decoys(reader, run, place))
    counts, both_zero, *genes = (np.concatenate(column) for column in zip(*parts, strict=True))
    np.testing.assert_array_equal(genes, [run.gene_a, run.gene_b])
    dealt = np.empty_like(dense)
    dealt[place] = dense
    both = np.concatenate([dense, dealt], axis=1)
    expected = joint_counts(both, np.concatenate([edges, edges]), run.gene_a, run.gene_b + 46)
    assert len(parts) == 3
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(both_zero, ((dense[:, run.gene_a] == 0) & (dealt[:, run.gene_b] == 0)).sum(0))
    real = joint_counts(dense, edges, run.gene_a, run.gene_b)
    for axis in (1, 2):
        np.testing.assert_array_equal(counts.sum(axis), real.sum(axis))
    assert (counts != real).any()


# ── scores of decoys ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_decoys_look_like_pairs_with_but_depth_in_common_and_find_the_others(modules, tmp_path):
    codes, pairs, partners = modules
    strata, rescoring = save_strata(codes, tmp_path, 0, Session()), rescored(codes, CHI_SQUARE)
    score = chi_square(*count_pairs(codes, pairs.gene_a.astype(np.int64), pairs.gene_b.astype(np.int64)))
    null, other = (decoy_scores(replace(rescoring, seed=seed), pairs, strata, Session()) for seed in (0, 1))
    assert null.shape == partners.shape
    assert kstest(chance_of(score[~partners], null), "uniform").statistic < 0.15
    assert kstest(chance_of(other, null), "uniform").statistic < 0.1
    q = q_values(score, null)
    assert (q[partners] <= 0.05).all()
    assert (q[~partners] <= 0.05).sum() <= 4
    assert (q_values(other, null) <= 0.05).sum() == 0  # decoys for candidates


def test_dealt_among_all_cells_depth_alone_would_be_called(modules, tmp_path, monkeypatch):
    codes, pairs, partners = modules
    monkeypatch.setattr(decoys, "strata_of", partial(strata_of, strata=1))
    strata = save_strata(codes, tmp_path, 0, Session())
    score = chi_square(*count_pairs(codes, pairs.gene_a.astype(np.int64), pairs.gene_b.astype(np.int64)))
    null = decoy_scores(rescored(codes, CHI_SQUARE), pairs, strata, Session())
    assert (q_values(score, null)[~partners] <= 0.05).mean() > 0.2


def chance_of(scores, null):
    """Share of the null that reaches each score."""
    return (null[:, None] >= scores).mean(0)


def test_the_whole_estimate_and_its_facts(modules, tmp_path):
    codes, pairs, partners = modules
    score, stages = np.where(partners | (np.arange(len(pairs)) < 40), 1e4, 0.0).astype(np.float32), Stages()
    score[::9] = np.nan
    parts, rescoring = [score[:100], score[100:]], rescored(codes, partial(load, "screened"))
    found, facts = estimate_discovery(rescoring, pairs, parts, tmp_path, Session(progress=stages))
    called = int((score > 60).sum())
    assert stages.seen == {"depth of cells": [400, 400], "decoys": [len(pairs)] * 2}
    assert (facts["decoys"], facts["strata"]) == (len(pairs), 10)
    assert 0 < facts["decoys_screened_out"] < len(pairs)
    assert facts["calls"] == {"0.01": 0, "0.05": called, "0.1": called}
    assert facts["smallest_q"] == pytest.approx(len(pairs) / (len(pairs) + 1) / called)
    assert "independence given depth" in facts["sentence"]
    assert "no proof of regulation" in facts["sentence"]
    np.testing.assert_array_equal(np.isnan(found(slice(None), score)), np.isnan(score))


def test_the_whole_estimate_by_band(codes, tmp_path, monkeypatch):
    monkeypatch.setattr(bands, "LEAST", 100)
    monkeypatch.setattr(decoys, "DECOYS", 80)
    a, b = (side.astype(np.int32) for side in np.triu_indices(46, 1))
    pairs, rescoring = Pairs(a, b, np.zeros(a.size, np.int8)), rescored(codes, CHI_SQUARE)
    expected = Bands.of(pairs, 1 - codes.array("dropout"))
    assert len(expected) > 1
    rows = sample_bands(expected, 0)
    assert np.bincount(expected.number[rows]).tolist() == [80] * len(expected)
    assert (np.diff(rows) > 0).all()
    score = np.random.default_rng(0).random(len(pairs)).astype(np.float32) * 30
    found, facts = estimate_discovery(rescoring, pairs, [score[:700], score[700:]], tmp_path, Session())
    assert facts["decoys"] == 80 * len(expected)
    assert [band["from_share"] for band in facts["bands"]] == list(expected.from_share)
    assert sum(band["candidates"] for band in facts["bands"]) == len(pairs)
    assert sum(band["calls"] for band in facts["bands"]) == facts["calls"]["0.05"]
    assert f"in less and in more than {expected.from_share[1]:.0%}" in facts["sentence"]
    np.testing.assert_array_equal(found.band, expected.number)


def test_the_bands_of_a_group_are_by_its_own_cells(tmp_path, monkeypatch):
    """Half of the genes are rare in one group, the others in the other; in all cells together none is."""
    monkeypatch.setattr(bands, "LEAST", 100)
    monkeypatch.setattr(decoys, "DECOYS", 80)
    rng = np.random.default_rng(0)
    number = rng.integers(0, 2, 300).astype(np.uint16)
    rare = number[:, None] == (np.arange(30) % 2)
    values = np.where(rng.random((300, 30)) < np.where(rare, 0.06, 0.9), rng.random((300, 30)) + 0.1, 0)
    codes = encoded(store_expression(tmp_path / "e.zarr", values.astype(np.float32)), tmp_path / "c.zarr")
    a, b = (side.astype(np.int32) for side in np.triu_indices(30, 1))
    pairs, groups = Pairs(a, b, np.zeros(a.size, np.int8)), CellGroups(("half",), ("first", "second"), number)
    halves = CellGroups(("half", "third"), tuple("abcdef"), 3 * number + rng.integers(0, 3, 300).astype(np.uint16))
    within = lay_strata(codes, halves, halves.columns, np.arange(30), tmp_path, 0, Session())
    assert len(Bands.of(pairs, 1 - codes.array("dropout"))) == 1
    for layer in lay_groups(groups, tmp_path):
        expected = Bands.of(pairs, (values[number == layer.number] > 0).mean(0))
        assert len(expected) > 1
        rescoring = replace(rescored(codes, CHI_SQUARE), group=layer)
        score = rng.random(len(pairs)).astype(np.float32)
        found, facts = estimate_discovery(rescoring, pairs, [score], tmp_path, Session(), within.of_group(layer))
        np.testing.assert_array_equal(found.band, expected.number)
        assert [band["from_share"] for band in facts["bands"]] == list(expected.from_share)


def test_candidates_are_sampled_once_each_and_in_order():
    rows = sample_candidates(10_000, seed=1, decoys=500)
    assert (np.diff(rows) > 0).all()
    assert 0 <= rows[0] < rows[-1] < 10_000
    assert rows.mean() == pytest.approx(5000, rel=0.1)
    np.testing.assert_array_equal(sample_candidates(40, seed=1, decoys=500), np.arange(40))
    assert (sample_candidates(10_000, seed=2, decoys=500) != rows).any()


# ── q-values ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def by_definition(scores, decoys):
    """The formula of `model.prediction.fdr`, score by score; what the screen stopped is below everything."""
    low = np.where(np.isnan(scores), -np.inf, scores)
    null = np.where(np.isnan(decoys), -np.inf, decoys)

    def raw(t):
        return scores.size * (1 + (null >= t).sum()) / (decoys.size + 1) / (low >= t).sum()

    return [
        np.nan if np.isnan(s) else min(1, *(raw(t) for t in scores[~np.isnan(scores) & (low <= s)])) for s in scores
    ]


Lists = st.lists(st.one_of(st.integers(0, 12), st.just(np.nan)), min_size=1, max_size=40).map(
    lambda values: np.array(values, np.float32) / 8
)


@given(Lists, Lists, st.integers(1, 7))
def test_q_values_are_those_of_the_definition(scores, decoys, at_once):
    before, fdr.AT_ONCE = fdr.AT_ONCE, at_once
    try:
        found = q_values(scores, decoys)
    finally:
        fdr.AT_ONCE = before
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_definition(scores, decoys), rtol=1e-6)
    order = np.argsort(scores[~np.isnan(scores)])
    assert (np.diff(found[~np.isnan(scores)][order]) <= 0).all()
    in_parts = Discovery.estimate(np.array_split(scores, 3), decoys)
    np.testing.assert_array_equal(in_parts(scores), found)
    for level in (0.05, 0.5, 1.0):
        assert in_parts.calls(level) == (found <= np.float32(level)).sum()


def test_scores_are_compared_as_they_are_kept():
    score = 0.1  # more as float32 than as float64
    assert q_values(np.array([score]), np.array([score] * 9, np.float32)).tolist() == [1.0]
    assert q_values(np.array([score]), np.array([0.2, np.nan])).tolist() == pytest.approx([2 / 3])


def test_without_candidates_or_decoys():
    assert q_values(np.empty(0), np.array([1.0])).size == 0
    assert q_values(np.array([0.5, 0.1]), np.empty(0)).tolist() == [1.0, 1.0]
    assert np.isnan(q_values(np.array([np.nan]), np.array([1.0]))).all()
