"""The picture that `show` draws of a file of scores: heatmaps of chosen pairs in a grid."""

import numpy as np
from matplotlib.figure import Figure

from pairscape.model.edges.edges import Edges
from pairscape.model.edges.evidence import Evidence
from pairscape.model.options import Drawing
from pairscape.model.reports.heatmap_figures import coarsened, pair_figure
from pairscape.model.reports.page import probability


def draw_evidence(found: Evidence, drawing: Drawing = Drawing(), title: str = "") -> Figure:
    """The heatmaps in a grid, each with its residual beneath and its score above. Raises as `coarsened`."""
    edges = found.edges
    titles = [title_of(edges, row) for row in range(len(edges))]
    names = edges.labels(edges.source), edges.labels(edges.target)
    counts = coarsened(found.counts, drawing.bins)
    return pair_figure(counts, titles, *names, residual=True, paper=drawing.paper, title=title)


def title_of(edges: Edges, row: int) -> str:
    """Score and correlation of an edge in a few letters."""
    score, correlation = float(edges.weight[row]), edges.columns.get("correlation", np.full(len(edges), np.nan))[row]
    words = "not scored" if np.isnan(score) else f"score {probability(score)}"
    words = f"{kind}, {words}" if (kind := next(iter(edges.some(slice(row, row + 1)).kinds), None)) else words
    return words if np.isnan(correlation) else f"{words}, ρ {correlation:+.2f}".replace("-", "−")
