"""Edges as a graph of networkx, and as GraphML, which Cytoscape, Gephi, igraph and networkx read."""

import math
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from pairscape.model.edges.edges import Edges
from pairscape.pipeline.errors import InputError

MOST_EDGES = 2_000_000  # a graph in memory takes about a kilobyte an edge


def graph_of(edges: Edges, *, regulators: bool) -> nx.Graph | nx.DiGraph:
    """The network as a graph: genes that have an edge, with what is known of each edge but not NaN.

    Parameters
    ----------
    regulators
        Whether the sources are regulators, which their nodes then tell.
    """
    graph = nx.DiGraph() if edges.directed else nx.Graph()
    for code in np.unique(np.concatenate([edges.source, edges.target])).tolist():
        graph.add_node(edges.genes[code])
    for row, (a, b) in enumerate(zip(edges.names(edges.source), edges.names(edges.target), strict=True)):
        if not graph.has_edge(a, b):
            known = {name: float(values[row]) for name, values in edges.columns.items()}
            graph.add_edge(
                a, b, weight=float(edges.weight[row]), **{k: v for k, v in known.items() if not math.isnan(v)}
            )
    sources = set(edges.names(np.unique(edges.source)))
    for gene, attributes in graph.nodes(data=True):
        attributes["degree"] = graph.degree(gene)
        if regulators:
            attributes["regulator"] = gene in sources
    return graph


def write_graphml(path: Path, edges: Edges, facts: dict[str, Any], words: str, *, regulators: bool) -> None:
    """Write GraphML with node and edge attributes.

    Raises
    ------
    InputError
        More edges than a graph in memory should have, or a name that XML cannot hold.
    """
    if len(edges) > MOST_EDGES:
        raise InputError(
            f"{len(edges):,} edges are too many for GraphML, which is held in memory as a whole (at most "
            f"{MOST_EDGES:,}); choose the best with --top, or write .parquet or .tsv."
        )
    if bad := next((name for name in edges.genes if any(ord(letter) < 32 for letter in name)), None):
        raise InputError(f"gene {bad!r} has a control character in its name, which GraphML cannot hold; write .tsv.")
    graph = graph_of(edges, regulators=regulators)
    run = (facts.get("model") or {}).get("run")
    graph.graph.update({"made_by": "pairscape export", "edges": words, **({"run": str(run)} if run else {})})
    nx.write_graphml_xml(graph, path, named_key_ids=True)
