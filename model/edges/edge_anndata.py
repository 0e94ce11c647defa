"""Edges inside an AnnData file: genes × genes beside the matrix, as graphs are kept there, or as geneRNIB reads it."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData, read_zarr
from anndata.io import write_elem
from numpy.typing import NDArray
from scipy import sparse

from pairscape.model.edges.edges import Edges
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.expression import open_expression

SCORE, CORRELATION, FACTS = "pairscape_score", "pairscape_correlation", "pairscape"


def write_anndata(path: Path, edges: Edges, facts: dict[str, Any], words: str, expression: Any | None) -> None:
    """Write an .h5ad with `varp` of the scores (row = source, column = target) and `uns` of what made them.

    Parameters
    ----------
    expression
        Matrix that is copied and gets the edges: an expression store, .h5ad or AnnData. Absent: the genes alone.

    Raises
    ------
    InputError
        The matrix cannot be used, or lacks genes of the edges.
    """
    if expression is None:
        genes = edges.genes
        AnnData(var=pd.DataFrame(index=list(genes))).write_h5ad(path)
    else:
        genes = open_expression(expression).genes
        _check_genes(edges, genes, expression)
        _copy(expression, path)
    at = _places(edges, genes)
    with h5py.File(path, "r+") as file:
        for group in ("varp", "uns"):
            if group not in file:
                write_elem(file, group, {})
        write_elem(file, f"varp/{SCORE}", _matrix(edges, at, edges.weight, len(genes)))
        if "correlation" in edges.columns:
            write_elem(file, f"varp/{CORRELATION}", _matrix(edges, at, edges.columns["correlation"], len(genes)))
        write_elem(file, f"uns/{FACTS}", {"edges": words, "scores": json.dumps(facts)})


def write_genernib(path: Path, edges: Edges, dataset_id: str) -> None:
    """Write an .h5ad as geneRNIB's `file_prediction_h5ad`: `uns` of `dataset_id`, `method_id` and `prediction`.

    The weights are text there, as its guide asks.
    """
    prediction = pd.DataFrame(
        {
            "source": np.array(edges.names(edges.source), object),
            "target": np.array(edges.names(edges.target), object),
            "weight": np.array([str(weight) for weight in edges.weight], object),
        }
    )
    uns = {"dataset_id": dataset_id, "method_id": "pairscape", "prediction": prediction}
    AnnData(uns=uns).write_h5ad(path)


def _check_genes(edges: Edges, genes: tuple[str, ...], expression: Any) -> None:
    used = edges.names(np.unique(np.concatenate([edges.source, edges.target])))
    known = set(genes)
    if missing := [name for name in used if name not in known]:
        raise InputError(
            f"{expression} lacks {len(missing):,} of the {len(used):,} genes of the edges, such as {missing[0]}; give "
            "the matrix that was predicted on."
        )


def _copy(expression: Any, path: Path) -> None:
    if isinstance(expression, AnnData):
        expression.write_h5ad(path)
    elif Path(expression).suffix == ".h5ad":
        shutil.copyfile(expression, path)
    else:
        read_zarr(Path(expression)).write_h5ad(path)


def _places(edges: Edges, genes: tuple[str, ...]) -> NDArray[np.int64]:
    """Where each gene of the edges is among these, −1 where it is not."""
    return pd.Index(genes).get_indexer(pd.Index(edges.genes))


def _matrix(edges: Edges, at: NDArray[np.int64], values: NDArray[np.float32], n_genes: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((values, (at[edges.source], at[edges.target])), shape=(n_genes, n_genes))
