"""The depth null: how high a scorer ranks genes that have nothing in common but the depth of the cells.

Cells keep their depths and genes their shares of all counts; counts are drawn from a Poisson distribution, each gene
for itself, normalised as the store's were, binned and drawn as images. What such pairs score is owed to depth alone.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.evaluation.association import spearman
from pairscape.model.evaluation.baselines import Rows, Scores
from pairscape.model.evaluation.counted import CellCounts, find_counts
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.drawn import draw_images
from pairscape.pipeline.heatmaps.images import Images
from pairscape.pipeline.options import Stream

NULL_PAIRS = 2000  # standard error of a share of 1 %: 0.2 %
DRAWN = 2**26  # counts at most, a second; of very many cells there are fewer pairs
LEAST_PAIRS = 250
AT_ONCE = 2**22  # values of each gene's side that are laid out
PERCENTILE = 99

Counts = NDArray[np.uint32]
AnyScores = NDArray[np.floating]
Score = Callable[[Counts, NDArray[np.uint32]], Scores]
NORMALISED: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]] = {
    "scanpy": lambda x, depth: np.log1p(x * (1e4 / depth)),
    "deep-cell": lambda x, depth: np.log2(1 + x * (100 / depth)),
    "log1p": lambda x, depth: np.log1p(x),
    "cnnc": lambda x, depth: np.log10(x / 0.01 + 1),
    "none": lambda x, depth: x,
}  # as `pipeline.matrix.normalize` does it, which knows a cell's depth only where it has all genes


def depth_null(
    images: Images, pairs: Pairs, rows: Rows, real: Mapping[str, AnyScores], score: Score | str, seed: int
) -> dict[str, Any]:
    """`metrics.json`'s "depth_null": null pairs beside the real ones, scored by the network and by |Spearman|.

    Parameters
    ----------
    rows
        The test rows; null pairs are of the genes of some of them.
    real
        (R,) "network" and "spearman" of these rows.
    score
        The network: images and double zeros to scores, (P,). A text says why it cannot score them.

    Returns
    -------
    dict
        `n_pairs`, `n_cells`, and for `network` and `spearman` `beyond_99th_percentile`, the share of null pairs above
        the 99th percentile of the real ones, and `mean_in_sd`, how far the mean null pair is above the mean real one in
        standard deviations of the real ones. Where something cannot be had, None and the `reason`.
    """
    rng, n_cells = np.random.default_rng([seed, Stream.DEPTH_NULL]), images.spec.n_cells
    number = min(rows.size, NULL_PAIRS, max(DRAWN // (2 * n_cells), LEAST_PAIRS))
    chosen = np.sort(rng.choice(rows, number, replace=False))
    cells = find_counts(images, np.concatenate([pairs.gene_a[chosen], pairs.gene_b[chosen]]))
    if not isinstance(cells, str) and cells.preset not in NORMALISED:
        cells = "the matrix does not say how its expression was made from the counts beside it"
    if isinstance(cells, str):
        return {"network": None, "spearman": None, "reason": cells}
    null: dict[str, list[Scores]] = {"network": [], "spearman": []}
    for counts, both_zero in _null_images(cells, pairs.take(chosen), images, rng):
        null["spearman"].append(np.abs(spearman(counts)))
        if not isinstance(score, str):
            null["network"].append(score(counts, both_zero))
    compared = {name: _beside(np.concatenate(null[name]), real[name]) if null[name] else None for name in null}
    return (
        {"n_pairs": int(number), "n_cells": n_cells} | compared | ({"reason": score} if isinstance(score, str) else {})
    )


def _null_images(
    cells: CellCounts, pairs: Pairs, images: Images, rng: np.random.Generator
) -> Iterator[tuple[Counts, NDArray[np.uint32]]]:
    n_cells, share = images.spec.n_cells, cells.share
    depth = cells.depth[np.arange(n_cells) * cells.depth.size // n_cells]  # all of them, if all were read
    normalised, at_once = NORMALISED[cells.preset], max(AT_ONCE // n_cells, 1)
    for start in range(0, len(pairs), at_once):
        sides = [gene[start : start + at_once] for gene in (pairs.gene_a, pairs.gene_b)]
        drawn = [rng.poisson(np.outer(share[genes], depth)).astype(np.float64) for genes in sides]
        a, b = (normalised(x, depth).astype(np.float32) for x in drawn)
        yield draw_images(a, b, images.spec.binning)


def _beside(null: Scores, real: AnyScores) -> dict[str, float | None]:
    spread = float(real.std())
    return {
        "beyond_99th_percentile": float((null > np.percentile(real, PERCENTILE)).mean()),
        "mean_in_sd": float((null.mean() - real.mean()) / spread) if spread > 0 else None,
    }
