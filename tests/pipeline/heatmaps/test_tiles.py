"""The plan: every pair in exactly one tile of one shard of one task, whatever the workers; few tasks, none too long."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps import tiles
from pairscape.pipeline.heatmaps.tiles import (
    SHARES_PER_WORKER,
    SHORT_TASK_SECONDS,
    TASK_SECONDS,
    TASKS_PER_WORKER,
    block_density,
    gene_blocks,
    plan_tasks,
    storage_order,
    task_runs,
    tiles_of,
)

in_blocks_of_3 = patch.object(tiles, "BLOCK_GENES", 3)  # so that short lists of pairs have many blocks


@st.composite
def pair_lists(draw):
    """Any pairs, repeated and mirrored ones too; labels tell the pairs apart."""
    genes = arrays(np.int32, (2, draw(st.integers(1, 120))), elements=st.integers(0, 12))
    gene_a, gene_b = draw(genes)
    return Pairs(gene_a, gene_b, np.arange(gene_a.size, dtype=np.int8))


shard_sizes = st.integers(1, 20)


@in_blocks_of_3
@given(pair_lists())
def test_the_store_holds_every_pair_ordered_by_block_gene_a_gene_b(pairs):
    ordered = storage_order(pairs)
    assert sorted(ordered.label) == sorted(pairs.label)
    np.testing.assert_array_equal(ordered.gene_a, pairs.gene_a[ordered.label])
    np.testing.assert_array_equal(ordered.gene_b, pairs.gene_b[ordered.label])
    _, block = gene_blocks(ordered.gene_b)
    keys = list(zip(block, ordered.gene_a, ordered.gene_b, strict=True))
    assert keys == sorted(keys)


@in_blocks_of_3
@given(pair_lists(), st.randoms())
def test_the_order_depends_on_the_pairs_alone(pairs, random):
    rows = list(range(len(pairs)))
    random.shuffle(rows)
    first, second = storage_order(pairs), storage_order(pairs.take(np.array(rows)))
    np.testing.assert_array_equal(first.gene_a, second.gene_a)
    np.testing.assert_array_equal(first.gene_b, second.gene_b)


@in_blocks_of_3
@given(pair_lists(), shard_sizes)
def test_tiles_cover_every_pair_exactly_once(pairs, shard_pairs):
    ordered = storage_order(pairs)
    shards = tiles_of(ordered.gene_b, shard_pairs)
    for number, shard in enumerate(shards):
        rows = [row for tile in shard for row in range(tile.start, tile.stop)]
        assert rows == list(range(number * shard_pairs, min((number + 1) * shard_pairs, len(pairs))))
    for tile in (tile for shard in shards for tile in shard):
        assert set(ordered.gene_b[tile.start : tile.stop].tolist()) <= set(tile.genes_b)
        assert list(tile.genes_b) == sorted(set(tile.genes_b))
        assert len(tile.genes_b) <= 3
        assert (np.diff(ordered.gene_a[tile.start : tile.stop]) >= 0).all()


@in_blocks_of_3
@given(pair_lists(), shard_sizes, st.integers(1, 9), st.data())
def test_tasks_cover_the_missing_shards_exactly(pairs, shard_pairs, n_workers, data):
    shards = tiles_of(storage_order(pairs).gene_b, shard_pairs)
    missing = [shard for shard in range(len(shards)) if data.draw(st.booleans())]
    seconds = np.array(data.draw(st.lists(st.floats(0, 100), min_size=len(missing), max_size=len(missing))))
    tasks = plan_tasks(shards, missing, seconds, n_workers)
    assert [shard for task in tasks for shard in task.shards] == missing
    for task in tasks:
        assert task.shards
        assert task.tiles == tuple(shards[shard] for shard in task.shards)


shard_times = st.lists(st.floats(0.01, 20), min_size=1, max_size=400).map(np.array)


@given(shard_times, st.integers(1, 50))
def test_tasks_are_short_and_keep_every_worker_busy(seconds, n_workers):
    runs, total = task_runs(seconds, n_workers), seconds.sum()
    assert [shard for run in runs for shard in range(run.start, run.stop)] == list(range(seconds.size))
    lengths = np.array([seconds[run].sum() for run in runs])
    assert lengths.max() <= min(TASK_SECONDS, total / (SHARES_PER_WORKER * n_workers)) + 2 * seconds.max()
    shortest = min(SHORT_TASK_SECONDS, total / (TASKS_PER_WORKER * n_workers))
    assert (lengths[:-1] + seconds.max() >= shortest).all()


def test_the_last_tasks_are_the_shortest():
    lengths = [run.stop - run.start for run in task_runs(np.full(1000, 0.5), 4)]
    assert lengths[0] == max(lengths) > 25
    assert max(lengths[-4:]) <= 16
    assert sum(lengths) == 1000


def test_the_tasks_of_a_large_job_are_as_many_as_a_scheduler_likes():
    """36.8 million pairs on two workers; ten times the work on a thousand; and no job of one shard is cut."""
    assert 20 < len(task_runs(np.full(4490, 0.1), 2)) < 100
    assert 4_000 < len(task_runs(np.full(44_900, 2.0), 1000)) < 20_000
    assert task_runs(np.array([0.1]), 8) == [slice(0, 1)]
    assert task_runs(np.array([]), 8) == []


@given(st.lists(st.integers(0, 40), min_size=1, max_size=200), st.integers(0, 2**32))
def test_the_densest_block_decides(genes_b, seed):
    density = np.random.default_rng(seed).random(41)
    pairs = Pairs(np.zeros(len(genes_b), np.int32), np.array(genes_b, np.int32), np.zeros(len(genes_b), np.int8))
    used = np.unique(genes_b)
    with patch.object(tiles, "BLOCK_GENES", 3):
        found = block_density(pairs, density)
    assert found == pytest.approx(max(density[used[i : i + 3]].mean() for i in range(0, used.size, 3)))
