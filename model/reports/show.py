"""The show job: an image store or a file of scores in, one picture of pairs out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pairscape.model.options import Drawing
from pairscape.model.reports.heatmap_figures import (
    MOST_GROUPS,
    coarsened,
    group_figure,
    pair_figure,
    require_own_picture,
    save_picture,
)
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.images import Images, find_pair, open_images
from pairscape.pipeline.options import Grouping
from pairscape.pipeline.storage.paths import local_target
from pairscape.pipeline.storage.plain_files import file_name

LABELS = ("none", "positive", "positive, b → a")  # of a store that names no classes
AXES = "the first gene to the right, the second upwards"


@dataclass(frozen=True)
class Shown:
    """What is drawn of a source beside its genes.

    Attributes
    ----------
    k
        Pairs, of scores of which no pair is named.
    grouping, group
        Groups of cells that get a panel each, and the group that alone is drawn.
    drawing
        Bins and paper.
    """

    k: int
    grouping: Grouping
    group: str | None
    drawing: Drawing


def draw(source: Path, genes: tuple[str, ...], shown: Shown, output: Any = None) -> tuple[Path, list[str]]:
    """Draw one pair (two genes), or of scores the best pairs of a gene or of all; where it is, and what to say of it.

    Raises
    ------
    InputError
        Genes or groups that do not fit the source; a picture that may not be written; what is drawn cannot be read.
    """
    _check(source, genes, shown)
    if source.suffix == ".parquet" and not shown.grouping.columns:
        output = picture_path(output, _name(source, genes))
        figure, words = _of_scores(source, genes, shown)
    else:
        store = source if source.suffix == ".parquet" else open_images(source, group=shown.group)
        if isinstance(store, Path) or shown.grouping.columns or (store.groups and shown.group is None):
            output = picture_path(output, file_name(f"{'-'.join(genes)}-by-group.png"))
            figure, words = _of_groups(store, genes, shown)
        else:
            output = picture_path(output, file_name(f"{'-'.join(genes)}.png"))
            figure, words = _of_images(store, genes, shown)
    save_picture(figure, output)
    return output, [*words[:-1], f"wrote {output}: {words[-1]}"]


def _check(source: Path, genes: tuple[str, ...], shown: Shown) -> None:
    if shown.grouping.columns and len(genes) < 2:
        raise InputError("--by draws one pair in every group of cells: name its two genes.")
    if shown.grouping.columns and shown.group is not None:
        raise InputError("--by draws every group of cells, and --group one: leave out one of the two.")
    if source.suffix != ".parquet" and len(genes) < 2:
        raise InputError("name the two genes of a pair: IMAGES.zarr GENE_A GENE_B; only predictions have best pairs.")


def picture_path(output: Any, name: str) -> Path:
    """Where a picture goes: a place that may be written, of a format that there is.

    Raises
    ------
    InputError
        Another suffix, no such folder, or a file there that is no picture of ours.
    """
    output = Path(name) if output is None else local_target(output)
    if output.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"{output}: the suffix decides the format of the picture; give .png, .svg or .pdf.")
    if not output.parent.is_dir():
        raise InputError(f"{output}: there is no folder {output.parent} to draw into; make it, or give another path.")
    require_own_picture(output)
    return output


def _name(scores: Path, genes: tuple[str, ...]) -> str:
    """Name of a picture of scores."""
    return file_name(f"{'-'.join(genes)}.png" if len(genes) == 2 else f"{'-'.join(genes) or scores.stem}-best.png")


def _of_scores(scores: Path, genes: tuple[str, ...], shown: Shown) -> tuple[Figure, list[str]]:
    from pairscape.model.edges.evidence import show_scores  # which reads more than a picture of an image store needs
    from pairscape.model.reports.evidence_figure import draw_evidence

    found = show_scores(scores, genes, shown.k, shown.group)
    what = {0: f"{len(found.edges):,} best new pairs", 1: f"{len(found.edges):,} best pairs of {' '.join(genes)}"}
    cells = _cells(int(found.counts[0].sum()), shown.group)
    said = what.get(len(genes), " and ".join(genes))
    return draw_evidence(found, shown.drawing, f"{said}, {cells}"), [f"{said}, {AXES}, {cells}"]


def _of_images(store: Images, genes: Sequence[str], shown: Shown) -> tuple[Figure, list[str]]:
    row, turned = find_pair(store, genes[0], genes[1])
    image = coarsened(store.counts(slice(row, row + 1)), shown.drawing.bins)
    number, names = int(store.array("label")[row]), store.class_names or LABELS
    cells = _cells(int(image.sum()), shown.group)
    figure = pair_figure(
        image.transpose(0, 2, 1) if turned else image, ["" if number < 0 else f"label: {names[number]}"], [genes[0]],
        [genes[1]], residual=True, paper=shown.drawing.paper, title=cells,
    )  # fmt: skip
    return figure, [f"{genes[0]} to the right, {genes[1]} upwards, {cells}"]


def _of_groups(store: Images | Path, genes: Sequence[str], shown: Shown) -> tuple[Figure, list[str]]:
    from pairscape.model.reports.multiples import scored_pair, stored_pair

    pair = genes[0], genes[1], shown.grouping
    found = scored_pair(store, *pair) if isinstance(store, Path) else stored_pair(store, *pair)
    counts = coarsened(found.counts, shown.drawing.bins)
    figure = group_figure(counts, found.names, genes[0], genes[1], paper=shown.drawing.paper)
    drawn = f", of which the {MOST_GROUPS} largest are drawn" if len(found.names) > MOST_GROUPS else ""
    groups = f"{len(found.names)} groups, {sum(found.cells):,} cells{drawn}"
    return figure, [*found.notes, f"{genes[0]} to the right, {genes[1]} upwards, {groups}"]


def _cells(number: int, group: str | None) -> str:
    return f"{number:,} cells" if group is None else f"{number:,} cells of {group}"
