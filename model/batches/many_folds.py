"""Folds of the pairs of several image stores: a gene that two of them name is in the same fold in both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pairscape.model.batches.folds import (
    TEST,
    TRAIN,
    FoldArray,
    Folds,
    assign_folds,
    match_negatives,
)
from pairscape.model.batches.many import AnyImages, ManyStores
from pairscape.model.batches.store_folds import assigned, folds_of, halves, is_directed, make_folds
from pairscape.model.options import Recipe, Splitting
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.images import Images


@dataclass(frozen=True, eq=False)
class ManyFolds(Folds):
    """Rows of several stores by fold, in the numbers of `ManyStores`.

    Attributes
    ----------
    tested
        The stores that have test rows, each with its own folds.
    """

    tested: tuple[tuple[Images, Folds], ...] = ()


def any_folds(images: AnyImages, recipe: Recipe, seed: int) -> Folds:
    """Deal the labelled pairs of a store, or of several, to folds; raises as `make_folds` does for each."""
    if isinstance(images, ManyStores):
        return _many_folds(images, recipe.splitting, seed)
    return make_folds(images, recipe, seed)


def _many_folds(many: ManyStores, splitting: Splitting, seed: int) -> ManyFolds:
    by_dataset = splitting.split == "dataset"
    if by_dataset != bool(many.tests):
        raise InputError(
            f"split is {splitting.split} and {len(many.tests)} test stores are given: whole stores are the test under "
            "--split dataset --test-stores IMAGES.zarr,…, and under no other split; give both or neither."
        )
    pairs = [store.pairs() for store in many.stores]
    dealt, notes = _dealt(many.stores, pairs, splitting, seed)
    needed = ("training", "validation") if by_dataset else ("training", "validation", "test")
    parts = [
        folds_of(store, own, folds, splitting.split, needed=needed)
        for store, own, folds in zip(many.stores, pairs, dealt, strict=True)
    ]
    tests = [(store, halves(store, seed)) for store in many.tests]
    _refuse_other_classes([*zip(many.stores, parts, strict=True), *tests])
    tested = tests or list(zip(many.stores, parts, strict=True))
    return ManyFolds(
        pairs=_joined_pairs(many, pairs),
        train=_joined(many, [part.train for part in parts]),
        validation=_joined(many, [part.validation for part in parts]),
        test=_joined(many, [part.test for part in parts]),
        directed=parts[0].directed,
        notes=(*notes, *_shared_genes(many)),
        tested=tuple(tested),
    )


def _dealt(
    stores: Sequence[Images], pairs: Sequence[Pairs], splitting: Splitting, seed: int
) -> tuple[list[FoldArray], tuple[str, ...]]:
    """Fold of every pair of each store, and what is to be said of it."""
    if splitting.split == "file":
        found = [assigned(store, own, splitting, seed) for store, own in zip(stores, pairs, strict=True)]
        said = [f"{store.path.name}: {note}" for store, (_, notes) in zip(stores, found, strict=True) for note in notes]
        return [folds for folds, _ in found], tuple(said)
    by_dataset = splitting.split == "dataset"
    dealing = replace(splitting, split="pair" if by_dataset else splitting.split, negatives="all")
    named, n_genes = _by_name(stores, pairs)
    folds = assign_folds(named, n_genes, dealing, seed)
    if by_dataset:  # the test is whole stores: what would be tested of these trains
        folds[folds == TEST] = TRAIN
    dealt = np.split(folds, np.cumsum([len(own) for own in pairs])[:-1])
    if splitting.negatives == "matched":
        sizes = [store.array("gene").size for store in stores]
        dealt = [match_negatives(own, part, n, seed) for own, part, n in zip(pairs, dealt, sizes, strict=True)]
    return dealt, ()


def _by_name(stores: Sequence[Images], pairs: Sequence[Pairs]) -> tuple[Pairs, int]:
    """The pairs of all stores with genes numbered by their names, and how many names there are."""
    genes = [store.array("gene").astype(object).astype(str) for store in stores]
    names, number = np.unique(np.concatenate(genes), return_inverse=True)
    own = np.split(number.astype(np.int32), np.cumsum([part.size for part in genes])[:-1])
    gene_a = np.concatenate([of[part.gene_a] for of, part in zip(own, pairs, strict=True)])
    gene_b = np.concatenate([of[part.gene_b] for of, part in zip(own, pairs, strict=True)])
    label = np.concatenate([part.label for part in pairs])
    return Pairs(gene_a, gene_b, label, class_names=pairs[0].class_names), names.size


def _joined(many: ManyStores, rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([own + start for own, start in zip(rows, many.starts, strict=False)])


def _joined_pairs(many: ManyStores, pairs: Sequence[Pairs]) -> Pairs:
    """Pairs in the rows of `ManyStores`; a gene keeps the number that it has in its own store."""
    n = int(many.starts[-1])
    gene_a, gene_b, label = np.zeros(n, np.int32), np.zeros(n, np.int32), np.full(n, -1, np.int8)
    for own, start in zip(pairs, many.starts.tolist(), strict=False):
        at = slice(start, start + len(own))
        gene_a[at], gene_b[at], label[at] = own.gene_a, own.gene_b, own.label
    return Pairs(gene_a, gene_b, label, class_names=pairs[0].class_names)


def _refuse_other_classes(found: Sequence[tuple[Images, Folds]]) -> None:
    """Refuse stores of which one says the direction of an edge, or has regulators, and another does not."""
    (first, folds), *others = found
    for other, own in others:
        if (folds.classes, is_directed(first)) != (own.classes, is_directed(other)):
            words = [
                f"{some.classes} classes{', of regulators and targets' if some.directed else ''}"
                for some in (folds, own)
            ]
            raise InputError(
                f"{first.path} and {other.path} differ in their classes ({words[0]}; {words[1]}), so a label would "
                "mean two things; label one of them as the other, or leave it out."
            )


def _shared_genes(many: ManyStores) -> tuple[str, ...]:
    """How much of the test stores' genes the training stores name too."""
    if not many.tests:
        return ()
    trained = {str(gene) for store in many.stores for gene in store.array("gene")}
    tested = {str(gene) for store in many.tests for gene in store.array("gene")}
    return (
        f"stores left out as the test: {len(many.tests)}; of their {len(tested):,} genes {len(tested & trained):,} are "
        f"named in training stores too; validation is a share of the pairs of genes of the training stores",
    )
