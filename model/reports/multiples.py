"""Small multiples: one pair of genes counted in each group of cells, of an image store or a file of scores."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairscape.model.edges.evidence import edge_genes, scored_codes, scored_edge
from pairscape.model.edges.scores import read_facts
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.heatmaps.few import count_few
from pairscape.pipeline.heatmaps.grouped import groups_of_codes
from pairscape.pipeline.heatmaps.images import Images, encoded_cells, find_pair
from pairscape.pipeline.options import Grouping


@dataclass(frozen=True, eq=False)
class GroupedPair:
    """One pair in each of M groups of cells.

    Attributes
    ----------
    counts : (M, bins, bins)
        Row = bin of gene b, column = bin of gene a.
    names, cells
        Of the groups: what each is called, and its cells.
    notes
        What has to be told of cells that are left out, a sentence each.
    """

    counts: NDArray[np.integer]
    names: tuple[str, ...]
    cells: tuple[int, ...]
    notes: tuple[str, ...] = ()


def stored_pair(images: Images, gene_a: str, gene_b: str, grouping: Grouping) -> GroupedPair:
    """A pair of an image store: read in its own groups, or counted from the codes in those that are asked for.

    Raises
    ------
    InputError
        The store has no such pair; the codes, or the matrix that says the groups, are gone; as `group_cells`.
    """
    row, turned = find_pair(images, gene_a, gene_b)
    groups = images.spec.groups
    if groups is not None and grouping.columns in ((), groups.columns):
        counts = np.concatenate([own.counts(slice(row, row + 1)) for own in images.each_group()])
        return GroupedPair(counts.transpose(0, 2, 1) if turned else counts, groups.names, groups.cells)
    codes = encoded_cells(images, "other groups are counted from them", "leave out --by")
    a, b = (int(images.array(name)[row]) for name in ("gene_a", "gene_b"))
    return _counted(codes, *((b, a) if turned else (a, b)), grouping)


def scored_pair(scores: Path, gene_a: str, gene_b: str, grouping: Grouping) -> GroupedPair:
    """A pair of a file of scores, counted from its codes in groups. Raises as `stored_pair`."""
    codes = scored_codes(read_facts(scores), scores)
    a, b = edge_genes(codes, scored_edge(scores, gene_a, gene_b))
    return _counted(codes, int(a[0]), int(b[0]), grouping)


def _counted(codes: Codes, gene_a: int, gene_b: int, grouping: Grouping) -> GroupedPair:
    groups = groups_of_codes(codes, grouping)
    counts = count_few(codes, np.array([gene_a]), np.array([gene_b]), groups.number, len(groups.names))
    return GroupedPair(counts[:, 0], groups.names, tuple(groups.cells.tolist()), groups.notes)
