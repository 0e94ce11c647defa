"""Scores by group of cells: each group is a layer, scored by its own cells, beside all groups combined.

The layers share the candidates, the edges of the bins and the network; each has its parts, its screen and its decoys.
Combined means beyond the groups: its cells are compared within them.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pairscape.model.edges.scores import COMBINED
from pairscape.model.options import DEPTH
from pairscape.model.prediction.candidates import CandidateImages
from pairscape.model.prediction.checked import CheckedPrediction
from pairscape.model.prediction.confidence import Confidence
from pairscape.model.prediction.parts import Cost, Job, score_images
from pairscape.model.prediction.screen import place_threshold, sample_rows, screen_facts
from pairscape.model.prediction.within import GroupLayer, lay_groups
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError, printable
from pairscape.pipeline.heatmaps.count import count_pairs_by_group
from pairscape.pipeline.matrix.cell_groups import CellGroups, group_cells


def check_groups(checked: CheckedPrediction, obs: Any) -> CellGroups | None:
    """Groups of the cells that are counted, `NO_GROUP` where a cell is left out; None where none are asked for.

    Raises
    ------
    InputError
        As `group_cells`; a group is called as all of them together are.
    """
    grouping = checked.grouping
    if not grouping.columns:
        return None
    if DEPTH in grouping.columns:
        raise InputError(
            f"--by {grouping.by}: {DEPTH!r} among columns means deciles of the genes that a cell expresses (--within "
            f"{DEPTH}); rename the column of the cells' annotations if you mean that one"
        )
    groups = group_cells(obs, grouping.columns, grouping.min_group_cells)
    if COMBINED in groups.names:
        raise InputError(
            f"--by {grouping.by}: a group is called {COMBINED!r}, which is what the rows of all groups together are "
            "called; rename that value"
        )
    return groups


def group_jobs(job: Job, groups: CellGroups) -> Iterator[Job]:
    """The job of each group, in their order."""
    for layer in lay_groups(groups, Path(job.parts.folder)):
        within = None if job.within is None else job.within.of_group(layer)
        yield replace(
            job,
            parts=replace(job.parts, layer=f"group-{layer.number}"),
            group=layer,
            within=None if within is None or within.strata == 1 else within,
        )


def with_screen(
    job: Job, candidates: CandidateImages, screen: float | None, seed: int, session: Session
) -> tuple[Job, dict[str, Any]]:
    """The job of a group with the dependence from which a pair goes to the network, by a sample; and facts of it."""
    if screen is None or screen == 1:
        return replace(job, threshold=None), {}
    rows, pairs = sample_rows(len(candidates.pairs), seed), candidates.pairs
    genes = np.stack([pairs.gene_a[rows], pairs.gene_b[rows]], axis=1)
    images = _counted(job.group, candidates, genes)
    columns = score_images(replace(job, threshold=None), images, genes if job.needs_genes else None, Cost())
    threshold = place_threshold(columns["dependence"], screen)
    return replace(job, threshold=threshold), {
        "screen": screen_facts(screen, threshold, columns["dependence"], columns["score"])
    }


def _counted(layer: GroupLayer | None, candidates: CandidateImages, genes: Any) -> tuple[Any, Any]:
    """Images and both zeros of some pairs, (P, 2) genes, over the cells of one group."""
    assert layer is not None
    assert candidates.codes is not None
    a, b = genes.T.astype(np.int64)
    counts, both_zero = count_pairs_by_group(candidates.codes, a, b, layer.groups().alone(layer.name))
    return counts[0], both_zero[0]


def group_facts(job: Job, confidence: Confidence, screen: dict[str, Any]) -> dict[str, Any]:
    """What a file of scores says of one group beside its name and cells."""
    strata = {} if job.within is None else {"strata": job.within.strata}
    return screen | strata | confidence.facts


def group_line(job: Job, facts: dict[str, Any]) -> str:
    """A group, its cells and its calls, to print."""
    assert job.group is not None
    calls = f": {facts['fdr']['calls']['0.05']:,} pairs at a false discovery rate of 5 %" if "fdr" in facts else ""
    return printable(f"{job.group.name} ({job.group.cells:,} cells){calls}")
