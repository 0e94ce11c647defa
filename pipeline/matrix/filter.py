"""Filters of an ingest: facts of the first scan → cells and genes that are kept, and genes that are stored."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.intake import Intake
from pairscape.pipeline.matrix.normalize import DEEP_CELL_SHARE, Normalised, highly_variable
from pairscape.pipeline.matrix.scan import ChosenCells, scan_cells
from pairscape.pipeline.matrix.survey import Facts
from pairscape.pipeline.options import Preset


@dataclass(frozen=True, eq=False)
class Filtered:
    """What the filters leave.

    Attributes
    ----------
    cells : (cell,) bool, genes : (gene,) bool
        Of the source.
    facts
        Of every matrix, from the scan that agrees with them.
    """

    cells: NDArray[np.bool_]
    genes: NDArray[np.bool_]
    facts: list[Facts]


def sift(job: Intake, survey: list[Facts], folder: Path, session: Session) -> Filtered:
    """Cells and genes that satisfy both minima among themselves; the largest such set, so it needs no order.

    Parameters
    ----------
    survey
        Facts of every matrix over all genes.
    folder
        The job's, where further scans are kept.

    Raises
    ------
    InputError
        Less than two cells or genes are left.
    """
    allowed, min_cells = _allowed(job, survey[0])
    facts, wanted, scans = survey, job.wanted, 0
    while True:
        genes = wanted.counted & allowed & (facts[0].genes["kept"] >= min_cells)
        if not facts[0].genes["kept"][wanted.counted & ~genes].any():  # what goes now is in no cell that stays
            break
        wanted, scans = replace(wanted, counted=genes), scans + 1
        facts = scan_cells(job.readers, wanted, job.cells, folder / f"scan{scans}", "filtering", session)
    cells = job.cells.chosen.copy()
    cells[cells] = facts[0].cells["counted"] >= job.choices.min_genes
    kept = Filtered(cells, genes, facts)
    if min(cells.sum(), genes.sum()) < 2:
        raise InputError(_nothing_left(job, kept))
    return kept


def _allowed(job: Intake, survey: Facts) -> tuple[NDArray[np.bool_], int]:
    """Genes that a preset leaves in, and in how many cells one has to be expressed."""
    genes, n_cells = survey.genes, survey.cells.size
    if job.choices.preset != "deep-cell":
        return np.ones(genes.size, bool), job.choices.min_cells
    constant = (genes["expressed"] == n_cells) & (genes["low"] == genes["high"])
    expressing = int((survey.cells["expressed"] > 0).sum())
    return ~constant, max(job.choices.min_cells, int(DEEP_CELL_SHARE * expressing) + 1)


def _nothing_left(job: Intake, kept: Filtered) -> str:
    chosen, choices = int(job.cells.chosen.sum()), job.choices
    preset = f", preset {choices.preset}" if choices.preset == "deep-cell" else ""
    return (
        f"{job.source.name}: {int(kept.cells.sum())} of {chosen} cells and {int(kept.genes.sum())} of "
        f"{kept.genes.size} genes are left with min_cells={choices.min_cells} and min_genes={choices.min_genes}"
        f"{preset} (1 drops only what has no expression at all); gene pairs need two of each: lower the minima or "
        "check the matrix"
    )


def choose_stored(job: Intake, kept: Filtered, preset: Preset, session: Session) -> NDArray[np.bool_]:
    """(gene,) which of the kept genes are stored.

    Raises
    ------
    InputError
        Less than two.
    """
    stored, n = kept.genes & job.listed, job.choices.highly_variable
    if n is not None:
        genes = np.flatnonzero(kept.genes)
        source, cells = Normalised(job.source.values, genes, preset), ChosenCells(kept.cells, job.cells.block)
        session.progress.start("variable genes", 0)
        variable = np.zeros(kept.genes.size, bool)
        variable[genes[highly_variable(source, cells, n, here=session.client is None)]] = True
        stored = variable if job.choices.genes is None else stored | variable
    if stored.sum() < 2:
        raise InputError(
            f"{job.source.name}: {int(stored.sum())} of the {int(job.listed.sum())} genes that are asked for are "
            f"expressed in {job.choices.min_cells} or more cells; gene pairs need two: ask for more genes, or lower "
            "--min-cells"
        )
    return stored
