"""The stream hands every row its own image, whoever reads it, and ends when its reader does."""

import itertools
import pickle
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_fixtures import sharded_store
from torch.utils.data import DataLoader

from model.sampling import Drawing
from model.stream import PairStream, loader, prefetched, read_rows, row_batches


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return sharded_store(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def stored(images):
    """The whole store in memory, read at once: counts and both_zero by row."""
    everything = slice(0, images.spec.n_pairs)
    return images.counts(everything), images.both_zero(everything)


@pytest.fixture
def stream(images):
    """Windows of 300 images: an epoch visits the three shards in turn."""
    label = images.array("label")
    rows = np.flatnonzero(np.arange(label.size) % 3 > 0)
    stream = PairStream(images, rows, label, ratio=2.0, batch_size=30, seed=4)
    stream.drawing = Drawing(2.0, 30, 300)
    return stream


def epoch(batches):
    """Row numbers of an epoch in order, batch after batch."""
    return [batch.row.tolist() for batch in batches]


def assert_right(batch, stored, label):
    counts, both_zero = stored
    row = batch.row.numpy()
    np.testing.assert_array_equal(batch.counts.numpy(), counts[row])
    np.testing.assert_array_equal(batch.both_zero.numpy(), both_zero[row])
    np.testing.assert_array_equal(batch.label.numpy(), label[row])


def test_the_store_has_several_shards_and_no_two_images_are_equal(images, stored):
    assert images.spec.n_shards == 3
    distinct = np.unique(stored[0].reshape(len(stored[0]), -1), axis=0)
    assert len(distinct) > 0.99 * images.spec.n_pairs  # so that a wrong row would be seen


def test_every_row_comes_with_its_own_image_and_label(images, stored, stream):
    batches = list(stream)
    assert len({int(row) // images.spec.binning.shard_pairs for row in np.concatenate(epoch(batches))}) == 3
    for batch in batches:
        assert_right(batch, stored, images.array("label"))
    assert sum(batch.row.numel() for batch in batches) == pytest.approx(stream.images_per_epoch, abs=3)


def test_only_rows_asked_for_are_drawn(stream):
    rows = np.concatenate(epoch(stream))
    assert (rows % 3 > 0).all()
    assert np.unique(rows).size == rows.size


@pytest.mark.parametrize("rows", [[0], [4559], [0, 2047, 2048, 4095, 4096, 4559], list(range(2000, 4200, 7))])
def test_rows_are_read_wherever_they_lie(images, stored, rows):
    rows = np.array(rows)
    held = read_rows(images, rows, images.array("label"))
    np.testing.assert_array_equal(held.counts, stored[0][rows])
    np.testing.assert_array_equal(held.both_zero, stored[1][rows])
    np.testing.assert_array_equal(held.row, rows)


@pytest.mark.parametrize(("n_cells", "dtype"), [(2**15 - 1, torch.int16), (2**15, torch.int32)])
def test_counts_take_the_smallest_type_that_holds_every_cell(images, n_cells, dtype):
    many = replace(images, spec=replace(images.spec, n_cells=n_cells))
    (batch,) = row_batches(many, np.arange(3), images.array("label"), 10)
    assert batch.counts.dtype == dtype
    assert batch.both_zero.dtype == torch.int32
    assert batch.label.dtype == batch.row.dtype == torch.int64


def test_rows_for_evaluation_come_once_and_in_order(images, stored):
    rows = np.flatnonzero(np.arange(images.spec.n_pairs) % 2)
    batches = list(row_batches(images, rows, images.array("label"), 500))
    assert np.concatenate(epoch(batches)).tolist() == rows.tolist()
    assert max(batch.row.numel() for batch in batches) == 500
    for batch in batches:
        assert_right(batch, stored, images.array("label"))


def test_a_new_epoch_is_another_one_and_a_new_stream_repeats_it(stream):
    again = pickle.loads(pickle.dumps(stream))
    first, second = epoch(stream), epoch(stream)
    assert first != second
    assert epoch(again) == first
    assert epoch(again) == second


def test_a_stream_travels_without_its_images(stream):
    list(stream)
    assert len(pickle.dumps(stream)) < 200_000  # a window alone would be 2 MB


def test_the_loader_gives_what_the_stream_gives(stream):
    again = pickle.loads(pickle.dumps(stream))
    assert epoch(loader(stream)) == epoch(again)


def test_spawned_workers_read_the_same_rows_as_one_reader(images, stored, stream):
    alone = pickle.loads(pickle.dumps(stream))
    expected = [sorted(itertools.chain(*epoch(alone))) for _ in range(2)]
    workers = DataLoader(
        stream, batch_size=None, num_workers=2, multiprocessing_context="spawn", persistent_workers=True
    )
    for rows in expected:
        batches = list(workers)
        assert sorted(itertools.chain(*epoch(batches))) == rows
        for batch in batches:
            assert_right(batch, stored, images.array("label"))


# ---------------------------------------------------------------- reading ahead


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "pairscape-prefetch"]


def test_what_is_read_ahead_comes_whole_and_in_order():
    assert list(prefetched(iter(range(100)), 3)) == list(range(100))
    assert list(prefetched(iter(()), 3)) == []
    assert not prefetch_threads()


def test_no_more_is_read_ahead_than_asked_for():
    made = []
    ahead = prefetched((made.append(i) or i for i in itertools.count()), 4)
    next(ahead)
    time.sleep(0.3)
    assert len(made) <= 1 + 4 + 1  # taken, waiting, in hand
    ahead.close()


class UnreadableError(Exception):
    pass


def failing(error):
    yield 1
    yield 2
    raise error


@pytest.mark.parametrize("error", [UnreadableError("shard 7"), KeyboardInterrupt()])
def test_an_error_while_reading_ahead_is_the_readers(error):
    ahead = prefetched(failing(error), 8)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(type(error)) as caught:
        next(ahead)
    assert caught.value is error
    assert not prefetch_threads()


def test_a_damaged_store_is_an_error_in_the_reader(images, stream):
    stream.images = replace(images, path=images.path.with_name("gone.zarr"))
    with pytest.raises(FileNotFoundError):
        list(loader(stream))


@pytest.mark.parametrize("abandon", [lambda ahead: ahead.close(), lambda ahead: None], ids=["closed", "forgotten"])
def test_an_abandoned_reader_ends_its_thread(abandon):
    ahead = prefetched(itertools.count(), 2)
    next(ahead)
    assert prefetch_threads()
    abandon(ahead)
    del ahead
    assert not prefetch_threads()
