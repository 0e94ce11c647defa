"""Counts to log expression under named presets, with scanpy's own functions, a block of cells at a time.

| preset | what it does | stored |
|---|---|---|
| scanpy | every cell scaled to 10,000, natural logarithm of 1 + x | that |
| log1p | natural logarithm of 1 + x | that |
| none | nothing | the values |
| cnnc | log10(x + 0.01), as CNNC does with RPKM | log10(x / 0.01 + 1) |
| deep-cell | every cell scaled to 100, base-2 logarithm of 1 + x; before it, genes in at most 10 % of cells go | that |

CNNC's logarithm of no expression is −2. Stored is the same shifted by 2, so that 0 is still "not expressed" and the
matrix stays sparse; heatmaps, whose bins are placed between the values that occur, are those of the unshifted values.

No preset looks at any other cell than the one it scales, so blocks may be cut anywhere.
"""

from dataclasses import dataclass
from typing import Any

import dask
import dask.array
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from dask.delayed import delayed
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.scan import Block, ChosenCells, pick
from pairscape.pipeline.matrix.source import Reader
from pairscape.pipeline.matrix.survey import Values
from pairscape.pipeline.matrix.value_kinds import Judged, ValueKind
from pairscape.pipeline.options import Preset

EXACT = 2.0**24  # whole numbers from here on that float32 cannot tell apart
LARGEST = 1e30  # sums over a cell stay finite in float32
CNNC_OFFSET = 0.01
AUTO: dict[ValueKind, Preset] = {
    "raw counts": "scanpy", "fractional counts": "scanpy", "shares": "scanpy", "normalised": "log1p", "log": "none",
}  # fmt: skip
TARGET_SUM: dict[Preset, float] = {"scanpy": 1e4, "deep-cell": 100.0}
DEEP_CELL_SHARE = 0.1  # of the cells that express anything: genes in more than so many are kept


def check_values(values: Values, genes: pd.Index, source: str) -> None:
    """Refuse values that are no expression.

    Raises
    ------
    InputError
        A value is NaN or infinite, is negative, or is too large to be one.
    """
    if values.bad:
        raise InputError(
            f"{source}: values that are NaN or infinite: {values.bad:,}, the first in gene {genes[values.bad_gene]}; a "
            "heatmap cannot place such cells: set them to 0 or drop the gene"
        )
    if values.low < 0:
        raise InputError(
            f"{source}: gene {genes[values.low_gene]} has the negative value {values.low:.3g}; scaled data have lost "
            "that 0 means not expressed: ingest the unscaled matrix, such as --layer counts or --layer raw"
        )
    if (values.whole and values.high >= EXACT) or values.high > LARGEST:
        why = "counts of molecules stay far below 2^24 = 16,777,216, from where on float32 mixes up whole numbers"
        raise InputError(
            f"{source}: gene {genes[values.high_gene]} has the value {values.high:.4g}; {why}: check what the matrix "
            "holds, and leave out identifiers and totals"
        )


def are_counts(values: Values) -> bool:
    """Whether values that came as counts are counts of molecules."""
    return values.whole and not values.bad and values.low >= 0 and values.high < EXACT


def check_judged(judged: Judged, values: Values, source: str) -> None:
    """Refuse a matrix of which some cells, not among the sampled ones, hold other values.

    Raises
    ------
    InputError
        The sampled cells hold whole numbers, and not all cells do.
    """
    if judged.kind == "raw counts" and not values.whole and not values.bad:
        raise InputError(
            f"{source}: the sampled cells hold whole numbers, and others do not, so counts and other values are mixed, "
            "and no one treatment fits both; take them apart (--cells), or give one kind of values (--layer)"
        )


def choose_preset(preset: Preset, judged: Judged, source: str) -> tuple[Preset, str]:
    """The preset that is meant, and what has to be said of it; "" where nothing.

    Raises
    ------
    InputError
        What the values are cannot be told, or they are square roots, and no preset is given; the preset would take the
        logarithm of logarithms or of roots.
    """
    kind = judged.kind
    if preset == "auto":
        if kind not in AUTO:
            raise InputError(_undecided(judged, source))
        unusual = f"warning: {judged.why}" if judged.why else ""
        told = f"taken for {judged.words()}: {judged.why}; --preset decides"
        return AUTO[kind], unusual if kind == "raw counts" else told
    if kind in ("log", "square roots") and preset != "none":
        raise InputError(
            f"{source}: the values are {'logarithms' if kind == 'log' else kind} already ({judged.why}), and preset "
            f"{preset} would take the logarithm twice: give --preset none, or the raw counts with --layer"
        )
    return preset, _contradiction(preset, kind)


def _undecided(judged: Judged, source: str) -> str:
    if judged.kind == "square roots":
        return (
            f"{source}: the values are square roots ({judged.why}); run `pairscape ingest` on the raw counts "
            "(--layer), or with --preset none to keep the roots as they are"
        )
    return (
        f"{source}: the values may be corrected counts or logarithms ({judged.why}), and one has to be scaled and the "
        "other not: run `pairscape ingest` with --preset scanpy for counts, --preset none for logarithms, or --layer"
    )


def _contradiction(preset: Preset, kind: ValueKind) -> str:
    if kind in ("raw counts", "fractional counts") and preset == "none":
        return f"warning: {kind} are stored as expression, so images will show how deeply cells were sequenced"
    if kind in ("raw counts", "fractional counts") and preset in ("log1p", "cnnc"):
        return f"warning: preset {preset} is for values that are normalised per cell, and these are {kind}"
    if kind == "normalised" and preset in TARGET_SUM:
        return f"warning: the values are no whole numbers, so normalised already; preset {preset} scales them again"
    return ""


def normalise(rows: sparse.csr_matrix, preset: Preset) -> sparse.csr_matrix:
    """Log expression of some cells, (N, G) CSR float32; `rows` is left untouched.

    Parameters
    ----------
    preset
        Any but "auto".
    """
    if preset == "none":
        return rows
    if preset == "cnnc":
        shifted = np.log1p(rows.data / CNNC_OFFSET, dtype=np.float64) / np.log(10)
        return sparse.csr_matrix((shifted.astype(np.float32), rows.indices, rows.indptr), shape=rows.shape)
    cells = AnnData(rows.copy())
    if preset in TARGET_SUM:
        sc.pp.normalize_total(cells, target_sum=TARGET_SUM[preset])
    sc.pp.log1p(cells, base=2 if preset == "deep-cell" else None)
    return sparse.csr_matrix(cells.X)


# ── the most variable genes, by scanpy, over blocks of cells ─────────────────────────────────────────────────────────

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


def highly_variable(source: Normalised, kept: ChosenCells, n: int, here: bool) -> NDArray[np.bool_]:
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


def _block(source: Normalised, kept: ChosenCells, block: Block) -> tuple[Any, ...]:
    chosen = kept.chosen[slice(*block)]
    shape, meta = (int(chosen.sum()), source.genes.size), sparse.csr_matrix((0, 0), dtype=np.float32)
    return delayed(normalised_block, pure=False)(source, block, chosen), shape, np.float32, meta


def normalised_block(source: Normalised, block: Block, chosen: NDArray[np.bool_]) -> sparse.csr_matrix:
    """Log expression of the chosen cells of a block, (N, G). Runs on a worker."""
    return normalise(pick(source.reader.rows(*block), chosen)[:, source.genes], source.preset)
