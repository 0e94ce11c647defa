"""The image store as a stream of mixed-class batches for PyTorch: order → shards → window in memory → batches.

The dataset is picklable and opens the store lazily, so loader workers may be spawned; it counts its epochs itself.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from model.sampling import Drawing, Partition, Population, Rows, common_per_rare, epoch_windows
from pipeline.images import Images

WINDOW_BYTES = 256 * 2**20  # images held at a time: 128,000 of 32 × 32 bins in 16 bits
PREFETCHED_BATCHES = 8


class Batch(NamedTuple):
    """Images on their way to the network.

    Attributes
    ----------
    counts : (B, bins, bins) int16 or int32
        Joint counts.
    both_zero : (B,) int32
        Cells in which neither gene is expressed.
    label : (B,) int64
        0 none, 1 a→b or undirected, 2 b→a.
    row : (B,) int64
        Rows of the store.
    """

    counts: Tensor
    both_zero: Tensor
    label: Tensor
    row: Tensor


@dataclass(frozen=True, eq=False)
class Rowset:
    """Images of some rows in memory, the counts in the smallest type that holds them."""

    counts: NDArray[np.signedinteger]
    both_zero: NDArray[np.int32]
    label: NDArray[np.int64]
    row: Rows

    def batch(self, positions: Rows) -> Batch:
        """Some of them as tensors."""
        columns = (self.counts, self.both_zero, self.label, self.row)
        return Batch(*(torch.from_numpy(column[positions]) for column in columns))


def read_rows(images: Images, rows: Rows, label: NDArray[np.int8]) -> Rowset:
    """Read rows (ascending), shard by shard, keeping of each shard only what is asked for.

    Parameters
    ----------
    label : (P,) int8
        Labels of all pairs of the store.
    """
    dtype = np.int16 if images.spec.n_cells < 2**15 else np.int32
    counts = np.empty((rows.size, images.spec.binning.bins, images.spec.binning.bins), dtype)
    both_zero = np.empty(rows.size, np.int32)
    size = images.spec.binning.shard_pairs
    for shard in np.unique(rows // size):
        first, last = np.searchsorted(rows, [shard * size, (shard + 1) * size])
        start, stop = int(rows[first]), int(rows[last - 1]) + 1
        counts[first:last] = images.counts(slice(start, stop))[rows[first:last] - start]
        both_zero[first:last] = images.both_zero(slice(start, stop))[rows[first:last] - start]
    return Rowset(counts, both_zero, label[rows].astype(np.int64), rows)


class PairStream(IterableDataset[Batch]):
    """Balanced, mixed-class batches of an image store, a new epoch each time it is iterated.

    Loader workers count epochs in their own copies: keep them (`persistent_workers=True`), or each epoch is the first.

    Parameters
    ----------
    images
        The store.
    rows : (R,) int64
        Rows to draw from, ascending, all labelled.
    label : (P,) int8
        Labels of all pairs of the store.
    ratio
        Rows of the common class per rare one; None for all.
    batch_size
        Images per batch, about.
    seed
        With the number of the epoch it decides everything.
    """

    def __init__(
        self, images: Images, rows: Rows, label: NDArray[np.int8], *, ratio: float | None, batch_size: int, seed: int
    ) -> None:
        bytes_per_image = images.spec.binning.bins**2 * (2 if images.spec.n_cells < 2**15 else 4)
        self.images, self.label, self.seed, self.epoch = images, label, seed, 0
        self.population = Population.of(rows, label[rows], images.spec.binning.shard_pairs)
        self.drawing = Drawing(ratio, batch_size, WINDOW_BYTES // bytes_per_image)

    @property
    def images_per_epoch(self) -> int:
        """Images of one epoch, all loader workers together, about."""
        population = self.population
        return round(population.rare.size * (1 + common_per_rare(population, self.drawing.ratio)))

    def __iter__(self) -> Iterator[Batch]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        worker = get_worker_info()
        partition = Partition(worker.id, worker.num_workers) if worker else Partition()
        for window in epoch_windows(self.population, self.drawing, self.seed, epoch, partition):
            held = read_rows(self.images, window.rows, self.label)
            for positions in window.batches:
                yield held.batch(positions)


def loader(stream: PairStream) -> Iterator[Batch]:
    """One epoch through PyTorch's DataLoader, read ahead in a thread: the disk works while the network does."""
    return prefetched(iter(DataLoader(stream, batch_size=None)), PREFETCHED_BATCHES)


def row_batches(images: Images, rows: Rows, label: NDArray[np.int8], batch_size: int) -> Iterator[Batch]:
    """Rows (ascending) in order, once, for evaluation."""
    size = images.spec.binning.shard_pairs
    for shard in np.unique(rows // size):
        first, last = np.searchsorted(rows, [shard * size, (shard + 1) * size])
        held = read_rows(images, rows[first:last], label)
        for start in range(0, last - first, batch_size):
            yield held.batch(np.arange(start, min(start + batch_size, last - first)))


def prefetched(batches: Iterator[Batch], depth: int) -> Iterator[Batch]:
    """The same batches, made up to `depth` ahead in a thread; an error there is raised here."""
    made: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def offer(thing: Batch | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                made.put(thing, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for batch in batches:
                offer(batch)
                if stopped.is_set():
                    return
            offer(None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised in the reader
            offer(error)

    thread = threading.Thread(target=work, name="pairscape-prefetch", daemon=True)
    thread.start()
    try:
        while (thing := made.get()) is not None:
            if isinstance(thing, BaseException):
                raise thing
            yield thing
    finally:
        stopped.set()
        thread.join()
