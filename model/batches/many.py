"""Several image stores as one: their rows follow each other, so that one stream draws from all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.images import Images, ImageSpec
from pairscape.pipeline.heatmaps.read import Counts, Rows, count_dtype, read_images
from pairscape.pipeline.options import CHUNK_PAIRS
from pairscape.pipeline.storage.digests import digest


@dataclass(frozen=True, eq=False)
class ManyStores:
    """Image stores of one rule of binning and the same classes, which may differ in cells and genes.

    The first row of each store begins a block of `CHUNK_PAIRS` rows; the rows in between are of no pair.

    Attributes
    ----------
    stores
        Those that are trained on.
    weights
        Share of each in what the training is shown, up to a factor.
    tests
        Stores that are left out whole, as the test; none where each of `stores` has a test of its own.

    Raises
    ------
    InputError
        Two stores do not go together, one is there twice, or the weights are not one above 0 for each.
    """

    stores: tuple[Images, ...]
    weights: tuple[float, ...]
    tests: tuple[Images, ...] = ()

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.stores) or not all(0 < weight < np.inf for weight in self.weights):
            given = ", ".join(f"{weight:g}" for weight in self.weights)
            raise InputError(
                f"weights {given} for {len(self.stores)} training stores: each needs one, above 0, in the order of the "
                "stores, as what is shown of it is in proportion; correct them, or leave them out for equal shares."
            )
        every = (*self.stores, *self.tests)
        for store in every[1:]:
            _refuse_unlike(every[0], store)
        paths = [str(store.path) for store in every]
        if twice := [path for path in paths if paths.count(path) > 1]:
            raise InputError(f"{twice[0]} is given twice, and would count double; give each store once, or a weight.")

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of each store, and the end, (S + 1,)."""
        blocks = [-(-store.spec.n_pairs // CHUNK_PAIRS) for store in self.stores]
        return np.concatenate([[0], np.cumsum(blocks)]) * CHUNK_PAIRS

    @cached_property
    def spec(self) -> ImageSpec:
        """Of all stores together: the most cells of any, all rows, and a hash over all."""
        facts = [store.spec.plan_hash for store in (*self.stores, *self.tests)]
        return replace(
            self.stores[0].spec,
            codes="",
            codes_hash=digest({"stores": facts, "weights": list(self.weights), "tests": len(self.tests)}),
            n_cells=max(store.spec.n_cells for store in self.stores),
            n_pairs=int(self.starts[-1]),
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels mean, as `Images.class_names`."""
        return self.stores[0].class_names

    @property
    def typical_cells(self) -> int:
        """Cells in the images of a store: the median over the stores."""
        return int(np.median([store.spec.n_cells for store in self.stores]))

    def own_rows(self, rows: Rows) -> Iterator[tuple[Images, Rows, slice]]:
        """The stores of some ascending rows, (R,): each with its own numbers for them, and where they stand."""
        cuts = np.searchsorted(rows, self.starts)
        for number, (first, last) in enumerate(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)):
            if last > first:
                yield self.stores[number], rows[first:last] - self.starts[number], slice(first, last)

    def read(self, rows: Rows, out: Counts | None = None) -> tuple[Counts, NDArray[np.int32]]:
        """Images and `both_zero` of ascending rows, as `read_images` gives them of one store."""
        bins = self.spec.binning.bins
        counts = out if out is not None else np.empty((rows.size, bins, bins), count_dtype(self.spec.n_cells))
        both_zero = np.empty(rows.size, np.int32)
        for store, own, place in self.own_rows(rows):
            counts[place], both_zero[place] = read_images(store, own)
        return counts, both_zero

    @property
    def of_block(self) -> NDArray[np.int64]:
        """Number of the store of each block of `CHUNK_PAIRS` rows, (K,)."""
        return np.repeat(np.arange(len(self.stores)), np.diff(self.starts) // CHUNK_PAIRS)


AnyImages = Images | ManyStores


def join_stores(stores: Sequence[Images], weights: Sequence[float] | None, tests: Sequence[Images]) -> AnyImages:
    """One store as it is, several (or one with test stores) as `ManyStores`; those of `tests` are not trained on."""
    held_out = {str(store.path) for store in tests}
    training = tuple(store for store in stores if str(store.path) not in held_out)
    if not training:
        raise InputError("every store is a test store, so nothing is left to train on; give more stores.")
    if len(training) == 1 and not tests and weights is None:
        return training[0]
    return ManyStores(training, tuple(weights) if weights is not None else (1.0,) * len(training), tuple(tests))


def read_any(images: AnyImages, rows: Rows, out: Counts | None = None) -> tuple[Counts, NDArray[np.int32]]:
    """Images and `both_zero` of ascending rows of a store, or of several."""
    return images.read(rows, out) if isinstance(images, ManyStores) else read_images(images, rows, out=out)


def _refuse_unlike(first: Images, other: Images) -> None:
    """Refuse two stores whose images or labels do not mean the same."""
    facts = [
        (
            ("bins", store.spec.binning.bins, "the pictures would mean something else"),
            ("rule of binning", store.spec.binning.scale, "the pictures would mean something else"),
            ("classes", ", ".join(store.class_names) or "labels", "a label would mean two things"),
            ("kind of values", store.values or "unknown", "the pictures would mean something else"),
        )
        for store in (first, other)
    ]
    for (name, here, why), (_, there, _) in zip(*facts, strict=True):
        if here != there:
            raise InputError(
                f"{first.path} and {other.path} differ in their {name} ({here} and {there}), so {why}; count one of "
                "them again as the other, or leave it out."
            )
