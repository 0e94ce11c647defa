"""Counts of groups of cells are exact and add up; resamples of them are those of a bootstrap over cells."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from conftest import Stages, store_expression
from made_scores import load, trend
from model_fixtures import module_expression
from pairscape.model.prediction import decoys, stability
from pairscape.model.prediction.decoys import decoy_scores, save_strata
from pairscape.model.prediction.rescoring import Rescoring
from pairscape.model.prediction.stability import (
    best_rows,
    resample_best,
    resample_task,
    score_resamples,
    share_in_list,
)
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.compute.clusters import open_client
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.count import count_pairs
from pairscape.pipeline.heatmaps.gene_reader import GeneReader
from pairscape.pipeline.heatmaps.memory import Portion, portion
from pairscape.pipeline.heatmaps.pairwise import (
    WholeGenes,
    count_grouped,
    deal_groups,
    draw_weights,
    runs_of,
    weighted_sums,
    within_memory,
)
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning, Compute
from reference import joint_counts

BINS = 8
N_PAIRS = 150
TREND = partial(load, "trend")


@pytest.fixture(scope="module")
def codes(expression_path, tmp_path_factory):
    """150 cells × 46 genes in 8 bins."""
    return encoded(expression_path, tmp_path_factory.mktemp("codes") / "c.zarr")


def encoded(expression_path, path):
    matrix = open_expression(expression_path)
    return encode_matrix(matrix, path, Binning("rank", BINS), np.arange(matrix.n_cells), Session())


def whole_portion(codes):
    return portion(codes.binning, codes.n_cells, 1.0, None)


def rescored(codes, load=TREND, seed=0):
    return Rescoring(codes, whole_portion(codes), load, seed)


def some_pairs(n_genes=46, number=N_PAIRS, seed=0):
    rng = np.random.default_rng(seed)
    a, b = (side[rng.permutation(side.size)[:number]] for side in np.triu_indices(n_genes, 1))
    return np.sort(a), b


def some_pairs_of_a_store(number=N_PAIRS):
    gene_a, gene_b = some_pairs(number=number)
    return Pairs(gene_a.astype(np.int32), gene_b.astype(np.int32), np.zeros(number, np.int8))


def grouped(codes, gene_a, gene_b, group, share=None):
    genes = WholeGenes.read(GeneReader(codes, share or whole_portion(codes)), np.concatenate([gene_a, gene_b]))
    return count_grouped(genes, genes, (gene_a, gene_b), group, codes.binning.bins)


# ── groups of cells ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("groups", [1, 7, 64, 256])
def test_groups_are_equal_up_to_one_cell_and_add_up_to_the_whole(codes, groups):
    gene_a, gene_b = some_pairs()
    group = deal_groups(codes.n_cells, seed=3, groups=groups)
    cells = np.bincount(group)
    assert cells.size == min(groups, 150)
    assert cells.max() - cells.min() <= 1
    images, both_zero = grouped(codes, gene_a, gene_b, group)
    np.testing.assert_array_equal(images.sum((2, 3)), np.repeat(cells[:, None], gene_a.size, 1))
    whole, whole_zero = count_pairs(codes, gene_a, gene_b)
    np.testing.assert_array_equal(images.sum(0), whole)
    np.testing.assert_array_equal(both_zero.sum(0), whole_zero)


def test_each_group_is_counted_as_by_histogram2d(codes, dense):
    gene_a, gene_b = some_pairs()
    group, edges = deal_groups(codes.n_cells, seed=1, groups=5), codes.array("edges")
    images, both_zero = grouped(codes, gene_a, gene_b, group)
    for number in range(5):
        cells = dense[group == number]
        np.testing.assert_array_equal(images[number], joint_counts(cells, edges, gene_a, gene_b))
        np.testing.assert_array_equal(both_zero[number], ((cells[:, gene_a] == 0) & (cells[:, gene_b] == 0)).sum(0))


def test_little_memory_changes_nothing(codes, monkeypatch):
    gene_a, gene_b = some_pairs()
    group, slabs = deal_groups(codes.n_cells, seed=1), Portion(40, 1, 0, 0)
    assert len(list(GeneReader(codes, slabs).slabs())) == 4
    for one, other in zip(
        grouped(codes, gene_a, gene_b, group), grouped(codes, gene_a, gene_b, group, slabs), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    (run,) = runs_of(gene_a, gene_b, 1000)
    reader = GeneReader(codes, slabs)
    assert list(within_memory(reader, run, 64)) == [slice(0, 64), slice(64, 128), slice(128, 150)]
    monkeypatch.setattr("pairscape.pipeline.heatmaps.pairwise.HELD_BYTES", 1)
    assert list(within_memory(reader, run, 64)) == [slice(i, i + 1) for i in range(150)]


def test_a_resample_is_the_weighted_sum_of_its_groups_and_its_own_number_of_cells(codes):
    gene_a, gene_b = some_pairs(number=20)
    group = deal_groups(codes.n_cells, seed=0, groups=32)
    weights = draw_weights(32, 6, seed=0)
    assert (weights.sum(1) == 32).all()
    images, _ = grouped(codes, gene_a, gene_b, group)
    sums = weighted_sums(weights, images, codes.n_cells)
    np.testing.assert_array_equal(sums, np.einsum("nm,mpba->npba", weights, images.astype(np.int64)))
    np.testing.assert_array_equal(sums.sum((2, 3)), np.repeat((weights @ np.bincount(group))[:, None], 20, 1))
    assert abs(sums.sum((2, 3)) - 150).max() < 32


def test_sums_of_an_atlas_are_exact_beyond_what_float32_holds():
    counts = np.full((2, 1, 1), 2**24 + 1, np.uint32)
    assert weighted_sums(np.array([[1, 1]]), counts, 2**25 + 2).tolist() == [[[2**25 + 2]]]
    assert weighted_sums(np.array([[1, 0]]), counts, 2**25 + 2).tolist() == [[[2**24 + 1]]]


# ── scores of resamples ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_spread_is_that_of_a_bootstrap_over_cells(tmp_path):
    """Groups of seven cells, against single cells drawn by numpy and counted by the oracle."""
    expression, _ = module_expression(440, 4, 3, seed=5)
    codes = encoded(store_expression(tmp_path / "e.zarr", expression), tmp_path / "c.zarr")
    gene_a, gene_b = np.repeat([0, 1], 6), np.array([4, 8, 1, 2, 3, 5, 5, 9, 2, 3, 4, 6])
    rng, edges, full = np.random.default_rng(0), codes.array("edges"), []
    for _ in range(150):
        drawn = expression[rng.integers(0, 440, 440)]
        full.append(trend(joint_counts(drawn, edges, gene_a, gene_b).astype(np.int64)))
    images = grouped(codes, gene_a, gene_b, deal_groups(440, seed=0))
    found = score_resamples(draw_weights(64, 400, seed=0), images, (gene_a, gene_b), 440, trend)
    assert found.std(0, ddof=1).mean() == pytest.approx(np.std(full, 0, ddof=1).mean(), rel=0.15)
    np.testing.assert_allclose(found.std(0, ddof=1), np.std(full, 0, ddof=1), rtol=0.45)
    np.testing.assert_allclose(found.mean(0), np.mean(full, 0), atol=0.01)


def test_strong_pairs_stay_and_chance_ones_come_and_go(tmp_path):
    expression, module = module_expression(300, 6, 4, seed=1)
    codes = encoded(store_expression(tmp_path / "e.zarr", expression), tmp_path / "c.zarr")
    a, b = (side.astype(np.int32) for side in np.triu_indices(24, 1))
    pairs, together = Pairs(a, b, np.zeros(a.size, np.int8)), module[a] == module[b]
    counts, _ = count_pairs(codes, a.astype(np.int64), b.astype(np.int64))
    score, stages = trend(counts), Stages()
    session = Session(progress=stages)
    found = resample_best(rescored(codes), pairs, score, session, resamples=40, best=60)  # 36 depend on each other
    assert together.sum() == 36
    assert stages.seen == {"resamples": [120, 120]}
    np.testing.assert_array_equal(found.rows, np.sort(np.argsort(-score, kind="stable")[:120]))
    strong = together[found.rows]
    assert strong.sum() == 36
    assert (found.rank_stability[strong] == 1).all()
    assert found.rank_stability[~strong].max() < 1
    assert found.rank_stability.sum() == pytest.approx(60)
    listed = np.isin(found.rows, best_rows(score, 60)) & ~strong
    assert found.rank_stability[listed].mean() > found.rank_stability[~listed & ~strong].mean()
    assert found.sd[strong].mean() < found.sd[~strong].mean()
    np.testing.assert_allclose(found.mean[strong], score[found.rows][strong], atol=0.03)
    assert {key: found.facts[key] for key in ("resamples", "groups", "pairs", "list")} == {
        "resamples": 40, "groups": 64, "pairs": 120, "list": 60,
    }  # fmt: skip
    assert found.facts["stable"] >= 36
    assert found.facts["median_sd"] > 0
    assert found.facts["sentence"].startswith(f"Of the 60 best pairs {found.facts['stable']} are among the 60 best")


@pytest.mark.cluster
def test_the_same_whoever_resamples_and_makes_decoys(codes, tmp_path, monkeypatch):
    monkeypatch.setattr(stability, "RUN_PAIRS", 16)
    monkeypatch.setattr(decoys, "RUN_PAIRS", 40)
    pairs, rescoring = some_pairs_of_a_store(), rescored(codes, partial(load, "sums"), 7)
    score, found = np.linspace(0, 1, N_PAIRS), []
    for compute in (Compute("synchronous"), Compute("threads", 2), Compute("local", 2)):
        folder = tmp_path / compute.scheduler
        folder.mkdir()
        with open_client(compute) as client:
            best = resample_best(rescoring, pairs, score, Session(client), resamples=5, best=40)
            strata = save_strata(codes, folder, 0, Session(client))
            chance = decoy_scores(replace(rescoring, seed=0), pairs, strata, Session(client))
        numbers = [getattr(best, name).tobytes() for name in ("rows", "mean", "sd", "rank_stability")]
        found.append((numbers, best.facts, chance.tobytes(), strata.name, strata.read_bytes()))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("stage", ["decoys", "resamples"])
def test_what_an_interrupted_job_has_finished_is_not_made_again(codes, tmp_path, monkeypatch, stage):
    """Interrupted in the fourth run of pairs; of what is kept one is damaged, one has lost its receipt."""
    module, pairs = {"decoys": decoys, "resamples": stability}[stage], some_pairs_of_a_store()
    monkeypatch.setattr(module, "RUN_PAIRS", 16)
    strata, score = save_strata(codes, tmp_path, 0, Session()), np.linspace(0, 1, N_PAIRS)

    def scored(kept):
        rescoring = replace(rescored(codes, partial(load, "sums"), 7), kept=kept)
        if stage == "decoys":
            return decoy_scores(rescoring, pairs, strata, Session()).tobytes()
        return resample_best(rescoring, pairs, score, Session(), resamples=5, best=40).mean.tobytes()

    whole, name, made = scored(None), f"{stage.removesuffix('s')}_task", []
    task = getattr(module, name)

    def counted(*given):
        made.append(given[-1].number)
        if len(made) == 4:
            raise KeyboardInterrupt
        return task(*given)

    monkeypatch.setattr(module, name, counted)
    with pytest.raises(KeyboardInterrupt):
        scored(tmp_path)
    (tmp_path / stage / "0.json").unlink()
    file = tmp_path / stage / "1.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    runs = -(-(N_PAIRS if stage == "decoys" else 80) // 16)
    assert scored(tmp_path) == whole
    assert made == [0, 1, 2, 3, 0, 1, *range(3, runs)]
    assert scored(tmp_path) == whole
    assert len(made) == 4 + runs - 1


def test_another_seed_draws_other_cells(codes):
    pairs, score = some_pairs_of_a_store(), np.linspace(0, 1, N_PAIRS)
    one, again, other = (
        resample_best(rescored(codes, TREND, seed), pairs, score, Session(), resamples=3, best=20) for seed in (7, 7, 8)
    )
    assert one.mean.tobytes() == again.mean.tobytes()
    assert (one.mean != other.mean).any()


def test_a_task_has_a_row_for_each_resample(codes):
    (run,) = runs_of(*some_pairs(number=10), 64)
    found = resample_task(rescored(codes), 3, run)
    assert found.shape == (3, 10)
    assert open_codes(Path(codes.path)) == codes


# ── ranks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(5))
def test_the_best_are_those_of_a_full_sort(seed):
    score = np.random.default_rng(seed).integers(0, 12, 60) / 4  # with ties at the cut
    score[::7] = np.nan
    expected = sorted((row for row in range(60) if not np.isnan(score[row])), key=lambda row: (-score[row], row))
    for number in (1, 10, 51, 100):
        np.testing.assert_array_equal(best_rows(score, number), sorted(expected[:number]))


def test_ties_share_the_places_that_are_left():
    scores = np.array([[9.0, 5.0, 5.0, 1.0], [9.0, 8.0, 7.0, 6.0]])
    np.testing.assert_allclose(share_in_list(scores, 2), [1, 0.75, 0.25, 0])
    np.testing.assert_allclose(share_in_list(scores, 4), 1)
    np.testing.assert_allclose(share_in_list(np.ones((3, 4)), 3), 0.75)


def test_nothing_was_scored(codes):
    pairs, score = some_pairs_of_a_store(4), np.full(4, np.nan)
    found = resample_best(rescored(codes), pairs, score, Session(), resamples=2)
    assert (found.rows.size, found.facts["pairs"], found.facts["list"]) == (0, 0, 0)
    assert "none was resampled" in found.facts["sentence"]
