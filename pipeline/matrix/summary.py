"""The summary of an ingest for its user, and the annotations that its store gets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pairscape.pipeline.genes.describe import Understanding
from pairscape.pipeline.matrix.alike import STEPS
from pairscape.pipeline.matrix.filter import Filtered
from pairscape.pipeline.matrix.intake import Intake
from pairscape.pipeline.matrix.survey import Facts, Values
from pairscape.pipeline.matrix.value_kinds import ValueKind
from pairscape.pipeline.options import Preset
from pairscape.pipeline.storage.paths import in_utf8

TOLD = {
    "names": "told from the names",
    "request": "as asked",
    "format": "as the format has it",
    "assumption": "assumed, since the names do not tell; --orientation overrides it",
}


@dataclass(frozen=True)
class Summary:
    """What an ingest understood, and what it keeps.

    Parameters
    ----------
    source : where the matrix lies
    source_cells, source_genes : its shape
    cells, genes : what the store holds
    filled : share of the source's values that are not zero, over the chosen cells, in [0, 1]
    density : the same of what the store holds
    values : facts of the source's values
    value_kind : what they are
    preset : what is done to them
    orientation : what the rows of the source are
    orientation_from : what told so: "names", "request", "format" or "assumption"
    names : what the gene names tell
    dropped_cells, dropped_genes : how many the filters took, of the cells that were chosen
    counts_kept : whether the store has the raw counts
    notes : what else has to be said, a line each
    """

    source: str
    source_cells: int
    source_genes: int
    cells: int
    genes: int
    filled: float
    density: float
    values: Values
    value_kind: ValueKind
    preset: Preset
    orientation: str
    orientation_from: str
    names: Understanding
    dropped_cells: int
    dropped_genes: int
    counts_kept: bool
    notes: tuple[str, ...] = ()

    @property
    def id_kind(self) -> str:
        """What the gene ids are."""
        return self.names.kind

    def lines(self) -> list[str]:
        """The summary to print, a fact per line."""
        rows = "genes × cells" if self.orientation == "genes-by-cells" else "cells × genes"
        low, high = (f"{number:,.4g}" for number in (self.values.low, self.values.high))
        return [
            f"source: {self.source}",
            f"shape: {self.source_cells:,} cells × {self.source_genes:,} genes, {self.filled:.1%} above zero",
            f"rows of the source: {rows} ({TOLD.get(self.orientation_from, self.orientation_from)})",
            f"values: {self.value_kind}, {low} to {high} where expressed",
            *self.names.lines(),
            f"dropped by the filters: {self.dropped_cells:,} cells and {self.dropped_genes:,} genes",
            f"preset {self.preset}: {STEPS[self.preset]}; raw counts {'kept' if self.counts_kept else 'unknown'}",
            *self.notes,
            f"to be stored: {self.cells:,} cells × {self.genes:,} genes, {self.density:.1%} of the values above zero",
        ]


# ── annotations of the store: figures of quality, and how it was made ────────────────────────────────────────────────


def record(job: Intake, summary: Summary) -> dict[str, Any]:
    """What the store says of its making, its uns."""
    asked = {"cells": job.choices.cells, "highly_variable": job.choices.highly_variable}
    asked["genes"] = None if job.choices.genes is None else Path(job.choices.genes).name
    did = {
        "source": in_utf8(Path(job.source.name).name),
        "orientation": summary.orientation,
        "orientation_from": summary.orientation_from,
        "preset": summary.preset,
        "value_kind": summary.value_kind,
        "min_cells": job.choices.min_cells,
        "min_genes": job.choices.min_genes,
        "dropped_cells": summary.dropped_cells,
        "dropped_genes": summary.dropped_genes,
    }
    return {"pairscape": did | {name: value for name, value in asked.items() if value is not None}}


def annotations(job: Intake, facts: Facts, kept: Filtered, counts: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Annotations of the kept cells and of all genes, with scanpy's figures of quality from before the filters.

    Columns of the source stay as they are.

    Parameters
    ----------
    facts
        Of all chosen cells and all genes, of the counts where there are some.
    counts
        Whether they are of counts: only then totals are of molecules, and told.
    """
    obs, var = job.source.obs[job.cells.chosen].copy(), job.source.var.copy()
    if job.symbols is not None:
        var["symbol"] = list(job.symbols)
    for name, column in _quality(facts, counts, mitochondrial=bool(job.wanted.mitochondrial.any())).items():
        if name not in obs:
            obs[name] = column
    if "n_cells_by_counts" not in var:
        var["n_cells_by_counts"] = facts.genes["expressed"]
    return obs[kept.cells[job.cells.chosen]], var


def _quality(facts: Facts, counts: bool, mitochondrial: bool) -> dict[str, Any]:
    """Figures of every cell under the names that `scanpy.pp.calculate_qc_metrics` gives them."""
    figures: dict[str, Any] = {"n_genes_by_counts": facts.cells["expressed"]}
    total = facts.cells["total"]
    if counts:
        figures["total_counts"] = total.astype(np.float32)
    if counts and mitochondrial:
        share = 100 * facts.cells["mitochondrial"] / np.where(total > 0, total, 1)
        figures["pct_counts_mt"] = share.astype(np.float32)
    return figures
