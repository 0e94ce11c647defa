"""An image store as a stream of mixed-class batches for PyTorch.

`model.batches.order` gives the order; windows of images are read in a thread or by spawned loader workers and held in a
buffer; batches are taken from it ahead of the network, in another thread. Workers only read, so the batches and their
order are the same with any number of them.
"""

import itertools
import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset

from pairscape.model.batches.many import AnyImages, ManyStores, read_any
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
from pairscape.model.options import Training
from pairscape.pipeline.compute.main_guard import require_main_guard
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.images import Images
from pairscape.pipeline.heatmaps.read import Counts, count_dtype
from pairscape.pipeline.options import CHUNK_PAIRS

WINDOW_BYTES = 128 * 2**20  # images held together: 65,000 of 32 × 32 bins in 16 bits; the next window is read meanwhile
PREFETCHED_BATCHES = 8

T = TypeVar("T")


class Batch(NamedTuple):
    """Images for the network.

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


def read_rows(images: AnyImages, rows: Rows, label: NDArray[np.int8]) -> Rowset:
    """Read rows (ascending); `label`, (P,) int8, is that of all pairs of the store."""
    return Rowset(*read_any(images, rows), label[rows], rows)


def row_batches(images: Images, rows: Rows, label: NDArray[np.int8], batch_size: int) -> Iterator[Batch]:
    """Rows (ascending) in order, once, for evaluation."""
    size = images.spec.binning.shard_pairs
    for shard in np.unique(rows // size):
        first, last = np.searchsorted(rows, [shard * size, (shard + 1) * size])
        held = read_rows(images, rows[first:last], label)
        for start in range(0, last - first, batch_size):
            yield held.batch(np.arange(start, min(start + batch_size, last - first)))


class PairStream:
    """Balanced, mixed-class batches of an image store, or of several at once: iterate once for each epoch.

    The batches and their order depend on the store, the rows, the labels, the balance, the seed, the epoch and the
    partition; not on the number of workers, nor on where an epoch was interrupted. Two windows of images are held at
    most, and one byte for each row of the store; where all rows fit into two windows (`resident_images`), they are read
    once.

    Parameters
    ----------
    rows : (R,) integers
        Rows to draw from, all labelled.
    label : (P,) int8
        Labels of all pairs of the store; of several, in the rows of `ManyStores`, whose weights are heeded.
    settings
        Whose balance, ratio and batch size are taken.
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
        images: AnyImages,
        rows: Rows,
        label: NDArray[np.int8],
        settings: Training,
        seed: int,
        *,
        partition: Partition | None = None,
        workers: int = 0,
    ) -> None:
        bytes_per_image = images.spec.binning.bins**2 * np.dtype(count_dtype(images.spec.n_cells)).itemsize
        self.images, self.label, self.seed, self.epoch, self.batches = images, label, seed, 0, 0
        self.partition = partition if partition is not None else this_rank()
        self.population = Population.of(rows, label, CHUNK_PAIRS)
        if isinstance(images, ManyStores):
            self.population = self.population.shared(images.of_block, images.weights)
        at_once = WINDOW_BYTES // bytes_per_image
        self.drawing = Drawing(settings.balance, settings.ratio, settings.batch_size, at_once)
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
        """Seed, epoch, and the batches of the epoch that were handed out."""
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
    """The same things, up to `depth` of them made in a thread before they are asked for; its errors are raised here."""
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


# ---------------------------------------------------------------- reading windows

PART_CHUNKS = 16  # chunks in a part: reading one takes some milliseconds, far longer than sending it to another process

Part = tuple[Tensor, Tensor]
HeldWindow = tuple[Window, Counts, NDArray[np.int32]]


class RowReader(Dataset[Part]):
    """Images and `both_zero` by rows, for a loader worker: small, it opens the store itself."""

    def __init__(self, images: AnyImages) -> None:
        self.images = images

    def __getitem__(self, rows: Rows) -> Part:
        counts, both_zero = read_any(self.images, rows)
        return torch.from_numpy(counts), torch.from_numpy(both_zero)


class Requests:
    """The rows to read next, in order: a sampler whose content is changed for each epoch."""

    def __init__(self) -> None:
        self.rows: Iterable[Rows] = ()

    def __iter__(self) -> Iterator[Rows]:
        return iter(self.rows)


class BlockReader:
    """Reads windows of a store.

    `workers` spawned processes start with the first window and live as long as this object (forked ones would inherit
    locks that no thread is left to open); with 0 the caller reads.
    """

    def __init__(self, images: AnyImages, workers: int = 0) -> None:
        self.images, self.workers = images, workers
        self._requests = Requests()
        self._memory: list[Counts] = [np.empty((0, 0, 0), np.int16)] * 2
        self._loader: DataLoader[Part] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return BlockReader, (self.images, self.workers)

    def windows(self, windows: Iterator[Window]) -> Iterator[HeldWindow]:
        """Each window with the images, (W, bins, bins), and `both_zero`, (W,), of its rows.

        The images are overwritten when the next window but one is asked for.
        """
        parts: Iterator[Part] = iter(())
        if self.workers:
            ahead, windows = itertools.tee(windows)
            parts = self._parts(rows for window in ahead for rows in _cut(window.rows))
        for window in windows:
            counts = self._next_memory(window.rows.size)
            if self.workers:
                yield window, counts, _join(parts, counts)
            else:
                yield window, *read_any(self.images, window.rows, out=counts)

    def _next_memory(self, n: int) -> Counts:
        """Room for a window: one of two in turn, so that the one before is left as it is."""
        self._memory.reverse()
        bins = self.images.spec.binning.bins
        if len(self._memory[0]) < n:
            self._memory[0] = np.empty((n, bins, bins), count_dtype(self.images.spec.n_cells))
        return self._memory[0][:n]

    def _parts(self, requests: Iterable[Rows]) -> Iterator[Part]:
        if self._loader is None:
            require_main_guard("workers=0")
            self._loader = DataLoader(
                RowReader(self.images),
                batch_size=None,
                sampler=self._requests,
                num_workers=self.workers,
                multiprocessing_context="spawn",
                persistent_workers=True,
            )
        self._requests.rows = requests
        return iter(self._loader)


def _join(parts: Iterator[Part], counts: Counts) -> NDArray[np.int32]:
    """Fill `counts` with the next parts; returns `both_zero`."""
    both_zero, filled = np.empty(len(counts), np.int32), 0
    while filled < len(counts):
        images, beside = next(parts)
        counts[filled : filled + len(images)], both_zero[filled : filled + len(images)] = images, beside
        filled += len(images)
    return both_zero


def _cut(rows: Rows) -> list[Rows]:
    """Ascending rows in parts, each the rows of some neighbouring blocks among those that have any."""
    starts = np.flatnonzero(np.diff(rows // CHUNK_PAIRS, prepend=-1))
    return np.split(rows, starts[PART_CHUNKS::PART_CHUNKS])
