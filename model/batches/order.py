"""Order of a training stream: the rows that an epoch shows, and their batches, from labels, seed and partition. Pure.

The store is cut into *blocks* of neighbouring rows, the unit of reading. An epoch puts the blocks in order, and with
them the rows of either class: two queues. The i-th batch takes the i-th run of each, in the ratio of the epoch, so that
no batch is off by more than rounding, whatever the order of the store. Consecutive batches share a *window*: their rows
are held in memory together, and mixed. Only the arguments decide, so any window can be made without those before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pairscape.model.options import Balance
from pairscape.pipeline.errors import InputError

Rows = NDArray[np.int64]

NEGATIVE, POSITIVE = 1, 2  # sides; 0 is a row that is not drawn from
ORDER, MIX, CHOICE = 1, 2, 3  # what a random generator is for: with seed and epoch it names one of its own
CHOSEN_AT_ONCE = 32  # blocks whose rows are chosen by one random generator


@dataclass(frozen=True)
class Partition:
    """One of `count` equal readers: a rank of distributed training."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True, eq=False)
class Population:
    """The rows a stream may draw from: one byte for each row of the store.

    Attributes
    ----------
    side : (K · block_rows,) int8
        0 for a row that is not drawn from, 1 for a negative, 2 for a positive (label > 0) of either direction.
    classes
        The side that is rarer, and the other.
    in_block : (2, K) int64
        Rows of the rare and of the common class in each block.
    block_rows
        Rows of a block.
    share : (2, K) float64
        Share of each block in what an epoch shows of the rare and of the common class, up to a factor. Absent: by its
        rows.
    store : (K,) int64
        Store that each block is of, where there are several.
    """

    side: NDArray[np.int8]
    classes: tuple[int, int]
    in_block: NDArray[np.int64]
    block_rows: int
    share: NDArray[np.float64] | None = None
    store: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, rows: Rows, label: NDArray[np.int8], block_rows: int) -> "Population":
        """Split rows, (R,), by the labels of the store, (P,); InputError where one of the classes is missing."""
        side = np.zeros(-(-label.size // block_rows) * block_rows, np.int8)
        side[rows] = NEGATIVE
        side[: label.size] += side[: label.size] & (label > 0)  # no list of rows: the store may have 10⁸
        counts = {kind: _in_blocks(side == kind, block_rows) for kind in (NEGATIVE, POSITIVE)}
        negative, positive = int(counts[NEGATIVE].sum()), int(counts[POSITIVE].sum())
        if not negative or not positive:
            raise InputError(
                f"the rows to learn from are {positive:,} positive and {negative:,} negative pairs; a batch needs both "
                "classes: give labels of both, or larger shares."
            )
        classes = (POSITIVE, NEGATIVE) if positive <= negative else (NEGATIVE, POSITIVE)
        return cls(side, classes, np.stack([counts[kind] for kind in classes]), block_rows)

    def shared(self, store: NDArray[np.int64], weights: Sequence[float]) -> "Population":
        """The same of several stores: the store of each block, (K,), and the share of each in what is shown.

        Within a store blocks count by their rows of the class.
        """
        share = np.zeros(self.in_block.shape)
        for own, rows in zip(share, self.in_block, strict=True):
            of_store = np.bincount(store, rows, minlength=len(weights))
            own[:] = rows * (np.asarray(weights, np.float64) / np.maximum(of_store, 1))[store]
        return replace(self, share=share, store=store)

    @property
    def sizes(self) -> tuple[int, int]:
        """Rows of the rare and of the common class."""
        rare, common = self.in_block.sum(axis=1).tolist()
        return rare, common

    def members(self, of: int, blocks: Rows) -> NDArray[np.bool_]:
        """Which rows of some blocks are of the rare (0) or the common (1) class: (blocks, block_rows)."""
        found: NDArray[np.bool_] = self.side.reshape(-1, self.block_rows)[blocks] == self.classes[of]
        return found


def _in_blocks(chosen: NDArray[np.bool_], block_rows: int) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = np.count_nonzero(chosen.reshape(-1, block_rows), axis=1)
    return counts


@dataclass(frozen=True)
class Drawing:
    """How rows are drawn.

    Attributes
    ----------
    balance
        `down`: all rare rows, and fresh common ones every epoch. `over`: all common rows, the rare ones repeated as
        evenly as possible. `natural`: all rows once.
    ratio
        Common rows for each rare one, unless the balance is `natural` or there are fewer.
    batch_size
        Images a batch, about.
    window_images
        Images held together; a single batch is held in any case.
    """

    balance: Balance
    ratio: float
    batch_size: int
    window_images: int


@dataclass(frozen=True, eq=False)
class Window:
    """Rows that are held in memory together.

    Attributes
    ----------
    rows : (W,) int64, ascending
        The rows to read.
    batches
        Positions in `rows`, one array a batch. Under `over` a position occurs in several batches.
    """

    rows: Rows
    batches: tuple[Rows, ...]


def images_shown(population: Population, drawing: Drawing) -> tuple[int, int]:
    """Images of the rare and of the common class in an epoch of all readers, repeats counted."""
    rare, common = population.sizes
    ratio = min(drawing.ratio, common / rare)
    if drawing.balance == "down":
        return rare, min(max(round(ratio * rare), 1), common)
    if drawing.balance == "over":
        return max(round(common / ratio), rare), common
    return rare, common


def batches_per_reader(population: Population, drawing: Drawing, readers: int = 1) -> int:
    """Batches that each of some equal readers gets in an epoch, each with both classes.

    Raises
    ------
    InputError
        More readers than rows of the rarer class.
    """
    shown = images_shown(population, drawing)
    if min(shown) < readers:
        raise InputError(
            f"{min(shown):,} rows of the rarer class are shared by {readers} ranks, so some would see none of it; "
            "give fewer ranks or more labelled pairs."
        )
    return max(min(round(sum(shown) / drawing.batch_size / readers), min(shown) // readers), 1)


def epoch_windows(
    population: Population,
    drawing: Drawing,
    seed: int,
    epoch: int,
    partition: Partition = Partition(),
    first_batch: int = 0,
) -> Iterator[Window]:
    """The windows of one epoch for one reader; equal arguments give equal windows, on any machine.

    The readers' shares of the epoch are disjoint, equally many batches, and together the whole of it. The reader's
    batches before `first_batch` are left out; those that follow are the same.
    """
    each = batches_per_reader(population, drawing, partition.count)
    shown = images_shown(population, drawing)
    fit = max(drawing.window_images * each * partition.count // sum(shown), 1)  # batches that fit into a window
    windows = -(-each // fit)
    length = -(-each // windows)  # windows as equal as they can be: each takes one pass over the store
    plan = _plan_epoch(population, shown, each * partition.count, windows * partition.count, (seed, epoch))
    begin, end = partition.index * each, (partition.index + 1) * each
    for start in range(begin + first_batch // length * length, end, length):
        window = _draw_window(population, plan, start, min(start + length, end))
        left_out = max(begin + first_batch - start, 0)
        yield Window(window.rows, window.batches[left_out:])


@dataclass(frozen=True, eq=False)
class _Plan:
    """An epoch: blocks in order, (K,); where each one's images of a class begin in the class's queue, (2, K + 1)."""

    blocks: Rows
    begins: NDArray[np.int64]
    n_batches: int
    seeds: tuple[int, int]

    def cut(self, batch: int) -> NDArray[np.int64]:
        """Where a batch begins in both queues, (2,): in each it is in proportion, as exactly as whole rows can be."""
        shown = self.begins[:, -1]
        fewer = int(shown[1] < shown[0])  # the runs of this class are cut evenly, the other's in proportion to them
        at = batch * int(shown[fewer]) // self.n_batches
        other = at * int(shown[1 - fewer]) // int(shown[fewer])
        return np.array([other, at] if fewer else [at, other])


def _plan_epoch(
    population: Population, shown: tuple[int, int], n_batches: int, passes: int, seeds: tuple[int, int]
) -> _Plan:
    rng = np.random.default_rng([*seeds, ORDER])
    blocks = _order_blocks(np.flatnonzero(population.in_block.any(axis=0)), passes, rng)
    begins = np.zeros((2, blocks.size + 1), np.int64)
    np.cumsum(population.in_block[:, blocks], axis=1, out=begins[:, 1:])
    if population.share is not None:
        return _Plan(blocks, _weighted(population.share[:, blocks], shown, rng), n_batches, seeds)
    for queue, images in zip(begins, shown, strict=True):
        # Sampling at even steps from a random start: every row is as likely as any other, and the sum is exact.
        size = int(queue[-1])
        queue[:] = (queue * images + rng.integers(size)) // size
    return _Plan(blocks, begins, n_batches, seeds)


def _weighted(share: NDArray[np.float64], shown: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Where the images of each block begin in the queues, (2, K + 1), in proportion to its share in either, (2, K)."""
    begins = np.zeros((2, share.shape[1] + 1), np.int64)
    for queue, own, images in zip(begins, share, shown, strict=True):
        until = np.cumsum(own)
        queue[1:] = np.floor(until / until[-1] * images + rng.random())  # at even steps: the sum is exact
    return begins


def _order_blocks(blocks: Rows, passes: int, rng: np.random.Generator) -> Rows:
    """Blocks in passes over the store, each of one in `passes` neighbours: a window of one pass sees every region."""
    strata = -(-blocks.size // passes)
    turn = rng.permuted(np.tile(np.arange(passes), (strata, 1)), axis=1)
    number = (turn + np.arange(strata)[:, None] * passes).T.ravel()
    return blocks[number[number < blocks.size]]


def _draw_window(population: Population, plan: _Plan, first: int, last: int) -> Window:
    rng = np.random.default_rng([*plan.seeds, MIX, first])
    cuts = np.stack([plan.cut(batch) for batch in range(first, last + 1)], axis=1)
    rare, common = (_mixed(population, _queued(population, plan, of, cuts[of, 0], cuts[of, -1]), rng) for of in (0, 1))
    rows, place = np.unique(np.concatenate([rare, common]), return_inverse=True)
    places = [np.split(part, cut[1:-1] - cut[0]) for part, cut in zip(np.split(place, [rare.size]), cuts, strict=True)]
    return Window(rows, tuple(rng.permutation(np.concatenate(both)) for both in zip(*places, strict=True)))


def _queued(population: Population, plan: _Plan, of: int, start: int, stop: int) -> Rows:
    """Rows of the rare (0) or the common (1) class that stand at start to stop of its queue, repeats and all."""
    begins = plan.begins[of]
    first = (int(np.searchsorted(begins, start, "right")) - 1) // CHOSEN_AT_ONCE
    last = -(-int(np.searchsorted(begins, stop, "left")) // CHOSEN_AT_ONCE)
    chosen = np.concatenate([_chosen(population, plan, of, group) for group in range(first, last)])
    return chosen[start - begins[first * CHOSEN_AT_ONCE] :][: stop - start]


def _chosen(population: Population, plan: _Plan, of: int, group: int) -> Rows:
    """Rows of a class that an epoch shows of some blocks, in their order; each row in turn, and in turn again."""
    at = slice(group * CHOSEN_AT_ONCE, (group + 1) * CHOSEN_AT_ONCE)
    blocks, begins = plan.blocks[at], plan.begins[of, at.start : at.stop + 1]
    member = population.members(of, blocks)
    key = np.random.default_rng([*plan.seeds, CHOICE, of, group]).random(member.shape)
    shuffled = np.argsort(np.where(member, key, np.inf), axis=1)  # a block's rows of the class, then the others
    block = np.repeat(np.arange(blocks.size), np.diff(begins))
    turn = np.arange(block.size) - (begins[:-1] - begins[0])[block]
    within: Rows = shuffled[block, turn % population.in_block[of, blocks][block]]
    return blocks[block] * population.block_rows + within


def _mixed(population: Population, rows: Rows, rng: np.random.Generator) -> Rows:
    """Random order; of several stores each is spread over the whole of it, so that every run of rows has its share."""
    if population.store is None:
        return _spread(rows, rng)
    store = population.store[rows // population.block_rows]
    parts = [_spread(rows[store == one], rng) for one in np.unique(store)]
    time = np.concatenate([(np.arange(part.size) + rng.random(part.size)) / part.size for part in parts])
    return np.concatenate(parts)[np.argsort(time, kind="stable")]


def _spread(rows: Rows, rng: np.random.Generator) -> Rows:
    """Random order, in which no row occurs a second time before all have occurred once."""
    rows = rng.permutation(rows)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    time = np.arange(rows.size) - np.searchsorted(ordered, ordered)
    return rows if not time.any() else ordered[np.lexsort((order, time))]
