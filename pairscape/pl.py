"""Pictures of an AnnData in a notebook, as matplotlib axes: a pair of genes (`pair`), and a network (`network`)."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import expand_home

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

__all__ = ["network", "pair"]


def pair(
    adata: "AnnData",
    a: str,
    b: str,
    *,
    groupby: str | None = None,
    layer: str | None = None,
    bins: int = 32,
    min_group_cells: int = 100,
    margins: bool = True,
    ax: Any = None,
) -> "NDArray[np.object_]":
    """Draw how two genes are expressed together, and where that departs from independence.

    Values are treated as `pairscape.ingest` treats them, and binned by rank, as the network `universal` sees them.

    Parameters
    ----------
    adata
        Cells × genes, counts or logarithms; it is left untouched.
    a, b
        Genes by id or symbol: a to the right, b upwards.
    groupby
        Column of obs: a panel for each group of cells, all on the same axes; several with commas between them are
        crossed. Absent: all cells together.
    layer
        In place of X; "raw" takes `.raw`.
    bins
        Bins per gene, 2 to 255; fewer show the shape where cells are few.
    min_group_cells
        Cells from which on a group is drawn; smaller ones are left out, and it is said.
    margins
        Draw above and beside the density how each gene is spread over its bins; not with groups.
    ax
        Axes to draw in, best of a figure with `layout="constrained"`: one for the density, or a sequence of two for the
        density and the residual; not with groups. Absent: a new figure.

    Returns
    -------
    (2,) Axes
        Density and residual; (1,) of one `ax`; with groups (2, M), densities above, in the order of the groups.

    Raises
    ------
    InputError
        There is no such gene, layer or column; both genes are the same; fewer than two groups are large enough; the
        values are no expression.
    """
    from pairscape.pipeline.heatmaps.drawn import bins_of, joint_counts
    from pairscape.pipeline.matrix.few_genes import few_genes
    from pairscape.pipeline.options import Binning

    _require_anndata(adata, "pair")
    if groupby is not None and ax is not None:
        raise InputError("groupby draws a panel for each group in a figure of its own: leave ax out, or groupby.")
    binning = Binning("rank", bins)
    found = few_genes(adata, (a, b), layer)
    if found.ids[0] == found.ids[1]:
        raise InputError(f"{a} and {b} are one gene: a pair is of two.")
    code = bins_of(found.values, binning)
    if groupby is None:
        return _draw_pair(joint_counts(code[:1], code[1:], bins)[0], found.names, ax, margins=margins)
    return _draw_groups(code, found.obs, found.names, (groupby, bins, min_group_cells))


def network(
    scores: "DataFrame | AnnData | str | os.PathLike[str]",
    *,
    key: str = "pairscape",
    gene: str | None = None,
    top: int = 30,
    group: str | None = None,
    random_state: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the best edges of scores, or those around a gene.

    The colour of an edge is its kind, of a network without kinds the sign of the correlation; its width is the score.

    Parameters
    ----------
    scores
        What `pairscape.predict` returned, an AnnData in which it has kept it, or its file.
    key
        Of an AnnData: the `key_added` of `predict`.
    gene
        Id or symbol, whose best partners are drawn, with edges among them that score no lower. Absent: the best edges.
    top
        How many edges, or partners of the gene.
    group
        Of scores by groups of cells, the one that is drawn. Absent: all groups combined.
    random_state
        Of the layout of large networks.
    ax
        Axes to draw in, best some 10 inches wide and of a figure with `layout="constrained"`. Absent: a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        There are no scores, no such gene or group, or `top` is below 1.
    """
    from matplotlib import pyplot as plt

    from pairscape.model.edges.edges import names_regulators
    from pairscape.model.edges.naming import by_symbol
    from pairscape.model.edges.table_edges import table_edges
    from pairscape.model.reports.network_picture import draw_network

    table = _table(scores, key)
    edges = by_symbol(table_edges(table, top, gene, group))[0]
    axes = plt.figure(layout="constrained").subplots() if ax is None else ax
    size = draw_network(axes, edges, regulators=names_regulators(table.attrs), seed=random_state)
    if ax is None:
        plt.gcf().set_size_inches(size)
    return axes


def _table(scores: Any, key: str) -> "DataFrame":
    """The table of scores that a user names."""
    from pairscape.annotated import is_anndata, kept_scores

    if is_anndata(scores):
        return kept_scores(scores, key)
    if isinstance(scores, str | os.PathLike):
        from pairscape.model.edges.scores import read_frame

        return read_frame(Path(expand_home(os.fspath(scores))))
    if not hasattr(scores, "columns"):
        raise InputError(
            f"network draws a table of scores, an AnnData or a file, and a {type(scores).__name__} is none."
        )
    return scores


def _require_anndata(adata: Any, what: str) -> None:
    from pairscape.annotated import is_anndata

    if not is_anndata(adata):
        raise InputError(
            f"{what} draws an AnnData, and this is a {type(adata).__name__}; read it first (anndata.read_h5ad)."
        )


def _draw_pair(image: Any, names: tuple[str, ...], ax: Any, *, margins: bool) -> "NDArray[np.object_]":
    import numpy as np
    from matplotlib import pyplot as plt

    from pairscape.model.reports.heatmap_figures import draw_pair

    if ax is None:
        figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.4), layout="constrained")
        figure.suptitle(f"{names[0]} and {names[1]}, {int(image.sum()):,} cells", parse_math=False)
    else:
        axes = np.array(list(ax) if isinstance(ax, Iterable) else [ax], object)
        if axes.size not in (1, 2):
            raise InputError(f"ax holds {axes.size} axes: give one for the density, or two for density and residual.")
    draw_pair(list(axes), image, *names, margins=margins)
    return axes


def _draw_groups(
    code: Any, obs: "DataFrame", names: tuple[str, ...], asked: tuple[str, int, int]
) -> "NDArray[np.object_]":
    """One panel a group; `asked` are columns, bins and the cells of the smallest group."""
    import numpy as np
    from matplotlib import pyplot as plt

    from pairscape.model.reports.heatmap_figures import GROUP_COLUMNS, MOST_GROUPS, group_figure
    from pairscape.pipeline.compute.session import say_unless
    from pairscape.pipeline.heatmaps.drawn import joint_counts
    from pairscape.pipeline.matrix.cell_groups import group_cells
    from pairscape.pipeline.options import Grouping

    by, bins, least = asked
    groups = group_cells(obs, Grouping(by, least).columns, least)
    if groups.notes:
        say_unless(False)(*groups.notes)
    own = [code[:, groups.number == number] for number in range(len(groups.names))]
    images = np.stack([joint_counts(part[:1], part[1:], bins)[0] for part in own])
    figure = group_figure(images, groups.names, names[0], names[1], figure=plt.figure(layout="constrained"))
    shown = min(len(groups.names), MOST_GROUPS)
    columns = min(GROUP_COLUMNS, shown)
    grid, place = (
        np.array(figure.axes[: -(-shown // columns) * 2 * columns], object).reshape(-1, columns),
        np.arange(shown),
    )
    return np.stack([grid[place // columns * 2 + below, place % columns] for below in (0, 1)])
