"""The edges of a network from scores that are a table in memory, as `predict` returns it: chosen, best first."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from pairscape.model.edges.edges import Edges, kind_numbers
from pairscape.model.edges.scores import COMBINED, GENES, SYMBOLS
from pairscape.pipeline.errors import InputError, printable
from pairscape.pipeline.genes.resolve import Vocabulary

WHERE = "the table of scores"
NUMBERS = ("correlation", "q_value")


def table_edges(table: pd.DataFrame, top: int, gene: str | None = None, group: str | None = None) -> Edges:
    """The best edges of a table of scores, or those around a gene.

    Parameters
    ----------
    top
        How many edges; around a gene how many partners, and at most as many edges among these.
    gene
        Id or symbol. Absent: the best edges of all.
    group
        Of cells, of a table with groups. Absent: all groups combined.

    Raises
    ------
    InputError
        It is no table of scores, has no such gene or group, or no pair of it has a score.
    """
    if top < 1:
        raise InputError(f"top is {top}: it is how many edges are drawn; give 1 or more.")
    scored = _of_group(table, group)
    scored = scored[scored["score"].notna()].sort_values("score", ascending=False, kind="stable")
    if gene is not None:
        name = _found(scored, gene)
        own = scored[(scored["gene_a"] == name) | (scored["gene_b"] == name)].iloc[:top]
        partners = {*own["gene_a"], *own["gene_b"]} - {name}
        among = scored[scored["gene_a"].isin(partners) & scored["gene_b"].isin(partners)]
        scored = pd.concat([own, among[among["score"] >= own["score"].min()].iloc[:top]])
    if scored.empty:
        raise InputError(f"{WHERE}: none of its {len(table):,} pairs has a score, so there is nothing to draw.")
    return _as_edges(scored.iloc[: 2 * top if gene is not None else top])


def _of_group(table: pd.DataFrame, group: str | None) -> pd.DataFrame:
    """The rows of one group of cells, checked."""
    if missing := [name for name in (*GENES, "score") if name not in table.columns]:
        raise InputError(
            f"{WHERE} has no column {' nor '.join(missing)}: give what `pairscape.predict` returned, "
            "or some of its rows."
        )
    known = list(dict.fromkeys(table["group"])) if "group" in table.columns else []
    if group is not None and group not in known:
        there = f"it has {', '.join(map(str, known))}" if known else "it has no groups (predict with by=COLUMN)"
        raise InputError(printable(f"{WHERE} has no group {group!r}: {there}."))
    return table[table["group"] == (group or COMBINED)] if known else table


def _found(table: pd.DataFrame, gene: str) -> str:
    """The id of a gene that is named by id or symbol."""
    genes, symbols = _genes(table)
    return genes[Vocabulary(genes, symbols).place(gene, WHERE)]


def _genes(table: pd.DataFrame) -> tuple[list[str], Sequence[str] | None]:
    """Ids of all genes of a table, and their symbols, "" for a gene without; None where there are none."""
    ends = pd.concat([table[end].astype(object) for end in GENES])
    ends = ends[~ends.duplicated().to_numpy()] if not set(SYMBOLS) <= set(table.columns) else ends
    if not set(SYMBOLS) <= set(table.columns):
        return list(ends), None
    named = pd.concat([table[end].astype(object) for end in SYMBOLS]).fillna("")
    known = dict(zip(ends, named, strict=True))
    return list(known), list(known.values())


def _as_edges(scored: pd.DataFrame) -> Edges:
    genes, named = _genes(scored)
    symbols = None if named is None else tuple(named)
    number = {name: at for at, name in enumerate(genes)}
    a, b = (scored[end].astype(object).map(number).to_numpy(np.int32) for end in GENES)
    directed = "forward" in scored.columns
    back = scored["forward"].to_numpy() < 0.5 if directed else np.zeros(len(scored), bool)
    columns = {name: scored[name].to_numpy(np.float32) for name in NUMBERS if name in scored.columns}
    if "kind" in scored.columns:
        columns["kind"] = kind_numbers(pa.array(scored["kind"].astype(object), pa.string(), from_pandas=True))
    ends = np.where(back, b, a), np.where(back, a, b)
    weight = scored["score"].to_numpy(np.float32)
    return Edges(tuple(genes), *ends, weight, columns, directed, symbols)
