"""What a store says beside its matrices: annotations with figures of quality, and how it was made."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pairscape.pipeline.matrix.filter import Kept
from pairscape.pipeline.matrix.intake import Intake
from pairscape.pipeline.matrix.summary import Summary
from pairscape.pipeline.matrix.survey import Facts


def record(job: Intake, summary: Summary) -> dict[str, Any]:
    """What the store says of its making, its uns."""
    asked = {"cells": job.choices.cells, "highly_variable": job.choices.highly_variable}
    asked["genes"] = None if job.choices.genes is None else Path(job.choices.genes).name
    did = {
        "source": Path(job.source.name).name,
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


def annotations(job: Intake, facts: Facts, kept: Kept, counts: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
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
