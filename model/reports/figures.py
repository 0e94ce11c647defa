"""The style of all figures, the curves of a run, and figures as SVG for a page.

Figures are matplotlib `Figure` objects without pyplot: no window, nothing global. One inch is 100 pixels of the page,
so that letters have one size on all of it.
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from pairscape.pipeline.errors import printable

if TYPE_CHECKING:
    import pandas as pd

INK, MUTED, LINE, PAPER = "#1c2733", "#66727f", "#d9dee4", "#fefefe"
DARK_THEME = {INK: "#e6eaee", MUTED: "#9aa6b2", LINE: "#3a444f", PAPER: "#14191f"}

FONTS = "Inter, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue'"
THEME = "<style>@media screen and (prefers-color-scheme: dark) {{ :root {{ {} }} }}</style>".format(
    "".join(f"--c{light[1:]}: {colour};" for light, colour in DARK_THEME.items())
)

# Okabe and Ito's colours, which readers of every kind of colour vision distinguish
NEGATIVE, POSITIVE = "#0072b2", "#d55e00"
GREEN, PURPLE, SKY, AMBER, BROWN = "#009e73", "#b8578f", "#3a9bdc", "#d99000", "#8c613c"
OLIVE, STEEL, ROSE, TEAL = "#7a8b2a", "#6a7fb5", "#c4607a", "#3f8f95"

KIND_COLOURS = {
    "rising": POSITIVE, "falling": NEGATIVE, "threshold": GREEN, "exclusive": SKY, "u-shaped": AMBER,
    "opposite": PURPLE,
}  # fmt: skip


def drawn_name(name: str, letters: int = 18) -> str:
    """A name as pictures show it: what cannot be drawn is written out, and a long one is cut."""
    name = printable(name).expandtabs(1)
    return name if len(name) <= letters else name[: letters - 1] + "…"


class ScorerLook(NamedTuple):
    """How the scores of one column of `predictions.parquet` are named, drawn and explained."""

    name: str
    colour: str
    dashes: Any
    words: str


SCORERS: dict[str, ScorerLook] = {
    name: ScorerLook(*look)
    for name, look in {
        "score": ("CNN", INK, "-", "The network, reading the joint-expression heatmaps."),
        "spearman": ("|Spearman|", GREEN, "-", "Absolute rank correlation of the two genes."),
        "pearson": ("|Pearson|", SKY, "-", "Absolute linear correlation of the two genes."),
        "mutual_information": (
            "mutual information", PURPLE, "-", "Mutual information of the joint counts, from the heatmap itself.",
        ),
        "distance_correlation": (
            "distance correlation", OLIVE, "-", "Distance correlation of the ranks, from the heatmap itself.",
        ),
        "hsic": ("HSIC", STEEL, "-", "Dependence of the ranks under a Gaussian kernel, from the heatmap itself."),
        "residual_correlation": (
            "|Pearson residuals|", ROSE, "-",
            "Absolute correlation of the raw counts beyond what the depth of the cells explains.",
        ),
        "cscore_z": ("|CS-CORE z|", TEAL, "-", "CS-CORE's test statistic on the raw counts, without its sign."),
        "marginals_only": (
            "marginals only", AMBER, "--", "Mean, variance and dropout of each gene alone: nothing about the pair.",
        ),
        "factors_only": (
            "factors only", BROWN, "--",
            "Correlation through what all genes share, which the network was told: nothing is learned.",
        ),
        "factors_residual": (
            "factors of residuals", BROWN, ":",
            "Correlation through what all genes share of the raw counts beyond the depth of the cells.",
        ),
        "labels_only": (
            "labels only", MUTED, "-.",
            "How often each gene is positive in the training labels: no expression at all.",
        ),
        "labels_only_regulator": (
            "regulator's labels", MUTED, ":",
            "How often the regulator is positive in the training labels, the target left out.",
        ),
        "labels_only_target": (
            "target's labels", MUTED, (0, (6, 2)),
            "How often the target is positive in the training labels, the regulator left out.",
        ),
    }.items()
}  # fmt: skip

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

DOTTED: dict[str, Any] = {"color": MUTED, "linewidth": 1, "linestyle": (0, (1, 3))}  # of chance

styled = matplotlib.rc_context(STYLE)  # type: ignore[arg-type]  # the stub knows literal keys only


# ---------------------------------------------------------------- learning


@styled
def loss_figure(history: "pd.DataFrame", best_epoch: int | None = None) -> Figure:
    """Training and validation loss per epoch."""
    lines = {"train_loss": ("training", MUTED, "--"), "validation_loss": ("validation", INK, "-")}
    return _epochs_figure(history, lines, "Loss", best_epoch)


@styled
def validation_figure(history: "pd.DataFrame", best_epoch: int | None = None) -> Figure:
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
    axes.axhline(0.5, **DOTTED, zorder=1)
    at: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "top"}
    axes.annotate("0.5, chance for AUROC and balanced accuracy", (0.99, 0.485), color=MUTED, fontsize=7.5, **at)


def _epochs_figure(
    history: "pd.DataFrame", lines: Mapping[str, tuple[str, str, str]], title: str, best_epoch: int | None
) -> Figure:
    if history.empty:
        return words_figure(f"{title}: no epoch was recorded.")
    figure, axes = _plot_area(5.0, 3.3)
    marker = "o" if len(history) < 3 else None
    for column, (name, colour, dashes) in lines.items():
        axes.plot(history["epoch"], history[column], dashes, color=colour, label=name, linewidth=1.8, marker=marker)
    if best_epoch is not None:
        axes.axvline(best_epoch, color=LINE, linewidth=1.4, zorder=1)
        at: dict[str, Any] = {
            "xycoords": ("data", "axes fraction"),
            "xytext": (3, -3),
            "textcoords": "offset points",
            "va": "top",
        }
        axes.annotate("kept", (best_epoch, 1), color=MUTED, fontsize=7.5, **at)
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
    label : (n,)
        Truth, 0 or 1.
    scores
        Scores (n,) by column of predictions.parquet (a key of `SCORERS`); higher = more likely positive.
    """
    if missing := missing_class(label):
        return words_figure(f"The ROC curve is not defined:\n{missing}")
    from sklearn.metrics import roc_curve  # takes a second to load, and pages without curves need none of it

    figure, axes = _plot_area(5.0, 5.2)
    axes.plot([0, 1], [0, 1], **DOTTED, label="chance")
    for scorer, score in _network_last(scores):
        false_positive_rate, recall, _ = roc_curve(label, _ranked_last_if_undefined(score))
        axes.plot(*thin_curve(false_positive_rate, recall), **_line(scorer))
    axes.set(xlabel="false positive rate", ylabel="true positive rate (recall)", title="ROC")
    _unit_square(axes)
    _legend_below(figure, axes, columns=4)
    return figure


@styled
def precision_recall_figure(label: NDArray[np.integer], scores: Mapping[str, NDArray[np.floating]]) -> Figure:
    """Precision against recall of every scorer, with the prevalence line; words where a class is missing."""
    if missing := missing_class(label):
        return words_figure(f"The precision-recall curve is not defined:\n{missing}")
    from sklearn.metrics import precision_recall_curve

    figure, axes = _plot_area(5.0, 5.2)
    prevalence = float(label.mean())
    axes.axhline(prevalence, **DOTTED, label=f"prevalence {prevalence:.2g}")
    for scorer, score in _network_last(scores):
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


def _network_last(scores: Mapping[str, NDArray[np.floating]]) -> list[tuple[str, NDArray[np.floating]]]:
    """The network's curve is drawn over the others."""
    return sorted(scores.items(), key=lambda entry: entry[0] == "score")


def _line(scorer: str) -> dict[str, Any]:
    look = SCORERS[scorer]
    return {
        "label": look.name,
        "color": look.colour,
        "linestyle": look.dashes,
        "linewidth": 2.4 if scorer == "score" else 1.1,
    }


# ---------------------------------------------------------------- calibration


@styled
def reliability_figure(
    label: NDArray[np.integer], score: NDArray[np.floating], as_trained: Mapping[str, Sequence[float]] | None = None
) -> Figure:
    """Observed share of positives in ten bins of the predicted probability, with 95 % intervals (Wilson).

    Parameters
    ----------
    label, score : (n,)
        Truth, 0 or 1, and probability at the natural prevalence.
    as_trained
        `predicted` and `observed` of the curve before the correction of the prior. Absent: not drawn.
    """
    label, score = label[np.isfinite(score)], score[np.isfinite(score)]
    if label.size == 0:
        return words_figure("The reliability curve is not defined:\nthere is no labelled test pair with a score.")
    from sklearn.calibration import calibration_curve

    figure, axes = _plot_area(5.0, 4.3)
    axes.plot([0, 1], [0, 1], **DOTTED, label="perfect")
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
        _draw_histogram(axes, pairs, colour, name)
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1, linestyle="--", label=f"threshold {threshold:.2g}")
    axes.set(xlabel="predicted probability", title="Scores by class, pairs in each bin", xlim=(0, 1))
    _legend_below(figure, axes, columns=3)
    return figure


@styled
def score_distribution_figure(pairs: NDArray[np.integer], thresholds: Mapping[str, float], of: str) -> Figure:
    """How many pairs get which score, labels unknown, logarithmic height, with the thresholds marked.

    Parameters
    ----------
    pairs : (n,)
        Pairs in each of n bins of equal width from 0 to 1.
    thresholds
        Probability by aim.
    of
        What the score is the probability of.
    """
    figure, axes = _plot_area(10.6, 3.1)
    _draw_histogram(axes, pairs, POSITIVE)
    dashes = ("--", ":", "-.", (0, (6, 2)))
    for at, (aim, threshold) in enumerate(thresholds.items()):
        label = f"{aim}, from {threshold:.2g}"
        axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=dashes[at % len(dashes)], label=label)
    axes.set(xlabel=f"score: probability of {of}", title="Pairs in each bin of the score", xlim=(-0.01, 1.01))
    if thresholds:
        _legend_below(figure, axes, columns=len(thresholds))
    return figure


def _draw_histogram(axes: Axes, pairs: NDArray[np.integer], colour: str, name: str | None = None) -> None:
    """Pairs in bins of equal width from 0 to 1, logarithmic height; 0.7 is the floor, so that one pair is seen."""
    edges = np.linspace(0, 1, len(pairs) + 1)
    axes.stairs(pairs, edges, baseline=0.7, fill=True, color=colour, alpha=0.22)
    axes.stairs(pairs, edges, baseline=0.7, color=colour, linewidth=1.5, label=name)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_minor_locator(NullLocator())


# ---------------------------------------------------------------- layout and SVG


@styled
def words_figure(words: str) -> Figure:
    """A sentence where a picture cannot be drawn."""
    figure = Figure(figsize=(5.0, 1.6))
    figure.text(0.5, 0.5, words, ha="center", va="center", color=MUTED, fontsize=9.5, linespacing=1.6)
    return figure


ROWS, ROW = 2, 0.17  # of a legend for which there is room below a plot, and inches of each one more


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
    _lower(figure, axes, ROW * max(-(-len(labels) // columns) - ROWS, 0))
    if "CNN" in labels:
        handles, labels = [handles[-1], *handles[1:-1], handles[0]], [labels[-1], *labels[1:-1], labels[0]]
    place = (0.5, axes.get_position().y0 - 0.46 / figure.get_figheight())
    figure.legend(
        handles, labels, loc="upper center", bbox_to_anchor=place, ncols=columns, handlelength=1.6, columnspacing=1.3
    )


def _lower(figure: Figure, axes: Axes, more: float) -> None:
    """Make room below the plot, in inches; the plot keeps its size."""
    box, height = axes.get_position(), figure.get_figheight()
    figure.set_figheight(height + more)
    bottom, inside = box.y0 * height + more, box.height * height
    axes.set_position((box.x0, bottom / (height + more), box.width, inside / (height + more)))


def svg_text(figure: Figure) -> str:
    """The figure as SVG that follows the reader's fonts and light or dark theme; same figure, same bytes."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pairscape"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("'DejaVu Sans'", FONTS)
    for light in DARK_THEME:
        svg = svg.replace(light, themed(light))
    return re.sub(r"(<svg[^>]*>)", rf"\1{THEME}", svg, count=1)


def themed(light: str) -> str:
    """A colour of the light theme that is another one in the dark."""
    return f"var(--c{light[1:]}, {light})"


def data_address(figure: Figure | str) -> str:
    """A figure, or SVG, as an address that holds the picture itself."""
    svg = figure if isinstance(figure, str) else svg_text(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
