"""Heatmaps of gene pairs as matplotlib figures: single pairs, grids of pairs, and the mean image of each class.

In come joint counts (K, K), row = bin of gene b; `figures` has the style and turns a figure into SVG.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, NullLocator
from numpy.typing import NDArray
from PIL import Image

from pairscape.model.reports.figures import FONTS, INK, MUTED, THEME, drawn_name, styled, themed
from pairscape.pipeline.errors import InputError, printable
from pairscape.pipeline.storage.ownership import require_own_file
from pairscape.pipeline.storage.write import replaced

PICTURE = "pairscape-picture 1"  # our mark in the metadata of a picture, where its format names the maker
MAKER = {".png": "Software", ".svg": "Creator", ".pdf": "Creator"}
RESIDUAL_LIMIT = 5.0  # standard deviations from which on a bin of a single pair has the full colour
DENSITY_FLOOR = 1e-5  # share of cells below which a bin of a mean image counts as empty
RATIO_FLOOR = 1e-4  # share of cells added to both classes before they are divided: rare bins are mostly noise


class ColourScale(NamedTuple):
    """Values to colours, and the legend that explains them."""

    norm: Normalize
    colours: Colormap
    label: str = ""
    text: FuncFormatter | None = None
    ticks: Sequence[float] | Locator | None = None

    @property
    def mappable(self) -> ScalarMappable:
        """What matplotlib draws a colour bar of."""
        return ScalarMappable(self.norm, self.colours)


COUNT_WORDS = FuncFormatter(lambda count, _: f"{count:,.0f}")
SHARE_WORDS = FuncFormatter(lambda share, _: f"{100 * share:g} %")
RATIO_WORDS = FuncFormatter(lambda log, _: f"×{10**log:.2g}")


def _signed_words(form: str) -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value:{form}}".replace("-", "−") if value else "0")


def _of_counts(cells: int, paper: str = "dark") -> ColourScale:
    return ColourScale(LogNorm(1, max(cells, 2)), _density_map(paper), "cells", COUNT_WORDS)


def _density_map(paper: str = "dark") -> Colormap:
    """Viridis without the end that is like the paper, so that a bin of one cell stands out from an empty one."""
    start, end, empty = (0.2, 1, "#2a1040") if paper == "dark" else (0.88, 0, "#ffffff")
    colours = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(start, end, 256)))
    return colours.with_extremes(under=empty, bad=empty)


def coarsened(images: NDArray[np.integer], bins: int | None) -> NDArray[np.integer]:
    """Neighbouring bins of images (..., K, K) added up to (..., bins, bins); None leaves them as they are.

    Raises
    ------
    InputError
        K is no multiple of the bins.
    """
    counted = images.shape[-1]
    if bins in (None, counted):
        return images
    if counted % bins:
        fitting = ", ".join(str(fewer) for fewer in range(2, counted + 1) if counted % fewer == 0)
        raise InputError(
            f"bins is {bins}: the images have {counted}, of which whole ones are added up; give {fitting}."
        )
    parts = images.reshape(*images.shape[:-2], bins, counted // bins, bins, counted // bins)
    return np.asarray(parts.sum(axis=(-3, -1)))


def _around_zero(limit: float, label: str, text: FuncFormatter | None, ticks: Sequence[float] | None) -> ColourScale:
    return ColourScale(Normalize(-limit, limit), matplotlib.colormaps["RdBu_r"], label, text, ticks)


RESIDUALS = _around_zero(RESIDUAL_LIMIT, "against independence", None, None)  # of single pairs


# ---------------------------------------------------------------- single pairs


def require_own_picture(path: Path) -> None:
    """Refuse to draw over a file that is no picture of ours.

    Raises
    ------
    InputError
        It is something else, or of a version that left no mark.
    """
    require_own_file(path, PICTURE.encode())


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the suffix, whole, with our mark; one that is there has to be ours too.

    Raises
    ------
    InputError
        As `require_own_picture`.
    """
    require_own_picture(path)
    with replaced(path) as part:
        figure.savefig(part, format=path.suffix[1:], bbox_inches="tight", metadata={MAKER[path.suffix]: PICTURE})


@styled
def pair_figure(
    images: NDArray[np.integer],
    titles: Sequence[str],
    gene_a: Sequence[str],
    gene_b: Sequence[str],
    *,
    residual: bool = False,
    columns: int = 4,
    paper: str = "dark",
    title: str = "",
) -> Figure:
    """Heatmaps of chosen pairs in a grid, on one colour scale.

    Parameters
    ----------
    images : (n, K, K)
        Counts of cells; row = bin of gene_b, column = bin of gene_a.
    titles
        n lines above the heatmaps.
    gene_a, gene_b
        n names each, for the horizontal and the vertical axis.
    residual
        Draw beneath each heatmap its deviation from independence, (count - expected) / sqrt(expected + 0.25).
    columns
        Heatmaps beside each other, at most.
    paper
        Colour of bins without a cell, dark or light.
    title
        Line above all heatmaps.
    """
    columns = min(columns, len(images))
    stacked = 2 if residual else 1
    rows = ceil(len(images) / columns) * stacked
    figure = Figure(figsize=(2.5 * columns + 0.9, 2.75 * rows + 0.1), layout="constrained", dpi=150)
    axes = figure.subplots(rows, columns, squeeze=False)
    for unused in axes.flat:
        unused.set_axis_off()
    scale = _of_counts(int(images[0].sum()), paper)
    if title:
        figure.suptitle(printable(title), parse_math=False)
    for i, image in enumerate(images):
        row, column = i // columns * stacked, i % columns
        _draw(axes[row, column], image, scale, gene_a[i], gene_b[i])
        axes[row, column].set_title(titles[i], parse_math=False)
        if residual:
            _draw(axes[row + 1, column], independence_residual(image), RESIDUALS, gene_a[i], gene_b[i])
    _scale_beside(figure, axes[:1] if residual else axes, scale)
    if residual:
        _scale_beside(figure, axes[1:2], RESIDUALS)
    return figure


@styled
def draw_pair(
    axes: Sequence[Axes], image: NDArray[np.integer], gene_a: str, gene_b: str, *, margins: bool = True
) -> None:
    """Draw one pair into given axes: the density, and where there are second axes the residual.

    Parameters
    ----------
    axes
        One or two, of one figure.
    image : (K, K)
        Counts of cells; row = bin of gene_b, column = bin of gene_a.
    margins
        Draw above and beside the density how the cells of each gene are spread over its bins.
    """
    scales = (_of_counts(int(image.sum())), RESIDUALS)
    if margins:
        _draw_margins(axes[0], image)
    for panel, values, scale in zip(axes, (image, independence_residual(image)), scales, strict=False):
        _draw(panel, values, scale, gene_a, gene_b)
        beside = 1.05 + 0.18 * (margins and panel is axes[0])
        bar = panel.figure.colorbar(scale.mappable, cax=panel.inset_axes((beside, 0.15, 0.03, 0.7)), format=scale.text)
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.outline.set_visible(False)
        bar.set_label(scale.label)


def _draw_margins(axes: Axes, image: NDArray[np.integer]) -> None:
    """Bars above the picture for gene a and to its right for gene b, both on one log scale of cells."""
    above, beside = axes.inset_axes((0, 1.02, 1, 0.16)), axes.inset_axes((1.02, 0, 0.16, 1))
    of_a, of_b, bins = image.sum(axis=0), image.sum(axis=1), np.arange(len(image))
    above.bar(bins, of_a, width=1.0, color=MUTED)
    beside.barh(bins, of_b, height=1.0, color=MUTED)
    scale, edges = (0.5, 1.05 * max(of_a.max(), of_b.max(), 1)), (-0.5, len(image) - 0.5)
    above.set(xlim=edges, yscale="log", ylim=scale)
    beside.set(ylim=edges, xscale="log", xlim=scale)
    for panel in (above, beside):
        panel.set_axis_off()


GROUP_COLUMNS, MOST_GROUPS = 5, 60  # panels beside each other; groups that are drawn, the largest


@styled
def group_figure(
    images: NDArray[np.integer],
    names: Sequence[str],
    gene_a: str,
    gene_b: str,
    *,
    columns: int = GROUP_COLUMNS,
    paper: str = "dark",
    figure: Figure | None = None,
) -> Figure:
    """Heatmaps of one pair in groups of cells, and beneath each where it departs from independence.

    All have the same axes, and one scale of colours: the share of a group's cells, so that groups of any size compare.

    Parameters
    ----------
    images : (M, K, K)
        Counts of cells; row = bin of gene_b, column = bin of gene_a.
    names
        Of the groups. Beyond `MOST_GROUPS` the largest are drawn.
    figure
        An empty one to draw in. Absent: a new one.
    """
    cells = images.sum(axis=(1, 2), dtype=np.int64)
    shown = np.sort(np.argsort(-cells, kind="stable")[:MOST_GROUPS])
    columns = min(columns, shown.size)
    rows = ceil(shown.size / columns)
    figure = Figure(layout="constrained", dpi=150) if figure is None else figure
    figure.set_size_inches(2.05 * columns + 1.0, 4.6 * rows + 0.1)
    axes = figure.subplots(2 * rows, columns, squeeze=False, sharex=True, sharey=True)
    for unused in axes.flat:
        unused.set_axis_off()
    norm, words = LogNorm(1 / cells[shown].max(), 1), "share of the group's cells"
    scale = ColourScale(norm, _density_map(paper), words, SHARE_WORDS)
    figure.suptitle(f"{drawn_name(gene_a)} and {drawn_name(gene_b)}", parse_math=False)
    for place, group in enumerate(shown.tolist()):
        row, column = place // columns * 2, place % columns
        _draw(axes[row, column], images[group] / cells[group], scale, gene_a, gene_b)
        axes[row, column].set_title(f"{drawn_name(names[group], 26)}\n{cells[group]:,} cells", parse_math=False)
        _draw(axes[row + 1, column], independence_residual(images[group]), RESIDUALS, gene_a, gene_b)
    _scale_beside(figure, axes[:1], scale)
    _scale_beside(figure, axes[1:2], RESIDUALS)
    return figure


def heatmap_svg(image: NDArray[np.integer], gene_a: str, gene_b: str) -> str:
    """One pair's (K, K) counts on a log colour scale, gene_a to the right and gene_b upwards, as SVG."""
    return _small_svg(image, _of_counts(int(image.sum())), gene_a, gene_b)


def residual_svg(image: NDArray[np.integer], gene_a: str, gene_b: str) -> str:
    """One pair's (K, K) counts as deviation from independence, gene_a to the right and gene_b upwards, as SVG."""
    return _small_svg(independence_residual(image), RESIDUALS, gene_a, gene_b)


SMALL_SVG = """<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="115.2pt" height="115.2pt" \
viewBox="0 0 115.2 115.2" xmlns="http://www.w3.org/2000/svg" version="1.1">{theme}
<image xlink:href="data:image/png;base64,{pixels}" width="{size}" height="{size}" \
transform="matrix({scale} 0 0 {scale} 16.128 1.152)" style="image-rendering:crisp-edges;image-rendering:pixelated"/>
<g style="font-size: 8.5px; font-family: {font}; text-anchor: middle; fill: {ink}">
<text x="65.088" y="108.53">{gene_a}</text>
<text x="11.086" y="50.112" transform="rotate(-90 11.086 50.112)">{gene_b}</text>
</g>
</svg>
"""


def _small_svg(image: NDArray[Any], scale: ColourScale, gene_a: str, gene_b: str) -> str:
    """A picture for a page that has dozens, without axes of matplotlib, which take longer than all else of a report."""
    colours, png = scale.colours(scale.norm(image), bytes=True)[::-1], io.BytesIO()
    Image.fromarray(np.ascontiguousarray(colours)).save(png, "PNG")
    return SMALL_SVG.format(
        theme=THEME, pixels=base64.b64encode(png.getvalue()).decode(), size=len(image), scale=97.92 / len(image),
        font=f"{FONTS}, sans-serif", ink=themed(INK),
        gene_a=escape(drawn_name(gene_a)), gene_b=escape(drawn_name(gene_b)),
    )  # fmt: skip


def residual_key_figure() -> Figure:
    """The colour scale shared by all residuals of single pairs."""
    return _key_figure(RESIDUALS._replace(text=_signed_words("+.0f"), ticks=[-4, -2, 0, 2, 4]))


def count_key_figure(cells: int) -> Figure:
    """The colour scale shared by all heatmaps of `cells` cells."""
    return _key_figure(_of_counts(cells)._replace(ticks=LogLocator(numticks=6)))


@styled
def _key_figure(scale: ColourScale) -> Figure:
    figure = Figure(figsize=(3.2, 0.42))
    axes = figure.add_axes((0.02, 0.62, 0.96, 0.3))
    bar = figure.colorbar(scale.mappable, cax=axes, orientation="horizontal", format=scale.text, ticks=scale.ticks)
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)
    return figure


def independence_residual(image: NDArray[np.integer]) -> NDArray[np.float64]:
    """(K, K) counts → (K, K) float64, (count - expected) / sqrt(expected + 0.25); expected from the marginals."""
    counts = image.astype(np.float64)
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / max(counts.sum(), 1.0)
    return np.asarray((counts - expected) / np.sqrt(expected + 0.25))


def _draw(axes: Axes, image: NDArray[Any], scale: ColourScale, gene_a: str, gene_b: str) -> None:
    # interpolation "none" puts the K x K pixels themselves into an SVG: small, and sharp at every zoom
    axes.imshow(image, norm=scale.norm, cmap=scale.colours, origin="lower", interpolation="none")
    _name_axes(axes, gene_a, gene_b, INK)


def _name_axes(axes: Axes, gene_a: str, gene_b: str, colour: str) -> None:
    """Axis labels without ticks; a dollar sign in a gene's name is a dollar sign."""
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(drawn_name(gene_a), parse_math=False, color=colour, labelpad=3)
    axes.set_ylabel(drawn_name(gene_b), parse_math=False, color=colour, labelpad=3)


def _scale_beside(figure: Figure, axes: NDArray[np.object_], scale: ColourScale) -> None:
    bar = figure.colorbar(scale.mappable, ax=axes.ravel().tolist(), shrink=0.6, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_minor_locator(NullLocator())
    if scale.text is not None:
        bar.ax.yaxis.set_major_formatter(scale.text)
    bar.set_label(scale.label)


# ---------------------------------------------------------------- mean images


def mean_density_figure(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> Figure:
    """Mean image of each class, (K, K) shares of cells on a log scale, and log10 of their ratio."""
    difference = np.log10(positive + RATIO_FLOOR) - np.log10(negative + RATIO_FLOOR)
    limit = _symmetric_limit(difference)
    outer = max([log for log in np.log10([1.1, 1.2, 1.5, 2, 5, 10]) if log < limit], default=0.0)
    shares = ColourScale(LogNorm(DENSITY_FLOOR, 1), _density_map(), "share of the cells", SHARE_WORDS)
    ratios = _around_zero(limit, "positive ÷ other", RATIO_WORDS, sorted({-outer, 0.0, outer}))
    return _classes_figure(positive, negative, difference, shares, ratios)


def mean_residual_figure(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> Figure:
    """Mean (K, K) residual of each class and their difference, in standard deviations around 0."""
    difference, text = positive - negative, _signed_words("+.2g")
    scale = _around_zero(_symmetric_limit(np.stack([positive, negative])), "mean residual", text, None)
    apart = _around_zero(_symmetric_limit(difference), "positive − other", text, None)
    return _classes_figure(positive, negative, difference, scale, apart)


@styled
def _classes_figure(
    positive: NDArray[np.floating],
    negative: NDArray[np.floating],
    difference: NDArray[np.floating],
    scale: ColourScale,
    apart: ColourScale,
) -> Figure:
    """Both classes on one scale, and their difference on another."""
    figure = Figure(figsize=(10.2, 3.85))
    panels = [figure.add_axes((left, 0.19, 0.285, 0.735)) for left in (0.025, 0.345, 0.69)]
    drawn = (("positive pairs", positive, scale), ("other pairs", negative, scale), ("difference", difference, apart))
    for panel, (title, image, own) in zip(panels, drawn, strict=True):
        panel.imshow(image, norm=own.norm, cmap=own.colours, origin="lower", interpolation="none")
        panel.set_title(title)
        _name_axes(panel, "gene a →", "gene b →", MUTED)
    _scale_below(figure, panels[:2], scale)
    _scale_below(figure, panels[2:], apart)
    return figure


def _scale_below(figure: Figure, panels: Sequence[Axes], scale: ColourScale) -> None:
    """A thin horizontal colour scale under the panels that share it, its meaning written to the left."""
    left, right = panels[0].get_position().x0, panels[-1].get_position().x1
    words = 0.0065 * len(scale.label) + 0.012  # a letter's mean width as a share of the figure's
    axes = figure.add_axes((left + words, 0.085, right - left - words - 0.015, 0.028))
    bar = figure.colorbar(scale.mappable, cax=axes, orientation="horizontal", format=scale.text, ticks=scale.ticks)
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)
    figure.text(left, 0.099, scale.label, color=MUTED, va="center")


def _symmetric_limit(values: NDArray[np.floating]) -> float:
    """The 99.5th percentile of |values|: one hot corner must not wash out the rest."""
    known = np.abs(values[np.isfinite(values)])
    return max(float(np.percentile(known, 99.5)), 1e-6) if known.size else 1.0
