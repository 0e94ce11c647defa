"""The oracle: `np.histogram2d`, one pair at a time, on the expression itself."""

import numpy as np


def joint_counts(expression, edges, gene_a, gene_b):
    """Images of pairs from dense expression.

    Parameters
    ----------
    expression : (N, G) float32, cells × genes
    edges : (G, bins + 1) float32
    gene_a, gene_b : (P,) int

    Returns
    -------
    (P, bins, bins) uint32: row = bin of gene_b, column = bin of gene_a.
    """
    images = [
        np.histogram2d(expression[:, a], expression[:, b], bins=(edges[a], edges[b]))[0].T
        for a, b in zip(gene_a, gene_b, strict=True)
    ]
    return np.asarray(images, np.uint32)


def prior_corrected(probability, shown, natural):
    """Probability (P,) at the natural prevalence from that of a network trained with `shown` positive.

    Balanced training shifts the log-odds by a constant (Saerens et al., Neural Computation 14:21, 2002).
    """
    if not 0 < shown < 1 or not 0 < natural < 1:
        return np.asarray(probability, np.float64)
    p = np.clip(np.asarray(probability, np.float64), 1e-12, 1 - 1e-12)
    odds = p / (1 - p) * (natural / (1 - natural)) / (shown / (1 - shown))
    return odds / (1 + odds)
