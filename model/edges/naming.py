"""Edges under the symbols of their genes, which motif databases and people know, in place of the matrix's ids."""

from collections import Counter
from dataclasses import replace

import numpy as np

from pairscape.model.edges.edges import Edges, first_of_equals
from pairscape.pipeline.genes.describe import describe_names

EXAMPLES = 3


def by_symbol(edges: Edges) -> tuple[Edges, list[str]]:
    """The same edges between symbols, and what has to be said of it.

    A gene without a symbol keeps its id. Edges between the same two symbols become the best of them, since no reader
    of symbols could tell them apart; an edge of a symbol to itself goes.
    """
    if edges.symbols is None:
        return edges, _without_symbols(edges)
    names = edges.labels(np.arange(len(edges.genes), dtype=np.int32))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    code = np.array([numbers[name] for name in names], np.int32)
    source, target = code[edges.source], code[edges.target]
    rows = np.flatnonzero(source != target)
    rows = rows[first_of_equals(source[rows], target[rows], len(numbers))]
    columns = {name: values[rows] for name, values in edges.columns.items()}
    named = replace(
        edges,
        genes=tuple(numbers),
        source=source[rows],
        target=target[rows],
        weight=edges.weight[rows],
        columns=columns,
        symbols=None,
    )
    return named, [*_nameless(edges), *_merged(edges, len(edges) - rows.size)]


def _used(edges: Edges) -> list[int]:
    return np.unique(np.concatenate([edges.source, edges.target])).tolist()


def _without_symbols(edges: Edges) -> list[str]:
    known = describe_names(edges.names(np.array(_used(edges), np.int32)))
    if known.kind == "symbol":
        return []
    return [
        f"warning: the scores have no symbols, so genes are named as in the matrix ({edges.genes[0]}), which tools "
        "that know symbols only do not find; give the matrix symbols (ingest --gene-map or --gene-column) and predict "
        "again"
    ]


def _nameless(edges: Edges) -> list[str]:
    assert edges.symbols is not None
    nameless = [edges.genes[gene] for gene in _used(edges) if not edges.symbols[gene]]
    if not nameless:
        return []
    return [f"genes without a symbol, named by their id: {len(nameless):,} ({', '.join(nameless[:EXAMPLES])})"]


def _merged(edges: Edges, gone: int) -> list[str]:
    assert edges.symbols is not None
    borne = Counter(symbol for gene in _used(edges) if (symbol := edges.symbols[gene]))
    several = [symbol for symbol, genes in borne.items() if genes > 1]
    if not several:
        return []
    examples = ", ".join(several[:EXAMPLES])
    return [
        f"warning: symbols that several genes bear: {len(several):,} ({examples}); {gone:,} of their edges are left "
        "out as repeated, or between genes of one symbol; --names id keeps them apart"
    ]
