"""Windows of images, read part by part: in the caller's thread, or by spawned loader workers that do nothing else."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from model.sampling import Rows, Window
from pipeline.images import Images
from pipeline.reading import count_dtype, read_images
from pipeline.spec import CHUNK_PAIRS

PART_CHUNKS = 16  # chunks in a part: reading one takes some milliseconds, far longer than sending it to another process

Part = tuple[Tensor, Tensor]


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
        self._loader: DataLoader[Part] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return BlockReader, (self.images, self.workers)

    def windows(
        self, windows: Iterator[Window]
    ) -> Iterator[tuple[Window, NDArray[np.signedinteger], NDArray[np.int32]]]:
        """Each window with the images, (W, bins, bins), and `both_zero`, (W,), of its rows."""
        ahead, windows = itertools.tee(windows)
        parts = self._parts(rows for window in ahead for rows in _cut(window.rows))
        for window in windows:
            yield window, *self._join(window.rows.size, parts)

    def _parts(self, requests: Iterable[Rows]) -> Iterator[Part]:
        reader = RowReader(self.images)
        if not self.workers:
            return map(reader.__getitem__, requests)
        if self._loader is None:
            self._loader = DataLoader(
                reader,
                batch_size=None,
                sampler=self._requests,
                num_workers=self.workers,
                multiprocessing_context="spawn",
                persistent_workers=True,
            )
        self._requests.rows = requests
        return iter(self._loader)

    def _join(self, n: int, parts: Iterator[Part]) -> tuple[NDArray[np.signedinteger], NDArray[np.int32]]:
        bins = self.images.spec.binning.bins
        counts, both_zero = np.empty((n, bins, bins), count_dtype(self.images.spec.n_cells)), np.empty(n, np.int32)
        filled = 0
        while filled < n:
            images, beside = next(parts)
            counts[filled : filled + len(images)], both_zero[filled : filled + len(images)] = images, beside
            filled += len(images)
        return counts, both_zero


def _cut(rows: Rows) -> list[Rows]:
    """Ascending rows in parts, each the rows of some neighbouring blocks among those that have any."""
    starts = np.flatnonzero(np.diff(rows // CHUNK_PAIRS, prepend=-1))
    return np.split(rows, starts[PART_CHUNKS::PART_CHUNKS])
