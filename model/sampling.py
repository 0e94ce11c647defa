"""Labels + seed + partition → which rows an epoch reads, in which order, in which batches. Pure.

An epoch takes every row of the rare class and, under `down`, `ratio` times as many rows of the common class, fresh ones
each epoch and none twice within it. Shards are visited in random order and gathered into *windows* whose chosen rows
fit into memory; batches are mixed within a window. Each window has both classes, under `down` in the epoch's ratio, and
each batch has its window's ratio, so no batch is single-class, whatever the order of the store.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Partition:
    """One of `count` equal readers: a loader worker of a rank."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True, eq=False)
class Population:
    """The rows a stream may draw from.

    Attributes
    ----------
    rare, common
        Ascending row numbers of the smaller and of the larger class. Positive (label > 0) and negative are the classes,
        so both directions of a three-class store stand on one side.
    rows_per_shard
        Of the store.
    """

    rare: Rows
    common: Rows
    rows_per_shard: int

    @classmethod
    def of(cls, rows: Rows, label: NDArray[np.int8], rows_per_shard: int) -> "Population":
        """Split rows (ascending) by their labels, (R,)."""
        positive, negative = rows[label > 0], rows[label == 0]
        rare, common = (positive, negative) if positive.size <= negative.size else (negative, positive)
        return cls(rare, common, rows_per_shard)


@dataclass(frozen=True)
class Drawing:
    """How rows are drawn: `ratio` common rows per rare one (None: all of them), batch size, images held at a time."""

    ratio: float | None
    batch_size: int
    window_images: int


@dataclass(frozen=True, eq=False)
class Window:
    """Rows that are held in memory together.

    Attributes
    ----------
    rows : (W,) int64, ascending
        What to read.
    batches
        Positions in `rows`, one array a batch, in random order; each with the window's class ratio.
    """

    rows: Rows
    batches: tuple[Rows, ...]


def common_per_rare(population: Population, ratio: float | None) -> float:
    """Rows of the common class for each rare one in an epoch: as asked, or all there are."""
    natural = population.common.size / max(population.rare.size, 1)
    return natural if ratio is None else min(ratio, natural)


def epoch_windows(
    population: Population, drawing: Drawing, seed: int, epoch: int, partition: Partition = Partition()
) -> Iterator[Window]:
    """The windows of one epoch that a reader visits; equal arguments give equal windows, on any machine.

    The windows of all readers together are those of a single one, dealt out in turn.
    """
    rng = np.random.default_rng([seed, epoch])
    ratio = common_per_rare(population, drawing.ratio)
    for number, shards in enumerate(_gather_shards(population, drawing, ratio, rng)):
        own = np.random.default_rng([seed, epoch, number])
        if number % partition.count == partition.index:
            yield _draw_window(population, drawing, ratio, shards, own)


def _gather_shards(
    population: Population, drawing: Drawing, ratio: float, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Shards in random order, in groups of both classes that are expected to yield `window_images` chosen rows."""
    n_shards = _shard_count(population)
    rare = np.bincount(population.rare // population.rows_per_shard, minlength=n_shards)
    common = np.bincount(population.common // population.rows_per_shard, minlength=n_shards)
    order = rng.permutation(np.flatnonzero(rare + common))
    chosen = np.cumsum(rare[order] + common[order] if drawing.ratio is None else rare[order] * (1 + ratio))
    number = (chosen / max(drawing.window_images, 1)).astype(np.int64)
    groups, held = [], order[:0]
    for group in np.split(order, np.flatnonzero(np.diff(number)) + 1):
        held = np.concatenate([held, group])
        if rare[held].any() and common[held].any():
            groups.append(held)
            held = order[:0]
    return [*groups[:-1], np.concatenate([*groups[-1:], held])]


def _shard_count(population: Population) -> int:
    last = max(population.rare[-1:].max(initial=-1), population.common[-1:].max(initial=-1))
    return int(last) // population.rows_per_shard + 1


def _draw_window(
    population: Population, drawing: Drawing, ratio: float, shards: Rows, rng: np.random.Generator
) -> Window:
    rare = _rows_in(population.rare, shards, population.rows_per_shard)
    common = _rows_in(population.common, shards, population.rows_per_shard)
    wanted = common.size if drawing.ratio is None else min(max(round(ratio * rare.size), 1), common.size)
    chosen = rng.choice(common, wanted, replace=False, shuffle=False)
    rows = np.concatenate([rare, chosen])
    order = np.argsort(rows, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(rows.size)  # where each chosen row stands among the ascending ones
    batches = _mixed_batches(place[: rare.size], place[rare.size :], drawing.batch_size, rng)
    return Window(rows[order], tuple(batches))


def _rows_in(rows: Rows, shards: Rows, rows_per_shard: int) -> Rows:
    """The rows of some shards, from ascending rows."""
    parts = [
        rows[slice(*np.searchsorted(rows, [s * rows_per_shard, (s + 1) * rows_per_shard]))] for s in np.sort(shards)
    ]
    return np.concatenate(parts)


def _mixed_batches(rare: Rows, common: Rows, batch_size: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Both classes shuffled and dealt evenly: batches differ by at most one row of each class, and all have both.

    Where a class has fewer rows than there would be batches, the batches are fewer and larger.
    """
    n_batches = max(min(round((rare.size + common.size) / batch_size), rare.size, common.size), 1)
    rare_parts = np.array_split(rng.permutation(rare), n_batches)
    common_parts = np.array_split(rng.permutation(common), n_batches)
    for own, other in zip(rare_parts, common_parts, strict=True):
        yield rng.permutation(np.concatenate([own, other]))
