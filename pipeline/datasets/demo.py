"""The cells of the demo: enough to see the whole job without a download."""

import scanpy as sc
from anndata import AnnData


def demo_cells() -> AnnData:
    """700 human blood cells × 765 genes (10x Genomics PBMC 68k, reduced), log-normalised, as scanpy ships them.

    X is scanpy's `.raw`, CSR float32: the same cells' scaled values, its X, have lost which genes are not expressed.
    """
    cells = sc.datasets.pbmc68k_reduced().raw.to_adata()
    return AnnData(cells.X, obs=cells.obs, var=cells.var)
