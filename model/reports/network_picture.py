"""A picture of a small network: edges in, a figure out; each connected part laid out by itself, labels kept apart."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from numpy.typing import NDArray

from pairscape.model.edges.edges import Edges
from pairscape.model.edges.formats import graph_of
from pairscape.model.reports.figures import (
    BROWN,
    GREEN,
    INK,
    KIND_COLOURS,
    LINE,
    MUTED,
    NEGATIVE,
    OLIVE,
    PAPER,
    POSITIVE,
    PURPLE,
    SKY,
    drawn_name,
    styled,
)

WIDTH = 10.6  # inches, as wide as the page
KEY_HEIGHT = 0.4  # inches above the picture, for what its marks mean
KEY_WIDTH, KEY_COLUMNS = 7.2, 4  # inches, and marks in a row, where the key stands above given axes
SPACING = 0.85  # inches between neighbours in a part
MARGIN = (0.85, 0.34)  # inches around a part, for labels to its sides and above
LETTER = (0.068, 0.14)  # inches: a letter's mean width, a line's height
MOST_EXACT = 150  # genes of a part from which on a layout by all distances takes too long
CURVE = "arc3,rad=0.09"  # so that two edges in one line do not look like a single one
APART = 0.09  # inches from a node's middle to its label

MODULE_COLOURS = (INK, PURPLE, GREEN, BROWN, SKY, OLIVE)

Places = dict[str, NDArray[np.float64]]
Box = tuple[float, float, float, float]  # left, bottom, right, top


class LaidOut(NamedTuple):
    """A network with the place of each gene in inches, and the height that it takes."""

    graph: nx.Graph
    places: Places
    height: float
    regulators: bool


@styled
def network_figure(
    edges: Edges, *, regulators: bool, modules: Mapping[str, int] | None = None, seed: int = 0
) -> Figure:
    """Draw some tens of edges; more cannot be distinguished.

    The colour of an edge is its kind, of a network without kinds the sign of its correlation; its width is the score;
    with `regulators` the sources are squares; with `modules`, from 1 by name of the gene, genes have the colours of
    these; edges have arrows where the network gives the direction. `seed` is of the layout.
    """
    graph = graph_of(edges, regulators=regulators)
    laid = LaidOut(graph, *lay_out(graph, seed), regulators)
    figure = Figure(figsize=(WIDTH, laid.height + KEY_HEIGHT))
    axes = figure.add_axes((0, 0, 1, laid.height / (laid.height + KEY_HEIGHT)))
    _draw(axes, figure, laid, edges.directed, modules or {})
    return figure


@styled
def draw_network(axes: Axes, edges: Edges, *, regulators: bool, seed: int = 0) -> tuple[float, float]:
    """Draw some tens of edges into given axes, as `network_figure`; returns the width and height that suit them."""
    graph = graph_of(edges, regulators=regulators)
    laid = LaidOut(graph, *lay_out(graph, seed), regulators)
    _draw(axes, axes, laid, edges.directed, {})
    width = max(x for x, _ in laid.places.values()) + MARGIN[0]
    axes.set_xlim(0, width)
    return max(width, KEY_WIDTH), laid.height + 2 * KEY_HEIGHT


def _draw(axes: Axes, key: Axes | Figure, laid: LaidOut, directed: bool, modules: Mapping[str, int]) -> None:
    """Draw a network into axes, and what its marks mean into `key`, above the picture."""
    graph, places, height, regulators = laid
    axes.set(xlim=(0, WIDTH), ylim=(0, height), aspect="equal")
    axes.set_axis_off()
    _draw_edges(axes, graph, places)
    _draw_nodes(axes, graph, places, {gene: _module_colour(module) for gene, module in modules.items()})
    for gene, (x, y), align in label_places(graph, places):
        text = axes.text(x, y, drawn_name(gene), ha=align, va="center", fontsize=8, parse_math=False, zorder=4)
        text.set_bbox({"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.4})
    marks = [_mark(_module_colour(module), "o", f"module {module}") for module in sorted(set(modules.values()))]
    _add_key(key, _colours(graph), marks, regulators=regulators, directed=directed)


# ---------------------------------------------------------------- where the genes are


def lay_out(graph: nx.Graph, seed: int) -> tuple[Places, float]:
    """Place of each gene in inches, and the height that is needed: parts in rows, the largest first."""
    near = nx.Graph()  # without weights: the score says how sure an edge is, not how long
    near.add_nodes_from(sorted(graph))
    near.add_edges_from(sorted(map(sorted, graph.edges)))
    parts = sorted(nx.connected_components(near), key=lambda part: (-len(part), min(part)))
    places: Places = {}
    left = top = lowest = 0.0
    for part in parts:
        own = lay_out_part(near, sorted(part), seed)
        width, height = _size(own)
        if left > 0 and left + width > WIDTH:
            left, top = 0.0, lowest
        for gene, place in own.items():
            places[gene] = place + np.array([left + MARGIN[0], top + MARGIN[1]])
        left, lowest = left + width, max(lowest, top + height)
    return {gene: np.array([x, lowest - y]) for gene, (x, y) in places.items()}, lowest


def lay_out_part(near: nx.Graph, genes: list[str], seed: int) -> Places:
    """One connected part from (0, 0) on, in inches, lying down rather than standing."""
    if len(genes) == 2:
        return {genes[0]: np.array([0.0, 0.0]), genes[1]: np.array([0.0, 0.62])}
    part = nx.Graph()  # not a subgraph, whose order is that of a set and differs from run to run
    part.add_nodes_from(genes)
    part.add_edges_from((a, b) for a in genes for b in sorted(near[a]))
    first = nx.circular_layout(part)
    small = len(genes) <= MOST_EXACT
    found = nx.kamada_kawai_layout(part, pos=first) if small else nx.spring_layout(part, pos=first, seed=seed)
    at = np.array([found[gene] for gene in genes])
    at = _lying(at - at.mean(0))
    at = at * (SPACING / max(_nearest(at), 1e-9)) if len(genes) > 2 else at
    room = np.array([WIDTH - 2 * MARGIN[0], 7.0])
    return dict(zip(genes, _fitted(at - at.min(0), room), strict=True))


def _lying(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turned so that the longest extent is horizontal, with a fixed sense of left and up."""
    _, _, axes = np.linalg.svd(at, full_matrices=False)
    return at @ (axes * np.where(axes.sum(1) < 0, -1, 1)[:, None]).T


def _nearest(at: NDArray[np.float64]) -> float:
    """Median distance from a gene to the next."""
    apart = np.linalg.norm(at[:, None] - at[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return float(np.median(apart.min(1)))


def _fitted(at: NDArray[np.float64], room: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(at * np.minimum(1.0, room / np.maximum(at.max(0), 1e-9)))


def _size(places: Places) -> tuple[float, float]:
    width, height = np.max(list(places.values()), axis=0)
    return float(width) + 2 * MARGIN[0], float(height) + 2 * MARGIN[1]


# ---------------------------------------------------------------- labels


def label_places(graph: nx.Graph, places: Places) -> Iterator[tuple[str, tuple[float, float], str]]:
    """For each gene the place of its label among eight around it that covers least, those of most edges first."""
    taken = [_around(place, 0.07) for place in places.values()]
    lines = [np.linspace(places[a], places[b], 12)[1:-1] for a, b in graph.edges]
    along = np.concatenate(lines) if lines else np.empty((0, 2))
    for gene in sorted(graph, key=lambda gene: (-graph.degree(gene), gene)):
        choices = list(_choices(gene, places[gene]))
        others = np.array(taken)
        cost = [_covered(box, others, along) + 0.01 * at for at, (_, _, box) in enumerate(choices)]
        place, align, box = choices[int(np.argmin(cost))]
        taken.append(box)
        yield gene, place, align


def _choices(gene: str, place: NDArray[np.float64]) -> Iterator[tuple[tuple[float, float], str, Box]]:
    x, y = place
    width, height = LETTER[0] * len(drawn_name(gene)), LETTER[1]
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        at = (x + dx * APART * (1 if dy == 0 else 0.6), y + dy * (APART + height / 2) * (1 if dx == 0 else 0.8))
        left = at[0] - width * (1 - dx) / 2
        yield (
            at,
            {1: "left", -1: "right", 0: "center"}[dx],
            (left, at[1] - height / 2, left + width, at[1] + height / 2),
        )


def _around(place: NDArray[np.float64], radius: float) -> Box:
    x, y = place
    return x - radius, y - radius, x + radius, y + radius


def _covered(box: Box, others: NDArray[np.float64], along: NDArray[np.float64]) -> float:
    """How much of other labels and nodes a label would cover, as shares of its own area, and of edges a little."""
    wide = np.minimum(others[:, 2], box[2]) - np.maximum(others[:, 0], box[0])
    high = np.minimum(others[:, 3], box[3]) - np.maximum(others[:, 1], box[1])
    shared = (np.clip(wide, 0, None) * np.clip(high, 0, None)).sum() / ((box[2] - box[0]) * (box[3] - box[1]))
    inside = (along >= box[:2]).all(1) & (along <= box[2:]).all(1)
    outside = box[0] < 0 or box[2] > WIDTH
    return float(10 * shared + 0.3 * inside.sum() + 5 * outside)


# ---------------------------------------------------------------- drawing


def _look(known: Mapping[str, Any]) -> tuple[str, str]:
    """What the colour of an edge says, and the colour."""
    if (kind := known.get("kind")) is not None:
        return kind, KIND_COLOURS[kind]
    return ("below 0", NEGATIVE) if known.get("correlation", 0.0) < 0 else ("correlation above 0", POSITIVE)


def _colours(graph: nx.Graph) -> dict[str, str]:
    """Every colour by what it says: both signs, or the kinds that are there in their order."""
    looks = [_look({"correlation": 1.0}), _look({"correlation": -1.0})]
    there = {_look(known) for _, _, known in graph.edges(data=True)}
    kinds = [look for look in KIND_COLOURS.items() if look in there]
    return dict([*kinds, *(look for look in looks if look in there)] if kinds else looks)


def _draw_edges(axes: Axes, graph: nx.Graph, places: Places) -> None:
    style = "-|>,head_length=3,head_width=1.6" if graph.is_directed() else "-"
    for a, b, known in graph.edges(data=True):
        (x, y), (z, w) = places[a].tolist(), places[b].tolist()
        _, colour = _look(known)
        line = FancyArrowPatch(
            (x, y), (z, w), arrowstyle=style, shrinkA=4, shrinkB=5, color=colour, connectionstyle=CURVE
        )
        line.set(linewidth=0.4 + 1.2 * known["weight"], alpha=0.75, zorder=2)
        axes.add_artist(line)  # add_patch would work out limits, which are given


def _module_colour(module: int) -> str:
    return MODULE_COLOURS[(module - 1) % len(MODULE_COLOURS)]


def _mark(colour: str, marker: str, words: str) -> Line2D:
    """What a gene looks like, for the key."""
    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=5.5, label=words)


def _draw_nodes(axes: Axes, graph: nx.Graph, places: Places, colours: Mapping[str, str]) -> None:
    for marked, marker, size in ((False, "o", 26), (True, "s", 44)):
        genes = [gene for gene, known in graph.nodes(data=True) if bool(known.get("regulator")) == marked]
        if genes:
            x, y = np.array([places[gene] for gene in genes]).T
            looks = [colours.get(gene, INK if marked else MUTED) for gene in genes]
            axes.scatter(x, y, s=size, marker=marker, c=looks, linewidths=0, zorder=3)


def _add_key(
    key: Axes | Figure, colours: Mapping[str, str], nodes: Sequence[Line2D], *, regulators: bool, directed: bool
) -> None:
    """What the marks mean, above the picture."""
    marks = [Line2D([], [], color=colour, linewidth=2, label=words) for words, colour in colours.items()]
    marks += [_mark(INK, "s", "regulator"), _mark(MUTED, "o", "target")] if regulators else nodes
    width = "arrow: direction as told by the network" if directed else "no direction told"
    marks.append(Line2D([], [], color=LINE, linewidth=1, label=f"thicker: higher score; {width}"))
    place: dict[str, Any] = {"loc": "upper left", "ncols": len(marks)}
    if isinstance(key, Axes):
        place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": KEY_COLUMNS}
    key.legend(handles=marks, **place, borderaxespad=0.2, handlelength=1.6, fontsize=8)
