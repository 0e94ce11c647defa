"""What was understood of a matrix, in the words of the user, before any of it is written."""

from dataclasses import dataclass

from pairscape.pipeline.choices import Preset
from pairscape.pipeline.genes.describe import Understanding
from pairscape.pipeline.matrix.normalize import STEPS, ValueKind
from pairscape.pipeline.matrix.survey import Values

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
