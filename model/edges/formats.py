"""Edges as tables, some rows at a time: text as SCENIC, BEELINE, decoupler and Cytoscape read it, and parquet."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from pairscape.model.edges.edges import Edges

EDGES_AT_ONCE = 2**20
SPECIAL = '"\r\n'  # characters that a table of text must quote, beside the delimiter

# column of the file: what stands in it
SCENIC = {"TF": "source", "target": "target", "importance": "weight"}
BEELINE = {"Gene1": "source", "Gene2": "target", "EdgeWeight": "weight"}
DECOUPLER = {"source": "source", "target": "target", "weight": "weight"}
CYTOSCAPE = {"source": "source", "interaction": "interaction", "target": "target", "score": "weight"}
SIF = {"source": "source", "interaction": "interaction", "target": "target"}
PARQUET_KEY = b"pairscape_export"


def interaction(edges: Edges) -> str:
    """Cytoscape's word for the edges of a network."""
    return "regulates" if edges.directed else "coexpressed"


def write_text(path: Path, edges: Edges, columns: Mapping[str, str], delimiter: str, *, header: bool = True) -> None:
    """Write edges as delimited text; names are quoted only if one of them holds the delimiter or a quote.

    Parameters
    ----------
    columns
        Column of the file → what stands in it: `source`, `target`, `weight`, `interaction` or one of `edges.columns`.
    """
    quoted = any(set(name) & set(SPECIAL + delimiter) for name in edges.genes)
    options = csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="needed" if quoted else "none")
    with path.open("wb") as file:
        if header:
            file.write((delimiter.join(columns) + "\n").encode())
        for part in tables(edges, columns):
            csv.write_csv(part, file, options)


def write_parquet(path: Path, edges: Edges, facts: dict[str, Any], words: str) -> None:
    """Write source, target, score and whatever else is known of each edge, with the facts in the metadata."""
    columns = {"source": "source", "target": "target", "score": "weight", **{name: name for name in edges.columns}}
    parts = tables(edges, columns)
    first = next(parts)
    kept = {PARQUET_KEY: json.dumps({"edges": words, "scores": facts}).encode()}
    with pq.ParquetWriter(path, first.schema.with_metadata(kept), compression="zstd") as writer:
        writer.write_table(first)
        for part in parts:
            writer.write_table(part)


def tables(edges: Edges, columns: Mapping[str, str]) -> Iterator[pa.Table]:
    """Some edges at a time as a table of these columns."""
    names, kind = pa.array(edges.genes, pa.string()), pa.scalar(interaction(edges))
    for start in range(0, len(edges), EDGES_AT_ONCE):
        some = edges.some(slice(start, start + EDGES_AT_ONCE))
        known: dict[str, Any] = {
            "source": names.take(pa.array(some.source)),
            "target": names.take(pa.array(some.target)),
            "weight": pa.array(some.weight),
            "interaction": pa.repeat(kind, len(some)),
            **{name: pa.array(values, mask=np.isnan(values)) for name, values in some.columns.items()},
        }
        yield pa.table({name: known[column] for name, column in columns.items()})
