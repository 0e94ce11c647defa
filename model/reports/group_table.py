"""The table of groups of cells in the report of a prediction: their cells and calls, and the best pairs in each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.edges.edges import Edges, GeneCodes, blocks, columns_of
from pairscape.model.edges.scores import COMBINED, groups_in
from pairscape.model.reports.page import number, probability, whole

BEST_PAIRS, MOST_GROUPS = 15, 12
CALL_Q = 0.05


@dataclass(frozen=True)
class GroupTable:
    """Groups of cells in words.

    Attributes
    ----------
    columns
        By which cells are grouped.
    rows
        Of each group: name, cells, calls.
    names, pairs
        Groups that are shown beside each other; of each of the best pairs: names of the genes, and scores in these.
    """

    columns: str
    rows: list[dict[str, str]]
    names: list[str]
    pairs: list[dict[str, Any]]


def table_of_groups(path: Path, facts: dict[str, Any], best: Edges | None) -> GroupTable | None:
    """Groups of a file of scores, and the best pairs of those rows that are shown; None where there are no groups."""
    names = list(groups_in(facts))
    if not names:
        return None
    groups, own = facts["groups"], facts.get("by_group", {})
    cells = [sum(groups["cells"]), *groups["cells"]]
    fdr = [facts.get("fdr") if "group" not in facts else None, *(own.get(name, {}).get("fdr") for name in names[1:])]
    rows = [
        {"name": name, "cells": whole(n), "calls": whole(of["calls"][str(CALL_Q)]) if of else "–"}
        for name, n, of in zip(names, cells, fdr, strict=True)
    ]
    order = np.argsort(-np.array(groups["cells"]), kind="stable")[:MOST_GROUPS]
    shown = [COMBINED, *(names[1 + k] for k in np.sort(order))]
    return GroupTable(" and ".join(groups["columns"]), rows, shown, _pairs(path, best, shown) if best else [])


def _pairs(path: Path, best: Edges, names: list[str]) -> list[dict[str, Any]]:
    """The best pairs, each with its score and q-value in every group."""
    some = best.some(slice(BEST_PAIRS))
    found = [_of_group(path, some, name) for name in names]
    ends = zip(some.labels(some.source), some.labels(some.target), strict=True)
    return [
        {"gene_a": a, "gene_b": b, "scores": [_words(column, row) for column in found]}
        for row, (a, b) in enumerate(ends)
    ]


def _words(column: dict[str, NDArray[np.floating]], row: int) -> dict[str, str]:
    score, q = float(column["score"][row]), float(column["q_value"][row])
    return {"score": "–" if np.isnan(score) else probability(score), "q": "" if np.isnan(q) else f"q {number(q)}"}


def _of_group(path: Path, edges: Edges, group: str) -> dict[str, NDArray[np.floating]]:
    """Score and q-value of some edges, (E,) each, in the rows of a group; NaN where there is none."""
    genes, there = GeneCodes(), columns_of(path)
    wanted = [name for name in ("score", "q_value") if name in there]
    found = {name: np.full(len(edges), np.nan) for name in ("score", "q_value")}
    ends = [(edges.genes[a], edges.genes[b]) for a, b in zip(edges.source, edges.target, strict=True)]
    for block in blocks(path, ["gene_a", "gene_b", *wanted], genes, group):
        numbers = np.array([sorted(genes.index.get(gene, -1) for gene in pair) for pair in ends], np.int64)
        low, high = np.minimum(block["gene_a"], block["gene_b"]), np.maximum(block["gene_a"], block["gene_b"])
        key, asked = low.astype(np.int64) << 32 | high, numbers[:, 0] << 32 | numbers[:, 1]
        for at in np.flatnonzero(np.isin(key, asked)):
            for name in wanted:
                found[name][asked == key[at]] = block[name][at]
    return found
