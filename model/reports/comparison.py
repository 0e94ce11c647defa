"""The page of a comparison: what changes most between two groups of cells, with the pictures of both side by side."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pairscape.model.edges.calls import CALLED_Q
from pairscape.model.reports.figures import INK, MUTED, NEGATIVE, POSITIVE, data_address, styled
from pairscape.model.reports.heatmap_figures import (
    count_key_figure,
    heatmap_svg,
    residual_key_figure,
    residual_svg,
)
from pairscape.model.reports.page import number, percent, probability, signed, whole, write_page
from pairscape.pipeline.errors import printable
from pairscape.pipeline.genes.kinds import KINDS

BEST = 6  # pairs of which pictures are shown
LISTED = 25
NAMED = 12  # pairs that are named in the plot
MOST_DOTS = 3000  # of called pairs that are drawn one by one
HEADINGS = {  # what is told of both sides, and its heading
    "correlation": "Correlation", "score": "Score", "kind": "Kind", "expressing_a": "Cells with the first gene",
    "expressing_b": "Cells with the second",
}  # fmt: skip
NEAR = (0.09, 0.035)  # of the plot's width and height, within which a second name would cover the first


@dataclass(frozen=True, eq=False)
class Comparison:
    """Pairs on two sides, the most changed first.

    Attributes
    ----------
    title
        Name of the table, without suffix.
    names, cells
        Of the two groups, or files.
    genes, symbols
        Names of all genes, and their symbols, "" where one has none; None where there are none.
    gene_a, gene_b : (P,) int32
        Into `genes`.
    columns
        Values (P,) by name of the column, NaN where unknown.
    facts
        What the table says of itself.
    """

    title: str
    names: tuple[str, str]
    cells: tuple[int, int]
    genes: tuple[str, ...]
    symbols: tuple[str, ...] | None
    gene_a: NDArray[np.int32]
    gene_b: NDArray[np.int32]
    columns: dict[str, NDArray[np.float32]]
    facts: dict[str, Any]

    def __len__(self) -> int:
        return self.gene_a.size

    @property
    def called(self) -> NDArray[np.bool_]:
        """Pairs that are called changed, (P,); none without q-values."""
        return np.asarray(self.columns.get("q_value", np.ones(len(self))) <= CALLED_Q)

    def labels(self, row: int) -> tuple[str, str]:
        """Symbols of a pair's genes, or their names."""
        a, b = (
            (self.symbols[gene] if self.symbols else "") or self.genes[gene]
            for gene in (self.gene_a[row], self.gene_b[row])
        )
        return a, b

    def lines(self, most: int = 10) -> list[str]:
        """What was found, to print."""
        first = f"{self.names[0]} ({self.cells[0]:,} cells) against {self.names[1]} ({self.cells[1]:,}): "
        return [
            first + f"{len(self):,} pairs; {self.facts['sentence']}",
            *(self._line(row) for row in range(most)[: len(self)]),
        ]

    def _line(self, row: int) -> str:
        a, b = self.labels(row)
        known = {name: float(values[row]) for name, values in self.columns.items() if not name.startswith("kind")}
        said = f"{a} {b}: correlation {known['correlation_1']:+.2f}, {known['correlation_2']:+.2f}, z {known['z']:+.1f}"
        return f"{said}, q {known['q_value']:.2g}" if "q_value" in known else said


def page_path(table: Path) -> Path:
    """Where the page of a comparison lies."""
    return table.with_suffix(".html")


def write_comparison(table: Path, found: Comparison, images: Sequence[tuple[Any, Any]]) -> Path:
    """Write the page of a comparison beside its table; returns its path.

    Parameters
    ----------
    images
        Joint counts (K, K) of the first pairs on both sides; empty where they cannot be counted.
    """
    words = {
        "name": found.title,
        "headline": headline(found),
        "lead": found.facts["sentence"],
        "facts": known_facts(found),
        "plot": data_address(change_figure(found)),
        "columns": column_words(found),
        "rows": [row_words(found, row) for row in range(min(LISTED, len(found)))],
        "names": found.names,
        "pairs": [picture_words(found, row, both) for row, both in enumerate(images)],
        "keys": [data_address(count_key_figure(max(found.cells))), data_address(residual_key_figure())],
        "record": json.dumps(found.facts, indent=2, ensure_ascii=False, default=str),
    }
    return write_page(page_path(table), "comparison.html.j2", words)


def headline(found: Comparison) -> str:
    """How many pairs change."""
    one, other = found.names
    if "q_value" not in found.columns:
        return f"{len(found):,} pairs in {one} and in {other}"
    return f"{int(found.called.sum()):,} of {len(found):,} pairs differ between {one} and {other}"


def known_facts(found: Comparison) -> list[tuple[str, str]]:
    """Pairs, cells and what was dealt, as short terms and values."""
    known = [
        ("pairs", whole(len(found))),
        *((name, f"{n:,} cells") for name, n in zip(found.names, found.cells, strict=True)),
    ]
    if "q_value" in found.columns:
        known.append(("dealt anew", found.facts.get("replicates") or "cells of like depth"))
    return known


def told_of_both(found: Comparison) -> list[str]:
    """What the table tells of both sides."""
    return [name for name in HEADINGS if f"{name}_1" in found.columns and f"{name}_2" in found.columns]


def column_words(found: Comparison) -> list[str]:
    """Headings of the table of pairs."""
    q_value = ["q-value"] if "q_value" in found.columns else []
    return ["z", *q_value, *(f"{HEADINGS[name]}: {found.names[0]} | {found.names[1]}" for name in told_of_both(found))]


def row_words(found: Comparison, row: int) -> dict[str, Any]:
    """One pair of the table: names and figures."""
    a, b = found.labels(row)
    q_value = [number(float(found.columns["q_value"][row]))] if "q_value" in found.columns else []
    both = [
        " | ".join(_cell(name, found.columns[f"{name}_{side}"][row]) for side in (1, 2)) for name in told_of_both(found)
    ]
    cells = [f"{found.columns['z'][row]:+.1f}".replace("-", "−"), *q_value, *both]
    return {"rank": row + 1, "gene_a": a, "gene_b": b, "cells": cells}


def _cell(name: str, value: np.float32) -> str:
    """A value of a column in words."""
    if np.isnan(value):
        return "–"
    if name.startswith("kind"):
        return KINDS[int(value)]
    if name == "correlation":
        return f"{value:+.2f}".replace("-", "−")
    return str((probability if name == "score" else percent)(float(value)))


def picture_words(found: Comparison, row: int, images: tuple[Any, Any]) -> dict[str, Any]:
    """Heatmap and residual of a pair on either side."""
    a, b = found.labels(row)
    sides = [
        {
            "name": name,
            "counts": data_address(heatmap_svg(image, a, b)),
            "residual": data_address(residual_svg(image, a, b)),
            "correlation": signed(float(found.columns[f"correlation_{at}"][row])),
        }
        for at, (name, image) in enumerate(zip(found.names, images, strict=True), 1)
    ]
    return {"gene_a": a, "gene_b": b, "sides": sides}


def _nameable(axes: Axes, x: NDArray[np.float32], y: NDArray[np.float32], rows: NDArray[np.int64]) -> list[int]:
    """Those of some pairs that are not so near to an earlier one that their names would cover each other."""
    at = axes.transLimits.transform(np.stack([x[rows], y[rows]], 1))
    kept: list[int] = []
    for one in range(len(rows)):
        if not any((np.abs(at[one] - at[other]) < NEAR).all() for other in kept):
            kept.append(one)
    return [int(rows[one]) for one in kept]


@styled
def change_figure(found: Comparison) -> Figure:
    """Each pair by its change of correlation and of evidence: called ones in colour, the most changed named."""
    x = found.columns["correlation_1"] - found.columns["correlation_2"]
    y, called = found.columns["evidence"], found.called
    known = ~np.isnan(x) & ~np.isnan(y)
    figure = Figure(figsize=(10.6, 5.2), layout="constrained")
    axes = figure.subplots()
    rest = known & ~called
    if rest.any():
        axes.hexbin(x[rest], y[rest], gridsize=(90, 45), bins="log", mincnt=1, cmap="Greys", linewidths=0, zorder=2)
    shown = np.flatnonzero(known & called)[:MOST_DOTS]
    colours = np.where(x[shown] > 0, POSITIVE, NEGATIVE)
    axes.scatter(x[shown], y[shown], s=9, c=colours.tolist(), linewidths=0, alpha=0.8, zorder=3)
    for row in _nameable(axes, x, y, np.flatnonzero(known)[: 4 * NAMED])[:NAMED]:
        axes.annotate(
            printable(" – ".join(found.labels(row))), (x[row], y[row]), (4, 3), textcoords="offset points", fontsize=7,
            color=INK, parse_math=False, zorder=4,
        )  # fmt: skip
    one, other = (printable(name) for name in found.names)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_xlabel(f"correlation in {one} less that in {other}", parse_math=False)
    axes.set_ylabel(f"log-odds of dependence in {one} less those in {other}", parse_math=False)
    axes.set_title(
        "Change of correlation and of evidence; grey: not called, darker where there are more", parse_math=False
    )
    return figure
