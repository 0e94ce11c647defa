"""How two genes are correlated through the leading factors of all genes: features of a pair from their loadings."""

import torch
from torch import Tensor

FACTORS = 32  # the others carry no signal that was measurable
LEVELS = (
    0.5,
    1.0,
    2.5,
)  # shares of the noise edge that eigenvalues are lowered by: from nearly all to cell types alone
GENE_LOADINGS = len(LEVELS) * FACTORS
FACTOR_FEATURES = 2 * len(LEVELS)


def factor_features(genes: Tensor) -> Tensor:
    """Correlations through the factors, signed and absolute.

    Parameters
    ----------
    genes
        (B, 2, GENE_LOADINGS) loadings of gene a and of gene b, level by level.

    Returns
    -------
    Tensor
        (B, FACTOR_FEATURES) float32, the same for (a, b) and (b, a).
    """
    with torch.autocast(genes.device.type, enabled=False):  # 8 bits are no precision for a correlation
        a, b = genes.float().unflatten(2, (len(LEVELS), FACTORS)).unbind(1)  # (B, levels, factors)
        correlation = (a * b).sum(2)  # (B, levels)
    return torch.cat([correlation, correlation.abs()], dim=1)
