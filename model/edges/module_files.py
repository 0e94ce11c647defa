"""Files of modules: a table, gene sets that enrichment tools read, and the network with modules as attributes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from pairscape.model.edges.formats import SPECIAL, graph_of, refuse_control_characters, save_graphml
from pairscape.model.edges.modules import Modules

TABLE = ("gene", "symbol", "module", "degree", "strength", "module_strength", "is_hub")
SET = "module_{}"  # name of a gene set
SIGN = "pairscape module: "  # begins the description of each


def write_table(path: Path, found: Modules, *_: Any) -> None:
    """Write a row a gene, by module, those of the strongest edges within it first; genes without a symbol have none."""
    order = np.lexsort((-found.own_strength, found.module))
    code, edges = found.code[order], found.edges
    symbols = ["" if edges.symbols is None else edges.symbols[gene] for gene in code.tolist()]
    values = (
        edges.names(code), symbols, found.module[order], found.degree[order], found.strength[order].round(6),
        found.own_strength[order].round(6), pa.array(found.is_hub[order]),
    )  # fmt: skip
    quoted = any(set(name) & set(SPECIAL + "\t") for name in (*edges.genes, *(edges.symbols or ())))
    options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="needed" if quoted else "none")
    with path.open("wb") as file:
        file.write(("\t".join(TABLE) + "\n").encode())
        csv.write_csv(pa.table(dict(zip(TABLE, values, strict=True))), file, options)


def write_gmt(path: Path, found: Modules, told: Mapping[str, str], names: str = "symbol") -> None:
    """Write a line a module: name, description, and the genes, with tabs between them.

    Parameters
    ----------
    names
        Genes by `symbol`, or their id where they have none, or by `id`.

    Raises
    ------
    InputError
        A gene's name holds a tab or the end of a line, which no reader of the format could tell from its own.
    """
    edges, lines = found.edges, []
    shown = edges.labels if names == "symbol" else edges.names
    refuse_control_characters(shown(found.code), "GMT")
    for module in range(1, len(found) + 1):
        genes = dict.fromkeys(shown(found.genes_of(module)))  # several may bear one symbol
        words = f"{SIGN}{len(genes)} genes, {told['edges']}"
        lines.append("\t".join([SET.format(module), words, *genes]) + "\n")
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def write_graphml(path: Path, found: Modules, told: Mapping[str, str], *_: Any) -> None:
    """Write the network: genes by id with `symbol`, `module`, `is_hub`, edges with their columns and `within_module`.

    An edge between two modules has none. An attribute of nodes has no namesake among those of edges, since the file has
    both under one name. Raises like `formats.save_graphml`.
    """
    edges = found.edges
    refuse_control_characters((*edges.genes, *(edges.symbols or ())), "GraphML")
    graph = graph_of(edges, regulators=False)
    for gene, module, strength, hub in zip(
        found.code.tolist(), found.module.tolist(), found.own_strength.tolist(), found.is_hub.tolist(), strict=True
    ):
        node = graph.nodes[edges.genes[gene]]
        node.update(module=module, module_strength=strength, is_hub=hub)
        if edges.symbols is not None:
            node["symbol"] = edges.symbols[gene]
    for row in np.flatnonzero(inside := found.of_edges()).tolist():
        graph.edges[edges.genes[edges.source[row]], edges.genes[edges.target[row]]]["within_module"] = int(inside[row])
    save_graphml(graph, path, {"made_by": "pairscape modules", **told})


WRITERS: dict[str, Callable[..., None]] = {".tsv": write_table, ".gmt": write_gmt, ".graphml": write_graphml}
IN_FOLDER = {"modules.tsv": write_table, "modules.gmt": write_gmt, "network.graphml": write_graphml}
