"""The stream hands every row its own image, whoever reads it, and ends when its reader does."""

import itertools
import json
import pickle
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from model_fixtures import sharded_store
from pairscape.model.batches.order import Partition
from pairscape.model.batches.stream import PairStream, prefetched, read_rows, row_batches
from pairscape.model.options import Training


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return sharded_store(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def stored(images):
    """The whole store in memory, read at once: counts and both_zero by row."""
    everything = slice(0, images.spec.n_pairs)
    return images.counts(everything), images.both_zero(everything)


def make_stream(images, balance="down", workers=0, partition=None):
    """Windows of 300 images: an epoch reads from all three shards, several times."""
    label = images.array("label")
    rows = np.flatnonzero(np.arange(label.size) % 3 > 0)
    settings = Training(balance=balance, ratio=2.0, batch_size=30)
    stream = PairStream(images, rows, label, settings, 4, partition=partition, workers=workers)
    stream.drawing, stream.resident_images = replace(stream.drawing, window_images=300), 600
    return stream


@pytest.fixture
def stream(images):
    return make_stream(images)


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
    assert sum(batch.row.numel() for batch in batches) == stream.images_per_epoch
    assert len(batches) == stream.batches_per_epoch


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


@pytest.mark.parametrize("balance", ["down", "over", "natural"])
def test_every_batch_has_the_share_of_positives_that_the_stream_names(images, balance):
    stream = make_stream(images, balance)
    shares = [float((batch.label > 0).double().mean()) for batch in stream]
    assert np.abs(np.array(shares) - stream.share_of_positives).max() < 1 / 25
    assert balance == "natural" or shares == pytest.approx(
        [1 / 3] * len(shares), abs=1e-9 if balance == "down" else 0.01
    )


@pytest.mark.parametrize("balance", ["down", "over", "natural"])
def test_rows_that_fit_into_memory_stay_there_and_come_in_the_same_batches(images, stored, balance, monkeypatch):
    streamed, held = make_stream(images, balance), make_stream(images, balance)
    held.resident_images = 3_040  # all
    expected = [epoch(streamed), epoch(streamed)]
    assert epoch(held) == expected[0]
    monkeypatch.setattr("pairscape.model.batches.stream.read_rows", None)  # the second epoch reads nothing
    batches = list(held)
    assert epoch(batches) == expected[1]
    for batch in batches:
        assert_right(batch, stored, images.array("label"))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more than cores: only slower
@pytest.mark.cluster
@pytest.mark.parametrize("workers", [1, 3])
def test_spawned_workers_change_no_batch(images, stored, workers, monkeypatch):
    monkeypatch.setattr(
        "pairscape.model.batches.stream.PART_CHUNKS", 2
    )  # several parts a window, so that all workers have some
    stream, alone = make_stream(images, "natural", workers), make_stream(images, "natural")
    for _ in range(2):
        batches = list(stream)
        assert epoch(batches) == epoch(alone)
        for batch in batches:
            assert_right(batch, stored, images.array("label"))


@pytest.mark.cluster
def test_an_epoch_left_in_the_middle_goes_on_with_workers_too(images):
    stream, alone = make_stream(images, "natural", workers=1), make_stream(images, "natural")
    whole, begun = epoch(alone), []
    for batch in stream:
        begun.append(batch.row.tolist())
        if len(begun) == 17:
            break
    assert begun + epoch(stream) == whole
    assert epoch(stream) == epoch(alone)


# ---------------------------------------------------------------- taking up again


@pytest.mark.parametrize("taken", [0, 1, 9, 10, 33])
def test_a_stream_taken_up_gives_the_batches_that_would_have_come(images, stored, taken):
    stream, again = make_stream(images), make_stream(images)
    list(stream)
    for _ in zip(range(taken), stream, strict=False):
        pass
    state = json.loads(json.dumps(stream.state_dict()))  # it may be kept beside weights
    assert state == {"seed": 4, "epoch": 1, "batches": taken}
    again.load_state_dict(state)
    batches = list(again)
    assert epoch(batches) == epoch(stream)
    assert len(batches) == stream.batches_per_epoch - taken
    for batch in batches:
        assert_right(batch, stored, images.array("label"))
    assert epoch(again) == epoch(stream)  # and so does the next epoch


def test_a_batch_made_ahead_is_not_counted_as_handed_out(stream):
    batches = iter(stream)
    next(batches)
    time.sleep(0.3)
    assert stream.state_dict()["batches"] == 1
    batches.close()


def test_an_epoch_taken_up_at_its_end_has_no_more_batches(stream):
    stream.load_state_dict({"seed": 4, "epoch": 3, "batches": stream.batches_per_epoch})
    assert list(stream) == []
    assert stream.state_dict() == {"seed": 4, "epoch": 4, "batches": 0}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"seed": 5, "epoch": 0, "batches": 0}, ["seed 5", "seed 4"]),
        ({"seed": 4, "epoch": 0, "batches": 10**6}, ["batch 1000000", "ranks"]),
        ({"seed": 4, "epoch": -1, "batches": 0}, ["epoch -1"]),
        ({"seed": 4, "epoch": 0, "batches": -1}, ["batch -1"]),
    ],
)
def test_a_place_that_no_epoch_has_is_refused(stream, state, words, refuses):
    with refuses(*words):
        stream.load_state_dict(state)
    assert stream.state_dict() == {"seed": 4, "epoch": 0, "batches": 0}


# ---------------------------------------------------------------- ranks


def train_as_rank(rank, folder, images):
    """One of two processes that learn together; leaves the rows that it saw."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    stream = make_stream(images)
    bins = images.spec.binning.bins
    network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(bins**2, 2))
    seen = []
    for batch in stream:  # each step waits for the other rank: another number of batches would never end
        logits = network(batch.counts.flatten(1).float() / images.spec.n_cells)
        torch.nn.functional.cross_entropy(logits, batch.label).backward()
        seen.append(batch.row.tolist())
    (folder / f"{rank}.json").write_text(json.dumps(seen))
    torch.distributed.destroy_process_group()


@pytest.mark.cluster
def test_two_ranks_share_an_epoch(images, tmp_path):
    torch.multiprocessing.spawn(train_as_rank, (tmp_path, images), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert [epoch(make_stream(images, partition=Partition(i, 2))) for i in (0, 1)] == [first, second]
    assert len(first) == len(second)
    rows = np.concatenate([np.concatenate(part) for part in (first, second)])
    assert np.unique(rows).size == rows.size == make_stream(images).images_per_epoch


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
    assert len(made) == 1 + 4  # taken, waiting
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
    stream.reader.images = replace(images, path=images.path.with_name("gone.zarr"))
    with pytest.raises(FileNotFoundError):
        list(stream)
    assert not prefetch_threads()


def test_images_of_the_next_window_do_not_touch_those_held(images, stored, stream):
    """Both windows lie in memory that is used again; batches are taken from one while the other is filled."""
    label = images.array("label")
    for batch in stream:
        time.sleep(0.001)
        assert_right(batch, stored, label)


@pytest.mark.parametrize("abandon", [lambda ahead: ahead.close(), lambda ahead: None], ids=["closed", "forgotten"])
def test_an_abandoned_reader_ends_its_thread(abandon):
    ahead = prefetched(itertools.count(), 2)
    next(ahead)
    assert prefetch_threads()
    abandon(ahead)
    del ahead
    assert not prefetch_threads()
