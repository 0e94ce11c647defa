"""The pictures of a run, as matplotlib `Figure` objects: no pyplot, hence no window and nothing global.

One inch of figure is 100 pixels of the report, so that letters have one size on the whole page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

INK, MUTED, LINE, PAPER = "#1c2733", "#66727f", "#d9dee4", "#fefefe"
DARK_THEME = {INK: "#e6eaee", MUTED: "#9aa6b2", LINE: "#3a444f", PAPER: "#14191f"}

# Okabe and Ito's colours, told apart by readers of every kind of colour vision
NEGATIVE, POSITIVE = "#0072b2", "#d55e00"
GREEN, PURPLE, SKY, AMBER, BROWN = "#009e73", "#b8578f", "#3a9bdc", "#d99000", "#8c613c"

# column of predictions.parquet: name in words, colour, dashes
SCORERS: dict[str, tuple[str, str, Any]] = {
    "score": ("CNN", INK, "-"),
    "spearman": ("|Spearman|", GREEN, "-"),
    "pearson": ("|Pearson|", SKY, "-"),
    "mutual_information": ("mutual information", PURPLE, "-"),
    "marginals_only": ("marginals only", AMBER, "--"),
    "factors_only": ("factors only", BROWN, "--"),
    "labels_only": ("labels only", MUTED, "-."),
    "labels_only_regulator": ("regulator's labels", MUTED, ":"),
    "labels_only_target": ("target's labels", MUTED, (0, (6, 2))),
}

RESIDUAL_LIMIT = 5.0  # standard deviations from which on a bin of a single pair has the full colour
DENSITY_FLOOR = 1e-5  # share of cells below which a bin of a mean image counts as empty
RATIO_FLOOR = 1e-4  # share of cells added to both classes before they are divided: rare bins are mostly noise

STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.solid_capstyle": "round",
}

styled = matplotlib.rc_context(STYLE)  # type: ignore[arg-type]  # the stub knows literal keys only


# ---------------------------------------------------------------- heatmaps of pairs


@styled
def pair_figure(
    images: NDArray[np.integer],
    titles: Sequence[str],
    gene_a: Sequence[str],
    gene_b: Sequence[str],
    *,
    residual: bool = False,
    columns: int = 4,
) -> Figure:
    """Heatmaps of chosen pairs in a grid, on one colour scale.

    Parameters
    ----------
    images
        (n, K, K) counts of cells; row = bin of gene_b, column = bin of gene_a.
    titles
        n lines above the heatmaps; an empty one leaves the place free.
    gene_a, gene_b
        n names each, for the horizontal and the vertical axis.
    residual
        Draw beneath each heatmap its deviation from independence, (count - expected) / sqrt(expected + 0.25).
    columns
        Heatmaps beside each other, at most.

    Returns
    -------
    Figure
        Save it with `figure.savefig(path)`; the suffix (png, svg, pdf) decides the format.
    """
    columns = min(columns, len(images))
    stacked = 2 if residual else 1
    rows = ceil(len(images) / columns) * stacked
    figure = Figure(figsize=(2.5 * columns + 0.9, 2.75 * rows + 0.1), layout="constrained", dpi=150)
    axes = figure.subplots(rows, columns, squeeze=False)
    for unused in axes.flat:
        unused.set_axis_off()
    cells = int(images[0].sum())
    for i, image in enumerate(images):
        row, column = i // columns * stacked, i % columns
        _draw_counts(axes[row, column], image, gene_a[i], gene_b[i], cells)
        axes[row, column].set_title(titles[i], parse_math=False)
        if residual:
            _draw_residual(axes[row + 1, column], independence_residual(image), RESIDUAL_LIMIT)
            _name_axes(axes[row + 1, column], gene_a[i], gene_b[i])
    _add_key(figure, axes[:1] if residual else axes, _count_norm(cells), _density_map(), "cells")
    if residual:
        _add_key(
            figure,
            axes[1:2],
            Normalize(-RESIDUAL_LIMIT, RESIDUAL_LIMIT),
            matplotlib.colormaps["RdBu_r"],
            "against independence",
        )
    return figure


@styled
def heatmap_figure(image: NDArray[np.integer], gene_a: str, gene_b: str) -> Figure:
    """One pair's (K, K) counts on a log colour scale, gene_a to the right and gene_b upwards."""
    figure = Figure(figsize=(1.6, 1.6))
    axes = figure.add_axes((0.14, 0.14, 0.85, 0.85))
    _draw_counts(axes, image, gene_a, gene_b, int(image.sum()))
    return figure


@styled
def residual_figure(image: NDArray[np.integer], gene_a: str, gene_b: str) -> Figure:
    """One pair's (K, K) counts as deviation from independence, drawn as `heatmap_figure`."""
    figure = Figure(figsize=(1.6, 1.6))
    axes = figure.add_axes((0.14, 0.14, 0.85, 0.85))
    _draw_residual(axes, independence_residual(image), RESIDUAL_LIMIT)
    _name_axes(axes, gene_a, gene_b)
    return figure


@styled
def residual_key_figure() -> Figure:
    """The colour scale shared by all residuals of single pairs."""
    figure = Figure(figsize=(3.2, 0.42))
    axes = figure.add_axes((0.02, 0.62, 0.96, 0.3))
    mappable = ScalarMappable(Normalize(-RESIDUAL_LIMIT, RESIDUAL_LIMIT), matplotlib.colormaps["RdBu_r"])
    bar = figure.colorbar(mappable, cax=axes, orientation="horizontal", ticks=[-4, -2, 0, 2, 4])
    bar.ax.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:+.0f}".replace("-", "−") if value else "0")
    )
    bar.outline.set_visible(False)
    return figure


@styled
def count_key_figure(cells: int) -> Figure:
    """The colour scale shared by all heatmaps of `cells` cells."""
    figure = Figure(figsize=(3.2, 0.42))
    axes = figure.add_axes((0.02, 0.62, 0.96, 0.3))
    mappable = ScalarMappable(_count_norm(cells), _density_map())
    bar = figure.colorbar(mappable, cax=axes, orientation="horizontal", ticks=LogLocator(numticks=6))
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    bar.outline.set_visible(False)
    return figure


def independence_residual(image: NDArray[np.integer]) -> NDArray[np.float64]:
    """(K, K) counts → (K, K) float64, (count - expected) / sqrt(expected + 0.25); expected from the marginals."""
    counts = image.astype(np.float64)
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / max(counts.sum(), 1.0)
    return np.asarray((counts - expected) / np.sqrt(expected + 0.25))


def _draw_counts(axes: Axes, image: NDArray[np.integer], gene_a: str, gene_b: str, cells: int) -> None:
    # interpolation "none" puts the K x K pixels themselves into an SVG: small, and sharp at every zoom
    axes.imshow(image, norm=_count_norm(cells), cmap=_density_map(), origin="lower", interpolation="none")
    _name_axes(axes, gene_a, gene_b)


def _draw_residual(axes: Axes, residual: NDArray[np.floating], limit: float) -> None:
    axes.imshow(residual, norm=Normalize(-limit, limit), cmap="RdBu_r", origin="lower", interpolation="none")


def _name_axes(axes: Axes, gene_a: str, gene_b: str) -> None:
    """Axis labels without ticks; a dollar sign in a gene's name is a dollar sign."""
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(_shortened(gene_a), parse_math=False, color=INK, labelpad=3)
    axes.set_ylabel(_shortened(gene_b), parse_math=False, color=INK, labelpad=3)


def _shortened(gene: str, letters: int = 18) -> str:
    return gene if len(gene) <= letters else gene[: letters - 1] + "…"


def _count_norm(cells: int) -> Normalize:
    return LogNorm(1, max(cells, 2))


def _density_map() -> Colormap:
    """Viridis without its darkest part, so that a bin of one cell stands out from the dark of an empty one."""
    colours = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.2, 1, 256)))
    return colours.with_extremes(under="#2a1040", bad="#2a1040")


def _add_key(figure: Figure, axes: NDArray[np.object_], norm: Normalize, colours: Colormap, label: str) -> None:
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes.ravel().tolist(), shrink=0.6, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_minor_locator(NullLocator())
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    bar.set_label(label)


# ---------------------------------------------------------------- mean images


@styled
def mean_density_figure(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> Figure:
    """Mean image of each class, (K, K) shares of cells on a log scale, and log10 of their ratio."""
    norm = LogNorm(DENSITY_FLOOR, 1)
    difference = np.log10(positive + RATIO_FLOOR) - np.log10(negative + RATIO_FLOOR)
    figure, panels = _three_panels("positive pairs", "other pairs", "difference")
    for panel, mean in zip(panels, (positive, negative), strict=False):
        panel.imshow(mean, norm=norm, cmap=_density_map(), origin="lower", interpolation="none")
    limit = _symmetric_limit(difference)
    _draw_residual(panels[2], difference, limit)
    percent = FuncFormatter(lambda share, _: f"{100 * share:g} %")
    _key_below(figure, panels[:2], norm, _density_map(), "share of the cells", percent)
    ratio = FuncFormatter(lambda value, _: f"×{10**value:.2g}")
    colours = matplotlib.colormaps["RdBu_r"]
    outer = max([log for log in np.log10([1.1, 1.2, 1.5, 2, 5, 10]) if log < limit], default=0.0)
    _key_below(
        figure, panels[2:], Normalize(-limit, limit), colours, "positive ÷ other", ratio, sorted({-outer, 0.0, outer})
    )
    return figure


@styled
def mean_residual_figure(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> Figure:
    """Mean (K, K) residual of each class and their difference, in standard deviations around 0."""
    difference = positive - negative
    limit = _symmetric_limit(np.stack([positive, negative]))
    apart = _symmetric_limit(difference)
    figure, panels = _three_panels("positive pairs", "other pairs", "difference")
    _draw_residual(panels[0], positive, limit)
    _draw_residual(panels[1], negative, limit)
    _draw_residual(panels[2], difference, apart)
    signed = FuncFormatter(lambda value, _: f"{value:+.2g}".replace("-", "−") if value else "0")
    colours = matplotlib.colormaps["RdBu_r"]
    _key_below(figure, panels[:2], Normalize(-limit, limit), colours, "mean residual", signed)
    _key_below(figure, panels[2:], Normalize(-apart, apart), colours, "positive − other", signed)
    return figure


def _three_panels(*titles: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(10.2, 3.85))
    panels = [figure.add_axes((left, 0.19, 0.285, 0.735)) for left in (0.025, 0.345, 0.69)]
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title)
        _name_axes(panel, "gene a →", "gene b →")
        panel.xaxis.label.set_color(MUTED)
        panel.yaxis.label.set_color(MUTED)
    return figure, panels


def _key_below(
    figure: Figure,
    panels: Sequence[Axes],
    norm: Normalize,
    colours: Colormap,
    label: str,
    text: FuncFormatter,
    ticks: Sequence[float] | None = None,
) -> None:
    """A thin horizontal colour scale under the panels that share it, its meaning written to the left."""
    left, right = panels[0].get_position().x0, panels[-1].get_position().x1
    words = 0.0065 * len(label) + 0.012  # a letter's mean width as a share of the figure's
    axes = figure.add_axes((left + words, 0.085, right - left - words - 0.015, 0.028))
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=axes, orientation="horizontal", format=text, ticks=ticks)
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)
    figure.text(left, 0.099, label, color=MUTED, va="center")


def _symmetric_limit(values: NDArray[np.floating]) -> float:
    """The 99.5th percentile of |values|: one hot corner must not wash out the rest."""
    known = np.abs(values[np.isfinite(values)])
    return max(float(np.percentile(known, 99.5)), 1e-6) if known.size else 1.0


# ---------------------------------------------------------------- learning


@styled
def loss_figure(history: pd.DataFrame, best_epoch: int | None = None) -> Figure:
    """Training and validation loss per epoch."""
    lines = {"train_loss": ("training", MUTED, "--"), "validation_loss": ("validation", INK, "-")}
    return _epochs_figure(history, lines, "Loss", best_epoch)


@styled
def validation_figure(history: pd.DataFrame, best_epoch: int | None = None) -> Figure:
    """Balanced accuracy, AUROC and average precision on the validation pairs per epoch; 0.5 marks chance."""
    lines = {
        "validation_auroc": ("AUROC", NEGATIVE, "-"),
        "validation_balanced_accuracy": ("balanced accuracy", INK, "-"),
        "validation_average_precision": ("average precision", PURPLE, "-"),
    }
    figure = _epochs_figure(history, lines, "Validation", best_epoch)
    for axes in figure.axes:
        _mark_chance(axes)
    return figure


def _mark_chance(axes: Axes) -> None:
    axes.set_ylim(-0.02, 1.02)
    axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=(0, (1, 3)), zorder=1)
    axes.annotate(
        "0.5, chance for AUROC and balanced accuracy",
        (0.99, 0.485),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="top",
        color=MUTED,
        fontsize=7.5,
    )


def _epochs_figure(
    history: pd.DataFrame, lines: Mapping[str, tuple[str, str, str]], title: str, best_epoch: int | None
) -> Figure:
    if history.empty:
        return words_figure(f"{title}: no epoch was recorded.")
    figure, axes = _plot_area(5.0, 3.3)
    marker = "o" if len(history) < 3 else None
    for column, (name, colour, dashes) in lines.items():
        axes.plot(history["epoch"], history[column], dashes, color=colour, label=name, linewidth=1.8, marker=marker)
    if best_epoch is not None:
        axes.axvline(best_epoch, color=LINE, linewidth=1.4, zorder=1)
        axes.annotate(
            "kept",
            (best_epoch, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -3),
            textcoords="offset points",
            va="top",
            color=MUTED,
            fontsize=7.5,
        )
    axes.set(xlabel="epoch", title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_below(figure, axes, columns=3)
    return figure


# ---------------------------------------------------------------- ranking


@styled
def roc_figure(label: NDArray[np.integer], scores: Mapping[str, NDArray[np.floating]]) -> Figure:
    """ROC curve of every scorer; words instead where only one class is present.

    Parameters
    ----------
    label
        (n) truth, 0 or 1.
    scores
        Column of predictions.parquet (a key of `SCORERS`) → (n) score, higher = more likely positive.
    """
    if missing := missing_class(label):
        return words_figure(f"The ROC curve is not defined:\n{missing}")
    figure, axes = _plot_area(5.0, 5.2)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (1, 3)), label="chance")
    for scorer, score in _cnn_last(scores):
        false_positive_rate, recall, _ = roc_curve(label, _ranked_last_if_undefined(score))
        axes.plot(*thin_curve(false_positive_rate, recall), **_line(scorer))
    axes.set(xlabel="false positive rate", ylabel="true positive rate (recall)", title="ROC")
    _unit_square(axes)
    _legend_below(figure, axes, columns=4)
    return figure


@styled
def precision_recall_figure(label: NDArray[np.integer], scores: Mapping[str, NDArray[np.floating]]) -> Figure:
    """Precision against recall of every scorer, with the prevalence line; parameters as in `roc_figure`."""
    if missing := missing_class(label):
        return words_figure(f"The precision-recall curve is not defined:\n{missing}")
    figure, axes = _plot_area(5.0, 5.2)
    prevalence = float(label.mean())
    axes.axhline(prevalence, color=MUTED, linewidth=1, linestyle=(0, (1, 3)), label=f"prevalence {prevalence:.2g}")
    for scorer, score in _cnn_last(scores):
        precision, recall, _ = precision_recall_curve(label, _ranked_last_if_undefined(score))
        # scikit-learn ends with a made-up point (recall 0, precision 1), which flatters a scorer full of ties
        precision[-1] = precision[-2]
        axes.plot(*thin_curve(recall[::-1], precision[::-1]), drawstyle="steps-pre", **_line(scorer))
    axes.set(xlabel="recall", ylabel="precision", title="Precision and recall")
    _unit_square(axes)
    _legend_below(figure, axes, columns=4)
    return figure


def thin_curve(
    x: NDArray[np.floating], y: NDArray[np.floating], limit: int = 800
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """At most `limit` + 2 points of a curve, spread evenly along its length, both ends among them."""
    walked = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    kept = np.searchsorted(walked, np.linspace(0, walked[-1], limit)).clip(max=len(x) - 1)
    kept = np.unique(np.concatenate([[0], kept, [len(x) - 1]]))
    return x[kept], y[kept]


def missing_class(label: NDArray[np.integer]) -> str:
    """Why a curve over both classes cannot be drawn; empty when it can."""
    if label.size == 0:
        return "there is no labelled test pair."
    if label.min() == label.max():
        return f"every test pair is {'positive' if label.min() else 'negative'}."
    return ""


def _ranked_last_if_undefined(score: NDArray[np.floating]) -> NDArray[np.floating]:
    """A pair without a defined score (the correlation of a constant gene) ranks below all others."""
    defined = np.isfinite(score)
    lowest = float(score[defined].min()) if defined.any() else 0.0
    return np.where(defined, score, lowest - 1.0)


def _cnn_last(scores: Mapping[str, NDArray[np.floating]]) -> list[tuple[str, NDArray[np.floating]]]:
    """The network's curve is drawn over the others."""
    return sorted(scores.items(), key=lambda entry: entry[0] == "score")


def _line(scorer: str) -> dict[str, Any]:
    name, colour, dashes = SCORERS[scorer]
    return {"label": name, "color": colour, "linestyle": dashes, "linewidth": 2.4 if scorer == "score" else 1.1}


# ---------------------------------------------------------------- calibration


@styled
def reliability_figure(
    label: NDArray[np.integer], score: NDArray[np.floating], as_trained: Mapping[str, Sequence[float]] | None = None
) -> Figure:
    """Observed share of positives in ten bins of the predicted probability, with 95 % intervals (Wilson).

    Parameters
    ----------
    label, score
        (n) truth, 0 or 1, and probability at the natural prevalence.
    as_trained
        `predicted` and `observed` of the curve before the correction of the prior. Absent: not drawn.
    """
    label, score = label[np.isfinite(score)], score[np.isfinite(score)]
    if label.size == 0:
        return words_figure("The reliability curve is not defined:\nthere is no labelled test pair with a score.")
    figure, axes = _plot_area(5.0, 4.3)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (1, 3)), label="perfect")
    if as_trained:
        (before,) = axes.plot(as_trained["predicted"], as_trained["observed"], "s--", color=MUTED, linewidth=1.2)
        before.set(markersize=3.5, label="before the correction")
    probability = np.clip(score, 0, 1)
    observed, predicted = calibration_curve(label, probability, n_bins=10, pos_label=1)
    low, high = wilson_interval(observed, _pairs_per_bin(probability, 10))
    axes.vlines(predicted, low, high, color=POSITIVE, linewidth=1.2, alpha=0.7)
    axes.plot(predicted, observed, "o-", color=POSITIVE, linewidth=1.6, markersize=5, label="CNN, 95 % interval")
    axes.set(xlabel="predicted probability", ylabel="share that is positive", title="Reliability")
    _unit_square(axes)
    _legend_below(figure, axes, columns=3)
    return figure


def _pairs_per_bin(probability: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """Pairs in each non-empty bin, cut exactly as `calibration_curve` cuts them."""
    inner_edges = np.linspace(0, 1, bins + 1)[1:-1]
    pairs = np.bincount(np.searchsorted(inner_edges, probability), minlength=bins)
    return pairs[pairs > 0]


def wilson_interval(
    share: NDArray[np.floating], n: NDArray[np.integer], z: float = 1.96
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Wilson's score interval of a binomial share out of n."""
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


@styled
def score_histogram_figure(
    label: NDArray[np.integer], score: NDArray[np.floating], threshold: float | None = None
) -> Figure:
    """How many pairs of each class get which score, 50 bins, logarithmic height."""
    label, score = label[np.isfinite(score)], score[np.isfinite(score)]
    figure, axes = _plot_area(5.0, 4.3)
    edges = np.linspace(0, 1, 51)
    for value, name, colour in ((0, "negative pairs", NEGATIVE), (1, "positive pairs", POSITIVE)):
        pairs, _ = np.histogram(np.clip(score[label == value], 0, 1), edges)
        axes.stairs(pairs, edges, baseline=0.7, fill=True, color=colour, alpha=0.22)
        axes.stairs(pairs, edges, baseline=0.7, color=colour, linewidth=1.5, label=name)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_minor_locator(NullLocator())
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1, linestyle="--", label=f"threshold {threshold:.2g}")
    axes.set(xlabel="predicted probability", title="Scores by class, pairs in each bin", xlim=(0, 1))
    _legend_below(figure, axes, columns=3)
    return figure


@styled
def score_distribution_figure(
    pairs: NDArray[np.integer], thresholds: Mapping[str, float], *, width: float = 10.6
) -> Figure:
    """How many pairs get which score, labels unknown, logarithmic height, with the thresholds marked.

    Parameters
    ----------
    pairs
        (n) pairs in each of n bins of equal width from 0 to 1.
    thresholds
        What each is placed for → probability.
    """
    figure, axes = _plot_area(width, 3.1)
    edges = np.linspace(0, 1, len(pairs) + 1)
    axes.stairs(pairs, edges, baseline=0.7, fill=True, color=POSITIVE, alpha=0.22)
    axes.stairs(pairs, edges, baseline=0.7, color=POSITIVE, linewidth=1.5)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_minor_locator(NullLocator())
    dashes = ("--", ":", "-.", (0, (6, 2)))
    for at, (aim, threshold) in enumerate(thresholds.items()):
        label = f"{aim}, from {threshold:.2g}"
        axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=dashes[at % len(dashes)], label=label)
    axes.set(xlabel="score: probability of an edge", title="Pairs in each bin of the score", xlim=(-0.01, 1.01))
    if thresholds:
        _legend_below(figure, axes, columns=len(thresholds))
    return figure


# ---------------------------------------------------------------- the page


@styled
def words_figure(words: str) -> Figure:
    """A sentence where a picture cannot be drawn."""
    figure = Figure(figsize=(5.0, 1.6))
    figure.text(0.5, 0.5, words, ha="center", va="center", color=MUTED, fontsize=9.5, linespacing=1.6)
    return figure


def _plot_area(width: float, height: float) -> tuple[Figure, Axes]:
    """One set of axes with fixed margins in inches: neighbours on the page line up, and no layout is searched."""
    figure = Figure(figsize=(width, height))
    left, bottom, top = 0.58, 0.96, 0.3
    rectangle = (left / width, bottom / height, 1 - (left + 0.08) / width, 1 - (bottom + top) / height)
    return figure, figure.add_axes(rectangle)


def _unit_square(axes: Axes) -> None:
    axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015))


def _legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """Under the plot, where it hides nothing: the network first, chance (drawn first) last."""
    handles, labels = axes.get_legend_handles_labels()
    if "CNN" in labels:
        handles, labels = [handles[-1], *handles[1:-1], handles[0]], [labels[-1], *labels[1:-1], labels[0]]
    place = (0.5, axes.get_position().y0 - 0.46 / figure.get_figheight())
    figure.legend(
        handles, labels, loc="upper center", bbox_to_anchor=place, ncols=columns, handlelength=1.6, columnspacing=1.3
    )


def svg_text(figure: Figure) -> str:
    """The figure as SVG that follows the reader's fonts and light or dark theme; same figure, same bytes."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pairscape"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("'DejaVu Sans'", "Inter, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue'")
    for light in DARK_THEME:
        svg = svg.replace(light, f"var(--c{light[1:]}, {light})")
    dark = "".join(f"--c{light[1:]}: {colour};" for light, colour in DARK_THEME.items())
    theme = f"<style>@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}</style>"
    return re.sub(r"(<svg[^>]*>)", rf"\1{theme}", svg, count=1)
