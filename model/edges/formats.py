"""Writers of edges: delimited text for SCENIC, BEELINE, decoupler and Cytoscape; parquet; AnnData; GraphML."""

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv
from scipy import sparse

from pairscape.model.edges.edges import Edges, names_regulators
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.matrix.formats.hdf5_zarr import opened
from pairscape.pipeline.matrix.source import is_anndata
from pairscape.pipeline.storage.paths import local_target

if TYPE_CHECKING:
    import networkx as nx

EDGES_AT_ONCE = 2**20
SPECIAL = '"\r\n'  # characters that a table of text must quote, beside the delimiter

# column of the file: what stands in it
SCENIC = {"TF": "source", "target": "target", "importance": "weight"}
BEELINE = {"Gene1": "source", "Gene2": "target", "EdgeWeight": "weight"}
DECOUPLER = {"source": "source", "target": "target", "weight": "weight"}
CYTOSCAPE = {"source": "source", "interaction": "interaction", "target": "target", "score": "weight"}
SIF = {"source": "source", "interaction": "interaction", "target": "target"}
INTERACTIONS = ("coexpressed", "regulates")  # Cytoscape's words for the edges of a network
PARQUET_KEY = b"pairscape_export"


def interaction(edges: Edges) -> str:
    """Cytoscape's word for the edges of a network."""
    return INTERACTIONS[edges.directed]


def known_columns(edges: Edges) -> dict[str, str]:
    """Columns of what is known of the edges beside the score, and `sign`, each under its own name."""
    return {name: name for name in edges.columns} | ({"sign": "sign"} if "correlation" in edges.columns else {})


def write_text(path: Path, edges: Edges, columns: Mapping[str, str], delimiter: str, *, header: bool = True) -> None:
    """Write edges as delimited text; names are quoted only if one of them holds the delimiter or a quote.

    `columns` maps each column of the file to `source`, `target`, `weight`, `interaction` or one of `edges.columns`.
    """
    quoted = any(set(name) & set(SPECIAL + delimiter) for name in edges.genes)
    options = csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="needed" if quoted else "none")
    with path.open("wb") as file:
        if header:
            file.write((delimiter.join(columns) + "\n").encode())
        for part in tables(edges, columns):
            csv.write_csv(part, file, options)


def write_parquet(path: Path, edges: Edges, facts: dict[str, Any], told: Mapping[str, str]) -> None:
    """Write source, target, any symbols, score and the other columns, with the facts in the metadata."""
    ends = ("source", "target") if edges.symbols is None else ("source", "target", "source_symbol", "target_symbol")
    columns = {**{end: end for end in ends}, "score": "weight", **known_columns(edges)}
    parts = tables(edges, columns)
    first = next(parts)
    kept = {PARQUET_KEY: json.dumps({**told, "scores": facts}).encode()}
    with pq.ParquetWriter(path, first.schema.with_metadata(kept), compression="zstd") as writer:
        writer.write_table(first)
        for part in parts:
            writer.write_table(part)


def tables(edges: Edges, columns: Mapping[str, str]) -> Iterator[pa.Table]:
    """Some edges at a time as a table of these columns."""
    names, kind = pa.array(edges.genes, pa.string()), pa.scalar(interaction(edges))
    symbols = pa.array([symbol or None for symbol in edges.symbols or edges.genes], pa.string())
    for start in range(0, len(edges), EDGES_AT_ONCE):
        some = edges.some(slice(start, start + EDGES_AT_ONCE))
        known: dict[str, Any] = {
            "source": names.take(pa.array(some.source)),
            "target": names.take(pa.array(some.target)),
            "source_symbol": symbols.take(pa.array(some.source)),
            "target_symbol": symbols.take(pa.array(some.target)),
            "weight": pa.array(some.weight),
            "interaction": pa.repeat(kind, len(some)),
            **{name: pa.array(values, mask=np.isnan(values)) for name, values in some.columns.items()},
            "sign": pa.array(some.signs, pa.string()),
            "kind": pa.array(some.kinds, pa.string()),
        }
        yield pa.table({name: known[column] for name, column in columns.items()})


# ---------------------------------------------------------------- AnnData

SCORE, CORRELATION, FACTS = "pairscape_score", "pairscape_correlation", "pairscape"


def write_anndata(
    path: Path, edges: Edges, facts: dict[str, Any], told: Mapping[str, str], expression: Any | None
) -> None:
    """Write an .h5ad with `varp` of the scores (row = source, column = target) and `uns` of what made them.

    `expression` is the matrix that is copied and gets the edges: an expression store, .h5ad or AnnData. None: the genes
    alone. InputError where it cannot be read or lacks genes of the edges.
    """
    import h5py
    from anndata import AnnData
    from anndata.io import write_elem

    if expression is None:
        genes = edges.genes
        known = {} if edges.symbols is None else {"symbol": list(edges.symbols)}
        AnnData(var=pd.DataFrame(known, index=list(genes))).write_h5ad(path)
    else:
        genes = open_expression(expression).genes
        _check_genes(edges, genes, expression)
        _copy(expression, path)
    at = _places(edges, genes)
    with h5py.File(path, "r+") as file:
        for group in ("varp", "uns"):
            if group not in file:
                write_elem(file, group, {})
        write_elem(file["varp"], SCORE, _matrix(edges, at, edges.weight, len(genes)))
        if "correlation" in edges.columns:
            write_elem(file["varp"], CORRELATION, _matrix(edges, at, edges.columns["correlation"], len(genes)))
        write_elem(file["uns"], FACTS, {**told, "scores": json.dumps(facts)})


def write_genernib(path: Path, edges: Edges, dataset_id: str) -> None:
    """Write an .h5ad as geneRNIB's `file_prediction_h5ad`; the weights are text there, as its guide asks."""
    from anndata import AnnData

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
    if is_anndata(expression):
        expression.write_h5ad(path)
    elif (place := local_target(expression)).suffix == ".h5ad":
        shutil.copyfile(place, path)
    else:
        from anndata.io import read_elem

        with opened(str(place)) as root:
            read_elem(root).write_h5ad(path)


def _places(edges: Edges, genes: tuple[str, ...]) -> NDArray[np.int64]:
    """Where each gene of the edges is among these, −1 where it is not."""
    return pd.Index(genes).get_indexer(pd.Index(edges.genes))


def _matrix(edges: Edges, at: NDArray[np.int64], values: NDArray[np.float32], n_genes: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((values, (at[edges.source], at[edges.target])), shape=(n_genes, n_genes))


# ---------------------------------------------------------------- graphs

MOST_EDGES = 2_000_000  # a graph in memory takes about a kilobyte an edge


def graph_of(edges: Edges, *, regulators: bool) -> "nx.Graph | nx.DiGraph":
    """The network as a graph: genes that have an edge, with the columns of each edge that are not NaN.

    With `regulators` the nodes say which genes are sources. InputError for more edges than a graph in memory should
    have.
    """
    import networkx as nx

    if len(edges) > MOST_EDGES:
        raise InputError(
            f"{len(edges):,} edges are too many for GraphML, which is held in memory as a whole (at most "
            f"{MOST_EDGES:,}); choose the best with --top, or write .parquet or .tsv."
        )
    graph = nx.DiGraph() if edges.directed else nx.Graph()
    for code in np.unique(np.concatenate([edges.source, edges.target])).tolist():
        graph.add_node(edges.genes[code])
    words = {name: values for name, values in (("kind", edges.kinds), ("sign", edges.signs)) if values}
    for row, (a, b) in enumerate(zip(edges.names(edges.source), edges.names(edges.target), strict=True)):
        if not graph.has_edge(a, b):
            known = {name: float(values[row]) for name, values in edges.columns.items() if name not in words}
            told = {name: values[row] for name, values in words.items() if values[row] is not None}
            known = {name: value for name, value in known.items() if not math.isnan(value)}
            graph.add_edge(a, b, weight=float(edges.weight[row]), **known, **told)
    sources = set(edges.names(np.unique(edges.source)))
    for gene, attributes in graph.nodes(data=True):
        attributes["degree"] = graph.degree(gene)
        if regulators:
            attributes["regulator"] = gene in sources
    return graph


def write_graphml(path: Path, edges: Edges, facts: dict[str, Any], told: Mapping[str, str]) -> None:
    """Write GraphML, which Cytoscape, Gephi, igraph and networkx read, with node and edge attributes.

    Raises
    ------
    InputError
        More edges than a graph in memory should have, or a name that XML cannot hold.
    """
    refuse_control_characters(edges.genes, "GraphML")
    graph = graph_of(edges, regulators=names_regulators(facts))
    run = (facts.get("model") or {}).get("run")
    save_graphml(graph, path, {"made_by": "pairscape export", **told, **({"run": str(run)} if run else {})})


def refuse_control_characters(names: Iterable[str], form: str) -> None:
    """Raise InputError if a gene's name has a character that a format cannot hold."""
    if bad := next((name for name in names if any(ord(letter) < 32 for letter in name)), None):
        raise InputError(f"gene {bad!r} has a control character in its name, which {form} cannot hold; write .tsv.")


def save_graphml(graph: "nx.Graph", path: Path, told: Mapping[str, str]) -> None:
    """Write a graph with what has to be told of all of it."""
    import networkx as nx

    graph.graph.update(told)
    nx.write_graphml_xml(graph, path, named_key_ids=True)
