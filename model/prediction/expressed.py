"""The candidates where no pairs are named: all pairs of the genes that enough cells express."""

import math

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.pairs import Candidates, all_pairs_of
from pairscape.pipeline.heatmaps.job import Request
from pairscape.pipeline.heatmaps.tiles import storage_order

LEAST_CELLS, LEAST_SHARE = 20, 0.01  # that express a gene; fewer leave a picture empty but for its edges
MOST_PAIRS = 5_000_000  # minutes on a laptop


def expressed_request(codes: Codes, seed: int, share: float | None = None) -> Request:
    """All pairs of the genes that enough cells express, of the most expressed where that were too many pairs.

    Parameters
    ----------
    share
        Of the cells, that express a gene at least. Absent: `LEAST_SHARE`, and `LEAST_CELLS` cells.

    Raises
    ------
    InputError
        Fewer than two genes are expressed so widely.
    """
    expressing = np.rint((1 - codes.array("dropout")) * codes.n_cells).astype(np.int64)
    least = max(LEAST_CELLS, math.ceil(LEAST_SHARE * codes.n_cells))
    if share is not None:
        least = max(math.ceil(share * codes.n_cells), 1)
    enough = int((expressing >= least).sum())
    if enough < 2:
        raise InputError(
            f"{enough} of {expressing.size:,} genes are expressed in {least:,} of {codes.n_cells:,} cells or more, so "
            "there is no pair to score; give pairs (--pairs, --regulators or --all-pairs), a smaller --min-share, or a "
            "matrix of more cells."
        )
    genes = most_expressed(expressing, min(enough, genes_of(MOST_PAIRS)))
    pairs = storage_order(all_pairs_of(genes))
    chosen = {"expressed_in_cells": least, "genes": int(genes.size), "genes_expressed_so": enough}
    note = _note(len(pairs), int(genes.size), enough, least)
    provenance = {"cells": "all", "seed": seed, "pairs": chosen}
    return Request(np.arange(codes.n_cells), Candidates(pairs, (note,)), provenance)


def most_expressed(expressing: NDArray[np.int64], number: int) -> NDArray[np.int32]:
    """The genes that most cells express, ascending; of equal ones the first. From cells by gene (G,)."""
    return np.sort(np.argsort(-expressing, kind="stable")[:number]).astype(np.int32)


def genes_of(pairs: int) -> int:
    """The most genes that make no more than so many pairs."""
    return (1 + math.isqrt(1 + 8 * pairs)) // 2


def _note(n_pairs: int, genes: int, enough: int, least: int) -> str:
    """What was chosen, in words."""
    said = f"no pairs are named: all {n_pairs:,} pairs of {genes:,} genes that {least:,} cells or more express"
    if genes == enough:
        return said
    return (
        f"{said}, those of most cells among {enough:,} such genes ({enough * (enough - 1) // 2:,} pairs; "
        "--all-pairs, --pairs or --regulators choose others)"
    )
