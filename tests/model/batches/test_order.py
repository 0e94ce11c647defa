"""An epoch shows both classes in one ratio in every batch, each row as often as its class asks: whatever the order."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pairscape.model.batches.order import (
    Drawing,
    Partition,
    Population,
    batches_per_reader,
    epoch_windows,
    images_shown,
)


@st.composite
def populations(draw):
    """Rows with labels in any order over blocks of any size, not all of the store in use; both classes occur."""
    label = np.array(draw(st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=2, max_size=200)), np.int8)
    if draw(st.booleans()):
        label.sort()
    assume((label > 0).any() and (label == 0).any())
    rows = np.cumsum(draw(st.lists(st.integers(1, 4), min_size=label.size, max_size=label.size)))
    everywhere = np.full(rows[-1] + draw(st.integers(1, 9)), 1, np.int8)  # the other rows would be seen
    everywhere[rows] = label
    return Population.of(rows, everywhere, draw(st.integers(1, 60)))


drawings = st.builds(
    Drawing,
    st.sampled_from(["down", "over", "natural"]),
    st.sampled_from([0.5, 1.0, 2.0, 5.0]),
    st.integers(2, 60),
    st.integers(1, 300),
)


def shuffled(n, n_rare, block_rows, seed=0):
    """A population in random order: blocks hold both classes."""
    label = np.zeros(n, np.int8)
    label[np.random.default_rng(seed).choice(n, n_rare, replace=False)] = 1
    return Population.of(np.arange(n), label, block_rows)


def rare_rows(population):
    return np.flatnonzero(population.side == population.classes[0])


def common_rows(population):
    return np.flatnonzero(population.side == population.classes[1])


def batches_of(population, drawing, seed=0, epoch=0, partition=Partition(), first_batch=0):
    """Rows of each batch of an epoch."""
    windows = epoch_windows(population, drawing, seed, epoch, partition, first_batch)
    return [window.rows[batch] for window in windows for batch in window.batches]


def epoch_rows(population, drawing, **where):
    return np.concatenate(batches_of(population, drawing, **where))


def lists(batches):
    return [batch.tolist() for batch in batches]


@settings(max_examples=150, deadline=None)
@given(populations(), drawings, st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_shows_each_row_as_often_as_the_balance_asks(population, drawing, seed, epoch):
    rows = epoch_rows(population, drawing, seed=seed, epoch=epoch)
    times = np.bincount(rows, minlength=population.side.size)
    rare, common = times[rare_rows(population)], times[common_rows(population)]
    assert times.sum() == rare.sum() + common.sum()  # no other row
    assert (rare.sum(), common.sum()) == images_shown(population, drawing)
    assert common.max() == 1  # without replacement
    assert rare.min() >= 1
    assert rare.max() <= (rare.min() + 1 if drawing.balance == "over" else 1)
    assert drawing.balance == "down" or common.min() == 1


@settings(max_examples=150, deadline=None)
@given(populations(), drawings, st.integers(0, 3))
def test_no_batch_is_of_one_class_and_all_have_the_ratio_of_the_epoch(population, drawing, epoch):
    rare, common = images_shown(population, drawing)
    for batch in batches_of(population, drawing, epoch=epoch):
        mine = int((population.side[batch] == population.classes[0]).sum())
        other = batch.size - mine
        assert mine
        assert other
        fewer, more = (mine, other) if rare <= common else (other, mine)
        assert abs(more - fewer * max(rare, common) / min(rare, common)) < 1  # as exact as whole rows can be


@settings(max_examples=80, deadline=None)
@given(populations(), drawings, st.integers(1, 4))
def test_ranks_share_an_epoch_in_equal_numbers_of_batches(population, drawing, count):
    assume(min(images_shown(population, drawing)) >= count)
    parts = [batches_of(population, drawing, partition=Partition(i, count)) for i in range(count)]
    assert {len(part) for part in parts} == {batches_per_reader(population, drawing, count)}
    rows = np.concatenate([np.concatenate(part) for part in parts])
    times = np.bincount(rows, minlength=population.side.size)
    assert rows.size == sum(images_shown(population, drawing))
    assert times[common_rows(population)].max() == 1
    assert times[rare_rows(population)].min() >= 1


@settings(max_examples=80, deadline=None)
@given(populations(), drawings, st.integers(1, 2), st.data())
def test_an_epoch_taken_up_anywhere_goes_on_as_if_never_left(population, drawing, count, data):
    assume(min(images_shown(population, drawing)) >= count)
    last = Partition(count - 1, count)
    whole = lists(batches_of(population, drawing, partition=last))
    first = data.draw(st.integers(0, len(whole)))
    assert lists(batches_of(population, drawing, partition=last, first_batch=first)) == whole[first:]


@settings(max_examples=80, deadline=None)
@given(populations(), drawings)
def test_windows_are_ascending_and_no_larger_than_asked(population, drawing):
    for window in epoch_windows(population, drawing, 0, 0):
        assert (np.diff(window.rows) > 0).all()
        assert set(np.concatenate(window.batches)) == set(range(window.rows.size))
        largest = max(batch.size for batch in window.batches)
        assert len(window.batches) == 1 or window.rows.size <= drawing.window_images + largest


@pytest.mark.parametrize("balance", ["down", "over"])
@pytest.mark.parametrize("ratio", [1, 3, 5])
def test_a_whole_ratio_is_exact_in_every_batch(balance, ratio):
    population = shuffled(20_000, 1_000, block_rows=50)
    if balance == "over":  # 19,000 common rows are no multiple of 3
        population = shuffled(19_000, 1_000, block_rows=50) if ratio == 3 else population
    batches = batches_of(population, Drawing(balance, ratio, 60, 400))
    for batch in batches:
        rare = int((population.side[batch] == population.classes[0]).sum())
        assert batch.size - rare == ratio * rare
        assert 30 <= batch.size <= 90
    assert np.mean([batch.size for batch in batches]) == pytest.approx(60, abs=5)


@pytest.mark.parametrize("ordered", [False, True], ids=["random", "positives first"])
def test_the_order_of_the_store_does_not_touch_the_ratio(ordered):
    label = np.zeros(6_000, np.int8)
    label[:300] = 1
    label = label if ordered else np.random.default_rng(0).permutation(label)
    population = Population.of(np.arange(6_000), label, 64)
    batches = batches_of(population, Drawing("down", 4.0, 50, 200))
    assert {int((label[batch] > 0).sum()) for batch in batches} == {10}
    assert {batch.size for batch in batches} == {50}


def test_both_directions_are_positives():
    label = np.tile(np.array([0, 0, 0, 1, 2], np.int8), 200)
    population = Population.of(np.arange(1_000), label, 50)
    assert population.sizes == (400, 600)
    for batch in batches_of(population, Drawing("down", 1.0, 40, 200)):
        assert (label[batch] > 0).sum() == 20
        assert {1, 2} <= set(label[batch])


def test_the_smaller_class_is_the_rare_one_whichever_it_is():
    rows, label = np.arange(10, 20), np.array([1] * 10 + [1, 1, 2, 1, 1, 2, 1, 0, 0, 0], np.int8)
    population = Population.of(rows, label, 8)
    assert rare_rows(population).tolist() == [17, 18, 19]
    assert common_rows(population).tolist() == list(range(10, 17))
    chosen = epoch_rows(population, Drawing("down", 1.0, 4, 100))
    assert np.isin([17, 18, 19], chosen).all()
    assert chosen.size == 6


@pytest.mark.parametrize(
    ("balance", "ratio", "expected"),
    [
        ("natural", 1.0, (10, 40)),
        ("down", 1.0, (10, 10)),
        ("down", 4.0, (10, 40)),
        ("down", 9.0, (10, 40)),
        ("down", 0.5, (10, 5)),
        ("over", 1.0, (40, 40)),
        ("over", 2.5, (16, 40)),
        ("over", 9.0, (10, 40)),
    ],
)
def test_images_of_an_epoch(balance, ratio, expected):
    population, drawing = shuffled(50, 10, 100), Drawing(balance, ratio, 10, 100)
    assert images_shown(population, drawing) == expected
    assert epoch_rows(population, drawing).size == sum(expected)


@pytest.mark.parametrize("balance", ["natural", "down", "over"])
def test_fewer_rows_than_a_batch_are_one_batch(balance):
    (window,) = epoch_windows(shuffled(7, 3, 100), Drawing(balance, 1.0, 252, 1_000), seed=0, epoch=0)
    assert len(window.batches) == 1
    assert window.rows.size == (6 if balance == "down" else 7)


def test_batches_of_two_rows_still_hold_both_classes():
    """With five common rows per rare one, a batch of 2 cannot: it grows rather than losing a class (and its norms)."""
    population = shuffled(600, 100, 50)
    for batch in batches_of(population, Drawing("down", 5.0, 2, 100)):
        assert (population.side[batch] == population.classes[0]).sum() == 1


@pytest.mark.parametrize(("label", "word"), [([0, 0], "0 positive and 2 negative"), ([1, 2], "2 positive and 0")])
def test_one_class_alone_is_refused(label, word, refuses):
    with refuses(word, "both"):
        Population.of(np.arange(2), np.array(label, np.int8), 4)


def test_more_ranks_than_rare_rows_are_refused(refuses):
    with refuses("3 rows", "4 ranks"):
        batches_of(shuffled(40, 3, 8), Drawing("down", 1.0, 4, 100), partition=Partition(0, 4))


# ---------------------------------------------------------------- chance


def test_every_common_row_is_as_likely_as_any_other():
    """Times shown over many epochs against the binomial distribution, the store sorted in part."""
    label = (np.arange(3_000) % 30 == 0).astype(np.int8)
    label[:600] = np.arange(600) % 4 == 0  # five times as many positives in the first blocks
    population, drawing = Population.of(np.arange(3_000), label, 64), Drawing("down", 3.0, 30, 200)
    epochs = 400
    shown = np.concatenate([epoch_rows(population, drawing, epoch=epoch) for epoch in range(epochs)])
    times = np.bincount(shown, minlength=3_000)[common_rows(population)]
    share = 3 * population.sizes[0] / population.sizes[1]
    assert times.mean() == pytest.approx(epochs * share)
    expected = epochs * share * (1 - share)
    assert ((times - epochs * share) ** 2).mean() == pytest.approx(expected, rel=0.15)
    regions = times[: times.size // 50 * 50].reshape(50, -1).mean(axis=1)  # no part of the store is favoured
    assert np.abs(regions - epochs * share).max() < 5 * np.sqrt(expected / (times.size // 50))


def test_repeats_are_fresh_rows_each_epoch_and_lie_apart():
    population, drawing = shuffled(5_000, 100, block_rows=64), Drawing("over", 20.0, 100, 1_000)  # 2.45 times each
    extra = np.zeros(population.side.size)
    for epoch in range(60):
        batches = batches_of(population, drawing, epoch=epoch)
        extra += np.bincount(np.concatenate(batches), minlength=population.side.size) == 3
        assert sum(batch.size - np.unique(batch).size for batch in batches) < 12  # of 145 repeats
    assert extra[rare_rows(population)].min() > 0.15 * 60
    assert extra[rare_rows(population)].max() < 0.75 * 60


def entropy(values, kinds):
    share = np.bincount(values, minlength=kinds) / values.size
    return -(share[share > 0] * np.log2(share[share > 0])).sum()


@pytest.mark.parametrize("balance", ["natural", "down", "over"])
def test_batches_are_as_mixed_as_a_random_draw(balance):
    """Store positions, in 32 equal parts: a window of 256 blocks (a real one has 256 chunks) sees all."""
    n, parts = 65_536, 32
    population, rng = shuffled(n, 3_000, block_rows=32), np.random.default_rng(1)
    batches = batches_of(population, Drawing(balance, 5.0, 256, 256 * 32))
    found = np.mean([entropy(batch * parts // n, parts) for batch in batches])
    random = np.mean([entropy(rng.choice(n, batch.size, replace=False) * parts // n, parts) for batch in batches])
    assert found / random >= 0.99
    order = np.concatenate([batch[:10] for batch in batches])
    assert abs(np.corrcoef(order, np.arange(order.size))[0, 1]) < 0.1


def test_equal_arguments_give_equal_batches_and_others_do_not():
    population, drawing = shuffled(2_000, 100, block_rows=64), Drawing("down", 2.0, 30, 200)
    first = lists(batches_of(population, drawing, seed=5, epoch=7))
    assert lists(batches_of(population, drawing, seed=5, epoch=7)) == first
    for seed, epoch in ((6, 7), (5, 8)):
        assert lists(batches_of(population, drawing, seed=seed, epoch=epoch)) != first
