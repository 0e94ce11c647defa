"""The audit's rivals that need raw counts of the cells; where those cannot be had, the reason stands in their place.

They take the depth of the cells out, which a correlation of log expression keeps. `count_statistics` has the formulas.
"""

from typing import Any

import numpy as np

from pairscape.model.evaluation.baselines import Rows, Scores
from pairscape.model.evaluation.count_statistics import cscore_z, residual_correlation, residual_factors
from pairscape.model.evaluation.counted import find_counts
from pairscape.model.networks.gene_context import AT_ONCE, MAX_FACTOR_CELLS
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.images import Images

COUNT_RIVALS = ("residual_correlation", "cscore_z")
FACTORS_RESIDUAL = "factors_residual"  # another, for a network that takes the factors
FIGURES = ("balanced_accuracy", "auroc", "average_precision", "early_precision_ratio")


def count_rivals(
    images: Images, pairs: Pairs, rows: Rows, *, factors: bool
) -> tuple[dict[str, Scores], dict[str, dict[str, Any]]]:
    """Scores of pairs from raw counts, (R,) by name; and, where there are none, the audit's empty rows with the reason.

    |Correlation of Pearson residuals| and |CS-CORE's z|; with `factors`, |correlation| through the factors of the
    residuals too.
    """
    a, b = pairs.gene_a[rows], pairs.gene_b[rows]
    cells = find_counts(images, np.concatenate([a, b]))
    if isinstance(cells, str):
        names = (*COUNT_RIVALS, FACTORS_RESIDUAL) if factors else COUNT_RIVALS
        return {}, {name: dict.fromkeys(FIGURES) | {"reason": cells} for name in names}
    found = {
        "residual_correlation": np.abs(residual_correlation(cells, a, b)),
        "cscore_z": np.abs(cscore_z(cells, a, b)),
    }
    return found | (_through_factors(images, pairs, rows) if factors else {}), {}


def _through_factors(images: Images, pairs: Pairs, rows: Rows) -> dict[str, Scores]:
    """|Correlation| of pairs through the factors of the Pearson residuals of all genes, (R,)."""
    genes = np.arange(images.array("gene").size)
    cells = find_counts(images, genes, MAX_FACTOR_CELLS)
    assert not isinstance(cells, str)  # they were there a moment ago
    loading = residual_factors(cells, genes)
    parts = [loading[[pairs.gene_a[own], pairs.gene_b[own]]] for own in np.array_split(rows, rows.size // AT_ONCE + 1)]
    return {FACTORS_RESIDUAL: np.concatenate([np.abs((a * b).sum(1, dtype=np.float64)) for a, b in parts])}
