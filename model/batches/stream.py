"""The image store as a stream of mixed-class batches for PyTorch: order → blocks → buffer → batches.

`model.batches.order` decides the order; `model.batches.blocks` reads, in a thread or with spawned loader workers;
windows of images are held in a buffer; batches are taken from it, ahead of the network, in a thread. Workers only read,
so that the batches and their order are the same with any number of them.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from pairscape.model.batches.blocks import BlockReader
from pairscape.model.batches.order import (
    POSITIVE,
    Drawing,
    Partition,
    Population,
    Rows,
    Window,
    batches_per_reader,
    epoch_windows,
    images_shown,
)
from pairscape.model.options import Balance
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.images import Images
from pairscape.pipeline.heatmaps.read import count_dtype, read_images
from pairscape.pipeline.options import CHUNK_PAIRS

WINDOW_BYTES = 128 * 2**20  # images held together: 65,000 of 32 × 32 bins in 16 bits; the next window is read meanwhile
PREFETCHED_BATCHES = 8

T = TypeVar("T")


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
    label: NDArray[np.int8]
    row: Rows

    def batch(self, positions: Rows) -> Batch:
        """Some of them as tensors."""
        counts, both_zero, row = (
            torch.from_numpy(column[positions]) for column in (self.counts, self.both_zero, self.row)
        )
        return Batch(counts, both_zero, torch.from_numpy(self.label[positions].astype(np.int64)), row)


Held = tuple[Rowset, tuple[Rows, ...]]
"""Images in memory, and where the rows of some batches stand among them."""


def read_rows(images: Images, rows: Rows, label: NDArray[np.int8]) -> Rowset:
    """Read rows (ascending); `label`, (P,) int8, is that of all pairs of the store."""
    return Rowset(*read_images(images, rows), label[rows], rows)


def row_batches(images: Images, rows: Rows, label: NDArray[np.int8], batch_size: int) -> Iterator[Batch]:
    """Rows (ascending) in order, once, for evaluation."""
    size = images.spec.binning.shard_pairs
    for shard in np.unique(rows // size):
        first, last = np.searchsorted(rows, [shard * size, (shard + 1) * size])
        held = read_rows(images, rows[first:last], label)
        for start in range(0, last - first, batch_size):
            yield held.batch(np.arange(start, min(start + batch_size, last - first)))


class PairStream:
    """Balanced, mixed-class batches of an image store: iterate once for each epoch.

    The batches and their order depend on the store, the rows, the labels, the balance, the seed, the epoch and the
    partition; not on the number of workers, nor on where an epoch was interrupted. Two windows of images are held at
    most, and one byte for each row of the store. Where all rows fit into two windows (`resident_images`), they are read
    once and stay.

    Parameters
    ----------
    images
        The store.
    rows : (R,) integers
        Rows to draw from, all labelled.
    label : (P,) int8
        Labels of all pairs of the store.
    balance, ratio
        As `model.options.Training` has them.
    batch_size
        Images per batch, about.
    seed
        With the number of the epoch it decides everything.
    partition
        Which of several equal readers this is. Absent: the rank in the running `torch.distributed` job.
    workers
        Spawned processes that read; 0: the stream's own thread does.

    Raises
    ------
    InputError
        One of the classes is missing, or there are more ranks than rows of the rarer class.
    """

    def __init__(
        self,
        images: Images,
        rows: Rows,
        label: NDArray[np.int8],
        *,
        balance: Balance,
        ratio: float,
        batch_size: int,
        seed: int,
        partition: Partition | None = None,
        workers: int = 0,
    ) -> None:
        bytes_per_image = images.spec.binning.bins**2 * np.dtype(count_dtype(images.spec.n_cells)).itemsize
        self.images, self.label, self.seed, self.epoch, self.batches = images, label, seed, 0, 0
        self.partition = partition if partition is not None else this_rank()
        self.population = Population.of(rows, label, CHUNK_PAIRS)
        self.drawing = Drawing(balance, ratio, batch_size, WINDOW_BYTES // bytes_per_image)
        self.resident_images = 2 * self.drawing.window_images
        self.reader = BlockReader(images, workers)
        self._resident: Rowset | None = None
        self.batches_per_epoch = batches_per_reader(self.population, self.drawing, self.partition.count)

    @property
    def images_per_epoch(self) -> int:
        """Images of one epoch, all ranks together, repeats counted."""
        return sum(images_shown(self.population, self.drawing))

    @property
    def share_of_positives(self) -> float:
        """Share of positive images in every batch."""
        shown = images_shown(self.population, self.drawing)
        return shown[self.population.classes.index(POSITIVE)] / sum(shown)

    def __iter__(self) -> Iterator[Batch]:
        """What is left of the epoch; then the next one begins."""
        for batch in prefetched(self._batches(), PREFETCHED_BATCHES):
            self.batches += 1
            yield batch
        self.epoch, self.batches = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands: seed, epoch, and the batches of it that were handed out."""
        return {"seed": self.seed, "epoch": self.epoch, "batches": self.batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where another stream of the same arguments stood.

        Raises
        ------
        InputError
            Another seed, whose batches would be others, or a place that no epoch has.
        """
        if state["seed"] != self.seed:
            raise InputError(
                f"the stream stood in an order of seed {state['seed']}, this one has seed {self.seed}: some rows would "
                "come twice and others not at all; give the same seed."
            )
        if not (state["epoch"] >= 0 and 0 <= state["batches"] <= self.batches_per_epoch):
            raise InputError(
                f"the stream stood at batch {state['batches']} of epoch {state['epoch']}, but an epoch here has "
                f"{self.batches_per_epoch}; give the same store, recipe and number of ranks, or start anew."
            )
        self.epoch, self.batches = state["epoch"], state["batches"]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_resident": None}

    def _batches(self) -> Iterator[Batch]:
        windows = epoch_windows(
            self.population, self.drawing, self.seed, self.epoch, self.partition, first_batch=self.batches
        )
        fits = sum(self.population.sizes) <= self.resident_images
        held = self._from_memory(windows) if fits else prefetched(self._from_store(windows), 1)
        for rowset, batches in held:
            for positions in batches:
                yield rowset.batch(positions)

    def _from_store(self, windows: Iterator[Window]) -> Iterator[Held]:
        for window, counts, both_zero in self.reader.windows(windows):
            yield Rowset(counts, both_zero, self.label[window.rows], window.rows), window.batches

    def _from_memory(self, windows: Iterator[Window]) -> Iterator[Held]:
        if self._resident is None:
            self._resident = read_rows(self.images, np.flatnonzero(self.population.side), self.label)
        for window in windows:
            place = np.searchsorted(self._resident.row, window.rows)
            yield self._resident, tuple(place[positions] for positions in window.batches)


def this_rank() -> Partition:
    """The part of this process in a distributed job; everything where there is none."""
    if distributed.is_available() and distributed.is_initialized():
        return Partition(distributed.get_rank(), distributed.get_world_size())
    return Partition()


def prefetched(things: Iterator[T], depth: int) -> Iterator[T]:
    """The same things, made in a thread before they are asked for; an error there is raised here.

    Parameters
    ----------
    depth
        How many are made, or in the making, and not yet taken.
    """
    made: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    room, stopped = threading.Semaphore(depth), threading.Event()

    def work() -> None:
        try:
            while room.acquire() and not stopped.is_set():
                made.put((next(things), None))  # no name keeps it: a window of images is large
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised in the reader
            made.put((None, error))
        getattr(things, "close", bool)()  # a chain of threads ends from its reader on

    thread = threading.Thread(target=work, name="pairscape-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            thing, error = made.get()
            room.release()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield thing  # type: ignore[misc] # there is one where there is no error
    finally:
        stopped.set()
        room.release()
        thread.join()
