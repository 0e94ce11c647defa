"""An epoch shows every rare row once, fresh common rows, both classes in every batch: whatever the store's order."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from model.sampling import Drawing, Partition, Population, common_per_rare, epoch_windows


@st.composite
def populations(draw):
    """Rows with labels in any order over shards of any size, not all of the store in use; both classes occur."""
    label = np.array(draw(st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=2, max_size=200)), np.int8)
    if draw(st.booleans()):
        label.sort()
    assume((label > 0).any() and (label == 0).any())
    rows = np.cumsum(draw(st.lists(st.integers(1, 4), min_size=label.size, max_size=label.size)))
    return Population.of(rows, label, draw(st.integers(1, 300)))


drawings = st.builds(
    Drawing, st.sampled_from([None, 0.5, 1.0, 2.0, 5.0]), st.integers(2, 60), st.integers(1, 300)
)  # fmt: skip


def shuffled(n, n_rare, rows_per_shard, seed=0):
    """A population in random order: every shard holds both classes."""
    label = np.zeros(n, np.int8)
    label[np.random.default_rng(seed).choice(n, n_rare, replace=False)] = 1
    return Population.of(np.arange(n), label, rows_per_shard)


def epoch_rows(population, drawing, seed=0, epoch=0):
    return np.concatenate([window.rows for window in epoch_windows(population, drawing, seed, epoch)])


@settings(max_examples=150, deadline=None)
@given(populations(), drawings, st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_holds_every_rare_row_once_and_no_row_twice(population, drawing, seed, epoch):
    windows = list(epoch_windows(population, drawing, seed, epoch))
    rows = np.concatenate([window.rows for window in windows])
    assert np.unique(rows).size == rows.size
    assert np.isin(rows, np.union1d(population.rare, population.common)).all()
    assert np.isin(population.rare, rows).all()
    for window in windows:
        assert (np.diff(window.rows) > 0).all()
        np.testing.assert_array_equal(np.sort(np.concatenate(window.batches)), np.arange(window.rows.size))


@settings(max_examples=150, deadline=None)
@given(populations(), drawings, st.integers(0, 3))
def test_no_batch_is_of_one_class_and_all_have_the_ratio_of_their_window(population, drawing, epoch):
    for window in epoch_windows(population, drawing, 0, epoch):
        rare = np.isin(window.rows, population.rare)
        n_rare, n_common, n = rare.sum(), (~rare).sum(), len(window.batches)
        for batch in window.batches:
            mine, other = rare[batch].sum(), (~rare[batch]).sum()
            assert mine
            assert other
            assert n_rare // n <= mine <= -(-n_rare // n)
            assert n_common // n <= other <= -(-n_common // n)


@settings(max_examples=80, deadline=None)
@given(populations(), drawings, st.integers(1, 5))
def test_readers_together_read_what_one_would(population, drawing, count):
    alone = list(epoch_windows(population, drawing, 0, 1))
    parts = [list(epoch_windows(population, drawing, 0, 1, Partition(i, count))) for i in range(count)]
    assert sum(map(len, parts)) == len(alone)
    for number, window in enumerate(alone):
        same = parts[number % count][number // count]
        np.testing.assert_array_equal(same.rows, window.rows)
        assert [batch.tolist() for batch in same.batches] == [batch.tolist() for batch in window.batches]


@settings(max_examples=80, deadline=None)
@given(populations(), st.integers(2, 60), st.integers(1, 300))
def test_the_natural_balance_shows_every_row(population, batch_size, window_images):
    rows = epoch_rows(population, Drawing(None, batch_size, window_images))
    np.testing.assert_array_equal(np.sort(rows), np.union1d(population.rare, population.common))


@pytest.mark.parametrize("ratio", [0.5, 1, 3, 5])
def test_the_ratio_is_exact_in_the_epoch_and_in_every_batch(ratio):
    population = shuffled(20_000, 1_000, rows_per_shard=500)
    windows = list(epoch_windows(population, Drawing(ratio, 60, 400), seed=0, epoch=0))
    assert len(windows) > 2
    for window in windows:
        rare = np.isin(window.rows, population.rare)
        assert (~rare).sum() == round(ratio * rare.sum())
        shares = [rare[batch].sum() - batch.size / (1 + ratio) for batch in window.batches]
        assert np.abs(shares).max() <= 1
        assert all(30 <= batch.size <= 90 for batch in window.batches)
    assert np.mean([batch.size for window in windows for batch in window.batches]) == pytest.approx(60, abs=5)


def test_a_window_never_holds_more_than_its_limit_and_one_shard():
    population = shuffled(20_000, 1_000, rows_per_shard=200)
    most = max(np.bincount(population.rare // 200)) * (1 + 5)
    sizes = [window.rows.size for window in epoch_windows(population, Drawing(5.0, 60, 500), seed=0, epoch=0)]
    assert max(sizes) <= 500 + most
    assert np.mean(sizes) > 400  # and is no smaller than it need be: the disk is read in long runs


def test_the_next_epoch_draws_fresh_common_rows_until_all_were_seen():
    population, drawing = shuffled(2_000, 100, rows_per_shard=100), Drawing(2.0, 30, 200)
    seen = [np.setdiff1d(epoch_rows(population, drawing, epoch=epoch), population.rare) for epoch in range(150)]
    shared = np.intersect1d(seen[0], seen[1]).size
    assert shared < 0.3 * seen[0].size  # 11 % by chance
    times = np.bincount(np.concatenate(seen), minlength=2_000)[population.common]
    assert times.min() >= 1  # 150 draws of 10.5 % each: 16 times on average
    assert times.max() <= 40


def test_equal_arguments_give_equal_windows_and_others_do_not():
    population, drawing = shuffled(2_000, 100, rows_per_shard=100), Drawing(2.0, 30, 200)
    first, again = (list(epoch_windows(population, drawing, 5, 7)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.rows, b.rows)
        assert [x.tolist() for x in a.batches] == [x.tolist() for x in b.batches]
    for seed, epoch in ((6, 7), (5, 8)):
        assert epoch_rows(population, drawing, seed, epoch).tolist() != epoch_rows(population, drawing, 5, 7).tolist()


def test_the_order_is_random_across_and_within_shards():
    population = shuffled(4_000, 2_000, rows_per_shard=1_000)
    windows = list(epoch_windows(population, Drawing(1.0, 50, 1_000), seed=0, epoch=0))
    assert [int(window.rows[0]) // 1_000 for window in windows] != [0, 1, 2, 3]
    for window in windows:
        order = np.concatenate(window.batches)
        assert abs(np.corrcoef(order, np.arange(order.size))[0, 1]) < 0.1


def test_the_smaller_class_is_the_rare_one_whichever_it_is():
    rows, label = np.arange(10, 20), np.array([1, 1, 2, 1, 1, 2, 1, 0, 0, 0], np.int8)
    population = Population.of(rows, label, 100)
    assert population.rare.tolist() == [17, 18, 19]
    assert population.common.tolist() == list(range(10, 17))
    chosen = epoch_rows(population, Drawing(1.0, 4, 100))
    assert np.isin([17, 18, 19], chosen).all()
    assert chosen.size == 6


@pytest.mark.parametrize(("ratio", "expected"), [(None, 4.0), (1.0, 1.0), (4.0, 4.0), (9.0, 4.0)])
def test_no_more_common_rows_are_asked_for_than_there_are(ratio, expected):
    assert common_per_rare(shuffled(50, 10, 100), ratio) == expected


@pytest.mark.parametrize("ratio", [None, 1.0, 5.0])
def test_fewer_rows_than_a_batch_are_one_batch(ratio):
    (window,) = epoch_windows(shuffled(7, 3, 100), Drawing(ratio, 252, 1_000), seed=0, epoch=0)
    assert len(window.batches) == 1
    assert window.rows.size == (6 if ratio == 1.0 else 7)


def test_batches_of_two_rows_still_hold_both_classes():
    """With five common rows per rare one, a batch of 2 cannot: it grows rather than losing a class (and its norms)."""
    population = shuffled(600, 100, 50)
    for window in epoch_windows(population, Drawing(5.0, 2, 100), seed=0, epoch=0):
        assert {np.isin(window.rows[batch], population.rare).sum() for batch in window.batches} == {1}
