"""Windows of images, read part by part: in the caller's thread, or by spawned loader workers that do nothing else."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pairscape.model.batches.order import Rows, Window
from pairscape.pipeline.heatmaps.images import Images
from pairscape.pipeline.heatmaps.read import Counts, count_dtype, read_images
from pairscape.pipeline.options import CHUNK_PAIRS

PART_CHUNKS = 16  # chunks in a part: reading one takes some milliseconds, far longer than sending it to another process

Part = tuple[Tensor, Tensor]
HeldWindow = tuple[Window, Counts, NDArray[np.int32]]


class RowReader(Dataset[Part]):
    """Images and `both_zero` by rows: what a worker knows. It is small and opens the store itself."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitem__(self, rows: Rows) -> Part:
        counts, both_zero = read_images(self.images, rows)
        return torch.from_numpy(counts), torch.from_numpy(both_zero)


class Requests:
    """What is to be read next, in order: a sampler whose content is changed for each epoch."""

    def __init__(self) -> None:
        self.rows: Iterable[Rows] = ()

    def __iter__(self) -> Iterator[Rows]:
        return iter(self.rows)


class BlockReader:
    """Reads windows of a store.

    Parameters
    ----------
    workers
        Spawned processes, which start with the first window and live as long as this object; forked ones would inherit
        locks that no thread is left to open. 0: the caller reads.
    """

    def __init__(self, images: Images, workers: int = 0) -> None:
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
                yield window, *read_images(self.images, window.rows, out=counts)

    def _next_memory(self, n: int) -> Counts:
        """Room for a window: one of two in turn, so that the one before is left as it is."""
        self._memory.reverse()
        bins = self.images.spec.binning.bins
        if len(self._memory[0]) < n:
            self._memory[0] = np.empty((n, bins, bins), count_dtype(self.images.spec.n_cells))
        return self._memory[0][:n]

    def _parts(self, requests: Iterable[Rows]) -> Iterator[Part]:
        if self._loader is None:
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
