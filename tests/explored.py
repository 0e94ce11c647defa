"""A small prediction as the explorer opens it: codes of real shape, scores with kinds, and groups of cells."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from anndata import AnnData
from scipy import sparse

from pairscape.model.edges.scores import FORMAT, FORMAT_VERSION, KEY
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.compute.session import here
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.matrix.ingest import ingest
from pairscape.pipeline.options import Binning

HOSTILE = (
    "<script>document.title='owned'</script>", "\"><img src=x onerror=\"document.title='owned'\">", "</script><b>bold",
    '=HYPERLINK("https://example.org","x")', "+1+cmd", "\u202edesrever", "it's \"quoted\" & more, \\", "{{ 7 * 7 }}",
    "L" * 1000, "a\tb", "-rf",
)  # fmt: skip
TYPES = ("B cells", "T <b>cells</b>", "monocytes")
N_CELLS = 240
BATCHES, N_CELLS_OF_BATCH = ("one", "two", "rare"), (100, 110, 30)


def encoded(folder: Path, genes: list[str], symbols: list[str] | None = None, seed: int = 0):
    """Codes of a matrix whose first two genes rise together in one type of cells only."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(N_CELLS, 1))
    values = np.clip(factor + rng.normal(size=(N_CELLS, len(genes))) + 0.5, 0, None).astype(np.float32)
    values[:, 0] += 0.1
    annotations = {"cell_type": np.array(TYPES)[np.arange(N_CELLS) % 3], "batch": np.repeat(BATCHES, N_CELLS_OF_BATCH)}
    obs = pd.DataFrame(annotations, index=[f"c{i}" for i in range(N_CELLS)])
    var = pd.DataFrame({} if symbols is None else {"symbol": symbols}, index=genes)
    ingest(AnnData(sparse.csr_matrix(values), obs=obs, var=var), folder / "expression.zarr", preset="none")
    matrix = open_expression(folder / "expression.zarr")
    with here(True) as session:
        return encode_matrix(matrix, folder / "codes.zarr", Binning("rank", 16), np.arange(N_CELLS), session)


def pairs_of(genes: list[str], symbols: list[str] | None = None, seed: int = 0, **columns) -> pa.Table:
    """Every pair with a made-up score; a few screened out; kinds, q-values, labels."""
    rng = np.random.default_rng(seed)
    a, b = np.triu_indices(len(genes), 1)
    score = rng.random(a.size).astype(np.float32) ** 2
    out = rng.random(a.size) < 0.1
    names = np.array(genes, object)
    found = {"gene_a": pa.array(names[a]), "gene_b": pa.array(names[b])}
    if symbols is not None:
        known = np.array([symbol or None for symbol in symbols], object)
        found |= {"symbol_a": pa.array(known[a], pa.string()), "symbol_b": pa.array(known[b], pa.string())}
    return pa.table(found | {
        "label": pa.array(rng.integers(-1, 2, a.size).astype(np.int8)),
        "score": pa.array(score, mask=out),
        "kind": pa.array(np.array(KINDS, object)[rng.integers(1, 7, a.size)], mask=out),
        "kind_probability": pa.array(score, mask=out),
        "dependence": pa.array(10 * score),
        "correlation": pa.array(rng.uniform(-1, 1, a.size).astype(np.float32)),
        "q_value": pa.array((1 - score) ** 2, mask=out),
        **columns,
    })  # fmt: skip


def write_pairs(path: Path, table: pa.Table, **facts) -> Path:
    """Write them as `predict` does."""
    kept = {"format": FORMAT, "format_version": FORMAT_VERSION, **facts}
    pq.write_table(table.replace_schema_metadata({KEY: json.dumps(kept).encode()}), path, row_group_size=40)
    return path


def facts_of(folder: Path, codes) -> dict:
    """What a file of scores says of its codes."""
    return {
        "matrix": {"path": str(folder / "expression.zarr"), "n_cells": codes.n_cells},
        "codes": {"path": codes.path, "content_hash": codes.content_hash},
        "model": {"run": "universal", "scale": "rank", "bins": 16},
        "pairs": {"cells": "all", "pairs": {"all_pairs": "True"}},
        "prior": 0.01,
    }


def write_grouped(path: Path, genes: list[str], **facts) -> Path:
    """Scores of all cells and of each type, one block of rows below the other."""
    names = ["combined", *TYPES]
    blocks = [pairs_of(genes, seed=at).append_column("group", pa.array([name] * (len(genes) * (len(genes) - 1) // 2)))
              for at, name in enumerate(names)]  # fmt: skip
    groups = {"columns": ["cell_type"], "names": list(TYPES), "cells": [N_CELLS // 3] * 3}
    return write_pairs(path, pa.concat_tables(blocks), groups=groups, **facts)
