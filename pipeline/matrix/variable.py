"""The most variable genes, by scanpy, over blocks of cells that are never in memory together."""

from dataclasses import dataclass
from typing import Any

import dask
import dask.array
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.choices import Preset
from pairscape.pipeline.matrix.normalize import normalise
from pairscape.pipeline.matrix.scan import Block, Cells, pick
from pairscape.pipeline.matrix.sources import Reader

BASE: dict[Preset, float] = {"deep-cell": 2.0, "cnnc": 10.0}  # of the logarithm; others are natural


@dataclass(frozen=True, eq=False)
class Normalised:
    """Log expression of the kept cells and genes of a source, a block at a time.

    Attributes
    ----------
    genes : (G,) int64
        Those that are kept.
    """

    reader: Reader
    genes: NDArray[np.int64]
    preset: Preset


def highly_variable(source: Normalised, kept: Cells, n: int, here: bool) -> NDArray[np.bool_]:
    """(G,) the `n` genes of the highest dispersion for their mean, of the kept ones (scanpy's flavour "seurat").

    Parameters
    ----------
    kept
        Cells that are kept.
    n
        All genes, if there are no more than so many.
    here
        Whether to compute in this process, not on the cluster that is connected.
    """
    size = source.genes.size
    if n >= size:
        return np.ones(size, bool)
    blocks = [dask.array.from_delayed(*_block(source, kept, block)) for block in kept.blocks()]
    x = dask.array.concatenate(blocks) if len(blocks) > 1 else blocks[0]
    var = pd.DataFrame(index=[str(gene) for gene in range(size)])
    cells = AnnData(x, var=var, uns={"log1p": {"base": BASE.get(source.preset)}})
    with dask.config.set(scheduler="synchronous") if here else dask.config.set():
        sc.pp.highly_variable_genes(cells, n_top_genes=n, flavor="seurat")
    return np.asarray(cells.var["highly_variable"], bool)


def _block(source: Normalised, kept: Cells, block: Block) -> tuple[Any, ...]:
    chosen = kept.chosen[slice(*block)]
    shape, meta = (int(chosen.sum()), source.genes.size), sparse.csr_matrix((0, 0), dtype=np.float32)
    return dask.delayed(normalised_block, pure=False)(source, block, chosen), shape, np.float32, meta


def normalised_block(source: Normalised, block: Block, chosen: NDArray[np.bool_]) -> sparse.csr_matrix:
    """Log expression of the chosen cells of a block, (N, G). Runs on a worker."""
    return normalise(pick(source.reader.rows(*block), chosen)[:, source.genes], source.preset)
