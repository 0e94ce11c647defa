"""What a heatmap job costs, from a few measured rates: seconds on one worker, bytes on disk. Pure.

Counting costs so much for each image, whatever is in it, and so much for each *event*, a cell that expresses both genes
of a pair. How many events to expect follows from the genes' densities; what they take, the calibration measures
(`pipeline.heatmaps.plan`) on tiles of the matrix at hand. The constants only weigh the two kinds of work against each
other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.genes.pairs import Pairs

IMAGE_SECONDS = 2.5e-6  # counting: an image's own work (benchmarks/RESULTS.md)
EVENT_SECONDS = 1.2e-9  # counting: of one co-expressed cell
WRITE_SECONDS = 6e-6  # compressing, writing and reading back one image of 32 bins


@dataclass(frozen=True)
class Sample:
    """What was measured on some images.

    Attributes
    ----------
    images
        Their number.
    events
        Co-expressed cells expected in all of them together.
    counting, writing, reading
        Seconds for all of them together.
    chunks_read
        Chunks of 32 genes that were read for them.
    n_bytes
        Their size, compressed.
    """

    images: int
    events: float
    counting: float
    writing: float
    reading: float
    chunks_read: int
    n_bytes: int


@dataclass(frozen=True)
class Rates:
    """What a machine needs, measured.

    Attributes
    ----------
    counting
        Seconds of counting for each second that the constants foresee.
    writing
        Seconds for each image.
    chunk
        Seconds to read a chunk of genes over all cells and lay it out.
    image_bytes
        Bytes on disk of each image.
    """

    counting: float = 1.0
    writing: float = WRITE_SECONDS
    chunk: float = 0.0
    image_bytes: float = 150.0

    @classmethod
    def measured(cls, sample: Sample) -> "Rates":
        """Ratios over a whole sample, which few slow moments do not spoil."""
        foreseen = counting_seconds(np.array(float(sample.images)), np.array(sample.events))
        return cls(
            sample.counting / float(foreseen),
            sample.writing / sample.images,
            sample.reading / max(sample.chunks_read, 1),
            sample.n_bytes / sample.images,
        )


def pair_events(pairs: Pairs, density: NDArray[np.floating], n_cells: int) -> NDArray[np.float32]:
    """Cells expected to express both genes of each pair, were the genes independent: (P,) float32."""
    own = density.astype(np.float32)
    return np.asarray(own[pairs.gene_a] * own[pairs.gene_b] * np.float32(n_cells))


def counting_seconds(images: NDArray[np.float64], events: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds of counting that the constants foresee for numbers of images with so many events."""
    return images * IMAGE_SECONDS + events * EVENT_SECONDS


def shard_seconds(events: NDArray[np.float32], shard_pairs: int, rates: Rates) -> NDArray[np.float64]:
    """What each shard is expected to take on one worker, reading left out: (S,) float64.

    Parameters
    ----------
    events : (P,)
        Of every pair in the order of the store.
    """
    starts = np.arange(0, events.size, shard_pairs)
    images = np.diff(np.append(starts, events.size)).astype(np.float64)
    together = np.add.reduceat(events, starts, dtype=np.float64)
    return counting_seconds(images, together) * rates.counting + images * rates.writing


def sample_rows(events: NDArray[np.float32], n_samples: int, size: int) -> list[slice]:
    """Runs of neighbouring rows that stand for all: spread evenly over the runs as ordered by their events.

    Parameters
    ----------
    events : (P,)
        Of every pair in the order of the store.
    n_samples, size
        Runs wanted, and rows in each; fewer where there are not so many.
    """
    starts = np.arange(0, events.size, size)
    order = np.argsort(np.add.reduceat(events, starts, dtype=np.float64), kind="stable")
    take = np.unique(((np.arange(n_samples) + 0.5) / n_samples * starts.size).astype(np.int64))
    return [slice(int(at), int(min(at + size, events.size))) for at in np.sort(starts[order[take]])]
