"""Folds of the pairs of an image store."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pairscape.model.batches.fold_file import given_folds
from pairscape.model.batches.folds import TEST, TRAIN, VALIDATION, FoldArray, Folds, assign_folds, match_negatives
from pairscape.model.options import Recipe, Splitting
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.lists import read_gene_map
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.genes.resolve import Vocabulary
from pairscape.pipeline.heatmaps.images import Images


def make_folds(images: Images, recipe: Recipe, seed: int) -> Folds:
    """Deal the labelled pairs of a store to folds.

    Raises
    ------
    InputError
        No labels, a fold without both classes, or a file of folds that does not fit (see `model.batches.fold_file`).
    """
    pairs = images.pairs()
    folds, notes = _assigned(images, pairs, recipe.splitting, seed)
    rows = [np.flatnonzero(folds == fold) for fold in (TRAIN, VALIDATION, TEST)]
    if not (pairs.label >= 0).any():
        raise InputError(
            f"{images.path} has no labels, so nothing can be learned; make it with --network or --labels replicate."
        )
    for name, part in zip(("training", "validation", "test"), rows, strict=True):
        positive, negative = int((pairs.label[part] > 0).sum()), int((pairs.label[part] == 0).sum())
        if not positive or not negative:
            raise InputError(
                f"the {name} fold of {images.path} has {positive:,} positive and {negative:,} negative pairs, both are "
                f"needed; give more labelled pairs, another --split than {recipe.splitting.split}, or larger shares."
            )
    return Folds(pairs, rows[0], rows[1], rows[2], is_directed(images), notes)


def _assigned(images: Images, pairs: Pairs, splitting: Splitting, seed: int) -> tuple[FoldArray, tuple[str, ...]]:
    """Fold of every pair, (P,) int8, and what is to be said of it."""
    genes = images.array("gene").tolist()
    if splitting.split != "file":
        return assign_folds(pairs, len(genes), splitting, seed), ()
    vocabulary, gone = _vocabulary(images, genes, splitting.min_matched)
    try:
        folds, notes = given_folds(pairs, vocabulary, splitting, is_directed(images), images.list_row())
    except InputError as error:
        raise InputError("; ".join([str(error), *gone])) from error
    if splitting.negatives == "matched":
        folds = match_negatives(pairs, folds, len(genes), seed)
    return folds, (*notes, *gone)


def _vocabulary(images: Images, genes: list[str], min_matched: float) -> tuple[Vocabulary, tuple[str, ...]]:
    """The genes of a store, to be named as the lists it was made from named them; and in words what is not."""
    asked = images.provenance.get("pairs", {})
    ignore_case, gene_map = asked.get("ignore_case") == "True", asked.get("gene_map")
    plain = Vocabulary(genes, images.symbols(), ignore_case=ignore_case, min_matched=min_matched, advise=False)
    if gene_map is None:
        return plain, ()
    if not Path(gene_map).is_file():
        return plain, (f"{gene_map}: the gene map of the store is gone, so the file of folds is read without it",)
    return replace(plain, aliases=tuple(read_gene_map(Path(gene_map)))), ()


def is_directed(images: Images) -> bool:
    """Whether gene_a regulates gene_b in a positive pair (regulators were named, or a label says b→a)."""
    if images.class_names:  # kinds of dependence: label 2 is one of them
        return False
    source = images.provenance.get("pairs", {})
    co_expression = "all_pairs" in source or source.get("labels") == "replicate"
    return not co_expression and ("regulators" in source or bool((images.array("label") == 2).any()))
