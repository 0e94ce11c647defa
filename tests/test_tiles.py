"""The plan: every pair in exactly one tile of one shard of one task, whatever the workers; memory before spending."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline import tiles
from pipeline.pairs import Pairs
from pipeline.spec import Binning, ImageSpec
from pipeline.tiles import (
    MAX_TASK_SHARDS,
    TASKS_PER_WORKER,
    WORKER_BASE_BYTES,
    blocks_of,
    estimate,
    plan_tasks,
    require_memory,
    storage_order,
    task_bytes,
    task_shards,
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
    _, block = blocks_of(ordered.gene_b)
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
    gene_b = storage_order(pairs).gene_b
    shards = tiles_of(gene_b, shard_pairs)
    missing = [shard for shard in range(len(shards)) if data.draw(st.booleans())]
    tasks = plan_tasks(gene_b, shard_pairs, n_workers, missing)
    assert [shard for task in tasks for shard in task.shards] == missing
    for task in tasks:
        assert task.tiles == tuple(shards[shard] for shard in task.shards)


@given(st.integers(1, 100_000), st.integers(1, 500))
def test_tasks_are_few_and_keep_every_worker_busy(n_shards, n_workers):
    size = task_shards(n_shards, n_workers)
    assert 1 <= size <= MAX_TASK_SHARDS
    if size > 1:
        assert -(-n_shards // size) >= TASKS_PER_WORKER * n_workers
    assert -(-n_shards // size) <= max(2 * TASKS_PER_WORKER * n_workers, -(-n_shards // MAX_TASK_SHARDS))


@in_blocks_of_3
@given(pair_lists(), st.sampled_from([2, 32, 130]), st.integers(1, 4))
def test_the_estimate_is_the_plan(pairs, bins, n_workers):
    binning = Binning(bins=bins)
    cost = estimate(len(pairs), binning, 1000, n_workers)
    shards = tiles_of(storage_order(pairs).gene_b, binning.shard_pairs)
    tasks = plan_tasks(storage_order(pairs).gene_b, binning.shard_pairs, n_workers, range(len(shards)))
    assert (cost.pairs, cost.shards, cost.tasks) == (len(pairs), len(shards), len(tasks))
    assert cost.task_bytes == task_bytes(binning, 1000)
    assert cost.store_bytes > 0


def test_a_task_of_an_atlas_needs_no_more_memory_than_one_of_a_hundredth_of_it():
    assert task_bytes(Binning(), 100_000_000) == task_bytes(Binning(), 2_000_000) < 2e9
    assert task_bytes(Binning(), 1000) < task_bytes(Binning(), 100_000)


@pytest.mark.parametrize("bins", [2, 32, 255])
def test_a_task_is_planned_with_its_shard_and_its_counters(bins):
    binning = Binning(bins=bins)
    assert task_bytes(binning, 1) > (3 * binning.shard_pairs + 256) * bins**2 * 4


def spec(n_cells=1_000_000):
    return ImageSpec("codes.zarr", "", Binning(), n_cells, 100, "")


def test_a_worker_too_small_for_a_task_is_refused_before_it_is_killed(refuses):
    need = task_bytes(Binning(), 1_000_000) + WORKER_BASE_BYTES
    require_memory(spec(), need)
    require_memory(spec(), None)
    with refuses("needs", " GB", "each worker has 0.5", "--memory-limit", "--workers"):
        require_memory(spec(), 500_000_000)


def test_the_suggested_limit_is_enough():
    """A user who does as told must not be refused again."""
    for n_cells in (1, 50_000, 123_456, 1_000_000):
        with pytest.raises(ValueError, match="--memory-limit") as error:
            require_memory(spec(n_cells), 1)
        suggested = str(error.value).split("--memory-limit ")[1].split("GB")[0]
        require_memory(spec(n_cells), int(float(suggested) * 1e9))
